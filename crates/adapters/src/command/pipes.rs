//! A program's three pipes, served by the thread that waits for it. It leaves nothing behind, even
//! if a background process keeps the other ends open.

use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};

/// A status of a large farm is about 1 MiB. A program that prints more than this limit is faulty, and 32 of
/// them at the same time must fit into memory.
pub(super) const STDOUT_LIMIT_BYTES: usize = 64 << 20;
/// Only the end of standard error is kept.
pub(super) const STDERR_LIMIT_BYTES: usize = 256 << 10;
const CHUNK_BYTES: usize = 16 << 10;

/// The input, and the output so far.
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

/// Why [`Pipes::serve`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// The event with this index happened.
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

    /// All output; `None` if it exceeded the limit.
    pub(super) fn take_output(&mut self) -> Option<Vec<u8>> {
        (!self.output_is_cut).then(|| std::mem::take(&mut self.output))
    }

    /// The end of standard error.
    pub(super) fn take_errors(&mut self) -> Vec<u8> {
        trim(&mut self.errors);
        std::mem::take(&mut self.errors)
    }

    /// Reads and writes until one of `events` is readable or `deadline` is reached; without events, until
    /// both outputs are closed.
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
            // A program that does not read its input closes the pipe; its exit code says why.
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
        // Only occasionally, so that the kept bytes are not moved for every chunk.
        if self.errors.len() > 2 * STDERR_LIMIT_BYTES {
            trim(&mut self.errors);
        }
    }
}

/// The sources that can be read or written.
enum Source {
    Event(usize),
    Stdin,
    Stdout,
    Stderr,
}

/// Reads what is available. Closes the stream at its end.
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
