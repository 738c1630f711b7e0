//! Options that are read and checked, and that the loop does not follow yet. Who sets one is told so.

use super::reader::Attrs;

const BY_TYPE: [&str; 1] = ["fallback"];
const MESSAGE: &str =
    "is checked, but has no effect yet (docs/configuration.md says which options that is true of)";

/// Warns of such options of one type.
pub(super) fn warn_of_type(attrs: &Attrs<'_>) {
    for name in BY_TYPE.iter().filter(|name| attrs.get(name).is_some()) {
        attrs.warning(name, MESSAGE);
    }
}
