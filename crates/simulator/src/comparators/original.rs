//! The original `hydra-provisioner` (Python, 2015 to 2017), unchanged:
//!
//! ```text
//! wanted  = ceil(max(runnable - ignoredRunnables, 0) / runnablesPerMachine)
//! allowed = min(max(wanted, minMachines), maxMachines)
//! ```
//!
//! Each cycle creates at most one new machine per type, deploys all machines one after the other, writes the machines
//! file, and then stops or destroys the rest, one after the other. It waits forever for a machine that never boots; here
//! a person ends that after 30 minutes. Its bugs are kept:
//!
//! - It selects machines without checking what they build, and destroys machines without another look at the queue.
//! - A busy machine that is not needed leaves the machines file if there is a grace period, and stays in it if there is
//!   none.
//! - A type that builds counts as one that never did (Hydra omits `lastActive` then). Such a type counts as active 30
//!   minutes after the queue runner's start. Until then its machines are idle for a negative time, so they stay, even
//!   without a grace period; later its idle machines get no grace period.
//! - While the queue runner is down, its uptime counts as 0: no machine that is up or starting is released.
//!
//! It would never build a step if no type has exactly the step's name. Here such a step counts for a type that can
//! build it through `supportedFeatures`, which the original did not have.

use std::collections::{BTreeMap, BTreeSet};

use planner::{
    IdleAction, IdleTimeout, Machine, MachineKeys, MachineName, MachineState, MachineType,
    Operation, Policy, PoolPolicy, Queue, QueueStatus, Seconds, System, Timestamp,
};

use crate::queue_runner::Offer;

/// "Keep machines that still have at least 30 minutes of paid time left."
const MUCH_PAID_TIME: Seconds = Seconds::from_minutes(30);
/// "Don't stop/destroy machines that still have at least 10 minutes of paid time left."
const SOME_PAID_TIME: Seconds = Seconds::from_minutes(10);
/// If the queue runner does not report when a type was active: how long after the queue runner's start that was.
const UNKNOWN_ACTIVITY: Seconds = Seconds::from_minutes(30);

/// `next_charge_time` of NixOps' EC2 machines: the end of the started hour. It was never changed when Amazon began to
/// charge by the second.
pub(crate) fn count_hours(machine: &mut Machine, now: Timestamp) {
    const HOUR: Seconds = Seconds::from_minutes(60);
    let end = |start: Timestamp| {
        start.after(Seconds(now.since(start).0.div_ceil(HOUR.0).saturating_mul(HOUR.0)))
    };
    machine.next_charge_at = machine.started_at.map(end);
}

/// What one cycle does, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cycle {
    /// New machines, which are deployed with the others.
    pub(crate) create: Vec<(MachineName, MachineType)>,
    /// Machines that are started if they are off, and deployed.
    pub(crate) deploy: Vec<MachineName>,
    /// Of all these: machines that are left out of the machines file.
    pub(crate) unusable: BTreeSet<MachineName>,
    /// Machines to stop or to destroy.
    pub(crate) release: Vec<(MachineName, Operation)>,
}

/// What it reads about a type in the status.
#[derive(Clone, Copy, Debug, Default)]
struct TypeStatus {
    runnable: u64,
    last_active: Option<Timestamp>,
}

