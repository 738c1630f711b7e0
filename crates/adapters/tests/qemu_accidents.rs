//! Events on the host that the provisioner does not cause. Real QEMU, with an empty disk.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

mod direct;

use direct::{Direct, Outcome};
use planner::{Machine, MachineName, MachineState, MachineType, Operation};
use reconciler::OperationErrorKind;
use serde_json::json;

const TYPE: &str = "x86_64-linux";

/// A host with room for two machines.
struct Host {
    folder: tempfile::TempDir,
    port: u16,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = Self { folder, port };
        host.replace_image();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Like `scripts/build-image`.
    fn replace_image(&self) {
        fs::write(self.path("new.raw"), vec![0; 1 << 20]).unwrap();
        fs::rename(self.path("new.raw"), self.path("empty.raw")).unwrap();
    }

    fn provider(&self, tag: &str) -> Direct {
        self.provider_with_key(tag, "ssh-ed25519 AAAA")
    }

    fn provider_with_key(&self, tag: &str, authorized_key: &str) -> Direct {
        self.provider_with(tag, authorized_key, 32)
    }

    fn provider_with(&self, tag: &str, authorized_key: &str, host_memory: u64) -> Direct {
        let config = json!({
            "tag": tag,
            "stateDir": self.path(tag),
            "touchKeepAlive": false,
            "checkSsh": false,
            "systemTypes": { TYPE: { "provider": { "qemu": {
                "image": self.path("empty.raw"),
                "stateDir": self.path("qemu"),
                "accelerator": "tcg",
                "memory": 16,
                "hostMemory": host_memory,
                "hostCores": 4,
                "sshPort": self.port,
                "authorizedKeys": [authorized_key],
            } } } },
        });
        fs::create_dir_all(self.path(tag)).unwrap();
        Direct::of(&config)
    }

    fn machine_file(&self, name: &str, file: &str) -> PathBuf {
        self.path("qemu/machines").join(name).join(file)
    }

    /// As in a power failure.
    fn kill(&self, name: &str) {
        let pid = fs::read_to_string(self.machine_file(name, "pid")).unwrap();
        assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
        let running = Path::new("/proc").join(pid.trim()).join("cmdline");
        while fs::read(&running).is_ok_and(|words| !words.is_empty()) {
            std::thread::yield_now();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.path("qemu/machines")).into_iter().flatten() {
            let Ok(pid) = fs::read_to_string(entry.unwrap().path().join("pid")) else { continue };
            let words = fs::read(format!("/proc/{}/cmdline", pid.trim())).unwrap_or_default();
            if String::from_utf8_lossy(&words).contains("qemu-system") {
                let _gone = Command::new("kill").args(["-9", pid.trim()]).status();
            }
        }
    }
}

fn perform(provider: &Direct, name: &str, operation: Operation) -> Outcome {
    let machine = Machine::requested(MachineName::new(name), MachineType::new(TYPE));
    provider.run(&machine, &[operation])
}

fn states(provider: &Direct) -> Vec<MachineState> {
    provider.machines().iter().map(|machine| machine.state).collect()
}

