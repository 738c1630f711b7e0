//! `why NAME|TYPE`: the rule that decided, its inputs, and when the result changes.

use std::fmt::Write as _;
use std::path::Path;

use planner::{
    Machine, MachineType, OrderKind, Plan, Policy, QueueStatus, Seconds, Snapshot, Timestamp,
};

use crate::console::{fail, load_beside_service, print};
use crate::exit::Exit;
use crate::look::{at_work, look};
use crate::status::verdict;

/// How far ahead to look for a change.
const HORIZON: Seconds = Seconds(86_400);
/// Maximum number of plans computed for that.
const MOST_PLANS: u32 = 200;

pub(crate) fn why(conf: &Path, name: &str) -> Result<Exit, Exit> {
    let config = load_beside_service(conf)?;
    let at_work = at_work(&config);
    let snapshot = look(&config)?;
    let policy = config.policy_at(snapshot.taken_at).policy;
    let plan = planner::plan(&policy, &snapshot);
    let machine = snapshot.machines.iter().find(|machine| machine.name.as_str() == name);
    let machine_type = plan.sizing.keys().find(|machine_type| machine_type.as_str() == name);
    let text = match (machine, machine_type) {
        (Some(machine), _) => of_machine(&policy, &snapshot, &plan, machine),
        (None, Some(machine_type)) => of_type(&policy, &snapshot, &plan, machine_type),
        (None, None) => return Err(fail(Exit::BadConfig, &unknown(name, &snapshot, &plan))),
    };
    print(format!("{at_work}{text}"))?;
    Ok(Exit::Done)
}

fn unknown(name: &str, snapshot: &Snapshot, plan: &Plan) -> String {
    let machines = snapshot.machines.iter().map(|machine| machine.name.to_string());
    let types = plan.sizing.keys().map(ToString::to_string);
    let known: Vec<_> = types.chain(machines).collect();
    format!(
        "neither a machine nor a type is called {}; there are: {}",
        planner::escape(name),
        known.join(", ")
    )
}

fn of_machine(policy: &Policy, snapshot: &Snapshot, plan: &Plan, machine: &Machine) -> String {
    let verdict_of = |plan: &Plan| plan.verdicts.get(&machine.name).map(ToString::to_string);
    let mut text = format!("{}: {}\ninputs\n", machine.name, verdict(snapshot, plan, machine));
    for line in inputs(policy, snapshot, plan, machine) {
        let _ = writeln!(text, "  {line}");
    }
    if let Some(sizing) = plan.sizing.get(&machine.machine_type) {
        let _ = writeln!(text, "  {}: {sizing}", machine.machine_type);
    }
    if let Some(release) = plan.release.iter().find(|release| release.name == machine.name) {
        let _ = writeln!(text, "  next step: {release}");
    }
    let next = snapshot.next_try(machine);
    text + &changes(policy, snapshot, next, verdict_of)
}

/// All times are shown as durations.
fn inputs(policy: &Policy, snapshot: &Snapshot, plan: &Plan, machine: &Machine) -> Vec<String> {
    let now = snapshot.taken_at;
    let memory = &machine.memory;
    let ago = |what: &str, at: Option<Timestamp>| Some(format!("{what} for {}", now.since(at?)));
    let jobs = match &snapshot.queue {
        QueueStatus::Up(queue) => match planner::jobs_of(queue, machine) {
            Some(jobs) => format!("builds according to the queue runner: {jobs}"),
            None => "the queue runner does not list it".to_owned(),
        },
        QueueStatus::Unavailable(reason) => {
            format!("the queue status is unavailable: {}", planner::escape(reason))
        }
    };
    let left = machine.paid_time_left(now);
    let order = plan.orders.iter().find(|order| order.kind.machine() == Some(&machine.name));
    let pool = policy.pools.get(&machine.machine_type);
    let configured = pool.map_or("its type is not configured any more".to_owned(), |pool| {
        format!("minMachines {}, maxMachines {}", pool.min_machines, pool.max_machines)
    });
    let lines = [
        Some(format!("its provider reports: {}", machine.state)),
        Some(jobs),
        ago("it has been ready", memory.ready_since),
        ago("it has been known", memory.known_since),
        memory
            .under_way
            .map(|it| format!("{} under way for {}", it.operation, now.since(it.since))),
        memory.failing.as_ref().map(|failing| {
            let (number, error) = (failing.failures, planner::escape(&failing.error));
            let at = failing.next_try(snapshot.back_off.get(&machine.machine_type));
            let times = if number == 1 { "once".to_owned() } else { format!("{number} times") };
            format!("{} failed {times}, next try at {at}: {error}", failing.operation)
        }),
        ago("its provider has not listed it", memory.missing.map(|missing| missing.since)),
        ago("it has been unhealthy", memory.unhealthy_since),
        plan.unhealthy.get(&machine.name).map(ToString::to_string),
        memory.leaving.map(|_| "it is being released".to_owned()),
        (left > Seconds(0)).then(|| format!("{left} are paid for")),
        order.map(|order| format!("the operator: {order}")),
        Some(configured),
    ];
    lines.into_iter().flatten().collect()
}

