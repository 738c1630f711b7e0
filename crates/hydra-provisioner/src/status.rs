//! The state of the farm, shared by the page, `/status.json` and `status --json`.

use std::collections::BTreeMap;

use planner::{
    Demand, Machine, MachineType, Money, Operation, Order, Plan, Policy, QueueStatus, Seconds,
    Sizing, Snapshot, Timestamp, Verdict,
};
use serde::Serialize;

use crate::needs::{self, Need, NeedSeverity};

/// Increases when a field is renamed, removed, or changes its meaning; fields may be added at any time.
const VERSION: u32 = 1;
/// Retries that are shown.
const MOST_RETRIES: usize = 5;

/// The complete status.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    pub(crate) version: u32,
    /// The time of this status.
    pub(crate) at: Timestamp,
    /// Why the queue status is unavailable, if it is.
    pub(crate) queue_error: Option<String>,
    /// The age of the queue status; omitted by commands that have just requested it.
    pub(crate) queue_age_seconds: Option<Seconds>,
    pub(crate) waiting_steps: u64,
    /// Mean wait of the kind of steps that waits longest.
    pub(crate) wait_seconds: Option<Seconds>,
    /// That kind: its system and features.
    pub(crate) wait_kind: Option<String>,
    pub(crate) slots: u64,
    pub(crate) busy_slots: u64,
    /// Maximum number of machines of all types together.
    pub(crate) max_machines: u64,
    pub(crate) hourly_cost_micro_dollars: Money,
    /// What the machines of the hourly cost do.
    pub(crate) hourly_cost_by_use: CostByUse,
    pub(crate) types: Vec<TypeStatus>,
    pub(crate) machines: Vec<MachineStatus>,
    pub(crate) needs: Vec<Need>,
    pub(crate) orders: Vec<Order>,
    /// The next actions and pending conditions.
    pub(crate) next: Vec<String>,
}

/// The hourly cost, in micro-dollars, by what the machines do.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CostByUse {
    /// At least one build runs.
    pub(crate) busy: Money,
    /// No build runs, as far as is known.
    pub(crate) idle: Money,
    /// Not ready yet.
    pub(crate) booting: Money,
}

/// One type.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TypeStatus {
    #[serde(rename = "type")]
    pub(crate) name: String,
    /// `None` while the queue status is unavailable.
    pub(crate) waiting_steps: Option<u64>,
    /// Mean wait of its steps, as far as the queue runner reports it.
    pub(crate) wait_seconds: Option<Seconds>,
    /// Steps of it that are being built.
    pub(crate) running_steps: u64,
    pub(crate) machines: u64,
    pub(crate) ready: u64,
    pub(crate) busy: u64,
    pub(crate) min_machines: u32,
    pub(crate) max_machines: u32,
    pub(crate) wanted: u64,
    pub(crate) allowed: u32,
    /// The calculation of the number, in words.
    pub(crate) sizing: String,
    pub(crate) hourly_cost_micro_dollars: Money,
}

/// One machine.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MachineStatus {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) machine_type: String,
    /// The state that its provider reports.
    pub(crate) state: String,
    /// Its running operation.
    pub(crate) under_way: Option<Operation>,
    /// Since when the operation runs, or it is ready, or it is known.
    pub(crate) since: Option<Timestamp>,
    pub(crate) jobs: Option<u64>,
    pub(crate) slots: u32,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) paid_until: Option<Timestamp>,
    pub(crate) hourly_cost_micro_dollars: Option<Money>,
    pub(crate) condition: Condition,
    pub(crate) verdict: String,
    /// The ssh command to reach it.
    pub(crate) ssh: Option<String>,
}

/// A machine's condition, for its symbol and color.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Condition {
    Failing,
    Unhealthy,
    Coming,
    Ready,
    Leaving,
    Off,
}

