//! Operator commands: `drain`, `keep`, `release`, `forget`, `adopt`, `pause`, `resume`, `retry`. They are written to
//! the state database, where the service sees them within a second.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use adapters::config::Config;
use adapters::{lock, state};
use clap::Args as ClapArgs;
use planner::{MachineName, MachineType, Order, OrderKind, Seconds, escape};
use reconciler::Record;

use crate::console::{fail, installed_conf, load_beside_service, now, print};
use crate::exit::Exit;
use crate::history::length;
use crate::look::{look, stands_by};

/// The word for all types.
const ALL: &str = "all";
/// Default duration of `keep`.
const KEEP_FOR: &str = "2h";

/// Default time for a machine to be listed after `adopt`.
const ADOPT_FOR: &str = "10m";

/// Configuration and reason.
#[derive(Debug, ClapArgs)]
pub(crate) struct About {
    /// conf.nix, or a .json file. Default: /etc/hydra-provisioner/conf.json or conf.nix
    #[arg(default_value_os_t = installed_conf(), hide_default_value = true)]
    pub(crate) conf: PathBuf,
    /// The reason, shown in plan, history and status
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: Option<String>,
}

/// Arguments of a command for a machine.
#[derive(Debug, ClapArgs)]
pub(crate) struct OfMachine {
    /// The machine's name
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) about: About,
}

/// Arguments of a command for a machine, with a duration.
#[derive(Debug, ClapArgs)]
pub(crate) struct Keep {
    #[command(flatten)]
    pub(crate) machine: OfMachine,
    /// For how long: 90s, 10m, 2h, 1d
    #[arg(long = "for", value_name = "LENGTH", default_value = KEEP_FOR, value_parser = length)]
    pub(crate) length: u64,
}

/// Arguments of a command for a machine, with an optional duration.
#[derive(Debug, ClapArgs)]
pub(crate) struct Drain {
    #[command(flatten)]
    pub(crate) machine: OfMachine,
    /// For how long: 90s, 10m, 2h, 1d; default: until `resume` or `release`
    #[arg(long = "for", value_name = "LENGTH", value_parser = length)]
    pub(crate) length: Option<u64>,
}

/// Arguments of `forget`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Forget {
    #[command(flatten)]
    pub(crate) machine: OfMachine,
    /// Also if it was not seen to be missing: show what may be lost, and ask on a terminal. Without this option it is refused then
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of `adopt`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Adopt {
    #[command(flatten)]
    pub(crate) machine: OfMachine,
    /// How long to wait until its provider lists it: 90s, 10m, 2h, 1d
    #[arg(long = "for", value_name = "LENGTH", default_value = ADOPT_FOR, value_parser = length)]
    pub(crate) length: u64,
    /// Show what may be lost, ask on a terminal, then adopt it. Without this option it is refused
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of a command for a type or all, with an optional duration.
#[derive(Debug, ClapArgs)]
pub(crate) struct Pause {
    /// A machine type, or `all`
    #[arg(value_name = "TYPE|all")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) about: About,
    /// For how long: 90s, 10m, 2h, 1d; default: until `resume`
    #[arg(long = "for", value_name = "LENGTH", value_parser = length)]
    pub(crate) length: Option<u64>,
}

/// Arguments of `resume`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Resume {
    /// The machine, the type, or `all`
    #[arg(value_name = "NAME|TYPE|all")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) about: About,
}

/// Arguments of `retry`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Retry {
    /// The machine type
    #[arg(value_name = "TYPE")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) about: About,
}

pub(crate) fn keep(args: &Keep) -> Result<Exit, Exit> {
    of_machine(&args.machine, OrderKind::Keep, Some(args.length))
}

pub(crate) fn drain(args: &Drain) -> Result<Exit, Exit> {
    of_machine(&args.machine, OrderKind::Drain, args.length)
}

pub(crate) fn release(args: &OfMachine) -> Result<Exit, Exit> {
    of_machine(args, OrderKind::Release, None)
}

pub(crate) fn forget(args: &Forget) -> Result<Exit, Exit> {
    let config = load_beside_service(&args.machine.about.conf)?;
    let record = find(&config, &args.machine.name)?;
    let name = &record.machine.name;
    if record.machine.memory.missing.is_none() {
        let what = format!(
            "{name} was not seen to be missing from its provider's listing. If it exists, it continues to run and \
             cost money, and what it builds is lost to Hydra when it is shut down; if it is listed again, it is \
             not forgotten"
        );
        if !args.force {
            return Err(fail(Exit::BadConfig, &format!("{what}. To forget it anyway: --force")));
        }
        agree("Forget it?", &what)?;
    }
    say(&config, OrderKind::Forget(name.clone()), None, &args.machine.about)
}

pub(crate) fn adopt(args: &Adopt) -> Result<Exit, Exit> {
    let config = load_beside_service(&args.machine.about.conf)?;
    let snapshot = look(&config)?;
    let found = snapshot.not_ours.iter().find(|name| name.as_str() == args.machine.name);
    let Some(name) = found else {
        let names: Vec<_> = snapshot.not_ours.iter().map(ToString::to_string).collect();
        let there = match names.join(", ") {
            none if none.is_empty() => "no provider lists a machine that is not ours".to_owned(),
            some => format!("not ours are: {some}"),
        };
        let what = format!("cannot adopt {}; {there}", escape(&args.machine.name));
        return Err(fail(Exit::BadConfig, &what));
    };
    let what = format!(
        "{name} will be treated like a machine that was created here: it is set up, gets builds, and is destroyed when \
         it is not needed, with everything on it; at once if its type is not configured"
    );
    if !args.force {
        return Err(fail(Exit::BadConfig, &format!("{what}. To adopt it: --force")));
    }
    agree("Adopt it?", &what)?;
    say(&config, OrderKind::Adopt(name.clone()), Some(args.length), &args.machine.about)
}

