"""Taking over a list (goal: >= 250,000 addresses a second, sorted): Store.take_over, and the whole of `bounced import --offline`.

Peer: SQLite alone, which puts the same addresses, and nothing else, into a table, as durably and in transactions of the same size. Rounds
take turns; printed are medians, as JSON lines: addresses a second of wall time and of CPU time, and the ratio of CPU.
"""

import asyncio
import json
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bounced.address import AddressKey
from bounced.policy import Policy
from bounced.record import Cause
from bounced.scope import EVERYWHERE
from bounced.store.sqlite import SqliteStore
from bounced.takeover import Taken

COUNT = 1_000_000
AT_ONCE = 20_000
ROUNDS = 3
KEYS = sorted(AddressKey(f"user{number:08}@example{number % 1000}.org") for number in range(COUNT))


def by_store(directory: Path) -> None:
    """Take all over, as blocks in memory."""

    async def run() -> None:
        store = await SqliteStore.open(directory / "bounced.db", Policy())
        for begin in range(0, COUNT, AT_ONCE):
            keys = KEYS[begin : begin + AT_ONCE]
            block = Taken(EVERYWHERE, Cause.HARD, "no-such-user", None, keys, [None] * len(keys))
            assert await store.take_over([block], at=1_790_000_000, by="x", source="ses") == len(keys)
        await store.close()

    asyncio.run(run())


def by_command(directory: Path) -> None:
    """Take all over from a plain list."""
    (directory / "list.txt").write_text("".join(f"{key}\n" for key in KEYS))
    config = '[return_path]\ndomains = ["b.example"]\nkey_file = "keys"\n[store]\ndatabase = "bounced.db"\n'
    (directory / "bounced.toml").write_text(config)
    command = [sys.executable, "-m", "bounced", "-C", str(directory / "bounced.toml"), "import", "--offline", str(directory / "list.txt")]
    assert f"{COUNT}  addresses changed" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def by_sqlite(directory: Path) -> None:
    """Put the addresses into a table of their own."""
    connection = sqlite3.connect(directory / "bare.db", isolation_level=None)
    connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (a TEXT PRIMARY KEY) WITHOUT ROWID;")
    for begin in range(0, COUNT, AT_ONCE):
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t VALUES (?)", [(key,) for key in KEYS[begin : begin + AT_ONCE]])
        connection.execute("COMMIT")
    connection.close()


def timed(work: Callable[[Path], None]) -> tuple[float, float]:
    """Return seconds of wall time and of CPU, children's included."""
    with tempfile.TemporaryDirectory() as directory:
        began, used = time.perf_counter(), cpu()
        work(Path(directory))
        return time.perf_counter() - began, cpu() - used


def cpu() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


if __name__ == "__main__":
    works = {"take_over": by_store, "import --offline": by_command, "SQLite alone": by_sqlite}
    rounds = [{name: timed(work) for name, work in works.items()} for _ in range(ROUNDS)]
    peer = statistics.median(one["SQLite alone"][1] for one in rounds)
    for name in works:
        wall, used = (statistics.median(one[name][column] for one in rounds) for column in (0, 1))
        spread = [round(COUNT / one[name][0]) for one in rounds]
        line = {"what": name, "addresses_per_s": round(COUNT / wall), "per_cpu_s": round(COUNT / used), "cpu_ratio": round(used / peer, 2)}
        print(json.dumps({**line, "rounds": sorted(spread)}))
