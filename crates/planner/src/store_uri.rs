//! The first column of a machines file.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::endpoint::{Destination, EndpointError, Host, SSH_PORT};
use crate::escape::escape;
use crate::snapshot::Machine;

/// The format of a type's machines in the first column: `ssh-ng://{user}@{host}:{port}?compress=true`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreUri(String);

impl StoreUri {
    /// Takes any text. [`StoreUri::check`] says whether it is valid.
    pub fn new(template: impl Into<String>) -> Self {
        Self(template.into())
    }

    /// Whether the format works for every machine.
    ///
    /// # Errors
    /// With the reason why not.
    pub fn check(&self) -> Result<(), String> {
        if !self.0.contains("{host}") {
            return Err("must contain {host}; {user} and {port} are known too".to_owned());
        }
        for host in ["m.example.org", "10.0.0.7", "2001:db8::7"] {
            let text = self.fill("root", &Host::new(host), SSH_PORT);
            if text.contains(['{', '}']) {
                return Err("may contain {user}, {host} and {port}, but no other brace".to_owned());
            }
            read_back(&text, None, &Host::new(host), SSH_PORT)?;
        }
        Ok(())
    }

    fn fill(&self, user: &str, host: &Host, port: u16) -> String {
        let text = self.0.replace("{port}", &port.to_string()).replace("{host}", &host.in_uri());
        text.replace("{user}", user)
    }
}

impl fmt::Display for StoreUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The first column for `machine` at `host`, in the format `template` or in the original's format
/// `user@host`.
///
/// # Errors
/// When the text would not parse to this machine.
pub(crate) fn first_column(
    template: Option<&StoreUri>,
    machine: &Machine,
    host: &Host,
) -> Result<String, String> {
    let Machine { ssh_user, ssh_port, .. } = machine;
    let text = match template {
        Some(template) => template.fill(ssh_user, host, *ssh_port),
        None => Destination::new(ssh_user, host.clone(), *ssh_port).to_string(),
    };
    // A template may use another user than the one that we log in as.
    let user = template.is_none().then_some(ssh_user.as_str());
    read_back(&text, user, host, *ssh_port)?;
    Ok(text)
}

/// Whether `text` is one field that parses to `host` and `port`, and to `user` if one is given. A text
/// without port leaves the port to ssh.
fn read_back(text: &str, user: Option<&str>, host: &Host, port: u16) -> Result<(), String> {
    let shown = escape(text);
    // Blanks separate fields and `#` begins a comment (Nix, `parseMachines`). ssh takes text that begins with
    // `-` as an option.
    if text.starts_with('-')
        || text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#')
    {
        return Err(format!("\"{shown}\" cannot be written to a machines file"));
    }
    let read: Destination = text
        .parse()
        .map_err(|error: EndpointError| format!("\"{shown}\" would not be read: {error}"))?;
    let is_same = read.endpoint.host == *host
        && host.is_readable()
        && read.endpoint.port.unwrap_or(SSH_PORT) == port
        && !read.user.as_deref().is_some_and(|user| user.starts_with('-'))
        && (user.is_none() || read.user.as_deref() == user);
    if is_same {
        Ok(())
    } else {
        Err(format!("\"{shown}\" would not be read as {}, port {port}", escape(&host.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{MachineName, MachineType};

    fn column(template: Option<&str>, user: &str, host: &str, port: u16) -> Result<String, String> {
        let template = template.map(StoreUri::new);
        let machine = Machine::requested(MachineName::new("m"), MachineType::new("t"));
        let machine = Machine { ssh_user: user.to_owned(), ssh_port: port, ..machine };
        first_column(template.as_ref(), &machine, &Host::new(host))
    }

    #[test]
    fn valid_columns() {
        let nix = Some("ssh-ng://{user}@{host}:{port}?compress=true");
        for (template, user, host, port, expected) in [
            (None, "root", "10.0.0.7", 22, "root@10.0.0.7"),
            (None, "b@x", "2001:db8::7", 2222, "ssh://b@x@[2001:db8::7]:2222"),
            (nix, "root", "2001:DB8::7", 22, "ssh-ng://root@[2001:db8::7]:22?compress=true"),
            (Some("ssh://{host}"), "build", "m", 22, "ssh://m"),
        ] {
            assert_eq!(column(template, user, host, port).unwrap(), expected);
        }
    }

    #[test]
    fn columns_that_would_name_another_machine_are_rejected() {
        for (template, user, host, port) in [
            (None, "ro ot", "m", 22),
            (None, "a#", "m", 22),
            (None, "-oProxyCommand=x", "m", 22),
            (None, "root@other/", "m", 22),
            (None, "root@other?", "m", 22),
            (None, "root", "a b", 22),
            (None, "root", "m/x", 22),
            (Some("ssh://{user}@{host}"), "root", "m", 2222),
            (Some("ssh://{host}"), "root", "m\n", 22),
            (Some("ssh://{user}@{host}"), "root@other/", "m", 22),
            (Some("ssh://{user}@{host}"), "-oProxyCommand=x", "m", 22),
        ] {
            let written = column(template, user, host, port);
            assert!(written.is_err(), "{written:?}");
        }
    }

    #[test]
    fn templates() {
        for (template, good) in [
            ("ssh-ng://{user}@{host}:{port}?max-connections=4", true),
            ("ssh://{host}", true),
            ("{user}@{host}", true),
            ("ssh://root@m", false),
            ("ssh://{usr}@{host}", false),
            ("ssh://{user}@{host} x", false),
            ("ssh://{user}@gate.{host}", false),
            ("ssh://{host}:2222", false),
            ("ssh://build@{host}", true),
        ] {
            assert_eq!(StoreUri::new(template).check().is_ok(), good, "{template}");
        }
    }
}
