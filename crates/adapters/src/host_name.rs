//! What a machine calls itself: the key under which the current queue runner lists it.

use planner::{EndpointError, Host, escape};

/// Run on a machine to hear what it calls itself (what `gethostname` says there).
pub const ASK_HOST_NAME: [&str; 2] = ["uname", "-n"];

/// A name that a machine told itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnName {
    pub(crate) host_name: Host,
    /// That its provider tells another one.
    pub(crate) contradiction: Option<String>,
}

/// What `printed`, the answer to [`ASK_HOST_NAME`], says of a machine that its provider calls `told`. The machine's
/// own word counts.
///
/// # Errors
/// When it is not one host's name.
pub(crate) fn own_name(printed: &[u8], told: Option<&Host>) -> Result<OwnName, String> {
    let text = String::from_utf8_lossy(printed);
    let [word] = text.split_whitespace().collect::<Vec<_>>()[..] else {
        return Err(format!("`uname -n` on it printed \"{}\"", escape(&text)));
    };
    let host_name: Host =
        word.parse().map_err(|error: EndpointError| format!("`uname -n` on it: {error}"))?;
    let contradiction = told.filter(|told| **told != host_name).map(|told| {
        format!(
            "its provider says that its host name is {}, the machine itself says {host_name}, which counts",
            escape(&told.to_string())
        )
    });
    Ok(OwnName { host_name, contradiction })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_s_own_word_counts() {
        for (printed, told, expected) in [
            ("farm-0\n", None, Ok(("farm-0", false))),
            ("Farm-0.\n", Some("farm-0"), Ok(("farm-0", false))),
            ("farm-0\n", Some("farm-0.example.org"), Ok(("farm-0", true))),
            ("", Some("farm-0"), Err("`uname -n` on it printed \"\"")),
            ("two words", None, Err("`uname -n` on it printed \"two words\"")),
            (
                "a_b/c\n",
                None,
                Err("`uname -n` on it: \"a_b/c\" has characters that no host name has"),
            ),
        ] {
            let own = own_name(printed.as_bytes(), told.map(Host::new).as_ref());
            let own = own.map(|own| (own.host_name.to_string(), own.contradiction.is_some()));
            let expected = expected.map(|(name, differs)| (name.to_owned(), differs));
            assert_eq!(own, expected.map_err(str::to_owned), "{printed:?}");
        }
    }
}
