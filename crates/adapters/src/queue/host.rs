//! The host in a classic machine's key: `localhost`, `user@host`, `ssh://user@host:port?option=value`.

/// Host and port of a machine's key; the user does not matter. IPv6 addresses lose their brackets.
///
/// The keys are the first column of the machines file (`machine->sshName`, later `storeUri.render()`, in
/// the C++ `hydra-queue-runner/hydra-queue-runner.cc`). A port that is not a number belongs to the name:
/// better no match than a wrong one.
pub(super) fn host_and_port(key: &str) -> (String, Option<u16>) {
    let without_scheme = key.split_once("://").map_or(key, |(_, rest)| rest);
    let authority = without_scheme.split(['?', '/', '#']).next().unwrap_or_default();
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    if let Some((host, rest)) = place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host.to_owned(), rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match place.split_once(':') {
        // More than one colon without brackets: an IPv6 address.
        Some((host, port)) if !port.contains(':') => match port.parse() {
            Ok(port) => (host.to_owned(), Some(port)),
            Err(_) => (place.to_owned(), None),
        },
        _ => (place.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::host_and_port;

    #[test]
    fn keys_of_all_releases() {
        for (key, host, port) in [
            ("localhost", "localhost", None),
            ("10.0.0.7", "10.0.0.7", None),
            ("root@10.0.0.7", "10.0.0.7", None),
            ("ssh://build@elated-minsky.example.org", "elated-minsky.example.org", None),
            ("ssh-ng://root@host:2222?compress=true", "host", Some(2222)),
            ("ssh://root@host?remote-program=/a@b:1", "host", None),
            ("ssh://root@host/?remote-program=x", "host", None),
            ("ssh://host", "host", None),
            ("host:2222", "host", Some(2222)),
            ("ssh://root@[2001:db8::1]:22", "2001:db8::1", Some(22)),
            ("ssh://root@[2001:db8::1]", "2001:db8::1", None),
            ("[::1]", "::1", None),
            ("root@2001:db8::1", "2001:db8::1", None),
            ("ssh://root@[fe80::1%25eth0]:22", "fe80::1%25eth0", Some(22)),
            ("odd@user@host", "host", None),
            ("us:er+x@host:22", "host", Some(22)),
            ("host:no-port", "host:no-port", None),
            ("host:65536", "host:65536", None),
            ("host:", "host:", None),
            ("", "", None),
            ("ssh://", "", None),
            ("@", "", None),
            ("[", "[", None),
        ] {
            assert_eq!(host_and_port(key), (host.to_owned(), port), "{key}");
        }
    }
}
