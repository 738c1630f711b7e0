//! The identity of a new machine: its own host key, created here, and the user data that contains it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use planner::MachineName;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::digest::short_sha256;
use crate::providers::ProviderError;
use crate::providers::identity::{
    Identity, authorized_keys, generate_host_key, public_file, without_comment,
};

/// The key type in wire format with its length, then the length of the key (RFC 8709).
const WIRE_PREFIX: &[u8] = b"\0\0\0\x0bssh-ed25519\0\0\0\x20";
const KEY_BYTES: usize = 32;
/// No private ed25519 key in the format of OpenSSH is shorter.
const LEAST_PRIVATE_KEY_BYTES: usize = 380;

/// Who may log in to new machines, and how they get their identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Login {
    /// User data with placeholders, see [`Login::PLACEHOLDERS`].
    pub user_data: String,
    /// Public keys that may log in.
    pub authorized_keys: Vec<String>,
    /// A file with further ones: the public half of the type's `sshKey`.
    pub authorized_key_file: Option<PathBuf>,
    /// How many seconds after the provisioner's last visit an idle machine powers itself off.
    pub idle_timeout: u32,
}

impl Default for Login {
    /// By default, user data is the identity document itself, as `nixosModules.build-machine` expects it.
    fn default() -> Self {
        Self {
            user_data: "@identity@".to_owned(),
            authorized_keys: Vec::new(),
            authorized_key_file: None,
            idle_timeout: 3600,
        }
    }
}

impl Login {
    /// Placeholders for the identity document (plain, and in base64), the private host key, the keys that may
    /// log in (both as JSON, which is also valid YAML) and the machine's name.
    pub const PLACEHOLDERS: [&str; 5] =
        ["@identity@", "@identityBase64@", "@hostKey@", "@authorizedKeys@", "@name@"];
    /// The user data must contain one of these. Otherwise the machine would not have the expected host key.
    pub const WITH_HOST_KEY: [&str; 3] = ["@identity@", "@identityBase64@", "@hostKey@"];

    /// The user data of a machine in which `keys` may log in.
    fn fill(&self, host_name: &str, private_key: &str, keys: &[String]) -> String {
        let identity = Identity {
            host_name,
            machine_id: "",
            host_key: private_key.as_bytes(),
            authorized_keys: keys,
            idle_timeout: self.idle_timeout,
        };
        let document = identity.document();
        self.user_data
            .replace("@identity@", &document)
            .replace("@identityBase64@", &BASE64.encode(&document))
            .replace("@hostKey@", &json!(private_key).to_string())
            .replace("@authorizedKeys@", &json!(keys).to_string())
            .replace("@name@", host_name)
    }

    /// The user data has at least so many bytes.
    pub(crate) fn least_user_data_bytes(&self) -> usize {
        let private_key = "k".repeat(LEAST_PRIVATE_KEY_BYTES);
        self.fill("a-0", &private_key, &self.authorized_keys).len()
    }

    /// A short digest of the keys that may log in now. `None` if they cannot be read.
    pub(in crate::providers) fn keys_digest(&self) -> Option<String> {
        let keys =
            authorized_keys(&self.authorized_keys, self.authorized_key_file.as_deref(), "").ok()?;
        Some(digest_of(&keys))
    }
}

/// The order of keys does not matter.
fn digest_of(keys: &[String]) -> String {
    let keys: BTreeSet<_> = keys.iter().map(|key| key.trim()).collect();
    short_sha256(keys.into_iter().collect::<Vec<_>>().join("\n"))
}

/// What a cloud accepts as user data.
#[derive(Debug)]
pub(crate) struct UserDataRules {
    /// Its option in `conf.nix`.
    pub(crate) option: &'static str,
    pub(crate) most_bytes: usize,
}

/// The identity of a machine to be created.
#[derive(Debug)]
pub(in crate::providers) struct NewMachine {
    pub(in crate::providers) host_key: HostKey,
    pub(in crate::providers) user_data: String,
    /// A digest of the keys that may log in.
    pub(in crate::providers) keys: String,
}

impl NewMachine {
    /// Creates a host key for `name`; the private half is only in the result.
    ///
    /// # Errors
    /// When the keys that may log in cannot be read, no key can be created, or the user data is too large for `rules`.
    pub(in crate::providers) fn new(
        name: &MachineName,
        host_name: &str,
        login: &Login,
        state_dir: &Path,
        rules: &UserDataRules,
    ) -> Result<Self, ProviderError> {
        let option = format!("{}.authorizedKeys", rules.option);
        let keys =
            authorized_keys(&login.authorized_keys, login.authorized_key_file.as_deref(), &option)?;
        let (private_key, host_key) = new_host_key(name, state_dir)?;
        let user_data = login.fill(host_name, &private_key, &keys);
        if user_data.len() > rules.most_bytes {
            return Err(ProviderError::failed(format!(
                "the user data would have {} bytes, of which the cloud allows {}; shorten {}.userData or the list of keys",
                user_data.len(),
                rules.most_bytes,
                rules.option
            )));
        }
        let keys = digest_of(&keys);
        Ok(Self { host_key, user_data, keys })
    }
}