pub(crate) fn pause(args: &Pause) -> Result<Exit, Exit> {
    let config = load_beside_service(&args.about.conf)?;
    let kind = if args.name == ALL {
        OrderKind::PauseAll
    } else {
        OrderKind::Pause(known_type(&config, &args.name)?)
    };
    say(&config, kind, args.length, &args.about)
}

pub(crate) fn retry(args: &Retry) -> Result<Exit, Exit> {
    let config = load_beside_service(&args.about.conf)?;
    let machine_type = known_type(&config, &args.name)?;
    say(&config, OrderKind::Retry(machine_type), None, &args.about)
}

pub(crate) fn resume(args: &Resume) -> Result<Exit, Exit> {
    let config = load_beside_service(&args.about.conf)?;
    let taken_back = state::revoke_order(&config.state_dir, &args.name, &user(), now())
        .map_err(|error| fail(Exit::Unexpected, &error))?;
    let Some(order) = taken_back else {
        let orders = state::orders(&config.state_dir).unwrap_or_default();
        let subjects: Vec<_> = orders.iter().map(|order| order.kind.subject()).collect();
        let there = match subjects.join(", ") {
            none if none.is_empty() => "nothing is drained, kept or paused".to_owned(),
            some => format!("orders stand for: {some}"),
        };
        return Err(fail(Exit::BadConfig, &format!("no order stands for {}; {there}", args.name)));
    };
    print(format!("revoked: {order}\n"))?;
    Ok(Exit::Done)
}

fn of_machine(
    args: &OfMachine,
    kind: fn(MachineName) -> OrderKind,
    length: Option<u64>,
) -> Result<Exit, Exit> {
    let config = load_beside_service(&args.about.conf)?;
    let record = find(&config, &args.name)?;
    say(&config, kind(record.machine.name), length, &args.about)
}

fn say(config: &Config, kind: OrderKind, length: Option<u64>, about: &About) -> Result<Exit, Exit> {
    let at = now();
    let until = length.map(|length| at.after(Seconds(length)));
    let why = about.why.clone().unwrap_or_default();
    let order = Order { kind, at, by: user(), why, until };
    state::record_order(&config.state_dir, &order)
        .map_err(|error| fail(Exit::Unexpected, &error))?;
    let heeded = match lock::holder(&config.state_dir) {
        Some(holder) if stands_by(&holder) => {
            "this host stands by: the active one does not hear it, say it there"
        }
        Some(_) => "the service sees it within a second",
        None => "no service runs: the next run heeds it",
    };
    print(format!("{order}\n"))?;
    tracing::info!("{heeded}");
    Ok(Exit::Done)
}

fn find(config: &Config, name: &str) -> Result<Record, Exit> {
    let machines =
        state::machines(&config.state_dir).map_err(|error| fail(Exit::Unexpected, &error))?;
    let names: Vec<_> = machines.iter().map(|record| record.machine.name.to_string()).collect();
    machines.into_iter().find(|record| record.machine.name.as_str() == name).ok_or_else(|| {
        let there = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
        fail(Exit::BadConfig, &format!("no machine is called {}; machines: {there}", escape(name)))
    })
}

/// A configured type, or the type of an existing machine.
fn known_type(config: &Config, name: &str) -> Result<MachineType, Exit> {
    let machines =
        state::machines(&config.state_dir).map_err(|error| fail(Exit::Unexpected, &error))?;
    let made = machines.iter().map(|record| &record.machine.machine_type);
    let types: BTreeSet<_> = config.policy.pools.keys().chain(made).collect();
    types.iter().find(|it| it.as_str() == name).map(|it| (*it).clone()).ok_or_else(|| {
        let there: Vec<_> = types.iter().map(ToString::to_string).collect();
        let (name, there) = (escape(name), there.join(", "));
        fail(Exit::BadConfig, &format!("no type is called {name}; types: {there}"))
    })
}

/// The user who gives the command. With sudo, the calling user.
fn user() -> String {
    let variables = ["SUDO_USER", "LOGNAME", "USER"];
    let mut users = variables.iter().filter_map(|name| std::env::var(name).ok());
    if let Some(user) = users.find(|user| !user.is_empty()) {
        return escape(&user).into_owned();
    }
    let owner = fs::metadata("/proc/self").map(|metadata| metadata.uid());
    owner.map_or_else(
        |_| "an operator".to_owned(),
        |uid| name_of(uid).unwrap_or(format!("user {uid}")),
    )
}

/// The name in `/etc/passwd`: a service's shell has no variables for it.
fn name_of(uid: u32) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let mut users = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let user = users.find(|fields| fields.get(2).and_then(|id| id.parse().ok()) == Some(uid))?;
    Some(escape(user.first()?).into_owned())
}

/// Asks on a terminal; elsewhere `--force` is required.
fn agree(question: &str, what: &str) -> Result<(), Exit> {
    tracing::warn!("{what}");
    if !io::stdin().is_terminal() {
        return Ok(());
    }
    let mut answer = String::new();
    let asked = write!(io::stderr(), "{question} [y/N] ").and_then(|()| io::stderr().flush());
    let is_agreed = asked.is_ok()
        && io::stdin().lock().read_line(&mut answer).is_ok()
        && answer.trim_start().starts_with(['y', 'Y']);
    if is_agreed { Ok(()) } else { Err(fail(Exit::BadConfig, &"nothing was changed")) }
}
