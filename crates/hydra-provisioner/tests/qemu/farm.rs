//! A farm of real machines, its queue, and its users.

use std::collections::BTreeSet;
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
            if line.startswith('#'):
                continue
            machines[line.split()[0]] = {"enabled": state == "true", "currentJobs": 0, "idleSince": 1000}
open(f"{farm}/known", "w").writelines(f"{key}\n" for key in machines)
types = {"runnable": len(os.listdir(f"{farm}/queue")), "running": 0, "lastActive": 1000}
print(json.dumps({"status": "up", "uptime": 1000000, "machineTypes": {"x86_64-linux": types}, "machines": machines}))
"#;

pub(crate) struct Farm {
    pub(crate) folder: tempfile::TempDir,
}

impl Farm {
    pub(crate) fn new(types: &Value) -> Self {
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
    pub(crate) fn real() -> Self {
        let farm = Self::new(&json!({}));
        farm.set_type(&json!({ "qemu": { "image": image(), "memory": 1024 } }));
        farm
    }

    pub(crate) fn set_type(&self, provider: &Value) {
        let mut conf: Value =
            serde_json::from_slice(&fs::read(self.path("conf.json")).unwrap()).unwrap();
        conf["systemTypes"] = json!({ "x86_64-linux": {
            "sshKey": self.path("key"), "maxMachines": 2, "runnablesPerMachine": 3, "provider": provider,
        } });
        self.set_conf(&conf);
    }

    pub(crate) fn set_conf(&self, conf: &Value) {
        fs::write(self.path("conf.json"), conf.to_string()).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
        command.arg("run").arg(self.path("conf.json"));
        command
    }

    /// A cycle that must succeed.
    pub(crate) fn cycle(&self) -> String {
        let output = self.command().output().unwrap();
        let text = both(&output);
        assert_eq!(output.status.code(), Some(0), "{text}\n{}", self.consoles());
        text
    }

    pub(crate) fn enqueue(&self, jobs: &[&str]) {
        for job in jobs {
            fs::write(self.path("queue").join(job), "").unwrap();
        }
    }

    /// Builds every job of the queue, only on the machines of the machines file.
    pub(crate) fn build(&self) -> Vec<String> {
        self.build_for(0)
    }

    /// Like [`Self::build`]; each job takes this many seconds.
    pub(crate) fn build_for(&self, seconds: u32) -> Vec<String> {
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

    /// Builds `name` on the machines of the machines file; the output is the builder's kernel version.
    pub(crate) fn nix_build(&self, nix: Nix, name: &str, seconds: u32) -> Output {
        // The sandbox has busybox as /bin/sh, which contains all tools.
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
            // A name that was never built, with any store.
            self.folder.path().file_name().unwrap().to_string_lossy().replace('.', "-"),
            self.path("machines").display()
        );
        let mut command = match nix {
            Nix::Ours => Command::new("sh"),
            Nix::Newer => {
                let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/ci/nix-2.26");
                let mut command = Command::new(script);
                command.args(["--bind", &self.folder.path().display().to_string(), "sh"]);
                command
            }
        };
        command.args(["-euc", &script]).output().unwrap()
    }

    /// Process ids of this farm's machines.
    pub(crate) fn qemus(&self) -> Vec<String> {
        let pattern = format!("qemu-system.*{}", self.folder.path().display());
        let output = Command::new("pgrep").args(["-f", &pattern]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// Whether the one machine's QEMU has become a daemon: QEMU's `-daemonize` forks, and the pid file contains the id
    /// of the process that stays.
    pub(crate) fn stands_by_itself(&self) -> bool {
        let folders = self.machine_folders();
        let [folder] = folders.as_slice() else { return false };
        let pid = fs::read_to_string(self.path("state/qemu/machines").join(folder).join("pid"));
        pid.is_ok_and(|pid| self.qemus() == [pid.trim()])
    }

    pub(crate) fn machine_folders(&self) -> Vec<String> {
        entries(&self.path("state/qemu/machines"))
    }

    /// The machines file, without comments.
    pub(crate) fn machines_file(&self) -> String {
        let file = fs::read_to_string(self.path("machines")).unwrap();
        file.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect()
    }

    /// The output of `command` on each machine of the machines file, with checked host keys.
    pub(crate) fn on_each(&self, command: &str) -> Vec<String> {
        let file = self.machines_file();
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

    pub(crate) fn consoles(&self) -> String {
        let logs = self.machine_folders().into_iter().map(|name| {
            let log = self.path("state/qemu/machines").join(&name).join("console.log");
            format!("{name}: {}\n", fs::read_to_string(log).unwrap_or_default())
        });
        logs.collect()
    }

    pub(crate) fn expect_nothing_left(&self) {
        assert_eq!(self.machine_folders(), [""; 0]);
        assert_eq!(self.qemus(), [""; 0]);
        let listening = Command::new("ss").args(["-ltnH"]).output().unwrap();
        let listening = String::from_utf8(listening.stdout).unwrap();
        assert!(!listening.contains("127.91."), "{listening}");
    }
}

/// The Nix that builds on the farm.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Nix {
    /// The host's.
    Ours,
    /// 2.26, in its own root.
    Newer,
}

/// A failed test leaves no machine running.
impl Drop for Farm {
    fn drop(&mut self) {
        for pid in self.qemus() {
            let _gone = Command::new("kill").args(["-9", &pid]).status();
        }
    }
}

/// A file system in memory, until it is dropped.
pub(crate) struct Tmpfs {
    pub(crate) path: PathBuf,
}

impl Tmpfs {
    pub(crate) fn new(path: PathBuf, options: &str) -> Self {
        fs::create_dir(&path).unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&path).status();
        assert!(mount.unwrap().success());
        Self { path }
    }

    pub(crate) fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let mount = Command::new("mount").args(["-o", &options]).arg(&self.path).status();
        assert!(mount.unwrap().success());
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Remaining processes on it are killed after this time.
        let _gone = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

/// The sorted names in a folder; none if there is no folder.
pub(crate) fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

pub(crate) fn image() -> PathBuf {
    let image = std::env::var_os("HYDRA_PROVISIONER_IMAGE");
    image
        .expect("HYDRA_PROVISIONER_IMAGE must name a directory created by scripts/build-image")
        .into()
}

pub(crate) fn both(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

pub(crate) fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not happen within {limit:?}");
        thread::sleep(Duration::from_millis(100));
    }
}
