//! What JSON leaves out.

/// For `skip_serializing_if`: a value that deserialization gives by itself.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
