"""The Hetzner Cloud API, emulated by `cloudalone` (PyPI), with what it lacks: labels and their selectors, locations,
`/pricing` and the `RateLimit-*` headers, after the public description of the API, and faults for tests.

`POST /faults` takes a list of rules, which replace the earlier ones; the first that fits a request is applied:
`method`, `path` (a regular expression), `times` (default 1), `skip` (let so many pass first), and what happens: `status`
and `code` (an answer without effect), `lost` (the effect happens, the answer breaks off), `reset` (neither), `seconds`
(waits, before anything else), `late` (waits so many seconds after the effect), `vanish` (the server is deleted first). `POST /lag` takes the
seconds for which a list does not have a new server yet. `POST /kill` takes `{pid, at, after}`: that process is killed at the so many-th request
from now on, before or after its effect. `GET /requests` tells which requests came, `METHOD PATH` each, and the names of all servers
that were ever made.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
import types
from urllib.parse import parse_qs, parse_qsl, urlencode

state = tempfile.TemporaryDirectory(prefix="hetzner-")
os.environ.update(
    CLOUDALONE_BACKEND="stub",
    CLOUDALONE_TOKEN="test-token",
    CLOUDALONE_DB=f"{state.name}/db.sqlite",
    CLOUDALONE_CONFIG=f"{state.name}/none",
    CLOUDALONE_IPV6_SLICE="fd00:91::/64",
)
# Its real backend is imported but not used.
sys.modules["libvirt"] = types.ModuleType("libvirt")

import uvicorn  # noqa: E402
from cloudalone import app as cloudalone_app  # noqa: E402
from cloudalone import catalog, schemas  # noqa: E402

LOCATIONS = {
    name: {"id": number, "name": name, "network_zone": "eu-central"}
    for number, name in enumerate(["fsn1", "nbg1", "hel1"], 1)
}
# Gross hourly prices; net ones and monthly caps follow.
PRICES = {"cx22": "0.0077", "cx32": "0.0130", "cpx31": "0.0270", "cax21": "0.0125"}
catalog._SERVER_TYPES.clear()
for number, name in enumerate(PRICES, 1):
    catalog._SERVER_TYPES[name] = catalog._stype(number, name, 2, 4.0, 40)
# By the server's id, which is never reused.
LABELS: dict[int, dict] = {}
PLACES: dict[int, str] = {}
USER_DATA: dict[str, str] = {}
# When each server was made, and the names of all that ever were.
MADE: dict[int, float] = {}
MADE_NAMES: list[str] = []

plain_server = schemas.server_to_hcloud


def server_with_labels(row) -> dict:
    server = plain_server(row)
    server["labels"] = LABELS.get(row.id, {})
    server["location"] = LOCATIONS[PLACES.get(row.id, "fsn1")]
    return server


schemas.server_to_hcloud = server_with_labels


def pricing() -> dict:
    def price(hourly: str) -> dict:
        monthly = f"{float(hourly) * 620:.4f}"
        return {
            "price_hourly": {"net": hourly, "gross": hourly},
            "price_monthly": {"net": monthly, "gross": monthly},
        }

    server_types = [
        {
            "id": number,
            "name": name,
            # Not every type is available everywhere.
            "prices": [{"location": place, **price(hourly)} for place in LOCATIONS if (name, place) != ("cax21", "hel1")],
        }
        for number, (name, hourly) in enumerate(PRICES.items(), 1)
    ]
    return {"pricing": {"currency": "EUR", "vat_rate": "0.000000", "server_types": server_types}}


def selects(selector: str, labels: dict) -> bool:
    """Only what equality needs: `key`, `key=value`, `key==value`, joined by commas."""
    for term in filter(None, selector.split(",")):
        key, _, value = term.replace("==", "=").partition("=")
        if key not in labels or ("=" in term and labels[key] != value):
            return False
    return True


class Wrapper:
    def __init__(self) -> None:
        self.rules: list[dict] = []
        self.requests: list[str] = []
        self.remaining = 1_000_000
        self.kill: dict = {}
        self.ignores_labels = False
        self.lag_seconds = 0

    async def inner(self, scope, body: bytes) -> tuple[int, dict]:
        """What cloudalone answers; its background tasks continue by themselves."""
        answer: asyncio.Future = asyncio.get_running_loop().create_future()
        chunks: list[bytes] = []
        status = 500

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                chunks.append(message.get("body", b""))
                if not message.get("more_body") and not answer.done():
                    answer.set_result((status, json.loads(b"".join(chunks) or b"{}")))

        task = asyncio.ensure_future(cloudalone_app.app(scope, receive, send))
        task.add_done_callback(lambda done: answer.done() or answer.set_result((500, {"error": str(done.exception())})))
        return await answer

    async def list_servers(self, scope) -> tuple[int, dict]:
        query = parse_qs(scope["query_string"].decode())
        selector = query.pop("label_selector", [""])[0]
        page, per_page = (int(query.pop(key, [default])[0]) for key, default in (("page", "1"), ("per_page", "25")))
        servers: list[dict] = []
        inner_page = 1
        while inner_page:
            names = urlencode([(key, value) for key, values in query.items() for value in values])
            inner_scope = {**scope, "query_string": f"{names}&page={inner_page}&per_page=50".encode()}
            status, body = await self.inner(inner_scope, b"")
            if status != 200:
                return status, body
            servers += body["servers"]
            inner_page = body["meta"]["pagination"]["next_page"]
        servers = [server for server in servers if time.time() - MADE.get(server["id"], 0) >= self.lag_seconds]
        if not self.ignores_labels:
            servers = [server for server in servers if selects(selector, server["labels"])]
        return 200, schemas.paginated(servers, "servers", page, per_page)

    async def answer(self, scope, body: bytes) -> tuple[int, dict]:
        method, path = scope["method"], scope["path"]
        if path == "/v1/pricing":
            return 200, pricing()
        if path == "/v1/locations":
            wanted = parse_qs(scope["query_string"].decode()).get("name", LOCATIONS)
            return 200, {"locations": [place for name, place in LOCATIONS.items() if name in wanted]}
        if (method, path) == ("GET", "/v1/servers"):
            return await self.list_servers(scope)
        if (method, path) == ("POST", "/v1/servers"):
            request = json.loads(body)
            place = request.get("location", "fsn1")
            if (request["server_type"], place) == ("cax21", "hel1"):
                return 422, error("invalid_input", "unsupported location for server type")
            status, answer = await self.inner(scope, body)
            if status == 201:
                number = answer["server"]["id"]
                LABELS[number], PLACES[number] = request.get("labels", {}), place
                MADE[number] = time.time()
                MADE_NAMES.append(request["name"])
                USER_DATA[request["name"]] = request.get("user_data") or ""
                answer["server"] |= {"labels": LABELS[number], "location": LOCATIONS[place]}
            return status, answer
        return await self.inner(scope, body)

    def control(self, scope, body: bytes) -> dict | None:
        match scope["method"], scope["path"]:
            case "POST", "/faults":
                self.rules, self.requests = json.loads(body), []
                self.ignores_labels = any(rule.get("ignore_labels") for rule in self.rules)
            case "POST", "/lag":
                self.lag_seconds = json.loads(body)
            case "POST", "/kill":
                self.kill, self.requests = json.loads(body), []
            case "GET", "/requests":
                return {"requests": self.requests, "made": MADE_NAMES}
            case "GET", "/user-data":
                return USER_DATA
            case _:
                return None
        return {}

    def fault(self, scope) -> dict:
        for rule in self.rules:
            if rule.get("ignore_labels") or rule["method"] != scope["method"] or not re.search(rule["path"], scope["path"]):
                continue
            if rule.get("skip", 0) > 0:
                rule["skip"] -= 1
            elif rule.setdefault("times", 1) > 0:
                rule["times"] -= 1
                return rule
        return {}

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await cloudalone_app.app(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        reply = self.control(scope, body)
        if reply is not None:
            await respond(send, 200, reply, {})
            return
        self.requests.append(f"{scope['method']} {scope['path']}")
        kill = self.kill if len(self.requests) == self.kill.get("at") else {}
        if kill and not kill["after"]:
            # It may have ended by itself.
            with contextlib.suppress(ProcessLookupError):
                os.kill(kill["pid"], signal.SIGKILL)
            await respond(send, 503, {}, {}, broken=True)
            return
        rule = self.fault(scope)
        await asyncio.sleep(rule.get("seconds", 0))
        if rule.get("reset"):
            await respond(send, 200, {}, {}, broken=True)
            return
        if rule.get("vanish"):
            server = re.match(r"/v1/servers/\d+", scope["path"]).group(0)
            await self.inner({**scope, "method": "DELETE", "path": server, "raw_path": server.encode()}, b"")
        if "status" in rule:
            status, reply = rule["status"], error(rule.get("code", "server_error"), rule.get("message", "as the test wants it"))
        else:
            status, reply = await self.answer(scope, body)
        await asyncio.sleep(rule.get("late", 0))
        if kill:
            # It may have ended by itself.
            with contextlib.suppress(ProcessLookupError):
                os.kill(kill["pid"], signal.SIGKILL)
        self.remaining = max(0, self.remaining - 1)
        limits = {"RateLimit-Limit": "1000000", "RateLimit-Remaining": str(self.remaining), "RateLimit-Reset": "0"}
        await respond(send, status, reply, limits, broken=rule.get("lost", False))


def error(code: str, message: str) -> dict:
    return {"error": {"code": code, "message": message, "details": None}}


async def respond(send, status: int, reply: dict, headers: dict, broken: bool = False) -> None:
    body = json.dumps(reply).encode()
    # Fewer bytes than promised: the server closes the connection.
    length = len(body) + 100 if broken else len(body)
    sent = {"content-type": "application/json", "content-length": str(length), **headers}
    start = [(key.lower().encode(), value.encode()) for key, value in sent.items()]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body[: len(body) // 2] if broken else body})


def end_with_standard_input() -> None:
    sys.stdin.buffer.read()
    state.cleanup()
    os._exit(0)


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    server = uvicorn.Server(uvicorn.Config(Wrapper(), log_level="critical"))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    server.run(sockets=[listener])


main()
