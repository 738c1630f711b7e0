"""As much of the NixOS test driver as our tests use, for a container of systemd-nspawn: it boots this machine's own /usr,
read-only, with everything else empty but what is bound into it.

What takes a `timeout` there takes none here: its name differs from one NixOS to the next, so no test may use it.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

# The driver's is longer: it waits for virtual machines.
LIMIT_SECONDS = 60
PAUSE_SECONDS = 0.2
BOOT_LIMIT_SECONDS = 120
# A command that hangs must not hang CI.
COMMAND_LIMIT_SECONDS = 300
PATH = "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin"
ENVIRONMENT = ["env", "-i", "HOME=/root", "LC_ALL=C.UTF-8"]


class Failed(Exception):
    """A command or a wait did not go as the test says that it does."""


@contextlib.contextmanager
def subtest(name: str) -> Iterator[None]:
    print(f"  {name}", flush=True)
    yield


class Machine:
    def __init__(self, name: str, folder: Path, options: list[str], programs: str, network: str) -> None:
        """`programs` is the folder of programs of the system's own packages, `network` a network namespace."""
        self.name = name
        self.group = f"{name}-{os.getpid()}"
        self.environment = [*ENVIRONMENT, f"PATH={programs}:{PATH}"]
        self.console = folder / "console"
        self.options = [f"--network-namespace-path=/run/netns/{network}", *options]
        self.nspawn: subprocess.Popen[bytes] | None = None
        self.leader = 0

    def start(self) -> None:
        command = ["systemd-nspawn", "--quiet", "--directory=/", "--volatile=yes", "--register=no"]
        command += ["--keep-unit", "--console=pipe", f"--machine={self.name}", *self.options, "--boot"]
        command += ["systemd.unit=multi-user.target", "systemd.firstboot=off", "systemd.mask=systemd-networkd-wait-online.service"]
        with self.console.open("ab") as console:
            self.nspawn = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, preexec_fn=lambda: join_group(self.group)
            )
        self._until("it boots", BOOT_LIMIT_SECONDS, self._has_booted)

    def _has_booted(self) -> bool:
        assert self.nspawn is not None
        if self.nspawn.poll() is not None:
            raise Failed(f"the container ended: {self.console.read_text(errors='replace')[-2000:]}")
        self.leader = first_process_below(self.nspawn.pid)
        return self.leader != 0 and self.execute("systemctl is-active multi-user.target")[0] == 0

    def crash(self) -> None:
        """All at once, as when the power fails."""
        assert self.nspawn is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.leader, signal.SIGKILL)
        self.nspawn.wait(LIMIT_SECONDS)
        self.leader = 0

    def wait_for_shutdown(self) -> None:
        assert self.nspawn is not None
        self.nspawn.wait(LIMIT_SECONDS)
        self.leader = 0

    def stop(self) -> None:
        """Whatever state it is in."""
        if self.nspawn is not None and self.nspawn.poll() is None:
            if self.leader:
                self.crash()
            else:
                self.nspawn.kill()
                self.nspawn.wait()
        remove_groups(self.group)

    def execute(self, command: str) -> tuple[int, str]:
        inside = ["nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--root"]
        inside += [*self.environment, "bash", "-c", f"set -euo pipefail; {command}"]
        with self.console.open("ab") as console:
            run = subprocess.run(
                inside, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=console, cwd="/", timeout=COMMAND_LIMIT_SECONDS
            )
        return run.returncode, run.stdout.decode(errors="replace")

    def succeed(self, *commands: str) -> str:
        output = ""
        for command in commands:
            status, text = self.execute(command)
            if status != 0:
                raise Failed(f"`{command}` failed (exit code {status}): {text}")
            output += text
        return output

    def fail(self, *commands: str) -> str:
        output = ""
        for command in commands:
            status, text = self.execute(command)
            if status == 0:
                raise Failed(f"`{command}` unexpectedly succeeded: {text}")
            output += text
        return output

    def _until(self, what: str, limit_seconds: float, holds) -> None:  # type: ignore[no-untyped-def]
        end = time.monotonic() + limit_seconds
        while not holds():
            if time.monotonic() > end:
                raise Failed(f"waited {limit_seconds} s, but not: {what}")
            time.sleep(PAUSE_SECONDS)

    def wait_until_succeeds(self, command: str) -> str:
        self._until(f"`{command}` succeeds", LIMIT_SECONDS, lambda: self.execute(command)[0] == 0)
        return ""

    def wait_until_fails(self, command: str) -> str:
        self._until(f"`{command}` fails", LIMIT_SECONDS, lambda: self.execute(command)[0] != 0)
        return ""

    def wait_for_file(self, filename: str) -> None:
        self.wait_until_succeeds(f"test -e {filename}")

    def wait_for_open_port(self, port: int) -> None:
        self.wait_until_succeeds(f": </dev/tcp/localhost/{port}")

    def wait_for_unit(self, unit: str) -> None:
        def active() -> bool:
            state = self.get_unit_property(unit, "ActiveState")
            if state == "failed":
                raise Failed(f"unit {unit} has failed")
            return state == "active"

        self._until(f"unit {unit} is active", LIMIT_SECONDS, active)

    def get_unit_property(self, unit: str, property: str) -> str:
        return self.succeed(f'systemctl --no-pager show "{unit}" --property="{property}" --value').strip()


def join_group(name: str) -> None:
    """Moves this process to control groups of its own: two containers in one would end each other's processes."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        mounts = {"name=systemd": ["systemd"], "": ["unified", "."]}.get(controllers, [])
        for mount in mounts:
            group = Path("/sys/fs/cgroup", mount, path.lstrip("/"))
            if (group / "cgroup.procs").exists():
                (group / name).mkdir(exist_ok=True)
                (group / name / "cgroup.procs").write_text(str(os.getpid()))
                break


def remove_groups(name: str) -> None:
    for group in sorted(Path("/sys/fs/cgroup").glob(f"**/{name}/**/"), reverse=True):
        # The kernel removes ended processes a moment later.
        with contextlib.suppress(OSError):
            group.rmdir()


@contextlib.contextmanager
def network(name: str) -> Iterator[str]:
    """A network namespace with loopback only, for all machines of one test: each reaches the other as localhost."""
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def first_process_below(pid: int) -> int:
    """The container's init: the process below nspawn that is 1 in a namespace of its own; 0 while there is none."""
    for child in children(pid):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{child}/status").read_text()
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
            if len(numbers) > 1 and numbers[-1] == "1":
                return child
        found = first_process_below(child)
        if found:
            return found
    return 0


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def needed_programs() -> list[str]:
    """What has to be installed and is not."""
    return [name for name in ("systemd-nspawn", "nsenter", "curl", "ip") if not shutil.which(name)]
