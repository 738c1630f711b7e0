//! Commands on build machines, through the operator's own `ssh`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use planner::{Machine, MachineName, escape};
use thiserror::Error;

use crate::command::Invocation;
use crate::providers::check_host_key;

/// The exit code of ssh(1) when it cannot connect or log in.
const CONNECTION_FAILED: i32 = 255;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs commands on machines and keeps their host keys, one file per machine below `known_hosts_dir`.
#[derive(Clone, Debug)]
pub struct Ssh {
    options: Vec<String>,
    known_hosts_dir: PathBuf,
}

/// A command on a machine failed.
#[derive(Debug, Error)]
pub enum SshError {
    /// There is no ssh connection to the machine.
    #[error("ssh to {}: {}", escape(place), escape(message))]
    NotConnected {
        /// Whether its sshd answered.
        what: NotConnected,
        /// `user@address:port`.
        place: String,
        /// The output of ssh.
        message: String,
    },
    /// It answers, but the command failed.
    #[error("{}", escape(.0))]
    CommandFailed(String),
    /// Something on this host failed.
    #[error("{}", escape(.0))]
    Failed(String),
}

/// Why there is no ssh connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotConnected {
    /// There was no answer of an sshd.
    NoAnswer,
    /// The host key is not the expected one.
    WrongHostKey,
    /// The sshd has the right host key and refuses the login.
    LoginRefused,
}

impl NotConnected {
    /// From what ssh(1) printed; OpenSSH does not translate its messages.
    fn parse(message: &str) -> Self {
        if message.contains("Host key verification failed") {
            Self::WrongHostKey
        } else if message.contains("Permission denied (")
            || message.contains("Too many authentication failures")
        {
            Self::LoginRefused
        } else {
            Self::NoAnswer
        }
    }
}

impl Ssh {
    /// `options` are additional arguments of every `ssh`. Host keys are stored below `state_dir`.
    pub fn new(options: Vec<String>, state_dir: &Path) -> Self {
        Self { options, known_hosts_dir: state_dir.join("known_hosts") }
    }

    /// Runs `remote` on `machine` and returns its output. Logs in with `key` if that file exists on this host
    /// (it may exist only on the queue runner's).
    ///
    /// # Errors
    /// When ssh cannot connect, or the command fails.
    pub fn run(
        &self,
        machine: &Machine,
        key: Option<&str>,
        remote: &[String],
        limit: Duration,
    ) -> Result<Vec<u8>, SshError> {
        let address = machine
            .address
            .as_ref()
            .ok_or_else(|| SshError::Failed("its provider reports no address for it".to_owned()))?;
        let known_hosts = self.known_hosts(machine).map_err(|error| {
            SshError::Failed(format!("cannot write {}: {error}", self.known_hosts_dir.display()))
        })?;
        let remote_line = shlex::try_join(remote.iter().map(String::as_str))
            .map_err(|error| SshError::Failed(format!("cannot quote {remote:?}: {error}")))?;
        // A host key from the provider is the only accepted one. Otherwise the first key seen is kept.
        let checking = if machine.host_key.is_some() { "yes" } else { "accept-new" };
        let mut invocation = Invocation::new(&["ssh".to_owned()], limit)
            .args(["-x", "-o", "BatchMode=yes", "-o"])
            .arg(format!("ConnectTimeout={}", CONNECT_TIMEOUT.as_secs()))
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", quoted(&known_hosts)))
            .args(["-o", "GlobalKnownHostsFile=none", "-o"])
            .arg(format!("StrictHostKeyChecking={checking}"))
            .arg("-o")
            .arg(format!("HostKeyAlias={}", plain(&machine.name)));
        if let Some(key) = key.filter(|key| Path::new(key).exists()) {
            invocation = invocation.args(["-i", key]);
        }
        let output = invocation
            .args(self.options.iter().cloned())
            .arg("-p")
            .arg(machine.ssh_port.to_string())
            .args(["-l", &machine.ssh_user, "--"])
            .arg(address.to_string())
            .arg(remote_line.clone())
            .run()
            .map_err(|error| SshError::Failed(error.to_string()))?;
        match output.code {
            0 => Ok(output.stdout),
            CONNECTION_FAILED => Err(SshError::NotConnected {
                what: NotConnected::parse(&String::from_utf8_lossy(&output.stderr)),
                place: format!("{}@{address}:{}", machine.ssh_user, machine.ssh_port),
                message: output.stderr_tail(),
            }),
            code => Err(SshError::CommandFailed(format!(
                "`{remote_line}` on it ended with exit code {code}: {}",
                output.stderr_tail()
            ))),
        }
    }

