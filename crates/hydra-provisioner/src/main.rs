//! The command line.

mod args;
mod commands;
mod exit;
mod generate;
mod logging;
mod metrics;
mod sim;
#[cfg_attr(not(test), expect(dead_code, reason = "`sim import` does not offer it yet"))]
mod sim_import;
mod status_table;
mod watch;

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    let args = args::Args::parse();
    logging::start(&args.logging);
    commands::run(args).into()
}
