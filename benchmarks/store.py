"""What the store costs, against the same work one transaction a record through plain aiosqlite, in the same run.

    python -m benchmarks.store [--records N] [--addresses N] [--delay MILLISECONDS]

Prints JSON lines: records/s and CPU per record with 1, 50 and 500 callers; syncs per record; microseconds per lookup; octets per address.
Rounds of ours and the peer's alternate, and medians are printed with their spread. Syncs are counted, and delayed if asked, by strace.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiosqlite

from bounced.address import AddressKey
from bounced.outcome import Category, Disposition, Outcome
from bounced.policy import Policy
from bounced.record import Bounced
from bounced.scope import EVERYWHERE, Scope
from bounced.store import files, rows, tables
from bounced.store.sqlite import SqliteStore

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_DIAGNOSTIC = (
    "smtp; 550 5.1.1 <user@example.org>: Recipient address rejected: User unknown in virtual mailbox table, please check the address"
)


def event(number: int) -> Bounced:
    """Return the bounce of one mail: times go on, seals and addresses come in no order."""
    seal = hash((number, 1)) & (1 << 90) - 1 | (number // 50 & 0x1FFFFFF) << 90
    scattered = number * 2654435761 % (1 << 31)
    return Bounced(
        at=1_750_000_000 + number // 50,
        key=AddressKey(f"user{scattered}@example{scattered % 97}.org"),
        scope=Scope("news"),
        token="".join(_ALPHABET[seal >> 5 * place & 31] for place in range(22, -1, -1)),
        signed_at=1_749_999_000,
        outcome=Outcome(disposition=Disposition.HARD, category=Category.NO_SUCH_USER, rule="5.1.1", diagnostic=_DIAGNOSTIC, status="5.1.1"),
        reader="delivery-status",
        client="192.0.2.1",
    )


class Plain:
    """The peer: what one writes first. A transaction a record, each statement through aiosqlite, under a lock."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()

    async def record(self, one: Bounced) -> object:
        detail = rows.event_row(one).detail
        async with self._lock:
            await self._connection.execute(
                "INSERT INTO event (at, kind, address, scope, token, detail) VALUES (?, 'bounced', ?, ?, ?, ?)",
                (one.at, one.key, one.scope, one.token, detail),
            )
            await self._connection.execute(
                "INSERT INTO standing (address, scope, cause, since, strikes) VALUES (?, '*', 'h', ?, 0)"
                " ON CONFLICT (address, scope) DO UPDATE SET since = excluded.since",
                (one.key, one.at),
            )
            await self._connection.commit()
        return None


async def drive(record: Callable[[Bounced], Awaitable[object]], callers: int, events: list[Bounced]) -> None:
    """Have so many callers record, each waiting for its answer."""

    async def call(caller: int) -> None:
        for one in events[caller::callers]:
            await record(one)

    await asyncio.gather(*(call(caller) for caller in range(callers)))


async def run(side: str, path: Path, callers: int, records: int) -> dict[str, float]:
    """Measure one round of one side, in a database of its own."""
    if side == "ours":
        store = await SqliteStore.open(path, Policy())
        record: Callable[[Bounced], Awaitable[object]] = store.record
        close = store.close
    else:
        await (await SqliteStore.open(path, Policy())).close()
        connection = await aiosqlite.connect(path)
        await connection.execute("PRAGMA synchronous = FULL")
        record, close = Plain(connection).record, connection.close
    events = [event(number) for number in range(records)]
    wall, cpu = time.perf_counter(), time.process_time()
    await drive(record, callers, events)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await close()
    return {"records_per_second": records / wall, "cpu_us": cpu / records * 1e6}


def say(**figures: object) -> None:
    """Print one line."""
    print(json.dumps(figures), flush=True)


