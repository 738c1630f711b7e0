//! The QEMU of a machine, found again by its pid file and never mistaken for another process.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::folder::Folder;

/// A running QEMU. Its pidfd stays with this very process whatever happens to the number.
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

    /// The same by a look at all processes: a QEMU that was only just started when the provisioner died may
    /// not have written its pid file.
    pub(super) fn search(folder: &Folder) -> Option<Self> {
        let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| {
            entry.ok()?.file_name().to_str().and_then(|name| name.parse().ok())
        });
        Self::of(folder).or_else(|| pids.into_iter().find_map(|pid| Self::verified(pid, folder)))
    }

    fn verified(pid: i32, folder: &Folder) -> Option<Self> {
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        let process = Self { pid, pidfd };
        // The arguments are read after the pidfd is held: they are those of this process, or it has ended.
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let pid_file = folder.pid_file();
        let names_folder = arguments
            .split(|byte| *byte == 0)
            .any(|argument| argument == pid_file.as_os_str().as_encoded_bytes());
        (names_folder && !process.ends_within(Duration::ZERO)).then_some(process)
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
        // An interrupted wait is a short one; callers ask again.
        poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0)
    }

    /// Ends it at once.
    pub(super) fn kill(&self) {
        // It may have ended just now.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}