/// Creates a key in a folder that only we can read, and deletes it there.
fn new_host_key(name: &MachineName, state_dir: &Path) -> Result<(String, HostKey), ProviderError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let file_name = name.as_str().replace('/', "_");
    let folder = state_dir.join(format!("new-host-key-{file_name}"));
    // Left by a killed run.
    let _ = fs::remove_dir_all(&folder);
    let file = folder.join("key");
    let result = fs::DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .map_err(|error| error.to_string())
        .and_then(|()| generate_host_key(&file, name.as_str()).map_err(|error| error.message))
        .and_then(|()| {
            let read = |path: &Path| fs::read_to_string(path).map_err(|error| error.to_string());
            Ok((read(&file)?, read(&public_file(&file))?))
        });
    let _ = fs::remove_dir_all(&folder);
    let (private_key, public_key) = result.map_err(|reason| {
        ProviderError::failed(format!("cannot create a host key in {}: {reason}", folder.display()))
    })?;
    let host_key = HostKey::from_line(&public_key).ok_or_else(|| {
        ProviderError::failed(format!(
            "ssh-keygen created a key that is not an ed25519 key: {public_key}"
        ))
    })?;
    Ok((private_key, host_key))
}

/// The public half of a machine's ed25519 host key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::providers) struct HostKey(String);

impl HostKey {
    /// `None` if the line is no ed25519 key.
    pub(in crate::providers) fn from_line(line: &str) -> Option<Self> {
        let line = without_comment(line)?;
        let wire = BASE64.decode(line.strip_prefix("ssh-ed25519 ")?).ok()?;
        let key = wire.strip_prefix(WIRE_PREFIX)?;
        (key.len() == KEY_BYTES).then_some(Self(line))
    }

    /// `ssh-ed25519 AAAA...`.
    pub(in crate::providers) fn line(&self) -> &str {
        &self.0
    }

    /// Only the key, in letters, digits, `-` and `_`, with a letter at both ends: short and plain enough for
    /// a label.
    pub(in crate::providers) fn label(&self) -> String {
        let wire = BASE64.decode(self.0.trim_start_matches("ssh-ed25519 ")).unwrap_or_default();
        let key = wire.strip_prefix(WIRE_PREFIX).unwrap_or_default();
        format!("k{}k", URL_SAFE_NO_PAD.encode(key))
    }

    /// Parses the result of [`label`](Self::label).
    pub(in crate::providers) fn from_label(label: &str) -> Option<Self> {
        let key = URL_SAFE_NO_PAD.decode(label.strip_prefix('k')?.strip_suffix('k')?).ok()?;
        let wire = [WIRE_PREFIX, &key].concat();
        (key.len() == KEY_BYTES).then(|| Self(format!("ssh-ed25519 {}", BASE64.encode(wire))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: UserDataRules = UserDataRules { option: "provider.x", most_bytes: 1000 };

    #[test]
    fn user_data_hands_in_the_key_whose_public_half_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let login = Login {
            user_data: "#cloud-config\nssh_keys: { ed25519_private: @hostKey@ }\nkeys: @authorizedKeys@\nname: @name@"
                .to_owned(),
            authorized_keys: vec!["ssh-ed25519 AAAA one".to_owned()],
            ..Login::default()
        };
        let name = MachineName::new("farm-0");
        let new = NewMachine::new(&name, "farm-0", &login, folder.path(), &RULES).unwrap();
        assert!(
            new.user_data.contains(r#"ed25519_private: "-----BEGIN OPENSSH PRIVATE KEY-----\n"#)
        );
        assert!(new.user_data.ends_with("keys: [\"ssh-ed25519 AAAA one\"]\nname: farm-0"));
        assert!(new.host_key.line().starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"));
        let label = new.host_key.label();
        assert!(label.len() <= 63, "{label}");
        assert_eq!(HostKey::from_label(&label), Some(new.host_key));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left of the key");
        assert!(login.least_user_data_bytes() <= new.user_data.len());

        let large = Login { user_data: format!("@identity@{}", "x".repeat(500)), ..login };
        let error = NewMachine::new(&name, "farm-0", &large, folder.path(), &RULES).unwrap_err();
        assert!(
            error.message.ends_with("shorten provider.x.userData or the list of keys"),
            "{error}"
        );
    }

    #[test]
    fn keys_are_the_same_in_another_order() {
        let of = |keys: &[&str]| {
            digest_of(&keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(of(&["a", "b "]), of(&["b", "a", "a"]));
        assert_ne!(of(&["a"]), of(&["a", "b"]));
    }

    #[test]
    fn what_is_no_key_is_none() {
        assert_eq!(HostKey::from_label(""), None);
        assert_eq!(HostKey::from_label("kAAAAk"), None);
        assert_eq!(HostKey::from_line("ssh-rsa AAAAB3NzaC1yc2E= x"), None);
    }
}
