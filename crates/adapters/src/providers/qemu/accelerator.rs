//! Whether guests really run on KVM here. An existing `/dev/kvm` is not enough (nested virtualization).

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::folder::unwritable;
use super::launch::{accelerator_options, console_device};
use super::settings::{Accelerator, BootSource, Settings};
use crate::atomic_file;
use crate::command::Invocation;
use crate::providers::ProviderError;

/// A kernel on KVM gives up looking for its root within 2 s, or a little later on a loaded host.
const PROBE_LIMIT: Duration = Duration::from_secs(15);
const PROBE_MEMORY_MIB: &str = "256";
static PROBE: Mutex<()> = Mutex::new(());
/// Powers off by QEMU's debug exit (`hw/misc/debugexit.c`): `mov al, 0x10; out 0xf4, al; cli; hlt`.
const BOOT_SECTOR_CODE: [u8; 6] = [0xb0, 0x10, 0xe6, 0xf4, 0xfa, 0xf4];
/// The exit code is the written value, doubled, plus one.
const BOOT_SECTOR_EXIT_CODE: i32 = 0x10 * 2 + 1;

/// The accelerator to use. For `auto` the result of a probe boot, stored in `state_dir` until the host
/// reboots.
///
/// # Errors
/// When the state directory cannot be written.
pub(super) fn choose(
    settings: &Settings,
    source: &BootSource,
    state_dir: &Path,
) -> Result<Accelerator, ProviderError> {
    if settings.accelerator != Accelerator::Auto {
        return Ok(settings.accelerator);
    }
    // Machines created at the same time need only one probe, and one writer of its result.
    let _one_probe = PROBE.lock().unwrap_or_else(PoisonError::into_inner);
    let memory = state_dir.join("kvm-probe");
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let question = format!("{}{}\n", boot_id, settings.program);
    if let Ok(text) = fs::read_to_string(&memory)
        && let Some(answer) = text.strip_prefix(&question)
    {
        return Ok(if answer == "yes\n" { Accelerator::Kvm } else { Accelerator::Tcg });
    }
    tracing::info!(
        seconds_at_most = PROBE_LIMIT.as_secs(),
        "probing whether a kernel boots on KVM"
    );
    let works = kvm_is_writable() && boots_on_kvm(settings, source, state_dir)?;
    tracing::info!(works, "probed KVM; without it machines are about ten times slower");
    let answer = if works { "yes" } else { "no" };
    atomic_file::write(&memory, format!("{question}{answer}\n").as_bytes(), 0o600)
        .map_err(|error| unwritable(&memory, &error))?;
    Ok(if works { Accelerator::Kvm } else { Accelerator::Tcg })
}

fn kvm_is_writable() -> bool {
    fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}

/// Boots the type's kernel without a disk, which ends with a panic; without its own kernel, a single boot
/// sector.
fn boots_on_kvm(
    settings: &Settings,
    source: &BootSource,
    state_dir: &Path,
) -> Result<bool, ProviderError> {
    let (accel, cpu) = accelerator_options(Accelerator::Kvm);
    let invocation = Invocation::new(std::slice::from_ref(&settings.program), PROBE_LIMIT)
        .args(["-accel", accel, "-cpu", cpu, "-m", PROBE_MEMORY_MIB])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    if let Some(kernel) = &source.kernel {
        let params = format!("panic=-1 console={}", console_device(&settings.program));
        let output = invocation
            .args(["-machine", &settings.machine_type, "-serial", "stdio", "-kernel"])
            .arg(kernel.display().to_string())
            .args(["-append", &params])
            .run();
        return Ok(output.is_ok_and(|output| {
            output.succeeded() && String::from_utf8_lossy(&output.stdout).contains("Kernel panic")
        }));
    }
    let sector = state_dir.join("kvm-probe.sector");
    let mut bytes = [0; 512];
    bytes[..BOOT_SECTOR_CODE.len()].copy_from_slice(&BOOT_SECTOR_CODE);
    bytes[510..].copy_from_slice(&[0x55, 0xaa]);
    atomic_file::write(&sector, &bytes, 0o600).map_err(|error| unwritable(&sector, &error))?;
    let output = invocation
        .args(["-machine", "pc", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-drive"])
        .arg(format!("if=ide,format=raw,file={}", super::launch::escaped(&sector)))
        .run();
    // Best effort: the next probe overwrites it.
    let _ = fs::remove_file(&sector);
    Ok(output.is_ok_and(|output| output.code == BOOT_SECTOR_EXIT_CODE))
}
