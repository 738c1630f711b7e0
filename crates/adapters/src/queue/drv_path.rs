//! The store path of a derivation. The rules are Nix's: `src/libstore/path.cc` (`checkName`, `StorePath::StorePath`) and
//! `src/libutil/hash.hh` (`HASH`: 20 bytes in Nix's base 32).

use super::lenient::quoted;

const STORE_DIR: &str = "/nix/store";
/// Characters of a path's hash.
const HASH_CHARS: usize = 32;
/// Nix's base 32 leaves out `e`, `o`, `u` and `t`.
const HASH_ALPHABET: &str = "0123456789abcdfghijklmnpqrsvwxyz";
/// The longest name in characters (`StorePath::MaxPathLen`).
const MAX_NAME_CHARS: usize = 211;
const EXTENSION: &str = ".drv";

/// The base name (`HASH-NAME.drv`) of a derivation in the store. It is checked: it cannot be an option, another path or,
/// with a `queue.nixCommand` that runs a remote shell, a piece of script.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DrvPath(String);

impl DrvPath {
    /// Takes a base name (`HASH-NAME.drv`, as Hydra's REST server writes it) or a whole path.
    ///
    /// # Errors
    /// With what is wrong with it.
    pub fn parse(path: &str) -> Result<Self, String> {
        let base = path.strip_prefix(STORE_DIR).and_then(|rest| rest.strip_prefix('/'));
        let base = base.unwrap_or(path);
        problem(base).map_or_else(
            || Ok(Self(base.to_owned())),
            |problem| {
                Err(format!("{} is not the store path of a derivation: {problem}", quoted(path)))
            },
        )
    }

    /// `HASH-NAME.drv`.
    pub fn base_name(&self) -> &str {
        &self.0
    }

    /// `/nix/store/HASH-NAME.drv`.
    pub(super) fn full(&self) -> String {
        format!("{STORE_DIR}/{}", self.0)
    }
}

/// What is wrong with the base name of a derivation.
fn problem(base: &str) -> Option<&'static str> {
    let Some((hash, name)) = base.split_once('-') else {
        return Some("it has no '-' between hash and name");
    };
    if hash.len() != HASH_CHARS || !hash.chars().all(|char| HASH_ALPHABET.contains(char)) {
        return Some("its hash is not 32 characters of Nix's base 32");
    }
    let is_allowed = |char: char| char.is_ascii_alphanumeric() || "+-._?=".contains(char);
    if !name.chars().all(is_allowed) {
        return Some("its name has characters that Nix does not allow");
    }
    if name.starts_with(".-") || name.starts_with("..-") {
        return Some("its name begins with '.' or '..'");
    }
    if name.len() > MAX_NAME_CHARS {
        return Some("its name is longer than 211 characters");
    }
    match name.strip_suffix(EXTENSION) {
        None => Some("its name does not end in .drv"),
        Some("") => Some("it has no name"),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0c2p2r9wdxz4bnm6mdyw6rw3n2s6nq1a";

    #[test]
    fn what_nix_takes_is_taken() {
        for name in [
            "hello.drv",
            "a.drv",
            ".hidden.drv",
            "gcc-13.2_x+y?=z.drv",
            &format!("{}.drv", "x".repeat(207)),
        ] {
            let base = format!("{HASH}-{name}");
            let of_base = DrvPath::parse(&base).unwrap();
            assert_eq!(of_base.base_name(), base);
            assert_eq!(DrvPath::parse(&of_base.full()).unwrap(), of_base);
        }
    }

    #[test]
    fn what_nix_refuses_is_refused() {
        let long = format!("{HASH}-{}.drv", "x".repeat(208));
        for (path, problem) in [
            ("", "no '-'"),
            ("--option", "its hash"),
            ("hello.drv", "no '-'"),
            (HASH, "no '-'"),
            (&format!("{HASH}-hello"), "does not end in .drv"),
            (&format!("{HASH}-.drv"), "no name"),
            (&format!("{HASH}-..-x.drv"), "begins with"),
            (&format!("{HASH}-hello;reboot.drv"), "characters"),
            (&format!("{HASH}-../x.drv"), "characters"),
            (&format!("{HASH}-a b.drv"), "characters"),
            (&format!("{HASH}-\u{e4}.drv"), "characters"),
            (&format!("e{}-hello.drv", &HASH[1..]), "its hash"),
            (&format!("{}-hello.drv", &HASH[1..]), "its hash"),
            (&format!("{}-hello.drv", HASH.to_uppercase()), "its hash"),
            (&format!("/nix/store/{HASH}-hello.drv/x"), "characters"),
            (&format!("/nix/store//{HASH}-hello.drv"), "its hash"),
            (&long, "longer"),
        ] {
            let error = DrvPath::parse(path).unwrap_err();
            assert!(error.contains(problem), "{path}: {error}");
        }
    }
}
