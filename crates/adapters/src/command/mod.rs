//! The only place that spawns processes: spawn, wait with a time limit, return the captured bytes.

mod cancel;
mod groups;
mod pipes;

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{PidfdFlags, Signal, pidfd_open};
use thiserror::Error;

pub use cancel::CancelToken;
pub use groups::end_all;
pub(crate) use groups::{end_groups, forget_reaper, limit_life, set_reaper};

use groups::Group;
use pipes::{Pipes, STDOUT_LIMIT_BYTES, Served};

/// How long background processes of a program may take to close our pipes.
const PIPE_TIMEOUT: Duration = Duration::from_secs(1);
/// The time between SIGTERM and SIGKILL.
pub(crate) const TERM_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval between checks whether all processes of a group have ended.
const GROUP_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum number of arguments shown in messages; Nix gets thousands of paths.
const MAX_SHOWN_WORDS: usize = 30;
/// Lines of standard error shown in an error message.
const STDERR_TAIL_LINES: usize = 5;

/// A program to run, never through a shell.
#[derive(Clone, Debug)]
pub struct Invocation {
    words: Vec<String>,
    stdin: Vec<u8>,
    limit: Duration,
    environment: Vec<(String, String)>,
}

/// The result of a program that ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code, or 128 plus the signal that ended it, as in a shell.
    pub code: i32,
    /// The whole standard output.
    pub stdout: Vec<u8>,
    /// The last 256 KiB of standard error.
    pub stderr: Vec<u8>,
}

/// A program did not run to its end.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot run {program}: {reason}")]
    NotStarted {
        /// The program.
        program: String,
        /// The system's error.
        reason: String,
    },
    /// It exceeded its time limit and was killed with all its children.
    #[error("{program} did not end within {} s and was killed{}", tenths(*limit), after_colon(stderr_tail))]
    TimedOut {
        /// The program and its arguments.
        program: String,
        /// The time limit.
        limit: Duration,
        /// The end of its standard error.
        stderr_tail: String,
    },
    /// Its [`CancelToken`] was canceled, or the provisioner is ending. It was killed with all its children.
    #[error("{program} was canceled")]
    Canceled {
        /// The program and its arguments.
        program: String,
    },
    /// It printed more than any valid output.
    #[error("{program} printed more than {} MiB; is it the right program?", STDOUT_LIMIT_BYTES >> 20)]
    TooMuch {
        /// The program and its arguments.
        program: String,
    },
}

