//! One run of the provisioner: the lock, the driver, and the signals that end it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use adapters::command::end_all;
use adapters::config::Config;
use adapters::driver::{Driver, Handle, Mode};
use adapters::lock::{Lock, LockError};
use adapters::reaper::Reaper;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::commands::fail;
use crate::exit::Exit;

/// How long child processes may take to exit when the provisioner exits.
const CHILDREN_TIMEOUT: Duration = Duration::from_secs(1);

/// Holds the lock of the state directory, and the driver.
pub(crate) struct Session {
    pub(crate) driver: Driver,
    /// The lock is lost when the state directory is deleted; another run may then have started in a new one.
    pub(crate) lock: Lock,
    _reaper: Reaper,
    is_stopped: Arc<AtomicBool>,
}

impl Session {
    /// Takes the lock of the state directory and opens the state. The lock file says what this process is `doing`
    /// (running or serving) with `conf`.
    pub(crate) fn open(doing: &str, conf: &Path, config: Config) -> Result<Self, Exit> {
        let now = jiff::Timestamp::now();
        let since = now.round(jiff::Unit::Second).unwrap_or(now);
        let details = format!("{doing} {} since {since}", conf.display());
        let lock = Lock::acquire(&config.state_dir, &details).map_err(|error| match error {
            LockError::Held { .. } => fail(Exit::Locked, &error),
            LockError::Unusable { .. } => fail(Exit::Unexpected, &error),
        })?;
        let reaper = Reaper::start(&lock).map_err(|error| {
            fail(Exit::Unexpected, &format!("cannot start our own program: {error}"))
        })?;
        let driver =
            Driver::open(config, Mode::Act).map_err(|error| fail(Exit::Unexpected, &error))?;
        Ok(Self { driver, lock, _reaper: reaper, is_stopped: Arc::default() })
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
                    tracing::info!("stopping, as told by a signal");
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
