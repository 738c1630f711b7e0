//! From a file to a JSON value: Nix files by Nix itself, JSON files as they are.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::ConfigError;
use crate::command::{CommandError, Invocation};
use crate::nix;

/// A configuration that fetches something may take its time.
const EVALUATION_LIMIT: Duration = Duration::from_secs(300);

/// The value of `path`: a file that ends in `.json` is read, any other is evaluated by `nix-instantiate`.
pub(super) fn evaluate(path: &Path) -> Result<Value, ConfigError> {
    let bytes = if path.extension().is_some_and(|extension| extension == "json") {
        fs::read(path).map_err(|error| unusable(path, &format!("cannot read it: {error}")))?
    } else {
        instantiate(path)?
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| unusable(path, &format!("it is not valid JSON: {error}")))
}

fn instantiate(path: &Path) -> Result<Vec<u8>, ConfigError> {
    // Nix takes a bare name for an attribute of <nixpkgs> in some places and an option for one everywhere.
    let file = std::path::absolute(path)
        .map_err(|error| unusable(path, &format!("cannot find it: {error}")))?;
    fs::metadata(&file).map_err(|error| unusable(path, &format!("cannot read it: {error}")))?;
    let words = ["nix-instantiate", "--eval", "--strict", "--json"].map(str::to_owned);
    let invocation = Invocation::new(&words, EVALUATION_LIMIT).arg(file.to_string_lossy());
    let output = nix::run(&invocation).map_err(|error| match error {
        CommandError::NotStarted { .. } => unusable(
            path,
            &format!("{error}; install Nix (Debian: the package nix-bin), or give a .json file"),
        ),
        CommandError::TimedOut { .. }
        | CommandError::TooMuch { .. }
        | CommandError::Cancelled { .. } => unusable(path, &error.to_string()),
    })?;
    if output.succeeded() {
        return Ok(output.stdout);
    }
    let message = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    Err(unusable(path, &format!("Nix cannot evaluate it:\n{message}")))
}

fn unusable(path: &Path, reason: &str) -> ConfigError {
    ConfigError::Unusable { path: path.to_owned(), reason: reason.to_owned() }
}
