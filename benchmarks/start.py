"""Starting with a large list (goal: READY within a second with 10,000,000 addresses).

Peer: the same daemon with an empty database, in turn with it. Printed are medians, as JSON lines: seconds from the process to READY=1 by
the wall and of its CPU, after an orderly end; and once after kill -9, when the file is read for damage first. Takes 200 octets an address.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.rounds import cpu_of
from bounced.address import AddressKey
from bounced.policy import Policy
from bounced.record import Cause
from bounced.scope import EVERYWHERE
from bounced.store.sqlite import SqliteStore
from bounced.takeover import Taken

ROUNDS = 3
AT_ONCE = 50_000
SETTINGS = """
[return_path]
domains = ["b.example"]
key_file = "keys"
[store]
database = "bounced.db"
[smtp]
listen = []
[query]
http = "http"
line = ""
socketmap = ""
policy = ""
milter = ""
socket_group = ""
"""


async def filled(database: Path, addresses: int) -> None:
    """Make a database that knows so many, and close it in order."""
    store = await SqliteStore.open(database, Policy())
    for begin in range(0, addresses, AT_ONCE):
        numbers = range(begin, min(begin + AT_ONCE, addresses))
        keys = [AddressKey(f"user{number:08}@example{number % 1000}.org") for number in numbers]
        block = Taken(EVERYWHERE, Cause.HARD, "no-such-user", None, keys, [None] * len(keys))
        await store.take_over([block], at=1_790_000_000, by="x", source="ses")
    await store.close()


def started(home: Path, end: signal.Signals) -> tuple[float, float]:
    """Start the daemon; return wall and CPU seconds until it was ready. Then end it by a signal."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        place = home / "notify"
        place.unlink(missing_ok=True)
        manager.bind(str(place))
        manager.settimeout(600)
        began = time.perf_counter()
        command = [sys.executable, "-m", "bounced", "-C", str(home / "bounced.toml"), "serve"]
        environment = {**os.environ, "NOTIFY_SOCKET": str(place)}
        with (home / "log").open("wb") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as daemon:
            try:
                while b"READY=1" not in manager.recv(4096):
                    pass
                wall = time.perf_counter() - began
                used = cpu_of(daemon.pid)
            finally:
                daemon.send_signal(end)
    return wall, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--addresses", type=int, default=10_000_000)
    parser.add_argument("--directory", default="/var/tmp", help="where there is room")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.directory) as place:
        homes = {"full": Path(place) / "full", "empty": Path(place) / "empty"}
        for name, home in homes.items():
            home.mkdir()
            (home / "bounced.toml").write_text(SETTINGS)
            subprocess.run([sys.executable, "-m", "bounced", "-C", str(home / "bounced.toml"), "rotate-key"], check=True, stdout=2)
            asyncio.run(filled(home / "bounced.db", asked.addresses if name == "full" else 0))
        rounds = [{name: started(home, signal.SIGTERM) for name, home in homes.items()} for _ in range(ROUNDS)]
        for name in homes:
            wall, used = (statistics.median(one[name][column] for one in rounds) for column in (0, 1))
            print(json.dumps({"what": f"READY, {name}", "addresses": asked.addresses * (name == "full"), "wall_s": wall, "cpu_s": used}))
        started(homes["full"], signal.SIGKILL)
        wall, used = started(homes["full"], signal.SIGTERM)
        print(json.dumps({"what": "READY, full, after kill -9", "addresses": asked.addresses, "wall_s": wall, "cpu_s": used}))


if __name__ == "__main__":
    main()