/// Seconds, rounded to a tenth, since the rest of a limit is not round.
fn tenths(limit: Duration) -> f32 {
    (limit.as_secs_f32() * 10.0).round() / 10.0
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

impl Invocation {
    /// `words` are the program and its arguments.
    pub fn new(words: &[String], limit: Duration) -> Self {
        Self { words: words.to_vec(), stdin: Vec::new(), limit, environment: Vec::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.words.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.words.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets standard input to `bytes`; by default it is empty.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Adds an environment variable to the inherited ones.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The time limit.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Replaces the time limit.
    pub(crate) fn limited_to(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Program and arguments, quoted as for a shell.
    pub fn command_line(&self) -> String {
        let (shown, omitted) = self.words.split_at(self.words.len().min(MAX_SHOWN_WORDS));
        let line = shlex::try_join(shown.iter().map(String::as_str));
        let line = line.unwrap_or_else(|_| shown.join(" "));
        if omitted.is_empty() {
            line
        } else {
            format!("{line} (and {} more arguments)", omitted.len())
        }
    }

    /// Runs it to its end, whatever its exit code. Within the [scope](CancelToken::scope) of a token, it ends
    /// when the token is canceled.
    ///
    /// # Errors
    /// When it cannot be started, does not end in time, or is canceled. It and its children are then killed.
    pub fn run(&self) -> Result<Output, CommandError> {
        let (mut child, group) = self.spawn()?;
        tracing::debug!(command = self.command_line(), pid = child.id(), "started");
        let ended = self.attend(&mut child, &group).unwrap_or_else(|error| {
            group.signal(Signal::KILL);
            Err(self.not_started(&error))
        });
        if !matches!(child.try_wait(), Ok(Some(_))) {
            // It was killed; one that hangs in the kernel may take longer. Without a thread, its entry in the process
            // table stays until we end.
            let _not_awaited = thread::Builder::new().spawn(move || child.wait());
        }
        ended
    }

    fn spawn(&self) -> Result<(Child, Group), CommandError> {
        if CancelToken::current().is_some_and(|token| token.is_canceled()) {
            return Err(CommandError::Canceled { program: self.command_line() });
        }
        let Some((program, args)) = self.words.split_first() else {
            return Err(CommandError::NotStarted {
                program: "(nothing)".to_owned(),
                reason: "the command is empty".to_owned(),
            });
        };
        let mut command = Command::new(program);
        command
            .args(args)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A new process group: a timeout also ends its children, and a terminal's Ctrl-C does not end it
            // in the middle of a creation.
            .process_group(0);
        Group::spawn(&mut command).map_err(|error| self.not_started(&error))
    }

    fn not_started(&self, error: &io::Error) -> CommandError {
        let program = self.words.first().cloned().unwrap_or_default();
        CommandError::NotStarted { program, reason: error.to_string() }
    }

    /// Waits for `child` and captures its output. Ends its group at the time limit or on cancellation.
    fn attend(&self, child: &mut Child, group: &Group) -> io::Result<Result<Output, CommandError>> {
        let mut pipes = Pipes::of(child, self.stdin.clone())?;
        let ended = pidfd_open(group.pid(), PidfdFlags::empty())?;
        let canceled = CancelToken::current().map(|token| token.waker()).transpose()?;
        let mut events = vec![ended.as_fd()];
        events.extend(canceled.as_ref().map(|waker| waker.as_fd()));
        let served = pipes.serve(&events, self.deadline())?;
        if served == Served::Event(0) {
            let status = child.wait()?;
            pipes.serve(&[], Instant::now() + PIPE_TIMEOUT)?;
            return Ok(self.output(status, &mut pipes));
        }
        end_group(child, group, &mut pipes)?;
        Ok(Err(match served {
            Served::Event(_) => CommandError::Canceled { program: self.command_line() },
            Served::Closed | Served::TimedOut => CommandError::TimedOut {
                program: self.command_line(),
                limit: self.limit,
                stderr_tail: tail(&pipes.take_errors()),
            },
        }))
    }

    fn deadline(&self) -> Instant {
        let now = Instant::now();
        // A limit beyond the range of the clock is no limit.
        now.checked_add(self.limit).unwrap_or(now + Duration::from_secs(u32::MAX.into()))
    }

    fn output(&self, status: ExitStatus, pipes: &mut Pipes) -> Result<Output, CommandError> {
        if status.signal().is_some() && groups::is_ending() {
            return Err(CommandError::Canceled { program: self.command_line() });
        }
        Ok(Output {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: pipes
                .take_output()
                .ok_or_else(|| CommandError::TooMuch { program: self.command_line() })?,
            stderr: pipes.take_errors(),
        })
    }
}

/// Ends the whole `group`, first by SIGTERM, and captures the last output of `child`.
fn end_group(child: &mut Child, group: &Group, pipes: &mut Pipes) -> io::Result<()> {
    group.signal(Signal::TERM);
    let deadline = Instant::now() + TERM_TIMEOUT;
    // An ended child counts as a member of its group until it is waited for.
    while child.try_wait()?.is_none() || group.is_alive() {
        if Instant::now() >= deadline {
            // A child may outlive the program itself and ignore SIGTERM.
            group.signal(Signal::KILL);
            break;
        }
        if pipes.serve(&[], Instant::now() + GROUP_POLL_INTERVAL)? == Served::Closed {
            thread::sleep(GROUP_POLL_INTERVAL);
        }
    }
    pipes.serve(&[], Instant::now() + PIPE_TIMEOUT)?;
    Ok(())
}

impl Output {
    /// Whether the exit code is 0.
    pub fn succeeded(&self) -> bool {
        self.code == 0
    }

    /// The last lines of standard error, joined into one line for an error message.
    pub fn stderr_tail(&self) -> String {
        tail(&self.stderr)
    }
}

fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(STDERR_TAIL_LINES)..].join(" | ")
}

#[cfg(test)]
mod tests {
    use super::pipes::STDERR_LIMIT_BYTES;
    use super::*;

    fn sh(script: &str, limit: Duration) -> Invocation {
        Invocation::new(&["sh".to_owned(), "-c".to_owned(), script.to_owned()], limit)
    }

    #[test]
    fn a_command_line_of_thousands_of_words_is_cut() {
        let words: Vec<_> = (0..5_030).map(|n| format!("/nix/store/{n}.drv")).collect();
        let line = Invocation::new(&words, Duration::from_secs(1)).command_line();
        assert!(line.ends_with("/nix/store/29.drv (and 5000 more arguments)"), "{line}");
    }

    #[test]
    fn input_output_and_code_are_handed_through() {
        let output =
            sh("cat; echo oops >&2; exit 3", Duration::from_secs(20)).stdin("hello").run().unwrap();
        assert_eq!((output.code, output.stdout.as_slice()), (3, &b"hello"[..]));
        assert_eq!(output.stderr_tail(), "oops");
    }

    #[test]
    fn what_does_not_end_is_killed_with_its_children() {
        let pid_file = tempfile::NamedTempFile::new().unwrap();
        let script =
            format!("sleep 600 & echo $! >{}; echo waiting >&2; wait", pid_file.path().display());
        let error = sh(&script, Duration::from_secs(2)).run().unwrap_err();
        assert_eq!(
            error.to_string().split_once(" did not end").unwrap().1,
            " within 2 s and was killed: waiting"
        );
        assert!(is_gone(pid_file.path()), "the child still runs");
    }

    /// Whether the process with the id in `pid_file` is gone, now or soon.
    fn is_gone(pid_file: &std::path::Path) -> bool {
        let pid = std::fs::read_to_string(pid_file).unwrap();
        assert!(!pid.is_empty(), "it was killed before it began");
        let lives = || {
            std::fs::read_to_string(format!("/proc/{}/status", pid.trim()))
                .is_ok_and(|status| !status.contains("State:\tZ"))
        };
        let began = Instant::now();
        while lives() && began.elapsed() < Duration::from_secs(10) {
            thread::yield_now();
        }
        !lives()
    }

    #[test]
    fn a_child_that_ignores_the_polite_signal_is_killed_though_the_program_obeys() {
        let pid_file = tempfile::NamedTempFile::new().unwrap();
        let stubborn = "trap : TERM; while :; do sleep 1; done";
        let script = format!("sh -c '{stubborn}' & echo $! >{}; wait", pid_file.path().display());
        sh(&script, Duration::from_secs(1)).run().unwrap_err();
        assert!(is_gone(pid_file.path()), "the child still runs");
    }

    #[test]
    fn endless_output_fills_no_memory() {
        let endless = "yes 0123456789abcdef | head -c 80000000";
        let error = sh(endless, Duration::from_secs(60)).run().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("sh -c '{endless}' printed more than 64 MiB; is it the right program?")
        );
        let output = sh(&format!("({endless}; echo last) >&2"), Duration::from_secs(60)).run();
        let stderr = output.unwrap().stderr;
        assert_eq!(stderr.len(), STDERR_LIMIT_BYTES);
        assert!(stderr.ends_with(b"last\n"), "the end is kept");
    }

    #[test]
    fn what_goes_in_comes_out() {
        let input = "0123456789abcdef\n".repeat(100_000);
        let output = sh("cat; echo done >&2; exit 3", Duration::from_secs(20)).stdin(input.clone());
        let output = output.run().unwrap();
        assert_eq!((output.code, output.stderr_tail().as_str()), (3, "done"));
        assert!(output.stdout == input.as_bytes(), "{} bytes", output.stdout.len());
        let unread = sh("exec <&-; exit 7", Duration::from_secs(20)).stdin(input).run().unwrap();
        assert_eq!(unread.code, 7);
    }

    #[test]
    fn a_canceled_program_is_ended_with_its_children() {
        let pid_file = tempfile::NamedTempFile::new().unwrap();
        let script = format!("sleep 600 & echo $! >{}; wait", pid_file.path().display());
        let token = CancelToken::new();
        let began = Instant::now();
        let error = thread::scope(|threads| {
            let run = || token.scope(|| sh(&script, Duration::from_secs(600)).run());
            let running = threads.spawn(run);
            while std::fs::read_to_string(pid_file.path()).unwrap().is_empty() {
                thread::yield_now();
            }
            token.cancel();
            running.join().unwrap().unwrap_err()
        });
        assert!(error.to_string().ends_with("was canceled"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(20));
        assert!(is_gone(pid_file.path()), "the child still runs");
        let next = token.scope(|| sh("echo started", Duration::from_secs(1)).run().unwrap_err());
        assert!(matches!(next, CommandError::Canceled { .. }), "nothing more is started");
        assert!(sh("exit 0", Duration::from_secs(9)).run().is_ok(), "outside the scope it is");
    }

    /// The numbers of threads and open files of this process.
    fn held() -> (usize, usize) {
        let count = |folder| std::fs::read_dir(folder).unwrap().count();
        (count("/proc/self/task"), count("/proc/self/fd"))
    }

    /// Other tests run in this process at the same time: many children make a leak visible.
    #[test]
    fn children_in_the_background_keep_no_thread_and_no_descriptor_of_ours() {
        let before = held();
        let groups: Vec<i32> = thread::scope(|threads| {
            let run = || sh("echo $$; sleep 60 & exit 0", Duration::from_secs(25)).run().unwrap();
            let running: Vec<_> = (0..40).map(|_| threads.spawn(run)).collect();
            let outputs = running.into_iter().map(|thread| thread.join().unwrap().stdout);
            outputs.map(|group| String::from_utf8(group).unwrap().trim().parse().unwrap()).collect()
        });
        let after = held();
        end_groups(&groups.into_iter().collect(), Duration::from_secs(5));
        assert!(after.0 < before.0 + 30 && after.1 < before.1 + 30, "{before:?} {after:?}");
    }

    #[test]
    fn a_child_left_in_the_background_is_not_waited_for() {
        let began = Instant::now();
        let output = sh("echo $$; sleep 30 & exit 0", Duration::from_secs(25)).run().unwrap();
        assert!(output.succeeded());
        assert!(began.elapsed() < Duration::from_secs(20), "waited for the background process");
        let group = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        end_groups(&[group].into(), Duration::from_secs(5));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Invocation::new(&["/nowhere/prog".to_owned()], Duration::from_secs(1))
            .run()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot run /nowhere/prog: No such file or directory (os error 2)"
        );
    }
}
