//! Gauges for Prometheus. Every series of a configured type always exists.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use planner::{Machine, MachineState, MachineType, QueueStatus, Sizing, Warning};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::board::{Board, View};
use super::counters::{Labels, OPERATIONS, dollars, float, hourly_cost, of_type};
use crate::status::total;

const STATES: [MachineState; 8] = [
    MachineState::Requested,
    MachineState::Creating,
    MachineState::Starting,
    MachineState::Up,
    MachineState::Unreachable,
    MachineState::Stopping,
    MachineState::Stopped,
    MachineState::Failed,
];

/// Orders that stay in effect.
const ORDERS: [&str; 4] = ["keep", "drain", "release", "pause"];

/// Reads the board at every scrape.
#[derive(Debug)]
pub(super) struct Gauges(pub(super) Arc<Board>);

impl Collector for Gauges {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let view = self.0.view();
        let mut out = Output { encoder, view: &view };
        out.of_the_loop(&self.0)?;
        out.queue()?;
        out.machines()?;
        out.types()
    }
}

struct Output<'a, 'v> {
    encoder: DescriptorEncoder<'a>,
    view: &'v View,
}

impl Output<'_, '_> {
    fn of_the_loop(&mut self, board: &Board) -> fmt::Result {
        let build = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        self.family("build_info", "The version that runs; always 1", [(build, 1u64)])?;
        self.one(
            "last_progress_timestamp_seconds",
            "When the control loop last progressed, in seconds since 1970; it does so every second",
            board.turned_at().0,
        )?;
        self.one(
            "active",
            "1 while this host is the one that acts, 0 while it stands by for another (lease)",
            u64::from(board.active()),
        )?;
        self.one(
            "configuration_good",
            "1 while the configuration file is the active configuration, 0 after a refused reload",
            u64::from(board.refused().is_none()),
        )?;
        self.one(
            "storage_up",
            "1 while the state database can be written; while 0, nothing is created or released",
            u64::from(self.view.snapshot.storage_error.is_none()),
        )
    }

    fn queue(&mut self) -> fmt::Result {
        let (snapshot, status_at) = (&self.view.snapshot, self.view.status_at);
        let queue = match &snapshot.queue {
            QueueStatus::Up(queue) => Some(queue),
            QueueStatus::Unavailable(_) => None,
        };
        self.one("queue_up", "1 while the queue status is available", u64::from(queue.is_some()))?;
        self.one(
            "queue_status_timestamp_seconds",
            "When the queue runner last answered, in seconds since 1970; 0 before the first answer",
            status_at.unwrap_or_default().0,
        )?;
        self.one(
            "clock_offset_seconds",
            "Seconds by which the queue runner's clock is ahead of this host's",
            queue.map_or(0, |queue| queue.clock_offset_seconds),
        )?;
        let demand = || queue.into_iter().flat_map(|queue| &queue.demand);
        let runnable = total(demand().map(|demand| demand.runnable));
        self.one("queue_runnable_steps", "Runnable steps of all kinds", runnable)?;
        let waits = total(demand().filter_map(|demand| demand.wait_seconds));
        self.one(
            "queue_waiting_seconds",
            "Total wait of the runnable steps in seconds, as far as the queue runner reports it",
            waits,
        )?;
        let longest = demand().filter_map(mean_wait).fold(0.0, f64::max);
        self.one(
            "queue_longest_mean_wait_seconds",
            "Mean wait in seconds of the kind of runnable steps that waits longest",
            longest,
        )?;
        let unserved = self.view.plan.warnings.iter().filter_map(|warning| match warning {
            Warning::NoPoolFor { runnable, .. } => Some(*runnable),
            _ => None,
        });
        let help = "Runnable steps that no type in systemTypes builds";
        self.one("unserved_steps", help, total(unserved))
    }

    fn machines(&mut self) -> fmt::Result {
        let view = self.view;
        let mut states = BTreeMap::new();
        let mut operations: BTreeMap<String, u64> =
            OPERATIONS.iter().map(|operation| (operation.to_string(), 0)).collect();
        for machine_type in view.types() {
            for state in STATES {
                states.insert((machine_type, state), 0u64);
            }
        }
        for machine in &view.snapshot.machines {
            *states.entry((&machine.machine_type, machine.state)).or_default() += 1;
            if let Some(it) = machine.memory.under_way {
                *operations.entry(it.operation.to_string()).or_default() += 1;
            }
        }
        let states = states.into_iter().map(|((machine_type, state), number)| {
            let mut labels = of_type(machine_type);
            labels.push(("state", state.to_string()));
            (labels, number)
        });
        self.family(
            "machines",
            "Machines by type and by the state that their provider reports",
            states,
        )?;
        let mut orders: BTreeMap<_, u64> = ORDERS.iter().map(|command| (*command, 0)).collect();
        for order in &view.plan.orders {
            *orders.entry(order.kind.verb()).or_default() += 1;
        }
        let orders =
            orders.into_iter().map(|(command, n)| (vec![("command", command.to_owned())], n));
        self.family("orders", "Orders in effect, by command", orders)?;
        let operations = operations.into_iter().map(|(name, n)| (vec![("operation", name)], n));
        self.family("operations", "Running operations", operations)
    }

