//! The only provider of a configuration, without the loop: it does what a test requests.
#![allow(clippy::unwrap_used, dead_code, reason = "a test may, and does not use all of it")]

use std::thread;
use std::time::Duration;

use adapters::config::parse;
use adapters::providers::{self, Provider, ProviderContext, Tried, build};
use planner::{Machine, Operation};
use reconciler::{OperationError, OperationErrorKind, conformance};
use serde_json::Value;

pub struct Direct {
    provider: Box<dyn Provider>,
    limit: Duration,
}

/// How the operations on one machine ended: the machine, or the first failure.
pub type Outcome = Result<Machine, OperationError>;

impl Direct {
    /// The provider of all types of `config`.
    pub fn of(config: &Value) -> Self {
        let config = parse(config).unwrap();
        let context = ProviderContext::new(config.policy.tag.clone(), config.state_dir.clone());
        let provider = build(&context, &config.providers).unwrap();
        Self { provider, limit: config.limits.deploy_timeout }
    }

    pub fn machines(&self) -> Vec<Machine> {
        self.provider.list(self.limit).unwrap()
    }

    /// Carries out `operations` on `machine`, one after the other.
    pub fn run(&self, machine: &Machine, operations: &[Operation]) -> Outcome {
        let mut machine = machine.clone();
        for operation in operations {
            machine = self.run_one(*operation, &machine)?;
        }
        Ok(machine)
    }

    fn run_one(&self, operation: Operation, machine: &Machine) -> Outcome {
        let (provider, limit) = (&self.provider, self.limit);
        let unchanged = |()| machine.clone();
        let ended = match operation {
            Operation::Create => {
                let token = machine.name.as_str();
                provider.create(&machine.name, &machine.machine_type, token, limit)
            }
            Operation::Deploy => provider.deploy(machine, limit),
            Operation::Start => provider.start(machine, limit).map(unchanged),
            Operation::Stop => provider.stop(machine, limit).map(unchanged),
            Operation::Destroy => provider.destroy(machine, limit).map(unchanged),
            // Not an operation of the provider.
            Operation::KeepAlive | Operation::Drain => Ok(machine.clone()),
        };
        ended.map_err(OperationError::from)
    }

    /// The same on several machines at the same time.
    pub fn run_all(&self, machines: &[Machine], operations: &[Operation]) -> Vec<Outcome> {
        thread::scope(|scope| {
            let runs: Vec<_> = machines
                .iter()
                .map(|machine| scope.spawn(|| self.run(machine, operations)))
                .collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        })
    }
}

impl conformance::Provider for Direct {
    fn list(&mut self) -> Result<Vec<Machine>, String> {
        self.provider.list(self.limit).map_err(|error| error.to_string())
    }

    fn perform(&mut self, operation: Operation, machine: &Machine) -> Outcome {
        self.run_one(operation, machine)
    }

    fn wait(&mut self) {
        thread::sleep(Duration::from_millis(200));
    }
}

pub fn is_timeout(outcome: &Outcome) -> bool {
    outcome.as_ref().is_err_and(|error| error.kind == OperationErrorKind::TimedOut)
}

/// What was refused, and why.
pub fn refused(tried: &[Tried]) -> Vec<String> {
    let refused = tried.iter().filter_map(|one| match &one.outcome {
        providers::Outcome::Refused(why) => Some(format!("{}: {why}", one.what)),
        providers::Outcome::Allowed | providers::Outcome::Skipped(_) => None,
    });
    refused.collect()
}
