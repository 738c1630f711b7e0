//! The real world, put together from its adapters.

use std::time::{SystemTime, UNIX_EPOCH};

use planner::{MachineName, MachinesFile, QueueStatus, Timestamp};
use reconciler::world::{
    Clock, Intent, IntentLog, Inventory, LogError, MachineProvider, MachinesFileSink, Outcome,
    PublishError, Published, QueueSource, Task,
};

use crate::config::Config;
use crate::fleet::Fleet;
use crate::lock::Access;
use crate::machines_file::Sink;
use crate::queue;

/// The system's clock. One before 1970 is as wrong as it can be; zero makes every time "not over yet".
pub(crate) fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// The system's clock, the queue runner, the providers and the machines file of one configuration.
pub struct RealWorld {
    queue: Box<dyn QueueSource + Send>,
    fleet: Fleet,
    sink: Sink,
}

impl RealWorld {
    /// The world of `config`. Nothing is asked or changed yet.
    ///
    /// # Errors
    /// When the state directory's records cannot be read.
    pub fn open(config: &Config, access: Access) -> Result<Self, LogError> {
        let limit = config.limits.status_timeout;
        Ok(Self {
            queue: queue::source(&config.queue, limit, &config.state_dir, access),
            fleet: Fleet::open(config, access)?,
            sink: Sink::new(config.machines_file.clone(), limit),
        })
    }
}

impl Clock for RealWorld {
    fn now(&mut self) -> Timestamp {
        now()
    }
}

impl QueueSource for RealWorld {
    fn queue_status(&mut self) -> QueueStatus {
        self.queue.queue_status()
    }
}

impl MachineProvider for RealWorld {
    fn list(&mut self) -> Inventory {
        self.fleet.list()
    }

    fn perform(&mut self, tasks: &[Task]) -> Vec<Outcome> {
        self.fleet.perform(tasks)
    }
}

impl MachinesFileSink for RealWorld {
    fn publish(&mut self, file: &MachinesFile) -> Result<Published, PublishError> {
        self.sink.publish(file)
    }
}

impl IntentLog for RealWorld {
    fn intents(&mut self) -> Result<Vec<Intent>, LogError> {
        self.fleet.intents()
    }

    fn record(&mut self, intents: &[Intent]) -> Result<(), LogError> {
        self.fleet.record(intents)
    }

    fn forget(&mut self, names: &[MachineName]) -> Result<(), LogError> {
        self.fleet.forget(names)
    }
}
