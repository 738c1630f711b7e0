//! The output of several Nix versions for derivations, and the paths that Nix is asked for.

// An error in a test helper fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use adapters::queue::derivations::{DrvPath, Features, parse as parse_derivations};
use planner::Feature;

fn features(words: &str) -> Features {
    words.split_whitespace().map(Feature::new).collect()
}

/// The formats of several Nix versions, shortened.
#[test]
fn derivations_as_all_nix_versions_show_them() {
    let name = "2innw8daj996r0wv56czrlgksjpykl70-b.drv";
    for (derivation, expected) in [
        (r#""env":{"requiredSystemFeatures":" kvm\tbig-parallel\n"}"#, "big-parallel kvm"),
        (r#""env":{}"#, ""),
        (r#""system":"x86_64-linux""#, ""),
        (r#""env":{"requiredSystemFeatures":7}"#, ""),
        (r#""env":{"__json":"{\"requiredSystemFeatures\":[\"kvm\",1]}"}"#, "kvm"),
        (r#""env":{"__json":"not json","requiredSystemFeatures":"kvm"}"#, "kvm"),
        (r#""env":{},"structuredAttrs":{"requiredSystemFeatures":["kvm"]}"#, "kvm"),
        (r#""env":{"requiredSystemFeatures":"no"},"structuredAttrs":{"x":1}"#, ""),
        (r#""env":{"requiredSystemFeatures":"kvm"},"structuredAttrs":null"#, "kvm"),
    ] {
        for shown in [
            // Up to 2.31, then without the directory, then wrapped (2.34).
            format!(r#"{{"/nix/store/{name}":{{{derivation}}}}}"#),
            format!(r#"{{"{name}":{{{derivation},"version":3}}}}"#),
            format!(r#"{{"derivations":{{"{name}":{{{derivation}}}}},"version":4}}"#),
        ] {
            let reported = parse_derivations(shown.as_bytes()).unwrap();
            let reported: Vec<_> = reported.into_iter().collect();
            assert_eq!(reported, [(DrvPath::parse(name).unwrap(), features(expected))], "{shown}");
        }
    }
    assert!(parse_derivations(b"[]").is_err());
    assert_eq!(parse_derivations(br#"{"--x":{},"version":4}"#).unwrap().len(), 0);
}

#[test]
fn only_derivations_are_ever_asked_for() {
    let base = "2innw8daj996r0wv56czrlgksjpykl70-b.drv";
    for valid in [base.to_owned(), format!("/nix/store/{base}")] {
        assert_eq!(DrvPath::parse(&valid).unwrap().base_name(), base);
    }
    let bad: BTreeSet<_> = [
        "",
        "--help",
        "2innw8daj996r0wv56czrlgksjpykl70-b",
        "2innw8daj996r0wv56czrlgksjpykl70-.drv/..",
        "2innw8daj996r0wv56czrlgksjpykl70-$(id).drv",
        "2innw8daj996r0wv56czrlgksjpykl70-a b.drv",
        "2innw8daj996r0wv56czrlgksjpykl70-\0.drv",
        "2innw8daj996r0wv56czrlgksjpykl70-é.drv",
        "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-b.drv",
        "/nix/store//2innw8daj996r0wv56czrlgksjpykl70-b.drv",
        "/nix/store/../2innw8daj996r0wv56czrlgksjpykl70-b.drv",
    ]
    .into();
    for bad in bad {
        assert!(DrvPath::parse(bad).is_err(), "{bad:?}");
    }
    let long = format!("2innw8daj996r0wv56czrlgksjpykl70-{}.drv", "x".repeat(300));
    assert!(DrvPath::parse(&long).is_err());
}
