//! The demand of each pool: waiting steps are assigned to pools, and pools are sized.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::experience::Experience;
use crate::names::{Feature, MachineType, System};
use crate::observed::Observed;
use crate::plan::Warning;
use crate::policy::{Policy, PoolPolicy};
use crate::sizing::{AllowedBy, Sizing};
use crate::snapshot::{Demand, DemandKey, MachineState, QueueStatus};
use crate::target_wait::{self, Load};
use crate::time::{Seconds, Timestamp};

/// How classic Hydra reports a step with `preferLocalBuild` (`createStep` in `queue-monitor.cc`). It does not
/// require the feature of a machine (`Machine::supportsStep` in `state.hh`): any machine of the system builds
/// such a step, and a machine with the mandatory feature `local` builds nothing else. Both queue runners
/// require every other feature by its name, including those that Nix itself knows (`kvm`, `nixos-test`,
/// `recursive-nix`, `uid-range`, `ca-derivations`). (Only the classic one requires `ca-derivations` on its
/// own, where output paths are not known beforehand.)
const PREFERS_LOCAL_BUILD: &str = "local";

/// Whether `feature` is the queue runner's word for `preferLocalBuild`: no feature that a machine must have.
pub fn prefers_local_build(feature: &Feature) -> bool {
    feature.as_str() == PREFERS_LOCAL_BUILD
}

/// The steps that one pool serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PoolDemand {
    pub(crate) runnable: u64,
    pub(crate) running: u64,
    pub(crate) last_active: Option<Timestamp>,
    /// The total wait of waiting steps, and the number of steps for which it is known.
    waited: (u64, u64),
}

/// The demand of each pool.
pub(crate) type DemandByPool<'a> = BTreeMap<&'a MachineType, PoolDemand>;

/// Assigns every kind of step to one pool and warns of steps that no pool can build.
pub(crate) fn demand_by_pool<'a>(
    policy: &'a Policy,
    queue: &QueueStatus,
    warnings: &mut Vec<Warning>,
) -> DemandByPool<'a> {
    let mut pools = DemandByPool::new();
    let QueueStatus::Up(queue) = queue else {
        return pools;
    };
    // The classic queue runner counts canceled steps by kind until its dispatcher runs again (only
    // `State::doDispatch` writes these counts), which may take minutes. It counts the total when it is asked.
    let most = queue.runnable_total.unwrap_or(u64::MAX);
    for demand in &queue.demand {
        match pool_for(policy, &demand.kind) {
            Some(pool) => pools.entry(pool).or_default().add(demand, most),
            None if demand.runnable.min(most) > 0 => {
                let runnable = demand.runnable.min(most);
                warnings.push(Warning::NoPoolFor { kind: demand.kind.clone(), runnable });
            }
            None => {}
        }
    }
    pools
}

impl PoolDemand {
    /// At most `most` steps can be runnable.
    pub(crate) fn add(&mut self, demand: &Demand, most: u64) {
        self.runnable = self.runnable.saturating_add(demand.runnable).min(most);
        self.running = self.running.saturating_add(demand.running);
        self.last_active = self.last_active.max(demand.last_active);
        if let Some(waited) = demand.wait_seconds {
            self.waited.0 = self.waited.0.saturating_add(waited);
            self.waited.1 = self.waited.1.saturating_add(demand.runnable);
        }
    }

    /// The average wait of a waiting step, if known.
    fn mean_wait(&self) -> Option<Seconds> {
        self.waited.0.checked_div(self.waited.1).map(Seconds)
    }
}

/// The pool that gets a step. Of several that can build it: one that names its system comes before one that
/// is only compatible; then the most specialized one (most mandatory features, then fewest other features);
/// then the first by name. So no step is counted twice.
pub fn pool_for<'a>(policy: &'a Policy, kind: &DemandKey) -> Option<&'a MachineType> {
    policy
        .pools
        .iter()
        .filter_map(|(name, pool)| Some((affinity(pool, kind)?, name)))
        .min()
        .map(|(_, name)| name)
}

