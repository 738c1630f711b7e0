//! From a file to a JSON value: Nix evaluates Nix files; JSON files are read directly.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::ConfigError;
use crate::command::{CommandError, Invocation, Output};
use crate::{json, nix};

/// A configuration may fetch something, which takes time.
const EVALUATION_LIMIT: Duration = Duration::from_secs(300);

/// The value of `path`. A file with the ending `.json` is read; any other is evaluated by
/// `nix-instantiate`.
pub(super) fn evaluate(path: &Path) -> Result<Value, ConfigError> {
    let bytes = if path.extension().is_some_and(|extension| extension == "json") {
        fs::read(path).map_err(|error| unusable(path, &format!("cannot read it: {error}")))?
    } else {
        instantiate(path)?
    };
    json::parse(&bytes).map_err(|error| unusable(path, &format!("it is not valid JSON: {error}")))
}

fn instantiate(path: &Path) -> Result<Vec<u8>, ConfigError> {
    // Nix interprets a bare name as an attribute of <nixpkgs> in some places, and as an option everywhere.
    let file = std::path::absolute(path)
        .map_err(|error| unusable(path, &format!("cannot find it: {error}")))?;
    fs::metadata(&file).map_err(|error| unusable(path, &format!("cannot read it: {error}")))?;
    let writing = run_nix(path, &file, &["--read-write-mode"])?;
    if writing.succeeded() {
        return Ok(writing.stdout);
    }
    let message = String::from_utf8_lossy(&writing.stderr).trim_end().to_owned();
    // A configuration that needs nothing in the store also works without write access to it.
    let reading = run_nix(path, &file, &[])?;
    if let Some(reason) = cut_short(&reading) {
        return Err(ConfigError::Unavailable { path: path.to_owned(), reason });
    }
    if !reading.succeeded() {
        return Err(unusable(path, &format!("Nix cannot evaluate it:\n{message}")));
    }
    match missing_store_path(&String::from_utf8_lossy(&reading.stdout)) {
        None => Ok(reading.stdout),
        Some(missing) => Err(unusable(
            path,
            &format!(
                "it needs {missing}, but the Nix store cannot be written here; write paths outside the store as \
                 strings (\"/etc/...\"), or let this user use the Nix daemon:\n{message}"
            ),
        )),
    }
}

/// Evaluates `file`. In read-write mode the paths that it adds to the store (`./my-cloud`) exist after that,
/// and derivations can be imported.
fn run_nix(path: &Path, file: &Path, options: &[&str]) -> Result<Output, ConfigError> {
    let words = ["nix-instantiate", "--eval", "--strict", "--json"].map(str::to_owned);
    let invocation = Invocation::new(&words, EVALUATION_LIMIT)
        .args(options.iter().copied())
        .arg(file.to_string_lossy());
    nix::run(&invocation).map_err(|error| match error {
        CommandError::NotStarted { .. } => ConfigError::Unavailable {
            path: path.to_owned(),
            reason: format!(
                "{error}; install Nix (Debian: the package nix-bin), or give a .json file"
            ),
        },
        CommandError::TimedOut { .. } | CommandError::Canceled { .. } => {
            ConfigError::Unavailable { path: path.to_owned(), reason: error.to_string() }
        }
        CommandError::TooMuch { .. } => unusable(path, &error.to_string()),
    })
}

/// Why Nix said nothing about the file: it was killed (perhaps the host had no memory left), or its database is busy.
fn cut_short(output: &Output) -> Option<String> {
    if nix::is_busy(output) {
        return Some("Nix's database is busy".to_owned());
    }
    let signal = output.code.checked_sub(128).filter(|signal| *signal > 0)?;
    Some(format!("nix-instantiate was ended by signal {signal}"))
}

/// The first path of the Nix store in `text` that does not exist.
fn missing_store_path(text: &str) -> Option<String> {
    const STORE: &str = "/nix/store/";
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || "+-._?=".contains(c);
    text.match_indices(STORE)
        .map(|(at, _)| {
            let name = &text[at + STORE.len()..];
            let end = name.find(|c| !is_of_a_name(c)).unwrap_or(name.len());
            format!("{STORE}{}", &name[..end])
        })
        .find(|path| !Path::new(path).exists())
}

fn unusable(path: &Path, reason: &str) -> ConfigError {
    ConfigError::Unusable { path: path.to_owned(), reason: reason.to_owned() }
}
