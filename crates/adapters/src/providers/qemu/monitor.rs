//! QEMU's machine protocol (QMP, QEMU's `docs/interop/qmp-spec.rst`) over a machine's socket.

use std::io::{self, BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use qapi::qmp::{self, RunState};
use qapi::{Command, Qmp, Stream};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// QEMU's main loop answers within milliseconds, unless it is stopped or thrashes.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A connection to a running QEMU.
pub(super) struct Monitor {
    qmp: Qmp<Stream<BufReader<UnixStream>, UnixStream>>,
    /// For its time limits.
    socket: UnixStream,
}

impl Monitor {
    /// # Errors
    /// When nothing answers at `socket`.
    pub(super) fn connect(socket: &Path) -> io::Result<Self> {
        let stream = dial(socket)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        // `handshake` requires a greeting; a QEMU that is just ending sends none.
        if reader.fill_buf()?.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let socket = stream.try_clone()?;
        let mut qmp = Qmp::new(Stream::new(reader, stream));
        qmp.handshake()?;
        Ok(Self { qmp, socket })
    }

    fn execute<C: Command>(&mut self, command: &C) -> io::Result<C::Ok> {
        self.qmp.execute(command).map_err(io::Error::from)
    }

    /// The run state of the guest's processors.
    pub(super) fn run_state(&mut self) -> io::Result<RunState> {
        Ok(self.execute(&qmp::query_status {})?.status)
    }

    /// Resumes a guest that QEMU has paused.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        self.execute(&qmp::cont {}).map(drop)
    }

    /// Presses the power button.
    pub(super) fn power_down(&mut self) -> io::Result<()> {
        self.execute(&qmp::system_powerdown {}).map(drop)
    }

    /// Saves memory and disk as `name` in the disk's file, within `limit`. Returns QEMU's error message, which is
    /// empty on success (`savevm` in `hmp-commands.hx`).
    pub(super) fn save_snapshot(&mut self, name: &str, limit: Duration) -> io::Result<String> {
        self.socket.set_read_timeout(Some(limit))?;
        self.execute(&qmp::human_monitor_command {
            cpu_index: None,
            command_line: format!("savevm {name}"),
        })
    }

    /// Ends QEMU without a notice to the guest.
    pub(super) fn quit(&mut self) -> io::Result<()> {
        self.execute(&qmp::quit {}).map(drop)
    }
}

/// Connects at once or fails: a hanging QEMU accepts no connections, and a plain connect(2) would wait
/// forever once its short queue is full.
///
/// # Errors
/// When nothing listens at `path`, or the queue is full.
pub(super) fn dial(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use rustix::net::{bind, listen};

    use super::*;

    #[test]
    fn a_qemu_that_hangs_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("qmp.sock");
        let hangs =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        bind(&hangs, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&hangs, 1).unwrap();
        // One connection per cycle; QEMU's own queue is as short.
        let attempts: Vec<_> = (0..4).map(|_| dial(&path)).collect();
        assert!(attempts[0].is_ok(), "the queue has some room");
        let refused = attempts[3].as_ref().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }
}