fn of_type(
    policy: &Policy,
    snapshot: &Snapshot,
    plan: &Plan,
    machine_type: &MachineType,
) -> String {
    let sizing_of = |plan: &Plan| plan.sizing.get(machine_type).map(ToString::to_string);
    let mut text = format!("{machine_type}: {}\n", sizing_of(plan).unwrap_or_default());
    if let (Some(pool), Some(sizing)) =
        (policy.pools.get(machine_type), plan.sizing.get(machine_type))
    {
        let (ignored, each) = (pool.ignored_runnables, u64::from(pool.runnables_per_machine.get()));
        let runnable = sizing.runnable.unwrap_or(0);
        text += "inputs\n";
        if pool.target_wait.is_none() {
            let _ = writeln!(
                text,
                "  wanted: ({runnable} runnable - {ignored} ignoredRunnables) / {each} runnablesPerMachine, rounded up: {}",
                sizing.wanted
            );
            let more = sizing.wanted.saturating_mul(each).saturating_add(ignored).saturating_add(1);
            let more = planner::counted(more, "runnable step");
            let _ = writeln!(text, "  one more from {more} on");
        }
        let _ = writeln!(
            text,
            "  allowed: within minMachines {} and maxMachines {}: {}",
            pool.min_machines, pool.max_machines, sizing.allowed
        );
    }
    for line in troubles(snapshot, plan, machine_type) {
        let _ = writeln!(text, "  {line}");
    }
    let own = snapshot.machines.iter().filter(|it| it.machine_type == *machine_type);
    let next = own.filter_map(|machine| snapshot.next_try(machine)).min();
    text + &changes(policy, snapshot, next, sizing_of)
}

/// What stands in the way of a type's machines: failures, unhealthy machines, orders.
fn troubles(snapshot: &Snapshot, plan: &Plan, machine_type: &MachineType) -> Vec<String> {
    let own = snapshot.machines.iter().filter(|it| it.machine_type == *machine_type);
    let own: Vec<_> = own.collect();
    let back_off = snapshot.back_off.get(machine_type);
    let backed_off = back_off.map(|it| {
        let (until, error) = (it.until, planner::escape(&it.error));
        format!(
            "no machine is created before {until} (failures in a row: {}): {error}",
            it.failures
        )
    });
    let failing =
        own.iter().filter_map(|machine| Some((machine, machine.memory.failing.as_ref()?)));
    let failing = failing.map(|(machine, it)| {
        let at = it.next_try(back_off);
        let (name, operation) = (&machine.name, it.operation);
        format!("cannot {operation} {name}, next try at {at}: {}", planner::escape(&it.error))
    });
    let unhealthy = own.iter().filter_map(|it| Some((&it.name, plan.unhealthy.get(&it.name)?)));
    let unhealthy = unhealthy.map(|(name, what)| format!("{name}: {what}"));
    let orders = plan.orders.iter().filter(|order| match &order.kind {
        OrderKind::PauseAll => true,
        OrderKind::Pause(other) | OrderKind::Retry(other) => other == machine_type,
        word => own.iter().any(|machine| word.machine() == Some(&machine.name)),
    });
    let orders = orders.map(|order| format!("the operator: {order}"));
    backed_off.into_iter().chain(failing).chain(unhealthy).chain(orders).collect()
}

/// When `describe` changes if only time passes. Computes a plan for each `wake_at` that the planner reports.
/// `next_try` is when what failed is tried again: what follows from that is not known.
fn changes(
    policy: &Policy,
    snapshot: &Snapshot,
    next_try: Option<Timestamp>,
    describe: impl Fn(&Plan) -> Option<String>,
) -> String {
    let mut plan = planner::plan(policy, snapshot);
    let before = kind(describe(&plan));
    for _ in 0..MOST_PLANS {
        let Some(at) = plan.wake_at.filter(|at| at.since(snapshot.taken_at) <= HORIZON) else {
            break;
        };
        plan = planner::plan(policy, &Snapshot { taken_at: at, ..snapshot.clone() });
        let then = describe(&plan);
        if kind(then.clone()) != before {
            let then = then.unwrap_or_else(|| "nothing".to_owned());
            let after = at.since(snapshot.taken_at);
            return format!("if nothing else happens, from {at} on (in {after})\n  {then}\n");
        }
    }
    match next_try {
        Some(at) => format!("no change unless the next try, at {at}, succeeds\n"),
        None => "no change within a day if nothing else happens\n".to_owned(),
    }
}

/// The text without numbers: a longer idle time alone is not a different verdict.
fn kind(text: Option<String>) -> String {
    text.unwrap_or_default()
        .chars()
        .filter(|c| !c.is_ascii_digit() && !"hms".contains(*c))
        .collect()
}
