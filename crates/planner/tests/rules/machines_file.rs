//! The machines file, and whether it must be written again.

use planner::{Host, Machine, MachineType, PoolPolicy, System, machines_file, systems_built_by};

use crate::farm::{Farm, name, pool, up};

#[test]
fn a_file_is_that_of_its_machines_until_one_of_their_fields_in_it_changes() {
    let policy = Farm::new(pool(), 0, &[]).policy;
    let machine = Machine {
        host_name: Some(Host::new("m0")),
        host_key: Some("ssh-ed25519 AAAA".to_owned()),
        ssh_user: "build".to_owned(),
        ssh_port: 2222,
        ..up(0)
    };
    let file = machines_file(&policy, [&machine, &up(1)]);
    let is_of = |first: &Machine| file.is_of([first, &up(1)]);
    assert!(is_of(&machine));
    let renewed = Machine {
        started_at: Some(crate::farm::NOW),
        problems: vec!["odd".into()],
        ..machine.clone()
    };
    assert!(is_of(&renewed), "other fields are not in the file");
    let changes: [(&str, Machine); 7] = [
        ("name", Machine { name: name(7), ..machine.clone() }),
        ("type", Machine { machine_type: MachineType::new("other"), ..machine.clone() }),
        ("address", Machine { address: Some(Host::new("10.9.9.9")), ..machine.clone() }),
        ("host name", Machine { host_name: None, ..machine.clone() }),
        ("user", Machine { ssh_user: "root".to_owned(), ..machine.clone() }),
        ("port", Machine { ssh_port: 22, ..machine.clone() }),
        ("host key", Machine { host_key: None, ..machine.clone() }),
    ];
    for (field, changed) in changes {
        assert!(!is_of(&changed), "{field}");
    }
    assert!(!file.is_of([&machine]), "one less");
    assert!(!file.is_of([&machine, &up(1), &up(2)]), "one more");
}

/// A machine that cannot be in the file may get its address at any time.
#[test]
fn a_file_that_lacks_a_machine_is_tried_again() {
    let policy = Farm::new(pool(), 0, &[]).policy;
    let machine = Machine { address: None, ..up(0) };
    let file = machines_file(&policy, [&machine]);
    assert!(file.entries.is_empty() && file.left_out.len() == 1);
    assert!(!file.is_of([]));
}

#[test]
fn machines_are_listed_for_the_systems_that_they_build_for() {
    for (systems, expected) in [
        (vec!["x86_64-linux"], vec!["x86_64-linux", "i686-linux"]),
        (vec!["x86_64-linux", "i686-linux"], vec!["x86_64-linux", "i686-linux"]),
        (vec!["i686-linux", "x86_64-linux"], vec!["i686-linux", "x86_64-linux"]),
        (vec!["aarch64-linux"], vec!["aarch64-linux"]),
    ] {
        let named = |names: &[&str]| names.iter().map(|it| System::new(*it)).collect::<Vec<_>>();
        let built = systems_built_by(&PoolPolicy::new(named(&systems)));
        assert_eq!(built, named(&expected), "{systems:?}");
    }
}
