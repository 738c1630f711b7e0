//! The QEMU process of a machine, found through its pid file and never confused with another process.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::folder::Folder;

/// A running QEMU. The pidfd refers to this process even if its id is reused.
#[derive(Debug)]
pub(super) struct Process {
    pid: i32,
    pidfd: OwnedFd,
}

impl Process {
    /// The QEMU of the machine in `folder`, if it runs.
    pub(super) fn of(folder: &Folder) -> Option<Self> {
        let text = fs::read_to_string(folder.pid_file()).ok()?;
        Self::verified(text.trim().parse().ok()?, folder)
    }

    /// The same, by searching all processes: a QEMU that was starting when the provisioner was killed may not
    /// have written its pid file.
    pub(super) fn search(folder: &Folder) -> Option<Self> {
        let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| {
            entry.ok()?.file_name().to_str().and_then(|name| name.parse().ok())
        });
        Self::of(folder).or_else(|| pids.into_iter().find_map(|pid| Self::verified(pid, folder)))
    }

    fn verified(pid: i32, folder: &Folder) -> Option<Self> {
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        let process = Self { pid, pidfd };
        // The arguments are read after the pidfd is opened: they belong to this process, or it has ended.
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        (is_qemu_of(folder, &arguments) && !process.ends_within(Duration::ZERO)).then_some(process)
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for its end, at most `limit`.
    pub(super) fn ends_within(&self, limit: Duration) -> bool {
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        // An interrupted wait only ends early; callers repeat it.
        poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0)
    }

    /// Kills it.
    pub(super) fn kill(&self) {
        // It may have just ended.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

/// Whether a command line (proc(5), `cmdline`) belongs to the machine's QEMU. The path of its pid file is not
/// sufficient: `less` may contain it, too.
fn is_qemu_of(folder: &Folder, command_line: &[u8]) -> bool {
    let pid_file = folder.pid_file();
    let words: Vec<_> = command_line.split(|byte| *byte == 0).collect();
    let option = [b"-pidfile".as_slice(), pid_file.as_os_str().as_encoded_bytes()];
    words.windows(2).any(|pair| pair == option)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use planner::MachineName;

    use super::*;

    #[test]
    fn only_a_qemu_is_taken_for_one() {
        let folder = Folder::new(Path::new("/s"), &MachineName::new("t-0")).unwrap();
        assert!(is_qemu_of(&folder, b"qemu\0-name\0guest=t-0\0-pidfile\0/s/t-0/pid\0-daemonize\0"));
        assert!(!is_qemu_of(&folder, b"qemu\0-pidfile\0/s/t-1/pid\0"));
        assert!(!is_qemu_of(&folder, b"less\0/s/t-0/pid\0"), "an operator who looks at it");
        assert!(!is_qemu_of(&folder, b""), "one that has ended");
    }
}
