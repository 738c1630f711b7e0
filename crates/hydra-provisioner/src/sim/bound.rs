//! `sim bound`: bounds of the cost.

use std::path::PathBuf;

use simulator::bound::bracket;
use simulator::engine::Millis;

use super::args::{Format, Options};
use super::conf::Conf;
use super::conf_arg::ConfArg;
use super::input::{Trace, bad};
use super::layout::{Grid, wrapped};
use super::prices;
use crate::console::{print, print_json};
use crate::exit::Exit;

const NOTE: &str = "At least: no provisioner can be cheaper. Clairvoyant: the cost of a schedule that knows the future.";

/// Which steps are not in the bounds.
pub(super) const LEFT_OUT: &str =
    "that no machine type builds, that are canceled, or that need such a step";

/// The bounds of each trace (with its first seed), for each wait in seconds.
pub(super) fn bound(
    conf: &ConfArg,
    traces: &[PathBuf],
    waits: &[u64],
    options: &Options,
) -> Result<Exit, Exit> {
    let conf = Conf::read(conf, options)?;
    let mut values = Vec::new();
    for path in traces {
        let trace = Trace::read(path)?;
        let setup = conf.setup(&trace, trace.first_seed(options.seed))?;
        let brackets: Vec<_> =
            waits.iter().map(|wait| bracket(&setup, Millis::from_seconds(*wait))).collect();
        let left_out = brackets.first().map_or(0, |bracket| bracket.left_out);
        if left_out == setup.workload.steps().len() as u64 {
            return Err(bad(
                &trace.name,
                &"no machine type builds any of its steps, but for canceled ones",
            ));
        }
        if options.format == Format::Json {
            values.push(serde_json::json!({ "trace": trace.name, "bounds": brackets }));
            continue;
        }
        let mut grid = Grid::new(["at least, $", "clairvoyant, $"].into_iter());
        for bracket in &brackets {
            let dollars = |amount: f64| format!("{amount:.4}");
            let wait = format!("wait, p95 {}", bracket.wait);
            grid.add(&wait, vec![dollars(bracket.least), dollars(bracket.clairvoyant)]);
        }
        let mut text = format!("{}: seed {}\n{}", trace.name, setup.seed.0, grid.to_text());
        text += &wrapped(NOTE);
        if left_out > 0 {
            let steps = planner::counted(left_out, "step");
            text += &wrapped(&format!("Left out: {steps} {LEFT_OUT}."));
        }
        for price in prices::of(&setup) {
            text += &wrapped(&format!("Price of {price}."));
        }
        print(text + "\n")?;
    }
    if options.format == Format::Json {
        print_json(&values)?;
    }
    Ok(Exit::Done)
}
