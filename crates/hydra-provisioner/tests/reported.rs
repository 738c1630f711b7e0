//! Publicly reported problems, tried with the real program: machines that are new, broken, gone, or return.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod farm;

use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use farm::{Farm, stderr, stdout};
use serde_json::{Value, json};

/// Lists `list.json`, or fails if it is missing; creates `create.json`; records its calls.
const PROVIDER: &str = r#"
directory=$1 verb=$2
request=$(cat)
case $verb in
    list) cat "$directory/list.json" ;;
    create)
        echo "$request" >>"$directory/created"
        name=$(printf %s "$request" | sed 's/.*"name":"\([^"]*\)".*/\1/')
        sed "s/NAME/$name/g; s/NUMBER/${name##*-}/g" "$directory/create.json"
        ;;
    destroy) echo "$request" >>"$directory/destroyed"; echo '{}' ;;
    *) echo '{}' ;;
esac
"#;

/// Answers if `ssh-works` exists, and refuses logins if `ssh-refuses` does.
const SSH: &str = "#!/bin/sh\n[ ! -e DIR/ssh-refuses ] || { echo 'Permission denied (publickey).' >&2; exit 255; }\n\
                   [ -e DIR/ssh-works ] || { echo no answer >&2; exit 255; }\n";

const CREATED: &str =
    r#"{"machine":{"name":"NAME","type":"x86_64-linux","state":"up","address":"10.9.0.NUMBER"}}"#;

/// A farm with a provider that lists `machines`.
fn farm(options: &Value, machines: &[Value]) -> Farm {
    let farm = Farm::new(options);
    fs::write(farm.path("stub"), PROVIDER).unwrap();
    fs::write(farm.path("create.json"), CREATED).unwrap();
    fs::create_dir(farm.path("bin")).unwrap();
    let directory = farm.path("").display().to_string();
    let ssh = farm.path("bin/ssh");
    fs::write(&ssh, SSH.replace("DIR/", &directory)).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&ssh, executable).unwrap();
    let mut conf: Value = serde_json::from_slice(&fs::read(farm.conf()).unwrap()).unwrap();
    conf["tag"] = json!("farm");
    let pool = &mut conf["systemTypes"]["x86_64-linux"];
    pool["provider"]["command"]["program"] = json!(["sh", farm.path("stub"), farm.path("")]);
    for (name, value) in options["pool"].as_object().into_iter().flatten() {
        pool[name] = value.clone();
    }
    conf.as_object_mut().unwrap().remove("pool");
    fs::write(farm.conf(), conf.to_string()).unwrap();
    list(&farm, machines);
    farm
}

fn list(farm: &Farm, machines: &[Value]) {
    // Whole at every moment: a service may be reading it.
    fs::write(farm.path("list.new"), json!({ "machines": machines }).to_string()).unwrap();
    fs::rename(farm.path("list.new"), farm.path("list.json")).unwrap();
}

