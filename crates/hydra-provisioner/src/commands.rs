//! What each command does.

use std::fmt::Display;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use adapters::config::{self, Config};
use adapters::lock::{Access, Lock, LockError};
use adapters::reaper::Reaper;
use adapters::world::RealWorld;
use planner::{QueueStatus, Snapshot};
use reconciler::Report;
use simulator::trace::{Observation, append_observation, recording_header};

use crate::args::{Args, Command, Generate, RunArgs, misspelt_command};
use crate::exit::Exit;
use crate::plain_text::without_controls;
use crate::sim::sim;
use crate::watch::watch;
use crate::{check, generate, status_table};

/// Either way, how the run ended.
type Ended = Result<Exit, Exit>;

pub(crate) fn run(args: Args) -> Exit {
    if let (Some(_), Some(conf)) = (&args.command, &args.conf) {
        let conf = conf.display();
        return fail(
            Exit::BadConfig,
            &format!("{conf} stands before the command; put it after: run {conf}"),
        );
    }
    if let (None, Some(conf)) = (&args.command, &args.conf)
        && let Some(hint) = misspelt_command(conf.as_os_str())
    {
        return fail(Exit::BadConfig, &hint);
    }
    let ended = match (args.command, args.conf) {
        (Some(Command::Run(args)), _) if args.watch => watch(&args),
        (Some(Command::Run(args)), _) => Ok(run_once(&args)),
        (None, Some(conf)) => Ok(run_once(&RunArgs::once(conf))),
        (Some(Command::Generate(what)), _) => generate(what),
        (Some(Command::Plan { conf, json, snapshot, print_snapshot }), _) => {
            let output = match (json, print_snapshot) {
                (_, true) => PlanOutput::Snapshot,
                (true, false) => PlanOutput::Json,
                (false, false) => PlanOutput::Text,
            };
            plan(&conf, snapshot.as_deref(), output)
        }
        (Some(Command::Check { conf }), _) => check(&conf),
        (Some(Command::Sim(what)), _) => sim(what),
        (Some(Command::Status { conf }), _) => status(&conf),
        // clap asks for one of them.
        (None, None) => Err(Exit::BadConfig),
    };
    ended.unwrap_or_else(|exit| exit)
}

#[derive(Clone, Copy)]
enum PlanOutput {
    Text,
    Json,
    Snapshot,
}

/// How a cycle ended, and its account if it came that far.
pub(crate) struct Cycle {
    pub(crate) exit: Exit,
    pub(crate) report: Option<Report>,
}

fn run_once(args: &RunArgs) -> Exit {
    run_cycle(args, load(&args.conf)).exit
}

/// Runs one cycle of `config`, if it is good, and prints its report.
pub(crate) fn run_cycle(args: &RunArgs, config: Result<Config, Exit>) -> Cycle {
    match config.and_then(|config| cycle(&args.conf, &config)) {
        Err(exit) => Cycle { exit, report: None },
        Ok(report) => {
            let recorded = args.record.as_deref().map_or(Ok(()), |file| record(file, &report));
            let exit = match &report.snapshot.queue {
                _ if recorded.is_err() => Exit::Unexpected,
                _ if !report.succeeded() => Exit::SomeFailed,
                QueueStatus::Unavailable(_) => Exit::QueueUnavailable,
                QueueStatus::Up(_) => Exit::Done,
            };
            let printed = print(&report);
            Cycle { exit: printed.map_or_else(|closed| closed, |()| exit), report: Some(report) }
        }
    }
}

/// Appends to a recording what was seen and decided. What went before it stays whatever happens.
fn record(file: &Path, report: &Report) -> Result<(), Exit> {
    let observation = Observation { snapshot: report.snapshot.clone(), plan: report.plan.clone() };
    // A line is written at once, so that a crash leaves no half of one.
    let mut line = Vec::new();
    let mut append = || {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(file)?;
        if file.metadata()?.len() == 0 {
            recording_header(&mut line)?;
        }
        append_observation(&observation, &mut line)?;
        file.write_all(&line)
    };
    append().map_err(|error: io::Error| {
        fail(Exit::Unexpected, &format!("cannot record to {}: {error}", file.display()))
    })
}

