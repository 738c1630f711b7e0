//! The state database cannot be written or read: clear messages, no creation, no release; and the service continues
//! when it is repaired.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod farm;

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use farm::kills::check_history;
use farm::{Farm, stderr, stdout};
use serde_json::json;

/// Waits until a condition is true.
fn until(farm: &Farm, what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(180), "not {what}: {}", log(farm));
        thread::sleep(Duration::from_millis(50));
    }
}

fn log(farm: &Farm) -> String {
    fs::read_to_string(farm.path("log")).unwrap_or_default()
}

/// A farm that counts requests to the queue runner.
fn farm() -> Farm {
    let farm = Farm::new(&json!({}));
    let mut conf: serde_json::Value =
        serde_json::from_slice(&fs::read(farm.conf()).unwrap()).unwrap();
    let script = format!("echo >>{0}/asked; cat {0}/status.json", farm.path("").display());
    conf["statusCommand"] = json!(["sh", "-c", script]);
    fs::write(farm.conf(), conf.to_string()).unwrap();
    farm
}

/// The service, for which a file that is too large is a normal error; its log is in `log`.
fn watch(farm: &Farm) -> Child {
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_hydra-provisioner");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" run --watch --interval 1 \"$1\"", program]);
    command.arg(farm.conf()).stdout(Stdio::null());
    command.stderr(fs::File::create(farm.path("log")).unwrap());
    Farm::with_environment(command).spawn().unwrap()
}