#[test]
fn the_host_was_off_and_the_number_is_another_process_now() {
    let host = Host::new();
    let provider = host.provider("t");
    perform(&provider, "t-0", Operation::Create).unwrap();
    assert_eq!(states(&provider), [MachineState::Up]);
    host.kill("t-0");
    let mut innocent = Command::new("sleep").arg("600").spawn().unwrap();
    fs::write(host.machine_file("t-0", "pid"), innocent.id().to_string()).unwrap();
    assert_eq!(states(&provider), [MachineState::Stopped]);
    perform(&provider, "t-0", Operation::Start).unwrap();
    assert_eq!(states(&provider), [MachineState::Up]);
    host.kill("t-0");
    fs::write(host.machine_file("t-0", "pid"), innocent.id().to_string()).unwrap();
    perform(&provider, "t-0", Operation::Destroy).unwrap();
    assert_eq!(states(&provider), []);
    assert_eq!(innocent.try_wait().unwrap(), None, "it still runs");
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

#[test]
fn a_machine_that_is_off_when_its_image_is_replaced_has_failed() {
    let host = Host::new();
    let provider = host.provider("t");
    perform(&provider, "t-0", Operation::Create).unwrap();
    host.replace_image();
    assert_eq!(states(&provider), [MachineState::Up], "it has the old one open");
    host.kill("t-0");
    assert_eq!(states(&provider), [MachineState::Failed]);
    let error = perform(&provider, "t-0", Operation::Start).unwrap_err();
    assert!(error.message.contains("empty.raw has changed since its disk was created"), "{error}");
    fs::rename(host.path("empty.raw"), host.path("elsewhere")).unwrap();
    assert_eq!(states(&provider), [MachineState::Stopped], "the image may come back");
    perform(&provider, "t-0", Operation::Destroy).unwrap();
    assert_eq!(states(&provider), []);
}

/// The provisioner is killed at each point of a creation; each case has the files that exist at that point.
#[test]
fn an_interrupted_creation_is_continued() {
    let host = Host::new();
    let provider = host.provider("t");
    let parts = ["base", "disk.qcow2", "host_key", "host_key.pub", "identity"];
    for made in 0..=parts.len() {
        perform(&provider, "t-0", Operation::Create).unwrap();
        host.kill("t-0");
        for missing in parts.iter().skip(made).chain(["pid", "console.log", "qmp.sock"].iter()) {
            fs::remove_file(host.machine_file("t-0", missing)).unwrap();
        }
        assert_eq!(states(&provider), [MachineState::Stopped], "{made}");
        perform(&provider, "t-0", Operation::Create).unwrap();
        assert_eq!(states(&provider), [MachineState::Up], "{made}");
        perform(&provider, "t-0", Operation::Destroy).unwrap();
        assert_eq!(states(&provider), [], "{made}");
    }
}

#[test]
fn two_provisioners_share_a_host_and_not_each_others_machines() {
    let host = Host::new();
    let (one, two) = (host.provider("t"), host.provider("u"));
    let mut addresses = std::collections::BTreeSet::new();
    // Both at the same time, independently: they must not use the same addresses.
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let begin = |provider, names: [&'static str; 2]| {
            scope.spawn(move || names.map(|name| perform(provider, name, Operation::Create)))
        };
        let started = [begin(&one, ["t-0", "t-1"]), begin(&two, ["u-0", "u-1"])];
        started.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut made = 0;
    for outcome in outcomes {
        match outcome {
            Ok(machine) => {
                made += 1;
                assert!(addresses.insert(machine.address.unwrap()), "an address each");
            }
            Err(error) => assert_eq!(error.kind, OperationErrorKind::Capacity, "{error}"),
        }
    }
    assert_eq!(made, 2, "there is room for two");
    assert_eq!(states(&one).len() + states(&two).len(), 2);
    for (provider, names) in [(&one, ["t-0", "t-1"]), (&two, ["u-0", "u-1"])] {
        for name in names {
            perform(provider, name, Operation::Destroy).unwrap();
        }
        assert_eq!(states(provider), []);
    }
}

/// The plan counts with the limits that are configured now.
#[test]
fn a_start_needs_room_within_the_present_limits() {
    let host = Host::new();
    perform(&host.provider("t"), "t-0", Operation::Create).unwrap();
    host.kill("t-0");
    let with = |host_memory| host.provider_with("t", "ssh-ed25519 AAAA", host_memory);
    let error = perform(&with(8), "t-0", Operation::Start).unwrap_err();
    assert_eq!(error.kind, OperationErrorKind::Capacity, "{error}");
    perform(&host.provider("t"), "t-1", Operation::Create).unwrap();
    perform(&host.provider("t"), "t-2", Operation::Create).unwrap();
    assert!(
        perform(&host.provider("t"), "t-0", Operation::Start).is_err(),
        "there is room for two"
    );
    let provider = with(48);
    perform(&provider, "t-0", Operation::Start).unwrap();
    for name in ["t-0", "t-1", "t-2"] {
        perform(&provider, name, Operation::Destroy).unwrap();
    }
}

/// The queue runner has a new key, or another checkout's machines are found: a machine must not be published that
/// lets nobody in.
#[test]
fn a_new_ssh_key_reaches_machines_at_their_next_start() {
    let host = Host::new();
    perform(&host.provider("t"), "t-0", Operation::Create).unwrap();
    let host_key = fs::read(host.machine_file("t-0", "host_key")).unwrap();
    let provider = host.provider_with_key("t", "ssh-ed25519 BBBB");
    let problems = |provider: &Direct| provider.machines()[0].problems.clone();
    assert_eq!(problems(&host.provider("t")), [""; 0]);
    assert!(
        problems(&provider)[0].contains("before the present ssh keys"),
        "it runs with the old one"
    );
    host.kill("t-0");
    assert_eq!(problems(&provider), [""; 0], "it does not run");
    perform(&provider, "t-0", Operation::Start).unwrap();
    assert_eq!(problems(&provider), [""; 0]);
    let document = fs::read_to_string(host.machine_file("t-0", "identity")).unwrap();
    assert!(document.contains("authorized-key ssh-ed25519 BBBB\n"), "{document}");
    assert!(!document.contains("AAAA\n"), "{document}");
    assert_eq!(fs::read(host.machine_file("t-0", "host_key")).unwrap(), host_key, "ssh knows it");
    perform(&provider, "t-0", Operation::Destroy).unwrap();
}
