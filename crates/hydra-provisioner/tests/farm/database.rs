//! A PostgreSQL server for one test, on loopback and a socket; it ends with the test.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may, and uses another part"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use postgres::{Client, NoTls};

/// A PostgreSQL server refuses to run as root.
const NOBODY: u32 = 65_534;

pub struct Server {
    folder: tempfile::TempDir,
    process: Option<Child>,
    pub port: u16,
}

impl Server {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        if fs::metadata(folder.path()).unwrap().uid() == 0 {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut initdb = program("initdb", folder.path());
        initdb.args(["--no-sync", "--auth=trust", "--username=hydra", "--locale=C", "-D"]);
        let made = initdb.arg(folder.path().join("data")).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { folder, process: None, port };
        server.begin();
        server
    }

    /// Starts it; may be called again after [`stop`](Self::stop).
    pub fn begin(&mut self) {
        let folder = self.folder.path();
        let mut server = program("postgres", folder);
        server.args(["-F", "-c", "listen_addresses=127.0.0.1", "-k"]).arg(folder).arg("-p");
        server.arg(self.port.to_string()).arg("-D").arg(folder.join("data")).stderr(Stdio::piped());
        let mut process = server.spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let is_ready = log.any(|line| line.contains("ready to accept connections"));
        assert!(is_ready, "did not start");
        // Otherwise it would block when the pipe is full.
        thread::spawn(move || log.count());
        self.process = Some(process);
    }

    /// Immediate shutdown: it ends its own processes and needs nothing from its folder.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let id = rustix::process::Pid::from_child(&process);
            let _ = rustix::process::kill_process(id, rustix::process::Signal::QUIT);
            let _ = process.wait();
        }
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgresql://hydra:secret@127.0.0.1:{}/{database}", self.port)
    }

    /// Its socket, for a connection string.
    pub fn socket(&self) -> String {
        format!(
            "host={} port={} user=hydra dbname=postgres",
            self.folder.path().display(),
            self.port
        )
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.url("postgres"), NoTls).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A program of `PostgreSQL`, run as the owner of `folder`.
fn program(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(find(name));
    let owner = fs::metadata(folder).unwrap();
    if owner.uid() != fs::metadata("/proc/self").unwrap().uid() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    command.current_dir(folder).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Debian installs it outside of PATH.
fn find(name: &str) -> PathBuf {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let debian = debian.map(|version| version.unwrap().path().join("bin"));
    let path = std::env::var_os("PATH").unwrap();
    let mut all = debian.chain(std::env::split_paths(&path)).map(|folder| folder.join(name));
    all.find(|program| program.exists())
        .unwrap_or_else(|| panic!("{name} is not there; run scripts/ci/setup"))
}