def in_child(side: str, callers: int, records: int, *strace: str) -> dict[str, float]:
    """Measure one round in a process of its own."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as place:
        command = [*strace, sys.executable, "-m", "benchmarks.store", "--round", side, place, str(callers), str(records)]
        result: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return result


def throughput(records: int) -> None:
    """Compare both sides with 1, 50 and 500 callers."""
    for callers in (1, 50, 500):
        share = records // 10 if callers == 1 else records
        rounds = {side: [] for side in ("ours", "plain")}
        for number in range(3):
            for side in ("ours", "plain") if number % 2 else ("plain", "ours"):
                rounds[side].append(in_child(side, callers, share if side == "ours" else min(share, records // 10)))
        rate = {side: statistics.median(one["records_per_second"] for one in many) for side, many in rounds.items()}
        cpu = {side: statistics.median(one["cpu_us"] for one in many) for side, many in rounds.items()}
        ours = [one["records_per_second"] for one in rounds["ours"]]
        figures = {"ours": round(rate["ours"]), "peer": "plain aiosqlite", "theirs": round(rate["plain"])}
        ratio = {"ratio": round(rate["ours"] / rate["plain"], 2), "noise": round(max(ours) / min(ours), 2)}
        say(what="records/s", callers=callers, **figures, **ratio, cpu_us=round(cpu["ours"]), their_cpu_us=round(cpu["plain"]))


def syncs(records: int, delay: int) -> None:
    """Count the syncs a record, and compare both sides where each takes `delay` milliseconds."""
    for callers in (1, 50, 500):
        counted = {}
        for side in ("ours", "plain"):
            with tempfile.NamedTemporaryFile() as trace:
                share = records // 20 if side == "plain" or callers == 1 else records
                in_child(side, callers, share, "strace", "-f", "-qq", "-o", trace.name, "-e", "trace=fdatasync")
                counted[side] = Path(trace.name).read_text().count("fdatasync(") / share
        say(
            what="syncs per record",
            callers=callers,
            ours=round(counted["ours"], 4),
            peer="plain aiosqlite",
            theirs=round(counted["plain"], 4),
        )
        slow = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", f"inject=fdatasync:delay_exit={delay * 1000}")
        rate = {
            side: in_child(side, callers, share, *slow)["records_per_second"] for side, share in (("ours", callers * 60), ("plain", 200))
        }
        say(
            what=f"records/s at +{delay} ms a sync", callers=callers, ours=round(rate["ours"]), peer="plain aiosqlite",
            theirs=round(rate["plain"]), ratio=round(rate["ours"] / rate["plain"], 1),
        )  # fmt: skip


def fill(path: Path, addresses: int, ordered: bool) -> None:
    """Fill a store with blocked addresses, each with its event, through the store's own SQL."""
    claim = files.Claim(path)
    connection = files.open_claimed(path, claim)
    keys = [event(number).key for number in range(addresses)]
    for number, key in enumerate(sorted(keys) if ordered else keys):
        if number % 10_000 == 0:
            if number:
                connection.execute("COMMIT")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.execute("BEGIN IMMEDIATE")
        one = event(number)
        one = Bounced(**{name: getattr(one, name) for name in one.__dataclass_fields__} | {"key": key})
        tables.record(connection, one, rows.event_row(one), Policy())
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    octets = dict(connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name").fetchall())
    mean = sum(map(len, keys)) / addresses
    say(
        what="octets per address", addresses=addresses, order="sorted" if ordered else "as bounces come", mean_key=round(mean, 1),
        standing=round(octets["standing"] / addresses, 1), event=round(octets["event"] / addresses, 1),
        token=round(octets["event_token"] / addresses, 1),
    )  # fmt: skip
    started = time.perf_counter()
    files.check(connection, path)
    say(
        what="quick_check seconds",
        addresses=addresses,
        seconds=round(time.perf_counter() - started, 2),
        megabytes=path.stat().st_size >> 20,
    )
    connection.close()
    claim.release()


def lookups(path: Path, addresses: int) -> None:
    """Time lookups of blocked and of unknown addresses."""
    reader = files.connect_reader(path)
    known = [event(number * 7919 % addresses).key for number in range(20_000)]
    unknown = [AddressKey(f"nobody{number * 7919}@example.org") for number in range(20_000)]
    for name, keys in (("blocked", known), ("unknown", unknown)):
        times = []
        for key in keys:
            started = time.perf_counter_ns()
            blocked = tables.look_up(reader, key).block(EVERYWHERE, 0) is not None
            times.append(time.perf_counter_ns() - started)
            assert blocked == (name == "blocked")
        times.sort()
        say(what="lookup us", of=name, addresses=addresses, p50=times[len(times) // 2] / 1000, p99=times[len(times) * 99 // 100] / 1000)
    reader.close()


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--addresses", type=int, default=1_000_000)
    parser.add_argument("--delay", type=int, default=8)
    parser.add_argument("--round", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.round:
        side, place, callers, records = chosen.round
        print(json.dumps(asyncio.run(run(side, Path(place) / "bounced.db", int(callers), int(records)))))
        return
    throughput(chosen.records)
    syncs(chosen.records // 4, chosen.delay)
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as place:
        for number, (addresses, ordered) in enumerate(((1000, False), (chosen.addresses, True), (chosen.addresses, False))):
            path = Path(place) / f"{number}.db"
            fill(path, addresses, ordered)
            if not ordered:
                lookups(path, addresses)


if __name__ == "__main__":
    main()
