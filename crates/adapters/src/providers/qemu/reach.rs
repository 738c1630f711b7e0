//! How machines are reached: one loopback address each, with the guest's sshd on one port.
//!
//! Nix before 2.31 accepts no port in a machines file, so machines differ by address. All of 127.0.0.0/8 is
//! this host (RFC 1122, 3.2.1.3); Linux needs no configuration for it.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use crate::command::Invocation;
use crate::providers::ProviderError;

/// 127.91.0.0/16: other programs rarely use it.
const NETWORK: [u8; 2] = [127, 91];
/// How many addresses to try if others hold the port. If that many fail, a program listens on all of them.
const TRIES: usize = 64;
/// Without KVM a guest needs a second or two for a key exchange, and more while it builds.
const KEYSCAN_LIMIT: Duration = Duration::from_secs(20);
/// For the banner: QEMU accepts connections before the guest can answer.
const BANNER_LIMIT: Duration = Duration::from_secs(5);

/// The first address that is not `taken` and has a usable `port`. The search starts at an address that
/// depends on `state_dir`, so that two concurrent provisioners do not find the same one.
///
/// # Errors
/// When there is none, with the likely reason.
pub(super) fn free_address(
    taken: &BTreeSet<String>,
    port: u16,
    state_dir: &Path,
) -> Result<String, ProviderError> {
    let [a, b] = NETWORK;
    let mix = |sum: u8, byte: &u8| sum.wrapping_mul(31).wrapping_add(*byte);
    let start = state_dir.as_os_str().as_bytes().iter().fold(0, mix);
    let candidates = (0..=u8::MAX)
        .map(|c| c.wrapping_add(start))
        .flat_map(|c| (1..=254).map(move |d| Ipv4Addr::new(a, b, c, d)))
        .filter(|address| !taken.contains(&address.to_string()));
    let mut refusal = None;
    for address in candidates.take(TRIES) {
        match TcpListener::bind(SocketAddrV4::new(address, port)) {
            Ok(_) => return Ok(address.to_string()),
            Err(error) => refusal = Some((address, error)),
        }
    }
    let Some((address, error)) = refusal else {
        return Err(ProviderError::failed(format!("no address of {a}.{b}.0.0/16 is free")));
    };
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the host's own sshd probably listens on all addresses: give it a ListenAddress, or set provider.qemu.sshPort (docs/qemu.md)"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or CAP_NET_BIND_SERVICE, or set provider.qemu.sshPort (docs/qemu.md)"
        }
        _ => "see docs/qemu.md",
    };
    Err(ProviderError::failed(format!(
        "cannot listen on port {port} of {TRIES} addresses, the last one {address}: {error}; {advice}"
    )))
}

/// What answers at a machine's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Its sshd with its host key.
    ItsSshd,
    /// An sshd with another ed25519 host key.
    AnotherKey(String),
    /// Nothing yet.
    Nothing,
}

/// Checks for the sshd with `host_key` (`ssh-ed25519 AAAA...`); needs no login.
pub(super) fn look(address: &str, port: u16, host_key: &str) -> Result<Answer, ProviderError> {
    if !answers_ssh(address, port) {
        return Ok(Answer::Nothing);
    }
    let output = Invocation::new(&["ssh-keyscan".to_owned()], KEYSCAN_LIMIT)
        .args(["-t", "ed25519", "-T"])
        .arg((KEYSCAN_LIMIT.as_secs() - 2).to_string())
        .arg("-p")
        .arg(port.to_string())
        .args(["--", address])
        .run()?;
    Ok(judge(&String::from_utf8_lossy(&output.stdout), host_key))
}

/// ssh-keyscan(1) prints `HOST KEY-TYPE KEY` lines, and comments.
fn judge(keyscan: &str, host_key: &str) -> Answer {
    let keys = keyscan.lines().filter(|line| !line.starts_with('#'));
    match keys.filter_map(|line| line.split_once(' ')).map(|(_, key)| key.trim()).next() {
        None => Answer::Nothing,
        Some(key) if key == host_key => Answer::ItsSshd,
        Some(key) => Answer::AnotherKey(key.to_owned()),
    }
}

/// Whether an ssh server answers with its banner (RFC 4253, 4.2).
pub(super) fn answers_ssh(address: &str, port: u16) -> bool {
    let Ok(address) = address.parse().map(|ip| SocketAddr::new(ip, port)) else { return false };
    let mut start = [0; 4];
    TcpStream::connect_timeout(&address, BANNER_LIMIT)
        .and_then(|mut stream| {
            stream.set_read_timeout(Some(BANNER_LIMIT))?;
            stream.read_exact(&mut start)
        })
        .is_ok_and(|()| start == *b"SSH-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_addresses_and_ports_in_use_are_passed_over() {
        let first = free_address(&BTreeSet::new(), 20_122, Path::new("/s")).unwrap();
        let listener = TcpListener::bind((first.as_str(), 20_122)).unwrap();
        let second = free_address(&BTreeSet::new(), 20_122, Path::new("/s")).unwrap();
        assert_ne!(first, second);
        drop(listener);
        let third =
            free_address(&BTreeSet::from([first.clone(), second.clone()]), 20_122, Path::new("/s"))
                .unwrap();
        assert!(third != first && third != second);
        let elsewhere = free_address(&BTreeSet::new(), 20_122, Path::new("/t")).unwrap();
        assert_ne!(third.rsplit_once('.').unwrap().0, elsewhere.rsplit_once('.').unwrap().0);
    }

    #[test]
    fn a_port_that_someone_holds_everywhere_is_explained() {
        let everywhere = TcpListener::bind(("0.0.0.0", 0)).unwrap();
        let port = everywhere.local_addr().unwrap().port();
        let error = free_address(&BTreeSet::new(), port, Path::new("/s")).unwrap_err();
        assert!(error.message.contains("the host's own sshd probably"), "{error}");
    }

    #[test]
    fn a_host_key_is_compared() {
        let line = "# 127.91.0.1:22 SSH-2.0-OpenSSH_10.0\n127.91.0.1 ssh-ed25519 AAAAone\n";
        assert_eq!(judge(line, "ssh-ed25519 AAAAone"), Answer::ItsSshd);
        let other = Answer::AnotherKey("ssh-ed25519 AAAAone".to_owned());
        assert_eq!(judge(line, "ssh-ed25519 AAAAtwo"), other);
        assert_eq!(judge("# 127.91.0.1:22 SSH-2.0-OpenSSH_10.0\n", "x"), Answer::Nothing);
        assert_eq!(judge("", "x"), Answer::Nothing);
    }
}
