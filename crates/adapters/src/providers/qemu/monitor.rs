//! QEMU's machine protocol (QMP, QEMU's `docs/interop/qmp-spec.rst`) over a machine's socket.

use std::io::{self, BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use qapi::qmp::{self, RunState};
use qapi::{Command, Qmp, Stream};

/// QEMU's main loop answers within milliseconds; one that is stopped or thrashes may not.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A conversation with a running QEMU.
pub(super) struct Monitor {
    qmp: Qmp<Stream<BufReader<UnixStream>, UnixStream>>,
    /// For its time limits.
    socket: UnixStream,
}

impl Monitor {
    /// # Errors
    /// When nobody answers at `socket`.
    pub(super) fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        // `handshake` takes a greeting for granted; a QEMU that ends just now gives none.
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

    /// What the guest's processors do.
    pub(super) fn run_state(&mut self) -> io::Result<RunState> {
        Ok(self.execute(&qmp::query_status {})?.status)
    }

    /// Presses the power button.
    pub(super) fn power_down(&mut self) -> io::Result<()> {
        self.execute(&qmp::system_powerdown {}).map(drop)
    }

    /// Saves memory and disk under `name` in the disk's file, within `limit`. Returns what QEMU has to complain
    /// of, which is nothing when all is well (`savevm` in `hmp-commands.hx`).
    pub(super) fn save_snapshot(&mut self, name: &str, limit: Duration) -> io::Result<String> {
        self.socket.set_read_timeout(Some(limit))?;
        self.execute(&qmp::human_monitor_command {
            cpu_index: None,
            command_line: format!("savevm {name}"),
        })
    }

    /// Ends QEMU without telling the guest.
    pub(super) fn quit(&mut self) -> io::Result<()> {
        self.execute(&qmp::quit {}).map(drop)
    }
}
