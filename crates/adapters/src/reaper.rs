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

/// The reaper's main function: keeps a list of process groups (`+ID` or `-ID`, one per line), and ends them
/// when standard input closes.
pub fn serve() {
    end_groups(&left(io::stdin().lock()), TERM_TIMEOUT);
}

/// The groups that have not ended when `lines` end. An incomplete last line is ignored: it could name another
/// group.
fn left(mut lines: impl BufRead) -> BTreeSet<i32> {
    let mut groups = BTreeSet::new();
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
        let entry = line.strip_suffix('\n').and_then(|entry| entry.split_at_checked(1));
        match entry.map(|(sign, id)| (sign, id.parse::<i32>())) {
            Some(("+", Ok(id))) if id > 1 => groups.insert(id),
            Some(("-", Ok(id))) => groups.remove(&id),
            _ => false,
        };
        line.clear();
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_began_and_has_not_ended_is_left() {
        let lines = "+10\n+11\n-10\n+12\n-12\n+1\n+-5\nnonsense\n\n+13\n+14";
        assert_eq!(left(lines.as_bytes()), BTreeSet::from([11, 13]));
        assert_eq!(left(&b""[..]), BTreeSet::new());
    }
}
