//! The document that gives a new machine its identity (`docs/qemu.md`, "Identity"; read by
//! `scripts/image/identity`), and the host keys in it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::ProviderError;
use crate::command::Invocation;

/// Generating a key takes milliseconds.
const KEYGEN_LIMIT: Duration = Duration::from_secs(30);

/// The identity of a guest.
#[derive(Debug)]
pub(super) struct Identity<'a> {
    /// The machine's host name.
    pub(super) host_name: &'a str,
    /// In the format of machine-id(5); empty: the machine creates its own.
    pub(super) machine_id: &'a str,
    /// The private host key, in ssh-keygen's format.
    pub(super) host_key: &'a [u8],
    /// Public keys that may log in.
    pub(super) authorized_keys: &'a [String],
    /// How many seconds after the provisioner's last visit an idle machine powers itself off.
    pub(super) idle_timeout: u32,
}

impl Identity<'_> {
    /// The document.
    pub(super) fn document(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "host-name {}", self.host_name);
        if !self.machine_id.is_empty() {
            let _ = writeln!(text, "machine-id {}", self.machine_id);
        }
        let _ = writeln!(text, "host-key {}", BASE64.encode(self.host_key));
        for key in self.authorized_keys {
            let _ = writeln!(text, "authorized-key {}", key.trim());
        }
        let _ = writeln!(text, "idle-timeout {}", self.idle_timeout);
        text.push_str("end\n");
        text
    }
}

/// Creates a new ed25519 host key: the private key in `file`, the public key in `file`.pub.
///
/// # Errors
/// When ssh-keygen cannot be run or fails.
pub(super) fn generate_host_key(file: &Path, comment: &str) -> Result<(), ProviderError> {
    for leftover in [file.to_owned(), public_file(file)] {
        // Left by an interrupted attempt; ssh-keygen would ask.
        let _ = fs::remove_file(leftover);
    }
    let invocation = Invocation::new(&["ssh-keygen".to_owned()], KEYGEN_LIMIT)
        .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
        .arg(file.display().to_string());
    let output = invocation.run().map_err(ProviderError::from)?;
    if output.succeeded() {
        return Ok(());
    }
    Err(ProviderError::failed(format!("cannot create a host key: {}", output.stderr_tail())))
}

/// The path of the public half of the key in `file`.
pub(super) fn public_file(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".pub");
    path.into()
}

/// A public key without its comment, `ssh-ed25519 AAAA...`.
pub(super) fn without_comment(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    Some(format!("{} {}", words.next()?, words.next()?))
}

/// The keys that may log in: `given`, and those in `file`.
///
/// # Errors
/// When `file` cannot be read and no other key is given; `option` is the option that could give one.
pub(super) fn authorized_keys(
    given: &[String],
    file: Option<&Path>,
    option: &str,
) -> Result<Vec<String>, ProviderError> {
    let mut keys = given.to_vec();
    if let Some(path) = file {
        match fs::read_to_string(path) {
            Ok(text) => keys.extend(text.lines().map(str::to_owned)),
            Err(_) if !keys.is_empty() => {}
            Err(error) => {
                return Err(ProviderError::failed(format!(
                    "cannot read the public key {}: {error}; create it from sshKey with `ssh-keygen -y`, or set {option}",
                    path.display()
                )));
            }
        }
    }
    keys.retain(|key| !key.trim().is_empty());
    Ok(keys)
}
