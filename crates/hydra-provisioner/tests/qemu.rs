//! The whole product on real machines: real QEMU, a real Debian guest, real ssh, real Nix builds.
//!
//! Needs root, an image by `scripts/build-image` (its directory in `HYDRA_PROVISIONER_IMAGE`) and some minutes;
//! `scripts/e2e-qemu` runs it. Without KVM a machine takes about 40 s from start to ssh.

#![cfg(feature = "qemu-tests")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A queue that is a folder of jobs, one runnable step each, and a queue runner that knows the machines file.
const STATUS: &str = r#"
import json, os, sys
farm = sys.argv[1]
machines = {}
for state, path in (("false", "known"), ("true", "machines")):
    if os.path.exists(f"{farm}/{path}"):
        for line in open(f"{farm}/{path}"):
            machines[line.split()[0]] = {"enabled": state == "true", "currentJobs": 0, "idleSince": 1000}
open(f"{farm}/known", "w").writelines(f"{key}\n" for key in machines)
types = {"runnable": len(os.listdir(f"{farm}/queue")), "running": 0, "lastActive": 1000}
print(json.dumps({"status": "up", "uptime": 1000000, "machineTypes": {"x86_64-linux": types}, "machines": machines}))
"#;

struct Farm {
    folder: tempfile::TempDir,
}

impl Farm {
    fn new(types: &Value) -> Self {
        let farm = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(farm.path("queue")).unwrap();
        fs::write(farm.path("status.py"), STATUS).unwrap();
        let key = farm.path("key");
        let keygen = ["-q", "-t", "ed25519", "-N", "", "-f"];
        assert!(Command::new("ssh-keygen").args(keygen).arg(&key).status().unwrap().success());
        let conf = json!({
            "tag": "e2e",
            "stateDir": farm.path("state"),
            "machinesFile": farm.path("machines"),
            "statusCommand": ["python3", farm.path("status.py"), farm.folder.path()],
            "deployTimeout": 400,
            "systemTypes": types,
        });
        farm.set_conf(&conf);
        farm
    }

    /// One type of at most two real build machines.
    fn real() -> Self {
        let farm = Self::new(&json!({}));
        farm.set_type(&json!({ "qemu": { "image": image(), "memory": 1024 } }));
        farm
    }

    fn set_type(&self, provider: &Value) {
        let mut conf: Value =
            serde_json::from_slice(&fs::read(self.path("conf.json")).unwrap()).unwrap();
        conf["systemTypes"] = json!({ "x86_64-linux": {
            "sshKey": self.path("key"), "maxMachines": 2, "runnablesPerMachine": 3, "provider": provider,
        } });
        self.set_conf(&conf);
    }

    fn set_conf(&self, conf: &Value) {
        fs::write(self.path("conf.json"), conf.to_string()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
        command.arg("run").arg(self.path("conf.json"));
        command
    }

    /// One cycle that must go well.
    fn cycle(&self) -> String {
        let output = self.command().output().unwrap();
        let text = both(&output);
        assert_eq!(output.status.code(), Some(0), "{text}\n{}", self.consoles());
        text
    }

    fn enqueue(&self, jobs: &[&str]) {
        for job in jobs {
            fs::write(self.path("queue").join(job), "").unwrap();
        }
    }

    /// Builds every job of the queue on the machines of the machines file, and on nothing else.
    fn build(&self) -> Vec<String> {
        self.build_for(0)
    }

    /// As [`Self::build`]; each job takes so many seconds.
    fn build_for(&self, seconds: u32) -> Vec<String> {
        let mut results = Vec::new();
        for job in fs::read_dir(self.path("queue")).unwrap() {
            let job = job.unwrap().path();
            let name = job.file_name().unwrap().to_string_lossy().into_owned();
            let output = self.nix_build(Nix::Ours, &name, seconds);
            assert!(output.status.success(), "{}", both(&output));
            results.push(String::from_utf8(output.stdout).unwrap());
            fs::remove_file(job).unwrap();
        }
        results
    }

    /// Builds `name` on the machines of the machines file; what it prints is the kernel that it was built on.
    fn nix_build(&self, nix: Nix, name: &str, seconds: u32) -> Output {
        // The sandbox has busybox as /bin/sh, which is every tool by its name.
        let expression = r#"{ name, seconds }: derivation {
            inherit name seconds;
            system = "x86_64-linux";
            builder = "/bin/sh";
            args = [ "-c" "(exec -a sleep /bin/sh $seconds); read release < /proc/sys/kernel/osrelease; echo $release > $out" ];
        }"#;
        fs::write(self.path("job.nix"), expression).unwrap();
        let script = format!(
            "cat \"$(nix-build {} --no-out-link --argstr name {name}-{} --argstr seconds {seconds} \
             --builders @{} --option max-jobs 0 --option substituters '')\"",
            self.path("job.nix").display(),
            // A name that was never built, whatever this machine's store has.
            self.folder.path().file_name().unwrap().to_string_lossy().replace('.', "-"),
            self.path("machines").display()
        );
        let mut command = match nix {
            Nix::Ours => Command::new("sh"),
            Nix::Newer => {
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/nix-2.26");
                let mut command = Command::new(script);
                command.args(["--bind", &self.folder.path().display().to_string(), "sh"]);
                command
            }
        };
        command.args(["-euc", &script]).output().unwrap()
    }

