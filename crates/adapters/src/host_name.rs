//! A machine's own host name: the key under which the REST queue runner lists it.

use planner::{EndpointError, Host, escape};

/// Runs on a machine to get its host name (the result of `gethostname` there).
pub const ASK_HOST_NAME: [&str; 2] = ["uname", "-n"];

/// The host name that a machine reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnName {
    pub(crate) host_name: Host,
    /// The message if its provider reports another one.
    pub(crate) contradiction: Option<String>,
}

/// Parses `printed`, the output of [`ASK_HOST_NAME`], of a machine; its provider reports `reported`. The
/// machine's own name is used. Lines before the last one are a login shell's.
///
/// # Errors
/// If its last line is not a single host name.
pub(crate) fn own_name(printed: &[u8], reported: Option<&Host>) -> Result<OwnName, String> {
    let text = String::from_utf8_lossy(printed);
    let last = text.trim_end().lines().last().unwrap_or_default();
    let [word] = last.split_whitespace().collect::<Vec<_>>()[..] else {
        return Err(format!("`uname -n` on it printed \"{}\"", escape(&text)));
    };
    let host_name: Host =
        word.parse().map_err(|error: EndpointError| format!("`uname -n` on it: {error}"))?;
    let contradiction = reported.filter(|reported| **reported != host_name).map(|reported| {
        format!(
            "its provider reports the host name {}, the machine itself reports {host_name}, which is used",
            escape(&reported.to_string())
        )
    });
    Ok(OwnName { host_name, contradiction })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_s_own_word_counts() {
        for (printed, reported, expected) in [
            ("farm-0\n", None, Ok(("farm-0", false))),
            ("Farm-0.\n", Some("farm-0"), Ok(("farm-0", false))),
            ("farm-0\n", Some("farm-0.example.org"), Ok(("farm-0", true))),
            ("Welcome to NixOS!\n\nfarm-0\n", Some("farm-0"), Ok(("farm-0", false))),
            ("", Some("farm-0"), Err("`uname -n` on it printed \"\"")),
            ("two words", None, Err("`uname -n` on it printed \"two words\"")),
            (
                "a_b/c\n",
                None,
                Err("`uname -n` on it: \"a_b/c\" has characters that no host name has"),
            ),
        ] {
            let own = own_name(printed.as_bytes(), reported.map(Host::new).as_ref());
            let own = own.map(|own| (own.host_name.to_string(), own.contradiction.is_some()));
            let expected = expected.map(|(name, differs)| (name.to_owned(), differs));
            assert_eq!(own, expected.map_err(str::to_owned), "{printed:?}");
        }
    }
}
