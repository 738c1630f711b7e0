//! Which machines are this provisioner's.

use crate::names::{MachineName, Tag};

/// Whether the machine `name` is one of the provisioner with `tag`: by the provider's own word (`told`, the
/// tag that it says the machine carries), else by a name that this provisioner could have given it.
///
/// Whatever else a provider lists is somebody else's, and is left alone.
pub fn is_ours(tag: &Tag, name: &MachineName, told: Option<&Tag>) -> bool {
    told.map_or_else(|| number(tag, name).is_some(), |told| told == tag)
}

/// The number of a name that this provisioner could have given: `TAG-07` is another name than `TAG-7`.
pub(crate) fn number(tag: &Tag, name: &MachineName) -> Option<u64> {
    let digits = name.as_str().strip_prefix(tag.as_str())?.strip_prefix('-')?;
    let number: u64 = digits.parse().ok()?;
    (number < u64::MAX && number.to_string() == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_machines() {
        for (name, told, ours) in [
            ("farm-0", None, true),
            ("farm-12", None, true),
            ("farm-07", None, false),
            ("farm-+7", None, false),
            ("farm-", None, false),
            ("farm", None, false),
            ("farm-0-old", None, false),
            ("farm-0\n", None, false),
            ("Farm-0", None, false),
            ("other-0", None, false),
            ("db-server-prod", None, false),
            ("db-server-prod", Some("farm"), true),
            ("farm-0", Some("other"), false),
            ("farm-0", Some("farm"), true),
        ] {
            let told = told.map(Tag::new);
            let is_ours = is_ours(&Tag::new("farm"), &MachineName::new(name), told.as_ref());
            assert_eq!(is_ours, ours, "{name:?} {told:?}");
        }
    }
}
