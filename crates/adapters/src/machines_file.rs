//! Writes the machines file (`parseMachines` in Nix's `machines.cc`; `parse_machines` in Hydra's C++ queue runner).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use planner::{Feature, MachinesFile};
use reconciler::Published;
use rustix::fs::{Access, access};

use crate::atomic_file;
use crate::command::Invocation;
use crate::config::{MachinesFileMode, MachinesFileSettings, MachinesFileTarget};

/// The first line of our files. Both queue runners and Nix treat `#` as a comment, but older Nix (2.8) also
/// ends lines at `;`.
const MARK: &str = "# Written by hydra-provisioner";
const HEADER: &str = "# Written by hydra-provisioner, which replaces it. Put your own machines into staticMachines.\n";

/// Publishes the machines file to its configured target.
#[derive(Clone, Debug)]
pub struct Sink {
    settings: MachinesFileSettings,
    limit: Duration,
}

impl Sink {
    /// `limit` applies to one `updateCommand`.
    pub fn new(settings: MachinesFileSettings, limit: Duration) -> Self {
        Self { settings, limit }
    }

    /// Replaces the machines file as a whole or not at all.
    ///
    /// # Errors
    /// With what failed and where. The queue runner then still reads the previous file.
    pub fn publish(&self, file: &MachinesFile) -> Result<Published, String> {
        let lines = render(file, &self.settings.static_machines);
        match &self.settings.target {
            MachinesFileTarget::NotWanted => Ok(Published::NotWanted),
            MachinesFileTarget::File(path) => {
                replace(path, &format!("{HEADER}{lines}"), self.settings.mode)
                    .map_err(|problem| format!("cannot write {}: {problem}", path.display()))
            }
            MachinesFileTarget::Command(words) => {
                let invocation = Invocation::new(words, self.limit).stdin(lines);
                let output = invocation.run().map_err(|error| error.to_string())?;
                if output.succeeded() {
                    Ok(Published::Changed)
                } else {
                    Err(format!(
                        "updateCommand {} ended with exit code {}: {}",
                        invocation.command_line(),
                        output.code,
                        output.stderr_tail()
                    ))
                }
            }
        }
    }
}

/// Why the file at `path` may not or cannot be replaced, as far as can be seen without writing.
pub fn cannot_replace(path: &Path, mode: MachinesFileMode) -> Option<String> {
    match target(path, mode) {
        Err(problem) => Some(problem),
        Ok((path, _)) => {
            let folder = path.parent().filter(|folder| folder.exists())?;
            let error = access(folder, Access::WRITE_OK).err()?;
            Some(format!("cannot write into {}: {}", folder.display(), io::Error::from(error)))
        }
    }
}

/// Replaces the file at `path`, or the target of a symlink there, unless another program wrote it.
fn replace(path: &Path, text: &str, mode: MachinesFileMode) -> Result<Published, String> {
    let see = |error: io::Error| format!("{error}; see machinesFile");
    let (path, old) = target(path, mode)?;
    if old == text.as_bytes() {
        return Ok(Published::Unchanged);
    }
    atomic_file::write(&path, text.as_bytes(), 0o644).map_err(see)?;
    Ok(Published::Changed)
}

/// The file that is replaced, and its content.
///
/// # Errors
/// When it may not be replaced.
fn target(path: &Path, mode: MachinesFileMode) -> Result<(PathBuf, Vec<u8>), String> {
    let see = |error: io::Error| format!("{error}; see machinesFile");
    let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    let path = if is_link {
        let target = fs::canonicalize(path);
        target.map_err(|error| format!("it is a dangling symlink: {error}; remove it"))?
    } else {
        path.to_owned()
    };
    let old = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        // Reading a pipe may never end, and a device must not be replaced.
        Ok(metadata) if !metadata.is_file() => {
            return Err("it is not a regular file; see machinesFile".to_owned());
        }
        _ => fs::read(&path).map_err(see)?,
    };
    if mode == MachinesFileMode::Own && !is_ours(&old) {
        return Err("it was not written by hydra-provisioner, and would be lost; move its machines to \
                    staticMachines and set machinesFileMode to \"takeover\", or name another machinesFile"
            .to_owned());
    }
    Ok((path, old))
}

/// Whether we wrote a file, or it is empty.
fn is_ours(text: &[u8]) -> bool {
    text.trim_ascii().is_empty() || text.starts_with(MARK.as_bytes())
}

