//! `lease`: how it is decided which of several hosts is active.

use std::collections::BTreeMap;
use std::path::PathBuf;

use planner::MachineType;

use super::reader::Attrs;
use crate::providers::ProviderSettings;

/// A lease in a PostgreSQL database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// `postgresql`: the database, without a password.
    pub postgresql: String,
    /// `passwordFile`: the file that contains the password; read for every connection.
    pub password_file: Option<PathBuf>,
}

pub(super) fn read(
    root: &Attrs<'_>,
    providers: &BTreeMap<MachineType, ProviderSettings>,
) -> Option<LeaseSettings> {
    let lease = root.attrs("lease")?;
    for (machine_type, provider) in providers {
        let name = match provider {
            ProviderSettings::Qemu(_) => "QEMU",
            ProviderSettings::Nixops(_) => "NixOps",
            _ => continue,
        };
        lease.own_problem(format!(
            "is not for machines of {name} ({machine_type}): only the host that created them knows them, so another one with \
             the lease could not release them"
        ));
    }
    let postgresql = lease.text("postgresql");
    match &postgresql {
        Some(text) => {
            if let Some(problem) = problem(text) {
                lease.problem("postgresql", problem);
            }
        }
        None if lease.get("postgresql").is_none() => {
            lease.problem(
                "postgresql",
                "must be set, for example \"host=/run/postgresql dbname=hydra\"",
            );
        }
        None => {}
    }
    let password_file = lease.secret_path("passwordFile");
    lease.finish();
    Some(LeaseSettings { postgresql: postgresql?, password_file })
}

#[cfg(not(feature = "lease"))]
#[allow(clippy::unnecessary_wraps, reason = "the other one may find none")]
fn problem(_: &str) -> Option<String> {
    Some("this program was built without leases (cargo feature `lease`); remove lease, or use the complete program".to_owned())
}

/// The problem of `text`, without its value: it may contain a password.
#[cfg(feature = "lease")]
fn problem(text: &str) -> Option<String> {
    use postgres::config::SslMode;

    let config: postgres::Config = match text.parse() {
        Ok(config) => config,
        Err(error) => {
            return Some(format!(
                "must be postgresql://USER@HOST/hydra or \"host=/run/postgresql dbname=hydra\": {error}"
            ));
        }
    };
    if config.get_password().is_some() {
        Some("has a password, which everybody who reads the configuration sees; put it into a file and name that in lease.passwordFile".to_owned())
    } else if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        Some("names no host; of a database on this host: host=/run/postgresql".to_owned())
    } else if config.get_ssl_mode() == SslMode::Require {
        Some("asks for TLS, which is not spoken here; use a socket, a private network or a tunnel, and leave sslmode out".to_owned())
    } else {
        None
    }
}