/// Decides one cycle. `machines` are in the order of their names.
pub(crate) fn cycle(
    policy: &Policy,
    status: &QueueStatus,
    machines: &[Machine],
    now: Timestamp,
) -> Cycle {
    let down = Queue::default();
    let queue = if let QueueStatus::Up(queue) = status { queue } else { &down };
    let types = types(policy, queue);
    let mut cycle = Cycle::default();
    let mut names: BTreeSet<_> = machines.iter().map(|machine| machine.name.clone()).collect();
    let mut in_use = BTreeSet::new();
    for (name, pool) in &policy.pools {
        let runnable = types.get(name).map_or(0, |status| status.runnable);
        let mut existing: Vec<_> =
            machines.iter().filter(|machine| machine.machine_type == *name).collect();
        existing.sort_by_key(|machine| machine.state != MachineState::Up);
        let allowed = allowed(pool, runnable);
        in_use.extend(existing.iter().take(allowed).map(|machine| machine.name.clone()));
        if existing.len() < allowed {
            let new = free_name(policy, &names);
            names.insert(new.clone());
            cycle.create.push((new, name.clone()));
        }
    }
    let rest = machines.iter().filter(|machine| !in_use.contains(&machine.name));
    let mut keep = Vec::new();
    for machine in rest {
        let pool = policy.pools.get(&machine.machine_type);
        let type_status = types.get(&machine.machine_type);
        match judge(machine, pool, type_status, queue, now) {
            Rest::InUse => keep.push(machine.name.clone()),
            Rest::Unusable => {
                keep.push(machine.name.clone());
                cycle.unusable.insert(machine.name.clone());
            }
            Rest::Expired => cycle.release.extend(release(machine, pool, now)),
        }
    }
    cycle.deploy = in_use.into_iter().chain(keep).collect();
    cycle
}

/// What happens to a machine that is not needed.
enum Rest {
    InUse,
    Unusable,
    Expired,
}

fn allowed(pool: &PoolPolicy, runnable: u64) -> usize {
    let runnable = runnable.saturating_sub(pool.ignored_runnables);
    let wanted = runnable.div_ceil(u64::from(pool.runnables_per_machine.get()));
    let allowed = wanted.max(pool.min_machines.into()).min(pool.max_machines.into());
    usize::try_from(allowed).unwrap_or(usize::MAX)
}

/// Merges i686-linux into x86_64-linux: adds the counts if both exist, otherwise moves the entry.
fn types(policy: &Policy, queue: &Queue) -> BTreeMap<MachineType, TypeStatus> {
    let mut types: BTreeMap<MachineType, TypeStatus> = BTreeMap::new();
    let i686 = |system: &System| system.as_str() == "i686-linux";
    let (squashed, others): (Vec<_>, Vec<_>) =
        queue.demand.iter().partition(|demand| i686(&demand.kind.system));
    for demand in others.into_iter().chain(squashed) {
        let mut kind = demand.kind.clone();
        let is_squashed = i686(&kind.system);
        if is_squashed {
            kind.system = System::new("x86_64-linux");
        }
        let whole = MachineType::new(kind.to_string());
        let mut able = policy.pools.iter().filter(|(_, pool)| Offer::from(*pool).supports(&kind));
        let name = if policy.pools.contains_key(&whole) {
            whole
        } else {
            able.next().map_or(whole, |(name, _)| name.clone())
        };
        let is_new = !types.contains_key(&name);
        let status = types.entry(name).or_default();
        status.runnable = status.runnable.saturating_add(demand.runnable);
        if is_new || !is_squashed {
            status.last_active = status.last_active.max(demand.last_active);
        }
    }
    types
}

fn judge(
    machine: &Machine,
    pool: Option<&PoolPolicy>,
    status: Option<&TypeStatus>,
    queue: &Queue,
    now: Timestamp,
) -> Rest {
    if !is_up_or_starting(machine.state) {
        return Rest::Expired;
    }
    let grace_period = match pool.map(|pool| pool.idle_timeout) {
        Some(IdleTimeout::After(length)) => length,
        Some(IdleTimeout::Auto) | None => Seconds(0),
    };
    if machine.paid_time_left(now) >= MUCH_PAID_TIME {
        return Rest::InUse;
    }
    if jobs(machine, queue) != 0 {
        return if grace_period > Seconds(0) { Rest::Unusable } else { Rest::InUse };
    }
    // Its idle time may be negative, and then it is less than no grace period.
    let is_recently_used = match status.and_then(|status| status.last_active) {
        Some(last_active) => now < last_active.after(grace_period),
        None => queue.uptime.0 < UNKNOWN_ACTIVITY.0.saturating_add(grace_period.0),
    };
    if is_recently_used { Rest::InUse } else { Rest::Expired }
}