/// The static lines, then one machine per line, in eight columns.
pub fn render(file: &MachinesFile, static_machines: &[String]) -> String {
    let mut text = String::new();
    for line in static_machines {
        text.push_str(line);
        text.push('\n');
    }
    for entry in &file.entries {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{} {} {} {} {} {} {} {}",
            entry.store_uri,
            entry.systems.iter().map(planner::System::as_str).collect::<Vec<_>>().join(","),
            entry.ssh_key.as_deref().unwrap_or("-"),
            entry.max_jobs,
            entry.speed_factor,
            list(&entry.supported_features),
            list(&entry.mandatory_features),
            entry
                .machine
                .host_key
                .as_ref()
                .map_or_else(|| "-".to_owned(), |key| BASE64.encode(key.trim())),
        );
    }
    text
}

fn list(features: &[Feature]) -> String {
    if features.is_empty() {
        return "-".to_owned();
    }
    features.iter().map(Feature::as_str).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use planner::{Machine, MachineName, MachineType, MachinesFileEntry, SpeedFactor, System};

    use super::*;

    fn entry(address: &str) -> MachinesFileEntry {
        let machine = Machine::requested(MachineName::new("m"), MachineType::new("t"));
        MachinesFileEntry {
            machine,
            address: planner::Host::new(address),
            store_uri: format!("root@{address}"),
            systems: vec![System::new("x86_64-linux"), System::new("i686-linux")],
            ssh_key: None,
            max_jobs: 4,
            speed_factor: SpeedFactor { thousandths: 1500 },
            supported_features: Vec::new(),
            mandatory_features: Vec::new(),
        }
    }

    #[test]
    fn all_columns() {
        let mut entry = entry("10.0.0.7");
        entry.ssh_key = Some("/keys/id".to_owned());
        entry.supported_features = ["benchmark", "kvm"].map(Feature::new).into();
        entry.mandatory_features = vec![Feature::new("kvm")];
        entry.machine.host_key = Some("ssh-ed25519 AAAA comment\n".to_owned());
        let file = MachinesFile { entries: vec![entry], left_out: Vec::new() };
        assert_eq!(
            render(&file, &["mac-1 aarch64-darwin".to_owned(), "# the other one".to_owned()]),
            "mac-1 aarch64-darwin\n# the other one\n\
             root@10.0.0.7 x86_64-linux,i686-linux /keys/id 4 1.5 benchmark,kvm kvm \
             c3NoLWVkMjU1MTkgQUFBQSBjb21tZW50\n"
        );
    }

    fn write(folder: &Path, before: Option<&str>, mode: MachinesFileMode) -> (bool, String) {
        let path = folder.join("machines");
        let _absent = fs::remove_file(&path);
        if let Some(before) = before {
            fs::write(&path, before).unwrap();
        }
        let is_written = replace(&path, &format!("{HEADER}new\n"), mode).is_ok();
        (is_written, fs::read_to_string(path).unwrap_or_default())
    }

    #[test]
    fn a_file_of_somebody_else_is_left_alone() {
        use MachinesFileMode::{Own, Takeover};
        let folder = tempfile::tempdir().unwrap();
        let new = format!("{HEADER}new\n");
        for (before, mode, is_written) in [
            (None, Own, true),
            (Some(""), Own, true),
            (Some(" \n\n"), Own, true),
            (Some("# Written by hydra-provisioner, in other words\nold\n"), Own, true),
            (Some("mac-1 aarch64-darwin\n"), Own, false),
            (Some("# mine\n"), Own, false),
            (Some("mac-1 aarch64-darwin\n"), Takeover, true),
        ] {
            let expected = if is_written { new.as_str() } else { before.unwrap_or_default() };
            let seen = write(folder.path(), before, mode);
            assert_eq!(seen, (is_written, expected.to_owned()), "{before:?}");
        }
    }

    /// Reading a pipe does not end, and a device must not be replaced by a file.
    #[test]
    fn only_regular_files_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, link) = (folder.path().join("pipe"), folder.path().join("link"));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        for path in [&pipe, &link, &folder.path().to_owned()] {
            for mode in [MachinesFileMode::Own, MachinesFileMode::Takeover] {
                let problem = replace(path, "new\n", mode).unwrap_err();
                assert_eq!(problem, "it is not a regular file; see machinesFile", "{path:?}");
            }
        }
    }

    #[test]
    fn symlinks_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let problem = replace(&link, "new\n", MachinesFileMode::Own).unwrap_err();
        assert!(problem.starts_with("it is a dangling symlink"), "{problem}");
        fs::write(&target, "").unwrap();
        replace(&link, "new\n", MachinesFileMode::Own).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(target).unwrap(), "new\n");
    }
}
