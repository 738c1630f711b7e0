//! The cost of machines, from the history: their price for each second that they ran. A provider that bills whole
//! hours charges somewhat more.

use std::collections::BTreeMap;
use std::path::Path;

use adapters::config::Config;
use adapters::state;
use comfy_table::{Table, presets};
use planner::{MachineName, MachineType, Money, Policy, Seconds, Timestamp};
use reconciler::{HistoryEntry, Record};
use serde::Serialize;

use crate::console::{fail, load, now, print, print_json};
use crate::exit::Exit;

const DAY: Seconds = Seconds(86_400);
const WEEK: Seconds = Seconds(7 * DAY.0);
/// A forecast from less would be a guess.
const SHORTEST: Seconds = Seconds(3600);
/// The longest period.
const DAYS: u64 = 30;

/// Past and current cost.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Costs {
    pub(crate) types: BTreeMap<MachineType, Cost>,
    pub(crate) total: Cost,
    /// Types of machines in the history without a known price.
    pub(crate) without_price: Vec<MachineType>,
}

/// In micro-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cost {
    /// Per hour, for the machines that run now.
    pub(crate) hourly: Money,
    /// In the last 24 hours.
    pub(crate) day: Money,
    /// In the last 7 days.
    pub(crate) week: Money,
    /// In the last 30 days.
    pub(crate) month: Money,
    /// Forecast for 30 days: the rate of the last 7, or since the first machine if that is shorter.
    pub(crate) forecast: Money,
}

/// `cost`.
pub(crate) fn cost(conf: &Path, json: bool) -> Result<Exit, Exit> {
    let config = load(conf)?;
    let costs = of_state(&config.state_dir, &config.policy, now())
        .map_err(|error| fail(Exit::Unexpected, &error))?;
    for machine_type in &costs.without_price {
        tracing::warn!(
            "systemTypes.{machine_type} has no dollarsPerHour, and its provider reported no price: its machines count as free"
        );
    }
    if json {
        print_json(&costs)?;
    } else {
        print(format!("{}\n{}", table(&costs), limits(&config)))?;
    }
    Ok(Exit::Done)
}

/// The cost according to the state in `state_dir`.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn of_state(
    state_dir: &Path,
    policy: &Policy,
    now: Timestamp,
) -> Result<Costs, state::StateError> {
    let machines = state::machines(state_dir)?;
    let since = Timestamp(now.0.saturating_sub(DAYS * DAY.0));
    let entries = if state_dir.join("state.sqlite").exists() {
        state::history(state_dir, since, None)?
    } else {
        Vec::new()
    };
    Ok(Costs::of(&spans(&entries, &machines, policy, since, now), &machines, policy, now))
}

/// A period in which a machine ran.
struct Span {
    machine_type: MachineType,
    from: Timestamp,
    to: Timestamp,
    /// Its price per hour then, if the history contains it.
    price: Option<Money>,
}

/// When machines ran. A machine without a start in the history ran since `since`.
fn spans(
    entries: &[HistoryEntry],
    machines: &[Record],
    policy: &Policy,
    since: Timestamp,
    now: Timestamp,
) -> Vec<Span> {
    let mut running: BTreeMap<MachineName, (Timestamp, Option<Money>)> = BTreeMap::new();
    let mut ended: BTreeMap<MachineName, Timestamp> = BTreeMap::new();
    let mut spans = Vec::new();
    for entry in entries {
        let (Some(name), Some(machine_type)) = (&entry.machine, &entry.machine_type) else {
            continue;
        };
        if entry.what.begins_cost() {
            running.entry(name.clone()).or_insert((entry.at, entry.dollars_per_hour));
        } else if entry.what.ends_cost() {
            let begun = running.remove(name);
            let was_known = ended.insert(name.clone(), entry.at).is_some();
            let price = begun.and_then(|(_, price)| price).or(entry.dollars_per_hour);
            // A machine that was already stopped or destroyed did not run any more.
            let from = begun.map(|(from, _)| from).or((!was_known).then_some(since));
            let machine_type = machine_type.clone();
            spans.extend(from.map(|from| Span { machine_type, from, to: entry.at, price }));
        }
    }
    for record in machines.iter().filter(|record| record.machine.state.is_live()) {
        let machine = &record.machine;
        let reported = machine.started_at.or(machine.memory.known_since).unwrap_or(now);
        let begun = running.remove(&machine.name);
        let price = begun.and_then(|(_, price)| price).or_else(|| policy.price_of(machine));
        let from = begun.map_or(reported.max(since), |(from, _)| from);
        let machine_type = machine.machine_type.clone();
        spans.push(Span { machine_type, from, to: now, price });
    }
    spans
}

