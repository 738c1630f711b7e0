//! The labels of a server: its owner, and how it was created.
//!
//! A label's value has at most 63 letters, digits, `-`, `_` and `.`; the first and last are a letter or
//! digit. Any other character of a name or type is written as `Z` and two hexadecimal digits. A longer type
//! is split over several labels.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use planner::{MachineName, MachineType, Tag};

use crate::providers::cloud::{HostKey, NewMachine};

/// The provisioner that a server belongs to.
const TAG: &str = "hydra-provisioner/tag";
const NAME: &str = "hydra-provisioner/name";
/// Followed by nothing, `-1`, `-2`...
const TYPE: &str = "hydra-provisioner/type";
const HOST_KEY: &str = "hydra-provisioner/host-key";
/// The digest of the settings that it was made from.
const SETTINGS: &str = "hydra-provisioner/settings";
/// The digest of the ssh keys that may log in.
const KEYS: &str = "hydra-provisioner/keys";

const VALUE_LIMIT: usize = 63;

/// The labels of a machine.
pub(super) fn labels(
    tag: &Tag,
    name: &MachineName,
    machine_type: &MachineType,
    new: &NewMachine,
    digest: &str,
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        (TAG.to_owned(), encode(tag.as_str())),
        (NAME.to_owned(), encode(name.as_str())),
        (HOST_KEY.to_owned(), new.host_key.label()),
        (KEYS.to_owned(), new.keys.clone()),
        (SETTINGS.to_owned(), digest.to_owned()),
    ]);
    for (index, part) in parts(machine_type.as_str()).enumerate() {
        labels.insert(type_label(index), part);
    }
    labels
}

/// Selects the servers of `tag`.
pub(super) fn selector(tag: &Tag) -> String {
    format!("{TAG}=={}", encode(tag.as_str()))
}

/// A machine as its labels describe it.
#[derive(Debug)]
pub(super) struct Labeled {
    pub(super) name: MachineName,
    pub(super) machine_type: MachineType,
    pub(super) host_key: Option<String>,
    pub(super) settings: Option<String>,
    pub(super) keys: Option<String>,
}

/// Parses the labels of one of our servers; `None` for other servers.
pub(super) fn read(labels: &BTreeMap<String, String>, tag: &Tag) -> Option<Labeled> {
    if labels.get(TAG)? != &encode(tag.as_str()) {
        return None;
    }
    let machine_type: String = (0..)
        .map_while(|index| labels.get(&type_label(index)))
        .map(|part| decode(part))
        .collect::<Option<_>>()?;
    Some(Labeled {
        name: MachineName::new(decode(labels.get(NAME)?)?),
        machine_type: MachineType::new(machine_type),
        host_key: labels
            .get(HOST_KEY)
            .and_then(|label| HostKey::from_label(label))
            .map(|key| key.line().to_owned()),
        settings: labels.get(SETTINGS).cloned(),
        keys: labels.get(KEYS).cloned(),
    })
}

/// Whether the labels have our tag, but not all that we write.
pub(super) fn is_nameless(labels: &BTreeMap<String, String>, tag: &Tag) -> bool {
    let is_complete = labels.contains_key(TYPE) && read(labels, tag).is_some();
    labels.get(TAG) == Some(&encode(tag.as_str())) && !is_complete
}

fn type_label(index: usize) -> String {
    if index == 0 { TYPE.to_owned() } else { format!("{TYPE}-{index}") }
}

/// Cuts `text` into pieces that each fit into a value.
fn parts(text: &str) -> impl Iterator<Item = String> {
    // A byte takes at most three characters.
    let bytes = text.as_bytes();
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let mut length = rest.len().min(VALUE_LIMIT);
        while length > 0 && encode_bytes(&rest[..length]).len() > VALUE_LIMIT {
            length -= 1;
        }
        let (part, later) = rest.split_at(length);
        rest = later;
        (length > 0).then(|| encode_bytes(part))
    })
}