    fn known_hosts(&self, machine: &Machine) -> io::Result<PathBuf> {
        let alias = plain(&machine.name);
        let path = self.known_hosts_dir.join(&alias);
        if let Some(host_key) = &machine.host_key {
            check_host_key(host_key).map_err(io::Error::other)?;
            let line = format!("{alias} {}\n", host_key.trim());
            if fs::read_to_string(&path).ok().as_deref() != Some(&line) {
                crate::atomic_file::write(&path, line.as_bytes(), 0o600)?;
            }
        } else {
            fs::create_dir_all(&self.known_hosts_dir)?;
        }
        Ok(path)
    }

    /// Deletes the host key of a machine that is gone. The next machine with its name may have another key.
    pub fn forget(&self, name: &MachineName) {
        // The file may not exist: the machine was never connected to.
        let _ = fs::remove_file(self.known_hosts_dir.join(plain(name)));
    }
}

/// A name that is valid as one file and one host, for any machine name: characters other than letters,
/// digits, `-`, `_` and inner dots become `+` and their code in hexadecimal.
fn plain(name: &MachineName) -> String {
    let mut plain = String::new();
    for c in name.as_str().chars() {
        match c {
            '.' if !plain.is_empty() => plain.push(c),
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => plain.push(c),
            other => {
                // Writing to a string cannot fail.
                let _ = write!(plain, "+{:x}", u32::from(other));
            }
        }
    }
    plain
}

/// A path for `ssh_config`, where a blank would end it and `%` begins a token.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_folder() {
        for (name, expected) in [
            ("hydra-provisioned-0", "hydra-provisioned-0"),
            ("v1.2_x", "v1.2_x"),
            ("../../etc/passwd", "+2e.+2f..+2fetc+2fpasswd"),
            (".", "+2e"),
            ("a b*%h", "a+20b+2a+25h"),
            ("é", "+e9"),
        ] {
            assert_eq!(plain(&MachineName::new(name)), expected);
        }
    }

    #[test]
    fn refusals_are_answers() {
        for (message, expected) in [
            ("ssh: connect to host 10.0.0.1 port 22: Connection refused", NotConnected::NoAnswer),
            ("kex_exchange_identification: read: Connection reset by peer", NotConnected::NoAnswer),
            ("root@10.0.0.1: Permission denied (publickey).", NotConnected::LoginRefused),
            (
                "Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures",
                NotConnected::LoginRefused,
            ),
            (
                "No ED25519 host key is known for m and you have requested strict checking.\r\nHost key verification failed.",
                NotConnected::WrongHostKey,
            ),
            ("", NotConnected::NoAnswer),
        ] {
            assert_eq!(NotConnected::parse(message), expected, "{message}");
        }
    }

    /// How ssh itself parses the path.
    #[test]
    fn ssh_reads_paths_with_blanks() {
        let path = Path::new("/var/lib/my farm/100%/m");
        let option = format!("UserKnownHostsFile={}", quoted(path));
        let words = ["ssh", "-F", "none", "-G", "-o", &option, "host"].map(str::to_owned);
        let output = Invocation::new(&words, Duration::from_secs(20)).run().unwrap();
        let settings = String::from_utf8(output.stdout).unwrap();
        let expected = format!("userknownhostsfile {}", path.display());
        assert!(settings.lines().any(|line| line == expected), "{settings}");
    }
}