impl Status {
    /// Builds the status from `snapshot`, `plan` and `policy`. `status_at` is the time of the queue status; `refused`
    /// is the reason why a changed configuration was refused.
    pub(crate) fn of(
        snapshot: &Snapshot,
        plan: &Plan,
        policy: &Policy,
        status_at: Option<Timestamp>,
        refused: Option<&str>,
    ) -> Self {
        let farm = Farm { snapshot, plan, policy };
        let machines: Vec<_> = farm.machines();
        let demand = farm.demand_by_type();
        let of_type = |name| {
            let demand = demand.get(name).map_or(&[][..], Vec::as_slice);
            farm.of_type(name, demand, &machines)
        };
        let types: Vec<_> = policy.pools.keys().map(of_type).collect();
        let costs = machines.iter().filter_map(|machine| machine.hourly_cost_micro_dollars);
        let longest = farm.longest_mean_wait();
        Self {
            version: VERSION,
            at: snapshot.taken_at,
            queue_error: match &snapshot.queue {
                QueueStatus::Up(_) => None,
                QueueStatus::Unavailable(reason) => Some(reason.clone()),
            },
            queue_age_seconds: status_at.map(|at| snapshot.taken_at.since(at)),
            waiting_steps: farm.waiting_steps(),
            wait_seconds: longest.as_ref().map(|(wait, _)| *wait),
            wait_kind: longest.map(|(_, kind)| kind),
            slots: total(
                machines.iter().filter(|m| m.condition.builds()).map(|m| u64::from(m.slots)),
            ),
            busy_slots: total(machines.iter().filter_map(|machine| machine.jobs)),
            max_machines: match policy.max_machines {
                Some(most) => u64::from(most),
                None => total(policy.pools.values().map(|pool| u64::from(pool.max_machines))),
            },
            hourly_cost_micro_dollars: costs.fold(Money(0), Money::plus),
            hourly_cost_by_use: Farm::cost_by_use(&machines),
            needs: needs::needs(snapshot, plan, refused),
            orders: plan.orders.clone(),
            next: farm.next(),
            types,
            machines,
        }
    }

    /// Failing machines and types.
    pub(crate) fn failed(&self) -> usize {
        self.needs.iter().filter(|need| need.severity == NeedSeverity::Failed).count()
    }
}

impl Condition {
    fn builds(self) -> bool {
        matches!(self, Self::Ready | Self::Unhealthy)
    }
}

struct Farm<'a> {
    snapshot: &'a Snapshot,
    plan: &'a Plan,
    policy: &'a Policy,
}

