//! Reads what others write: a wrongly typed detail is a warning, never the loss of the whole answer.

use planner::{Seconds, Timestamp};
use serde_json::{Map, Value};

/// The whole number at `key`: fractions are cut off, negative ones are zero; `None` where there is none.
pub(super) fn number(map: &Map<String, Value>, key: &str) -> Option<u64> {
    let value = map.get(key)?;
    value.as_u64().or_else(|| {
        // The cast saturates: too large a number is the largest, a negative one zero.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        value.as_f64().map(|number| number as u64)
    })
}

/// Seconds at `key`, zero where there are none.
pub(super) fn seconds(map: &Map<String, Value>, key: &str) -> Seconds {
    Seconds(number(map, key).unwrap_or(0))
}

/// A time at `key`; Hydra writes 0 for "never".
pub(super) fn timestamp(map: &Map<String, Value>, key: &str) -> Option<Timestamp> {
    number(map, key).filter(|seconds| *seconds > 0).map(Timestamp)
}
