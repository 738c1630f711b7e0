//! `history`: past events, from the state database. It may be read while a service runs.

use std::path::Path;

use adapters::config::LONGEST_SECONDS;
use adapters::state;
use planner::Timestamp;
use reconciler::{HistoryEntry, Severity};

use crate::console::{fail, load_beside_service, print};
use crate::exit::Exit;

/// The query.
pub(crate) struct Wanted<'a> {
    /// Seconds ago.
    pub(crate) since: u64,
    pub(crate) machine: Option<&'a str>,
    pub(crate) failed: bool,
    pub(crate) json: bool,
}

/// Parses a duration as in options: `90s`, `10m`, `2h`, `1d`, or seconds.
pub(crate) fn length(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let seconds = match unit {
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 1,
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(seconds))
        .filter(|length| *length <= LONGEST_SECONDS)
        .ok_or_else(|| {
            "must be a duration such as 90s, 10m, 2h or 1d, at most ten years".to_owned()
        })
}

pub(crate) fn history(conf: &Path, wanted: &Wanted<'_>) -> Result<Exit, Exit> {
    let config = load_beside_service(conf)?;
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    let since = Timestamp(now.saturating_sub(wanted.since));
    let entries = state::history(&config.state_dir, since, wanted.machine)
        .map_err(|error| fail(Exit::Unexpected, &error))?;
    for entry in &entries {
        if wanted.failed && entry.what.severity() != Severity::Error {
            continue;
        }
        let line = if wanted.json {
            serde_json::to_string(entry).map_err(|error| fail(Exit::Unexpected, &error))?
        } else {
            line(entry)
        };
        print(format!("{line}\n"))?;
    }
    Ok(Exit::Done)
}

fn line(entry: &HistoryEntry) -> String {
    let about = match (&entry.machine, &entry.machine_type) {
        (Some(machine), _) => machine.to_string(),
        (None, Some(machine_type)) => machine_type.to_string(),
        (None, None) => "-".to_owned(),
    };
    let price = entry.dollars_per_hour.filter(|_| entry.what.begins_cost());
    let price = price.map(|price| format!(", {price} per hour")).unwrap_or_default();
    let text = format!("{}{price}", entry.what);
    format!("{}  {about}  {}", entry.at, planner::escape(&text))
}

#[cfg(test)]
mod tests {
    use super::length;

    #[test]
    fn lengths_are_read() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400)]
        {
            assert_eq!(length(text), Ok(seconds), "{text}");
        }
        for text in ["", "d", "1w", "-1h", "1.5h", "99999999999999999d"] {
            assert!(length(text).is_err(), "{text}");
        }
    }
}
