"""The example of a provider (its path and directory are our first arguments), held back at will: while
/var/lib/test/hold is there, a machine that is asked for is not made."""

import os
import sys
import time
from pathlib import Path

HOLD = Path("/var/lib/test/hold")

provider, directory, verb = sys.argv[1:]
if verb == "create" and HOLD.exists():
    (Path(os.environ["STATE_DIRECTORY"]) / "held").touch()
    while HOLD.exists():
        time.sleep(0.1)
os.execv(sys.executable, [sys.executable, provider, directory, verb])
