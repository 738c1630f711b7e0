//! A running service in a test.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Farm;

/// Like systemd: the listening socket is descriptor 3.
pub const ACTIVATE: &str = "
import os, socket, sys
s = socket.socket(socket.AF_UNIX) if sys.argv[1].startswith('/') else socket.socket()
s.bind(sys.argv[1] if sys.argv[1].startswith('/') else ('127.0.0.1', 0)); s.listen(8)
if s.fileno() == 3: os.set_inheritable(3, True)
else: os.dup2(s.fileno(), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')
os.execv(sys.argv[2], sys.argv[2:])
";

/// It ends with the test.
pub struct Service {
    child: Child,
    log: std::path::PathBuf,
}

impl Service {
    pub fn start(farm: &Farm, args: &[&str]) -> Self {
        Self::of(farm, farm.command(&[&["run", "--watch", "--interval", "1"], args].concat()))
    }

    /// With other arguments.
    pub fn of(farm: &Farm, mut command: std::process::Command) -> Self {
        let log = farm.path("service.log");
        let file = fs::File::create(&log).unwrap();
        let child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Self { child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The head and the body of its answer.
    pub fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    /// Its address, from its log.
    pub fn address(&self) -> String {
        until("told where it listens", || self.log().contains("metrics at http://"));
        let log = self.log();
        let (_, rest) = log.split_once("metrics at http://").unwrap();
        rest.split_once('/').unwrap().0.to_owned()
    }
}

/// Its answer on a Unix socket.
pub fn ask(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Waits until a condition is true.
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "not {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
