//! A recording of `run --record`: what was asked of the farm becomes a workload.
//!
//! A queue status has counts, not steps. From one observation to the next, with `b` steps of a kind built:
//!
//! ```text
//! new = waiting + running + b - (waiting + running before)
//! ```
//!
//! The steps that a machine built have, together, the time that its total grew by: mostly it is one step, and its
//! duration is then known. The n-th new step of a kind gets the n-th such duration; steps that were not built in the
//! recording get the mean. A step enters the queue here when it became runnable: what it waited for is not known.

use std::collections::BTreeMap;

use planner::{DemandKey, Host, MachineType, Queue, QueueStatus, Snapshot, Timestamp};

use super::{ImportError, Imported};
use crate::engine::Millis;
use crate::workload::{LONGEST_STEP, NewStep, WorkloadBuilder};

/// Of a step if no machine built one in the recording.
const UNKNOWN_DURATION: Millis = Millis::from_minutes(2);

/// More new steps than this at one moment are a mistake in a count.
const MOST_NEW: u64 = 1_000_000;

/// What is known of a kind of step.
#[derive(Clone, Debug, Default)]
struct Kind {
    /// Waiting and running steps in the last status, and those that ran.
    there: u64,
    running: u64,
    /// When steps became runnable.
    arrivals: Vec<Timestamp>,
    durations: Vec<Millis>,
    /// Steps that left the queue without being built: canceled or aborted ones.
    vanished: u64,
}

/// The counts of a machine in the last status.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    steps: u64,
    seconds: u64,
}

#[derive(Clone, Debug, Default)]
struct Reader {
    kinds: BTreeMap<DemandKey, Kind>,
    machines: BTreeMap<Host, Counts>,
    first: Option<Timestamp>,
    /// Observations without a queue status.
    unknown: u64,
}

/// Reads the snapshots of a recording, in their order.
///
/// # Errors
/// If there are too many steps.
pub fn recording(snapshots: impl IntoIterator<Item = Snapshot>) -> Result<Imported, ImportError> {
    let mut reader = Reader::default();
    for snapshot in snapshots {
        match &snapshot.queue {
            QueueStatus::Up(queue) => reader.observe(&snapshot, queue),
            QueueStatus::Unavailable(_) => reader.unknown += 1,
        }
    }
    reader.finish()
}

impl Reader {
    fn observe(&mut self, snapshot: &Snapshot, queue: &Queue) {
        let built = self.count_built(snapshot, queue);
        self.first.get_or_insert(snapshot.taken_at);
        let demand: BTreeMap<_, _> = queue.demand.iter().map(|one| (&one.kind, one)).collect();
        for key in demand.keys() {
            self.kinds.entry((*key).clone()).or_default();
        }
        for (key, kind) in &mut self.kinds {
            let counts = demand.get(key).map(|one| (one.runnable, one.running));
            let (waiting, running) = counts.unwrap_or((0, 0));
            let there = waiting.saturating_add(running);
            let with_built = there.saturating_add(built.get(key).copied().unwrap_or(0));
            let arrived = with_built.saturating_sub(kind.there).min(MOST_NEW);
            kind.arrivals.extend((0..arrived).map(|_| snapshot.taken_at));
            let vanished = kind.there.saturating_sub(with_built);
            kind.vanished = kind.vanished.saturating_add(vanished);
            (kind.there, kind.running) = (there, running);
        }
    }

    /// The steps of each kind that were built since the last status; notes their durations.
    fn count_built(&mut self, snapshot: &Snapshot, queue: &Queue) -> BTreeMap<DemandKey, u64> {
        let mut built: BTreeMap<DemandKey, u64> = BTreeMap::new();
        for machine in &queue.machines {
            let seconds = machine.total_step_time.map_or(0, |time| time.0);
            let Some(steps) = machine.steps_done else { continue };
            let now = Counts { steps, seconds };
            let before = self.machines.insert(machine.host.clone(), now).unwrap_or_default();
            // The first status counts steps from before the recording; lower counts are of another queue runner.
            let is_first = self.first.is_none();
            let new = steps.checked_sub(before.steps).filter(|new| *new > 0 && !is_first);
            let Some((new, time)) = new.zip(seconds.checked_sub(before.seconds)) else { continue };
            let machine_type = type_of(snapshot, &machine.host);
            for _ in 0..new.min(MOST_NEW) {
                let Some(key) = self.likely_kind(machine_type, &built) else { break };
                let kind = self.kinds.entry(key.clone()).or_default();
                let duration = Millis(time.saturating_mul(1000) / new);
                kind.durations.push(duration.min(LONGEST_STEP));
                *built.entry(key).or_default() += 1;
            }
        }
        built
    }

    /// The kind of which most steps ran, of those that the machine's type names the system of if there are any.
    fn likely_kind(
        &self,
        machine_type: Option<&MachineType>,
        built: &BTreeMap<DemandKey, u64>,
    ) -> Option<DemandKey> {
        let left = |(key, kind): &(&DemandKey, &Kind)| {
            kind.running.saturating_sub(built.get(key).copied().unwrap_or(0))
        };
        let named = |key: &DemandKey| {
            let systems =
                machine_type.map_or("", |name| name.as_str().split(':').next().unwrap_or(""));
            systems.split(',').any(|system| system == key.system.as_str())
        };
        let running = self.kinds.iter().filter(|one| left(one) > 0);
        let best = running.max_by_key(|one| (named(one.0), left(one)));
        best.or_else(|| self.kinds.iter().find(|(key, _)| named(key))).map(|(key, _)| key.clone())
    }

