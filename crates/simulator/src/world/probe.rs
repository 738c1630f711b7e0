//! Measures over- and under-provisioning between events.

use std::collections::BTreeMap;

use planner::{MachineType, Policy};

use crate::cloud::Capacity;
use crate::engine::Millis;
use crate::queue_runner::{Offer, QueueRunner};
use crate::workload::Workload;

/// Provisioning quality of a type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provisioning {
    /// Time in which steps waited that its machines can build, and none of these machines was idle.
    pub under: Millis,
    /// Time in which a machine was ready and idle, and no step waited that it can build.
    pub over: Millis,
}

/// The largest of a number over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// The number.
    pub count: u64,
    /// When it was first that large.
    pub at: Millis,
}

impl Peak {
    fn add(&mut self, count: u64, at: Millis) {
        if count > self.count {
            *self = Self { count, at };
        }
    }
}

/// The largest farm and the longest queue, of all types together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Machines that run or begin to.
    pub machines: Peak,
    /// Runnable steps.
    pub waiting: Peak,
}

/// Measures [`Provisioning`] and [`Peaks`].
#[derive(Clone, Debug)]
pub(super) struct Probe {
    counted_until: Millis,
    provisioning: BTreeMap<MachineType, Provisioning>,
    pools: BTreeMap<MachineType, Pool>,
    /// Machines that run or begin to, of all types.
    machines: u64,
    peaks: Peaks,
}

#[derive(Clone, Debug, Default)]
struct Pool {
    place: u16,
    /// Kinds of steps that its machines build.
    kinds: Vec<usize>,
    min_machines: u64,
    ready: u64,
    busy: u64,
    /// Since when more than `minMachines` machines have been ready while nothing was built or waited.
    idle_since: Option<Millis>,
}

impl Probe {
    pub(super) fn new(policy: &Policy, workload: &Workload) -> Self {
        let pools = (0..).zip(&policy.pools).map(|(place, (name, pool))| {
            let offer = Offer::from(pool);
            let kinds = workload.kinds().iter().enumerate();
            let kinds = kinds.filter(|(_, kind)| offer.supports(kind)).map(|(at, _)| at);
            let min_machines = u64::from(pool.min_machines);
            (name.clone(), Pool { place, kinds: kinds.collect(), min_machines, ..Pool::default() })
        });
        let pools: BTreeMap<_, _> = pools.collect();
        Self {
            counted_until: Millis::ZERO,
            provisioning: pools
                .keys()
                .map(|name| (name.clone(), Provisioning::default()))
                .collect(),
            pools,
            machines: 0,
            peaks: Peaks::default(),
        }
    }

    pub(super) fn provisioning(&self) -> &BTreeMap<MachineType, Provisioning> {
        &self.provisioning
    }

    /// What lasted for some time: a machine that was created and failed in the same moment does not count.
    pub(super) fn peaks(&self) -> Peaks {
        self.peaks
    }

    /// Types with more ready machines than `minMachines` while nothing is built or waits, and since when.
    pub(super) fn idle_since(&self) -> impl Iterator<Item = (&MachineType, Millis)> {
        self.pools.iter().filter_map(|(name, pool)| Some((name, pool.idle_since?)))
    }

    /// Another configuration was loaded.
    pub(super) fn reconfigured(&mut self, policy: &Policy) {
        for (name, pool) in &mut self.pools {
            let configured = policy.pools.get(name);
            pool.min_machines = configured.map_or(0, |pool| u64::from(pool.min_machines));
            pool.idle_since = None;
        }
    }

    /// The index of a type in the policy.
    pub(super) fn place_of(&self, kind: &MachineType) -> Option<u16> {
        self.pools.get(kind).map(|pool| pool.place)
    }

