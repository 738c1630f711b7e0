//! Names as types, so that a system is never passed where a feature is meant.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes any text: what is allowed in a name is checked where it enters (the configuration).
            pub fn new(name: impl Into<String>) -> Self {
                Self(name.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
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
    /// The key of `systemTypes` in `conf.nix`: `SYSTEM[,SYSTEM][:FEATURE,...]`. It labels machines.
    MachineType
}
name! {
    /// A Nix system: `x86_64-linux`.
    System
}
name! {
    /// A Nix system feature: `kvm`, `big-parallel`.
    Feature
}
