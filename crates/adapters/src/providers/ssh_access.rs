//! The ssh access that a provider reports for a machine: used if it is clear, rejected if it contradicts
//! itself.

use planner::{Destination, Endpoint, Machine, escape};

/// The ssh access of a machine as its provider reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SshAccess {
    /// `host`, or another spelling: `user@host:port`, `ssh://...`.
    pub(super) address: Option<String>,
    pub(super) ssh_user: Option<String>,
    pub(super) ssh_port: Option<u16>,
    /// The public key line.
    pub(super) host_key: Option<String>,
}

impl SshAccess {
    /// Sets the access of `machine`. Unusable values are added to its `problems`, and it then has no address:
    /// we never guess a login. The endpoint is still searched in the queue status.
    pub(super) fn apply(self, machine: &mut Machine) {
        let destination = match self.address.as_deref().filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => match text.parse::<Destination>() {
                Ok(destination) => Some(destination),
                Err(error) => return refuse(machine, None, &format!("its address {error}")),
            },
        };
        let endpoint = destination.as_ref().map(|destination| &destination.endpoint);
        match self.agreed(destination.as_ref()) {
            Err(problem) => refuse(machine, endpoint, &problem),
            Ok((user, port)) => {
                machine.ssh_user = user.unwrap_or(std::mem::take(&mut machine.ssh_user));
                machine.ssh_port = port.unwrap_or(machine.ssh_port);
                machine.host_key = self.host_key.map(|key| key.trim().to_owned());
                machine.address = endpoint.map(|endpoint| endpoint.host.clone());
            }
        }
    }

    /// The user and port on which the address and the other fields agree.
    fn agreed(
        &self,
        destination: Option<&Destination>,
    ) -> Result<(Option<String>, Option<u16>), String> {
        if let Some(key) = &self.host_key {
            check_host_key(key)?;
        }
        let user = self.ssh_user.clone().filter(|user| !user.is_empty());
        let Some(place) = destination else {
            return Ok((checked(user)?, self.ssh_port));
        };
        if let Some(scheme) = place.scheme.as_deref().filter(|scheme| *scheme != "ssh") {
            return Err(format!(
                "its address has the scheme {scheme}; that is chosen with storeUri in systemTypes"
            ));
        }
        if !matches!(place.rest.as_str(), "" | "/") {
            return Err(format!(
                "its address has \"{}\" after the host; parameters are set with storeUri in systemTypes",
                escape(&place.rest)
            ));
        }
        let user = agree("user", "ssh_user", place.user.clone(), user)?;
        Ok((checked(user)?, agree("port", "ssh_port", place.endpoint.port, self.ssh_port)?))
    }
}

fn refuse(machine: &mut Machine, endpoint: Option<&Endpoint>, problem: &str) {
    machine.address = None;
    machine.host_key = None;
    machine.memory.published.extend(endpoint.cloned());
    machine.problems.push(format!(
        "{problem}; the machine is not used until its provider reports a valid value"
    ));
}

fn agree<T: PartialEq + std::fmt::Display>(
    what: &str,
    field: &str,
    in_address: Option<T>,
    beside: Option<T>,
) -> Result<Option<T>, String> {
    match (in_address, beside) {
        (Some(there), Some(here)) if there != here => Err(format!(
            "its address has the {what} {}, but its {field} is {}",
            escape(&there.to_string()),
            escape(&here.to_string())
        )),
        (there, here) => Ok(there.or(here)),
    }
}

/// A user name that ssh cannot read as an option and that fits into a machines file.
fn checked(user: Option<String>) -> Result<Option<String>, String> {
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "#/?:[]".contains(c);
    match user {
        Some(user) if user.starts_with('-') || user.contains(is_odd) => {
            Err(format!("its ssh user \"{}\" is not a user name", escape(&user)))
        }
        user => Ok(user),
    }
}

