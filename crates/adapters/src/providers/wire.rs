//! Parses the answers of a provider's program (protocol 1, `docs/provider-protocol.md`).
//!
//! Unambiguous values are accepted in any spelling. An invalid detail is reported and ignored. An invalid
//! name, type or state makes the whole answer fail, with the machine's own text.

use planner::{
    Host, Machine, MachineName, MachineState, MachineType, Seconds, Tag, Timestamp, escape,
};
use serde_json::{Map, Value};

use super::ssh_access::SshAccess;
use crate::json;

/// Maximum length of a program's output in a message, in characters.
const MAX_SHOWN_CHARS: usize = 300;
/// 2000-01-01: an earlier start time is wrong.
const EARLIEST: Timestamp = Timestamp(946_684_800);
/// How far a provider's clock may be ahead of ours.
const CLOCK_SLACK: Seconds = Seconds(86_400);
/// The longest period that is paid for in advance: a month, plus a day for clocks.
const MAX_CHARGE: Seconds = Seconds(32 * 86_400);

/// The machines in the answer to `list`.
///
/// # Errors
/// When a machine could be missed or mistaken for another.
pub(super) fn machines(stdout: &[u8], now: Timestamp) -> Result<Vec<Machine>, String> {
    let answer = object(stdout)?;
    let Some(Value::Array(list)) = answer.get("machines") else {
        return Err(format!("it has no list `machines`; it printed {}", shown(stdout)));
    };
    let read =
        |(at, value)| machine(value, now).map_err(|problem| format!("machines[{at}]{problem}"));
    list.iter().enumerate().map(read).collect()
}

/// The machine in the answer to `create`.
///
/// # Errors
/// When it does not identify the created machine.
pub(super) fn created(stdout: &[u8], now: Timestamp) -> Result<Machine, String> {
    let answer = object(stdout)?;
    let value = answer
        .get("machine")
        .ok_or_else(|| format!("it has no `machine`; it printed {}", shown(stdout)))?;
    machine(value, now).map_err(|problem| format!("machine{problem}"))
}

/// The answer to any other verb: only the exit code matters.
///
/// # Errors
/// When the output is not JSON: it may be another program.
pub(super) fn done(stdout: &[u8]) -> Result<(), String> {
    if stdout.trim_ascii().is_empty() {
        return Ok(());
    }
    serde_json::from_slice(stdout)
        .map(|_: serde::de::IgnoredAny| ())
        .map_err(|error| format!("it is not JSON: {error}; it printed {}", shown(stdout)))
}

fn object(stdout: &[u8]) -> Result<Map<String, Value>, String> {
    json::object(stdout)
        .map_err(|error| format!("it is not a JSON object: {error}; it printed {}", shown(stdout)))
}

/// The start of a program's output, for a message.
fn shown(stdout: &[u8]) -> String {
    let text = String::from_utf8_lossy(stdout);
    let text = text.trim();
    if text.is_empty() {
        return "nothing".to_owned();
    }
    let cut: String = text.chars().take(MAX_SHOWN_CHARS).collect();
    let dots = if cut.len() < text.len() { "..." } else { "" };
    format!("{}{dots}", escape(&cut))
}

/// One machine. Unknown keys are allowed, so that a program can report more than we know.
fn machine(value: &Value, now: Timestamp) -> Result<Machine, String> {
    let wrong = |what: String| format!("{what}: {}", shown(value.to_string().as_bytes()));
    let Value::Object(fields) = value else {
        return Err(wrong(" is not an object".to_owned()));
    };
    let text = |key: &str| match fields.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.as_str()),
        _ => Err(wrong(format!(" has no {key}"))),
    };
    let mut machine =
        Machine::requested(MachineName::new(text("name")?), MachineType::new(text("type")?.trim()));
    let reported_state = text("state")?;
    machine.state = state(reported_state).ok_or_else(|| {
        wrong(format!(".state \"{}\" is not a state of protocol 1", escape(reported_state)))
    })?;
    read_details(&mut machine, fields, now);
    Ok(machine)
}

