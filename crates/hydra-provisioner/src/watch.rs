//! `run --watch`: the provisioner as a service.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use adapters::config::Config;
use adapters::driver::Handle;
use planner::QueueStatus;
use reconciler::{HistoryEntry, Reconciler, Severity};
use sd_notify::NotifyState;

use crate::args::RunArgs;
use crate::commands::{fail, load};
use crate::exit::Exit;
use crate::listener::{Board, Listener};
use crate::recording::Recorder;
use crate::session::{Session, end_children};

/// How often the configuration's file is looked at.
const FILE_LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// The loop turns every second at least: one that has not for this long hangs.
const LONGEST_TURN: Duration = Duration::from_secs(60);

/// Serves the queue until SIGTERM or SIGINT.
///
/// A bad configuration is an error at the start; later it is logged, and the old one goes on.
pub(crate) fn watch(args: &RunArgs) -> Result<Exit, Exit> {
    let mut listener =
        Listener::start(args.metrics).map_err(|error| fail(Exit::Unexpected, &error))?;
    let config = configure(args)?;
    let mut session = Session::open(&args.conf, config)?;
    let reload = reload_on_demand(args, session.driver.handle(), listener.board());
    let on_hangup = reload.clone();
    session.heed_signals(move || {
        let _gone = on_hangup.send(());
    })?;
    reload_when_changed(args.conf.clone(), reload);
    let heartbeat = Heartbeat::start();
    notify(&[NotifyState::Ready]);
    let mut recorder = Recorder::new(args.record.clone());
    let mut status = String::new();
    session.driver.run(None, &mut |reconciler, happened| {
        heartbeat.beat();
        happened.iter().for_each(log);
        listener.update(reconciler, happened);
        recorder.note(reconciler);
        tell_status(reconciler, &mut status);
        if session.lock.is_still_ours() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    notify(&[NotifyState::Stopping]);
    end_children();
    if session.lock.is_still_ours() {
        Ok(Exit::Done)
    } else {
        Err(fail(Exit::Unexpected, &"stateDir was deleted or replaced; this run ended"))
    }
}

/// The configuration as it is now, with what the command line says of it.
fn configure(args: &RunArgs) -> Result<Config, Exit> {
    let mut config = load(&args.conf)?;
    if let Some(seconds) = args.interval {
        config.timing.poll_interval = Duration::from_secs(seconds);
    }
    Ok(config)
}

/// A thread that reads the configuration again whenever it is told to. Evaluating takes its time, and the loop does
/// not wait for it.
fn reload_on_demand(args: &RunArgs, handle: Handle, board: Arc<Board>) -> mpsc::Sender<()> {
    let (sender, demands) = mpsc::channel();
    let args = args.clone();
    thread::spawn(move || {
        while demands.recv().is_ok() {
            // Several at once are one.
            while demands.try_recv().is_ok() {}
            if let Ok(now) = NotifyState::monotonic_usec_now() {
                notify(&[NotifyState::Reloading, now]);
            }
            if let Ok(config) = configure(&args) {
                handle.reload(config);
                board.reloaded(None);
            } else {
                board.reloaded(Some("see the log, or run hydra-provisioner check".to_owned()));
                tracing::error!(
                    "{}: not reloaded, the old configuration goes on",
                    args.conf.display()
                );
            }
            notify(&[NotifyState::Ready]);
        }
    });
    sender
}

/// A thread that demands a reload when the file has changed.
fn reload_when_changed(conf: PathBuf, reload: mpsc::Sender<()>) {
    let look = |conf: &Path| {
        fs::metadata(conf).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec(), m.size()))
    };
    thread::spawn(move || {
        let mut seen = look(&conf);
        loop {
            thread::sleep(FILE_LOOK_INTERVAL);
            let now = look(&conf);
            if now.is_some() && now != seen {
                seen = now;
                if reload.send(()).is_err() {
                    return;
                }
            }
        }
    });
}

/// One line for each thing that happened; a quiet farm logs nothing.
fn log(entry: &HistoryEntry) {
    let HistoryEntry { at: _, machine, machine_type, what } = entry;
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

/// One sentence for `systemctl status`, when it has changed.
fn tell_status(reconciler: &Reconciler, last: &mut String) {
    let under_way = reconciler.operations().count();
    let queue = match reconciler.queue() {
        QueueStatus::Up(_) => "queue up",
        QueueStatus::Unavailable(_) => "queue status unavailable",
    };
    let machines = reconciler.records().count();
    let status = format!("{machines} machines, {under_way} operations under way, {queue}");
    if status != *last {
        notify(&[NotifyState::Status(&status)]);
        *last = status;
    }
}

/// Tells systemd's watchdog that the loop turns.
struct Heartbeat {
    last: Arc<Mutex<Instant>>,
}

impl Heartbeat {
    fn start() -> Self {
        let last = Arc::new(Mutex::new(Instant::now()));
        if let Some(period) = sd_notify::watchdog_enabled() {
            let last = Arc::clone(&last);
            thread::spawn(move || {
                loop {
                    let turned = *last.lock().unwrap_or_else(PoisonError::into_inner);
                    if turned.elapsed() < LONGEST_TURN {
                        notify(&[NotifyState::Watchdog]);
                    } else {
                        tracing::error!("the loop hangs: systemd may restart us");
                    }
                    thread::sleep(period / 3);
                }
            });
        }
        Self { last }
    }

    fn beat(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Outside systemd nobody listens, which is fine.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd cannot be notified: {error}");
    }
}
