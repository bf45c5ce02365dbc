"""How the system tests wait: for a state, with a bound, never for a time.

For: everything that another process does in its own time. Never: a bound that a working system comes near; it only ends a hang.
"""

import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds after which a state that has not come is taken never to come."""


def until(condition: Callable[[], T], what: str, patience: float = PATIENCE, shown: Callable[[], str] = str) -> T:
    """Return the first true value of `condition`; fail with `what` was awaited, and what `shown` tells, if none comes."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:.0f} s in vain for {what}\n{shown()}")
        time.sleep(0.01)  # Between two looks at another process's state.
    return value


def free_address() -> tuple[str, int]:
    """Return a loopback address of nobody else and a port that is free there: no other test run can take it meanwhile."""
    octets = secrets.token_bytes(3)
    host = f"127.{octets[0]}.{octets[1]}.{octets[2] or 1}"
    with socket.socket() as probe:
        probe.bind((host, 0))
        return host, probe.getsockname()[1]


def listens(address: tuple[str, int] | Path) -> bool:
    """Tell whether somebody accepts connections at a TCP address or a unix socket."""
    family = socket.AF_UNIX if isinstance(address, Path) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(PATIENCE)
        return probe.connect_ex(str(address) if isinstance(address, Path) else address) == 0
