//! The host in a machine's key: `localhost`, `user@host`, `ssh://user@host:port?option=value`.

/// Host and port of a machine's key; the user does not matter. IPv6 addresses lose their brackets.
pub(super) fn host_and_port(key: &str) -> (String, Option<u16>) {
    let without_scheme = key.split_once("://").map_or(key, |(_, rest)| rest);
    let authority = without_scheme.split(['?', '/']).next().unwrap_or_default();
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
            ("root@10.0.0.7", "10.0.0.7", None),
            ("build@elated-minsky.builder.nixos.org", "elated-minsky.builder.nixos.org", None),
            (
                "ssh://build@elated-minsky.builder.nixos.org",
                "elated-minsky.builder.nixos.org",
                None,
            ),
            ("ssh-ng://root@host:2222?compress=true", "host", Some(2222)),
            ("ssh://root@host/?remote-program=x", "host", None),
            ("ssh://root@[2001:db8::1]:22", "2001:db8::1", Some(22)),
            ("root@2001:db8::1", "2001:db8::1", None),
            ("odd@user@host", "host", None),
            ("host:no-port", "host:no-port", None),
            ("", "", None),
            ("ssh://", "", None),
            ("[", "[", None),
        ] {
            assert_eq!(host_and_port(key), (host.to_owned(), port), "{key}");
        }
    }
}