fn state(text: &str) -> Option<MachineState> {
    Some(match text.trim().to_ascii_lowercase().as_str() {
        "creating" => MachineState::Creating,
        "starting" => MachineState::Starting,
        "up" => MachineState::Up,
        "unreachable" => MachineState::Unreachable,
        "stopping" => MachineState::Stopping,
        "stopped" => MachineState::Stopped,
        "failed" => MachineState::Failed,
        _ => return None,
    })
}

fn read_details(machine: &mut Machine, fields: &Map<String, Value>, now: Timestamp) {
    let mut details = Details { fields, problems: Vec::new() };
    machine.tag = details.tag();
    machine.host_name = details.text("host_name").and_then(|name| details.host("host_name", &name));
    machine.started_at = details.time("started_at", now.after(CLOCK_SLACK));
    machine.next_charge_at = details.time("next_charge_at", now.after(MAX_CHARGE));
    let access = SshAccess {
        address: details.text("address"),
        ssh_user: details.text("ssh_user"),
        ssh_port: details.port("ssh_port"),
        host_key: details.text("host_key"),
    };
    let is_reached_by_guess = details.problems.iter().any(|problem| problem.is_about_access);
    machine.problems.extend(details.problems.into_iter().map(|problem| problem.text));
    access.apply(machine);
    if is_reached_by_guess && let Some(host) = machine.address.take() {
        machine.memory.published.insert(planner::Endpoint { host, port: None });
    }
}

/// The optional fields of a machine, and their problems.
struct Details<'a> {
    fields: &'a Map<String, Value>,
    problems: Vec<Problem>,
}

struct Problem {
    text: String,
    /// Whether the ssh access would be a guess.
    is_about_access: bool,
}

impl Details<'_> {
    /// A field; `null` and a blank string count as absent.
    fn get(&self, key: &str) -> Option<&Value> {
        let is_blank = |value: &Value| value.as_str().is_some_and(|text| text.trim().is_empty());
        self.fields.get(key).filter(|value| !value.is_null() && !is_blank(value))
    }

    fn refuse<T>(&mut self, key: &str, why: &str) -> Option<T> {
        let is_about_access = matches!(key, "address" | "ssh_user" | "ssh_port" | "host_key");
        let value = self.fields.get(key).map(Value::to_string).unwrap_or_default();
        let rest = if is_about_access {
            "the machine is not used until its provider reports a valid value"
        } else {
            "it is ignored"
        };
        let text = format!("its {key} {} {why}; {rest}", shown(value.as_bytes()));
        self.problems.push(Problem { text, is_about_access });
        None
    }

    fn text(&mut self, key: &str) -> Option<String> {
        match self.get(key)? {
            // A shell's `echo` ends its text with a line break.
            Value::String(text) => Some(text.trim().to_owned()),
            _ => self.refuse(key, "is not a string"),
        }
    }

    fn host(&mut self, key: &str, text: &str) -> Option<Host> {
        text.parse().map_or_else(|_| self.refuse(key, "is not a host name"), Some)
    }

    /// An invalid tag is not ours.
    fn tag(&self) -> Option<Tag> {
        let value = self.fields.get("tag").filter(|tag| !tag.is_null() && tag.as_str() != Some(""));
        value.map(|value| match value {
            Value::String(text) => Tag::new(text.as_str()),
            other => Tag::new(other.to_string()),
        })
    }

    fn port(&mut self, key: &str) -> Option<u16> {
        let number = number(self.get(key)?);
        let port =
            number.filter(|number| number.fract() == 0.0 && (1.0..=65535.0).contains(number));
        // In range.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        port.map_or_else(|| self.refuse(key, "is not a port"), |port| Some(port as u16))
    }

    /// A time between the year 2000 and `latest`; 0 counts as absent.
    fn time(&mut self, key: &str, latest: Timestamp) -> Option<Timestamp> {
        let Some(seconds) = seconds(self.get(key)?) else {
            return self.refuse(key, "is not a time in seconds since 1970");
        };
        match Timestamp(seconds) {
            Timestamp(0) => None,
            time if (EARLIEST..=latest).contains(&time) => Some(time),
            Timestamp(time) if (EARLIEST..=latest).contains(&Timestamp(time / 1000)) => {
                self.refuse(key, "is in milliseconds; it must be in seconds since 1970")
            }
            time if time < EARLIEST => self.refuse(key, "is before the year 2000"),
            _ => self.refuse(key, "is too far ahead for a time in seconds since 1970"),
        }
    }
}