    /// Process ids of this farm's machines.
    fn qemus(&self) -> Vec<String> {
        let pattern = format!("qemu-system.*{}", self.folder.path().display());
        let output = Command::new("pgrep").args(["-f", &pattern]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// Whether the one machine's QEMU has become its own process: QEMU's `-daemonize` forks, and the pid file
    /// holds the number of the one that stays.
    fn stands_by_itself(&self) -> bool {
        let folders = self.machine_folders();
        let [folder] = folders.as_slice() else { return false };
        let pid = fs::read_to_string(self.path("state/qemu/machines").join(folder).join("pid"));
        pid.is_ok_and(|pid| self.qemus() == [pid.trim()])
    }

    fn machine_folders(&self) -> Vec<String> {
        entries(&self.path("state/qemu/machines"))
    }

    /// What `command` prints on each machine of the machines file, whose host keys are checked.
    fn on_each(&self, command: &str) -> Vec<String> {
        let file = fs::read_to_string(self.path("machines")).unwrap();
        let on = |line: &str| {
            let fields: Vec<_> = line.split(' ').collect();
            let address = fields[0].strip_prefix("root@").unwrap();
            let decode = format!("printf '%s ' {address}; echo {} | base64 -d", fields[7]);
            let known_hosts = Command::new("sh").args(["-c", &decode]).output().unwrap().stdout;
            fs::write(self.path("known_hosts"), known_hosts).unwrap();
            let output = Command::new("ssh")
                .args(["-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o"])
                .arg(format!("UserKnownHostsFile={}", self.path("known_hosts").display()))
                .arg("-i")
                .arg(self.path("key"))
                .args([fields[0], command])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", both(&output));
            String::from_utf8(output.stdout).unwrap()
        };
        file.lines().map(on).collect()
    }

    fn consoles(&self) -> String {
        let logs = self.machine_folders().into_iter().map(|name| {
            let log = self.path("state/qemu/machines").join(&name).join("console.log");
            format!("{name}: {}\n", fs::read_to_string(log).unwrap_or_default())
        });
        logs.collect()
    }

    fn expect_nothing_left(&self) {
        assert_eq!(self.machine_folders(), [""; 0]);
        assert_eq!(self.qemus(), [""; 0]);
        let listening = Command::new("ss").args(["-ltnH"]).output().unwrap();
        let listening = String::from_utf8(listening.stdout).unwrap();
        assert!(!listening.contains("127.91."), "{listening}");
    }
}

/// Which Nix builds on the farm.
#[derive(Clone, Copy, Debug)]
enum Nix {
    /// The host's.
    Ours,
    /// 2.26, in a root of its own.
    Newer,
}

/// A failed test leaves no machine running either.
impl Drop for Farm {
    fn drop(&mut self) {
        for pid in self.qemus() {
            let _gone = Command::new("kill").args(["-9", &pid]).status();
        }
    }
}

/// A file system in memory, until this is dropped.
struct Tmpfs {
    path: PathBuf,
}

impl Tmpfs {
    fn new(path: PathBuf, options: &str) -> Self {
        fs::create_dir(&path).unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&path).status();
        assert!(mount.unwrap().success());
        Self { path }
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let mount = Command::new("mount").args(["-o", &options]).arg(&self.path).status();
        assert!(mount.unwrap().success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // What still runs on it is killed after this.
        let _gone = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn image() -> PathBuf {
    let image = std::env::var_os("HYDRA_PROVISIONER_IMAGE");
    image.expect("HYDRA_PROVISIONER_IMAGE must name a directory made by scripts/build-image").into()
}

fn both(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not happen within {limit:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn work_comes_is_built_on_a_new_machine_and_the_machine_goes() {
    let farm = Farm::real();
    farm.enqueue(&["one", "two"]);
    let began = Instant::now();
    let report = farm.cycle();
    assert!(
        report.contains("e2e-0: ready") && report.contains("published, 1 machines"),
        "{report}"
    );
    println!("cold start to ready: {:.1} s", began.elapsed().as_secs_f32());

    let results = farm.build();
    println!("cold start to two builds done: {:.1} s", began.elapsed().as_secs_f32());
    let here = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(results.len(), 2);
    for result in results {
        assert!(result.contains("deb13-cloud") && result != here, "built on {result}");
    }
    each_nix_builds_and_checks_the_host_key(&farm);

    let report = farm.cycle();
    assert!(report.contains("e2e-0: destroy done"), "{report}");
    assert_eq!(fs::read_to_string(farm.path("machines")).unwrap(), "");
    farm.expect_nothing_left();
}

/// With the same machines file, in which a wrong host key shuts the machine out.
fn each_nix_builds_and_checks_the_host_key(farm: &Farm) {
    let published = fs::read_to_string(farm.path("machines")).unwrap();
    let host_key = published.split_whitespace().nth(7).unwrap();
    // Another key of the same kind: the last of its letters are the key's own.
    let (head, tail) = host_key.split_at(host_key.len() - 12);
    let mut letters: Vec<_> = tail.chars().collect();
    letters.swap(0, 4);
    letters.swap(1, 5);
    let wrong = format!("{head}{}", letters.into_iter().collect::<String>());
    assert_ne!(wrong, host_key);
    for (nix, name) in [(Nix::Ours, "ours"), (Nix::Newer, "newer")] {
        let output = farm.nix_build(nix, name, 0);
        assert!(both(&output).contains("deb13-cloud"), "{nix:?}: {}", both(&output));

        fs::write(farm.path("machines"), published.replace(host_key, &wrong)).unwrap();
        let output = farm.nix_build(nix, &format!("{name}-refused"), 0);
        assert!(!output.status.success(), "{nix:?}: {}", both(&output));
        assert!(both(&output).contains("Host key verification failed"), "{}", both(&output));
        fs::write(farm.path("machines"), &published).unwrap();
    }
}

#[test]
fn the_provisioner_and_a_machine_are_killed_and_all_comes_right() {
    let farm = Farm::real();
    farm.enqueue(&["one"]);
    let mut provisioner = farm.command().spawn().unwrap();
    wait_until("a QEMU", Duration::from_secs(120), || farm.stands_by_itself());
    let machine = farm.qemus();
    provisioner.kill().unwrap();
    provisioner.wait().unwrap();
    assert_eq!(farm.qemus(), machine, "it outlives the provisioner");

    let report = farm.cycle();
    assert!(report.contains("e2e-0: ready"), "{report}");
    assert_eq!(farm.qemus(), machine, "none was made twice");

    assert!(Command::new("kill").args(["-9", &machine[0]]).status().unwrap().success());
    wait_until("its end", Duration::from_secs(60), || farm.qemus().is_empty());
    let report = farm.cycle();
    assert!(report.contains("start e2e-0") && report.contains("e2e-0: ready"), "{report}");
    assert_eq!(farm.build().len(), 1);

    let report = farm.cycle();
    assert!(report.contains("e2e-0: destroy done"), "{report}");
    farm.expect_nothing_left();
}

/// The provisioner's host has crashed, say: no cycle comes. What is being built is built first.
#[test]
fn a_forgotten_machine_builds_to_the_end_and_powers_itself_off() {
    let farm = Farm::real();
    let qemu = json!({ "image": image(), "memory": 1024, "idleTimeout": 20 });
    farm.set_type(&json!({ "qemu": qemu }));
    farm.enqueue(&["one"]);
    assert!(farm.cycle().contains("e2e-0: ready"));
    let began = Instant::now();
    // Twice as long as the machine stays on by itself.
    assert_eq!(farm.build_for(40).len(), 1);
    assert!(began.elapsed() > Duration::from_secs(40));
    assert_eq!(farm.qemus().len(), 1, "a build keeps it on");

    wait_until("that it powers itself off", Duration::from_secs(180), || farm.qemus().is_empty());
    assert_eq!(farm.machine_folders(), ["e2e-0"], "its disk is still there");
    let report = farm.cycle();
    assert!(report.contains("e2e-0: destroy done"), "{report}");
    farm.expect_nothing_left();
}

/// Both come from one snapshot and share nothing that tells who they are.
#[test]
fn warm_machines_start_fast_and_differ() {
    let farm = Farm::real();
    farm.set_type(&json!({ "qemu": { "image": image(), "memory": 1024, "warmStart": true } }));
    farm.enqueue(&["one"]);
    let began = Instant::now();
    farm.cycle();
    println!("snapshot made and first machine ready: {:.1} s", began.elapsed().as_secs_f32());
    farm.enqueue(&["two", "three", "four"]);
    let began = Instant::now();
    let report = farm.cycle();
    assert!(report.contains("e2e-1: ready") && report.contains("2 machines"), "{report}");
    println!("warm start to ready: {:.1} s", began.elapsed().as_secs_f32());

    let questions = [
        "cat /etc/machine-id",
        "head -c 16 /dev/urandom | base64",
        "cat /proc/sys/kernel/hostname",
        "cat /run/hydra-provisioner/host_key",
    ];
    for question in questions {
        let answers = farm.on_each(question);
        assert_ne!(answers[0], answers[1], "{question}");
        assert!(answers.iter().all(|answer| answer.trim().len() >= 4), "{question}: {answers:?}");
    }
    let host_keys = fs::read_to_string(farm.path("machines")).unwrap();
    let host_keys: Vec<_> = host_keys.lines().map(|line| line.split(' ').nth(7).unwrap()).collect();
    assert_ne!(host_keys[0], host_keys[1]);
    let here =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for clock in farm.on_each("date +%s") {
        let clock: u64 = clock.trim().parse().unwrap();
        assert!(clock.abs_diff(here) < 60, "{clock} is not {here}");
    }
    let ids = farm.on_each("cat /etc/machine-id");
    // What it has not written yet is lost, and it boots from its disk, which was the snapshot's.
    for pid in farm.qemus() {
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    }
    wait_until("their end", Duration::from_secs(60), || farm.qemus().is_empty());
    let report = farm.cycle();
    assert!(report.contains("e2e-0: ready") && report.contains("e2e-1: ready"), "{report}");
    assert_eq!(farm.on_each("cat /etc/machine-id"), ids);

    let began = Instant::now();
    assert_eq!(farm.build().len(), 4);
    println!("four builds: {:.1} s", began.elapsed().as_secs_f32());
    farm.cycle();
    farm.expect_nothing_left();
}

/// Each trouble on a type of its own, all in one cycle, beside a machine that is fine.
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
        "deployTimeout": 180,
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
    assert_eq!(farm.machine_folders(), [""; 0], "{report}");
    for (folder, left) in [(&roomy.path, vec!["e2e-0"]), (&small.path, vec![])] {
        assert_eq!(entries(&folder.join("machines")), left, "{report}");
    }
    assert_eq!(farm.qemus().len(), 1, "{report}");
    the_host_s_disk_is_full_for_a_while(&farm, &roomy);
}

/// QEMU pauses the machine then; it goes on when there is room again.
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

    disk.remount("size=1g");
    let report = farm.cycle();
    assert!(report.contains("e2e-0: ready"), "{report}");
    assert!(state().contains(" up "), "{}", state());
}
