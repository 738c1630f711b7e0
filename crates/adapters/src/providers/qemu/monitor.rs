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
        let mut qmp = Qmp::new(Stream::new(reader, stream));
        qmp.handshake()?;
        Ok(Self { qmp })
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

    /// Ends QEMU without telling the guest.
    pub(super) fn quit(&mut self) -> io::Result<()> {
        self.execute(&qmp::quit {}).map(drop)
    }
}
