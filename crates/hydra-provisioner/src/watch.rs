//! `run --watch`: one cycle after the other, as a service.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use adapters::config::Config;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::args::RunArgs;
use crate::commands::{Cycle, fail, load, run_cycle};
use crate::exit::Exit;
use crate::metrics::Metrics;

/// What a cycle may take beyond the time limits of its parts before it counts as hanging.
const SLACK: Duration = Duration::from_secs(300);

/// Runs cycles until SIGTERM or SIGINT, which let the current one end; a second signal kills.
///
/// The configuration is read anew for every cycle. A bad one is an error at the start; later it is logged
/// and nothing is done until it is mended.
pub(crate) fn watch(args: &RunArgs) -> Result<Exit, Exit> {
    let signals = signals().map_err(|error| fail(Exit::Unexpected, &error))?;
    let mut metrics = Metrics::default();
    if let Some(address) = args.metrics {
        metrics.serve(address).map_err(|error| fail(Exit::Unexpected, &error))?;
    }
    let mut first = Some(load(&args.conf)?);
    let mut limit = SLACK;
    let heartbeat = Heartbeat::start(limit);
    notify(&[NotifyState::Ready]);
    let mut interval = Duration::ZERO;
    loop {
        let began = Instant::now();
        let config = first.take().map_or_else(|| load(&args.conf), Ok);
        limit = config.as_ref().map_or(limit, longest_cycle);
        interval = match (args.interval, &config) {
            (Some(seconds), _) => Duration::from_secs(seconds),
            (None, Ok(config)) => config.timing.poll_interval,
            (None, Err(_)) => interval,
        };
        heartbeat.expect_within(limit);
        let Cycle { exit, report } = run_cycle(args, config);
        metrics.count(exit, report.as_ref(), began.elapsed());
        notify(&[NotifyState::Status(&format!("last cycle: {}", exit.name()))]);

        let pause = interval.saturating_sub(began.elapsed());
        heartbeat.expect_within(pause + SLACK);
        match signals.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) | Ok(Wanted::Reload) => {}
            Ok(Wanted::Stop) | Err(RecvTimeoutError::Disconnected) => {
                tracing::info!("stopping, as told by a signal");
                notify(&[NotifyState::Stopping]);
                return Ok(Exit::Done);
            }
        }
    }
}

/// What a signal asks for.
enum Wanted {
    /// SIGHUP: a cycle now, with the configuration as it is now.
    Reload,
    /// SIGTERM or SIGINT: an orderly end.
    Stop,
}

/// Receives what signals ask for. The second one that asks for an end ends the program at once, which is safe
/// at any moment.
fn signals() -> std::io::Result<Receiver<Wanted>> {
    let (sender, receiver) = mpsc::channel();
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT])?;
    thread::spawn(move || {
        let mut is_stopping = false;
        for signal in &mut signals {
            let wanted = match signal {
                SIGHUP => {
                    tell_reloaded();
                    Wanted::Reload
                }
                _ if is_stopping => {
                    let _killed = signal_hook::low_level::emulate_default_handler(signal);
                    return;
                }
                _ => {
                    tracing::info!("signal {signal}: the current cycle may end; once more kills");
                    is_stopping = true;
                    Wanted::Stop
                }
            };
            // A watch that has ended by itself needs no telling.
            let _ended = sender.send(wanted);
        }
    });
    Ok(receiver)
}

/// Tells systemd that a reload is over: the next cycle reads the configuration, however long the current one takes.
fn tell_reloaded() {
    tracing::info!("reload: the next cycle takes the configuration as it is now");
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
        notify(&[NotifyState::Ready]);
    }
}

/// How long a cycle of this configuration takes if every part of it takes as long as it may.
fn longest_cycle(config: &Config) -> Duration {
    let limits = config.limits;
    let machines: usize = config.policy.pools.values().map(|pool| pool.max_machines as usize).sum();
    // Machines above the maximum are released by and by: twice as many are more than ever are.
    let waves = u32::try_from(1 + 2 * machines / limits.parallelism).unwrap_or(u32::MAX);
    let one_machine = limits.create_timeout + limits.deploy_timeout + 2 * limits.release_timeout;
    one_machine.saturating_mul(waves) + 8 * limits.status_timeout + SLACK
}

/// Tells systemd's watchdog that we are alive, as long as no cycle takes longer than it can.
struct Heartbeat {
    deadline: Arc<Mutex<Instant>>,
}

impl Heartbeat {
    fn start(limit: Duration) -> Self {
        let deadline = Arc::new(Mutex::new(Instant::now() + limit));
        if let Some(period) = sd_notify::watchdog_enabled() {
            let deadline = Arc::clone(&deadline);
            thread::spawn(move || {
                while Instant::now() < *deadline.lock().unwrap_or_else(PoisonError::into_inner) {
                    notify(&[NotifyState::Watchdog]);
                    thread::sleep(period / 3);
                }
                tracing::error!("this cycle takes longer than it can: systemd may restart us");
            });
        }
        Self { deadline }
    }

    fn expect_within(&self, limit: Duration) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + limit;
    }
}

/// Outside systemd nobody listens, which is fine.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("systemd cannot be notified: {error}");
    }
}
