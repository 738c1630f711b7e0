//! `provider.qemu` in `conf.nix`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::providers::{ProviderError, identity};

/// The settings of a type's machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// The base disk (qcow2 or raw, never written), or a directory with `disk.qcow2`, `vmlinuz` and
    /// `initrd.img` as created by `scripts/build-image`.
    pub image: PathBuf,
    /// The kernel for direct boot; `None`: the directory's own, or the disk's boot loader.
    pub kernel: Option<PathBuf>,
    /// Its initial ramdisk.
    pub initrd: Option<PathBuf>,
    /// Kernel parameters after `root=/dev/vda rw console=... panic=-1`.
    pub kernel_params: Vec<String>,
    /// Memory of each machine in MiB, 1 or more.
    pub memory: u32,
    /// Virtual processors of each machine, 1 or more.
    pub cores: u32,
    /// How the guest's instructions are run.
    pub accelerator: Accelerator,
    /// QEMU's `-machine`.
    pub machine_type: String,
    /// The QEMU program.
    pub program: String,
    /// Further arguments for QEMU, after all others.
    pub extra_args: Vec<String>,
    /// The parent of the machines' folders; `None`: `qemu` in the provisioner's `stateDir`.
    pub state_dir: Option<PathBuf>,
    /// Memory in MiB that all running machines of the state directory may use together; `None`: three
    /// quarters of the host's.
    pub host_memory: Option<u64>,
    /// The same for processors; `None`: all of the host's.
    pub host_cores: Option<u64>,
    /// The port of the guest's sshd on each machine's loopback address.
    pub ssh_port: u16,
    /// Public keys that may log in as root.
    pub authorized_keys: Vec<String>,
    /// A file with one more: the `.pub` file of `sshKey`.
    pub authorized_key_file: Option<PathBuf>,
    /// Seconds after the provisioner's last visit at which an idle machine powers itself off.
    pub idle_timeout: u32,
    /// Whether new machines are resumed from a snapshot of a booted one.
    pub warm_start: bool,
}

/// How the guest's instructions are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// KVM if a kernel really boots on it, otherwise TCG.
    Auto,
    /// The host's processor.
    Kvm,
    /// Emulated by QEMU: works everywhere, but about ten times slower.
    Tcg,
}

impl Settings {
    /// The settings for `image`; all others have their defaults.
    pub fn new(image: PathBuf) -> Self {
        Self {
            image,
            kernel: None,
            initrd: None,
            kernel_params: Vec::new(),
            memory: 2048,
            cores: 1,
            accelerator: Accelerator::Auto,
            machine_type: match std::env::consts::ARCH {
                "x86_64" => "q35",
                _ => "virt",
            }
            .to_owned(),
            program: format!("qemu-system-{}", std::env::consts::ARCH),
            extra_args: Vec::new(),
            state_dir: None,
            host_memory: None,
            host_cores: None,
            ssh_port: 22,
            authorized_keys: Vec::new(),
            authorized_key_file: None,
            idle_timeout: 3600,
            warm_start: false,
        }
    }

    /// What a machine is made from.
    pub(in crate::providers) fn made_from(&self) -> Self {
        Self { host_memory: None, host_cores: None, warm_start: false, ..self.clone() }
    }

    /// What the machines boot from.
    ///
    /// # Errors
    /// When a required file cannot be read.
    pub(super) fn boot_source(&self) -> Result<BootSource, ProviderError> {
        let is_directory = self.image.is_dir();
        let part = |name: &str| is_directory.then(|| self.image.join(name));
        let disk = part("disk.qcow2").unwrap_or_else(|| self.image.clone());
        let source = BootSource {
            format: disk_format(&disk).map_err(|error| missing("image", &disk, &error))?.to_owned(),
            kernel: self.kernel.clone().or_else(|| part("vmlinuz")),
            initrd: self.initrd.clone().or_else(|| part("initrd.img")),
            disk,
        };
        for (option, path) in [("kernel", &source.kernel), ("initrd", &source.initrd)] {
            if let Some(path) = path {
                std::fs::metadata(path).map_err(|error| missing(option, path, &error))?;
            }
        }
        Ok(source)
    }

    /// The keys that may log in.
    ///
    /// # Errors
    /// When there is none, or the file cannot be read.
    pub(super) fn all_authorized_keys(&self) -> Result<Vec<String>, ProviderError> {
        identity::authorized_keys(
            &self.authorized_keys,
            self.authorized_key_file.as_deref(),
            "provider.qemu.authorizedKeys",
        )
    }
}

fn missing(option: &str, path: &Path, error: &std::io::Error) -> ProviderError {
    ProviderError::failed(format!(
        "cannot read {}: {error}; see provider.qemu.{option} (scripts/build-image creates an image)",
        path.display()
    ))
}

/// What a machine boots from; all paths as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BootSource {
    pub(super) disk: PathBuf,
    /// QEMU's name of the disk's format.
    pub(super) format: String,
    pub(super) kernel: Option<PathBuf>,
    pub(super) initrd: Option<PathBuf>,
}

/// qcow2 is recognized by its first bytes (QEMU, `docs/interop/qcow2.txt`); any other file is raw.
fn disk_format(disk: &Path) -> std::io::Result<&'static str> {
    let mut start = [0; 4];
    let read = std::io::Read::read(&mut std::fs::File::open(disk)?, &mut start)?;
    Ok(if read == start.len() && start == *b"QFI\xfb" { "qcow2" } else { "raw" })
}
