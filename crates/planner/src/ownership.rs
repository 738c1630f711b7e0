//! Which machines are this provisioner's.

use crate::names::{MachineName, Tag};

/// Whether the machine `name` belongs to the provisioner with `tag`: the tag that the provider reports
/// (`reported`) decides; without one, a name that this provisioner could have given it.
///
/// All other machines that a provider lists belong to others and are ignored.
pub fn is_ours(tag: &Tag, name: &MachineName, reported: Option<&Tag>) -> bool {
    reported.map_or_else(|| number(tag, name).is_some(), |reported| reported == tag)
}

/// The number in a name that this provisioner could have given. `TAG-07` is not `TAG-7`.
pub(crate) fn number(tag: &Tag, name: &MachineName) -> Option<u64> {
    let digits = name.as_str().strip_prefix(tag.as_str())?.strip_prefix('-')?;
    let number: u64 = digits.parse().ok()?;
    (number < u64::MAX && number.to_string() == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_of_a_provisioner() {
        for (name, reported, ours) in [
            ("farm-0", None, true),
            ("farm-12", None, true),
            ("farm-07", None, false),
            ("farm-+7", None, false),
            ("farm-", None, false),
            ("farm", None, false),
            ("farm-0-old", None, false),
            // One more than it could not be counted on to.
            ("farm-18446744073709551614", None, true),
            ("farm-18446744073709551615", None, false),
            ("farm-0\n", None, false),
            ("Farm-0", None, false),
            ("other-0", None, false),
            ("db-server-prod", None, false),
            ("db-server-prod", Some("farm"), true),
            ("farm-0", Some("other"), false),
            ("farm-0", Some("farm"), true),
        ] {
            let reported = reported.map(Tag::new);
            let is_ours = is_ours(&Tag::new("farm"), &MachineName::new(name), reported.as_ref());
            assert_eq!(is_ours, ours, "{name:?} {reported:?}");
        }
    }
}
