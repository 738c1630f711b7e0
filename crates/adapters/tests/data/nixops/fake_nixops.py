"""Stands in for NixOps in tests: its command line, its output, its errors; a JSON file for its state.

Usage: fake_nixops.py 1|2 DIRECTORY OPERATION ARGS...; the first two are part of `program` in the test's
configuration. What the real NixOps 2.0 (its repository of December 2025) takes and prints was recorded by
running it; 1.7 is as its source (`scripts/nixops`) says. As the real ones: names need not be unique, a
deployment is made first and named after, every value of `args` is a Nix string literal.
"""

import argparse
import fcntl
import json
import os
import sys
import time

VERSION, DIRECTORY = int(sys.argv[1]), sys.argv[2]


def control(name):
    """A file of the test that makes something go wrong."""
    path = os.path.join(DIRECTORY, name)
    return open(path).read().strip() if os.path.exists(path) else None


def parser():
    main = argparse.ArgumentParser(prog="nixops")
    operations = main.add_subparsers(dest="operation", metavar="operation", required=True)
    common = argparse.ArgumentParser(add_help=False)
    if VERSION == 1:
        common.add_argument("--state", "-s")
    else:
        common.add_argument("--network")
    common.add_argument("--deployment", "-d")
    common.add_argument("--confirm", action="store_true")
    common.add_argument("-I", action="append", default=[])
    for name in ["create", "modify", "set-args", "export", "deploy", "stop", "destroy", "delete"]:
        operation = operations.add_parser(name, parents=[common])
        if name in ("create", "modify") and VERSION == 1:
            operation.add_argument("nix_exprs", nargs="+", metavar="NIX-FILE")
        if name == "set-args":
            operation.add_argument("--argstr", nargs=2, action="append", default=[])
        if name == "export":
            operation.add_argument("--all", action="store_true")
        if name == "deploy":
            operation.add_argument("--check", action="store_true")
    return main


def nix_string(value):
    for plain, escaped in [("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("${", "\\${")]:
        value = value.replace(plain, escaped)
    return f'"{value}"'


def find(state, wanted):
    matches = [u for u, d in state.items() if u == wanted or d.get("name") == wanted]
    if not matches:
        sys.exit("Traceback (most recent call last):\nException: could not find specified deployment in state file")
    if len(matches) > 1:
        sys.exit(f"state file contains multiple deployments with the same name, so you should specify one using its UUID: {wanted}")
    return matches[0]


def set_state(deployment, number):
    machine = deployment["resources"].setdefault("machine", {"type": "none", "index": "0"})
    machine["state"] = str(number)
    return machine


def deploy(deployment):
    if control("deploy-hangs") == deployment["name"]:
        time.sleep(600)
    if control("deploy-fails") == deployment["name"]:
        set_state(deployment, 6)
        return "machine> could not connect to ‘root@10.0.0.7’\nerror: activation of 1 of 1 machines failed (namely on ‘machine’)"
    number = deployment["name"].encode()[-1]
    machine = set_state(deployment, 3)
    machine.update({"targetHost": f"10.0.0.{number}", "none.publicHostKey": f"ssh-ed25519 AAAA{number}"})
    return None


def operate(arguments, state):
    """Returns what goes to stdout and an error, if any."""
    operation = arguments.operation
    if operation == "create":
        uuid = f"c0ffee00-{len(state):04}-{os.getpid()}"
        state[uuid] = {"resources": {}}
        if control("create-dies"):
            return None, "killed before it was named"
        state[uuid]["name"] = arguments.deployment
        if VERSION == 1:
            state[uuid]["nixExprs"] = json.dumps(arguments.nix_exprs)
            state[uuid]["nixPath"] = json.dumps(arguments.I)
        print(f"created deployment ‘{uuid}’", file=sys.stderr)
        return uuid, None
    if operation == "export":
        chosen = state if arguments.all else {u: state[u] for u in [find(state, arguments.deployment)]}
        return json.dumps(chosen, indent=2, sort_keys=True), None
    uuid = find(state, arguments.deployment)
    deployment = state[uuid]
    if operation == "modify" and VERSION == 1:
        deployment["nixExprs"] = json.dumps(arguments.nix_exprs)
    elif operation == "set-args":
        if control("set-args-dies"):
            return None, "killed before the arguments were set"
        given = json.loads(deployment.get("args", "{}"))
        given.update({name: nix_string(value) for name, value in arguments.argstr})
        deployment["args"] = json.dumps(given)
    elif operation == "deploy":
        return None, deploy(deployment)
    elif not arguments.confirm and operation in ("stop", "destroy", "delete"):
        return None, "EOFError: EOF when reading a line"
    elif operation == "stop":
        set_state(deployment, 5)
    elif operation == "destroy":
        deployment["resources"] = {}
    elif operation == "delete":
        if deployment["resources"]:
            return None, "Exception: cannot delete this deployment because it still has resources"
        del state[uuid]
    return None, None


def main():
    with open(os.path.join(DIRECTORY, "calls"), "a") as calls:
        calls.write(json.dumps(sys.argv[3:]) + "\n")
    arguments = parser().parse_args(sys.argv[3:])
    print("trace: evaluation warning: fold has been deprecated, use foldr instead", file=sys.stderr)
    state_file = os.environ.get("NIXOPS_STATE") or os.path.join(DIRECTORY, "deployments.nixops")
    if control("export-garbage") and arguments.operation == "export":
        print("warning: not JSON")
        return
    with open(state_file, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        state = json.loads(file.read() or "{}")
        if arguments.operation == "deploy":
            name = state[find(state, arguments.deployment)]["name"]
            # It is killed and never writes; the others must not wait for it.
            if name == control("deploy-hangs"):
                fcntl.flock(file, fcntl.LOCK_UN)
        output, error = operate(arguments, state)
        file.truncate(0)
        file.write(json.dumps(state))
    if output is not None:
        print(output)
    if error is not None:
        sys.exit(error)


main()
