"""Emulators of the clouds, and a provisioner's files beside each: for `check-clouds`, `check-cloud-faults` and `bench-clouds`."""

import contextlib
import copy
import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
EMULATORS = ROOT / "scripts/ci/cloud-emulators/run"
TYPES = ["x86_64-linux", "x86_64-linux:kvm", "x86_64-linux:big-parallel", "x86_64-linux:benchmark"]
STATUS = {"status": "up", "time": "NOW", "uptime": 86400, "nrRunnableSteps": 0, "machineTypes": {}, "machines": {}}
RUNS_TO_SETTLE = 8
CREDENTIALS = "[default]\naws_access_key_id = AKIATEST\naws_secret_access_key = secret\n"
SIGNED = "AWS4-HMAC-SHA256 Credential=k/20260101/eu-central-1/ec2/aws4_request, SignedHeaders=host, Signature=0"


def request(url: str, body=None, headers=None) -> bytes:
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers or {})) as answer:
        return answer.read()


def built_program() -> Path:
    built = subprocess.run([ROOT / "scripts/build"], check=True, stdout=subprocess.PIPE, text=True)
    return Path(built.stdout.strip())


class Cloud:
    """An emulator, and a provisioner's files beside it."""

    places: list[str] = []
    tag = "farm"
    # Further options of the configuration, of each type (`billing`: for the charges of the cloud), and of its provider.
    options: dict = {}
    type_options: dict = {}
    billing: dict = {}
    provider_options: dict = {}

    def __init__(self, name: str, program: Path, folder: Path) -> None:
        self.name, self.program, self.folder = name, program, folder
        emulator = "ec2" if name.startswith("ec2") else "hetzner"
        self.emulator = subprocess.Popen([EMULATORS, emulator], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.emulator.stdout.readline()
        self.url = line.removeprefix("listening on ").strip()
        if not self.url.startswith("http"):
            sys.exit(f"check-clouds: the emulator {emulator} did not start: {line}")
        self.output = b""
        self.prepare()

    def prepare(self) -> None:
        (self.folder / "bin").mkdir(parents=True)
        (self.folder / "bin/ssh").write_text("#!/bin/sh\nexit 0\n")
        (self.folder / "bin/ssh").chmod(0o755)
        (self.folder / "status.json").write_text(json.dumps(STATUS).replace('"NOW"', "NOW"))
        (self.folder / "token").write_text("test-token")
        (self.folder / "credentials").write_text(CREDENTIALS)

    def beside(self, tag: str) -> "Cloud":
        """Another provisioner on the same emulator."""
        other = copy.copy(self)
        other.tag, other.folder = tag, self.folder.parent / f"{self.name}-{tag}"
        other.prepare()
        return other

    def end(self) -> None:
        self.emulator.stdin.close()
        self.emulator.wait()

    def places_from(self, turn: int) -> list[str]:
        """All places, in another order for each type."""
        first = turn % len(self.places)
        return self.places[first:] + self.places[:first]

    def provider(self, turn: int) -> dict:
        raise NotImplementedError

    def names(self) -> list[str]:
        """Of all machines that are there."""
        raise NotImplementedError

    def set_kill(self, kill: dict) -> None:
        raise NotImplementedError

    def requests(self) -> list[str]:
        raise NotImplementedError

    def configure(self, machines: dict[str, int]) -> None:
        types = {
            name: {"provider": self.provider(turn), "minMachines": count, "maxMachines": count, **self.billing, **self.type_options}
            for turn, (name, count) in enumerate(machines.items())
        }
        config = {
            "tag": self.tag,
            "stateDir": f"{self.folder}/state",
            "machinesFile": f"{self.folder}/machines",
            "statusCommand": ["sh", "-c", f"sed s/NOW/$(date +%s)/ {self.folder}/status.json"],
            "maxCreatesPerCycle": 1000,
            "maxCreating": 1000,
            "systemTypes": types,
            **self.options,
        }
        (self.folder / "conf.json").write_text(json.dumps(config))

    def run(self, kill: dict | None = None) -> int:
        """Runs one cycle; the exit code, or -9."""
        command = ["sh", "-c", 'read -r _; exec "$@"', "sh", self.program, "--log", "warn", self.folder / "conf.json"]
        process = subprocess.Popen(
            command, env=self.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.set_kill({**kill, "pid": process.pid} if kill else {})
        self.output, _ = process.communicate(b"\n")
        return process.returncode

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}

    @contextlib.contextmanager
    def service(self):
        """The provisioner as a service. Its log is the output of what fails meanwhile or later."""
        command = [self.program, "--log", "warn", "run", "--watch", self.folder / "conf.json"]
        path = self.folder / "watch.log"
        with path.open("wb") as log:
            process = subprocess.Popen(command, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield
        except AssertionError:
            sys.stdout.write(path.read_text(errors="replace")[-2000:])
            raise
        finally:
            process.terminate()
            process.wait()
            self.output = path.read_bytes()

    def plan(self) -> str:
        command = [self.program, "--log", "error", "plan", self.folder / "conf.json"]
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False).stdout

    def settle(self, machines: dict[str, int], what: str) -> None:
        """Runs until all is as it should be: nothing left, nothing twice, and the machines file says the same."""
        self.configure(machines)
        expected = sum(machines.values())
        for _ in range(RUNS_TO_SETTLE):
            code = self.run()
            names, lines = self.names(), self.published()
            if code == 0 and len(names) == expected and len(lines) == expected:
                break
        else:
            self.fail(f"{what}: exit code {code}, {len(names)} machines in the cloud and {len(lines)} in the file, not {expected}")
        if len(set(names)) != expected:
            self.fail(f"{what}: made twice: {sorted(names)}")

    def published(self) -> list[str]:
        file = self.folder / "machines"
        written = file.read_text().splitlines() if file.exists() else []
        return [line.split()[0] for line in written if line and not line.startswith("#")]

    def fail(self, message: str) -> None:
        sys.stdout.write(self.output.decode(errors="replace"))
        raise AssertionError(f"check-clouds: {self.name}: {message}")

    def life(self, count: int) -> None:
        machines = {name: count // len(TYPES) for name in TYPES}
        began = time.monotonic()
        self.settle(machines, "made")
        made = time.monotonic()
        self.run()
        asked = self.requests()
        changing = [one for one in asked if not re.match("GET|Describe", one)]
        if changing:
            self.fail(f"a run with nothing to do asked for {changing}")
        self.settle({name: 0 for name in TYPES}, "released")
        print(
            f"check-clouds: {self.name}: {count} machines in {len(TYPES)} types and {len(self.places)} places made in"
            f" {made - began:.0f} s, released in {time.monotonic() - made:.0f} s; a look takes {len(asked)} requests",
            flush=True,
        )

    def chain(self, count: int) -> None:
        """The life of many, by runs that are killed one after the other: each one call later than the one before it."""
        for machines, doing in (({name: count // len(TYPES) for name in TYPES}, "making"), ({name: 0 for name in TYPES}, "releasing")):
            self.configure(machines)
            killed = 0
            while self.run({"at": killed // 2 + 1, "after": killed % 2 == 1}) == -9:
                killed += 1
            self.settle(machines, f"after {killed} kills while {doing}")
            print(f"check-clouds: {self.name}: killed {killed} times in a row while {doing} {count} machines, nothing lost, nothing twice", flush=True)

    def kills(self) -> None:
        some, none = {TYPES[0]: 2, TYPES[1]: 1}, {TYPES[0]: 0, TYPES[1]: 0}
        killed = 0
        for at in range(1, 1000):
            codes = []
            for after in (False, True):
                when = f"killed {'after' if after else 'before'} request {at}"
                for machines, doing in ((some, "making"), (none, "releasing")):
                    self.configure(machines)
                    codes.append(self.run({"at": at, "after": after}))
                    self.settle(machines, f"{when} while {doing}")
            killed += codes.count(-9)
            if -9 not in codes:
                break
        print(f"check-clouds: {self.name}: killed {killed} times, nothing lost, nothing twice", flush=True)


class Hetzner(Cloud):
    places = ["fsn1", "nbg1", "hel1"]
    token = {"authorization": "Bearer test-token"}
    # Otherwise idle machines are kept until the end of the paid hour.
    billing = {"useWhilePaid": "1h", "keepWhilePaid": "1h"}

    def provider(self, turn: int) -> dict:
        return {
            "hcloud": {
                "endpoint": f"{self.url}/v1",
                "tokenFile": f"{self.folder}/token",
                "serverTypes": ["cx22", "cax21"],
                "locations": self.places_from(turn),
                "image": "debian-13",
                "authorizedKeys": ["ssh-ed25519 AAAA hydra"],
                **self.provider_options,
            }
        }

    def names(self) -> list[str]:
        names, page = [], 1
        while page:
            answer = json.loads(request(f"{self.url}/v1/servers?per_page=50&page={page}", headers=self.token))
            # Deletions take a moment.
            names += [server["name"] for server in answer["servers"] if server["status"] != "deleting"]
            page = answer["meta"]["pagination"]["next_page"]
        return [name for name in names if name.startswith(f"{self.tag}-")]

    def set_kill(self, kill: dict) -> None:
        request(f"{self.url}/kill", kill)

    def requests(self) -> list[str]:
        return json.loads(request(f"{self.url}/requests"))["requests"]


class Ec2(Cloud):
    queue: str | None = None
    places = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]

    def __init__(self, name: str, program: Path, folder: Path) -> None:
        super().__init__(name, program, folder)
        request(f"{self.url}/emulator", {"tokens": name == "ec2"})

    def provider(self, turn: int) -> dict:
        return {
            "ec2": {
                "endpoint": self.url,
                "region": "eu-central-1",
                "credentialsFile": f"{self.folder}/credentials",
                "image": "ami-12345678",
                "instanceTypes": ["c7i.large"],
                "zones": self.places_from(turn),
                "authorizedKeys": ["ssh-ed25519 AAAA hydra"],
                **({"purchase": ["spot"], "spotQueue": self.queue} if self.queue else {}),
                **self.provider_options,
            }
        }

    def sqs(self, url: str, body: str) -> str:
        headers = {"authorization": SIGNED.replace("/ec2/", "/sqs/"), "content-type": "application/x-www-form-urlencoded"}
        return request(url, f"Version=2012-11-05&{body}".encode(), headers).decode()

    def notice(self) -> None:
        """A spot instance in use has its notice while the service runs."""
        made = self.sqs(self.url, "Action=CreateQueue&QueueName=notices")
        self.queue = f"{self.url}/{re.search('<QueueUrl>https?://[^/]*/(.*?)<', made).group(1)}"
        self.configure({TYPES[0]: 1})
        configuration = json.loads((self.folder / "conf.json").read_text())
        configuration["systemTypes"][TYPES[0]] |= {"minMachines": 1, "maxMachines": 2}
        (self.folder / "conf.json").write_text(json.dumps(configuration))
        with self.service():
            self.within(120, lambda: len(self.published()) == 1, "nothing was published")
            address = self.published()[0]
            instance = re.findall(r"<instanceId>(.*?)</instanceId>", self.listing())[0]
            detail = {"instance-id": instance, "instance-action": "terminate"}
            event = {"detail-type": "EC2 Spot Instance Interruption Warning", "detail": detail}
            self.set_kill({})
            began = time.monotonic()
            self.sqs(self.queue, f"Action=SendMessage&MessageBody={urllib.parse.quote(json.dumps(event))}")
            unpublished = self.within(60, lambda: address not in self.published(), "it is still published") - began
            asked = self.within(60, lambda: "RunInstances" in self.requests(), "no successor was asked for") - began
            self.within(60, lambda: len(self.published()) == 1, "no successor was published")
            self.within(60, lambda: instance not in self.listing(), "it was not terminated")
            zones = re.findall(r"<availabilityZone>(.*?)</availabilityZone>", self.listing())
        if max(unpublished, asked) > 1:
            self.fail(f"{unpublished:.2f} s after the notice it was unpublished, {asked:.2f} s after it its successor asked for")
        if self.places[0] in zones:
            self.fail(f"the successor is where it was taken back: {zones}")
        self.queue = None
        self.settle({TYPES[0]: 0}, "released after the notice")
        print(
            f"check-clouds: {self.name}: a notice took the machine out of the file within {unpublished:.2f} s, its successor was"
            f" asked for elsewhere within {asked:.2f} s",
            flush=True,
        )

    def within(self, seconds: float, is_so, what: str) -> float:
        end = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > end:
                self.fail(what)
            time.sleep(0.01)
        return time.monotonic()

    def call(self, body: str) -> str:
        headers = {"authorization": SIGNED, "content-type": "application/x-www-form-urlencoded"}
        return request(self.url, f"Version=2016-11-15&{body}".encode(), headers).decode()

    def listing(self, states=("pending", "running", "stopping", "stopped")) -> str:
        body = "Action=DescribeInstances&MaxResults=1000&Filter.1.Name=instance-state-name"
        for number, state in enumerate(states, 1):
            body += f"&Filter.1.Value.{number}={state}"
        return self.call(body)

    def names(self, *states) -> list[str]:
        listing = self.listing(*states)
        return re.findall(rf"<key>hydra-provisioner:name</key>\s*<value>({self.tag}-.*?)</value>", listing)

    def set_kill(self, kill: dict) -> None:
        request(f"{self.url}/emulator", {"kill": kill or None})

    def requests(self) -> list[str]:
        return json.loads(request(f"{self.url}/emulator"))["requests"]


CLOUDS = {"hetzner": Hetzner, "ec2": Ec2, "ec2-without-tokens": Ec2}