impl Farm<'_> {
    fn demand(&self) -> &[Demand] {
        match &self.snapshot.queue {
            QueueStatus::Up(queue) => &queue.demand,
            QueueStatus::Unavailable(_) => &[],
        }
    }

    fn waiting_steps(&self) -> u64 {
        total(self.demand().iter().map(|demand| demand.runnable))
    }

    fn longest_mean_wait(&self) -> Option<(Seconds, String)> {
        let waits = self.demand().iter();
        waits.filter_map(|demand| Some((mean_wait(demand)?, demand.kind.to_string()))).max()
    }

    /// What each type is to build.
    fn demand_by_type(&self) -> BTreeMap<&MachineType, Vec<&Demand>> {
        let mut types = BTreeMap::<_, Vec<_>>::new();
        for demand in self.demand() {
            if let Some(name) = planner::pool_for(self.policy, &demand.kind) {
                types.entry(name).or_default().push(demand);
            }
        }
        types
    }

    fn cost_by_use(machines: &[MachineStatus]) -> CostByUse {
        let mut costs = CostByUse::default();
        for machine in machines {
            let sum = match (machine.jobs, machine.condition) {
                (Some(1..), _) => &mut costs.busy,
                (_, Condition::Coming | Condition::Failing) => &mut costs.booting,
                _ => &mut costs.idle,
            };
            *sum = sum.plus(machine.hourly_cost_micro_dollars.unwrap_or_default());
        }
        costs
    }

    fn of_type(
        &self,
        name: &MachineType,
        demand: &[&Demand],
        machines: &[MachineStatus],
    ) -> TypeStatus {
        let of_type: Vec<_> = machines.iter().filter(|m| m.machine_type == name.as_str()).collect();
        let count = |is_it: fn(&MachineStatus) -> bool| {
            of_type.iter().filter(|machine| is_it(machine)).count() as u64
        };
        let sizing: Option<&Sizing> = self.plan.sizing.get(name);
        let costs = of_type.iter().filter_map(|machine| machine.hourly_cost_micro_dollars);
        let pool = self.policy.pools.get(name);
        TypeStatus {
            name: name.to_string(),
            waiting_steps: sizing.and_then(|sizing| sizing.runnable),
            wait_seconds: demand.iter().filter_map(|it| mean_wait(it)).max(),
            running_steps: total(demand.iter().map(|it| it.running)),
            machines: of_type.len() as u64,
            ready: count(|machine| machine.condition == Condition::Ready),
            busy: count(|machine| machine.jobs.is_some_and(|jobs| jobs > 0)),
            min_machines: pool.map_or(0, |pool| pool.min_machines),
            max_machines: pool.map_or(0, |pool| pool.max_machines),
            wanted: sizing.map_or(0, |sizing| sizing.wanted),
            allowed: sizing.map_or(0, |sizing| sizing.allowed),
            sizing: sizing.map(ToString::to_string).unwrap_or_default(),
            hourly_cost_micro_dollars: costs.fold(Money(0), Money::plus),
        }
    }

    fn machines(&self) -> Vec<MachineStatus> {
        let mut machines: Vec<_> = self.snapshot.machines.iter().map(|m| self.machine(m)).collect();
        machines.sort_by(|a, b| (a.condition, &a.name).cmp(&(b.condition, &b.name)));
        machines
    }

    fn machine(&self, machine: &Machine) -> MachineStatus {
        let memory = &machine.memory;
        let pool = self.policy.pools.get(&machine.machine_type);
        let price = self.snapshot.price_of(self.policy, machine);
        let jobs = match &self.snapshot.queue {
            QueueStatus::Up(queue) => planner::jobs_of(queue, machine),
            QueueStatus::Unavailable(_) => None,
        };
        let user = &machine.ssh_user;
        let ssh = machine.address.as_ref().map(|address| match machine.ssh_port {
            22 => format!("ssh {user}@{address}"),
            port => format!("ssh -p {port} {user}@{address}"),
        });
        MachineStatus {
            name: machine.name.to_string(),
            machine_type: machine.machine_type.to_string(),
            state: machine.state.to_string(),
            under_way: memory.under_way.map(|under_way| under_way.operation),
            since: memory
                .under_way
                .map(|under_way| under_way.since)
                .or(memory.ready_since)
                .or(memory.known_since),
            jobs,
            slots: pool.map_or(0, |pool| pool.max_jobs),
            started_at: machine.started_at,
            paid_until: machine.charge_at().filter(|at| *at > self.snapshot.taken_at),
            hourly_cost_micro_dollars: price.filter(|_| machine.state.is_live()),
            condition: self.condition(machine),
            verdict: verdict(self.snapshot, self.plan, machine),
            ssh,
        }
    }

    fn condition(&self, machine: &Machine) -> Condition {
        let memory = &machine.memory;
        if memory.failing.is_some() || machine.state == planner::MachineState::Failed {
            Condition::Failing
        } else if self.plan.unhealthy.contains_key(&machine.name) || memory.missing.is_some() {
            Condition::Unhealthy
        } else if memory.leaving.is_some() {
            Condition::Leaving
        } else if memory.ready_since.is_some() {
            Condition::Ready
        } else if machine.state.is_live() || memory.under_way.is_some() {
            Condition::Coming
        } else {
            Condition::Off
        }
    }

    /// What is done now, and when what failed is tried again.
    fn next(&self) -> Vec<String> {
        let plan = self.plan;
        let create = plan.provision.iter().map(ToString::to_string);
        let start = plan.start.iter().map(|name| format!("start {name}"));
        let deploy = plan.deploy.iter().map(|name| format!("deploy {name}"));
        let release = plan.release.iter().map(ToString::to_string);
        let now = create.chain(start).chain(deploy).chain(release);
        let failing = self.snapshot.machines.iter();
        let failing = failing.filter_map(|it| Some((it, it.memory.failing.as_ref()?.operation)));
        let again = failing.filter_map(|(machine, operation)| {
            Some((self.snapshot.next_try(machine)?, operation, &machine.name))
        });
        let mut later: Vec<_> = again.collect();
        later.sort_by_key(|(at, _, name)| (*at, *name));
        let later = later.iter().take(MOST_RETRIES);
        now.chain(later.map(|(at, operation, name)| format!("{operation} {name} again at {at}")))
            .collect()
    }
}

/// The sum of numbers that others report: it has no more than the largest number.
pub(crate) fn total(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

/// How long a step of this kind has waited on average.
fn mean_wait(demand: &Demand) -> Option<Seconds> {
    demand.wait_seconds?.checked_div(demand.runnable).map(Seconds)
}

/// What was decided for a machine, and what stands in its way.
pub(crate) fn verdict(snapshot: &Snapshot, plan: &Plan, machine: &Machine) -> String {
    let memory = &machine.memory;
    let verdict = match plan.verdicts.get(&machine.name) {
        Some(Verdict::InUse) if memory.ready_since.is_none() => "wanted, not ready yet".to_owned(),
        Some(verdict) => verdict.to_string(),
        None => "not judged yet".to_owned(),
    };
    let failing = memory.failing.as_ref().map(|it| {
        let at = it.next_try(snapshot.back_off.get(&machine.machine_type));
        let (operation, failures) = (it.operation, it.failures);
        format!("cannot {operation} it (failure {failures}, next try at {at})")
    });
    let unhealthy = plan.unhealthy.get(&machine.name).map(|what| match memory.unhealthy_since {
        Some(since) => format!("{what}, for {}", snapshot.taken_at.since(since)),
        None => what.to_string(),
    });
    let parts = [Some(verdict), unhealthy, failing];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
