//! Panics as errors. A panic is a bug, but what waits for a result must still get one.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does `work`.
///
/// # Errors
/// With its message, if it panics.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // What it leaves behind is locked with `PoisonError::into_inner`, or belongs to it alone.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        format!("hydra-provisioner has a bug, please report it: {}", text.unwrap_or("a panic"))
    })
}
