//! With a lease (`lease.postgresql`): waits until this host is active.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use adapters::config::Config;
use adapters::lease::{Lease, Standing};
use adapters::state;
use sd_notify::NotifyState;
use signal_hook::consts::SIGHUP;
use signal_hook::flag;

use crate::args::RunArgs;
use crate::console::fail;
use crate::exit::Exit;
use crate::listener::{HandedOver, Listener};
use crate::service::{configure, file_version, pass_configuration};
use crate::session::{Place, details};
use crate::systemd::{Watchdog, notify, tell_reloading};

/// Interval of checks for changes.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Returns when this host is active; immediately, and with `None`, if no lease is configured.
pub(crate) fn stand_by(
    place: &Place,
    args: &RunArgs,
    config: &Config,
    listener: &Listener,
) -> Result<Option<Lease>, Exit> {
    let Some(lease) = ask(config)? else { return Ok(None) };
    if let Err(error) = state::record_configuration(config) {
        tracing::warn!("{error}");
    }
    let board = listener.board();
    let hangup = Arc::new(AtomicBool::new(false));
    flag::register(SIGHUP, Arc::clone(&hangup)).map_err(|error| fail(Exit::Unexpected, &error))?;
    let mut watchdog = Watchdog::new();
    let (mut reported, mut stamp) = (String::new(), file_version(&args.conf));
    notify(&[NotifyState::Ready]);
    loop {
        watchdog.beat();
        let standing = lease.standing();
        let text = describe(&standing);
        board.stands_by(&text);
        if text != reported {
            tell(&standing, &text, place, args);
            reported = text;
        }
        if standing == Standing::Ours {
            board.is_active();
            return Ok(Some(lease));
        }
        let now = file_version(&args.conf);
        if hangup.swap(false, Ordering::SeqCst) || (now.is_some() && now != stamp) {
            stamp = now;
            reload(args, listener.handed_over(), &config.state_dir);
        }
        if lease.is_stuck() {
            tracing::warn!("the lease's database hangs: asked anew");
            return Err(begin_anew(listener.handed_over(), &config.state_dir));
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// The lease for a run that does not wait.
pub(crate) fn ask_once(config: &Config) -> Result<Option<Lease>, Exit> {
    let Some(lease) = ask(config)? else { return Ok(None) };
    loop {
        match lease.standing() {
            Standing::Ours => return Ok(Some(lease)),
            standing @ (Standing::HeldBy(_) | Standing::Unreachable(_) | Standing::Lost(_)) => {
                return Err(fail(Exit::Locked, &describe(&standing)));
            }
            Standing::Asking | Standing::TakingOver if lease.is_stuck() => {
                return Err(fail(Exit::Locked, &"the lease's database does not answer"));
            }
            Standing::Asking | Standing::TakingOver => thread::sleep(LOOK_INTERVAL),
        }
    }
}

fn ask(config: &Config) -> Result<Option<Lease>, Exit> {
    let Some(settings) = &config.lease else { return Ok(None) };
    let lease = Lease::ask(settings, &config.policy.tag)
        .map_err(|error| fail(Exit::Unexpected, &format!("no thread for the lease: {error}")))?;
    Ok(Some(lease))
}

fn describe(standing: &Standing) -> String {
    match standing {
        Standing::Asking => "asking for the lease".to_owned(),
        Standing::Unreachable(reason) => format!(
            "the lease cannot be asked for, nothing is done from here: {reason}; see lease.postgresql"
        ),
        Standing::HeldBy(holder) => format!("this host stands by; active is {holder}"),
        Standing::TakingOver => "taking over: the earlier host has to have stopped".to_owned(),
        Standing::Ours => "this host is the active one".to_owned(),
        Standing::Lost(reason) => format!("the lease was lost: {reason}"),
    }
}

fn tell(standing: &Standing, text: &str, place: &Place, args: &RunArgs) {
    let text = planner::escape(text);
    match standing {
        Standing::Unreachable(_) | Standing::Lost(_) => tracing::error!("{text}"),
        _ => tracing::info!("{text}"),
    }
    notify(&[NotifyState::Status(&text)]);
    let doing = if *standing == Standing::Ours { "serving" } else { "standing by for" };
    if let Err(error) = place.lock.describe(&details(doing, &args.conf)) {
        tracing::warn!("cannot write into the lock file: {error}");
    }
}

/// A changed configuration is taken over by restarting the process: a standby has nothing to lose. A bad one is
/// rejected.
fn reload(args: &RunArgs, sockets: &HandedOver, state_dir: &Path) {
    match configure(args) {
        Ok(_) => {
            tell_reloading();
            begin_anew(sockets, state_dir);
        }
        Err(error) => tracing::error!("not reloaded, the old configuration stays active: {error}"),
    }
    notify(&[NotifyState::Ready]);
}

/// Replaces the process by our program: no thread or connection survives, only the sockets of systemd and, if the file cannot be
/// used, the configuration. Returns only if that fails.
pub(crate) fn begin_anew(sockets: &HandedOver, state_dir: &Path) -> Exit {
    let mut words = env::args_os();
    let mut program = Command::new("/proc/self/exe");
    if let Some(name) = words.next() {
        program.arg0(name);
    }
    pass_configuration(state_dir, &mut program);
    let error = match sockets.pass_to(&mut program) {
        Ok(()) => program.args(words).exec(),
        Err(error) => error,
    };
    fail(Exit::Unexpected, &format!("cannot start our own program again: {error}"))
}
