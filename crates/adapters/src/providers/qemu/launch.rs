//! QEMU's command line, and how it is started so that it outlives the provisioner.

use std::path::Path;
use std::time::Duration;

use super::folder::{Folder, Spec};
use super::settings::{Accelerator, BootSource};
use crate::command::Invocation;
use crate::providers::ProviderError;

/// Parameters of every directly booted kernel: its disk, the console that we read, and to panic rather than
/// hang (QEMU then ends, see `-no-reboot`).
const KERNEL_PARAMS: &str = "root=/dev/vda rw panic=-1 console=";
/// The name of a systemd credential in firmware configuration (systemd.exec(5), "System Credentials").
const IDENTITY_CREDENTIAL: &str = "opt/io.systemd.credentials/hydra-provisioner.identity";
/// The name of the saved state in a template's disk.
pub(super) const SNAPSHOT: &str = "warm";
/// Creating an overlay writes a few hundred KiB.
const OVERLAY_LIMIT: Duration = Duration::from_secs(60);

/// Creates the machine's disk on top of `base`, which is never written.
///
/// # Errors
/// When it cannot be created; nothing of it is left then.
pub(super) fn make_overlay(
    folder: &Folder,
    base: &Path,
    base_format: &str,
) -> Result<(), ProviderError> {
    let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
    folder.record_base(&base)?;
    let output = Invocation::new(&["qemu-img".to_owned()], OVERLAY_LIMIT)
        .args(["create", "-q", "-f", "qcow2", "-F", base_format, "-b"])
        .arg(base.display().to_string())
        .arg(folder.disk().display().to_string())
        .run()?;
    if output.succeeded() {
        return Ok(());
    }
    let _ = std::fs::remove_file(folder.disk());
    Err(ProviderError::failed(format!("cannot create its disk: {}", output.stderr_tail())))
}

/// What a machine starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// From its disk.
    Cold,
    /// From its disk, to be saved once it is up.
    Template,
    /// From the state saved in its disk.
    Warm,
}

impl Start {
    /// For progress messages.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Cold | Self::Template => "booting",
            Self::Warm => "resuming from the snapshot",
        }
    }
}

/// Starts the machine's QEMU. Returns when it runs in the background.
///
/// # Errors
/// With QEMU's error if it does not start.
pub(super) fn start(
    folder: &Folder,
    spec: &Spec,
    source: &BootSource,
    accelerator: Accelerator,
    from: Start,
    limit: Duration,
) -> Result<(), ProviderError> {
    folder.mark_booting()?;
    tracing::info!(machine = %spec.name, address = spec.address, ?accelerator, "{}", from.verb());
    let mut qemu = arguments(folder, spec, source, accelerator);
    if from != Start::Cold {
        qemu.extend(identity_port(folder));
    }
    if from == Start::Warm {
        qemu.extend(["-loadvm", SNAPSHOT].map(str::to_owned));
    }
    let words = outliving(&spec.name.to_string(), qemu);
    let output = Invocation::new(&words, limit).run()?;
    if output.succeeded() {
        return Ok(());
    }
    Err(ProviderError::failed(format!(
        "its QEMU did not start: {}; {}",
        output.stderr_tail(),
        folder.console_tail()
    )))
}

/// The processes of a systemd service end with it (`KillMode=control-group`), including daemons. So under
/// systemd QEMU gets its own scope.
fn outliving(name: &str, qemu: Vec<String>) -> Vec<String> {
    // sd_booted(3).
    if !Path::new("/run/systemd/system").is_dir() {
        return qemu;
    }
    let root = rustix::process::geteuid().is_root();
    // The user of a system service cannot use `systemd-run`; the service's unit sets `KillMode=process`
    // (docs/nixos.md).
    if !root && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        return qemu;
    }
    let mut words: Vec<_> =
        ["systemd-run", "--quiet", "--scope", "--collect"].map(str::to_owned).into();
    if !root {
        words.push("--user".to_owned());
    }
    words.push(format!("--description=build machine {name} of hydra-provisioner"));
    words.push("--".to_owned());
    words.extend(qemu);
    words
}

