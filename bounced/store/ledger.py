"""Events into the tables, many at once: what they need is read together, and what comes of them is written together.

For: the price of a batch. A statement lets go of the interpreter's lock and waits until it gets it back: of fifty bounces there are a few,
and not three hundred. Never: beginning or committing; what one event does is the matter of policy and incidents.
"""

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from bounced.address import AddressKey
from bounced.guard import Watch
from bounced.incident import Incident, Kind
from bounced.policy import Policy, adds, step
from bounced.record import AnyEvent, Bounced, Noticed
from bounced.store import Recorded, Tally, incidents, tables
from bounced.store.rows import (
    EventRow,
    event_of,
    event_row,
    replayed,
    unmatched_of,
    watch_numbers,
    watch_of,
)

Entry = tuple[AnyEvent, EventRow]
"""An event to record, and its columns."""

_AT_ONCE = 16
"""Rows that one statement writes."""

_OF_MAILS = "SELECT at, kind, address, scope, token, detail FROM event WHERE token IN (?) ORDER BY id"
# One row: for each that is fetched the lock is handed over and back.
_WATCHES = "SELECT json_group_array(provider), json_group_array(numbers) FROM watch WHERE provider IN (?)"
_VALUES = re.compile(r"\((?:\?, )*\?\)")


def record(connection: sqlite3.Connection, entries: Sequence[Entry], policy: Policy) -> Sequence[Recorded]:
    """Add events, each after those before it, and step their records; tally those whose token told as much before.

    Raises RowError, sqlite3.Error; whoever began the transaction rolls it back.
    """
    ledger = _Ledger(connection, entries)
    recorded = [ledger.record(event, row, policy) for event, row in entries]
    ledger.write()
    return recorded


class _Ledger(tables.Shelf):
    """What a batch has read, and what it has yet to write. Whoever looks past it into the tables has it written first."""

    def __init__(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
        super().__init__(connection)
        events = [event for event, _ in entries]
        self._records = tables.load_all(connection, {event.key for event in events})
        self._of_mail: dict[bytes | str, list[EventRow]] = {row.token: [] for _, row in entries if row.token is not None}
        for columns in _among(connection, _OF_MAILS, self._of_mail):
            self._remember(EventRow(*columns))
        self._watches: dict[str, Watch | None] = {
            event.provider: None for event in events if isinstance(event, (Bounced, Noticed)) and event.provider
        }
        for columns in _among(connection, _WATCHES, self._watches):
            providers, numbers = map(json.loads, columns)
            self._watches |= zip(providers, map(watch_of, numbers), strict=True)
        self._open: dict[tuple[Kind, str | None], Sequence[Incident]] = {}
        self._last = tables.last_event(connection)
        self._events: list[Sequence[object]] = []
        self._standings: list[Sequence[object]] = []
        self._observed: dict[str, Watch] = {}
        self._incidents: dict[str, Incident] = {}
        self._tallies = Counter[Tally]()

    def record(self, event: AnyEvent, row: EventRow, policy: Policy) -> Recorded:
        """Add an event and step its record, or tally it."""
        before, previous = self._records[event.key]
        earlier = None if row.token is None else self._of_mail[row.token]
        if earlier and not adds(event, map(event_of, earlier)):
            self._tallies[replayed(event)] += 1
            return Recorded(before, before, fresh=False)
        guarded, outages = incidents.guarded(self, before, event, policy)
        after = step(before, guarded, policy)
        row = row if guarded is event else event_row(guarded)
        self._last += 1
        self._events.append((self._last, *row, previous))
        self._remember(row)
        if before.standings and tables.gone(before, after):
            self.write()
            tables.drop_gone(self.connection, before, after)
        self._standings += tables.changed_rows(before, after, self._last)
        self._records[event.key] = after, self._last
        if (group := unmatched_of(guarded)) is not None:
            tables.join(self.connection, group)
        held = guarded.held if isinstance(guarded, Bounced) else None
        return Recorded(before, after, fresh=True, held=held, turned=(*outages, *incidents.told(self, guarded)))

    def write(self) -> None:
        """Write what waits."""
        _put(self.connection, tables.ADD_NUMBERED, self._events)
        _put(self.connection, tables.PUT_STANDING, self._standings)
        _put(self.connection, tables.PUT_WATCH, [(provider, watch_numbers(watch)) for provider, watch in self._observed.items()])
        self._write_incidents()
        if self._tallies:
            tables.count(self.connection, self._tallies)
        self._events, self._standings, self._observed = [], [], {}
        self._tallies.clear()

    def watch(self, provider: str) -> Watch | None:
        """Return what the guard remembers of a provider."""
        return self._watches[provider]

    def put_watch(self, provider: str, watch: Watch) -> None:
        """Remember it."""
        self._watches[provider] = self._observed[provider] = watch

    def open_incidents(self, kind: Kind | None = None, subject: str | None = None) -> Sequence[Incident]:
        """Return what is open, of a kind, of a subject."""
        if kind is None or subject is None:
            self._write_incidents()
            return super().open_incidents(kind, subject)
        place = kind, tables.as_ascii(subject)
        if (found := self._open.get(place)) is None:
            found = self._open[place] = super().open_incidents(kind, subject)
        return found

    def put_incident(self, incident: Incident) -> None:
        """Add or replace an incident."""
        others = [one for one in self.open_incidents(incident.kind, incident.subject) if one.id != incident.id]
        place = incident.kind, tables.as_ascii(incident.subject)
        self._open[place] = others if incident.closed_at is not None else sorted((*others, incident), key=lambda one: one.id)
        self._incidents[incident.id] = incident

    def places_since(self, at: int) -> incidents.Places:
        """Return places that hold all that was recorded from a time on."""
        self.write()
        return super().places_since(at)

    def bounces_since(self, at: int, places: incidents.Places) -> Iterator[tuple[int, Bounced]]:
        """Return the bounces among some places that were recorded from a time on, newest first, each with its place."""
        self.write()
        return super().bounces_since(at, places)

    def refold(self, key: AddressKey, policy: Policy) -> None:
        """Make the record of an address the fold of its history."""
        self.write()
        super().refold(key, policy)
        if key in self._records:
            self._records |= tables.load_all(self.connection, {key})

    def _remember(self, row: EventRow) -> None:
        if row.token is not None:
            self._of_mail[row.token].append(row)

    def _write_incidents(self) -> None:
        for incident in self._incidents.values():
            super().put_incident(incident)
        self._incidents.clear()


def _among(connection: sqlite3.Connection, statement: str, values: Collection[object]) -> Sequence[Sequence[Any]]:
    """Return what a statement finds of some values."""
    if not values:
        return ()
    # As many places as the next power of two, the last value in those that are left: few statements have to be prepared.
    places = 1 << (len(values) - 1).bit_length()
    listed = list(values)
    return connection.execute(_listing(statement, places), listed + listed[-1:] * (places - len(listed))).fetchall()


def _put(connection: sqlite3.Connection, statement: str, rows: Sequence[Sequence[object]]) -> None:
    """Write rows, some at once."""
    for first in range(0, len(rows), _AT_ONCE):
        some = rows[first : first + _AT_ONCE]
        connection.execute(_repeating(statement, len(some)), list(chain.from_iterable(some)))


@lru_cache(maxsize=64)
def _listing(statement: str, places: int) -> str:
    return statement.replace("(?)", f"({', '.join('?' * places)})")


@lru_cache(maxsize=64)
def _repeating(statement: str, rows: int) -> str:
    return _VALUES.sub(lambda values: ", ".join([values[0]] * rows), statement)
