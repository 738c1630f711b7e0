//! Names as types, so that a system is never passed as a feature.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::escape::escape;

macro_rules! serialized_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(Self::new)
            }
        }
    };
}

/// Shared text: each snapshot copies all names.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes any text. The configuration checks which names are allowed.
            pub fn new(name: impl AsRef<str>) -> Self {
                Self(name.as_ref().into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        serialized_as_text!($name);

        /// Escapes control characters.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&escape(&self.0))
            }
        }
    };
}

name! {
    /// A machine's name, unique among the machines of one tag: `hydra-provisioned-0`.
    MachineName
}
name! {
    /// Marks the machines of one provisioner, so that several can share an account.
    Tag
}
name! {
    /// A Nix system: `x86_64-linux`.
    System
}
name! {
    /// A Nix system feature: `kvm`, `big-parallel`.
    Feature
}

/// The key of `systemTypes` in `conf.nix`: `SYSTEM[,SYSTEM][:FEATURE,...]`. It labels machines.
///
/// Always in normal form: systems and features are sorted and unique. So two spellings of the same type are
/// equal, and reordering one in the configuration replaces no machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineType(Arc<str>);

impl MachineType {
    /// Takes any text, as the other names do.
    pub fn new(name: impl AsRef<str>) -> Self {
        let name = name.as_ref();
        let (systems, features) = name.split_once(':').unwrap_or((name, ""));
        match (sorted(systems), sorted(features)) {
            (systems, features) if features.is_empty() => Self(systems.into()),
            (systems, features) => Self(format!("{systems}:{features}").into()),
        }
    }

    /// The name as text, in normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The items of a comma-separated list, sorted and unique, without empty ones.
fn sorted(list: &str) -> String {
    let items: BTreeSet<_> = list.split(',').filter(|item| !item.is_empty()).collect();
    Vec::from_iter(items).join(",")
}

serialized_as_text!(MachineType);

impl fmt::Display for MachineType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equivalent_types_are_equal() {
        for (name, normal) in [
            ("x86_64-linux", "x86_64-linux"),
            ("x86_64-linux:", "x86_64-linux"),
            ("x86_64-linux:kvm,big-parallel", "x86_64-linux:big-parallel,kvm"),
            ("x86_64-linux:kvm,kvm", "x86_64-linux:kvm"),
            ("x86_64-linux,i686-linux:kvm", "i686-linux,x86_64-linux:kvm"),
            ("a,a,:b:c,,b", "a:b,b:c"),
            (":kvm", ":kvm"),
            ("", ""),
        ] {
            assert_eq!(MachineType::new(name).as_str(), normal, "{name}");
            let read: MachineType = serde_json::from_value(name.into()).unwrap();
            assert_eq!(read, MachineType::new(normal), "{name}");
        }
    }
}
