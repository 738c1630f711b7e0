//! What makes a guest this machine and no other: handed in at each start, never in the image.
//!
//! The guest's side is `scripts/image/identity`; `docs/qemu.md` describes the document.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::folder::{Folder, Spec, unreadable, unwritable};
use crate::atomic_file;
use crate::command::Invocation;
use crate::providers::ProviderError;

/// Generating a key takes milliseconds.
const KEYGEN_LIMIT: Duration = Duration::from_secs(30);

/// Makes the machine's host key and the document that hands it in, unless they are there.
///
/// # Errors
/// When they cannot be made or written.
pub(super) fn prepare(folder: &Folder, spec: &Spec) -> Result<(), ProviderError> {
    if folder.identity().exists() {
        return Ok(());
    }
    let authorized_keys = spec.settings.all_authorized_keys()?;
    let key = folder.host_key();
    for leftover in [key.clone(), key.with_extension("pub")] {
        // Of an earlier, cut off attempt; ssh-keygen would ask.
        let _ = fs::remove_file(leftover);
    }
    let invocation = Invocation::new(&["ssh-keygen".to_owned()], KEYGEN_LIMIT)
        .args(["-q", "-t", "ed25519", "-N", "", "-C", spec.name.as_str(), "-f"])
        .arg(key.display().to_string());
    let output = invocation.run().map_err(ProviderError::from)?;
    if !output.succeeded() {
        return Err(ProviderError::failed(format!(
            "cannot make a host key: {}",
            output.stderr_tail()
        )));
    }
    let private_key = fs::read(&key).map_err(|error| unreadable(&key, &error))?;
    let document = document(spec, &private_key, &authorized_keys);
    atomic_file::write(&folder.identity(), document.as_bytes(), 0o600)
        .map_err(|error| unwritable(folder.path(), &error))
}

fn document(spec: &Spec, private_key: &[u8], authorized_keys: &[String]) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "host-name {}", spec.name);
    if !spec.machine_id.is_empty() {
        let _ = writeln!(text, "machine-id {}", spec.machine_id);
    }
    let _ = writeln!(text, "host-key {}", BASE64.encode(private_key));
    for key in authorized_keys {
        let _ = writeln!(text, "authorized-key {}", key.trim());
    }
    let _ = writeln!(text, "idle-timeout {}", spec.settings.idle_timeout);
    text.push_str("end\n");
    text
}

/// A new one, as machine-id(5) wants it: a random UUID without its dashes.
///
/// # Errors
/// When the kernel gives none.
pub(super) fn new_machine_id() -> Result<String, ProviderError> {
    let source = Path::new("/proc/sys/kernel/random/uuid");
    let uuid = fs::read_to_string(source).map_err(|error| unreadable(source, &error))?;
    Ok(uuid.trim().replace('-', ""))
}

/// The public host key, `ssh-ed25519 AAAA...`, without its comment; `None` until it is made.
pub(super) fn public_host_key(folder: &Folder) -> Option<String> {
    let text = fs::read_to_string(folder.host_key().with_extension("pub")).ok()?;
    let mut words = text.split_whitespace();
    Some(format!("{} {}", words.next()?, words.next()?))
}
