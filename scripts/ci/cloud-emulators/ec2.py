"""The EC2 API, emulated by `moto` (PyPI), behind `microburst` (PyPI), which makes faults. What moto lacks is added after
the public description of the API: `ClientToken` and the filter by it, and a listing that lags behind.

`POST /_microburst/rules` sets faults (see microburst's own description). `POST /emulator` sets `tokens` (false: they are
ignored, as moto itself does), `kill` (`{pid, at, after}`: that process is killed at the so many-th request from now on,
before or after its effect, and has no answer), `takenBack` (all spot instances have their notice), `impaired` (ids of
instances that do not answer), `ending` (ids of instances with a scheduled event), `pageSize` (the most that a page has), `lagSeconds` (a listing does not have younger instances yet, and terminating them says
that there are none), `late` (`{action, seconds}`: answers to it come that much after the effect), `vanish` (an action: before the next one its instance is
terminated from outside), `policy` (an IAM policy that calls are checked against), `auth` (true: requests are checked for valid signatures; the
answer has the credentials), `usedToken` (empty: the next token counts as
used long ago for an instance that is not known any more), `prices` (dollars by instance type, of the price list; `*` for all others), `make` (sets of tags: an instance is made with each) and forgets the requests; `GET /emulator` tells the `requests` (names of actions) that arrived here.
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

import moto.settings
from moto.core.authorization import ActionAuthenticatorMixin
from moto.ec2.models import ec2_backends
from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, get_prefix
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response

from ec2_policy import ACCOUNT, REGION, first_refused

ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def own_tags(resource: TaggedEC2Resource) -> list[dict]:
    """As moto's own function, which looks through the tags of all resources for each one: 5,000 instances took minutes."""
    number = resource.id
    kind = EC2_PREFIX_TO_RESOURCE.get(get_prefix(number), "") if number else ""
    tags = resource.ec2_backend.tags.get(number, {})
    return [{"resource_id": number, "key": key, "value": value, "resource_type": kind} for key, value in tags.items()]


