//! Counters since the start: creations, releases, failures, durations and cost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;

use planner::{MachineName, MachineType, Money, Operation, Timestamp, UnderWay};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use reconciler::{Happening, HistoryEntry, OperationErrorKind};

use super::board::View;

/// Label names and values.
pub(super) type Labels = Vec<(&'static str, String)>;

/// All of them, so that every series exists before the first failure.
pub(super) const OPERATIONS: [Operation; 7] = [
    Operation::Create,
    Operation::Start,
    Operation::Deploy,
    Operation::KeepAlive,
    Operation::Drain,
    Operation::Stop,
    Operation::Destroy,
];
const FAILURES: [OperationErrorKind; 4] = [
    OperationErrorKind::Capacity,
    OperationErrorKind::TimedOut,
    OperationErrorKind::Unreachable,
    OperationErrorKind::Failed,
];
/// Buckets in seconds: from resuming a QEMU snapshot to a slow cloud.
const BUCKETS: [f64; 12] =
    [1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0];

type Durations = Family<Labels, Histogram, fn() -> Histogram>;

/// Clones share their counts.
#[derive(Clone, Debug)]
pub(super) struct Counters {
    creations: Family<Labels, Counter>,
    releases: Family<Labels, Counter>,
    failures: Family<Labels, Counter>,
    deployments: Family<Labels, Counter>,
    reloads: Counter,
    time_to_ready: Durations,
    operations: Durations,
    cost: Family<Labels, Counter<f64, AtomicU64>>,
    /// Types that have series.
    types: BTreeSet<MachineType>,
    under_way: BTreeMap<MachineName, (MachineType, UnderWay)>,
    leaving: BTreeMap<MachineName, &'static str>,
    accrued_at: Option<Timestamp>,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            creations: Family::default(),
            releases: Family::default(),
            failures: Family::default(),
            deployments: Family::default(),
            reloads: Counter::default(),
            time_to_ready: Family::new_with_constructor(histogram),
            operations: Family::new_with_constructor(histogram),
            cost: Family::default(),
            types: BTreeSet::new(),
            under_way: BTreeMap::new(),
            leaving: BTreeMap::new(),
            accrued_at: None,
        }
    }
}

impl Counters {
    /// Registers all metrics.
    pub(super) fn register(&self, registry: &mut Registry) {
        let all = self.clone();
        registry.register("creations", "Machines created by their providers", all.creations);
        registry.register(
            "releases",
            "Machines stopped or destroyed, by the reason for their release",
            all.releases,
        );
        registry.register(
            "operation_failures",
            "Operations on machines that failed or timed out",
            all.failures,
        );
        registry.register(
            "deployments",
            "Deployments after which a machine was ready",
            all.deployments,
        );
        registry.register("reloads", "Configuration reloads", all.reloads);
        registry.register(
            "time_to_ready_seconds",
            "Seconds from a machine's creation or start until it was ready",
            all.time_to_ready,
        );
        registry.register(
            "operation_duration_seconds",
            "Duration of operations on machines in seconds, including failed ones",
            all.operations,
        );
        registry.register(
            "cost_dollars",
            "Cost of machines in dollars since the provisioner started, by dollarsPerHour or their provider's price",
            all.cost,
        );
    }

    /// Counts an event.
    pub(super) fn count(&mut self, happened: &[HistoryEntry]) {
        for entry in happened {
            if matches!(entry.what, Happening::Configured) {
                self.reloads.inc();
            }
            if let Some(machine_type) = &entry.machine_type {
                self.count_one(machine_type, entry);
            }
        }
    }

    fn count_one(&mut self, machine_type: &MachineType, entry: &HistoryEntry) {
        match &entry.what {
            Happening::Created { .. } => {
                self.creations.get_or_create(&of_type(machine_type)).inc();
            }
            Happening::Ready { after } => {
                self.deployments.get_or_create(&of_type(machine_type)).inc();
                if let Some(after) = after {
                    let labels = of_type(machine_type);
                    self.time_to_ready.get_or_create(&labels).observe(float(after.0));
                }
            }
            Happening::Leaving { reason, .. } => {
                if let Some(name) = &entry.machine {
                    self.leaving.insert(name.clone(), reason.label());
                }
            }
            Happening::Stopped => self.released(machine_type, entry, "stop"),
            Happening::Destroyed => self.released(machine_type, entry, "destroy"),
            Happening::Failed { operation, kind, .. } => {
                self.failed(machine_type, *operation, *kind);
            }
            _ => {}
        }
    }

