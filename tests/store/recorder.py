"""A process that records and says what was acknowledged: `python -m tests.store.recorder DATABASE FAULT [CALLS]`.

For: dying in the tests of durability. Never: anything that a store should do; the faults are put in here, from outside. It prints `open`,
then the number of each mail whose bounce was acknowledged, and `fault` for each StoreFault, after which it asks again.

Faults: `none`; `hasty` prints before the commit; `normal` commits with synchronous=NORMAL, to the page cache.
"""

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from bounced.address import AddressKey
from bounced.outcome import Disposition
from bounced.policy import Policy
from bounced.record import Bounced
from bounced.store import StoreFault
from bounced.store.sqlite import SqliteStore
from tests.store.events import bounced

CALLERS = 16


def of_mail(number: int) -> Bounced:
    """Return the bounce of the mail of this number: each has an address of its own."""
    return bounced(number, Disposition.HARD, AddressKey(f"user{number}@example.org"))


def say(word: object) -> None:
    """Write a line at once."""
    os.write(1, f"{word}\n".encode())


async def call(store: SqliteStore, numbers: Iterator[int], hasty: bool) -> None:
    """Record one bounce after the other."""
    for number in numbers:
        if hasty:
            say(number)
        while True:
            try:
                await store.record(of_mail(number))
                break
            except StoreFault:
                say("fault")
        if not hasty:
            say(number)


async def main(path: Path, fault: str, calls: int | None) -> None:
    """Record until killed, or `calls` bounces."""
    store = await SqliteStore.open(path, Policy())
    if fault == "normal":
        connection = store._writer._connection
        await store._writer._run(lambda: connection.execute("PRAGMA synchronous = NORMAL"))
    say("open")
    numbers = itertools.count(1) if calls is None else iter(range(1, calls + 1))
    await asyncio.gather(*(call(store, numbers, fault == "hasty") for _ in range(CALLERS)))
    await store.close()


if __name__ == "__main__":
    signal.alarm(60)  # a recorder that hangs fails its test, and not the whole run
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None))
