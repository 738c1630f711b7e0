//! Ends the processes that a killed provisioner (`kill -9`, out of memory) has left running.
//!
//! The reaper is a small process of our own program beside the provisioner. Through a pipe it learns of every
//! process group that begins or ends. When the pipe closes, the provisioner has ended. The reaper then ends
//! the remaining groups. It holds the state directory's lock until that is done, so that the next run does
//! not start beside them. A parent death signal (`prctl`) would end only the program itself, not its
//! children, and needs unsafe code.

use std::collections::BTreeSet;
use std::io::{self, BufRead};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use rustix::process::{Signal, getppid, kill_process};

use crate::clock::Uptime;
use crate::command::{TERM_TIMEOUT, end_groups, forget_reaper, set_reaper};
use crate::lock::Lock;

/// The first argument that makes our program call [`serve`].
pub const ARGUMENT: &str = "__reaper";

/// The reaper of this process. Ends when dropped.
#[derive(Debug)]
pub struct Reaper(Child);

impl Reaper {
    /// Starts our own program as a reaper, which shares `lock`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(lock: &Lock) -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(lock.share()?)
            .stderr(Stdio::null())
            // Ignores a terminal's Ctrl-C.
            .process_group(0)
            .spawn()?;
        if let Some(pipe) = child.stdin.take() {
            set_reaper(pipe)?;
        }
        Ok(Self(child))
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        forget_reaper();
        let _ended = self.0.wait();
    }
}

/// The reaper's work: it keeps a list of process groups (`+ID` or `-ID`, one per line), and ends them when its standard
/// input closes. `=MILLISECONDS` (time since the host booted) is a deadline for the provisioner, which holds a lease
/// until then: unless a later deadline arrives in time, the provisioner is killed with all its groups, frozen or not.
pub fn serve() {
    let provisioner = getppid();
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || forward(io::stdin().lock(), &sender));
    let mut list = List::default();
    let grace = loop {
        let next = match list.deadline {
            Some(deadline) => lines.recv_timeout(deadline.left()),
            None => lines.recv().map_err(RecvTimeoutError::from),
        };
        match next {
            Ok(line) => list.take(&line),
            Err(RecvTimeoutError::Disconnected) => break TERM_TIMEOUT,
            Err(RecvTimeoutError::Timeout) => {
                // If our parent has changed, the provisioner has ended: kill nobody else.
                if let Some(parent) = getppid().filter(|parent| Some(*parent) == provisioner) {
                    let _ended = kill_process(parent, Signal::KILL);
                }
                break Duration::ZERO;
            }
        }
    };
    end_groups(&list.groups, grace);
}

/// Passes on whole lines. A partial line is dropped: it could name another group.
fn forward(mut lines: impl BufRead, sender: &Sender<String>) {
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
        let whole = line.strip_suffix('\n').map(str::to_owned);
        if whole.is_some_and(|line| sender.send(line).is_err()) {
            return;
        }
        line.clear();
    }
}

/// What the reaper has received.
#[derive(Debug, Default)]
struct List {
    /// Groups that have not ended.
    groups: BTreeSet<i32>,
    /// `None`: no deadline.
    deadline: Option<Uptime>,
}

impl List {
    fn take(&mut self, line: &str) {
        let entry = line.split_at_checked(1);
        match entry.map(|(sign, number)| (sign, number.parse::<u64>())) {
            Some(("+", Ok(id))) if id > 1 => self.groups.extend(i32::try_from(id)),
            Some(("-", Ok(id))) => self.groups.retain(|group| u64::try_from(*group) != Ok(id)),
            Some(("=", Ok(at))) => self.deadline = Some(Uptime(Duration::from_millis(at))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_and_has_not_ended_is_left() {
        let lines = "+10\n+11\n-10\n+12\n-12\n+1\n+-5\nnonsense\n\n=700\n+13\n=9000\n+14";
        let (sender, received) = mpsc::channel();
        forward(lines.as_bytes(), &sender);
        drop(sender);
        let mut list = List::default();
        for line in received {
            list.take(&line);
        }
        assert_eq!(list.groups, BTreeSet::from([11, 13]));
        assert_eq!(list.deadline, Some(Uptime(Duration::from_secs(9))));
    }
}
