"""Stands before a NixOS test's script when its types are checked: the names that the test driver gives it, and our
Machine that replaces the driver's and has only what our tests need (scripts/ci/scenarios/machine.py)."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from machine import Machine

# All names of the driver (nixos/lib/test-script-prepend.py), so that no test uses one for something else.
subtest: Callable[[str], AbstractContextManager[None]]
start_all: Callable[[], None]
test_script: Callable[[], None]
run_tests: Callable[[], None]
join_all: Callable[[], None]
serial_stdout_off: Callable[[], None]
serial_stdout_on: Callable[[], None]
retry: Callable[..., None]
create_machine: Callable[..., Machine]
polling_condition: Callable[..., Any]
machines: list[Machine]
vlans: list[object]
driver: object
log: object

# The node that each of our tests has, and that of `lease`.
server: Machine
standby: Machine
