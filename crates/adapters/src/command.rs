//! The one place that spawns processes: spawn, wait with a limit, hand back the captured bytes.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use thiserror::Error;

/// A status of a large farm is about 1 MiB; what prints more than this is out of order, and 32 of them at
/// once must not fill the memory.
const STDOUT_LIMIT_BYTES: usize = 64 << 20;
/// Of standard error only the end is of interest.
const STDERR_LIMIT_BYTES: usize = 256 << 10;
/// What a program left behind in the background may take to let go of our pipes.
const PIPE_PATIENCE: Duration = Duration::from_secs(1);
/// Between the polite signal and the other one.
const TERM_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is seen whether all of a process group has ended.
const GROUP_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Lines of standard error that stand in an error message.
const STDERR_TAIL_LINES: usize = 5;

/// A program about to be run, never through a shell.
#[derive(Clone, Debug)]
pub struct Invocation {
    words: Vec<String>,
    stdin: Vec<u8>,
    limit: Duration,
    environment: Vec<(String, String)>,
}

/// What a program that ended left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code, or 128 plus the signal that ended it, as a shell has it.
    pub code: i32,
    /// Standard output, whole.
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
        /// The system's words.
        reason: String,
    },
    /// It ran longer than it may and was killed with all its children.
    #[error("{program} did not end within {} s and was killed{}", tenths(*limit), after_colon(stderr_tail))]
    TimedOut {
        /// The program and its arguments.
        program: String,
        /// How long it may take.
        limit: Duration,
        /// Its last words.
        stderr_tail: String,
    },
    /// It printed more than anything of use can be.
    #[error("{program} printed more than {} MiB; is it the right program?", STDOUT_LIMIT_BYTES >> 20)]
    TooMuch {
        /// The program and its arguments.
        program: String,
    },
}

/// Seconds to the nearest tenth: what is left of a limit is an odd number.
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

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.words.push(arg.into());
        self
    }

    /// With more arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.words.extend(args.into_iter().map(Into::into));
        self
    }

    /// With `bytes` on standard input; otherwise that is empty.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// With an environment variable besides the inherited ones.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// How long it may run.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// With another time limit.
    pub(crate) fn limited_to(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Program and arguments as a person would type them.
    pub fn command_line(&self) -> String {
        shlex::try_join(self.words.iter().map(String::as_str))
            .unwrap_or_else(|_| self.words.join(" "))
    }

    /// Runs it to its end, whatever its exit code.
    ///
    /// # Errors
    /// When it cannot be started, or has not ended in time; it and its children are killed then.
    pub fn run(&self) -> Result<Output, CommandError> {
        let mut child = self.spawn()?;
        tracing::debug!(command = self.command_line(), pid = child.id(), "started");
        let stdout = Capture::start(child.stdout.take(), Kept::Start);
        let stderr = Capture::start(child.stderr.take(), Kept::End);
        if let Some(mut pipe) = child.stdin.take() {
            let bytes = self.stdin.clone();
            // A program that does not read its input ends the pipe; its exit code tells what it thought.
            thread::spawn(move || pipe.write_all(&bytes));
        }
        match wait(child, self.limit) {
            Waited::Ended(status) => Ok(Output {
                code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
                stdout: stdout
                    .finish_whole()
                    .ok_or_else(|| CommandError::TooMuch { program: self.command_line() })?,
                stderr: stderr.finish(),
            }),
            Waited::Killed => Err(CommandError::TimedOut {
                program: self.command_line(),
                limit: self.limit,
                stderr_tail: tail(&stderr.finish()),
            }),
        }
    }

    fn spawn(&self) -> Result<Child, CommandError> {
        let Some((program, args)) = self.words.split_first() else {
            return Err(CommandError::NotStarted {
                program: "(nothing)".to_owned(),
                reason: "the command is empty".to_owned(),
            });
        };
        Command::new(program)
            .args(args)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: a time-out ends its children too, a terminal's Ctrl-C does not end it
            // in the middle of making a machine.
            .process_group(0)
            .spawn()
            .map_err(|error| CommandError::NotStarted {
                program: program.clone(),
                reason: error.to_string(),
            })
    }
}

impl Output {
    /// Whether the exit code is 0.
    pub fn succeeded(&self) -> bool {
        self.code == 0
    }

    /// The last lines of standard error, on one line, for an error message.
    pub fn stderr_tail(&self) -> String {
        tail(&self.stderr)
    }
}

fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(STDERR_TAIL_LINES)..].join(" | ")
}

enum Waited {
    Ended(ExitStatus),
    Killed,
}

/// Waits for `child` and, past `limit`, ends its whole process group.
fn wait(mut child: Child, limit: Duration) -> Waited {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let (sender, ended) = std::sync::mpsc::channel();
    thread::spawn(move || sender.send(child.wait()));
    if let Ok(Ok(status)) = ended.recv_timeout(limit) {
        return Waited::Ended(status);
    }
    if let Some(group) = group {
        // It may have ended by itself just now.
        let _ = kill_process_group(group, Signal::TERM);
        await_end(group, TERM_PATIENCE);
        // A child may outlive the program itself, and ignore the polite signal.
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = ended.recv_timeout(PIPE_PATIENCE);
    Waited::Killed
}

/// Waits until nobody of `group` is left, for `patience` at the most.
fn await_end(group: Pid, patience: Duration) {
    let deadline = Instant::now() + patience;
    while test_kill_process_group(group).is_ok() && Instant::now() < deadline {
        thread::sleep(GROUP_POLL_INTERVAL);
    }
}

/// Reads a stream in the background into a buffer that can be taken at any time.
struct Capture {
    state: Arc<(Mutex<Captured>, Condvar)>,
}

/// Which end of a stream that is too long is kept.
#[derive(Clone, Copy)]
enum Kept {
    Start,
    End,
}

struct Captured {
    kept: Kept,
    bytes: Vec<u8>,
    is_cut: bool,
    closed: bool,
}

impl Captured {
    fn push(&mut self, chunk: &[u8]) {
        match self.kept {
            Kept::Start => {
                let room = STDOUT_LIMIT_BYTES - self.bytes.len();
                self.is_cut |= chunk.len() > room;
                self.bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
            Kept::End => {
                self.bytes.extend_from_slice(chunk);
                // Now and then, so that not every chunk moves what is kept.
                if self.bytes.len() > 2 * STDERR_LIMIT_BYTES {
                    self.trim();
                }
            }
        }
    }

    fn trim(&mut self) {
        self.bytes.drain(..self.bytes.len().saturating_sub(STDERR_LIMIT_BYTES));
    }
}

impl Capture {
    fn start(stream: Option<impl Read + Send + 'static>, kept: Kept) -> Self {
        let captured = Captured { kept, bytes: Vec::new(), is_cut: false, closed: false };
        let state = Arc::new((Mutex::new(captured), Condvar::new()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            let mut chunk = [0; 16 << 10];
            let mut stream = stream;
            while let Some(stream) = &mut stream {
                let read = match stream.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(read) => read,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(_) => break,
                };
                shared.0.lock().unwrap_or_else(PoisonError::into_inner).push(&chunk[..read]);
            }
            shared.0.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
            shared.1.notify_all();
        });
        Self { state }
    }

    /// All that was read; `None` if it was too much.
    fn finish_whole(self) -> Option<Vec<u8>> {
        let mut captured = self.await_close();
        (!captured.is_cut).then(|| std::mem::take(&mut captured.bytes))
    }

    /// The end of what was read.
    fn finish(self) -> Vec<u8> {
        let mut captured = self.await_close();
        captured.trim();
        std::mem::take(&mut captured.bytes)
    }

    /// The program has ended; something that it left in the background may hold the pipe open, and is not
    /// waited for long.
    fn await_close(&self) -> MutexGuard<'_, Captured> {
        let deadline = Instant::now() + PIPE_PATIENCE;
        let mut captured = self.state.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !captured.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            captured =
                self.state.1.wait_timeout(captured, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        captured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Invocation {
        Invocation::new(&["sh".to_owned(), "-c".to_owned(), script.to_owned()], limit)
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
        assert!(is_gone(pid_file.path()), "the child lives on");
    }

    /// Whether the process whose id is in `pid_file` is gone, now or soon.
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
        assert!(is_gone(pid_file.path()), "the child lives on");
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
    fn a_child_left_in_the_background_is_not_waited_for() {
        let began = Instant::now();
        let output = sh("echo $$; sleep 30 & exit 0", Duration::from_secs(25)).run().unwrap();
        assert!(output.succeeded());
        assert!(began.elapsed() < Duration::from_secs(20), "waited for the background process");
        let group = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        kill_process_group(Pid::from_raw(group).unwrap(), Signal::KILL).unwrap();
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
