//! The output of `check` for a valid configuration, and the trial of its providers' calls.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::{env, fs};

use adapters::config::{Config, MachinesFileTarget, QueueSettings};
use adapters::providers::{self, Outcome, ProviderContext, ProviderSettings};
use adapters::{machines_file, state};
use planner::{MachineType, counted};

use crate::console::print;
use crate::exit::Exit;

/// So many offers are shown after the first.
const MOST_OFFERS: usize = 11;

/// The result for `config`, which was read from `conf`, with its maximum cost.
pub(crate) fn verdict(conf: &Path, config: &Config) -> String {
    let types = counted(config.policy.pools.len() as u64, "machine type");
    let mut text = format!("{}: good, {types}\n", conf.display());
    if let Some(cost) = config.hourly_cost() {
        // Writing to a string cannot fail.
        let _ = write!(text, "at most {} per hour", cost.most);
        if !cost.unpriced.is_empty() {
            let names: Vec<_> = cost.unpriced.iter().map(ToString::to_string).collect();
            let _ = write!(text, ", without {} (no dollarsPerHour)", names.join(" and "));
        }
        text.push('\n');
    } else {
        text.push_str("at most unknown per hour: no type has dollarsPerHour\n");
    }
    for (name, provider) in &config.providers {
        text.push_str(&requests(name, &provider.offers()));
    }
    text
}

/// What `run` would fail with on this host. The configuration may be for another one, so these are no errors.
pub(crate) fn problems_here(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, provider) in &config.providers {
        if let ProviderSettings::Command(settings) = provider {
            let option = format!("systemTypes.{name}.provider.command.program");
            problems.extend(cannot_run(&option, &settings.program));
        }
    }
    if let QueueSettings::Classic { command } = &config.queue {
        problems.extend(cannot_run("statusCommand", command));
    }
    match &config.machines_file.target {
        MachinesFileTarget::Command(words) => problems.extend(cannot_run("updateCommand", words)),
        MachinesFileTarget::File(path) => {
            let problem = machines_file::cannot_replace(path, config.machines_file.mode);
            problems.extend(
                problem.map(|problem| format!("machinesFile {}: {problem}", path.display())),
            );
        }
        MachinesFileTarget::NotWanted => {}
    }
    problems
        .extend(state::cannot_use(&config.state_dir).map(|problem| format!("stateDir: {problem}")));
    problems
}

/// The problem if the program of `words` is not there, or is not a program.
fn cannot_run(option: &str, words: &[String]) -> Option<String> {
    let program = words.first()?;
    let is_program = |path: &Path| {
        fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    let is_there = if program.contains('/') {
        is_program(Path::new(program))
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).any(|folder| is_program(&folder.join(program)))
    };
    (!is_there).then(|| format!("{option}: cannot run {program}: it is no executable file"))
}

/// What a new machine of the type `name` is requested as, if there is a choice.
fn requests(name: &MachineType, offers: &[String]) -> String {
    let Some((first, others)) = offers.split_first() else { return String::new() };
    let (shown, more) = others.split_at(others.len().min(MOST_OFFERS));
    let others = match (shown.join(", "), more.len()) {
        (none, _) if none.is_empty() => String::new(),
        (others, 0) => format!("; while that is unavailable: {others}"),
        (others, more) => format!("; while that is unavailable: {others}, and {more} more"),
    };
    format!("{name}: a new machine is {first}{others}\n")
}

/// `check --online`: one line per call that was tried.
pub(crate) fn online(config: &Config) -> Result<Exit, Exit> {
    let mut exit = Exit::Done;
    let context = ProviderContext::new(config.policy.tag.clone(), config.state_dir.clone());
    let limit = config.limits.status_timeout;
    for (provider, tried) in providers::try_calls(&context, &config.providers, limit) {
        for one in tried {
            let outcome = match one.outcome {
                Outcome::Allowed => "good".to_owned(),
                Outcome::Skipped(why) => format!("not tried: {why}"),
                Outcome::Refused(why) => {
                    exit = Exit::SomeFailed;
                    format!("REFUSED: {why}")
                }
            };
            print(format!("{provider}: {}: {outcome}\n", one.what))?;
        }
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use adapters::config::parse;
    use serde_json::{Value, json};

    use super::*;

    fn requested(kind: &str, settings: &Value) -> String {
        let types = json!({ "x86_64-linux": { "provider": { kind: settings } } });
        let config = parse(&json!({ "systemTypes": types })).unwrap();
        let text = verdict(Path::new("c"), &config);
        text.lines().skip(2).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn it_tells_what_would_be_asked_for() {
        let ec2 = json!({
            "region": "eu-central-1", "image": "ami-1", "instanceTypes": ["a", "b"], "keyName": "k",
            "purchase": ["spot", "on-demand"],
        });
        assert_eq!(
            requested("ec2", &ec2),
            "x86_64-linux: a new machine is spot a in any zone; while that is unavailable: \
             spot b in any zone, on-demand a in any zone, on-demand b in any zone"
        );
        let hcloud = json!({
            "tokenFile": "/t", "image": "i", "sshKeys": ["k"], "serverTypes": ["a", "b", "c", "d", "e"],
            "locations": ["k", "l", "m"],
        });
        let text = requested("hcloud", &hcloud);
        assert!(text.starts_with("x86_64-linux: a new machine is a in k; while"), "{text}");
        assert!(text.ends_with(", d in l, d in m, and 3 more"), "{text}");
        assert_eq!(requested("qemu", &json!({ "image": "/i", "authorizedKeys": ["k"] })), "");
    }
}
