//! `sim bound`: bounds of the cost.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;
use simulator::bound::{Bracket, bracket};
use simulator::engine::Millis;
use simulator::simulation::Setup;

use super::args::{Bound, Format, Options};
use super::conf::Conf;
use super::input::{Trace, bad};
use super::layout::{Grid, quoted, wrapped};
use super::prices;
use crate::console::{fail, print, print_json};
use crate::exit::Exit;

const NOTE: &str = "At least: no provisioner can be cheaper. Clairvoyant: the cost of a schedule that knows the future.";

/// Which steps are not in the bounds.
pub(super) const LEFT_OUT: &str =
    "that no machine type builds, that are canceled, or that need such a step";

/// The bounds of one trace, with its first seed.
struct Bounds {
    trace: String,
    setup: Setup,
    brackets: Vec<Bracket>,
}

/// Prints the bounds of each trace, for each wait.
pub(super) fn bound(args: &Bound) -> Result<Exit, Exit> {
    args.conf.without_policy("bounds hold for any provisioner")?;
    if args.conf.interval.is_some() {
        let message = "bounds do not depend on when the queue is asked: leave out the interval";
        return Err(fail(Exit::BadConfig, &format!("{}: {message}", args.conf)));
    }
    let conf = Conf::read(&args.conf, &Options::with_farm(args.farm.clone()))?;
    let bounds = args.traces.iter().map(|path| Bounds::of(args, &conf, path));
    let bounds = bounds.collect::<Result<Vec<_>, _>>()?;
    match args.format {
        Format::Table => print(bounds.iter().map(Bounds::table).collect::<String>())?,
        Format::Json => {
            let values =
                bounds.iter().map(|one| json!({ "trace": one.trace, "bounds": one.brackets }));
            print_json(&values.collect::<Vec<_>>())?;
        }
        Format::Csv => print(csv(&bounds))?,
    }
    Ok(Exit::Done)
}

impl Bounds {
    fn of(args: &Bound, conf: &Conf, path: &Path) -> Result<Self, Exit> {
        let trace = Trace::read(path)?;
        let setup = conf.setup(&trace, trace.first_seed(args.seed))?;
        let waits = args.wait.iter().map(|wait| Millis::from_seconds(*wait));
        let brackets: Vec<_> = waits.map(|wait| bracket(&setup, wait)).collect();
        let bounds = Self { trace: trace.name, setup, brackets };
        if bounds.left_out() == bounds.setup.workload.steps().len() as u64 {
            let problem = "no machine type builds any of its steps, but for canceled ones";
            return Err(bad(&bounds.trace, &problem));
        }
        Ok(bounds)
    }

    fn left_out(&self) -> u64 {
        self.brackets.first().map_or(0, |bracket| bracket.left_out)
    }

    fn table(&self) -> String {
        let mut grid = Grid::new(["at least, $", "clairvoyant, $"].into_iter());
        for bracket in &self.brackets {
            let dollars = |amount: f64| format!("{amount:.4}");
            let wait = format!("wait, p95 {}", bracket.wait);
            grid.add(&wait, vec![dollars(bracket.least), dollars(bracket.clairvoyant)]);
        }
        let mut text = format!("{}: seed {}\n{}", self.trace, self.setup.seed.0, grid.to_text());
        text += &wrapped(NOTE);
        if self.left_out() > 0 {
            let steps = planner::counted(self.left_out(), "step");
            text += &wrapped(&format!("Left out: {steps} {LEFT_OUT}."));
        }
        for price in prices::of(&self.setup) {
            text += &wrapped(&format!("Price of {price}."));
        }
        text + "\n"
    }
}

/// One line for each trace and wait.
fn csv(bounds: &[Bounds]) -> String {
    let mut text = format!("trace,seed,{CSV_COLUMNS}\n");
    for one in bounds {
        for bracket in &one.brackets {
            let (trace, seed) = (quoted(&one.trace), one.setup.seed.0);
            let _ = writeln!(text, "{trace},{seed},{}", csv_cells(Some(bracket)));
        }
    }
    text
}

/// The columns of a bracket in CSV.
pub(super) const CSV_COLUMNS: &str =
    "boundWaitMs,leastMicroDollars,clairvoyantMicroDollars,leftOut";

/// Empty cells if there is none.
pub(super) fn csv_cells(bracket: Option<&Bracket>) -> String {
    let Some(Bracket { wait, least, clairvoyant, left_out }) = bracket else {
        return ",,,".to_owned();
    };
    format!("{},{:.0},{:.0},{left_out}", wait.0, least * 1e6, clairvoyant * 1e6)
}