    fn finish(self) -> Result<Imported, ImportError> {
        let mut builder = WorkloadBuilder::new();
        let mut id = 0;
        let begin = self.first.unwrap_or_default();
        let vanished = self.kinds.values().map(|kind| kind.vanished);
        let vanished = vanished.fold(0, u64::saturating_add);
        for (key, kind) in self.kinds {
            let mean = kind.mean();
            let durations = kind.durations.into_iter().chain(std::iter::repeat(mean));
            for (at, duration) in kind.arrivals.into_iter().zip(durations) {
                id += 1;
                let submit = Millis::from_seconds(at.since(begin).0);
                builder.add(NewStep::new(id, submit, duration, key.clone(), "recorded:steps"))?;
            }
        }
        let mut left_out = Vec::new();
        if vanished > 0 {
            left_out
                .push(format!("that {vanished} steps were canceled or aborted: they are built"));
        }
        if self.unknown > 0 {
            left_out.push(format!("{} observations without a queue status", self.unknown));
        }
        Ok(Imported { workload: builder.finish()?, left_out })
    }
}

impl Kind {
    fn mean(&self) -> Millis {
        let sum: u64 = self.durations.iter().map(|length| length.0).sum();
        let mean = sum.checked_div(self.durations.len() as u64);
        mean.map_or(UNKNOWN_DURATION, Millis)
    }
}

/// The type of our machine at `host`.
fn type_of<'a>(snapshot: &'a Snapshot, host: &Host) -> Option<&'a MachineType> {
    let mut machines = snapshot.machines.iter();
    let found = machines.find(|machine| {
        machine.address.as_ref() == Some(host) || machine.host_name.as_ref() == Some(host)
    });
    found.map(|machine| &machine.machine_type)
}

#[cfg(test)]
mod tests {
    use planner::{Demand, Machine, MachineName, QueueMachine, Seconds, System};

    use super::*;

    /// `demand`: system, waiting, running. `machines`: address, steps, seconds.
    fn snapshot(at: u64, demand: &[(&str, u64, u64)], machines: &[(&str, u64, u64)]) -> Snapshot {
        let demand = demand.iter().map(|(system, runnable, running)| Demand {
            runnable: *runnable,
            running: *running,
            ..Demand::none_of(DemandKey { system: System::new(system), features: [].into() })
        });
        let counted = machines.iter().map(|(host, steps, seconds)| QueueMachine {
            steps_done: Some(*steps),
            total_step_time: Some(Seconds(*seconds)),
            ..QueueMachine::new(Host::new(host))
        });
        let queue =
            Queue { demand: demand.collect(), machines: counted.collect(), ..Queue::default() };
        let ours = machines.iter().map(|(host, ..)| Machine {
            address: Some(Host::new(host)),
            ..Machine::requested(MachineName::new(host), MachineType::new(*host))
        });
        Snapshot {
            machines: ours.collect(),
            ..Snapshot::new(Timestamp(at), QueueStatus::Up(queue))
        }
    }

    /// Submission, duration and system of each step, in seconds.
    fn steps(snapshots: Vec<Snapshot>) -> Vec<(u64, u64, String)> {
        let workload = recording(snapshots).unwrap().workload;
        let steps = workload.steps().iter().map(|step| {
            let kind = workload.kind_of(step).to_string();
            (step.submit().0 / 1000, step.duration().0 / 1000, kind)
        });
        steps.collect()
    }

    #[test]
    fn steps_enter_when_they_are_seen_and_take_what_machines_counted() {
        let found = steps(vec![
            snapshot(1000, &[("x", 2, 0)], &[]),
            snapshot(1010, &[("x", 1, 1), ("y", 1, 0)], &[("x", 7, 100)]),
            snapshot(1020, &[("x", 0, 1), ("y", 0, 1)], &[("x", 8, 112), ("y", 0, 0)]),
            snapshot(1100, &[("x", 3, 0)], &[("x", 9, 162), ("y", 1, 60)]),
        ]);
        // The counts of `x` in its first status are new: no machine was known then.
        let x = |submit, duration| (submit, duration, "x".to_owned());
        assert_eq!(
            found.iter().filter(|one| one.2 == "y").collect::<Vec<_>>(),
            [&(10, 60, "y".to_owned())]
        );
        let of_x: Vec<_> = found.iter().filter(|one| one.2 == "x").cloned().collect();
        assert_eq!(of_x.iter().filter(|one| one.0 == 100).count(), 3, "{of_x:?}");
        assert!(of_x.contains(&x(0, 14)), "seven steps in 100 s: {of_x:?}");
    }

    #[test]
    fn counts_from_before_do_not_count_and_no_status_changes_nothing() {
        let down = Snapshot::new(Timestamp(1005), QueueStatus::Unavailable("down".to_owned()));
        let imported = recording(vec![
            snapshot(1000, &[("x", 0, 1)], &[("x", 70, 1000)]),
            down,
            snapshot(1010, &[("x", 0, 0)], &[("x", 71, 1030)]),
            snapshot(1020, &[("x", 4, 0)], &[("x", 2, 5)]),
            snapshot(1030, &[("x", 1, 0)], &[("x", 2, 5)]),
        ])
        .unwrap();
        let durations: Vec<_> =
            imported.workload.steps().iter().map(|step| step.duration().0).collect();
        assert_eq!(durations, [30_000; 5], "the mean for those that were not built");
        assert_eq!(
            imported.left_out,
            [
                "that 3 steps were canceled or aborted: they are built",
                "1 observations without a queue status"
            ]
        );
        assert_eq!(recording(Vec::new()).unwrap().workload.steps().len(), 0);
    }
}
