"""What the store costs, against the same work one transaction a record through plain aiosqlite, in the same run.

    python -m benchmarks.store [--records N] [--addresses N] [--delay MILLISECONDS] [--only WHAT]

Prints JSON lines: records/s and CPU per record with 1, 50 and 500 callers; syncs per record; the longest commit, and how long the log
gets; how long bounces wait while a guard opens that has many verdicts to hold; what a record and a lookup cost in a store of so many
addresses, against an almost empty one; octets per address; seconds to open. Rounds of both sides alternate, and medians are printed with
their spread. Syncs are counted, and delayed if asked, by strace. `--only` is one of throughput, syncs, commits, opening, size.
"""

import argparse
import asyncio
import itertools
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
from msgspec import structs

from bounced.address import AddressKey
from bounced.outcome import Category, Disposition, Outcome
from bounced.policy import Policy
from bounced.record import Bounced, Delivered
from bounced.scope import EVERYWHERE, Scope
from bounced.store import StoreFault, files, rows, tables
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
                "INSERT INTO standing (address, scope, cause, since) VALUES (?, '*', 'h', ?)"
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


def commits(records: int) -> None:
    """Time every commit with 50 callers, as they wait for it, and look how long the log gets; once more while a reader holds it fast."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as place:
        for held in (False, True):
            say(
                what="commits",
                reader="holds the log fast" if held else "none",
                **asyncio.run(timed(Path(place) / f"{held}.db", records, held)),
            )


async def timed(path: Path, records: int, held: bool) -> dict[str, float]:
    """Record with 50 callers; return the times that they waited, the longest log, and how many were refused."""
    store = await SqliteStore.open(path, Policy())
    log = files.beside(path, "-wal")
    waits: list[float] = []
    longest, refused = 0, 0
    reader = files.connect_reader(path)
    if held:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM event").fetchall()

    async def record(one: Bounced) -> None:
        nonlocal longest, refused
        if refused >= 50:
            return  # each later one would wait for the reader in vain
        began = time.perf_counter()
        try:
            await store.record(one)
            waits.append(time.perf_counter() - began)
        except StoreFault:
            refused += 1
        longest = max(longest, log.stat().st_size)

    await drive(record, 50, [event(number) for number in range(records)])
    reader.close()
    await store.close()
    waits.sort()
    return {
        "recorded": len(waits), "refused": refused, "longest_log_mib": round(longest / 2**20, 1),
        "p50_ms": round(waits[len(waits) // 2] * 1e3, 2),
        "p99_ms": round(waits[len(waits) * 99 // 100] * 1e3, 2), "longest_ms": round(waits[-1] * 1e3, 1),
    }  # fmt: skip


def opening(records: int) -> None:
    """Let a guard open that has so many verdicts to hold, in the midst of as many bounces of others, and time who comes meanwhile."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as place:
        say(what="a guard opens", verdicts=records, **asyncio.run(opened_guard(Path(place) / "bounced.db", records)))


async def opened_guard(path: Path, records: int) -> dict[str, float]:
    """Return what the bounce waited at which the guard opened, what holding the rest took, and the longest wait of a bounce meanwhile."""
    store = await SqliteStore.open(path, Policy(outage_least=records))
    begin = event(0).at
    dead = [structs.replace(event(number), provider="google", at=begin + 86_400 * 20) for number in range(records)]
    others = [structs.replace(event(records + number), provider="other", at=begin + 86_400 * 20) for number in range(records)]
    living = [Delivered(at=begin + 86_400 * 19, key=one.key, scope=one.scope, by="mailer") for one in dead]
    await store.record(structs.replace(event(10 * records), provider="google"))
    for events in (living, dead[:-1], others):
        await drive(store.record, 500, events)
    began = time.perf_counter()
    turned = (await store.record(dead[-1])).turned
    first = time.perf_counter() - began
    assert [incident.subject for incident in turned] == ["google"], "no guard opened"
    settling = asyncio.create_task(store.settle(begin + 86_400 * 20))
    waits: list[float] = []
    while not settling.done():
        began_one = time.perf_counter()
        await store.record(event(20 * records + len(waits)))
        waits.append(time.perf_counter() - began_one)
    (incident,) = store.incidents()
    assert incident.count == records
    await store.close()
    whole = time.perf_counter() - began
    return {
        "opening_ms": round(first * 1e3, 1),
        "all_held_after_s": round(whole, 1),
        "longest_wait_meanwhile_ms": round(max(waits) * 1e3, 1),
    }


