"""What is read from the tables and written to them: the SQL of the SQLite store.

For: the meaning of schema/*.sql, on any sqlite3 connection. Never: opening, beginning or committing; the caller decides what belongs
together.
"""

import sqlite3
from collections.abc import Mapping, Sequence

from bounced.address import AddressKey
from bounced.policy import Policy, adds, step
from bounced.record import AddressRecord, AnyEvent, Standing
from bounced.scope import EVERYWHERE
from bounced.store import Recorded, Tally
from bounced.store.rows import EventRow, StandingRow, event_of, pack, replayed, standing_of, standing_row

_STANDINGS = """
    SELECT scope, cause, category, since, strikes, released_at, last_event FROM standing WHERE address = ? ORDER BY scope"""
_OF_ONE_MAIL = "SELECT at, kind, address, scope, token, detail FROM event WHERE token = ? ORDER BY id"
# `previous` always points down: a damaged pointer must not walk in a circle.
_HISTORY = """
    WITH RECURSIVE back (id) AS (
        SELECT last_event FROM standing WHERE address = ? AND scope = '*'
        UNION ALL SELECT previous FROM event JOIN back USING (id) WHERE previous < id)
    SELECT at, kind, address, scope, token, detail FROM back JOIN event USING (id) ORDER BY id"""
_UNTOUCHED = standing_row(Standing(scope=EVERYWHERE))[1:]
_ADD_EVENT = "INSERT INTO event (at, kind, address, scope, token, detail, previous) VALUES (?, ?, ?, ?, ?, ?, ?)"
_PUT_STANDING = """
    INSERT INTO standing (scope, cause, category, since, strikes, released_at, last_event, address)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (address, scope) DO UPDATE SET cause = excluded.cause, category = excluded.category, since = excluded.since,
        strikes = excluded.strikes, released_at = excluded.released_at, last_event = excluded.last_event"""
_COUNT = """
    INSERT INTO tally (day, what, source, times) VALUES (?, ?, ?, ?)
    ON CONFLICT (day, what, source) DO UPDATE SET times = times + excluded.times"""


def look_up(connection: sqlite3.Connection, key: AddressKey) -> AddressRecord:
    """Return the record of an address. Raises RowError, sqlite3.Error."""
    return _load(connection, key)[0]


def history(connection: sqlite3.Connection, key: AddressKey) -> Sequence[AnyEvent]:
    """Return the events of an address, oldest first. Raises RowError, sqlite3.Error."""
    return tuple(event_of(EventRow(*row)) for row in connection.execute(_HISTORY, (key,)).fetchall())


def recipient_of(connection: sqlite3.Connection, opaque_id: str) -> AddressKey | None:
    """Return whom an opaque id means. Raises sqlite3.Error."""
    found = connection.execute("SELECT address FROM opaque WHERE id = ?", (pack(opaque_id),)).fetchall()
    return AddressKey(found[0][0]) if found else None


def tallies(connection: sqlite3.Connection) -> Mapping[Tally, int]:
    """Return all tallies. Raises sqlite3.Error."""
    rows = connection.execute("SELECT day, what, source, times FROM tally").fetchall()
    return {Tally(day, what, source): times for day, what, source, times in rows}


def record(connection: sqlite3.Connection, event: AnyEvent, row: EventRow, policy: Policy) -> Recorded:
    """Add `event`, whose columns are `row`, and step its record; tally it instead if its token told as much before.

    Raises RowError, sqlite3.Error; whoever began the transaction rolls it back.
    """
    before, last_event = _load(connection, event.key)
    if row.token is not None:
        earlier = connection.execute(_OF_ONE_MAIL, (row.token,)).fetchall()
        if earlier and not adds(event, (event_of(EventRow(*past)) for past in earlier)):
            count(connection, {replayed(event): 1})
            return Recorded(before, before, fresh=False)
    after = step(before, event, policy)
    added = connection.execute(_ADD_EVENT, (*row, last_event)).lastrowid
    _put(connection, before, after, added)
    return Recorded(before, after, fresh=True)


def count(connection: sqlite3.Connection, tallies: Mapping[Tally, int]) -> None:
    """Add to the tallies. Raises sqlite3.Error."""
    connection.executemany(_COUNT, [(tally.day, tally.what, tally.source, times) for tally, times in tallies.items()])


def intern(connection: sqlite3.Connection, opaque_id: str, key: AddressKey) -> AddressKey:
    """Write down whom an opaque id means, unless it means somebody already; return whom it means now. Raises sqlite3.Error."""
    connection.execute("INSERT INTO opaque (id, address) VALUES (?, ?) ON CONFLICT DO NOTHING", (pack(opaque_id), key))
    return recipient_of(connection, opaque_id) or key


def _load(connection: sqlite3.Connection, key: AddressKey) -> tuple[AddressRecord, int | None]:
    """Return the record of an address and the id of its last event."""
    rows = connection.execute(_STANDINGS, (key,)).fetchall()
    if not rows:
        return AddressRecord(key=key), None
    touched = tuple(standing_of(StandingRow(*row[:-1])) for row in rows if row[1:-1] != _UNTOUCHED)
    return AddressRecord(key=key, standings=touched), rows[0][-1]


def _put(connection: sqlite3.Connection, before: AddressRecord, after: AddressRecord, last_event: int | None) -> None:
    """Write the standings that changed, and the one everywhere, since it holds the end of the history."""
    for gone in before.standings:
        if gone.scope != EVERYWHERE and after.standing(gone.scope) == Standing(scope=gone.scope):
            connection.execute("DELETE FROM standing WHERE address = ? AND scope = ?", (after.key, gone.scope))
    changed = (standing for standing in after.standings if standing.scope != EVERYWHERE and standing != before.standing(standing.scope))
    for standing in (after.standing(EVERYWHERE), *changed):
        end = last_event if standing.scope == EVERYWHERE else None
        connection.execute(_PUT_STANDING, (*standing_row(standing), end, after.key))
