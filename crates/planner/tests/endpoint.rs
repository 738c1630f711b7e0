//! All spellings of an endpoint are equal, and different endpoints are never equal.

#![allow(clippy::unwrap_used, reason = "a test may")]

use planner::{Destination, Endpoint, Host, HostPattern};
use proptest::prelude::*;
use proptest::sample::select;

mod mutations;

use mutations::at_least;

/// Keys from all releases of both queue runners, first columns of machines files, and invalid text.
#[test]
fn spellings_and_their_endpoints() {
    for (text, host, port) in [
        ("localhost", "localhost", None),
        ("10.0.0.7", "10.0.0.7", None),
        ("root@10.0.0.7", "10.0.0.7", None),
        ("root@[2001:db8::4]", "2001:db8::4", None),
        ("ssh://build@elated-minsky.example.org", "elated-minsky.example.org", None),
        ("ssh-ng://root@host:2222?compress=true", "host", Some(2222)),
        ("ssh://root@host?remote-program=/a@b:1", "host", None),
        ("root@host?remote-store=ssh://x@y", "host", None),
        ("ssh://root@host/?remote-program=x", "host", None),
        ("SSH://Host.Example.ORG.", "host.example.org", None),
        ("host:2222", "host", Some(2222)),
        ("ssh://root@[2001:db8::1]:22", "2001:db8::1", Some(22)),
        ("[::1]", "::1", None),
        ("root@2001:db8::1", "2001:db8::1", None),
        ("::ffff:10.0.0.7", "10.0.0.7", None),
        ("ssh://root@[::FFFF:a00:7]:2222", "10.0.0.7", Some(2222)),
        ("ssh://root@[fe80::1%25eth0]:22", "fe80::1%eth0", Some(22)),
        ("fe80::1%eth0", "fe80::1%eth0", None),
        ("odd@user@host", "host", None),
        ("us:er+x@host:22", "host", Some(22)),
    ] {
        let read: Destination = text.parse().unwrap();
        assert_eq!((read.endpoint.host.to_string(), read.endpoint.port), (host.to_owned(), port));
        assert_eq!(read.endpoint, Endpoint::new(text), "{text}");
    }
    for text in [
        "",
        "ssh://",
        "@",
        "[",
        "]",
        "[]",
        "[::1",
        "[host]",
        "host:",
        "host:no-port",
        "host:65536",
        "host:0",
        "host:+1",
        ":22",
        "a b",
        "a..b",
        "-oProxyCommand=x",
        "root@-x",
        "10.1",
        "10.0.0.256",
        "2001:db8::g",
        "fe80::1%",
        "a\nb",
        "bücher.example",
    ] {
        assert!(text.parse::<Destination>().is_err(), "{text}");
        let kept = Endpoint::new(text);
        assert_eq!((kept.host.to_string().as_str(), kept.port), (text, None));
        assert!(!kept.host.is_readable(), "{text}");
    }
}

#[test]
fn printed_forms() {
    for (user, host, port, expected) in [
        ("root", "10.0.0.7", 22, "root@10.0.0.7"),
        ("root", "M.example.org", 2222, "ssh://root@m.example.org:2222"),
        ("root", "[2001:db8:0::7]", 22, "root@2001:db8::7"),
        ("root", "2001:db8::7", 2222, "ssh://root@[2001:db8::7]:2222"),
        ("root", "fe80::1%eth0", 2222, "ssh://root@[fe80::1%25eth0]:2222"),
    ] {
        let destination = Destination::new(user, Host::new(host), port);
        assert_eq!(destination.to_string(), expected);
        let read: Destination = expected.parse().unwrap();
        assert!(read.endpoint.may_be(&destination.endpoint), "{expected}");
    }
}

fn hosts() -> impl Strategy<Value = Host> {
    let names = "[a-z][a-z0-9]{0,5}(-[a-z0-9]{1,3})?(\\.[a-z]{1,4}){0,3}";
    prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(|address| Host::from(std::net::IpAddr::V4(address))),
        any::<std::net::Ipv6Addr>().prop_map(|address| Host::from(std::net::IpAddr::V6(address))),
        names.prop_map(Host::new),
    ]
}