/// One line, `TYPE KEY [COMMENT]`: it goes into a `known_hosts` file, where a second line would be a second
/// key.
pub(crate) fn check_host_key(key: &str) -> Result<(), String> {
    let trimmed = key.trim();
    let mut words = trimmed.split(' ');
    let (kind, data) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_kind = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '@' | '.');
    let is_right = !trimmed.contains(char::is_control)
        && !kind.is_empty()
        && kind.chars().all(is_kind)
        && !data.is_empty()
        && data.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '='));
    if is_right {
        return Ok(());
    }
    let shown: String = trimmed.chars().take(80).collect();
    Err(format!(
        "its host_key \"{}\" is not one line TYPE KEY, such as ssh-ed25519 AAAA...",
        escape(&shown)
    ))
}

#[cfg(test)]
mod tests {
    use planner::{MachineName, MachineType};

    use super::*;

    fn reported(address: &str, user: Option<&str>, port: Option<u16>) -> Machine {
        let mut machine = Machine::requested(MachineName::new("m"), MachineType::new("t"));
        let (address, ssh_user) = (Some(address.to_owned()), user.map(str::to_owned));
        SshAccess { address, ssh_user, ssh_port: port, host_key: None }.apply(&mut machine);
        machine
    }

    #[test]
    fn what_is_told_beyond_the_host_is_used() {
        for (address, user, port, expected) in [
            ("10.0.0.7", None, None, "root@10.0.0.7:22"),
            ("[2001:db8::4]", None, Some(2222), "root@2001:db8::4:2222"),
            ("build@10.0.0.7", None, None, "build@10.0.0.7:22"),
            ("build@10.0.0.7:2222", Some("build"), Some(2222), "build@10.0.0.7:2222"),
            ("ssh://build@M.example.org.:2222/", None, None, "build@m.example.org:2222"),
            ("m.example.org", Some("build"), Some(22), "build@m.example.org:22"),
        ] {
            let machine = reported(address, user, port);
            let host = machine.address.expect(address);
            let reached = format!("{}@{host}:{}", machine.ssh_user, machine.ssh_port);
            assert_eq!((reached.as_str(), machine.problems.len()), (expected, 0));
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused_but_looked_for() {
        for (address, user, port, problem) in [
            (
                "build@10.0.0.7",
                Some("root"),
                None,
                "its address has the user build, but its ssh_user is root",
            ),
            (
                "10.0.0.7:2222",
                None,
                Some(22),
                "its address has the port 2222, but its ssh_port is 22",
            ),
            ("ssh-ng://10.0.0.7", None, None, "its address has the scheme ssh-ng"),
            (
                "ssh://10.0.0.7?compress=true",
                None,
                None,
                "its address has \"?compress=true\" after the host",
            ),
            (
                "10.0.0.7",
                Some("-oProxyCommand=x"),
                None,
                "its ssh user \"-oProxyCommand=x\" is not a user name",
            ),
        ] {
            let machine = reported(address, user, port);
            assert_eq!(machine.address, None, "{address}");
            assert!(machine.problems[0].starts_with(problem), "{:?}", machine.problems);
            let published: Vec<_> =
                machine.memory.published.iter().map(|e| e.host.to_string()).collect();
            assert_eq!(published, ["10.0.0.7"]);
        }
        assert!(
            reported("a b\n", None, None).problems[0]
                .starts_with("its address \"a b\\n\" has characters")
        );
    }

    #[test]
    fn host_keys_are_one_line() {
        for (key, right) in [
            ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 root@m\n", true),
            ("ecdsa-sha2-nistp256 AAAA", true),
            ("sk-ssh-ed25519@openssh.com AAAA", true),
            ("ssh-ed25519 AAAA\n* ssh-ed25519 BBBB", false),
            ("ssh-ed25519 AAAA\r* ssh-ed25519 BBBB", false),
            ("* ssh-ed25519 AAAA", false),
            ("m ssh-ed25519 AAAA", false),
            ("ssh-ed25519", false),
            ("", false),
        ] {
            assert_eq!(check_host_key(key).is_ok(), right, "{key:?}");
        }
    }
}