/// Whether machines of a pool can build steps of `kind`.
pub(crate) fn can_build(pool: &PoolPolicy, kind: &DemandKey) -> bool {
    affinity(pool, kind).is_some()
}

/// Lower is nearer; `None`: the pool cannot build such a step.
fn affinity(pool: &PoolPolicy, kind: &DemandKey) -> Option<(SystemMatch, Reverse<usize>, usize)> {
    let system = system_match(pool, &kind.system)?;
    let mandatory_met = pool.mandatory_features.is_subset(&kind.features);
    let offered = kind.features.iter().all(|feature| {
        prefers_local_build(feature)
            || pool.mandatory_features.contains(feature)
            || pool.supported_features.contains(feature)
    });
    (mandatory_met && offered).then_some((
        system,
        Reverse(pool.mandatory_features.len()),
        pool.supported_features.len(),
    ))
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum SystemMatch {
    Named,
    Implied,
}

fn system_match(pool: &PoolPolicy, system: &System) -> Option<SystemMatch> {
    if pool.systems.contains(system) {
        Some(SystemMatch::Named)
    } else if system.as_str() == "i686-linux" && builds_i686(&pool.systems) {
        Some(SystemMatch::Implied)
    } else {
        None
    }
}

/// An x86_64-linux machine builds for i686-linux too, so no separate machines are needed for it.
pub(crate) fn builds_i686(systems: &[System]) -> bool {
    systems.iter().any(|system| system.as_str() == "x86_64-linux")
}

/// Running steps on machines that have finished none for longer than `target`.
fn stuck(machines: &[&Observed<'_>], target: Seconds) -> u64 {
    let is_stuck = |observed: &&&Observed<'_>| {
        observed.progress.is_some_and(|progress| observed.now.since(progress.since) > target)
    };
    let stuck = machines.iter().filter(is_stuck);
    stuck.map(|observed| observed.jobs()).fold(0, u64::saturating_add)
}

fn count_existing(machines: &[&Observed<'_>]) -> u32 {
    let existing = machines.iter().filter(|m| {
        m.machine.state != MachineState::Requested && m.machine.memory.destroyed_at.is_none()
    });
    u32::try_from(existing.count()).unwrap_or(u32::MAX)
}

/// Sizes one pool with its `machines`, by `targetWait` or as `ceil((runnable - ignored) / runnablesPerMachine)`, within its
/// limits. `demand` is `None` while the queue status is unavailable.
pub(crate) fn size(
    pool: &PoolPolicy,
    demand: Option<&PoolDemand>,
    experience: &Experience,
    machines: &[&Observed<'_>],
) -> Sizing {
    let runnable = demand.map(|demand| demand.runnable);
    let waiting = runnable.unwrap_or(0).saturating_sub(pool.ignored_runnables);
    let (wanted, slots) = match pool.target_wait {
        Some(target) => {
            let target = target_wait::worth_a_start(target, experience.start_time());
            let load = Load {
                waiting,
                running: demand.map_or(0, |demand| demand.running),
                stuck: stuck(machines, target),
                step_time: experience.step_time(),
                mean_wait: demand.and_then(PoolDemand::mean_wait),
            };
            let (wanted, slots) = target_wait::wanted(pool, target, load);
            (wanted, demand.map(|_| slots))
        }
        None => (waiting.div_ceil(u64::from(pool.runnables_per_machine.get())), None),
    };
    let (allowed, allowed_by) = if wanted > u64::from(pool.max_machines) {
        (pool.max_machines, AllowedBy::MaxMachines)
    } else if wanted < u64::from(pool.min_machines) {
        (pool.min_machines.min(pool.max_machines), AllowedBy::MinMachines)
    } else {
        // Does not truncate: it is at most `max_machines`.
        (u32::try_from(wanted).unwrap_or(u32::MAX), AllowedBy::Demand)
    };
    Sizing {
        runnable,
        ignored: pool.ignored_runnables,
        wanted,
        slots,
        allowed,
        allowed_by,
        present: count_existing(machines),
        deferred: None,
        replacing: BTreeMap::new(),
        hands_over: BTreeMap::new(),
        takes_over: BTreeMap::new(),
        no_room: None,
    }
}