/// A number, or a string that contains one.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number| number.is_finite())
}

/// Seconds since 1970: a number, without its fraction, or a date and time of RFC 3339.
fn seconds(value: &Value) -> Option<u64> {
    if let Some(number) = number(value) {
        // The cast saturates; a negative number is not a time.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        return (number >= 0.0).then_some(number as u64);
    }
    let time: jiff::Timestamp = value.as_str()?.trim().parse().ok()?;
    u64::try_from(time.as_second()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use serde_json::json;

    use super::*;
    use crate::mutations::at_least;

    const NOW: Timestamp = Timestamp(1_795_473_782);

    fn read(details: Value) -> Machine {
        let mut machine =
            json!({ "name": "t-0", "type": "x", "state": "up", "address": "10.0.0.7" });
        if let Value::Object(details) = details {
            machine.as_object_mut().unwrap().extend(details);
        }
        let answer = json!({ "machines": [machine] }).to_string();
        machines(answer.as_bytes(), NOW).unwrap().remove(0)
    }

    #[test]
    fn times_are_taken_however_they_are_written() {
        for value in [
            json!(1_795_470_000),
            json!(1_795_470_000.75),
            json!("1795470000"),
            json!(" 1795470000.5 "),
            json!("2026-11-23T21:40:00Z"),
            json!("2026-11-23T22:40:00+01:00"),
        ] {
            let machine = read(json!({ "started_at": value, "next_charge_at": value }));
            let time = Some(Timestamp(1_795_470_000));
            assert_eq!((machine.started_at, machine.next_charge_at), (time, time), "{value}");
            assert_eq!(machine.problems, [""; 0], "{value}");
        }
        for value in [json!(null), json!(""), json!(0), json!("0")] {
            let machine = read(json!({ "started_at": value }));
            assert_eq!((machine.started_at, machine.problems.len()), (None, 0), "{value}");
        }
    }

    #[test]
    fn absurd_times_are_named_and_left_out() {
        for (value, why) in [
            (json!(1_795_473_782_000_u64), "is in milliseconds"),
            (json!(12_000), "is before the year 2000"),
            (json!(1_999_999_999), "is too far ahead"),
            (json!(u64::MAX), "is too far ahead"),
            (json!(-5), "is not a time"),
            (json!("soon"), "is not a time"),
            (json!(true), "is not a time"),
            (json!([1]), "is not a time"),
        ] {
            for key in ["started_at", "next_charge_at"] {
                let machine = read(json!({ key: value }));
                assert_eq!((machine.started_at, machine.next_charge_at), (None, None));
                let problem = &machine.problems[0];
                assert!(problem.starts_with(&format!("its {key} ")), "{problem}");
                assert!(problem.contains(why), "{value}: {problem}");
            }
        }
        let in_a_week = json!(NOW.0 + 7 * 86_400);
        assert!(read(json!({ "next_charge_at": in_a_week })).problems.is_empty());
        assert_eq!(read(json!({ "started_at": in_a_week })).problems.len(), 1);
    }

    #[test]
    fn details_that_make_no_sense_do_not_cost_the_answer() {
        for (details, problem) in [
            (json!({ "host_name": 7 }), "its host_name 7 is not a string; it is ignored"),
            (
                json!({ "host_name": "a b" }),
                "its host_name \"a b\" is not a host name; it is ignored",
            ),
            (
                json!({ "ssh_port": 70000 }),
                "its ssh_port 70000 is not a port; the machine is not used until",
            ),
            (
                json!({ "address": ["10.0.0.7"] }),
                "its address [\"10.0.0.7\"] is not a string; the machine is not used",
            ),
            (
                json!({ "host_key": "ssh-rsa AAAA\nx" }),
                "its host_key \"ssh-rsa AAAA\\nx\" is not one line",
            ),
        ] {
            let machine = read(details);
            assert_eq!(machine.problems.len(), 1, "{:?}", machine.problems);
            assert!(machine.problems[0].starts_with(problem), "{:?}", machine.problems);
            let is_used = machine.address.is_some();
            assert_eq!(is_used, problem.contains("it is ignored"), "{problem}");
        }
        let machine = read(json!({ "ssh_port": "2222", "state": "UP", "tag": "t", "more": [1] }));
        assert_eq!((machine.ssh_port, machine.problems.len()), (2222, 0));
        assert_eq!(machine.tag, Some(Tag::new("t")));
    }

    #[test]
    fn a_verb_that_is_done_may_say_nothing() {
        assert!(done(b"").is_ok() && done(b"{}\n").is_ok() && done(b"null").is_ok());
        assert_eq!(
            done(b"usage: x\n").unwrap_err(),
            "it is not JSON: expected value at line 1 column 1; it printed usage: x"
        );
    }

    #[test]
    fn what_a_machine_is_must_be_clear() {
        for (answer, error) in [
            ("", "it is not a JSON object: EOF"),
            ("[]", "it is not a JSON object"),
            ("\u{1b}[2Joops", "it printed \\u{1b}[2Joops"),
            ("{}", "it has no list `machines`; it printed {}"),
            (r#"{"machines":{}}"#, "it has no list `machines`"),
            (r#"{"machines":[7]}"#, "machines[0] is not an object: 7"),
            (r#"{"machines":[{"type":"x","state":"up"}]}"#, "machines[0] has no name: {"),
            (
                r#"{"machines":[{"name":"t-0","type":"x","state":"running"}]}"#,
                "machines[0].state \"running\" is not a state of protocol 1: {",
            ),
        ] {
            let problem = machines(answer.as_bytes(), NOW).unwrap_err();
            assert!(problem.contains(error), "{problem}");
        }
    }

    const SAMPLE: &str = r#"{"machines":[{"name":"t-0","type":"x","tag":"t","state":"up","address":"root@[2001:db8::4]:22","host_name":"h","ssh_user":"root","ssh_port":22,"host_key":"ssh-ed25519 AAAA","started_at":1795470000.5,"next_charge_at":"2026-11-23T21:40:00Z"}]}"#;

    proptest! {
        #![proptest_config(at_least(50_000))]

        /// No mutated answer causes a panic, and used values can be recorded unchanged.
        #[test]
        fn no_answer_is_too_odd(edits in vec((any::<Index>(), 0..4_u8, any::<u8>()), 1..4)) {
            let mut bytes = SAMPLE.as_bytes().to_vec();
            for (at, how, byte) in edits {
                let at = at.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
                match how {
                    0 if !bytes.is_empty() => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    2 if !bytes.is_empty() => drop(bytes.remove(at)),
                    _ => {}
                }
            }
            for machine in machines(&bytes, NOW).unwrap_or_default() {
                prop_assert!(machine.address.is_none_or(|host| host.is_readable()));
                prop_assert!(machine.host_key.is_none_or(|key| !key.contains(char::is_control)));
                prop_assert!(!machine.ssh_user.starts_with('-'));
                let latest = NOW.after(MAX_CHARGE);
                let times = [machine.started_at, machine.next_charge_at];
                prop_assert!(times.into_iter().flatten().all(|time| (EARLIEST..=latest).contains(&time)));
                prop_assert!(machine.problems.iter().all(|text| !text.contains(char::is_control)));
            }
        }
    }
}
