//! Sockets of the service: an address, a Unix socket, and those passed by systemd.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::str::FromStr;
use std::{fs, io};

use listenfd::ListenFd;
use rustix::io::{FdFlags, fcntl_setfd};

use crate::http::Socket;

/// For its user and group: anyone who can open it sees the whole farm.
const SOCKET_MODE: u32 = 0o660;
/// The prefix of a socket's path.
const UNIX: &str = "unix:";

/// The value of `--listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// An address and port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(UNIX) {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => Err("the path after unix: must be absolute".to_owned()),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                "must be an IP address and a port such as 127.0.0.1:9478, or unix:/PATH".to_owned()
            }),
        }
    }
}

/// Sockets passed by systemd (`sd_listen_fds(3)`), with the numbers of their descriptors.
#[derive(Debug, Default)]
pub(crate) struct HandedOver(Vec<OwnedFd>);

impl HandedOver {
    /// Passes them on to `program`, which replaces ours.
    ///
    /// # Errors
    /// When a descriptor cannot be changed.
    pub(crate) fn pass_to(&self, program: &mut Command) -> io::Result<()> {
        for socket in &self.0 {
            fcntl_setfd(socket, FdFlags::empty())?;
        }
        if !self.0.is_empty() {
            program.env("LISTEN_FDS", self.0.len().to_string());
            program.env("LISTEN_PID", process::id().to_string());
        }
        Ok(())
    }

    /// Takes those of our environment. Returns copies, which may be served and closed.
    fn take(&mut self) -> Result<Vec<(Socket, String)>, String> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for number in 0..passed.len() {
            let taken = self.take_one(&mut passed, number).map_err(|error| {
                format!(
                    "cannot use a socket that systemd handed over: {error}; see the unit's ListenStream"
                )
            })?;
            sockets.extend(taken);
        }
        Ok(sockets)
    }

    fn take_one(
        &mut self,
        passed: &mut ListenFd,
        number: usize,
    ) -> io::Result<Option<(Socket, String)>> {
        if let Ok(Some(listener)) = passed.take_unix_listener(number) {
            let text = "status page on a socket that systemd handed over".to_owned();
            let copy = listener.try_clone()?;
            self.0.push(listener.into());
            return Ok(Some((Socket::Unix(copy), text)));
        }
        let Some(listener) = passed.take_tcp_listener(number)? else { return Ok(None) };
        let copy = listener.try_clone()?;
        self.0.push(listener.into());
        Ok(Some(tcp(copy)))
    }
}

/// All sockets, each with its description for the log. Those passed by systemd are also added to `handed_over`.
///
/// # Errors
/// If a socket cannot be opened.
pub(super) fn open(
    listen: Option<&Listen>,
    handed_over: &mut HandedOver,
) -> Result<Vec<(Socket, String)>, String> {
    let mut sockets = handed_over.take()?;
    match listen {
        None => {}
        Some(Listen::Tcp(address)) => {
            let listener = TcpListener::bind(address).map_err(|error| {
                format!("cannot listen on {address}: {error}; see --listen, or metricsAddress")
            })?;
            sockets.push(tcp(listener));
        }
        Some(Listen::Unix(path)) => {
            let shown = path.display();
            let listener = bind(path).map_err(|error| {
                format!("cannot listen on {UNIX}{shown}: {error}; see --listen")
            })?;
            let text = format!(
                "status page on {UNIX}{shown} (curl --unix-socket {shown} http://localhost/)"
            );
            sockets.push((Socket::Unix(listener), text));
        }
    }
    Ok(sockets)
}

/// With port 0, only this shows the port.
fn tcp(listener: TcpListener) -> (Socket, String) {
    let text = match listener.local_addr() {
        Ok(place) => format!("status page at http://{place}/, metrics at http://{place}/metrics"),
        Err(error) => format!("status page somewhere: {error}"),
    };
    (Socket::Tcp(listener), text)
}

/// A stale socket, on which nobody listens, is replaced; no other file is.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}