    fn released(&mut self, machine_type: &MachineType, entry: &HistoryEntry, how: &str) {
        let reason = entry.machine.as_ref().and_then(|name| self.leaving.remove(name));
        let mut labels = of_type(machine_type);
        labels.push(("how", how.to_owned()));
        labels.push(("reason", reason.unwrap_or("unknown").to_owned()));
        self.releases.get_or_create(&labels).inc();
    }

    fn failed(&self, machine_type: &MachineType, operation: Operation, kind: OperationErrorKind) {
        let mut labels = of_operation(machine_type, operation);
        labels.push(("kind", kind.to_string()));
        self.failures.get_or_create(&labels).inc();
    }

    /// Records operations that ended since the last view and the cost of machines, and adds the series of new types.
    pub(super) fn follow(&mut self, view: &View) {
        self.begin_series(view);
        let now = view.snapshot.taken_at;
        let mut under_way = BTreeMap::new();
        for machine in &view.snapshot.machines {
            if let Some(it) = machine.memory.under_way {
                under_way.insert(machine.name.clone(), (machine.machine_type.clone(), it));
            }
        }
        for (name, (machine_type, it)) in std::mem::take(&mut self.under_way) {
            if under_way.get(&name).is_none_or(|(_, now)| *now != it) {
                let labels = of_operation(&machine_type, it.operation);
                let took = float(now.since(it.since).0);
                self.operations.get_or_create(&labels).observe(took);
            }
        }
        self.under_way = under_way;
        self.accrue(view);
    }

    fn accrue(&mut self, view: &View) {
        let now = view.snapshot.taken_at;
        let seconds = self.accrued_at.replace(now).map_or(0, |before| now.since(before).0);
        for (machine_type, hourly) in hourly_cost(view) {
            let dollars = dollars(hourly) * float(seconds) / 3600.0;
            self.cost.get_or_create(&of_type(&machine_type)).inc_by(dollars);
        }
    }

    /// Creates all series of a type with zeros.
    fn begin_series(&mut self, view: &View) {
        for machine_type in view.types() {
            if !self.types.insert(machine_type.clone()) {
                continue;
            }
            let labels = of_type(machine_type);
            let _ = self.creations.get_or_create(&labels);
            let _ = self.deployments.get_or_create(&labels);
            let _ = self.time_to_ready.get_or_create(&labels);
            let _ = self.cost.get_or_create(&labels);
            for operation in OPERATIONS {
                let labels = of_operation(machine_type, operation);
                let _ = self.operations.get_or_create(&labels);
                for kind in FAILURES {
                    let mut labels = labels.clone();
                    labels.push(("kind", kind.to_string()));
                    let _ = self.failures.get_or_create(&labels);
                }
            }
            for how in ["stop", "destroy"] {
                let mut labels = labels.clone();
                labels.push(("how", how.to_owned()));
                labels.push(("reason", "idle".to_owned()));
                let _ = self.releases.get_or_create(&labels);
            }
        }
    }
}

/// Cost per hour of the running machines of each type with a known price.
pub(super) fn hourly_cost(view: &View) -> BTreeMap<MachineType, Money> {
    let mut costs: BTreeMap<_, _> =
        view.types().map(|machine_type| (machine_type.clone(), Money(0))).collect();
    for machine in view.snapshot.machines.iter().filter(|machine| machine.state.is_live()) {
        let price = view.snapshot.price_of(&view.policy, machine).unwrap_or_default();
        let cost = costs.entry(machine.machine_type.clone()).or_default();
        *cost = cost.plus(price);
    }
    costs
}

impl View {
    /// Configured types, and those of existing machines.
    pub(super) fn types(&self) -> impl Iterator<Item = &MachineType> {
        let machines = self.snapshot.machines.iter().map(|machine| &machine.machine_type);
        let types: BTreeSet<_> = self.policy.pools.keys().chain(machines).collect();
        types.into_iter()
    }
}

pub(super) fn of_type(machine_type: &MachineType) -> Labels {
    vec![("type", machine_type.to_string())]
}

fn of_operation(machine_type: &MachineType, operation: Operation) -> Labels {
    vec![("type", machine_type.to_string()), ("operation", operation.to_string())]
}

/// For the text format; counts are far below 2^53.
#[allow(clippy::cast_precision_loss, reason = "counts and seconds are far below 2^53")]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}

pub(super) fn dollars(money: Money) -> f64 {
    float(money.0) / 1e6
}