impl Costs {
    fn of(spans: &[Span], machines: &[Record], policy: &Policy, now: Timestamp) -> Self {
        let mut costs = Self::default();
        let price = |machine_type: &MachineType| policy.pools.get(machine_type)?.dollars_per_hour;
        for machine_type in policy.pools.keys() {
            costs.types.insert(machine_type.clone(), Cost::default());
        }
        for record in machines.iter().filter(|record| record.machine.state.is_live()) {
            let machine_type = &record.machine.machine_type;
            let cost = costs.types.entry(machine_type.clone()).or_default();
            cost.hourly = cost.hourly.plus(policy.price_of(&record.machine).unwrap_or_default());
        }
        for span in spans {
            let Some(price) = span.price.or_else(|| price(&span.machine_type)) else {
                if !costs.without_price.contains(&span.machine_type) {
                    costs.without_price.push(span.machine_type.clone());
                }
                continue;
            };
            let cost = costs.types.entry(span.machine_type.clone()).or_default();
            for (days, sum) in [(1, &mut cost.day), (7, &mut cost.week), (DAYS, &mut cost.month)] {
                let begin = Timestamp(now.0.saturating_sub(days * DAY.0));
                let ran = span.to.since(span.from.max(begin));
                *sum = sum.plus(Money(price.times(ran.0).0 / 3600));
            }
        }
        let first = spans.iter().map(|span| span.from).min().unwrap_or(now);
        let observed = now.since(first).clamp(SHORTEST, WEEK);
        for cost in costs.types.values_mut() {
            cost.forecast = Money(cost.week.times(DAYS * DAY.0).0 / observed.0);
        }
        costs.total = costs.types.values().fold(Cost::default(), |sum, cost| Cost {
            hourly: sum.hourly.plus(cost.hourly),
            day: sum.day.plus(cost.day),
            week: sum.week.plus(cost.week),
            month: sum.month.plus(cost.month),
            forecast: sum.forecast.plus(cost.forecast),
        });
        costs
    }
}

/// To the cent.
pub(crate) fn cents(money: Money) -> String {
    let cents = money.0.saturating_add(5000) / 10_000;
    format!("${}.{:02}", cents / 100, cents % 100)
}

fn table(costs: &Costs) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["TYPE", "NOW, AN HOUR", "24 HOURS", "7 DAYS", "30 DAYS", "NEXT 30 DAYS"]);
    let rows = costs.types.iter().map(|(name, cost)| (name.to_string(), cost));
    for (name, cost) in rows.chain([("all".to_owned(), &costs.total)]) {
        let Cost { hourly, day, week, month, forecast } = *cost;
        let [day, week, month, forecast] = [day, week, month, forecast].map(cents);
        table.add_row([name, hourly.to_string(), day, week, month, forecast]);
    }
    table
}

fn limits(config: &Config) -> String {
    let limits = config.policy.cost_limits;
    let named = [
        ("maxHourlyCost", limits.hourly),
        ("maxDailyCost", limits.daily),
        ("maxMonthlyCost", limits.monthly),
    ];
    let set = named.iter().filter_map(|(name, limit)| Some(format!("{name} is {}\n", (*limit)?)));
    set.collect()
}

#[cfg(test)]
mod tests {
    use planner::{Machine, MachineState, PoolPolicy, System, Tag};
    use reconciler::Happening;

