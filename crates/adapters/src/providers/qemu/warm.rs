//! Warm start: one machine is booted, and its memory and disk are saved. New machines resume from there, each
//! with its own identity.
//!
//! A template is a machine's folder under `warm/` that no listing shows, one for each type. It is created
//! again when anything that the saved state depends on has changed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use planner::{MachineName, MachineType, Tag};

use super::folder::{Folder, Spec, fingerprint, lock_directory, unreadable, unwritable};
use super::launch::{self, SNAPSHOT, Start};
use super::monitor::{Monitor, dial};
use super::settings::{Accelerator, BootSource, Settings};
use super::{discard, identity, reach, wait_for_ssh};
use crate::atomic_file;
use crate::providers::ProviderError;

/// After booting, a guest ends its last services and preloads what a first build needs, before it waits for
/// an identity.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// A resumed guest takes its identity within seconds.
const IDENTITY_LIMIT: Duration = Duration::from_secs(60);
const SEED_BYTES: usize = 64;

/// Copies the disk of the template for `spec` into `folder`. Creates the template first if necessary.
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
    let templates = templates_dir(state_dir);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&templates)
        .map_err(|error| unwritable(&templates, &error))?;
    // A second caller waits for the first one's template.
    let began = Instant::now();
    let _alone = lock_directory(&templates, limit)?;
    let recipe = recipe(&spec.settings, source, accelerator)?;
    let template = match template_of(&templates, &spec.tag, &spec.machine_type)? {
        Some(template) => template,
        None => free_folder(&templates)?,
    };
    if fs::read_to_string(recipe_file(&template)).ok().as_deref() != Some(&recipe) {
        discard(&template)?;
        tracing::info!(
            machine_type = %spec.machine_type,
            "no matching snapshot: one machine is booted and saved, new ones start from it"
        );
        let left = limit.saturating_sub(began.elapsed());
        let made = make(&template, spec, source, accelerator, left).and_then(|()| {
            atomic_file::write(&recipe_file(&template), recipe.as_bytes(), 0o600)
                .map_err(|error| unwritable(template.path(), &error))
        });
        if let Err(error) = made {
            discard(&template)?;
            return Err(ProviderError {
                message: format!("warm start: {}", error.message),
                ..error
            });
        }
    }
    folder.record_base(&source.disk)?;
    copy_whole(&template.disk(), &folder.disk())
}

fn templates_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("warm")
}

/// Written last: a template without it is incomplete.
fn recipe_file(template: &Folder) -> PathBuf {
    template.path().join("recipe")
}

fn template_of(
    templates: &Path,
    tag: &Tag,
    machine_type: &MachineType,
) -> Result<Option<Folder>, ProviderError> {
    let all = Folder::all(templates)?;
    let found = all.into_iter().find(|(_, s)| s.tag == *tag && s.machine_type == *machine_type);
    Ok(found.map(|(folder, _)| folder))
}

/// A type's name may not be a valid folder name.
fn free_folder(templates: &Path) -> Result<Folder, ProviderError> {
    for number in 0_u32.. {
        let name = MachineName::new(format!("template-{number}"));
        let folder = Folder::new(templates, &name)?;
        if folder.spec()?.is_none() {
            return Ok(folder);
        }
    }
    Err(ProviderError::failed(format!("{} is full", templates.display())))
}

/// Copies the whole file or nothing: a machine with half a disk could boot and build wrong results.
fn copy_whole(from: &Path, to: &Path) -> Result<(), ProviderError> {
    let part = to.with_extension("part");
    fs::copy(from, &part)
        .and_then(|_| fs::rename(&part, to))
        .map_err(|error| unwritable(to, &error))
}

/// If a snapshot cannot be resumed, the next start creates it again.
pub(super) fn invalidate(spec: &Spec, state_dir: &Path) {
    if let Ok(Some(template)) =
        template_of(&templates_dir(state_dir), &spec.tag, &spec.machine_type)
    {
        let _ = fs::remove_file(recipe_file(&template));
    }
}

/// Removes the templates of `tag` that `types` no longer need: of types that are removed or now booted, and
/// incomplete ones of a killed provisioner.
///
/// # Errors
/// When one cannot be removed.
pub(super) fn sweep(
    state_dir: &Path,
    tag: &Tag,
    types: &BTreeMap<MachineType, Settings>,
) -> Result<(), ProviderError> {
    let templates = templates_dir(state_dir);
    // If another process is creating a template, the next sweep handles it. Or there are none.
    let Ok(directory) = fs::File::open(&templates) else { return Ok(()) };
    if directory.try_lock().is_err() {
        return Ok(());
    }
    for (template, spec) in Folder::all(&templates)? {
        let is_wanted = types.get(&spec.machine_type).is_some_and(|settings| settings.warm_start);
        if spec.tag == *tag && !(is_wanted && recipe_file(&template).exists()) {
            discard(&template)?;
        }
    }
    Ok(())
}