fn encode(text: &str) -> String {
    encode_bytes(text.as_bytes())
}

fn encode_bytes(bytes: &[u8]) -> String {
    let mut value = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        let is_at_an_end = index == 0 || index + 1 == bytes.len();
        match byte {
            b'Z' => value.push_str("Z5a"),
            byte if byte.is_ascii_alphanumeric() => value.push(char::from(*byte)),
            b'-' | b'_' | b'.' if !is_at_an_end => value.push(char::from(*byte)),
            byte => {
                // Writing to a string cannot fail.
                let _ = write!(value, "Z{byte:02x}");
            }
        }
    }
    value
}

/// The inverse of [`encode`]; `None` if `encode` cannot have created `value`.
fn decode(value: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((first, later)) = rest.split_first() {
        rest = later;
        if *first == b'Z' {
            let (digits, later) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = later;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The server's name: a valid host name, unique in the project.
pub(super) fn server_name(name: &MachineName) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '-' };
    name.as_str().chars().map(plain).collect::<String>().trim_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn new() -> NewMachine {
        let host_key = HostKey::from_label(&format!("k{}k", "A".repeat(43))).unwrap();
        NewMachine { host_key, user_data: String::new(), keys: "e".to_owned() }
    }

    fn is_value(text: &str) -> bool {
        let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        text.len() <= VALUE_LIMIT
            && end(text.chars().next())
            && end(text.chars().last())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    }

    #[test]
    fn a_type_can_be_read_in_the_console() {
        let machine_type = MachineType::new("x86_64-linux:big-parallel,kvm");
        let labels =
            labels(&Tag::new("farm"), &MachineName::new("farm-0"), &machine_type, &new(), "d");
        assert_eq!(labels[TYPE], "x86_64-linuxZ3abig-parallelZ2ckvm");
        assert_eq!(labels[NAME], "farm-0");
    }

    #[test]
    fn servers_of_others_are_not_read() {
        let name = MachineName::new("farm-0");
        let ours = labels(&Tag::new("farm"), &name, &MachineType::new("x86_64-linux"), &new(), "d");
        assert!(read(&ours, &Tag::new("farm")).is_some());
        assert!(read(&ours, &Tag::new("far")).is_none());
        assert!(read(&BTreeMap::new(), &Tag::new("farm")).is_none());
    }

    #[test]
    fn a_server_that_lost_labels_is_noticed() {
        let (farm, name) = (Tag::new("farm"), MachineName::new("farm-0"));
        let ours = labels(&farm, &name, &MachineType::new("x86_64-linux"), &new(), "d");
        assert!(!is_nameless(&ours, &farm));
        for lost in [NAME, TYPE] {
            let mut labels = ours.clone();
            labels.remove(lost);
            assert!(is_nameless(&labels, &farm), "{lost}");
            assert!(!is_nameless(&labels, &Tag::new("other")), "{lost}");
        }
    }

    proptest! {
        #[test]
        fn labels_are_values_and_are_read_back(
            tag in "[A-Za-z0-9._-]{1,15}",
            machine_type in "[ -~]{1,200}",
        ) {
            let (tag, machine_type) = (Tag::new(tag), MachineType::new(machine_type));
            let name = MachineName::new(format!("{}-0", tag.as_str()));
            let labels = labels(&tag, &name, &machine_type, &new(), "d");
            for value in labels.values() {
                prop_assert!(is_value(value), "{value:?}");
            }
            let read = read(&labels, &tag).unwrap();
            prop_assert_eq!(read.name, name);
            prop_assert_eq!(read.machine_type.as_str(), machine_type.as_str());
            prop_assert_eq!(read.host_key, Some(new().host_key.line().to_owned()));
            prop_assert_eq!(read.settings.as_deref(), Some("d"));
            prop_assert_eq!(read.keys.as_deref(), Some("e"));
        }
    }
}
