//! Logs go to standard error; standard output is for results. Nothing here can fail: a log that cannot be written must
//! not interrupt the creation of a machine.

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::panic;

use clap::{Args, ValueEnum};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

#[derive(Debug, Args)]
pub(crate) struct LoggingArgs {
    /// Format of the log on standard error
    #[arg(long, value_enum, default_value = "human", global = true)]
    pub(crate) log_format: LogFormat,
    /// Log level: error, warn, info, debug, or a tracing filter such as `adapters=debug`
    #[arg(long, default_value = "info", global = true, value_name = "FILTER")]
    pub(crate) log: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Human,
    Json,
}

pub(crate) fn start(args: &LoggingArgs) {
    let (filter, problem) = match EnvFilter::try_new(&args.log) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Stderr)
        .log_internal_errors(false)
        .with_target(false);
    match args.log_format {
        LogFormat::Human => {
            subscriber.with_ansi(io::stderr().is_terminal()).event_format(Line).init();
        }
        LogFormat::Json => subscriber.json().init(),
    }
    // The default hook ignores the log format.
    panic::set_hook(Box::new(|panic| tracing::error!("this is a bug, please report it: {panic}")));
    if let Some(problem) = problem {
        tracing::warn!("--log {}: {problem}; logging info", args.log);
    }
}

/// Standard error, which may be full, closed or a broken pipe.
struct Stderr;

impl io::Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _unwritten = io::Write::write_all(&mut io::stderr(), bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `2026-11-25T09:34:07.123456Z  INFO message field=value`: continuation lines are indented.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        context.field_format().format_fields(Writer::new(&mut text), event)?;
        SystemTime.format_time(&mut writer)?;
        let level = event.metadata().level();
        if writer.has_ansi_escapes() {
            write!(writer, " \x1b[{}m{level:>5}\x1b[0m ", color(*level))?;
        } else {
            write!(writer, " {level:>5} ")?;
        }
        let text = planner::escape_within_lines(&text).replace('\n', "\n    ");
        writeln!(writer, "{text}")
    }
}

/// The code of a level's color on a terminal.
fn color(level: Level) -> u8 {
    const RED: u8 = 31;
    const YELLOW: u8 = 33;
    const GREEN: u8 = 32;
    const BLUE: u8 = 34;
    match level {
        Level::ERROR => RED,
        Level::WARN => YELLOW,
        Level::INFO => GREEN,
        _ => BLUE,
    }
}