    fn types(&mut self) -> fmt::Result {
        let view = self.view;
        let counted = |is_it: fn(&View, &Machine) -> u64| {
            move |machine_type: &MachineType| {
                let of_type = view.snapshot.machines.iter();
                let of_type = of_type.filter(|machine| machine.machine_type == *machine_type);
                total(of_type.map(|machine| is_it(view, machine)))
            }
        };
        self.by_type("ready_machines", "Ready machines", counted(is_ready))?;
        self.by_type(
            "busy_machines",
            "Machines that are building",
            counted(|view, machine| u64::from(jobs(view, machine) > 0)),
        )?;
        self.by_type("slots", "Build slots of the ready machines", counted(slots))?;
        self.by_type("busy_slots", "Builds that run", counted(jobs))?;
        self.by_type(
            "failing_machines",
            "Machines with a failed last operation",
            counted(|_, m| u64::from(m.memory.failing.is_some())),
        )?;
        self.by_type(
            "unhealthy_machines",
            "Ready machines that do not work",
            counted(|view, m| u64::from(view.plan.unhealthy.contains_key(&m.name))),
        )?;
        self.by_type(
            "pending_releases",
            "Machines on their way out",
            counted(|_, m| u64::from(m.memory.leaving.is_some())),
        )?;
        self.by_type(
            "provider_up",
            "0 while the type's machines cannot be listed",
            |machine_type| u64::from(!view.snapshot.unlistable.contains_key(machine_type)),
        )?;
        self.by_type(
            "backoff_until_timestamp_seconds",
            "No machine of the type is created before this time, in seconds since 1970; 0 without a back-off",
            |t| view.snapshot.back_off.get(t).map_or(0, |back_off| back_off.until.0),
        )?;
        let costs = hourly_cost(view);
        self.by_type(
            "hourly_cost_dollars",
            "Dollars an hour that the running machines cost",
            |t| costs.get(t).copied().map_or(0.0, dollars),
        )?;
        self.sizing()
    }

    fn sizing(&mut self) -> fmt::Result {
        let view = self.view;
        let sized = |value: fn(&Sizing) -> u64| {
            move |machine_type: &MachineType| view.plan.sizing.get(machine_type).map_or(0, value)
        };
        let limit = |value: fn(&planner::PoolPolicy) -> u32| {
            move |t: &MachineType| view.policy.pools.get(t).map_or(0, |p| u64::from(value(p)))
        };
        self.by_type(
            "runnable_steps",
            "Steps that wait for a machine of the type",
            sized(|s| s.runnable.unwrap_or(0)),
        )?;
        self.by_type(
            "wanted_machines",
            "Machines that the waiting steps want",
            sized(|s| s.wanted),
        )?;
        self.by_type(
            "allowed_machines",
            "Wanted machines within the limits",
            sized(|s| u64::from(s.allowed)),
        )?;
        self.by_type(
            "deferred_machines",
            "New machines that have to wait",
            sized(|s| s.deferred.as_ref().map_or(0, |deferred| u64::from(deferred.machines))),
        )?;
        self.by_type("min_machines", "minMachines of the type", limit(|pool| pool.min_machines))?;
        self.by_type("max_machines", "maxMachines of the type", limit(|pool| pool.max_machines))
    }

    fn by_type<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        value_of: impl Fn(&MachineType) -> V,
    ) -> fmt::Result {
        let view = self.view;
        self.family(name, help, view.types().map(|t| (of_type(t), value_of(t))))
    }

    fn one(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        let encoder = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    fn family<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, V)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn is_ready(_: &View, machine: &Machine) -> u64 {
    u64::from(machine.memory.ready_since.is_some())
}

fn slots(view: &View, machine: &Machine) -> u64 {
    let pool = view.policy.pools.get(&machine.machine_type);
    is_ready(view, machine) * pool.map_or(0, |pool| u64::from(pool.max_jobs))
}

/// Builds running on `machine`, if known.
pub(super) fn jobs(view: &View, machine: &Machine) -> u64 {
    match &view.snapshot.queue {
        QueueStatus::Up(queue) => planner::jobs_of(queue, machine).unwrap_or(0),
        QueueStatus::Unavailable(_) => 0,
    }
}

fn mean_wait(demand: &planner::Demand) -> Option<f64> {
    (demand.runnable > 0).then_some(())?;
    Some(float(demand.wait_seconds?) / float(demand.runnable))
}