TaggedEC2Resource.get_tags = own_tags


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
        self.public = ""
        self.settings: dict = {"policy": None, "prices": {}, "usedToken": None, "tokens": True, "lagSeconds": 0, "kill": None, "takenBack": False, "impaired": [], "ending": [], "pageSize": 1000, "late": None, "vanish": None}
        self.requests: list[str] = []

    def __call__(self, environ, start_response):
        request = Request(environ)
        if request.path == "/emulator":
            return self.control(request)(environ, start_response)
        request.get_data(cache=True)
        form = request.form.to_dict()
        target = request.headers.get("X-Amz-Target", "")
        action = form.get("Action", "") or target.rpartition(".")[2]
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
        answer = self.refusal(request, form, action) or self.answer(request, form, action)
        if action and action == (self.settings["late"] or {}).get("action"):
            time.sleep(self.settings["late"]["seconds"])
        if kill:
            # It may have ended by itself.
            with contextlib.suppress(ProcessLookupError):
                os.kill(kill["pid"], signal.SIGKILL)
        return answer(environ, start_response)

    def control(self, request) -> Response:
        answer: dict = {"requests": self.requests}
        if request.method == "POST":
            wanted = json.loads(request.get_data())
            if wanted.pop("auth", False):
                answer |= self.check_signatures()
            make_instances(wanted.pop("make", []))
            self.settings |= wanted
            self.requests = []
        return Response(json.dumps(answer), content_type="application/json")

    def check_signatures(self) -> dict:
        """From now on; of a new user that may do everything."""
        iam = iam_backends[ACCOUNT]["aws"]
        iam.create_user(REGION, "farm")
        iam.put_user_policy("farm", "all", json.dumps(ALL))
        key = iam.create_access_key("farm")
        moto.settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
        ActionAuthenticatorMixin.request_count = 0
        return {"accessKeyId": key.access_key_id, "secretAccessKey": key.secret_access_key}

    def refusal(self, request, form: dict, action: str) -> Response | None:
        if not self.settings["policy"] or not action:
            return None
        service = "pricing" if action == "GetProducts" else "ec2"
        refused = first_refused(self.settings["policy"], service, action, form, self.tags_of)
        if refused is None:
            return None
        if service == "pricing":
            return self.json({"__type": "AccessDeniedException", "Message": refused}, 400)
        return failure("UnauthorizedOperation", f"You are not authorized to perform this operation. {refused}", 403)

    def tags_of(self, instance: str) -> dict:
        instances = ec2_backends[ACCOUNT][REGION].get_instance_by_id(instance)
        return {tag["key"]: tag["value"] for tag in instances.get_tags()} if instances else {}

    def json(self, value: dict, status: int = 200) -> Response:
        return Response(json.dumps(value), status, content_type="application/x-amz-json-1.1")

    def inner(self, request, form: dict) -> Response:
        # A signature is about the bytes, and about the address that the client knows.
        data = request.get_data() if form == request.form.to_dict() else form
        headers = {**dict(request.headers), "Host": self.public}
        headers.pop("Content-Length", None)
        builder = EnvironBuilder(path=request.path, method=request.method, headers=headers, data=data)
        return Response.from_app(self.moto, builder.get_environ())

    def price(self, instance_type: str) -> str | None:
        return self.settings["prices"].get(instance_type) or self.settings["prices"].get("*")

    def products(self, request) -> Response:
        """`GetProducts` of the price list, after the public description of the API: moto has none."""
        filters = {one["Field"]: one["Value"] for one in json.loads(request.get_data())["Filters"]}
        price = self.price(filters["instanceType"])
        dimension = {"unit": "Hrs", "pricePerUnit": {"USD": price}, "appliesTo": []}
        product = {"product": {"attributes": filters}, "terms": {"OnDemand": {"S.T": {"priceDimensions": {"S.T.P": dimension}, "termAttributes": {}}}}}
        return self.json({"FormatVersion": "aws_v1", "PriceList": [json.dumps(product)] if price else []})

    def spot_prices(self, form: dict) -> Response:
        """Four tenths of the price list's, in zone b five tenths; an older price is higher. moto's are nonsense."""
        items = ""
        for key, name in form.items():
            if re.fullmatch(r"InstanceType\.\d+", key) and self.price(name):
                price = float(self.price(name))
                for zone, part in (("a", 0.4), ("b", 0.5), ("c", 0.4)):
                    for day, times in (("26", 1), ("25", 2)):
                        items += (
                            f"<item><instanceType>{name}</instanceType><productDescription>Linux/UNIX</productDescription>"
                            f"<spotPrice>{price * part * times:.6f}</spotPrice><timestamp>2026-11-{day}T00:00:00.000Z</timestamp>"
                            f"<availabilityZone>{REGION}{zone}</availabilityZone></item>"
                        )
        body = f"<DescribeSpotPriceHistoryResponse><spotPriceHistorySet>{items}</spotPriceHistorySet><nextToken/></DescribeSpotPriceHistoryResponse>"
        return Response(body, 200, content_type="text/xml")

    def is_hidden(self, instance: str) -> bool:
        return time.time() - self.made.get(instance, 0) < self.settings["lagSeconds"]

    def answer(self, request, form: dict, action: str) -> Response:
        if action == "GetProducts":
            return self.products(request)
        if form.get("DryRun") == "true" and action in ("DescribeSpotInstanceRequests", "DescribeInstanceStatus", "DescribeSpotPriceHistory"):
            return failure("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
        if action == "DescribeSpotPriceHistory":
            return self.spot_prices(form)
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
        if form.get("Hibernate") == "true" and not self.may_hibernate(form["InstanceId.1"]):
            return failure("UnsupportedHibernationConfiguration", "The instance was not created with hibernation")
        return self.inner(request, form)

    def may_hibernate(self, instance: str) -> bool:
        options = ec2_backends[ACCOUNT][REGION].get_instance_by_id(instance).hibernation_options
        return (options or {}).get("Configured") in (True, "true")

    def is_terminated(self, request, instance: str) -> bool:
        """moto itself starts terminated instances."""
        described = self.inner(request, {"Action": "DescribeInstances", "Version": "2016-11-15", "InstanceId.1": instance})
        return b"<name>terminated</name>" in described.get_data()

    def run(self, request, form: dict) -> Response:
        token = form.get("ClientToken") if self.settings["tokens"] else None
        parameters = {key: value for key, value in form.items() if key != "ClientToken"}
        if self.settings["usedToken"] == "":
            self.settings["usedToken"] = token
        if token and token == self.settings["usedToken"]:
            return failure("IdempotentParameterMismatch", "The client token was used with other parameters")
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


def make_instances(all_tags: list[dict]) -> None:
    """One for each set of tags, without the calls. moto copies all instances for each new one: here it sees only that one."""
    backend = ec2_backends[ACCOUNT][REGION]
    made = dict(backend.reservations)
    options: dict = {"instance_type": "c7i.large", "is_instance_type_default": False, "region_name": REGION}
    options |= dict.fromkeys(["placement", "subnet_id", "key_name", "private_ip", "associate_public_ip"])
    for tags in all_tags:
        backend.reservations.clear()
        backend.run_instances("ami-12345678", 1, None, [], **options, nics=[], tags={"instance": tags})
        made |= backend.reservations
    backend.reservations.update(made)


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
    wrapper.public = url.removeprefix("http://")
    print(f"listening on {url}", flush=True)
    sys.stdin.buffer.read()
    process.kill()
    process.wait()


main()
