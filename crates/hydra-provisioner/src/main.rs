//! The command line.

mod args;
mod check;
mod commands;
mod console;
mod cost;
mod diff;
mod exit;
mod follow;
mod generate;
mod history;
mod http;
mod init;
mod listener;
mod logging;
mod look;
mod needs;
mod notifier;
mod orders;
mod prices;
mod recording;
mod run;
mod service;
mod session;
#[cfg(feature = "sim")]
mod sim;
mod standby;
mod status;
mod status_table;
mod systemd;
mod watch;
mod why;

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == adapters::reaper::ARGUMENT) {
        adapters::reaper::serve();
        return std::process::ExitCode::SUCCESS;
    }
    match args::Args::try_parse() {
        Ok(args) => {
            logging::start(&args.logging);
            commands::run(args).into()
        }
        Err(error) => args::refuse(&error),
    }
}
