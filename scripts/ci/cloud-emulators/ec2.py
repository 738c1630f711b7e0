"""The EC2 API, emulated by `moto` (PyPI), behind `microburst` (PyPI), which makes faults. What moto lacks is added after
the public description of the API: `ClientToken` and the filter by it, and a listing that lags behind.

`POST /_microburst/rules` sets faults (see microburst's own description). `POST /emulator` sets `tokens` (false: they are
ignored, as moto itself does), `kill` (`{pid, at, after}`: that process is killed at the so many-th request from now on,
before or after its effect, and has no answer), `takenBack` (all spot instances have their notice), `impaired` (ids of
instances that do not answer), `ending` (ids of instances with a scheduled event), `pageSize` (the most that a page has), `lagSeconds` (a listing does not have younger instances yet, and terminating them says
that there are none), `late` (`{action, seconds}`: answers to it come that much after the effect), `vanish` (an action: before the next one its instance is
terminated from outside) and forgets the requests; `GET /emulator` tells the `requests` (names of actions) that arrived here.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from xml.etree import ElementTree

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response


def failure(code: str, message: str, status: int = 400) -> Response:
    body = f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>r</RequestID></Response>"
    return Response(body, status, content_type="text/xml")


def listing(action: str, name: str, instances, more: str = "") -> Response:
    items = "".join(f"<item><instanceId>{instance}</instanceId>{more}</item>" for instance in instances)
    body = f"<{action}Response><requestId>r</requestId><{name}>{items}</{name}></{action}Response>"
    return Response(body, 200, content_type="text/xml")


class Wrapper:
    def __init__(self) -> None:
        self.moto = DomainDispatcherApplication(create_backend_app)
        self.lock = threading.Lock()
        self.made: dict[str, float] = {}
        self.tokens: dict[str, tuple[dict, str, bytes]] = {}
        self.settings: dict = {"tokens": True, "lagSeconds": 0, "kill": None, "takenBack": False, "impaired": [], "ending": [], "pageSize": 1000, "late": None, "vanish": None}
        self.requests: list[str] = []

    def __call__(self, environ, start_response):
        request = Request(environ)
        if request.path == "/emulator":
            return self.control(request)(environ, start_response)
        form = request.form.to_dict()
        action = form.get("Action", "")
        with self.lock:
            self.requests += [action] if action else []
            number = len(self.requests)
        kill = self.settings["kill"] if number == (self.settings["kill"] or {}).get("at") else None
        if kill and not kill["after"]:
            # It may have ended by itself.
            with contextlib.suppress(ProcessLookupError):
                os.kill(kill["pid"], signal.SIGKILL)
            return failure("Unavailable", "It is dead anyway", 503)(environ, start_response)
        if action and action == self.settings["vanish"]:
            self.settings["vanish"] = None
            self.inner(request, {"Action": "TerminateInstances", "Version": "2016-11-15", "InstanceId.1": form["InstanceId.1"]})
        answer = self.answer(request, form, action)
        if action and action == (self.settings["late"] or {}).get("action"):
            time.sleep(self.settings["late"]["seconds"])
        if kill:
            # It may have ended by itself.
            with contextlib.suppress(ProcessLookupError):
                os.kill(kill["pid"], signal.SIGKILL)
        return answer(environ, start_response)

    def control(self, request) -> Response:
        if request.method == "POST":
            self.settings |= json.loads(request.get_data())
            self.requests = []
        return Response(json.dumps({"requests": self.requests}), content_type="application/json")

    def inner(self, request, form: dict) -> Response:
        builder = EnvironBuilder(path=request.path, method=request.method, headers=dict(request.headers), data=form)
        return Response.from_app(self.moto, builder.get_environ())

    def is_hidden(self, instance: str) -> bool:
        return time.time() - self.made.get(instance, 0) < self.settings["lagSeconds"]

    def answer(self, request, form: dict, action: str) -> Response:
        if action == "RunInstances":
            # One after the other: two calls with one token create one instance.
            with self.lock:
                return self.run(request, form)
        if action == "DescribeInstances":
            return self.describe(request, form)
        if action == "DescribeSpotInstanceRequests":
            return listing(action, "spotInstanceRequestSet", self.made if self.settings["takenBack"] else [])
        if action == "DescribeInstanceStatus":
            if "event.code" in form.values():
                event = "<eventsSet><item><code>instance-retirement</code><description>degraded hardware</description></item></eventsSet>"
                return listing(action, "instanceStatusSet", self.settings["ending"], event)
            return listing(action, "instanceStatusSet", self.settings["impaired"])
        if action == "TerminateInstances" and self.is_hidden(form.get("InstanceId.1", "")):
            return failure("InvalidInstanceID.NotFound", f"The instance ID '{form['InstanceId.1']}' does not exist")
        if action in ("StartInstances", "StopInstances") and self.is_terminated(request, form["InstanceId.1"]):
            return failure("IncorrectInstanceState", f"The instance '{form['InstanceId.1']}' is terminated")
        return self.inner(request, form)

    def is_terminated(self, request, instance: str) -> bool:
        """moto itself starts terminated instances."""
        described = self.inner(request, {"Action": "DescribeInstances", "Version": "2016-11-15", "InstanceId.1": instance})
        return b"<name>terminated</name>" in described.get_data()

    def run(self, request, form: dict) -> Response:
        token = form.get("ClientToken") if self.settings["tokens"] else None
        parameters = {key: value for key, value in form.items() if key != "ClientToken"}
        if token in self.tokens:
            seen, instance, body = self.tokens[token]
            if seen != parameters:
                return failure("IdempotentParameterMismatch", "The client token was used with other parameters")
            # Its current description.
            described = self.inner(request, {"Action": "DescribeInstances", "Version": "2016-11-15", "InstanceId.1": instance})
            state = re.search(rb"<instanceState>.*?</instanceState>", described.get_data(), re.S)
            if state:
                body = re.sub(rb"<instanceState>.*?</instanceState>", state.group(0), body, flags=re.S)
            return Response(body, 200, content_type="text/xml")
        answer = self.inner(request, form)
        if answer.status_code == 200:
            body = answer.get_data()
            instance = re.search(rb"<instanceId>(i-[0-9a-f]+)</instanceId>", body).group(1).decode()
            self.made[instance] = time.time()
            if token:
                self.tokens[token] = (parameters, instance, body)
        return answer

    def describe(self, request, form: dict) -> Response:
        form = self.without_token_filter(form)
        if "MaxResults" in form:
            form["MaxResults"] = str(min(int(form["MaxResults"]), self.settings["pageSize"]))
        answer = self.inner(request, form)
        if answer.status_code != 200 or not self.settings["lagSeconds"]:
            return answer
        root = ElementTree.fromstring(answer.get_data())
        reservations = root.find("{*}reservationSet")
        for reservation in list(reservations):
            instance = reservation.find("{*}instancesSet/{*}item/{*}instanceId")
            if instance is not None and self.is_hidden(instance.text):
                reservations.remove(reservation)
        return Response(ElementTree.tostring(root), 200, content_type="text/xml")

    def without_token_filter(self, form: dict) -> dict:
        """As a filter by what the token made."""
        form = dict(form)
        for key, value in list(form.items()):
            match = re.fullmatch(r"Filter\.(\d+)\.Name", key)
            if match and value == "client-token":
                wanted = f"Filter.{match.group(1)}.Value.1"
                form[key] = "instance-id"
                form[wanted] = self.tokens[form[wanted]][1] if form[wanted] in self.tokens else "i-none"
        return form


class QuietHandler(MotoRequestHandler):
    def log(self, *_) -> None:
        pass


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def start_microburst(upstream: str) -> tuple[subprocess.Popen, str]:
    """Its first call loads the service's model: that is not left to the tests."""
    port = free_port()
    command = [sys.executable, "-m", "microburst", "--upstream", upstream, "--port", str(port), "--no-resign"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{url}/_microburst/health").read()
            break
        except OSError:
            time.sleep(0.05)
    headers = {
        "authorization": "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=0",
        "content-type": "application/x-www-form-urlencoded",
    }
    body = b"Action=DescribeInstances&Version=2016-11-15"
    urllib.request.urlopen(urllib.request.Request(url, body, headers)).read()
    return process, url


def main() -> None:
    os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    wrapper = Wrapper()
    server = make_server("127.0.0.1", 0, wrapper, threaded=True, request_handler=QuietHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    process, url = start_microburst(f"http://127.0.0.1:{server.port}")
    print(f"listening on {url}", flush=True)
    sys.stdin.buffer.read()
    process.kill()
    process.wait()


main()
