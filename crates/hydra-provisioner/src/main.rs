//! The command line.

mod args;
mod check;
mod commands;
mod exit;
mod generate;
mod logging;
mod metrics;
mod sim;
mod status_table;
mod watch;

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    match args::Args::try_parse() {
        Ok(args) => {
            logging::start(&args.logging);
            commands::run(args).into()
        }
        Err(error) => args::refuse(&error),
    }
}
