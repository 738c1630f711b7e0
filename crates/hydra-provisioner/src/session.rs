//! One run of the provisioner: the lock, the driver, and the signals that end it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use adapters::command::end_all;
use adapters::config::Config;
use adapters::driver::{Driver, Handle, Mode};
use adapters::lease::{Lease, Standing};
use adapters::lock::{Lock, LockError};
use adapters::reaper::Reaper;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::console::fail;
use crate::exit::Exit;

/// How often the lease is checked: well below the time between losing it and being killed.
const LEASE_LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Time for children to end by themselves when we end.
const CHILDREN_TIMEOUT: Duration = Duration::from_secs(1);

/// Full access to the state directory; children do not outlive us.
pub(crate) struct Place {
    /// Checks that it is still ours: the state directory may have been deleted, and another run started in a new one.
    pub(crate) lock: Lock,
    _reaper: Reaper,
}

impl Place {
    /// Acquires the lock of the state directory. The lock file tells others what this process is `doing` with `conf`:
    /// running or serving.
    pub(crate) fn take(doing: &str, conf: &Path, config: &Config) -> Result<Self, Exit> {
        let details = details(doing, conf);
        let lock = Lock::acquire(&config.state_dir, &details).map_err(|error| match error {
            LockError::Held { .. } => fail(Exit::Locked, &error),
            LockError::Unusable { .. } => fail(Exit::Unexpected, &error),
        })?;
        let reaper = Reaper::start(&lock).map_err(|error| {
            fail(Exit::Unexpected, &format!("cannot start our own program: {error}"))
        })?;
        Ok(Self { lock, _reaper: reaper })
    }
}

/// What the lock file says about its holder.
pub(crate) fn details(doing: &str, conf: &Path) -> String {
    let now = jiff::Timestamp::now();
    let since = now.round(jiff::Unit::Second).unwrap_or(now);
    format!("{doing} {} since {since}", conf.display())
}

/// The driver, ready to act.
pub(crate) struct Session {
    pub(crate) driver: Driver,
    place: Place,
    lease: Option<Lease>,
    is_stopped: Arc<AtomicBool>,
}

impl Session {
    /// Opens the state. With a lease, the driver acts only while the lease is ours.
    pub(crate) fn open(place: Place, lease: Option<Lease>, config: Config) -> Result<Self, Exit> {
        let mut driver =
            Driver::open(config, Mode::Act).map_err(|error| fail(Exit::Unexpected, &error))?;
        if let Some(lease) = lease.clone() {
            driver.step_at_least_every(LEASE_LOOK_INTERVAL);
            driver.act_only_with(Arc::new(move || lease.is_ours()));
        }
        Ok(Self { driver, place, lease, is_stopped: Arc::default() })
    }

    /// Whether the state directory is still the one that was locked, as a function for the driver.
    pub(crate) fn split(&mut self) -> (&mut Driver, &Lock) {
        (&mut self.driver, &self.place.lock)
    }

    /// Why the lease is no longer ours, if it is lost.
    pub(crate) fn lost_lease(&self) -> Option<String> {
        let lease = self.lease.as_ref().filter(|lease| !lease.is_ours())?;
        Some(match lease.standing() {
            Standing::Lost(reason) => reason,
            _ => "its database does not answer in time".to_owned(),
        })
    }

    /// Installs signal handlers: SIGTERM and SIGINT stop the driver, SIGHUP calls `on_reload`. A second SIGTERM or
    /// SIGINT kills the process, which is safe at any moment.
    pub(crate) fn heed_signals(&self, on_reload: impl Fn() + Send + 'static) -> Result<(), Exit> {
        let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT])
            .map_err(|error| fail(Exit::Unexpected, &error))?;
        let handle: Handle = self.driver.handle();
        let is_stopped = Arc::clone(&self.is_stopped);
        thread::spawn(move || {
            for signal in &mut signals {
                if signal == SIGHUP {
                    on_reload();
                } else if is_stopped.swap(true, Ordering::SeqCst) {
                    let _killed = signal_hook::low_level::emulate_default_handler(signal);
                } else {
                    tracing::info!("stopping, after a signal");
                    handle.stop();
                }
            }
        });
        Ok(())
    }
}

/// Ends running operations and all child processes. Their intents are recorded: the next run resolves them.
pub(crate) fn end_children() {
    end_all(CHILDREN_TIMEOUT);
}

/// Ends everything immediately: another host may start now.
pub(crate) fn kill_children() {
    end_all(Duration::ZERO);
}
