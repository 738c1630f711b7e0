//! SHA-256 as used for signatures, tokens and digests of settings and keys.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The SHA-256 of `bytes` as 64 hexadecimal digits.
pub(crate) fn sha256(bytes: impl AsRef<[u8]>) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The first 16 digits of [`sha256`]: enough to tell the settings or keys of machines apart.
pub(crate) fn short_sha256(bytes: impl AsRef<[u8]>) -> String {
    let mut digest = sha256(bytes);
    digest.truncate(16);
    digest
}
