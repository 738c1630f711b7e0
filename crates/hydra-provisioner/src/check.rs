//! The output of `check` for a valid configuration.

use std::fmt::Write as _;
use std::path::Path;

use adapters::config::Config;

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