fn end(child: &mut Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Waits until the queue runner has been asked a few more times, so that all effects have happened.
fn let_it_look(farm: &Farm) {
    let asked = || fs::read_to_string(farm.path("asked")).unwrap_or_default().len();
    let before = asked();
    until(farm, "asking the queue runner", || asked() >= before + 4);
}

fn limit_files(child: &Child, limit: &str) {
    let (pid, limit) = (child.id().to_string(), format!("--fsize={limit}"));
    let prlimit = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    assert!(prlimit.unwrap().success());
}

/// While the state cannot be written, nothing is created or released, and the reason is logged once.
fn check_trouble(farm: &Farm, said: &str) {
    farm.set_runnable(4);
    until(farm, "said", || log(farm).contains("state not written, nothing is created or released"));
    assert!(log(farm).contains(said), "{}", log(farm));
    let_it_look(farm);
    assert_eq!(farm.machines().len(), 2);
    farm.set_runnable(0);
    let_it_look(farm);
    assert_eq!(farm.machines().len(), 2);
    assert_eq!(log(farm).matches("state not written").count(), 1, "{}", log(farm));
}

/// It continues normally.
fn check_mended(farm: &Farm) {
    until(farm, "mended", || log(farm).contains("state can be written again"));
    until(farm, "released", || farm.machines().is_empty());
    farm.set_runnable(3);
    until(farm, "created", || farm.machines_file().len() == 3);
}

#[test]
fn a_full_disk() {
    let farm = farm();
    farm.set_runnable(2);
    let mut child = watch(&farm);
    until(&farm, "published", || farm.machines_file().len() == 2);
    limit_files(&child, "4096:");
    check_trouble(&farm, "state.sqlite");
    // Read-only commands report it.
    let plan = farm.run(&["plan"]);
    assert_eq!(plan.status.code(), Some(0), "{}", stderr(&plan));
    limit_files(&child, "unlimited:");
    check_mended(&farm);
    end(&mut child);
    check_history(&farm, "after a full disk");
}

/// A process that holds the database's lock until its standard input ends.
fn lock_database(farm: &Farm) -> Child {
    let script = "import sqlite3, sys\n\
        c = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
        c.execute('BEGIN IMMEDIATE')\n\
        open(sys.argv[2], 'w').close()\n\
        sys.stdin.read()";
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(farm.path("state/state.sqlite")).arg(farm.path("locked"));
    let child = command.stdin(Stdio::piped()).spawn().unwrap();
    until(farm, "locked", || farm.path("locked").exists());
    child
}

#[test]
fn a_database_that_another_has_locked() {
    let farm = farm();
    farm.set_runnable(2);
    let mut child = watch(&farm);
    until(&farm, "published", || farm.machines_file().len() == 2);
    let_it_look(&farm);
    let mut other = lock_database(&farm);
    check_trouble(&farm, "database is locked");
    drop(other.stdin.take());
    other.wait().unwrap();
    check_mended(&farm);
    end(&mut child);
    check_history(&farm, "after a lock");
}

/// Overwrites the database and its journal, which can replace the database where it is complete.
fn spoil(farm: &Farm) {
    for name in ["state.sqlite", "state.sqlite-wal"] {
        let path = farm.path("state").join(name);
        let Ok(there) = fs::metadata(&path) else { continue };
        let length = usize::try_from(there.len()).unwrap();
        let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all(&vec![b'x'; length]).unwrap();
    }
}

fn delete(farm: &Farm) {
    for name in ["state.sqlite", "state.sqlite-wal", "state.sqlite-shm"] {
        // Not all of them must exist.
        let _gone = fs::remove_file(farm.path("state").join(name));
    }
}

/// A run that cannot use the file changes nothing and shows the remedy; without the file everything is found again.
#[test]
fn a_database_that_makes_no_sense() {
    let farm = farm();
    farm.set_runnable(2);
    assert!(farm.run(&["run"]).status.success());
    spoil(&farm);
    farm.set_runnable(0);
    for command in [&["run"][..], &["run", "--watch"], &["plan"], &["status"], &["history"]] {
        let output = farm.run(command);
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let said = stderr(&output);
        assert!(
            said.contains("state.sqlite") && said.contains("is damaged; move it away"),
            "{said}"
        );
    }
    assert_eq!(farm.machines().len(), 2);
    delete(&farm);
    farm.set_runnable(3);
    assert!(farm.run(&["run"]).status.success());
    assert_eq!((farm.machines().len(), farm.machines_file().len()), (3, 3));
    farm.set_runnable(0);
    assert!(farm.run(&["run"]).status.success());
    assert_eq!(farm.machines(), [""; 0], "forgotten machines");
}

/// It would lose what it does not know.
#[test]
fn a_database_of_a_newer_version() {
    let farm = farm();
    farm.set_runnable(2);
    assert!(farm.run(&["run"]).status.success());
    let script = "import sqlite3, sys\n\
        c = sqlite3.connect(sys.argv[1])\n\
        c.execute(\"UPDATE meta SET value = '2' WHERE key = 'version'\")\n\
        c.commit()";
    let path = farm.path("state/state.sqlite");
    let updated = Command::new("python3").args(["-c", script]).arg(&path).status().unwrap();
    assert!(updated.success());
    let before = fs::read(&path).unwrap();
    farm.set_runnable(0);
    for command in [&["run"][..], &["run", "--watch"], &["plan"], &["status"], &["history"]] {
        let output = farm.run(command);
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let said = stderr(&output);
        assert!(said.contains("a newer hydra-provisioner wrote it (format 2"), "{said}");
    }
    assert_eq!(farm.machines().len(), 2);
    assert_eq!(fs::read(&path).unwrap(), before, "it was changed");
}

/// The folder is another, read-only file system. Not tested where that is not possible.
#[test]
fn a_folder_that_cannot_be_written() {
    let farm = farm();
    fs::create_dir(farm.path("state")).unwrap();
    farm.set_runnable(2);
    let script =
        "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" || exit 77; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(farm.path("state"));
    command.arg(env!("CARGO_BIN_EXE_hydra-provisioner")).arg("run").arg(farm.conf());
    let output = Farm::with_environment(command).output().unwrap();
    let said = stderr(&output);
    if output.status.code() != Some(1) || said.starts_with("unshare:") {
        #[allow(clippy::print_stderr, reason = "says why nothing was tested")]
        {
            eprintln!("not tested: nothing may be mounted here: {said}");
        }
        assert!(farm.machines().is_empty());
        return;
    }
    assert!(said.contains("Read-only file system") && said.contains("stateDir"), "{said}");
    assert!(farm.machines().is_empty());
}

/// While it is in use, and with a machine being created: nothing is lost, and nothing created twice.
#[test]
fn a_database_that_is_deleted() {
    let farm = farm();
    farm.set_runnable(2);
    let mut child = watch(&farm);
    until(&farm, "published", || farm.machines_file().len() == 2);
    delete(&farm);
    farm.set_runnable(3);
    until(&farm, "written anew", || log(&farm).contains("state can be written again"));
    until(&farm, "published", || farm.machines_file().len() == 3);
    assert!(log(&farm).contains("it was deleted or replaced"), "{}", log(&farm));
    child.kill().unwrap();
    child.wait().unwrap();
    // All three are remembered: none must be found by its tag.
    assert!(farm.run(&["run"]).status.success());
    let history = stdout(&farm.run(&["history"]));
    assert!(!history.contains("found by its tag"), "{history}");
    delete(&farm);
    farm.set_runnable(0);
    assert!(farm.run(&["run"]).status.success());
    assert_eq!(farm.machines(), [""; 0], "forgotten machines");
    let requests = farm.create_requests();
    assert_eq!(requests.len(), 3, "{requests:?}");
}

/// An order creates a new database, before the service has written anything. Nothing else happens.
#[test]
fn an_order_after_the_database_was_deleted() {
    let farm = farm();
    farm.set_runnable(1);
    let mut child = watch(&farm);
    until(&farm, "published", || farm.machines_file().len() == 1);
    delete(&farm);
    assert!(farm.run(&["pause", "x86_64-linux"]).status.success());
    until(&farm, "written anew", || log(&farm).contains("state can be written again"));
    farm.set_runnable(2);
    let_it_look(&farm);
    assert_eq!(farm.machines().len(), 1, "the order is ignored: {}", log(&farm));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(farm.run(&["run"]).status.success());
    assert_eq!(farm.machines().len(), 1, "the order was lost");
    let history = stdout(&farm.run(&["history"]));
    assert!(!history.contains("found by its tag"), "{history}");
}

/// Overwriting it while it is in use is noticed eventually, and deleting it repairs everything.
#[test]
fn a_database_that_is_written_over() {
    let farm = farm();
    farm.set_runnable(2);
    let mut child = watch(&farm);
    until(&farm, "published", || farm.machines_file().len() == 2);
    let_it_look(&farm);
    spoil(&farm);
    child.kill().unwrap();
    child.wait().unwrap();
    let refused = farm.run(&["run"]);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("is damaged; move it away"), "{}", stderr(&refused));
    delete(&farm);
    let mut child = watch(&farm);
    until(&farm, "looked", || log(&farm).contains("found by its tag"));
    farm.set_runnable(0);
    until(&farm, "released", || farm.machines().is_empty());
    end(&mut child);
}
