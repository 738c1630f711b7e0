//! What people and programs read: texts and labels.

use std::collections::BTreeSet;

use planner::{
    BackOff, BackOffKind, Destination, EndsWhen, Host, HostPattern, OrderKind, ReleaseReason,
    Seconds, SpeedFactor, StoreUri, Timestamp, Unhealthy,
};

use crate::farm::{NOW, name, order};

#[test]
fn values_are_printed_as_they_are_written_in_files() {
    for (thousandths, text) in
        [(1000, "1"), (1500, "1.5"), (125, "0.125"), (2050, "2.05"), (12_000, "12"), (7, "0.007")]
    {
        assert_eq!(SpeedFactor { thousandths }.to_string(), text);
    }
    assert_eq!(HostPattern::new("mac-*.example.org").to_string(), "mac-*.example.org");
    assert_eq!(StoreUri::new("ssh-ng://{host}").to_string(), "ssh-ng://{host}");
    // A day after the leap day that the year 2100 does not have.
    assert_eq!(Timestamp(4_107_542_400).to_string(), "2100-03-01 00:00:00");
}

#[test]
fn destinations_are_printed_in_their_normal_form() {
    for (text, expected) in [
        ("root@10.0.0.7", "root@10.0.0.7"),
        ("root@10.0.0.7?compress=true", "root@10.0.0.7?compress=true"),
        ("root@[2001:DB8::7]", "root@2001:db8::7"),
        ("root@[2001:db8::7]?compress=true", "root@[2001:db8::7]?compress=true"),
        ("ssh://root@[2001:db8::7]:2222", "ssh://root@[2001:db8::7]:2222"),
    ] {
        let destination: Destination = text.parse().unwrap();
        assert_eq!(destination.to_string(), expected);
        assert_eq!(expected.parse::<Destination>().unwrap(), destination, "it is read back");
    }
}

#[test]
fn a_host_that_is_refused_is_named_with_the_reason() {
    let refused = "a b".parse::<Host>().unwrap_err().to_string();
    assert!(refused.contains("a b") && refused.contains("characters"), "{refused}");
    let refused = "root@m:99999".parse::<Destination>().unwrap_err().to_string();
    assert!(refused.contains("a port that is not a number"), "{refused}");
}

/// RFC 1035: at most 253 characters.
#[test]
fn a_host_name_has_a_longest_length() {
    for (length, is_name) in [(253, true), (254, false), (301, false)] {
        let name = &"abc.".repeat(100)[..length];
        assert_eq!(Host::new(name).is_readable(), is_name, "{length}");
    }
}

#[test]
fn how_often_creation_failed_is_said_from_the_second_time_on() {
    let text = |kind, failures| {
        BackOff {
            kind,
            failures,
            until: NOW,
            error: "quota".to_owned(),
            ends_when: EndsWhen::Created,
        }
        .to_string()
    };
    assert_eq!(text(BackOffKind::Capacity, 1), "no capacity: quota");
    assert_eq!(text(BackOffKind::Failure, 2), "creation failed 2 times: quota");
}

/// The labels of a metric: one for each reason, and never another one.
#[test]
fn each_reason_of_a_release_has_its_own_label() {
    let drain = order(OrderKind::Drain(name(0)));
    let unhealthy =
        ReleaseReason::Unhealthy { what: Unhealthy::Unreachable, unhealthy_for: Seconds(1) };
    let reasons = [
        ReleaseReason::Idle { idle_for: None },
        ReleaseReason::StoppedUnwanted,
        ReleaseReason::ReserveFull,
        ReleaseReason::TypeNotConfigured,
        ReleaseReason::Failed,
        ReleaseReason::NeverReady { failing_for: Seconds(1) },
        unhealthy,
        ReleaseReason::Vanished { missing_for: Seconds(1) },
        ReleaseReason::StillListed { since: NOW },
        ReleaseReason::RequestAbandoned,
        ReleaseReason::Interrupted { at: NOW },
        ReleaseReason::Ordered(drain),
    ];
    let labels: BTreeSet<_> = reasons.iter().map(ReleaseReason::label).collect();
    assert_eq!(labels.len(), reasons.len(), "{labels:?}");
    let is_label = |label: &&str| label.bytes().all(|c| c.is_ascii_lowercase() || c == b'-');
    assert!(labels.iter().all(|label| !label.is_empty() && is_label(label)), "{labels:?}");
    assert!(labels.contains("idle") && labels.contains("type-not-configured"));
}