fn jobs(machine: &Machine, queue: &Queue) -> u64 {
    let host = match queue.keys {
        MachineKeys::Address => &machine.address,
        MachineKeys::HostName => &machine.host_name,
    };
    let seen = queue.machines.iter().find(|seen| Some(&seen.host) == host.as_ref());
    seen.map_or(0, |seen| seen.current_jobs)
}

fn release(
    machine: &Machine,
    pool: Option<&PoolPolicy>,
    now: Timestamp,
) -> Option<(MachineName, Operation)> {
    let is_on = is_up_or_starting(machine.state);
    if is_on && machine.paid_time_left(now) >= SOME_PAID_TIME {
        return None;
    }
    let stops = pool.is_some_and(|pool| pool.idle_action == IdleAction::Stop);
    match (stops, machine.state) {
        (true, MachineState::Stopped) => None,
        (true, _) => Some((machine.name.clone(), Operation::Stop)),
        (false, _) => Some((machine.name.clone(), Operation::Destroy)),
    }
}

fn is_up_or_starting(state: MachineState) -> bool {
    matches!(state, MachineState::Up | MachineState::Starting)
}

/// The lowest number that no deployment has.
fn free_name(policy: &Policy, names: &BTreeSet<MachineName>) -> MachineName {
    let mut numbered =
        (0..=names.len()).map(|number| MachineName::new(format!("{}-{number}", policy.tag)));
    numbered.find(|name| !names.contains(name)).unwrap_or_else(|| MachineName::new("none"))
}

#[cfg(test)]
mod tests {
    use planner::{Demand, DemandKey, Host, QueueMachine, Tag};

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn policy(change: impl Fn(&mut PoolPolicy)) -> Policy {
        let mut pool = PoolPolicy::new(vec![System::new("x86_64-linux")]);
        pool.max_machines = 5;
        change(&mut pool);
        Policy::new(Tag::new("t"), BTreeMap::from([(MachineType::new("x86_64-linux"), pool)]))
    }

    fn machine(number: u64, state: MachineState) -> Machine {
        let name = MachineName::new(format!("t-{number}"));
        let mut machine = Machine::requested(name, MachineType::new("x86_64-linux"));
        machine.state = state;
        machine.address = Some(Host::new(format!("10.0.0.{number}")));
        machine
    }

    fn demand(system: &str, runnable: u64, last_active: Option<u64>) -> Demand {
        let kind = DemandKey { system: System::new(system), features: [].into() };
        let last_active = last_active.map(|ago| Timestamp(NOW.0 - ago));
        Demand { runnable, last_active, ..Demand::none_of(kind) }
    }

    /// An hour after its start, machine 0 builds `jobs` steps.
    fn status(jobs: u64, demand: Vec<Demand>) -> QueueStatus {
        let mut seen = QueueMachine::new(Host::new("10.0.0.0"));
        seen.current_jobs = jobs;
        let machines = vec![seen];
        QueueStatus::Up(Queue { uptime: Seconds(3600), demand, machines, ..Queue::default() })
    }

    fn decide(policy: &Policy, status: &QueueStatus, machines: &[Machine]) -> String {
        let Cycle { create, deploy, unusable, release } = cycle(policy, status, machines, NOW);
        let names = |names: Vec<String>| names.join(" ");
        format!(
            "create {}; deploy {}; unpublished {}; {}",
            names(create.iter().map(|(name, _)| name.to_string()).collect()),
            names(deploy.iter().map(ToString::to_string).collect()),
            names(unusable.iter().map(ToString::to_string).collect()),
            names(release.iter().map(|(name, how)| format!("{how} {name}")).collect())
        )
    }

    #[test]
    fn one_machine_a_cycle_and_the_first_by_name_not_the_busy_one() {
        let policy = policy(|_| {});
        let up = |number| machine(number, MachineState::Up);
        let many = status(0, vec![demand("x86_64-linux", 50, None)]);
        assert_eq!(decide(&policy, &many, &[]), "create t-0; deploy ; unpublished ; ");
        assert_eq!(
            decide(&policy, &many, &[up(0), up(2)]),
            "create t-1; deploy t-0 t-2; unpublished ; "
        );
        let few =
            status(0, vec![demand("x86_64-linux", 1, Some(1)), demand("i686-linux", 9, None)]);
        assert_eq!(
            decide(&policy, &few, &[up(1), up(0)]),
            "create ; deploy t-1; unpublished ; destroy t-0"
        );
    }

