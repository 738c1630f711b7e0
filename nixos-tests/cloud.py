"""The example of a provider (its path and directory are our first arguments), held back at will: while
/var/lib/test/hold is there, a machine of the type that it names, or of any type if it is empty, is not created."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

HOLD = Path("/var/lib/test/hold")


def is_held(machine_type):
    try:
        return HOLD.read_text().strip() in ("", machine_type)
    except FileNotFoundError:
        return False


def main():
    provider, directory, verb = sys.argv[1:]
    request = sys.stdin.read()
    if verb == "create" and is_held(json.loads(request)["type"]):
        (Path(os.environ["STATE_DIRECTORY"]) / "held").touch()
        while HOLD.exists():
            time.sleep(0.1)
    sys.exit(subprocess.run([sys.executable, provider, directory, verb], input=request, text=True).returncode)


main()
