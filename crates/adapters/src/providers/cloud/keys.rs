//! The ssh keys that may log in: a machine keeps those of its creation, which its tags or labels have a digest of.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use planner::MachineType;

use super::Login;

/// The digest of the present keys of each type, as of the last listing.
#[derive(Debug, Default)]
pub(in crate::providers) struct Keys(Mutex<BTreeMap<MachineType, String>>);

impl Keys {
    /// Reads the key files again.
    pub(in crate::providers) fn refresh<'a>(
        &self,
        types: impl Iterator<Item = (&'a MachineType, &'a Login)>,
    ) {
        let present = types.filter_map(|(name, login)| Some((name.clone(), login.keys_digest()?)));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = present.collect();
    }

    /// Whether a machine that was created with the keys of the digest `created_with` accepts others than a new one would. `false` if
    /// that is not known.
    pub(in crate::providers) fn differ(
        &self,
        machine_type: &MachineType,
        created_with: Option<&str>,
    ) -> bool {
        let present = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        present.get(machine_type).zip(created_with).is_some_and(|(new, old)| new != old)
    }
}

/// The warning of a machine with other keys; `option`: `provider.ec2`.
pub(in crate::providers) fn problem(option: &str) -> String {
    format!(
        "it was created with other ssh keys than those that are configured now (sshKey, {option}.authorizedKeys), and accepts only those until it is replaced"
    )
}