/// A machine that has been up for `age` seconds.
fn machine(number: u32, age: u64) -> Value {
    let address = format!("10.9.0.{number}");
    json!({ "name": format!("farm-{number}"), "type": "x86_64-linux", "state": "up", "address": address,
            "started_at": now() - age })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn requests(farm: &Farm, verb: &str) -> usize {
    fs::read_to_string(farm.path(verb)).unwrap_or_default().lines().count()
}

/// Runs a few times, like cron.
fn run(farm: &Farm, times: u32) -> String {
    let mut said = String::new();
    for _ in 0..times {
        let mut command = farm.command(&["run", "--wait", "60"]);
        let output = command.env("PATH", path(farm)).output().unwrap();
        said.push_str(&stdout(&output));
        said.push_str(&stderr(&output));
    }
    said
}

/// With our `ssh` first on PATH.
fn path(farm: &Farm) -> String {
    format!("{}:{}", farm.path("bin").display(), std::env::var("PATH").unwrap())
}

fn watch(farm: &Farm) -> Child {
    let mut command = farm.command(&["run", "--watch", "--interval", "1"]);
    let log = fs::File::create(farm.path("log")).unwrap();
    command.env("PATH", path(farm)).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Waits until a condition is true.
fn until(farm: &Farm, what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        let log = fs::read_to_string(farm.path("log")).unwrap_or_default();
        assert!(began.elapsed() < Duration::from_secs(180), "not {what}: {log}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn idle_since(seconds_ago: u64) -> Value {
    json!({ "enabled": true, "currentJobs": 0, "idleSince": now() - seconds_ago })
}

/// Kind 5: a machine at a reused address, of a type that was last active long ago.
#[test]
fn a_new_machine_is_not_judged_by_old_history() {
    let types =
        json!({ "x86_64-linux": { "runnable": 0, "running": 0, "lastActive": now() - 7200 } });
    let options = json!({ "pool": { "idleTimeout": 600 } });
    for idle in [idle_since(7200), json!({ "enabled": true, "currentJobs": 0, "idleSince": 0 })] {
        let farm = farm(&options, &[machine(0, 20)]);
        farm.set_queue(&types, &json!({ "root@10.9.0.0": idle }));
        let said = run(&farm, 4);
        assert_eq!(requests(&farm, "destroyed"), 0, "{said}");
        assert!(!said.contains("idle for 2h"), "{said}");
    }
}

/// Kind 31: a machine that was never used does not stay because another one of its type builds.
#[test]
fn a_machine_that_was_never_used_goes_while_others_build() {
    let farm =
        farm(&json!({ "pool": { "idleTimeout": 3 } }), &[machine(0, 9000), machine(1, 9000)]);
    let types = json!({ "x86_64-linux": { "runnable": 0, "running": 1 } });
    let show = |enabled: bool| {
        let busy = json!({ "enabled": true, "currentJobs": 1 });
        let unused = json!({ "enabled": enabled, "currentJobs": 0, "idleSince": 0 });
        farm.set_queue(&types, &json!({ "root@10.9.0.0": busy, "root@10.9.0.1": unused }));
    };
    show(true);
    let child = watch(&farm);
    until(&farm, "published", || !farm.machines_file().is_empty());
    until(&farm, "unpublished", || farm.machines_file().len() == 1);
    show(false);
    until(&farm, "destroyed", || requests(&farm, "destroyed") > 0);
    kill(child);
    let destroyed = fs::read_to_string(farm.path("destroyed")).unwrap();
    assert!(destroyed.lines().all(|line| line.contains("farm-1")), "{destroyed}");
}

/// Kind 7: a machine that the queue runner has disabled is reported and does not count as capacity, unless most
/// machines are disabled.
#[test]
fn a_machine_that_the_queue_runner_has_disabled_does_not_count() {
    let options =
        json!({ "pool": { "maxMachines": 4, "healthTimeout": 2, "giveUpAfter": 100_000 } });
    let disabled = || {
        json!({ "enabled": true, "currentJobs": 0, "idleSince": now(), "consecutiveFailures": 9,
                "disabledUntil": now() + 20_000 })
    };
    let busy = json!({ "enabled": true, "currentJobs": 1 });
    let types = json!({ "x86_64-linux": { "runnable": 3, "running": 2 } });
    let one = farm(&options, &[machine(0, 900), machine(1, 900), machine(2, 900)]);
    let machines =
        json!({ "root@10.9.0.0": disabled(), "root@10.9.0.1": busy, "root@10.9.0.2": busy });
    one.set_queue(&types, &machines);
    let child = watch(&one);
    until(&one, "another is made", || requests(&one, "created") == 1);
    let said = stdout(&one.run(&["plan"]));
    assert!(said.contains("farm-0 is unhealthy: the queue runner gives it no builds"), "{said}");
    kill(child);

    let most = farm(&options, &[machine(0, 900), machine(1, 900), machine(2, 900)]);
    let types = json!({ "x86_64-linux": { "runnable": 3, "running": 0 } });
    let machines = json!({ "root@10.9.0.0": disabled(), "root@10.9.0.1": disabled(), "root@10.9.0.2": disabled() });
    most.set_queue(&types, &machines);
    let child = watch(&most);
    until(&most, "ready", || most.machines_file().len() == 3);
    until(&most, "said", || stdout(&most.run(&["plan"])).contains("are unhealthy in the same way"));
    assert_eq!(requests(&most, "created") + requests(&most, "destroyed"), 0);
    kill(child);
}

/// Kind 8: a released machine is not used again, whatever its provider lists, and also if nothing can be listed.
#[test]
fn a_destroyed_machine_does_not_come_back() {
    let farm = farm(&json!({}), &[machine(0, 900)]);
    let idle = json!({ "x86_64-linux": { "runnable": 0, "running": 0 } });
    let gone = json!({ "root@10.9.0.0": { "enabled": false, "currentJobs": 0, "idleSince": now() - 800 } });
    farm.set_queue(&idle, &gone);
    run(&farm, 3);
    assert_eq!(requests(&farm, "destroyed"), 1);
    // Its provider still lists it as up, and there is work again.
    farm.set_queue(&json!({ "x86_64-linux": { "runnable": 1, "running": 0 } }), &gone);
    run(&farm, 2);
    assert!(!farm.machines_file().iter().any(|line| line.contains("10.9.0.0 ")));
    fs::remove_file(farm.path("list.json")).unwrap();
    let said = run(&farm, 2);
    assert!(!farm.machines_file().iter().any(|line| line.contains("10.9.0.0 ")), "{said}");
    assert_eq!(requests(&farm, "destroyed"), 1);
}

/// Kind 9: it is reported, in the results and in the history.
#[test]
fn a_machine_that_vanishes_is_told_of() {
    let farm = farm(&json!({}), &[machine(0, 900)]);
    farm.set_queue(
        &json!({ "x86_64-linux": { "runnable": 1, "running": 0 } }),
        &json!({ "root@10.9.0.0": idle_since(60) }),
    );
    run(&farm, 1);
    assert_eq!(farm.machines_file().len(), 1);
    list(&farm, &[]);
    let said = run(&farm, 1);
    assert!(said.contains("farm-0: not in its provider's listing"), "{said}");
    let history = stdout(&farm.run(&["history", "--machine", "farm-0"]));
    assert!(history.contains("not in its provider's listing"), "{history}");
}

/// Kind 10: the result of a creation is known, also if no listing succeeds after it.
#[test]
fn a_machine_stays_published_while_its_provider_cannot_list() {
    let farm = farm(&json!({}), &[]);
    farm.set_queue(&json!({ "x86_64-linux": { "runnable": 1, "running": 0 } }), &json!({}));
    // Only the first listing works.
    let stub = PROVIDER.replace(
        "list) cat \"$directory/list.json\" ;;",
        "list) cat \"$directory/list.json\" && rm \"$directory/list.json\" ;;",
    );
    fs::write(farm.path("stub"), stub).unwrap();
    run(&farm, 1);
    assert_eq!((requests(&farm, "created"), farm.machines_file().len()), (1, 1));
    let busy = json!({ "root@10.9.0.0": { "enabled": true, "currentJobs": 1 } });
    farm.set_queue(&json!({ "x86_64-linux": { "runnable": 0, "running": 1 } }), &busy);
    let said = run(&farm, 3);
    assert!(said.contains("cannot list") || said.contains("No such file"), "{said}");
    assert_eq!((requests(&farm, "created"), farm.machines_file().len()), (1, 1), "{said}");
    assert_eq!(requests(&farm, "destroyed"), 0);
}

/// Kind 16: a draining machine continues to drain when its next paid hour begins, until it is needed.
#[test]
fn a_machine_that_drains_goes_on_draining_in_its_next_paid_hour() {
    let paid = |seconds: u64| {
        let mut machine = machine(0, 90_000);
        machine["next_charge_at"] = json!(now() + seconds);
        machine
    };
    let farm = farm(&json!({}), &[paid(300)]);
    // Without an idle timeout a busy machine gets no more builds.
    let busy = json!({ "root@10.9.0.0": { "enabled": false, "currentJobs": 1 } });
    let types = |runnable: u64| json!({ "x86_64-linux": { "runnable": runnable, "running": 1 } });
    farm.set_queue(&types(0), &json!({ "root@10.9.0.0": idle_since(900) }));
    run(&farm, 1);
    farm.set_queue(&types(0), &busy);
    run(&farm, 1);
    list(&farm, &[paid(3300)]);
    let said = run(&farm, 2);
    assert_eq!(farm.machines_file(), [""; 0], "{said}");
    farm.set_queue(&types(1), &busy);
    let said = run(&farm, 2);
    assert_eq!(farm.machines_file().len(), 1, "{said}");
    assert_eq!(requests(&farm, "destroyed"), 0);
}

/// Kind 28: a machine that its provider reports as up is not ready, also after kill -9 during the boot; and one that
/// stops answering gets no more builds.
#[test]
fn a_machine_that_does_not_answer_to_ssh_is_not_ready() {
    let options = json!({
        "touchKeepAlive": true, "checkSsh": true, "keepAliveInterval": 1, "deployTimeout": 3,
    });
    let farm = farm(&options, &[machine(0, 10)]);
    let types = json!({ "x86_64-linux": { "runnable": 1, "running": 0 } });
    farm.set_queue(&types, &json!({}));
    for _ in 0..2 {
        let child = watch(&farm);
        until(&farm, "tried", || stdout(&farm.run(&["history", "--failed"])).contains("no answer"));
        assert_eq!(farm.machines_file(), [""; 0]);
        kill(child);
    }
    let child = watch(&farm);
    fs::write(farm.path("ssh-works"), "").unwrap();
    until(&farm, "published", || farm.machines_file().len() == 1);
    farm.set_queue(&types, &json!({ "root@10.9.0.0": idle_since(5) }));
    fs::remove_file(farm.path("ssh-works")).unwrap();
    until(&farm, "unpublished", || farm.machines_file().is_empty());
    kill(child);
}

/// Also without the touch of `/run/keep-alive`. That the sshd answers is enough, if the key is only on the queue runner's host.
#[test]
fn an_answer_over_ssh_is_asked_for_without_keep_alive_too() {
    let options = json!({ "checkSsh": true, "keepAliveInterval": 1, "deployTimeout": 3 });
    let farm = farm(&options, &[machine(0, 10)]);
    let types = json!({ "x86_64-linux": { "runnable": 1, "running": 0 } });
    for file in ["ssh-works", "ssh-refuses"] {
        farm.set_queue(&types, &json!({}));
        let child = watch(&farm);
        until(&farm, "tried", || stdout(&farm.run(&["history"])).contains("no answer"));
        assert_eq!(farm.machines_file(), [""; 0]);
        fs::write(farm.path(file), "").unwrap();
        until(&farm, "published", || farm.machines_file().len() == 1);
        farm.set_queue(&types, &json!({ "root@10.9.0.0": idle_since(5) }));
        fs::remove_file(farm.path(file)).unwrap();
        until(&farm, "unpublished", || farm.machines_file().is_empty());
        kill(child);
    }
}

/// Kind 21: x86_64-linux machines build i686-linux steps in the simulator too, with both queue runners.
#[cfg(feature = "sim")]
#[test]
fn simulated_machines_build_i686_steps() {
    const STEPS: &str = r#"{"format":"hydra-provisioner-workload","version":1}
{"id":1,"submit":0,"system":"i686-linux","duration":60000}
{"id":2,"submit":0,"system":"i686-linux","duration":60000,"dependencies":[1]}
"#;
    let farm = Farm::new(&json!({}));
    fs::write(farm.path("steps.jsonl"), STEPS).unwrap();
    for queue_runner in ["classic", "rest"] {
        let model = json!({ "queueRunner": { "protocol": queue_runner } });
        fs::write(farm.path("farm.json"), model.to_string()).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_hydra-provisioner"));
        command.args(["sim", "run"]).arg(farm.conf()).arg(farm.path("steps.jsonl"));
        let output = command.arg("--farm").arg(farm.path("farm.json")).output().unwrap();
        let said = format!("{}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(0), "{queue_runner}: {said}");
    }
}
