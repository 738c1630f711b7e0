//! Logs go to standard error; standard output is for data.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::args::{LogFormat, LoggingArgs};

pub(crate) fn start(args: &LoggingArgs) {
    let (filter, problem) = match EnvFilter::try_new(&args.log) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false);
    match args.log_format {
        LogFormat::Human => subscriber.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
        LogFormat::Json => subscriber.json().init(),
    }
    if let Some(problem) = problem {
        tracing::warn!("--log {}: {problem}; logging info", args.log);
    }
}
