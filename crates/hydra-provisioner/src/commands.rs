//! What each command does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use adapters::config::{self, Config};
use planner::{QueueStatus, Snapshot};

use crate::args::{Args, Command, Generate, RunArgs, misspelt_command};
use crate::console::{fail, load, load_beside_service, plan_for, print, print_json};
use crate::diff::diff;
use crate::exit::Exit;
use crate::follow::follow;
use crate::history::{Wanted, history};
use crate::init::init;
use crate::look::{at_work, look};
use crate::run::run_once;
#[cfg(feature = "sim")]
use crate::sim::sim;
use crate::status::Status;
use crate::watch::watch;
use crate::why::why;
use crate::{check, cost, generate, orders, prices, status_table};

/// Both outcomes end the process with this exit code.
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
        (Some(Command::Run(args)), _) => run_once(&args),
        (None, Some(conf)) => run_once(&RunArgs::once(conf)),
        (Some(Command::Generate(what)), _) => generate(what),
        (Some(Command::Plan { conf, json, snapshot, print_snapshot, diff }), _) => {
            let output = match (json, print_snapshot, diff) {
                (_, true, _) => PlanOutput::Snapshot,
                (true, false, _) => PlanOutput::Json,
                (false, false, Some(other)) => PlanOutput::Diff(other),
                (false, false, None) => PlanOutput::Text,
            };
            plan(&conf, snapshot.as_deref(), output)
        }
        (Some(Command::History { conf, since, machine, failed, json }), _) => {
            history(&conf, &Wanted { since, machine: machine.as_deref(), failed, json })
        }
        (Some(Command::Keep(args)), _) => orders::keep(&args),
        (Some(Command::Drain(args)), _) => orders::drain(&args),
        (Some(Command::Release(args)), _) => orders::release(&args),
        (Some(Command::Forget(args)), _) => orders::forget(&args),
        (Some(Command::Adopt(args)), _) => orders::adopt(&args),
        (Some(Command::Pause(args)), _) => orders::pause(&args),
        (Some(Command::Resume(args)), _) => orders::resume(&args),
        (Some(Command::Retry(args)), _) => orders::retry(&args),
        (Some(Command::Init(args)), _) => init(&args),
        (Some(Command::Check { conf, online }), _) => check(&conf, online),
        #[cfg(feature = "sim")]
        (Some(Command::Sim(what)), _) => sim(what),
        (Some(Command::Why { name, conf }), _) => why(&conf, &name),
        (Some(Command::Cost { conf, json }), _) => cost::cost(&conf, json),
        (Some(Command::Status { conf, json, watch: true, interval }), _) => {
            follow(&conf, json, interval)
        }
        (Some(Command::Status { conf, json, .. }), _) => status(&conf, json),
        // clap requires one of them.
        (None, None) => Err(Exit::BadConfig),
    };
    ended.unwrap_or_else(|exit| exit)
}

enum PlanOutput {
    Text,
    Json,
    Snapshot,
    /// What differs from the plan of another configuration: a file, or the service's.
    Diff(Option<PathBuf>),
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
    let config = load_beside_service(conf)?;
    let (at_work, snapshot) = match snapshot {
        Some(path) => (String::new(), read_snapshot(path)?),
        None => (at_work(&config), look(&config)?),
    };
    let plan = plan_for(&config, &snapshot);
    match output {
        PlanOutput::Text => {
            let policy = config.policy_at(snapshot.taken_at).policy;
            print(format!("{at_work}{plan}{}", prices::section(&policy, &snapshot, &plan)))?;
        }
        PlanOutput::Json => print_json(&plan)?,
        PlanOutput::Snapshot => print_json(&snapshot)?,
        PlanOutput::Diff(other) => {
            let other = match other {
                Some(other) => load(&other)?,
                None => in_force(&config)?,
            };
            print(format!("{at_work}{}", diff(&plan_for(&other, &snapshot), &plan)))?;
        }
    }
    Ok(unavailable_or_done(&snapshot))
}

/// The configuration that a service or run loaded last.
fn in_force(config: &Config) -> Result<Config, Exit> {
    let unknown = || {
        let what = "no service has taken a configuration yet; name another one: --diff=OTHER";
        fail(Exit::BadConfig, &what)
    };
    let source = adapters::state::configuration(&config.state_dir).ok_or_else(unknown)?;
    config::parse(&source).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        fail(Exit::BadConfig, &format!("the service's configuration: {}", problems.join("; ")))
    })
}

fn check(conf: &Path, online: bool) -> Ended {
    let config = load(conf)?;
    adapters::state::check_state_dir(&config).map_err(|error| fail(Exit::BadConfig, &error))?;
    for problem in check::problems_here(&config) {
        tracing::warn!("{}: on this host {problem}", conf.display());
    }
    print(check::verdict(conf, &config))?;
    if online { check::online(&config) } else { Ok(Exit::Done) }
}

fn status(conf: &Path, json: bool) -> Ended {
    let config = load_beside_service(conf)?;
    let snapshot = look(&config)?;
    let plan = plan_for(&config, &snapshot);
    if json {
        let refused = adapters::state::refused(&config.state_dir);
        print_json(&Status::of(&snapshot, &plan, &config.policy, None, refused.as_deref()))?;
        return Ok(unavailable_or_done(&snapshot));
    }
    print(at_work(&config))?;
    if snapshot.machines.is_empty() {
        print(
            "no machines
",
        )?;
    } else {
        print(format!(
            "{}
",
            status_table::render(&snapshot, &plan)
        ))?;
    }
    for order in &plan.orders {
        print(format!(
            "{order}
"
        ))?;
    }
    Ok(unavailable_or_done(&snapshot))
}

fn unavailable_or_done(snapshot: &Snapshot) -> Exit {
    match snapshot.queue {
        QueueStatus::Up(_) => Exit::Done,
        QueueStatus::Unavailable(_) => Exit::QueueUnavailable,
    }
}

fn read_snapshot(path: &Path) -> Result<Snapshot, Exit> {
    let read = || serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from);
    read().map_err(|error| fail(Exit::BadConfig, &format!("{}: {error}", path.display())))
}
