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

/// How long children may take to end by themselves when we end.
const CHILDREN_PATIENCE: Duration = Duration::from_secs(1);

/// The state directory is ours, and the driver is ready.
pub(crate) struct Session {
    pub(crate) driver: Driver,
    /// Whether it is still ours tells whether the state directory is: it may have been deleted, and another run
    /// begun in a new one.
    pub(crate) lock: Lock,
    _reaper: Reaper,
    is_stopped: Arc<AtomicBool>,
}

impl Session {
    /// Takes the lock of the state directory and opens the state. Others are told that it is `doing` so to `conf`:
    /// running or serving.
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

    /// From now on SIGTERM and SIGINT stop the driver, and SIGHUP calls `on_reload`. A second signal to end kills,
    /// which is safe at any moment.
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

/// Ends what is under way, with all children. Intents are written down: the next run resolves what came of them.
pub(crate) fn end_children() {
    end_all(CHILDREN_PATIENCE);
}
