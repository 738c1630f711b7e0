//! The identity of a guest: given at each start, never part of the image.
//!
//! The guest's side is `scripts/image/identity`; `docs/qemu.md` describes the document.

use std::fs;
use std::path::Path;

use super::folder::{Folder, Spec, unreadable, unwritable};
use crate::atomic_file;
use crate::providers::ProviderError;
use crate::providers::identity::{Identity, generate_host_key, public_file, without_comment};

/// Creates the machine's host key unless it exists, and writes the identity document with `authorized_keys`: those
/// that are configured now, since the keys may have changed since the machine was created.
///
/// # Errors
/// When they cannot be created or written.
pub(super) fn prepare(
    folder: &Folder,
    spec: &Spec,
    authorized_keys: &[String],
) -> Result<(), ProviderError> {
    let key = folder.host_key();
    // Before the document there may be half a key.
    if !folder.identity().exists() {
        generate_host_key(&key, spec.name.as_str())?;
    }
    let private_key = fs::read(&key).map_err(|error| unreadable(&key, &error))?;
    let identity = Identity {
        host_name: spec.name.as_str(),
        machine_id: &spec.machine_id,
        host_key: &private_key,
        authorized_keys,
        idle_timeout: spec.settings.idle_timeout,
    };
    atomic_file::write(&folder.identity(), identity.document().as_bytes(), 0o600)
        .map_err(|error| unwritable(folder.path(), &error))
}

/// Whether the machine got another document than one with all of `authorized_keys`; `false` if that is not known.
pub(super) fn lacks_key(folder: &Folder, authorized_keys: &[String]) -> bool {
    fs::read_to_string(folder.identity()).is_ok_and(|document| {
        let given: Vec<_> =
            document.lines().filter_map(|line| line.strip_prefix("authorized-key ")).collect();
        authorized_keys.iter().any(|key| !given.contains(&key.trim()))
    })
}

/// A new machine id in the format of machine-id(5): a random UUID without dashes.
///
/// # Errors
/// When the kernel provides none.
pub(super) fn new_machine_id() -> Result<String, ProviderError> {
    let source = Path::new("/proc/sys/kernel/random/uuid");
    let uuid = fs::read_to_string(source).map_err(|error| unreadable(source, &error))?;
    Ok(uuid.trim().replace('-', ""))
}

/// The public host key, `ssh-ed25519 AAAA...`, without its comment; `None` until it is created.
pub(super) fn public_host_key(folder: &Folder) -> Option<String> {
    let text = fs::read_to_string(public_file(&folder.host_key())).ok()?;
    without_comment(&text)
}
