"""How long our own readers read at once: a read holds the write-ahead log fast, so that it grows while one lasts."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bounced import replay as replay_module
from bounced.address import AddressKey
from bounced.outcome import Disposition
from bounced.policy import Policy
from bounced.replay import replay
from bounced.store import files, scrub, tables
from bounced.store.known import Commits, Known
from bounced.store.reader import SqliteReader
from bounced.store.sqlite import SqliteStore
from tests.store.events import NOON, bounced


class Longest:
    """How long the longest statement of all readers was that were opened since, in steps of SQLite's machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps = self._so_far = 0
        connect = files.connect_reader

        def connect_watched(path: Path) -> sqlite3.Connection:
            connection = connect(path)
            connection.set_trace_callback(self._begin)
            connection.set_progress_handler(self._go_on, 10)
            return connection

        monkeypatch.setattr(files, "connect_reader", connect_watched)

    def _begin(self, _statement: str) -> None:
        self._so_far = 0

    def _go_on(self) -> int:
        self._so_far += 10
        self.steps = max(self.steps, self._so_far)
        return 0


async def read_everything(path: Path, longest: Longest) -> int:
    """Read all that a store is ever asked for as a whole, in a process that does not write it; return the longest statement."""
    longest.steps = 0
    reader = SqliteReader(path)
    assert await reader.overview(0, NOON) == await reader.overview(NOON - 1, NOON)
    assert sum(address.events for address in replay(reader, Policy(), NOON)) == reader.last_event()
    number, place, pages = 0, None, 0
    while page := reader.events(number, 20):
        number, pages = page[-1][0], pages + 1
    while standings := reader.standings(place, 20):
        place, pages = (standings[-1][0], standings[-1][1].scope), pages + 1
    assert pages > reader.addresses() // 20
    with closing(files.connect_reader(path)) as connection:
        known = Known(connection, Commits(path), reader.addresses())
        while known.slice(20):
            pass
    reader.close()
    for _ in scrub.pieces(path):
        pass
    return longest.steps


async def test_no_reader_of_ours_reads_long(sqlite_store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest read of list, events, counts, replay, filter and scrub stays as it is when the store grows to four times the size."""
    for module, name in ((tables, "_READ_AT_ONCE"), (scrub, "AT_ONCE"), (replay_module, "_PAGE")):
        monkeypatch.setattr(module, name, 20)
    longest = Longest(monkeypatch)

    async def steps(mails: range) -> tuple[int, int]:
        dead = [bounced(mail, Disposition.HARD, AddressKey(f"user{mail}@example.org"), NOON + 60 * mail) for mail in mails]
        await asyncio.gather(*map(sqlite_store.record, dead))
        since = mails.start + len(mails) // 2
        counted = await sqlite_store.overview(NOON + 60 * since, NOON)
        assert sum(counted.categories.values()) == mails.stop - since
        ours, longest.steps = await read_everything(tmp_path / "bounced.db", longest), 0
        # Control: a count of all at once.
        with closing(files.connect_reader(tmp_path / "bounced.db")) as careless:
            careless.execute("SELECT count(*) FROM standing WHERE scope = '*'").fetchall()
        return ours, longest.steps

    small, small_control = await steps(range(300))
    large, large_control = await steps(range(300, 1_200))
    assert 0 < large < 1.3 * small
    assert large_control > 3 * small_control
