"""Mutants of planner and reconciler, all in one build: an environment variable chooses one at run time.

    mutants.py TREE build            writes them into TREE, a copy of the repository, and compiles it
    mutants.py TREE run [SECONDS]    runs those that have no result yet, each with the tests that reach it
    mutants.py TREE report           prints the figures and writes the survivors to TREE/../survivors.txt

cargo-mutants lists the mutants. One build for each would take a day on two cores. See check-mutants.
"""

import collections
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from mutant_source import Source

PACKAGES = ("planner", "reconciler")
LEAST_PERCENT = 90
ADDRESS_SPACE_BYTES = 3 << 30
SWITCH = """
/// Which mutant is chosen; without one, the mutants that a test reaches are written down.
#[doc(hidden)]
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod mutants {
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};
    static CHOSEN: OnceLock<Option<u32>> = OnceLock::new();
    static REACHED: [AtomicBool; COUNT] = [const { AtomicBool::new(false) }; COUNT];
    pub fn is(id: u32) -> bool {
        let chosen = *CHOSEN.get_or_init(|| std::env::var("MUTANT").ok().map(|id| id.parse().unwrap()));
        if chosen.is_none() && !REACHED[id as usize].swap(true, Ordering::Relaxed) {
            if let Ok(file) = std::env::var("MUTANTS_REACHED") {
                let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
                file.write_all(format!("{id}\\n").as_bytes()).unwrap();
            }
        }
        chosen == Some(id)
    }
}
"""


class Mutants:
    """What is known so far, in files beside the tree."""

    def __init__(self, tree):
        self.tree, self.folder = tree, tree.parent
        self.all = self.read("mutants", [])
        self.left_out = set(self.read("left-out", []))
        self.tests = self.read("tests", [])
        self.results = self.read("results", {})

    def read(self, name, default):
        file = self.folder / f"{name}.json"
        return json.loads(file.read_text()) if file.exists() else default

    def write(self, name, value):
        (self.folder / f"{name}.json").write_text(json.dumps(value))


def cargo(tree, *arguments):
    return subprocess.run(["cargo", *arguments], cwd=tree, capture_output=True, text=True)


def messages(output):
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def errors_of(output):
    of_compiler = (m["message"] for m in messages(output) if m.get("reason") == "compiler-message")
    return [message for message in of_compiler if message["level"] == "error"]


def instrument(mutants, originals):
    """Writes all mutants but those left out into the tree. Returns the numbers of those written."""
    by_file = collections.defaultdict(list)
    for mutant in mutants.all:
        if mutant["id"] not in mutants.left_out:
            by_file[mutant["file"]].append(mutant)
    written = set()
    for file, text in originals.items():
        crate = "crate" if "/planner/" in file else "planner"
        source = Source(text, by_file[file], f"{crate}::mutants::is")
        result = source.render(source.tree.root_node)
        if file == "crates/planner/src/lib.rs":
            result += SWITCH.replace("COUNT", str(len(mutants.all)))
        (mutants.tree / file).write_text(result)
        written |= source.written
    return written


def blamed(tree, error):
    """The mutants of the innermost text around an error; without any, the nearest in the text."""
    ids = set()
    for span in (span for span in error["spans"] if span["is_primary"]):
        text = (tree / span["file_name"]).read_bytes()
        around = []
        for mark in re.finditer(rb"/\*([<>])([\d,]+)\*/", text[: span["byte_start"]]):
            around.append(mark[2]) if mark[1] == b"<" else around.pop()
        if around:
            ids |= {int(id) for id in around[-1].split(b",")}
            continue
        before, after = (
            re.findall(rb"mutants::is\((\d+)\)", part)
            for part in (text[: span["byte_start"]], text[span["byte_end"] :])
        )
        # A match that is not exhaustive without the arms that follow; a return type that was inferred before.
        is_match = (error["code"] or {}).get("code") == "E0004"
        ids |= {int(id) for id in (after[:1] if is_match else before[-1:])}
    return ids


def build(mutants):
    listed = cargo(mutants.tree, "mutants", "--list", "--json", *(f"-p={package}" for package in PACKAGES))
    mutants.all = [{**m, "id": id, "diff": ""} for id, m in enumerate(json.loads(listed.stdout or sys.exit(listed.stderr)))]
    files = {m["file"] for m in mutants.all} | {"crates/planner/src/lib.rs"}
    originals = {file: (mutants.tree / file).read_text() for file in sorted(files)}
    packages = [f"-p={package}" for package in PACKAGES]
    while True:
        written = instrument(mutants, originals)
        ran = cargo(mutants.tree, "check", "--message-format=json", *packages)
        if ran.returncode == 0:
            break
        errors = errors_of(ran.stdout)
        new = set().union(*(blamed(mutants.tree, error) for error in errors)) - mutants.left_out
        if not new:
            sys.exit("\n".join(error["rendered"] for error in errors) or ran.stderr)
        mutants.left_out |= new
    ran = cargo(mutants.tree, "test", "--no-run", "--message-format=json", "--lib", "--tests", *packages)
    if ran.returncode:
        sys.exit("\n".join(error["rendered"] for error in errors_of(ran.stdout)) or ran.stderr)
    tests = [m for m in messages(ran.stdout) if m.get("executable") and m["profile"]["test"]]
    mutants.tests = [
        measured(mutants, Path(m["manifest_path"]).parent, m["executable"], test)
        for m in tests
        for test in names_of_tests(m["executable"])
    ]
    mutants.left_out = {m["id"] for m in mutants.all} - written
    mutants.write("mutants", mutants.all)
    mutants.write("left-out", sorted(mutants.left_out))
    mutants.write("tests", mutants.tests)