fn arguments(
    folder: &Folder,
    spec: &Spec,
    source: &BootSource,
    accelerator: Accelerator,
) -> Vec<String> {
    let settings = &spec.settings;
    let mut words = vec![settings.program.clone()];
    let mut option = |name: &str, value: String| {
        words.push(name.to_owned());
        words.push(value);
    };
    option("-name", format!("guest={}", spec.name));
    option("-machine", settings.machine_type.clone());
    let (accel, cpu) = accelerator_options(accelerator);
    option("-accel", accel.to_owned());
    option("-cpu", cpu.to_owned());
    option("-m", settings.memory.to_string());
    option("-smp", settings.cores.to_string());
    if let Some(kernel) = &source.kernel {
        option("-kernel", kernel.display().to_string());
        if let Some(initrd) = &source.initrd {
            option("-initrd", initrd.display().to_string());
        }
        let console = console_device(&settings.program);
        // Set early, so that the journal has this id; in other cases the identity document sets it.
        let mut params = format!("{KERNEL_PARAMS}{console}");
        if !spec.machine_id.is_empty() {
            params.push_str(" systemd.machine_id=");
            params.push_str(&spec.machine_id);
        }
        for param in &settings.kernel_params {
            params.push(' ');
            params.push_str(param);
        }
        option("-append", params);
    }
    option(
        "-drive",
        format!(
            "if=none,id=disk,format=qcow2,discard=unmap,detect-zeroes=unmap,file={}",
            escaped(&folder.disk())
        ),
    );
    option("-device", "virtio-blk-pci,drive=disk,num-queues=1".to_owned());
    option("-device", "virtio-rng-pci".to_owned());
    option(
        "-netdev",
        format!("user,id=net,hostfwd=tcp:{}:{}-:22", spec.address, settings.ssh_port),
    );
    option("-device", "virtio-net-pci,netdev=net".to_owned());
    option("-fw_cfg", format!("name={IDENTITY_CREDENTIAL},file={}", escaped(&folder.identity())));
    option("-serial", format!("file:{}", escaped(&folder.console())));
    option("-qmp", format!("unix:{},server=on,wait=off", escaped(&folder.monitor_socket())));
    option("-pidfile", folder.pid_file().display().to_string());
    option("-display", "none".to_owned());
    // A guest that panics or powers off ends its QEMU: this is how we notice.
    let flags = ["-nodefaults", "-no-user-config", "-no-reboot", "-daemonize"];
    words.extend(flags.map(str::to_owned));
    words.extend(settings.extra_args.iter().cloned());
    words
}

/// The port on which a resumed guest gets its identity.
fn identity_port(folder: &Folder) -> Vec<String> {
    let socket = escaped(&folder.identity_socket());
    let options = [
        ("-device", "virtio-serial-pci".to_owned()),
        ("-chardev", format!("socket,id=identity,server=on,wait=off,path={socket}")),
        ("-device", "virtserialport,chardev=identity,name=hydra-provisioner.identity".to_owned()),
    ];
    options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
}

pub(super) fn accelerator_options(accelerator: Accelerator) -> (&'static str, &'static str) {
    match accelerator {
        Accelerator::Kvm => ("kvm", "host"),
        Accelerator::Auto | Accelerator::Tcg => ("tcg,thread=multi", "max"),
    }
}

/// Linux's name for the first serial port.
pub(super) fn console_device(program: &str) -> &'static str {
    if program.ends_with("aarch64") || program.ends_with("arm") { "ttyAMA0" } else { "ttyS0" }
}

/// A comma separates QEMU's options; a comma in a value is doubled.
pub(super) fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use planner::{MachineName, MachineType, Tag};

    use super::*;
    use crate::providers::qemu::settings::Settings;

    #[test]
    fn the_whole_command_line() {
        let folder = Folder::new(Path::new("/s,1"), &MachineName::new("t-0")).unwrap();
        let mut settings = Settings::new("/image".into());
        settings.program = "qemu-system-x86_64".to_owned();
        settings.machine_type = "q35".to_owned();
        settings.kernel_params = vec!["init=/x".to_owned()];
        settings.extra_args = vec!["-snapshot".to_owned()];
        let spec = Spec::new(
            Tag::new("t"),
            MachineName::new("t-0"),
            MachineType::new("x86_64-linux"),
            "127.91.0.1".to_owned(),
            "0123456789abcdef0123456789abcdef".to_owned(),
            settings,
        );
        let source = BootSource {
            disk: "/image/disk.qcow2".into(),
            format: "qcow2".to_owned(),
            kernel: Some("/image/vmlinuz".into()),
            initrd: Some("/image/initrd.img".into()),
        };
        assert_eq!(
            arguments(&folder, &spec, &source, Accelerator::Tcg).join(" "),
            "qemu-system-x86_64 -name guest=t-0 -machine q35 -accel tcg,thread=multi -cpu max -m 2048 -smp 1 \
             -kernel /image/vmlinuz -initrd /image/initrd.img \
             -append root=/dev/vda rw panic=-1 console=ttyS0 \
             systemd.machine_id=0123456789abcdef0123456789abcdef init=/x \
             -drive if=none,id=disk,format=qcow2,discard=unmap,detect-zeroes=unmap,file=/s,,1/t-0/disk.qcow2 \
             -device virtio-blk-pci,drive=disk,num-queues=1 -device virtio-rng-pci \
             -netdev user,id=net,hostfwd=tcp:127.91.0.1:22-:22 -device virtio-net-pci,netdev=net \
             -fw_cfg name=opt/io.systemd.credentials/hydra-provisioner.identity,file=/s,,1/t-0/identity \
             -serial file:/s,,1/t-0/console.log -qmp unix:/s,,1/t-0/qmp.sock,server=on,wait=off \
             -pidfile /s,1/t-0/pid -display none -nodefaults -no-user-config -no-reboot -daemonize -snapshot"
        );
    }
}