/// Everything that the saved state depends on.
fn recipe(
    settings: &Settings,
    source: &BootSource,
    accelerator: Accelerator,
) -> Result<String, ProviderError> {
    let mut lines = Vec::new();
    // Another QEMU version may not understand the saved state.
    let program = executable(&settings.program);
    let files =
        [Some(&source.disk), source.kernel.as_ref(), source.initrd.as_ref(), program.as_ref()];
    for path in files.into_iter().flatten() {
        let print = fingerprint(path).map_err(|error| unreadable(path, &error))?;
        lines.push(format!("{} {print}", path.display()));
    }
    let Settings { memory, cores, machine_type, program, kernel_params, extra_args, .. } = settings;
    lines.push(format!("{memory} MiB, {cores} cores, {machine_type}, {program}, {accelerator:?}"));
    lines.push(format!("{kernel_params:?}, {extra_args:?}"));
    Ok(lines.join("\n"))
}

/// The file of `program`; `None` if there is none, which its start reports better.
fn executable(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates: Vec<_> = if program.contains('/') {
        vec![PathBuf::from(program)]
    } else {
        std::env::split_paths(&path).map(|directory| directory.join(program)).collect()
    };
    candidates.into_iter().find_map(|candidate| candidate.canonicalize().ok())
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
    let name = template.path().file_name().unwrap_or_default().to_string_lossy();
    let spec = Spec::new(
        like.tag.clone(),
        MachineName::new(name),
        like.machine_type.clone(),
        address,
        identity::new_machine_id()?,
        like.settings.clone(),
    );
    template.create(&spec)?;
    launch::make_overlay(template, &source.disk, &source.format)?;
    // A machine that resumes from it gets its own.
    identity::prepare(template, &spec, &spec.settings.all_authorized_keys()?)?;
    launch::start(template, &spec, source, accelerator, Start::Template, limit)?;
    let process = wait_for_ssh(template, &spec, limit)?;
    exchange(template, "hello\n", "waiting\n", READY_LIMIT).map_err(|error| {
        ProviderError::failed(format!(
            "its image does not wait for the identity of a resumed machine (hydra-identity-resume.service): {error}; {}",
            template.console_tail()
        ))
    })?;
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

/// Gives the resumed guest in `folder` its own identity.
///
/// # Errors
/// When it does not answer.
pub(super) fn send_identity(folder: &Folder) -> Result<(), ProviderError> {
    let failed = |error: io::Error| {
        ProviderError::failed(format!(
            "the resumed machine did not take its identity: {error}; {}",
            folder.console_tail()
        ))
    };
    let document = fs::read_to_string(folder.identity())
        .map_err(|error| unreadable(&folder.identity(), &error))?;
    let fresh = fresh_lines().map_err(failed)?;
    let text = format!("begin\n{fresh}{document}");
    exchange(folder, &text, "ok\n", IDENTITY_LIMIT).map_err(failed)
}

/// Sends `text` to the guest on its identity port and waits for the line `answer`.
fn exchange(folder: &Folder, text: &str, answer: &str, limit: Duration) -> io::Result<()> {
    let mut stream = dial(&folder.identity_socket())?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(text.as_bytes())?;
    let deadline = Instant::now() + limit;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while line != answer {
        let left = deadline.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let said = format!("no {} within {} s", answer.trim_end(), limit.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, said));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What a resumed machine needs besides its identity.
fn fresh_lines() -> io::Result<String> {
    let mut seed = [0; SEED_BYTES];
    fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let clock = crate::clock::now().0;
    Ok(format!("clock {clock}\nseed {}\n", BASE64.encode(seed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(folder: &Path) -> Settings {
        fs::write(folder.join("disk"), "disk").unwrap();
        fs::write(folder.join("qemu"), "one").unwrap();
        let mut settings = Settings::new(folder.join("disk"));
        settings.program = folder.join("qemu").display().to_string();
        settings.warm_start = true;
        settings
    }

    #[test]
    fn whatever_the_saved_state_depends_on_makes_another_recipe() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let recipe = |settings: &Settings, accelerator| {
            recipe(settings, &settings.boot_source().unwrap(), accelerator).unwrap()
        };
        let first = recipe(&settings, Accelerator::Tcg);
        assert_eq!(first, recipe(&settings, Accelerator::Tcg));
        let idle = Settings { idle_timeout: 1, host_cores: Some(9), ..settings.clone() };
        assert_eq!(first, recipe(&idle, Accelerator::Tcg), "nothing that the guest has in memory");
        assert_ne!(first, recipe(&settings, Accelerator::Kvm));
        let kernel = Some(folder.path().join("disk"));
        for other in [
            Settings { memory: 1, ..settings.clone() },
            Settings { cores: 9, ..settings.clone() },
            Settings { machine_type: "microvm".to_owned(), ..settings.clone() },
            Settings { kernel_params: vec!["quiet".to_owned()], ..settings.clone() },
            Settings { extra_args: vec!["-S".to_owned()], ..settings.clone() },
            Settings { kernel: kernel.clone(), ..settings.clone() },
            Settings { initrd: kernel, ..settings.clone() },
        ] {
            assert_ne!(first, recipe(&other, Accelerator::Tcg), "{other:?}");
        }
        for changed in ["disk", "qemu"] {
            let before = recipe(&settings, Accelerator::Tcg);
            fs::write(folder.path().join("new"), "another").unwrap();
            fs::rename(folder.path().join("new"), folder.path().join(changed)).unwrap();
            assert_ne!(before, recipe(&settings, Accelerator::Tcg), "{changed}");
        }
    }

    /// A complete template of a provisioner with `tag`.
    fn template(state_dir: &Path, name: &str, tag: &str, machine_type: &str) -> Folder {
        let folder = Folder::new(&templates_dir(state_dir), &MachineName::new(name)).unwrap();
        let spec = Spec::new(
            Tag::new(tag),
            MachineName::new(name),
            MachineType::new(machine_type),
            "127.91.0.1".to_owned(),
            "0".repeat(32),
            Settings::new("/image".into()),
        );
        folder.create(&spec).unwrap();
        fs::write(recipe_file(&folder), "recipe").unwrap();
        folder
    }

    #[test]
    fn types_have_templates_of_their_own_and_those_of_no_use_go() {
        let folder = tempfile::tempdir().unwrap();
        let state_dir = folder.path();
        let warm = settings(state_dir);
        let booted = Settings { warm_start: false, ..warm.clone() };
        let kept = template(state_dir, "template-0", "t", "kept");
        let incomplete = template(state_dir, "template-1", "t", "incomplete");
        fs::remove_file(recipe_file(&incomplete)).unwrap();
        let gone = template(state_dir, "template-2", "t", "gone");
        let now_booted = template(state_dir, "template-3", "t", "booted");
        let of_another = template(state_dir, "template-4", "u", "kept");

        let find = |name: &str| {
            template_of(&templates_dir(state_dir), &Tag::new("t"), &MachineType::new(name)).unwrap()
        };
        assert_eq!(find("kept"), Some(kept.clone()));
        assert_eq!(find("new"), None);
        let free = free_folder(&templates_dir(state_dir)).unwrap();
        assert!(free.path().ends_with("template-5"), "{free:?}");

        let types = [("kept", warm.clone()), ("incomplete", warm), ("booted", booted)];
        let types = types.map(|(name, settings)| (MachineType::new(name), settings)).into();
        let making = lock_directory(&templates_dir(state_dir), Duration::ZERO).unwrap();
        sweep(state_dir, &Tag::new("t"), &types).unwrap();
        assert!(incomplete.path().exists(), "it is being created");
        drop(making);
        sweep(state_dir, &Tag::new("t"), &types).unwrap();
        for (template, stays) in [
            (kept, true),
            (incomplete, false),
            (gone, false),
            (now_booted, false),
            (of_another, true),
        ] {
            assert_eq!(template.path().exists(), stays, "{template:?}");
        }
        sweep(&state_dir.join("none"), &Tag::new("t"), &types).unwrap();
    }

    #[test]
    fn a_guest_answers_or_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let folder = Folder::new(directory.path(), &MachineName::new("m")).unwrap();
        fs::create_dir(folder.path()).unwrap();
        let second = Duration::from_secs(1);
        assert!(exchange(&folder, "hello\n", "waiting\n", second).is_err(), "there is no QEMU");

        let port = std::os::unix::net::UnixListener::bind(folder.identity_socket()).unwrap();
        let guest = std::thread::spawn(move || {
            let mut received = Vec::new();
            for answers in ["noise\nwaiting\n", "noise\n", ""] {
                let (mut stream, _) = port.accept().unwrap();
                stream.write_all(answers.as_bytes()).unwrap();
                let mut line = String::new();
                let mut reader = BufReader::new(stream);
                reader.read_line(&mut line).unwrap();
                received.push(line);
                if !answers.is_empty() {
                    // Until the client closes the connection.
                    reader.read_line(&mut String::new()).unwrap();
                }
            }
            received
        });
        let timeout = Duration::from_secs(60);
        exchange(&folder, "hello\n", "waiting\n", timeout).unwrap();
        let silent = exchange(&folder, "begin\n", "ok\n", second).unwrap_err();
        assert_eq!(silent.to_string(), "no ok within 1 s");
        let gone = exchange(&folder, "begin\n", "ok\n", timeout).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(guest.join().unwrap(), ["hello\n", "begin\n", "begin\n"]);
    }

    #[test]
    fn a_copy_that_was_cut_off_is_no_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("disk.qcow2"));
        assert!(copy_whole(&from, &to).is_err());
        assert!(!to.exists());
        fs::write(folder.path().join("disk.part"), "left by a killed provisioner").unwrap();
        fs::write(&from, "whole").unwrap();
        copy_whole(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "whole");
        assert!(!folder.path().join("disk.part").exists());
    }
}
