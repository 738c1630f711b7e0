//! `run --watch`: the provisioner as a service.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use adapters::config::ConfigError;
use adapters::driver::{Handle, Step};
use adapters::panics::caught;
use planner::{QueueStatus, counted};
use reconciler::{HistoryEntry, Severity};
use sd_notify::NotifyState;

use crate::args::RunArgs;
use crate::console::fail;
use crate::exit::Exit;
use crate::listener::{Board, Listener};
use crate::notifier::{Notifier, Programs};
use crate::recording::Recorder;
use crate::service::{configure, configure_at_start, file_version};
use crate::session::{Place, Session, end_children, kill_children};
use crate::standby::{self, stand_by};
use crate::systemd::{Watchdog, notify, tell_reloading};

/// Interval of checks of the configuration file.
const FILE_LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Serves the queue until SIGTERM or SIGINT.
///
/// At the start, a bad configuration is an error; later, also if the program replaced itself, it is logged, and the old one
/// stays active.
pub(crate) fn watch(args: &RunArgs) -> Result<Exit, Exit> {
    let mut listener =
        Listener::start(args.listen.as_ref()).map_err(|error| fail(Exit::Unexpected, &error))?;
    let (config, refused) = configure_at_start(args)?;
    let state_dir = config.state_dir.clone();
    let programs = Programs::new(config.notify.clone().into());
    let mut notifier = Notifier::start(Arc::clone(&programs));
    let place = Place::take("serving", &args.conf, &config)?;
    listener.board().state_is_in(&state_dir);
    let lease = stand_by(&place, args, &config, &listener)?;
    let mut session = Session::open(place, lease, config)?;
    if let Some(reason) = refused {
        session.driver.handle().refuse(reason.clone());
        listener.board().reloaded(Some(reason));
    }
    let reload = reload_on_demand(args, session.driver.handle(), listener.board(), programs);
    let on_hangup = reload.clone();
    session.heed_signals(move || {
        let _gone = on_hangup.send(());
    })?;
    reload_when_changed(args.conf.clone(), reload);
    let mut watchdog = Watchdog::new();
    if let Some(interval) = watchdog.interval {
        session.driver.step_at_least_every(interval);
    }
    notify(&[NotifyState::Ready]);
    let mut recorder = Recorder::new(args.record.clone());
    let mut status = String::new();
    let (driver, lock) = session.split();
    driver.run(None, &mut |step| {
        watchdog.beat();
        step.happened.iter().for_each(log);
        listener.update(step.reconciler, step.happened);
        notifier.update(step.reconciler, step.happened);
        recorder.note(step.reconciler);
        tell_status(step, &mut status);
        if lock.is_still_ours() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let is_still_ours = lock.is_still_ours();
    if let Some(reason) = session.lost_lease() {
        kill_children();
        tracing::error!("not the active host any more, nothing is done from here: {reason}");
        drop(session);
        return Err(standby::begin_anew(listener.handed_over(), &state_dir));
    }
    notify(&[NotifyState::Stopping]);
    end_children();
    if is_still_ours {
        Ok(Exit::Done)
    } else {
        Err(fail(Exit::Unexpected, &"stateDir was deleted or replaced; this run ended"))
    }
}

/// A thread that reads the configuration on request. Evaluation takes time, and the loop does not wait for it.
fn reload_on_demand(
    args: &RunArgs,
    handle: Handle,
    board: Arc<Board>,
    programs: Programs,
) -> mpsc::Sender<()> {
    let (sender, demands) = mpsc::channel();
    let args = args.clone();
    thread::spawn(move || {
        while demands.recv().is_ok() {
            // Several requests at once are handled as one.
            while demands.try_recv().is_ok() {}
            tell_reloading();
            let reloaded = caught(|| reload(&args, &handle, &programs)).unwrap_or_else(|panic| {
                handle.refuse(panic.clone());
                Err(panic)
            });
            if let Err(reason) = &reloaded {
                tracing::error!("not reloaded, the old configuration stays active: {reason}");
            }
            board.reloaded(reloaded.err());
            // The reload is over, successful or not.
            notify(&[NotifyState::Ready]);
        }
    });
    sender
}

/// Returns when the configuration is in force, or its rejection is reported.
fn reload(args: &RunArgs, handle: &Handle, programs: &Programs) -> Result<(), String> {
    let refuse = |error: ConfigError| {
        handle.refuse(error.to_string());
        error.to_string()
    };
    let config = configure(args).map_err(refuse)?;
    let notify = config.notify.clone();
    handle.reload(config)?;
    *programs.lock().unwrap_or_else(PoisonError::into_inner) = notify;
    Ok(())
}

/// A thread that requests a reload when the file has changed.
fn reload_when_changed(conf: PathBuf, reload: mpsc::Sender<()>) {
    thread::spawn(move || {
        let mut seen = file_version(&conf);
        loop {
            thread::sleep(FILE_LOOK_INTERVAL);
            let now = file_version(&conf);
            if now.is_some() && now != seen {
                seen = now;
                if reload.send(()).is_err() {
                    return;
                }
            }
        }
    });
}

/// One line per event; an idle farm logs nothing.
fn log(entry: &HistoryEntry) {
    let HistoryEntry { at: _, machine, machine_type, what, dollars_per_hour: _ } = entry;
    let text = what.to_string();
    let text = planner::escape(&text);
    let machine = machine.as_ref().map(tracing::field::display);
    let kind = machine_type.as_ref().map(tracing::field::display);
    match what.severity() {
        Severity::Info => tracing::info!(machine, r#type = kind, "{text}"),
        Severity::Warning => tracing::warn!(machine, r#type = kind, "{text}"),
        Severity::Error => tracing::error!(machine, r#type = kind, "{text}"),
    }
}

/// One sentence for `systemctl status`, whenever it changes.
fn tell_status(step: &Step<'_>, last: &mut String) {
    let under_way = counted(step.reconciler.operations().count() as u64, "operation");
    let queue = match step.reconciler.queue() {
        QueueStatus::Up(_) => "queue up",
        QueueStatus::Unavailable(_) => "queue status unavailable",
    };
    let machines = counted(step.reconciler.records().count() as u64, "machine");
    let mut status = format!("{machines}, {under_way} under way, {queue}");
    if step.refused.is_some() {
        status.push_str("; configuration NOT reloaded, the old one stays active (see `status`)");
    }
    if status != *last {
        notify(&[NotifyState::Status(&status)]);
        *last = status;
    }
}
