//! The command line.

mod args;
mod commands;
mod exit;
mod logging;
mod status_table;

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    let args = args::Args::parse();
    logging::start(&args.logging);
    commands::run(args).into()
}