fn cycle(conf: &Path, config: &Config) -> Result<Report, Exit> {
    let details = format!(
        "running {} since {}",
        conf.display(),
        jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_else(|_| jiff::Timestamp::now())
    );
    let lock = Lock::acquire(&config.state_dir, &details).map_err(|error| match error {
        LockError::Held { .. } => fail(Exit::Locked, &error),
        LockError::Unusable { .. } => fail(Exit::Unexpected, &error),
    })?;
    let _reaper = Reaper::start(&lock).map_err(|error| {
        fail(Exit::Unexpected, &format!("cannot start our own program: {error}"))
    })?;
    let mut world = open(config, Access::ReadWrite)?;
    let report = reconciler::cycle(&config.policy, &mut world)
        .map_err(|error| fail(Exit::Unexpected, &error))?;
    for warning in &report.plan.warnings {
        tracing::warn!("{warning}");
    }
    Ok(report)
}

fn generate(what: Generate) -> Ended {
    match what {
        Generate::Completions { shell } => generate::completions(shell),
        Generate::Man { folder } => generate::man_pages(&folder).map_err(|error| {
            fail(Exit::Unexpected, &format!("cannot write into {}: {error}", folder.display()))
        })?,
    }
    Ok(Exit::Done)
}

fn plan(conf: &Path, snapshot: Option<&Path>, output: PlanOutput) -> Ended {
    let config = load(conf)?;
    let snapshot = match snapshot {
        Some(path) => read_snapshot(path)?,
        None => look(&config)?,
    };
    let plan = planner::plan(&config.policy, &snapshot);
    match output {
        PlanOutput::Text => print(&plan)?,
        PlanOutput::Json => print_json(&plan)?,
        PlanOutput::Snapshot => print_json(&snapshot)?,
    }
    Ok(unavailable_or_done(&snapshot))
}

fn check(conf: &Path) -> Ended {
    print(check::verdict(conf, &load(conf)?))?;
    Ok(Exit::Done)
}

fn status(conf: &Path) -> Ended {
    let config = load(conf)?;
    let snapshot = look(&config)?;
    let plan = planner::plan(&config.policy, &snapshot);
    print(format!("{}\n", status_table::render(&snapshot, &plan)))?;
    Ok(unavailable_or_done(&snapshot))
}

fn unavailable_or_done(snapshot: &Snapshot) -> Exit {
    match snapshot.queue {
        QueueStatus::Up(_) => Exit::Done,
        QueueStatus::Unavailable(_) => Exit::QueueUnavailable,
    }
}

pub(crate) fn load(conf: &Path) -> Result<Config, Exit> {
    let config = config::load(conf).map_err(|error| fail(Exit::BadConfig, &error))?;
    for warning in &config.warnings {
        tracing::warn!("{}: {warning}", conf.display());
    }
    Ok(scheduled(config))
}

/// The configuration with the settings that its schedules have for now. It is loaded anew for every cycle.
fn scheduled(mut config: Config) -> Config {
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    config.policy = config.policy_at(planner::Timestamp(now)).policy;
    config
}

fn open(config: &Config, access: Access) -> Result<RealWorld, Exit> {
    RealWorld::open(config, access).map_err(|error| fail(Exit::Unexpected, &error))
}

/// Looks at the world without changing it: without the lock, and so without writing anything down.
fn look(config: &Config) -> Result<Snapshot, Exit> {
    let mut world = open(config, Access::ReadOnly)?;
    reconciler::observe(&mut world).map_err(|error| fail(Exit::Unexpected, &error))
}

fn read_snapshot(path: &Path) -> Result<Snapshot, Exit> {
    let read = || serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from);
    read().map_err(|error| fail(Exit::BadConfig, &format!("{}: {error}", path.display())))
}

pub(crate) fn fail(exit: Exit, error: &impl Display) -> Exit {
    tracing::error!("{error}");
    exit
}

/// Data goes to standard output; a reader that has gone away (`| head`) is no reason to panic.
pub(crate) fn print(data: impl Display) -> Result<(), Exit> {
    let text = data.to_string();
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(without_controls(&text).as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|_| Exit::Unexpected)
}

pub(crate) fn print_json(data: &impl serde::Serialize) -> Result<(), Exit> {
    let text = serde_json::to_string_pretty(data)
        .map_err(|error| fail(Exit::Unexpected, &format!("cannot write JSON: {error}")))?;
    print(format!("{text}\n"))
}