    use super::*;

    fn entry(at: u64, name: &str, what: Happening) -> HistoryEntry {
        let machine_type = Some(MachineType::new("x"));
        HistoryEntry {
            at: Timestamp(at),
            machine: Some(MachineName::new(name)),
            machine_type,
            what,
            dollars_per_hour: None,
        }
    }

    #[test]
    fn a_machine_costs_while_it_runs() {
        let now = Timestamp(100 * DAY.0);
        let since = Timestamp(70 * DAY.0);
        let ago = |hours: u64| now.0 - hours * 3600;
        let created = Happening::Created { took: Seconds(1) };
        let entries = [
            // Ran before the history begins, for 30 days minus two.
            entry(ago(48), "farm-1", Happening::Destroyed),
            entry(ago(47), "farm-1", Happening::Gone),
            entry(ago(40), "farm-0", created),
            entry(ago(20), "farm-0", Happening::Stopped),
            entry(ago(10), "farm-0", Happening::Started { took: Seconds(1) }),
            entry(ago(5), "farm-0", Happening::Destroyed),
        ];
        let price = Some(Money(1_000_000));
        let pool =
            PoolPolicy { dollars_per_hour: price, ..PoolPolicy::new(vec![System::new("x")]) };
        let pools = [(MachineType::new("x"), pool)].into();
        let policy = Policy::new(Tag::new("farm"), pools);
        let costs = Costs::of(&spans(&entries, &[], &policy, since, now), &[], &policy, now);
        let dollars = |number: u64| Money(number * 1_000_000);
        assert_eq!(
            costs.total,
            Cost {
                hourly: Money(0),
                day: dollars(4 + 5),
                week: dollars(20 + 5 + 24 * 5),
                month: dollars(20 + 5 + 24 * 28),
                forecast: Money(145_000_000 * 30 / 7),
            }
        );
        assert_eq!(cents(Money(1_004_999)), "$1.00");
    }

    #[test]
    fn a_farm_of_a_day_is_forecast_from_that_day() {
        let now = Timestamp(100 * DAY.0);
        let created = Happening::Created { took: Seconds(1) };
        let entries = [
            entry(now.0 - DAY.0, "farm-0", created),
            entry(now.0 - DAY.0 / 2, "farm-0", Happening::Destroyed),
        ];
        let price = Some(Money(1_000_000));
        let pool =
            PoolPolicy { dollars_per_hour: price, ..PoolPolicy::new(vec![System::new("x")]) };
        let policy = Policy::new(Tag::new("farm"), [(MachineType::new("x"), pool)].into());
        let spans = spans(&entries, &[], &policy, Timestamp(70 * DAY.0), now);
        let costs = Costs::of(&spans, &[], &policy, now);
        assert_eq!(costs.total.forecast, Money(12_000_000 * 30));
    }

    #[test]
    fn a_configured_price_takes_precedence_over_the_one_of_the_provider() {
        let now = Timestamp(100 * DAY.0);
        let mut record: Record = serde_json::from_value(serde_json::json!({
            "machine": Machine::requested(MachineName::new("farm-0"), MachineType::new("x")),
            "provider": "command",
        }))
        .unwrap();
        record.machine.state = MachineState::Up;
        record.machine.started_at = Some(Timestamp(now.0 - 3600));
        record.machine.dollars_per_hour = Some(Money(5_000_000));
        let pool = PoolPolicy {
            dollars_per_hour: Some(Money(1_000_000)),
            ..PoolPolicy::new(vec![System::new("x")])
        };
        let policy = Policy::new(Tag::new("farm"), [(MachineType::new("x"), pool)].into());
        let machines = [record];
        let spans = spans(&[], &machines, &policy, Timestamp(70 * DAY.0), now);
        let total = Costs::of(&spans, &machines, &policy, now).total;
        assert_eq!((total.hourly, total.day), (Money(1_000_000), Money(1_000_000)));
    }
}