/// One of the spellings of `host`.
fn spelling(host: &Host, how: usize) -> String {
    let plain = match host.ip() {
        Some(std::net::IpAddr::V4(v4)) => match how % 4 {
            0 => v4.to_string(),
            1 => format!("{v4}."),
            2 => format!("[::ffff:{v4}]"),
            _ => {
                let number = u32::from(v4);
                format!("[0:0:0:0:0:ffff:{:x}:{:x}]", number >> 16, number & 0xffff)
            }
        },
        Some(std::net::IpAddr::V6(v6)) => {
            let full: Vec<_> = v6.segments().iter().map(|s| format!("{s:04x}")).collect();
            match how % 3 {
                0 => format!("[{v6}]"),
                1 => format!("[{}]", full.join(":")),
                _ => format!("[{}]", full.join(":").to_uppercase()),
            }
        }
        None => match how % 3 {
            0 => format!("{host}."),
            _ => host.to_string(),
        },
    };
    if how.is_multiple_of(2) { plain } else { plain.to_uppercase() }
}

fn spellings(host: Host, port: u16) -> impl Strategy<Value = String> {
    let schemes = select(vec!["", "ssh://", "ssh-ng://", "SSH://"]);
    let users = select(vec!["", "root@", "build@", "us:er@", "a@b@"]);
    let rests = select(vec!["", "?compress=true", "/", "/?remote-store=ssh://x@y:1", "#x"]);
    (0..12_usize, schemes, users, rests, any::<bool>()).prop_map(
        move |(how, scheme, user, rest, tells_port)| {
            let port = if tells_port || port != 22 { format!(":{port}") } else { String::new() };
            format!("{scheme}{user}{}{port}{rest}", spelling(&host, how))
        },
    )
}

fn places() -> impl Strategy<Value = (Host, u16)> {
    (hosts(), prop_oneof![Just(22_u16), 1..=u16::MAX])
}

proptest! {
    #![proptest_config(at_least(10_000))]

    #[test]
    fn all_spellings_are_equal(
        (place, text) in places().prop_flat_map(|(host, port)| {
            (Just(Endpoint { host: host.clone(), port: Some(port) }), spellings(host, port))
        }),
    ) {
        let read = Endpoint::new(&text);
        prop_assert!(read.may_be(&place), "{text} is read as {read}, is {place}");
        prop_assert!(HostPattern::new(&text).matches(&place.host), "{text}");
    }

    #[test]
    fn different_endpoints_differ((host, port) in places(), (other_host, other_port) in places(), how in 0..12_usize) {
        let place = Endpoint { host: host.clone(), port: Some(port) };
        if other_host != host {
            prop_assert!(!Endpoint::new(spelling(&other_host, how)).may_be(&place));
        }
        if other_port != port {
            let text = format!("ssh://{}:{other_port}", spelling(&host, how));
            prop_assert!(!Endpoint::new(text).may_be(&place));
        }
    }

    #[test]
    fn printed_forms_parse_back((host, port) in places(), user in "[a-z][a-z0-9@\\\\+-]{0,7}") {
        let written = Destination::new(&user, host, port);
        let read: Destination = written.to_string().parse().unwrap();
        prop_assert_eq!(read.user.as_deref(), written.user.as_deref());
        prop_assert!(read.endpoint.may_be(&written.endpoint));
        prop_assert_eq!(read.endpoint.port.unwrap_or(22), port);
        let json = serde_json::to_string(&written.endpoint).unwrap();
        prop_assert_eq!(serde_json::from_str::<Endpoint>(&json).unwrap(), written.endpoint);
    }

    #[test]
    fn any_text_is_accepted(text in any::<String>(), odd in "[a-z0-9:@\\[\\]/?#%. -]{0,24}") {
        for text in [text, odd] {
            let endpoint = Endpoint::new(&text);
            prop_assert_eq!(&Endpoint::new(endpoint.to_string()), &endpoint, "{}", text);
            prop_assert_eq!(&Host::new(endpoint.host.to_string()), &endpoint.host, "{}", text);
            if let Ok(destination) = text.parse::<Destination>() {
                let again: Destination = destination.to_string().parse().unwrap();
                prop_assert!(again.endpoint.may_be(&destination.endpoint));
            }
        }
    }
}
