//! The process groups of all running programs, so that none of them outlives the provisioner.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::process::{Child, ChildStdin, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use crate::clock::Uptime;

/// How often it is seen whether all of a process group has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

static REGISTRY: Mutex<Registry> =
    Mutex::new(Registry { groups: BTreeSet::new(), is_ending: false, reaper: None });

struct Registry {
    groups: BTreeSet<i32>,
    /// No more programs are started.
    is_ending: bool,
    /// Learns of every group, and ends those that are left when this process dies.
    reaper: Option<ChildStdin>,
}

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    fn tell_reaper(&mut self, line: &str) {
        if let Some(reaper) = &mut self.reaper
            && let Err(error) = reaper.write_all(line.as_bytes())
        {
            tracing::warn!("children may outlive a kill -9 of this process: {error}");
            self.reaper = None;
        }
    }
}

/// The process group of a running program. Dropping it forgets the group, but does not end it.
pub(super) struct Group(Pid);

impl Group {
    /// Starts `command` in a new process group.
    pub(super) fn spawn(command: &mut Command) -> io::Result<(Child, Self)> {
        if registry().is_ending {
            return Err(io::Error::other("the provisioner is ending"));
        }
        let child = command.spawn()?;
        let id = i32::try_from(child.id()).map_err(io::Error::other)?;
        let pid = Pid::from_raw(id).ok_or_else(|| io::Error::other("it has no process id"))?;
        let mut registry = registry();
        registry.groups.insert(id);
        registry.tell_reaper(&format!("+{id}\n"));
        let group = Self(pid);
        if registry.is_ending {
            group.signal(Signal::KILL);
        }
        Ok((child, group))
    }

    pub(super) fn pid(&self) -> Pid {
        self.0
    }

    /// Sends `signal` to the whole group, which may have just ended.
    pub(super) fn signal(&self, signal: Signal) {
        let _ended = kill_process_group(self.0, signal);
    }

    /// Whether any process of the group exists.
    pub(super) fn is_alive(&self) -> bool {
        test_kill_process_group(self.0).is_ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.0.as_raw_pid();
        let mut registry = registry();
        registry.groups.remove(&id);
        registry.tell_reaper(&format!("-{id}\n"));
    }
}

/// Whether [`end_all`] was called.
pub(super) fn is_ending() -> bool {
    registry().is_ending
}

/// Ends every running program with its children: SIGTERM, then after `grace` SIGKILL for the rest. No other
/// program is started after that: for the end of the process.
pub fn end_all(grace: Duration) {
    let groups = {
        let mut registry = registry();
        registry.is_ending = true;
        registry.groups.clone()
    };
    end_groups(&groups, grace);
}

/// Ends the groups with these ids.
pub(crate) fn end_groups(groups: &BTreeSet<i32>, grace: Duration) {
    let deadline = Instant::now() + grace;
    let mut left: Vec<_> = groups.iter().filter_map(|group| Pid::from_raw(*group)).collect();
    left.retain(|group| kill_process_group(*group, Signal::TERM).is_ok());
    loop {
        left.retain(|group| test_kill_process_group(*group).is_ok());
        if left.is_empty() {
            return;
        }
        if Instant::now() >= deadline {
            break;
        }
        thread::sleep(POLL_INTERVAL);
    }
    for group in left {
        let _ended = kill_process_group(group, Signal::KILL);
    }
}

/// From now on `reaper` learns of every group.
pub(crate) fn set_reaper(mut reaper: ChildStdin) -> io::Result<()> {
    let mut registry = registry();
    for group in &registry.groups {
        writeln!(reaper, "+{group}")?;
    }
    registry.reaper = Some(reaper);
    Ok(())
}

/// The reaper ends this process at `at`, unless it receives a later time before.
#[cfg_attr(not(feature = "lease"), allow(dead_code, reason = "only leases end"))]
pub(crate) fn limit_life(at: Uptime) {
    registry().tell_reaper(&format!("={}\n", at.0.as_millis()));
}

/// Tells the reaper that its work is over.
pub(crate) fn forget_reaper() {
    registry().reaper = None;
}
