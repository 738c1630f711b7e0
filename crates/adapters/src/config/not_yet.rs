//! Options that are read and checked, and that the loop does not follow yet. Who sets one is told so: nobody is to
//! rely on a limit that is not kept.

use super::reader::Attrs;

const AT_THE_TOP: [&str; 4] = ["maxMachines", "maxHourlyCost", "maxDailyCost", "maxMonthlyCost"];
const BY_TYPE: [&str; 4] = ["fallback", "maxDailyCost", "maxHourlyCost", "maxMonthlyCost"];
const MESSAGE: &str =
    "is checked, but has no effect yet (docs/configuration.md says which options that is true of)";

/// Warns of such options of the whole configuration.
pub(super) fn warn_at_the_top(root: &Attrs<'_>) {
    warn(root, &AT_THE_TOP);
}

/// Warns of such options of one type.
pub(super) fn warn_of_type(attrs: &Attrs<'_>) {
    warn(attrs, &BY_TYPE);
}

fn warn(attrs: &Attrs<'_>, names: &[&'static str]) {
    for name in names.iter().filter(|name| attrs.get(name).is_some()) {
        attrs.warning(name, MESSAGE);
    }
}