def names_of_tests(executable):
    ran = subprocess.run([executable, "--list", "--format=terse"], capture_output=True, text=True, check=True)
    return [line.removesuffix(": test") for line in ran.stdout.splitlines() if line.endswith(": test")]


def measured(mutants, package, executable, name):
    """One test without a mutant: how long it takes, and which mutants it reaches."""
    reached = mutants.folder / "reached"
    reached.unlink(missing_ok=True)
    test = {"package": package.name, "cwd": str(package), "executable": executable, "name": name}
    status, test["seconds"] = run_tests([test], {"MUTANTS_REACHED": str(reached), "PROPTEST_CASES": "100"}, 600)
    if status:
        sys.exit(f"mutants: {name} fails without a mutant")
    test["reaches"] = sorted(map(int, reached.read_text().split())) if reached.exists() else []
    return test


def run_tests(tests, environment, limit_seconds):
    """Runs tests of one executable. Returns its exit code or `timeout`, and the seconds that it took."""
    began = time.monotonic()
    # Nothing shrinks a counterexample that nobody reads.
    environment = {**os.environ, "PROPTEST_MAX_SHRINK_ITERS": "0", "RUST_BACKTRACE": "0", **environment}
    child = subprocess.Popen(
        [tests[0]["executable"], "--exact", "--test-threads=1", "-q", *(test["name"] for test in tests)],
        cwd=tests[0]["cwd"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES)),
    )
    try:
        status = child.wait(limit_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        status = "timeout"
    return status, time.monotonic() - began


def killed_by(mutants, mutant):
    """The package with the tests that find the mutant, its own first; `None`: it survives."""
    by_executable = collections.defaultdict(list)
    for test in mutants.tests:
        if mutant["id"] in test["reaches"]:
            by_executable[test["executable"]].append(test)
    groups = sorted(
        by_executable.values(),
        key=lambda tests: (tests[0]["package"] != mutant["package"], sum(test["seconds"] for test in tests)),
    )
    for tests in groups:
        limit = 10 + sum(test["seconds"] for test in tests)
        status, _ = run_tests(tests, {"MUTANT": str(mutant["id"]), "PROPTEST_CASES": "300"}, limit)
        if status:
            return tests[0]["package"]
    return None


def run(mutants, seconds):
    end = time.monotonic() + seconds
    for test in mutants.tests:
        test["reaches"] = set(test["reaches"])
    for mutant in mutants.all:
        if time.monotonic() > end:
            break
        if mutant["id"] not in mutants.left_out and mutant["name"] not in mutants.results:
            mutants.results[mutant["name"]] = killed_by(mutants, mutant)
    mutants.write("results", mutants.results)


def report(mutants):
    """Whether enough are found."""
    survivors = [m["name"] for m in mutants.all if mutants.results.get(m["name"], "") is None]
    (mutants.folder / "survivors.txt").write_text("".join(f"{name}\n" for name in survivors))
    found_of = dict.fromkeys(PACKAGES, 0)
    for package in PACKAGES:
        ours = [m for m in mutants.all if m["package"] == package]
        results = [mutants.results[m["name"]] for m in ours if m["name"] in mutants.results]
        own, found = results.count(package), sum(result is not None for result in results)
        found_of[package] = found
        print(
            f"{package}: {len(ours)} mutants, {len(results)} of them run, {found} found"
            f" ({100 * found / max(1, len(results)):.1f} %), {own} by its own tests"
        )
    run, found = len(mutants.results), sum(found_of.values())
    percent = 100 * found / max(1, run)
    print(f"together: {found} of {run} found ({percent:.1f} %); survivors: {mutants.folder / 'survivors.txt'}")
    unknown = len(mutants.all) - len(mutants.left_out) - run
    print(f"{len(mutants.left_out)} cannot be in this build (nearly all do not compile); {unknown} were not run yet")
    return percent >= LEAST_PERCENT


def main():
    mutants = Mutants(Path(sys.argv[1]).resolve())
    match sys.argv[2:]:
        case ["build"]:
            build(mutants)
        case ["run", *seconds]:
            run(mutants, float(seconds[0]) if seconds else float("inf"))
        case ["report"]:
            sys.exit(not report(mutants))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
