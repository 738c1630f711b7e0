//! The output of `check` for a valid configuration, and the trial of its providers' calls.

use std::fmt::Write as _;
use std::path::Path;

use adapters::config::Config;
use adapters::providers::{self, Outcome, ProviderContext};

use crate::console::print;
use crate::exit::Exit;

/// The result for `config`, which was read from `conf`, with its maximum cost.
pub(crate) fn verdict(conf: &Path, config: &Config) -> String {
    let types = config.policy.pools.len();
    let noun = if types == 1 { "system type" } else { "system types" };
    let mut text = format!("{}: good, {types} {noun}\n", conf.display());
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
    text
}

/// `check --online`: one line per call that was tried.
pub(crate) fn online(config: &Config) -> Result<Exit, Exit> {
    let mut exit = Exit::Done;
    let context =
        ProviderContext { tag: config.policy.tag.clone(), state_dir: config.state_dir.clone() };
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