    #[test]
    fn its_mistakes_about_busy_and_idle_machines() {
        let up = [machine(0, MachineState::Up)];
        let graceful = policy(|pool| pool.idle_timeout = IdleTimeout::After(Seconds(600)));
        let busy = status(1, vec![]);
        assert_eq!(decide(&graceful, &busy, &up), "create ; deploy t-0; unpublished t-0; ");
        assert_eq!(decide(&policy(|_| {}), &busy, &up), "create ; deploy t-0; unpublished ; ");
        let active = status(0, vec![demand("x86_64-linux", 0, Some(599))]);
        assert_eq!(decide(&graceful, &active, &up), "create ; deploy t-0; unpublished ; ");
        // Other machines of its type build now: `lastActive` is omitted.
        let building = status(0, vec![demand("x86_64-linux", 0, None)]);
        assert_eq!(
            decide(&graceful, &building, &up),
            "create ; deploy ; unpublished ; destroy t-0"
        );
        let down = QueueStatus::Unavailable(String::new());
        assert_eq!(decide(&graceful, &down, &up), "create ; deploy t-0; unpublished ; ");
    }

    /// Without a grace period, too: `now - (now - uptime + 1800) < 0`.
    #[test]
    fn idle_machines_stay_until_the_queue_runner_is_up_for_half_an_hour() {
        let up = [machine(0, MachineState::Up)];
        let (keeps, destroys) =
            ("create ; deploy t-0; unpublished ; ", "create ; deploy ; unpublished ; destroy t-0");
        let since = |uptime| QueueStatus::Up(Queue { uptime: Seconds(uptime), ..Queue::default() });
        let down = QueueStatus::Unavailable(String::new());
        for (status, decided) in [(down, keeps), (since(1799), keeps), (since(1800), destroys)] {
            assert_eq!(decide(&policy(|_| {}), &status, &up), decided, "{status:?}");
        }
        // A type with a known activity is judged by it.
        let active = QueueStatus::Up(Queue {
            demand: vec![demand("x86_64-linux", 0, Some(0))],
            ..Queue::default()
        });
        assert_eq!(decide(&policy(|_| {}), &active, &up), destroys);
    }

    #[test]
    fn nixops_counts_started_hours_on_ec2() {
        let mut up = machine(0, MachineState::Up);
        count_hours(&mut up, NOW);
        assert_eq!(up.next_charge_at, None);
        for (ago, left) in [(1, 3599), (3600, 0), (3601, 3599), (0, 0)] {
            up.started_at = Some(Timestamp(NOW.0 - ago));
            count_hours(&mut up, NOW);
            assert_eq!(up.paid_time_left(NOW), Seconds(left), "started {ago} s ago");
        }
    }

    #[test]
    fn paid_time_and_reserves() {
        let stops = policy(|pool| pool.idle_action = IdleAction::Stop);
        let mut paid = machine(1, MachineState::Up);
        let idle = status(0, vec![demand("x86_64-linux", 0, Some(9999))]);
        for (left, decided) in [
            (1800, "create ; deploy t-1; unpublished ; "),
            (600, "create ; deploy ; unpublished ; "),
            (599, "create ; deploy ; unpublished ; stop t-1"),
        ] {
            paid.next_charge_at = Some(NOW.after(Seconds(left)));
            assert_eq!(decide(&stops, &idle, std::slice::from_ref(&paid)), decided);
        }
        let off = [machine(1, MachineState::Stopped)];
        assert_eq!(decide(&stops, &idle, &off), "create ; deploy ; unpublished ; ");
        assert_eq!(
            decide(&policy(|_| {}), &idle, &off),
            "create ; deploy ; unpublished ; destroy t-1"
        );
    }
}
