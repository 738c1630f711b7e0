//! What needs the operator: failures of one cause together, each with what to do.

use std::collections::BTreeMap;

use planner::{
    DemandKey, Failing, Machine, MachineName, MachineType, Operation, Order, Plan, Snapshot,
    Timestamp, Unhealthy, Warning,
};
use serde::Serialize;

/// Names that one line lists.
const MOST_NAMES: usize = 5;

/// A problem that needs attention.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Need {
    pub(crate) severity: NeedSeverity,
    pub(crate) text: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum NeedSeverity {
    Failed,
    Warning,
    Note,
}

/// All needs, failures first. `refused` is the reason why a changed configuration was refused.
pub(crate) fn needs(snapshot: &Snapshot, plan: &Plan, refused: Option<&str>) -> Vec<Need> {
    let failures = Failures::of(snapshot);
    let mut needs: Vec<_> = refused.map(not_reloaded).into_iter().collect();
    needs.extend(failures.needs(snapshot));
    // A warning of each failing machine would repeat these.
    let others = plan.warnings.iter();
    let others = others.filter(|warning| !matches!(warning, Warning::Failing { .. }));
    needs.extend(others.map(|warning| Need {
        severity: severity(warning),
        text: warning.to_string(),
        remedy: remedy(warning),
    }));
    needs.extend(plan.orders.iter().map(of_order));
    needs.sort_by_key(|need| need.severity);
    needs
}

fn not_reloaded(reason: &str) -> Need {
    Need {
        severity: NeedSeverity::Failed,
        text: format!("the changed configuration is not in force: {reason}"),
        remedy: Some("correct it; it is read again when the file changes".to_owned()),
    }
}

fn of_order(order: &Order) -> Need {
    let remedy = format!("to cancel it: hydra-provisioner resume {}", order.kind.subject());
    Need { severity: NeedSeverity::Note, text: order.to_string(), remedy: Some(remedy) }
}

/// Type, operation, and what the provider said.
type Cause<'a> = (&'a MachineType, String, &'a str);

/// Machines of one type that fail in the same way.
struct Failures<'a>(BTreeMap<Cause<'a>, Vec<(&'a Machine, &'a Failing)>>);

impl<'a> Failures<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let mut failures: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for machine in &snapshot.machines {
            if let Some(failing) = &machine.memory.failing {
                let operation = failing.operation.to_string();
                let cause = (&machine.machine_type, operation, failing.error.as_str());
                failures.entry(cause).or_default().push((machine, failing));
            }
        }
        Self(failures)
    }

    fn needs(&self, snapshot: &Snapshot) -> Vec<Need> {
        let causes = self.0.iter().map(|((machine_type, operation, error), machines)| {
            let next = machines.iter().filter_map(|(machine, _)| snapshot.next_try(machine)).min();
            of_cause(machine_type, operation, error, machines, next)
        });
        let is_known = |machine_type: &MachineType, text: &str| {
            self.0.keys().any(|(other, _, error)| *other == machine_type && text.ends_with(error))
        };
        let back_offs = snapshot.back_off.iter();
        let others = back_offs.filter(|(name, back_off)| !is_known(name, &back_off.error));
        let others = others.map(|(machine_type, back_off)| Need {
            severity: NeedSeverity::Failed,
            text: format!("{machine_type}: {back_off}; next try at {}", back_off.until),
            remedy: Some(retry(machine_type)),
        });
        causes.chain(others).collect()
    }
}

/// `cannot create farm-1, farm-2 (up to 3 times, next try at ...): what the provider said`.
fn of_cause(
    machine_type: &MachineType,
    operation: &str,
    error: &str,
    machines: &[(&Machine, &Failing)],
    next: Option<Timestamp>,
) -> Need {
    let names = some_of(machines.iter().map(|(machine, _)| &machine.name));
    let most = machines.iter().map(|(_, failing)| failing.failures).max().unwrap_or(0);
    let times = if most == 1 { "once".to_owned() } else { format!("{most} times") };
    let next = next.map(|at| format!(", next try at {at}")).unwrap_or_default();
    let error = planner::escape(error);
    let text =
        format!("{machine_type}: cannot {operation} {names} (failed {times}{next}): {error}");
    let is_creation = machines.iter().all(|(_, failing)| failing.operation == Operation::Create);
    let remedy = match machines {
        [(machine, _), ..] if !is_creation => look(&machine.name),
        _ => retry(machine_type),
    };
    Need { severity: NeedSeverity::Failed, text, remedy: Some(remedy) }
}

fn some_of<'a>(names: impl ExactSizeIterator<Item = &'a MachineName>) -> String {
    let more = names.len().saturating_sub(MOST_NAMES);
    let names: Vec<_> = names.take(MOST_NAMES).map(ToString::to_string).collect();
    let names = names.join(", ");
    if more == 0 { names } else { format!("{names} and {more} more") }
}

fn retry(machine_type: &MachineType) -> String {
    format!("remove the cause, then try at once: hydra-provisioner retry {machine_type}")
}

