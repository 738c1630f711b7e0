//! A program's three pipes, served by the thread that waits for it: nothing is left behind when that is over,
//! even if something in the background holds the other ends open.

use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};

/// A status of a large farm is about 1 MiB; what prints more than this is out of order, and 32 of them at
/// once must not fill the memory.
pub(super) const STDOUT_LIMIT_BYTES: usize = 64 << 20;
/// Of standard error only the end is of interest.
pub(super) const STDERR_LIMIT_BYTES: usize = 256 << 10;
const CHUNK_BYTES: usize = 16 << 10;

/// What goes in and what came out so far.
pub(super) struct Pipes {
    stdin: Option<ChildStdin>,
    input: Vec<u8>,
    written: usize,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    output: Vec<u8>,
    output_is_cut: bool,
    errors: Vec<u8>,
}

/// Why [`Pipes::serve`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// The event with this number happened.
    Event(usize),
    /// Both outputs are closed, and there was no event to wait for.
    Closed,
    TimedOut,
}

impl Pipes {
    pub(super) fn of(child: &mut Child, input: Vec<u8>) -> io::Result<Self> {
        let pipes = Self {
            stdin: child.stdin.take(),
            input,
            written: 0,
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            output: Vec::new(),
            output_is_cut: false,
            errors: Vec::new(),
        };
        for pipe in [
            pipes.stdin.as_ref().map(AsFd::as_fd),
            pipes.stdout.as_ref().map(AsFd::as_fd),
            pipes.stderr.as_ref().map(AsFd::as_fd),
        ]
        .into_iter()
        .flatten()
        {
            ioctl_fionbio(pipe, true)?;
        }
        Ok(pipes)
    }

    /// All that was printed; `None` if it was too much.
    pub(super) fn take_output(&mut self) -> Option<Vec<u8>> {
        (!self.output_is_cut).then(|| std::mem::take(&mut self.output))
    }

    /// The end of what was printed to standard error.
    pub(super) fn take_errors(&mut self) -> Vec<u8> {
        trim(&mut self.errors);
        std::mem::take(&mut self.errors)
    }

    /// Reads and writes until one of `events` is readable or `deadline`; without events, until both outputs are
    /// closed.
    pub(super) fn serve(
        &mut self,
        events: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> io::Result<Served> {
        loop {
            if events.is_empty() && self.stdout.is_none() && self.stderr.is_none() {
                return Ok(Served::Closed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Served::TimedOut);
            }
            let mut event = None;
            for source in self.wait(events, Timespec::try_from(left).ok().as_ref())? {
                match source {
                    Source::Event(number) => event = Some(number),
                    Source::Stdin => self.write_input(),
                    Source::Stdout => self.read_output(),
                    Source::Stderr => self.read_errors(),
                }
            }
            if let Some(number) = event {
                return Ok(Served::Event(number));
            }
        }
    }

    /// What can be served now, or within `timeout`.
    fn wait(
        &self,
        events: &[BorrowedFd<'_>],
        timeout: Option<&Timespec>,
    ) -> io::Result<Vec<Source>> {
        let stdin = self.stdin.as_ref().map(|pipe| (Source::Stdin, pipe.as_fd(), PollFlags::OUT));
        let stdout = self.stdout.as_ref().map(|pipe| (Source::Stdout, pipe.as_fd(), PollFlags::IN));
        let stderr = self.stderr.as_ref().map(|pipe| (Source::Stderr, pipe.as_fd(), PollFlags::IN));
        let numbered = events.iter().enumerate();
        let (sources, mut asked): (Vec<_>, Vec<_>) = numbered
            .map(|(number, event)| (Source::Event(number), *event, PollFlags::IN))
            .chain([stdin, stdout, stderr].into_iter().flatten())
            .map(|(source, fd, flags)| (source, PollFd::from_borrowed_fd(fd, flags)))
            .unzip();
        match poll(&mut asked, timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let answers = sources.into_iter().zip(&asked);
        Ok(answers
            .filter(|(_, answer)| !answer.revents().is_empty())
            .map(|(source, _)| source)
            .collect())
    }

    fn write_input(&mut self) {
        let Some(pipe) = &mut self.stdin else { return };
        match pipe.write(&self.input[self.written..]) {
            Ok(written) => self.written += written,
            Err(error) if is_not_yet(&error) => return,
            // A program that does not read its input ends the pipe; its exit code tells what it thought.
            Err(_) => self.written = self.input.len(),
        }
        if self.written == self.input.len() {
            self.stdin = None;
        }
    }

    fn read_output(&mut self) {
        let mut chunk = [0; CHUNK_BYTES];
        let Some(length) = read(&mut self.stdout, &mut chunk) else { return };
        let room = STDOUT_LIMIT_BYTES - self.output.len();
        self.output_is_cut |= length > room;
        self.output.extend_from_slice(&chunk[..length.min(room)]);
    }

    fn read_errors(&mut self) {
        let mut chunk = [0; CHUNK_BYTES];
        let Some(length) = read(&mut self.stderr, &mut chunk) else { return };
        self.errors.extend_from_slice(&chunk[..length]);
        // Now and then, so that not every chunk moves what is kept.
        if self.errors.len() > 2 * STDERR_LIMIT_BYTES {
            trim(&mut self.errors);
        }
    }
}

/// What can be read or written.
enum Source {
    Event(usize),
    Stdin,
    Stdout,
    Stderr,
}

/// Reads what there is; at the end of the stream it is closed.
fn read(stream: &mut Option<impl Read>, chunk: &mut [u8]) -> Option<usize> {
    match stream.as_mut()?.read(chunk) {
        Ok(length) if length > 0 => return Some(length),
        Err(error) if is_not_yet(&error) => {}
        _ => *stream = None,
    }
    None
}

fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn trim(errors: &mut Vec<u8>) {
    errors.drain(..errors.len().saturating_sub(STDERR_LIMIT_BYTES));
}
