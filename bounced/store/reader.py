"""The questions to a SQLite store, for whoever only asks: in the process that writes, in another one, or while nobody writes.

For: the plain methods of Store on one connection that cannot write, at once, in the caller's thread. Never: a write, a checkpoint, or an
answer older than the last commit.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from bounced.address import AddressKey
from bounced.incident import Incident
from bounced.record import AddressRecord, AnyEvent, Standing
from bounced.store import Overview, Place, StoreFault, Tally, Unmatched, files, tables
from bounced.store.known import Commits, Known
from bounced.store.rows import RowError

_T = TypeVar("_T")

_SLICE = 250
"""Addresses that are read into memory at once: it takes the event loop 0.2 ms."""
_BETWEEN_SLICES = 0.001
_BETWEEN_LOOKS = 1.0


class Lookups:
    """The plain methods of Store, and what a store on SQLite has besides."""

    def __init__(self, path: Path) -> None:
        """Open the database at `path`, which must exist, for reading only. Raises StoreFault."""
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._known: Known | None = None
        self._damaged = False
        self._closed_because = "the store is closed"
        self._open()

    def may_know(self, key: AddressKey) -> bool:
        """Tell whether anything may be known of an address; False is certain. Raises StoreFault."""
        if self._known is None:
            self._refuse_if_closed()
            return True
        try:
            held = self._known.may_hold(key)
        except sqlite3.Error as error:
            raise fault_of(error) from None
        if held is None:
            self._known = None
            return True
        return held

    def version(self) -> bytes | None:
        """Return what every commit changes; None where that cannot be told now. Never raises."""
        return None if self._known is None else self._known.version()

    def any_forgotten(self) -> bool:
        """Tell whether there may be a pseudonym; False is certain. Raises StoreFault."""
        if self._known is not None:
            return self._known.any_forgotten()
        return self._read(tables.any_forgotten)

    def blocking(self, key: AddressKey) -> Sequence[Standing]:
        """Return the standings of an address that have a cause, EVERYWHERE first. Raises StoreFault."""
        return self._read(tables.blocking, key) if self.may_know(key) else ()

    def blocking_of_many(self, keys: Sequence[AddressKey]) -> Mapping[AddressKey, Sequence[Standing]]:
        """Return `blocking` of each address that has any such standing, all of one moment. Raises StoreFault."""
        # To ask for one of them catches the filter up, or gives it up.
        self.may_know(keys[0] if keys else AddressKey(""))
        asked = keys if self._known is None else self._known.which_may_hold(keys)
        return self._read(tables.blocking_of_many, asked) if asked else {}

    async def keep_known(self) -> None:
        """Read all addresses into memory, a few at a time, for `may_know`; again when too much has changed. Does not return."""
        while True:
            if self._known is None and self._connection is not None and not self._damaged:
                try:
                    await self._read_known(self._connection)
                except (OSError, sqlite3.Error):
                    self._known = None  # every question is asked of the database
            await asyncio.sleep(_BETWEEN_LOOKS)

    async def _read_known(self, connection: sqlite3.Connection) -> None:
        known = Known(connection, Commits(self._path), await asyncio.to_thread(_count, self._path))
        while known.slice(_SLICE):
            await asyncio.sleep(_BETWEEN_SLICES)
            # Not too far behind what is committed meanwhile; and the database may have been closed.
            if self._connection is not connection or known.may_hold("") is None:
                return
        self._known = known

    def look_up(self, key: AddressKey) -> AddressRecord:
        """Return the record of an address; an empty one for an address of which nothing is known. Raises StoreFault."""
        return self._read(tables.look_up, key)

    def history(self, key: AddressKey, newest: int | None = None) -> Sequence[AnyEvent]:
        """Return the kept events of an address, oldest first: all of them, or the `newest` so many. Raises StoreFault."""
        return self._read(tables.history, key, newest)

    def standings(self, after: Place | None = None, limit: int = 1000) -> Sequence[tuple[AddressKey, Standing]]:
        """Return standings in the order of address and scope, from the one after `after` on. Raises StoreFault."""
        return self._read(tables.standings, after, limit)

    async def overview(self, since: int, now: int) -> Overview:
        """Count what there is, in a thread with a connection of its own. Raises StoreFault."""
        self.standings(None, 1)  # which a closed store cannot
        return await asyncio.to_thread(_overview, self._path, since, now)

    def events(self, after: int, limit: int) -> Sequence[tuple[int, AnyEvent | None]]:
        """Return the events of all addresses that were recorded after number `after`, each with its number. Raises StoreFault."""
        return self._read(tables.events, after, limit)

    def last_event(self) -> int:
        """Return the number of the event that was recorded last. Raises StoreFault."""
        return self._read(tables.last_event)

    def recipient_of(self, opaque_id: str) -> AddressKey | None:
        """Return the recipient that was interned under this id. Raises StoreFault."""
        return self._read(tables.recipient_of, opaque_id)

    def tallies(self, since: str = "") -> Mapping[Tally, int]:
        """Return the tallies from the day `since` on. Raises StoreFault."""
        return self._read(tables.tallies, since)

    def incidents(self) -> Sequence[Incident]:
        """Return all incidents, newest first. Raises StoreFault."""
        return self._read(tables.all_incidents)

    def held_by(self, incident: str, after: AddressKey | None = None, limit: int = 500) -> Sequence[AddressKey]:
        """Return addresses of which an incident holds or held a verdict, in their order. Raises StoreFault."""
        return self._read(tables.held_by, incident, after, limit)

    def unmatched(self) -> Sequence[Unmatched]:
        """Return the groups of texts that no rule matched, the most frequent first. Raises StoreFault."""
        return self._read(tables.unmatched)

    def distrust(self) -> None:
        """Give no more answers: the file is damaged. It stays open, as `SqliteStore.close` needs it."""
        self._known = None
        self._damaged = True
        self._closed_because = "the database is damaged"

    def let_go(self) -> None:
        """Let go of the file. Later calls raise StoreFault."""
        self._known = None
        self._closed_because = "the store is closed"
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> None:
        try:
            self._connection = files.connect_reader(self._path)
        except sqlite3.Error as error:
            raise fault_of(error) from None

    def _refuse_if_closed(self) -> sqlite3.Connection:
        if self._connection is None or self._damaged:
            raise StoreFault(self._closed_because)
        return self._connection

    def _read(self, read: Callable[..., _T], *asked: object) -> _T:
        connection = self._refuse_if_closed()
        try:
            return read(connection, *asked)
        except (sqlite3.Error, ValueError, OverflowError) as error:
            raise fault_of(error) from None


class SqliteReader(Lookups):
    """Only asks. Sees what was committed before it asks."""

    def addresses(self) -> int:
        """Count the addresses of which something is known. Raises StoreFault."""
        return self._read(tables.known_addresses)

    def close(self) -> None:
        """Let go of the file. Later calls raise StoreFault."""
        self.let_go()


def fault_of(error: Exception) -> StoreFault:
    """Say what failed in words that hold nothing of a stranger's."""
    match error:
        case StoreFault() | RowError():
            return StoreFault(str(error))
        case sqlite3.Error():
            return StoreFault(f"SQLite reports {files.sqlite_words(error)}")
        case _:
            return StoreFault(f"the store met a {type(error).__name__}")


def _count(path: Path) -> int:
    with closing(_passing(path)) as connection:
        return tables.known_addresses(connection)


def _passing(path: Path) -> sqlite3.Connection:
    """Open a connection that reads everything once: 2 MiB of pages kept would serve it nothing, and leave a hole in memory each time."""
    connection = files.connect_reader(path)
    connection.execute("PRAGMA cache_size = -256")
    return connection


def _overview(path: Path, since: int, now: int) -> Overview:
    try:
        with closing(_passing(path)) as connection:
            return tables.overview(connection, since, now)
    except (sqlite3.Error, ValueError, OverflowError) as error:
        raise fault_of(error) from None
