//! Runs Nix's own programs.

use std::thread;
use std::time::{Duration, Instant};

use crate::command::{CommandError, Invocation, Output};

/// How many attempts on a busy database: 5 s in total.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// Runs `invocation`, and repeats it while another process holds Nix's database. Nix itself waits for the
/// database, but not while opening it (Nix 2.8, several processes).
///
/// # Errors
/// When it cannot be started or does not end in time, counting all attempts.
pub(crate) fn run(invocation: &Invocation) -> Result<Output, CommandError> {
    let began = Instant::now();
    let mut output = invocation.run()?;
    for _ in 1..BUSY_TRIES {
        let left = invocation.limit().saturating_sub(began.elapsed() + BUSY_PAUSE);
        if output.succeeded() || !is_busy(&output) || left.is_zero() {
            break;
        }
        tracing::debug!("Nix's database is busy; trying again");
        thread::sleep(BUSY_PAUSE);
        output = invocation.clone().limited_to(left).run()?;
    }
    Ok(output)
}

/// Whether it failed because another process holds Nix's database.
pub(crate) fn is_busy(output: &Output) -> bool {
    let message = String::from_utf8_lossy(&output.stderr);
    message.lines().any(|line| line.contains("SQLite database") && line.contains("is busy"))
}