def fill(path: Path, addresses: int) -> None:
    """Fill a store with blocked addresses, each with its event, in the order in which the database grows by itself."""
    claim = files.Claim(path)
    connection = files.open_claimed(path, claim)
    connection.execute("PRAGMA synchronous = OFF")
    row = rows.event_row(event(0))
    connection.execute("BEGIN IMMEDIATE")
    for first in range(0, addresses, 100_000):
        some = [event(number) for number in range(first, min(first + 100_000, addresses))]
        connection.executemany(
            "INSERT INTO event (at, kind, address, scope, token, detail) VALUES (?, 'bounced', ?, 'news', ?, ?)",
            [(one.at, one.key, rows.pack(one.token), row.detail) for one in some],
        )
    keys = sorted((event(number).key, number) for number in range(addresses))
    connection.executemany(
        "INSERT INTO standing (address, scope, cause, category, since, known_since, last_event) VALUES (?, '*', 'h', 0, ?, ?, ?)",
        ((key, 1_750_000_000, 1_750_000_000, number + 1) for key, number in keys),
    )
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    octets = dict(connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name").fetchall())
    say(
        what="octets per address", addresses=addresses, mean_key=round(sum(len(key) for key, _ in keys) / addresses, 1),
        standing=round(octets["standing"] / addresses, 1), event=round(octets["event"] / addresses, 1),
        token=round(octets["event_token"] / addresses, 1), megabytes=path.stat().st_size >> 20,
    )  # fmt: skip
    connection.close()
    claim.write(files.State.CLOSED)
    claim.release()


def starts(path: Path, addresses: int) -> None:
    """Time the start of the store: where it reads the whole file first, as after a crash, and where it need not."""
    for after in ("a change of the file", "an orderly end"):
        if after == "a change of the file":
            os.utime(path)
        began = time.perf_counter()
        store = asyncio.run(opened(path))
        say(what="seconds to open", after=after, addresses=addresses, seconds=round(store - began, 3))


async def opened(path: Path) -> float:
    """Open and close; return when it was open."""
    store = await SqliteStore.open(path, Policy())
    try:
        return time.perf_counter()
    finally:
        await store.close()


def sizes(records: int, addresses: int) -> None:
    """Compare what records and lookups cost in a store of so many addresses and in one of a thousand."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as place:
        full, small = Path(place) / "full.db", Path(place) / "small.db"
        for path, count in ((small, 1000), (full, addresses)):
            fill(path, count)
        starts(full, addresses)
        cost: dict[str, dict[Path, list[float]]] = {}
        for _ in range(5):
            for path, count in ((small, 1000), (full, addresses)):
                for what, each in (*lookups(path, count).items(), ("record", added(path, records))):
                    cost.setdefault(what, {}).setdefault(path, []).append(each)
        for what, sides in cost.items():
            ours, theirs = sides[full], sides[small]
            say(
                what=f"cpu us a {what}", addresses=addresses, ours=round(statistics.median(ours), 1), peer="a store of 1,000 addresses",
                theirs=round(statistics.median(theirs), 1), ratio=round(statistics.median(ours) / statistics.median(theirs), 2),
                noise=round(max(ours) / min(ours), 2),
            )  # fmt: skip


_serial = itertools.count(1_000_000_000)


def added(path: Path, records: int) -> float:
    """Return the CPU microseconds of a record of a new address, 50 at a time."""

    async def add() -> float:
        store = await SqliteStore.open(path, Policy())
        events = [event(next(_serial)) for _ in range(records)]
        began = time.process_time()
        await drive(store.record, 50, events)
        took = time.process_time() - began
        await store.close()
        return took / records * 1e6

    return asyncio.run(add())


def lookups(path: Path, addresses: int) -> dict[str, float]:
    """Return the CPU microseconds of a lookup of blocked and of unknown addresses."""
    reader = files.connect_reader(path)
    known = [event(number * 7919 % addresses).key for number in range(20_000)]
    unknown = [AddressKey(f"nobody{number * 7919}@example.org") for number in range(20_000)]
    found = {}
    for name, keys in (("lookup of a blocked address", known), ("lookup of an unknown address", unknown)):
        began = time.process_time()
        blocked = sum(tables.look_up(reader, key).block(EVERYWHERE, 0) is not None for key in keys)
        found[name] = (time.process_time() - began) / len(keys) * 1e6
        assert blocked == (len(keys) if keys is known else 0)
    reader.close()
    return found


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--addresses", type=int, default=1_000_000)
    parser.add_argument("--delay", type=int, default=8)
    parser.add_argument("--only", choices=["throughput", "syncs", "commits", "opening", "size"])
    parser.add_argument("--round", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.round:
        side, place, callers, records = chosen.round
        print(json.dumps(asyncio.run(run(side, Path(place) / "bounced.db", int(callers), int(records)))))
        return
    parts = {
        "throughput": lambda: throughput(chosen.records),
        "syncs": lambda: syncs(chosen.records // 4, chosen.delay),
        "commits": lambda: commits(chosen.records * 4),
        "opening": lambda: opening(chosen.records),
        "size": lambda: sizes(chosen.records, chosen.addresses),
    }
    for name, measure in parts.items():
        if chosen.only in (None, name):
            measure()


if __name__ == "__main__":
    main()