    /// Time advanced to `now` with everything unchanged.
    pub(super) fn count_until(&mut self, now: Millis, queue_runner: &QueueRunner) {
        let length = now.since(self.counted_until);
        if length == Millis::ZERO {
            return;
        }
        let before = std::mem::replace(&mut self.counted_until, now);
        self.peaks.machines.add(self.machines, before);
        self.peaks.waiting.add(queue_runner.waiting_and_running().0, before);
        for (pool, provisioning) in self.pools.values_mut().zip(self.provisioning.values_mut()) {
            let waits = pool.kinds.iter().any(|&kind| queue_runner.runnable(kind) > 0);
            let idles = pool.ready > pool.busy;
            let is_idle = !waits && pool.busy == 0 && pool.ready > pool.min_machines;
            pool.idle_since = is_idle.then(|| pool.idle_since.unwrap_or(before));
            match (waits, idles) {
                (true, false) => provisioning.under += length,
                (false, true) => provisioning.over += length,
                (true, true) | (false, false) => {}
            }
        }
    }

    /// A machine begins to be created.
    pub(super) fn created(&mut self) {
        self.machines += 1;
    }

    pub(super) fn changed(&mut self, kind: &MachineType, before: Capacity, after: Capacity) {
        if before == after {
            return;
        }
        self.machines = self.machines + u64::from(after.runs) - u64::from(before.runs);
        let Some(pool) = self.pools.get_mut(kind) else { return };
        pool.ready = pool.ready + u64::from(after.ready) - u64::from(before.ready);
        pool.busy = pool.busy + u64::from(after.busy) - u64::from(before.busy);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::num::NonZeroU32;

    use planner::{
        Demand, DemandKey, Feature, PoolPolicy, Queue, QueueStatus, Seconds, Snapshot, System, Tag,
        Timestamp, plan,
    };
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};

    use super::*;

    const SYSTEMS: [&str; 4] = ["x86_64-linux", "i686-linux", "aarch64-linux", "riscv64-linux"];

    fn features() -> impl Strategy<Value = BTreeSet<Feature>> {
        subsequence(vec!["kvm", "big-parallel", "benchmark"], 0..=3)
            .prop_map(|names| names.into_iter().map(Feature::new).collect())
    }

    fn kinds() -> impl Strategy<Value = DemandKey> {
        (select(SYSTEMS.to_vec()), features(), any::<bool>()).prop_map(
            |(system, mut features, local)| {
                if local {
                    features.insert(Feature::new("local"));
                }
                DemandKey { system: System::new(system), features }
            },
        )
    }

    fn pools() -> impl Strategy<Value = PoolPolicy> {
        let systems = subsequence(SYSTEMS.to_vec(), 1..=3);
        (systems, features(), features(), 0..3_u64).prop_map(
            |(systems, mandatory, supported, ignored)| {
                let mut pool = PoolPolicy::new(systems.into_iter().map(System::new).collect());
                pool.max_machines = 1;
                pool.runnables_per_machine = NonZeroU32::MIN;
                pool.ignored_runnables = ignored;
                (pool.mandatory_features, pool.supported_features) = (mandatory, supported);
                pool
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// The planner wants a machine for a step exactly where the model's queue runner assigns it that step.
        #[test]
        fn planner_and_model_agree_on_who_builds_what(pool in pools(), kind in kinds(), runnable in 1..5_u64) {
            let name = MachineType::new("pool");
            let policy = Policy::new(Tag::new("sim"), [(name.clone(), pool.clone())].into());
            let demand = vec![Demand { runnable, ..Demand::none_of(kind.clone()) }];
            let queue = Queue { uptime: Seconds(100_000), demand, ..Queue::default() };
            let snapshot = Snapshot::new(Timestamp(1_000_000), QueueStatus::Up(queue));
            let is_wanted = !plan(&policy, &snapshot).provision.is_empty();
            let is_enough = runnable > pool.ignored_runnables;
            prop_assert_eq!(is_wanted, Offer::from(&pool).supports(&kind) && is_enough);
        }
    }
}
