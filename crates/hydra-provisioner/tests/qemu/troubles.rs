//! Failures of machines, and the messages that an operator reads.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::farm::{Farm, Tmpfs, both, entries, image, wait_until};

/// Each failure has its own type, all in one cycle, beside a healthy machine.
#[test]
fn troubles_are_named_and_leave_nothing_behind() {
    let farm = Farm::new(&json!({}));
    let image = image();
    let small = Tmpfs::new(farm.path("small"), "size=64k");
    let roomy = Tmpfs::new(farm.path("roomy"), "size=300m");
    let with = |more: &Value| {
        let mut qemu =
            json!({ "image": image, "memory": 1024, "hostCores": 16, "hostMemory": 16384 });
        for (name, value) in more.as_object().unwrap() {
            qemu[name] = value.clone();
        }
        json!({ "minMachines": 1, "sshKey": farm.path("key"), "provider": { "qemu": qemu } })
    };
    farm.set_conf(&json!({
        "tag": "e2e",
        "stateDir": farm.path("state"),
        "machinesFile": farm.path("machines"),
        "statusCommand": ["python3", farm.path("status.py"), farm.folder.path()],
        "deployTimeout": 200,
        "systemTypes": {
            "a-fine": with(&json!({ "stateDir": roomy.path })),
            "b-no-image": with(&json!({ "image": "/no/such/image" })),
            "c-disk-full": with(&json!({ "stateDir": small.path })),
            "d-little-memory": with(&json!({ "memory": 40 })),
            "e-no-ssh": with(&json!({ "kernelParams": ["systemd.mask=ssh.service"] })),
            "f-dies": with(&json!({ "extraArgs": ["-device", "no-such-device"] })),
        },
    }));
    let output = farm.command().output().unwrap();
    println!("the troubles as the operator sees them:\n{}", both(&output));
    let report = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{report}");
    assert!(report.contains("e2e-0: ready"), "{report}");
    let line_of = |name: &str| {
        let start = format!("  {name}: FAILED: ");
        report.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{report}"))
    };
    for (name, words) in [
        ("e2e-1", ["cannot create it", "/no/such/image"]),
        ("e2e-2", ["cannot create it", "No space left on device"]),
        ("e2e-3", ["its QEMU ended before ssh answered", "40 MiB may be too little memory"]),
        ("e2e-4", ["ssh did not answer", "console"]),
        ("e2e-5", ["its QEMU did not start", "no-such-device"]),
    ] {
        for word in words {
            assert!(line_of(name).contains(word), "{word:?} is not in {}", line_of(name));
        }
    }
    // A machine that was created and does not work is tried again until `giveUpAfter`; one that could not be created
    // leaves nothing.
    assert_eq!(farm.machine_folders(), ["e2e-3", "e2e-4"], "{report}");
    for (folder, left) in [(&roomy.path, vec!["e2e-0"]), (&small.path, vec![])] {
        assert_eq!(entries(&folder.join("machines")), left, "{report}");
    }
    assert_eq!(farm.qemus().len(), 2, "{report}");
    the_host_s_disk_is_full_for_a_while(&farm, &roomy);
}

/// QEMU then pauses the machine; it continues when there is room again.
fn the_host_s_disk_is_full_for_a_while(farm: &Farm, disk: &Tmpfs) {
    let mut conf: Value =
        serde_json::from_slice(&fs::read(farm.path("conf.json")).unwrap()).unwrap();
    conf["systemTypes"].as_object_mut().unwrap().retain(|name, _| name == "a-fine");
    conf["deployTimeout"] = json!(60);
    farm.set_conf(&conf);
    let fill = "setsid sh -c 'yes | head -c 400M >/root/much; sync' </dev/null >/dev/null 2>&1 &";
    assert_eq!(farm.on_each(fill).len(), 1);
    let state = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
        both(&command.arg("status").arg(farm.path("conf.json")).output().unwrap())
    };
    wait_until("the pause", Duration::from_secs(120), || state().contains("unreachable"));
    let output = farm.command().output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", both(&output));
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(report.contains("e2e-0: FAILED: cannot deploy it: QEMU has paused it"), "{report}");
    // Their types are no longer configured.
    assert_eq!(farm.machine_folders(), [""; 0], "{report}");
    assert_eq!(farm.qemus().len(), 1, "{report}");

    disk.remount("size=1g");
    // Not before its back-off has ended.
    let is_ready = || farm.cycle().contains("e2e-0: ready");
    wait_until("ready again", Duration::from_secs(60), is_ready);
    assert!(state().contains(" up "), "{}", state());
}
