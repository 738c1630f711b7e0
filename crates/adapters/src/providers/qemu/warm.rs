//! Warm start: one machine is booted and its memory and disk saved; new machines go on from there, each with
//! an identity of its own.
//!
//! A template is a machine's folder under `warm/` that no list shows. It is made again when anything that the
//! saved state depends on has changed.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use planner::{MachineName, MachineType, Tag};

use super::folder::{Folder, Spec, fingerprint, unreadable, unwritable};
use super::launch::{self, Start};
use super::monitor::Monitor;
use super::settings::{Accelerator, BootSource, Settings};
use super::{discard, identity, reach, wait_for_ssh};
use crate::atomic_file;
use crate::providers::ProviderError;

/// The name of the saved state in a template's disk.
pub(super) const SNAPSHOT: &str = "warm";
/// After ssh answers, the last services of a boot still start; the guest's end of the identity port is one.
const SETTLE: Duration = Duration::from_secs(5);
/// A resumed guest takes its identity within seconds.
const IDENTITY_LIMIT: Duration = Duration::from_secs(60);
const SEED_BYTES: usize = 64;

/// Copies the disk of the template for `spec` into `folder`, making the template first if need be.
///
/// # Errors
/// When the template cannot be booted or saved, with its console's last lines.
pub(super) fn copy_disk(
    folder: &Folder,
    spec: &Spec,
    source: &BootSource,
    accelerator: Accelerator,
    state_dir: &Path,
    limit: Duration,
) -> Result<(), ProviderError> {
    let templates = state_dir.join("warm");
    fs::create_dir_all(&templates).map_err(|error| unwritable(&templates, &error))?;
    let recipe = recipe(&spec.settings, source, accelerator)?;
    let template = Folder::new(&templates, &MachineName::new("template"))?;
    // Whoever comes second waits for the first one's template; the lock goes with the process.
    let lock = templates.join("lock");
    let lock = fs::File::create(&lock).map_err(|error| unwritable(&lock, &error))?;
    lock.lock().map_err(|error| unwritable(&templates, &error))?;
    let recipe_file = templates.join("recipe");
    if fs::read_to_string(&recipe_file).ok().as_deref() != Some(&recipe) {
        let _outdated = fs::remove_file(&recipe_file);
        discard(&template)?;
        tracing::info!("booting a machine once for a snapshot; new ones start from it");
        if let Err(error) = make(&template, spec, source, accelerator, limit) {
            discard(&template)?;
            return Err(ProviderError {
                message: format!("warm start: {}", error.message),
                ..error
            });
        }
        atomic_file::write(&recipe_file, recipe.as_bytes(), 0o600)
            .map_err(|error| unwritable(&recipe_file, &error))?;
    }
    folder.record_base(&source.disk)?;
    fs::copy(template.disk(), folder.disk()).map_err(|error| unwritable(&folder.disk(), &error))?;
    Ok(())
}

/// All that the saved state depends on.
fn recipe(
    settings: &Settings,
    source: &BootSource,
    accelerator: Accelerator,
) -> Result<String, ProviderError> {
    let mut lines = Vec::new();
    for path in [Some(&source.disk), source.kernel.as_ref(), source.initrd.as_ref()] {
        let Some(path) = path else { continue };
        let print = fingerprint(path).map_err(|error| unreadable(path, &error))?;
        lines.push(format!("{} {print}", path.display()));
    }
    let Settings { memory, cores, machine_type, program, kernel_params, extra_args, .. } = settings;
    lines.push(format!("{memory} MiB, {cores} cores, {machine_type}, {program}, {accelerator:?}"));
    lines.push(format!("{kernel_params:?}, {extra_args:?}"));
    Ok(lines.join("\n"))
}

/// Boots a machine, saves it, and ends it.
fn make(
    template: &Folder,
    like: &Spec,
    source: &BootSource,
    accelerator: Accelerator,
    limit: Duration,
) -> Result<(), ProviderError> {
    let address = reach::free_address(
        &[like.address.clone()].into(),
        like.settings.ssh_port,
        template.path(),
    )?;
    let spec = Spec::new(
        Tag::new("warm"),
        MachineName::new("template"),
        MachineType::new("template"),
        address,
        like.settings.clone(),
    );
    template.create(&spec)?;
    launch::make_overlay(template, &source.disk, &source.format)?;
    identity::prepare(template, &spec)?;
    launch::start(template, &spec, source, accelerator, Start::Template, limit)?;
    let process = wait_for_ssh(template, &spec, limit)?;
    if process.ends_within(SETTLE) {
        return Err(ProviderError::failed(format!(
            "the template's QEMU ended; {}",
            template.console_tail()
        )));
    }
    let save = || -> io::Result<String> {
        Monitor::connect(&template.monitor_socket())?.save_snapshot(SNAPSHOT, limit)
    };
    let complaint = save().unwrap_or_else(|error| error.to_string());
    super::end(template, &process, Duration::ZERO)?;
    if complaint.trim().is_empty() {
        return Ok(());
    }
    Err(ProviderError::failed(format!("the snapshot cannot be saved: {}", complaint.trim())))
}

/// Makes the resumed guest in `folder` this machine and no other.
///
/// # Errors
/// When it does not answer.
pub(super) fn hand_in_identity(folder: &Folder) -> Result<(), ProviderError> {
    let failed = |error: io::Error| {
        ProviderError::failed(format!(
            "the resumed machine did not take its identity: {error}; {}",
            folder.console_tail()
        ))
    };
    let document = fs::read_to_string(folder.identity())
        .map_err(|error| unreadable(&folder.identity(), &error))?;
    let fresh = fresh_lines().map_err(failed)?;
    let talk = || -> io::Result<()> {
        let mut stream = UnixStream::connect(folder.identity_socket())?;
        stream.set_write_timeout(Some(IDENTITY_LIMIT))?;
        stream.write_all(format!("begin\n{fresh}{document}").as_bytes())?;
        let deadline = Instant::now() + IDENTITY_LIMIT;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut answer = String::new();
        while answer != "ok\n" {
            let left = deadline.saturating_duration_since(Instant::now());
            stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            answer.clear();
            if reader.read_line(&mut answer)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    };
    talk().map_err(failed)
}

/// What every resumed machine must have of its own besides its name and keys.
fn fresh_lines() -> io::Result<String> {
    let mut seed = [0; SEED_BYTES];
    fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    // A random UUID without its dashes, as machine-id(5) wants it.
    let machine_id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().replace('-', "");
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Ok(format!("clock {clock}\nseed {}\nmachine-id {machine_id}\n", BASE64.encode(seed)))
}