fn look(name: &MachineName) -> String {
    format!("what happened to it: hydra-provisioner history --machine {name}")
}

fn severity(warning: &Warning) -> NeedSeverity {
    match warning {
        Warning::NoStorage { .. }
        | Warning::Unlistable { .. }
        | Warning::QueueUnavailable { .. }
        | Warning::NoPoolFor { .. } => NeedSeverity::Failed,
        _ => NeedSeverity::Warning,
    }
}

fn remedy(warning: &Warning) -> Option<String> {
    let remedy = match warning {
        Warning::NoPoolFor { kind, .. } => pool_for(kind),
        Warning::Unhealthy { name, what: Unhealthy::Avoided { .. } } => format!(
            "look at its failed builds in Hydra; it is replaced after giveUpAfter, or now with: hydra-provisioner release {name}"
        ),
        Warning::Unhealthy { name, .. } => {
            format!(
                "look at it; it is replaced after giveUpAfter, or now with: hydra-provisioner release {name}"
            )
        }
        Warning::NoStorage { .. } => {
            "check space and permissions of stateDir; it then continues by itself".to_owned()
        }
        Warning::Unlistable { .. } => {
            "until then nothing is created or released there; check the provider's account and network".to_owned()
        }
        Warning::QueueUnavailable { .. } => {
            "is the queue runner up? Run statusCommand, or fetch queue.url, as the service's user (NixOS: as root)".to_owned()
        }
        Warning::Missing { name, .. } => look(name),
        Warning::NotOurs { name } => {
            format!(
                "provider.command: nothing, or hydra-provisioner adopt {name} --force; EC2, Hetzner: restore its tags or labels, or delete it there"
            )
        }
        _ => return None,
    };
    Some(remedy)
}

fn pool_for(kind: &DemandKey) -> String {
    // `local` (preferLocalBuild) is no feature that a machine needs; a type that names it builds nothing else.
    let required = kind.features.iter().filter(|feature| !planner::prefers_local_build(feature));
    let features: Vec<_> = required.map(ToString::to_string).collect();
    let system = &kind.system;
    if features.is_empty() {
        return format!(
            "add the type {system} to systemTypes; one with features in its name builds only what requires them"
        );
    }
    let name = features.join(",");
    let features = features.join(", ");
    format!(
        "add {features} to supportedFeatures of the type {system}, or add the type {system}:{name}"
    )
}

#[cfg(test)]
mod tests {
    use planner::{BackOff, BackOffKind, EndsWhen, QueueStatus};

    use super::*;

    fn failing(name: &str, retry_at: u64, error: &str) -> Machine {
        let mut machine = Machine::requested(MachineName::new(name), MachineType::new("arm"));
        machine.memory.failing = Some(Failing {
            since: Timestamp(1),
            failures: 2,
            retry_at: Timestamp(retry_at),
            operation: Operation::Create,
            error: error.to_owned(),
        });
        machine
    }

    /// A type with the feature `local` would build nothing but steps with `preferLocalBuild`.
    #[test]
    fn the_remedy_for_steps_without_a_type_makes_them_count() {
        for (features, remedy) in [
            (
                &["local"][..],
                "add the type s to systemTypes; one with features in its name builds only what requires them",
            ),
            (
                &["kvm", "local", "big"],
                "add big, kvm to supportedFeatures of the type s, or add the type s:big,kvm",
            ),
        ] {
            let features = features.iter().map(planner::Feature::new).collect();
            let kind = DemandKey { system: planner::System::new("s"), features };
            assert_eq!(pool_for(&kind), remedy);
        }
    }

    #[test]
    fn failures_of_one_cause_are_one_need() {
        let mut snapshot =
            Snapshot::new(Timestamp(100), QueueStatus::Unavailable("not asked".to_owned()));
        snapshot.machines =
            (0..7).map(|i| failing(&format!("farm-{i}"), 300 - i, "quota")).collect();
        snapshot.machines.push(failing("farm-9", 500, "refused"));
        let back_off = |error: &str| BackOff {
            kind: BackOffKind::Failure,
            failures: 2,
            until: Timestamp(400),
            error: error.to_owned(),
            ends_when: EndsWhen::Created,
        };
        snapshot.back_off.insert(MachineType::new("arm"), back_off("quota"));
        snapshot.back_off.insert(MachineType::new("x86"), back_off("no image"));
        let needs = needs(&snapshot, &Plan::default(), None);
        let texts: Vec<_> = needs.iter().map(|need| need.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "arm: cannot create farm-0, farm-1, farm-2, farm-3, farm-4 and 2 more (failed 2 times, \
                 next try at 1970-01-01 00:06:40): quota",
                "arm: cannot create farm-9 (failed 2 times, next try at 1970-01-01 00:08:20): refused",
                "x86: creation failed 2 times: no image; next try at 1970-01-01 00:06:40",
            ]
        );
        let remedy = needs[0].remedy.as_deref().unwrap_or_default();
        assert!(remedy.ends_with("hydra-provisioner retry arm"), "{remedy}");
    }
}
