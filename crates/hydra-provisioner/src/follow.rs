//! `status --watch`: refreshes the status until it is ended. Each refresh runs our own program, which reads the
//! configuration again.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::console::{fail, print};
use crate::exit::Exit;

/// Clears a terminal and moves to its upper left corner.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows the status of `conf` every `interval` seconds: on a terminal it replaces the previous one, elsewhere it is
/// printed whenever it changes. As JSON, one object per line.
pub(crate) fn follow(conf: &Path, json: bool, interval: u64) -> Result<Exit, Exit> {
    let is_terminal = io::stdout().is_terminal();
    let mut last = String::new();
    loop {
        let text = look(conf, json)?;
        if json {
            if !text.is_empty() {
                print(format!("{}\n", one_line(&text)?))?;
            }
        } else if is_terminal {
            raw(&format!("{CLEAR}{}\n{text}", planner_time()))?;
        } else if text != last {
            print(format!("{}\n{text}", planner_time()))?;
        }
        last = text;
        thread::sleep(Duration::from_secs(interval));
    }
}

fn look(conf: &Path, json: bool) -> Result<String, Exit> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("status").arg(conf);
    if json {
        command.arg("--json");
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| {
        fail(Exit::Unexpected, &format!("cannot start our own program: {error}"))
    })?;
    // Errors were printed to standard error; an unavailable queue is part of the status.
    match output.status.code() {
        Some(2) => Err(Exit::BadConfig),
        _ => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
    }
}

fn one_line(json: &str) -> Result<String, Exit> {
    let value: serde_json::Value =
        serde_json::from_str(json).map_err(|error| fail(Exit::Unexpected, &error))?;
    Ok(value.to_string())
}

fn planner_time() -> planner::Timestamp {
    crate::console::now()
}

/// Our own control characters.
fn raw(text: &str) -> Result<(), Exit> {
    io::Write::write_all(&mut io::stdout().lock(), text.as_bytes()).map_err(|_| Exit::Unexpected)
}
