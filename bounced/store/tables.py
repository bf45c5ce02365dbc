"""What is read from the tables and written to them: the SQL of the SQLite store.

For: the meaning of schema/*.sql, on any sqlite3 connection. Never: opening, beginning or committing; the caller decides what belongs
together.
"""

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from msgspec.structs import replace

from bounced.address import AddressKey
from bounced.guard import Watch
from bounced.incident import Incident, Kind, Ruling
from bounced.policy import Policy, fold, step
from bounced.record import AddressRecord, AnyEvent, Bounced, Cause, Standing
from bounced.scope import EVERYWHERE, Scope
from bounced.store import MOST_UNMATCHED, NoSuchIncident, Overview, Place, Tally, Unmatched, incidents
from bounced.store.rows import (
    CAUSES,
    EventRow,
    StandingRow,
    detail_without,
    event_of,
    event_row,
    incident_detail,
    incident_of,
    json_of,
    pack,
    standing_of,
    standing_row,
    watch_numbers,
    watch_of,
    without,
)

_STANDINGS = """
    SELECT scope, cause, category, since, released_at, detail, known_since, delivered_at, last_event
    FROM standing WHERE address = ? ORDER BY scope"""
_STANDINGS_OF_ALL = """
    SELECT address, scope, cause, category, since, released_at, detail, known_since, delivered_at, last_event
    FROM json_each(?) CROSS JOIN standing ON address = value ORDER BY address, scope"""
# In the order of the key: EVERYWHERE before every stream. The scopes are told apart here: `IN` would take twice the time.
_BLOCKING = "SELECT scope, cause, category, since, released_at, detail FROM standing WHERE address = ? AND cause IS NOT NULL"
_BLOCKING_OF_MANY = """
    SELECT address, scope, cause, category, since, released_at, detail
    FROM json_each(?) CROSS JOIN standing ON address = value WHERE cause IS NOT NULL"""
_OF_ONE_MAIL = "SELECT at, kind, address, scope, token, detail FROM event WHERE token = ? ORDER BY id"
# `previous` always points down: a damaged pointer must not walk in a circle.
_BACK = """
    WITH RECURSIVE back (id) AS (
        SELECT last_event FROM standing WHERE address = ? AND scope = '*'
        UNION ALL SELECT previous FROM event JOIN back USING (id) WHERE previous < id LIMIT ?)"""
_ALL = -1  # to SQLite, a limit that is none
_HISTORY = f"""{_BACK}
    SELECT at, kind, address, scope, token, detail FROM back JOIN event USING (id) ORDER BY id"""  # noqa: S608 - our own words
_ALL_STANDINGS = """
    SELECT address, scope, cause, category, since, released_at, detail FROM standing
    WHERE (address, scope) > (?, ?) ORDER BY address, scope LIMIT ?"""
# A piece at a time: one read of all would hold the log fast for seconds, and sort all of it in memory.
_PIECE_END = "SELECT address, scope FROM standing WHERE (address, scope) > (?, ?) ORDER BY address, scope LIMIT 1 OFFSET ?"
_BLOCKS = """
    SELECT CASE WHEN ifnull(json_extract(detail, '$.until') > ?, 1) AND ifnull(json_extract(detail, '$.rests_until') <= ?, 1)
        THEN cause END AS block, sum(scope = '*'), count(*)
    FROM standing WHERE (address, scope) > (?, ?) AND (address, scope) <= (?, ?) GROUP BY block"""
_KNOWN_BETWEEN = "SELECT count(*) FROM standing WHERE (address, scope) > (?, ?) AND (address, scope) <= (?, ?) AND scope = '*'"
_OUTCOMES = """
    SELECT CAST(json_extract(detail, '$.outcome.category') AS BLOB) AS category,
        CAST(json_extract(detail, '$.outcome.blocker.name') AS BLOB) AS blocker, count(*)
    FROM event WHERE id > ? AND id <= ? AND at >= ? AND kind = 'bounced' GROUP BY category, blocker"""
_AFTER_ALL = "\U0010ffff"
_READ_AT_ONCE = 20_000
_UNTOUCHED = standing_row(Standing(scope=EVERYWHERE))[1:]
ADD_NUMBERED = "INSERT INTO event (id, at, kind, address, scope, token, detail, previous) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_EVENT_AT = "INSERT INTO event (id, at, kind, address, scope, detail) VALUES (?, 0, ?, '', '*', '{}')"
_FORGOTTEN = "forgotten"
"""The kind of what stands where the last event was forgotten; it belongs to no address."""
_AFTER = "SELECT id, at, kind, address, scope, token, detail FROM event WHERE id > ? ORDER BY id LIMIT ?"
PUT_STANDING = """
    INSERT INTO standing (scope, cause, category, since, released_at, detail, known_since, delivered_at, last_event, address)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (address, scope) DO UPDATE SET cause = excluded.cause, category = excluded.category, since = excluded.since,
        released_at = excluded.released_at, detail = excluded.detail, known_since = excluded.known_since,
        delivered_at = excluded.delivered_at, last_event = excluded.last_event"""
_RULED_AT_ONCE = 500
_COUNT = """
    INSERT INTO tally (day, what, source, times) VALUES (?, ?, ?, ?)
    ON CONFLICT (day, what, source) DO UPDATE SET times = times + excluded.times"""
_UNMATCHED = "SELECT key, times, first, last, sample FROM unmatched ORDER BY times DESC, last DESC, key"
_JOIN = """
    INSERT INTO unmatched (key, times, first, last, sample) VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE
    SET times = times + excluded.times, first = min(first, excluded.first), last = max(last, excluded.last)"""
_PART = """
    DELETE FROM unmatched WHERE (SELECT count(*) FROM unmatched) > ? AND key = (SELECT key FROM unmatched ORDER BY last, key LIMIT 1)"""
_BOUNCES = """
    SELECT id, at, kind, address, scope, token, detail FROM event
    WHERE id > ? AND id <= ? AND at >= ? AND kind = 'bounced' ORDER BY id DESC"""
# What stands for a forgotten event has no time.
_NEXT = "SELECT id, at FROM event WHERE id > ? AND at > 0 ORDER BY id LIMIT 1"
# Events are recorded a little out of the order of their times; none so late.
_LATE = 3600
_PUT_INCIDENT = """
    INSERT INTO incident (id, kind, subject, opened_at, closed_at, detail) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET closed_at = excluded.closed_at, detail = excluded.detail"""
_OPEN = "SELECT detail FROM incident WHERE closed_at IS NULL AND kind = ifnull(?, kind) AND subject = ifnull(?, subject) ORDER BY id"
PUT_WATCH = "INSERT INTO watch (provider, numbers) VALUES (?, ?) ON CONFLICT (provider) DO UPDATE SET numbers = excluded.numbers"
_DROP_TALLIES = """
    DELETE FROM tally WHERE (day, what, source) IN
        (SELECT day, what, source FROM tally WHERE day < ? ORDER BY day, what, source LIMIT ?)"""
_TALLIED = """
    SELECT day, sum(times) FROM tally
    WHERE day IN (SELECT value FROM json_each(?)) AND what IN (SELECT value FROM json_each(?)) GROUP BY day"""


def look_up(connection: sqlite3.Connection, key: AddressKey) -> AddressRecord:
    """Return the record of an address. Raises RowError, sqlite3.Error."""
    return _load(connection, key)[0]


def history(connection: sqlite3.Connection, key: AddressKey, newest: int | None = None) -> Sequence[AnyEvent]:
    """Return the events of an address, oldest first: all, or the `newest` so many. Raises RowError, sqlite3.Error."""
    most = _ALL if newest is None else newest
    return tuple(event_of(EventRow(*row)) for row in connection.execute(_HISTORY, (key, most)).fetchall())


def any_forgotten(connection: sqlite3.Connection) -> bool:
    """Tell whether there is a pseudonym. Raises sqlite3.Error."""
    # Some addresses begin so too, and only they have an @.
    found = "SELECT 1 FROM standing WHERE address >= '#' AND address < '$' AND instr(address, '@') = 0 LIMIT 1"
    return connection.execute(found).fetchone() is not None


def blocking(connection: sqlite3.Connection, key: AddressKey) -> Sequence[Standing]:
    """Return what may keep mail from an address, in the order of scopes. Raises RowError, sqlite3.Error."""
    return [standing_of(StandingRow(*row)) for row in connection.execute(_BLOCKING, (key,)).fetchall()]


def blocking_of_many(connection: sqlite3.Connection, keys: Sequence[AddressKey]) -> Mapping[AddressKey, Sequence[Standing]]:
    """Return `blocking` of those that have any such standing: a fifth of the time for each of a hundred. Raises as it does."""
    found: dict[AddressKey, list[Standing]] = {}
    # Each of them once: else one asked for twice would have its standings twice.
    for key, *row in connection.execute(_BLOCKING_OF_MANY, (json_of(list(dict.fromkeys(keys))),)).fetchall():
        found.setdefault(AddressKey(key), []).append(standing_of(StandingRow(*row)))
    return found


def known_addresses(connection: sqlite3.Connection) -> int:
    """Count the addresses of which something is known. Raises sqlite3.Error."""
    return sum(connection.execute(_KNOWN_BETWEEN, piece).fetchone()[0] for piece in _pieces(connection))


def recipient_of(connection: sqlite3.Connection, opaque_id: str) -> AddressKey | None:
    """Return whom an opaque id means. Raises sqlite3.Error."""
    found = connection.execute("SELECT address FROM opaque WHERE id = ?", (pack(opaque_id),)).fetchall()
    return AddressKey(found[0][0]) if found else None


def tallies(connection: sqlite3.Connection, since: str = "") -> Mapping[Tally, int]:
    """Return the tallies from the day `since` on. Raises sqlite3.Error."""
    rows = connection.execute("SELECT day, what, source, times FROM tally WHERE day >= ?", (since,)).fetchall()
    return {Tally(day, what, source): times for day, what, source, times in rows}


def touch(connection: sqlite3.Connection) -> None:
    """Write a page as it is. Raises sqlite3.Error."""
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    connection.execute(f"PRAGMA user_version = {version}")


def unmatched(connection: sqlite3.Connection) -> Sequence[Unmatched]:
    """Return the groups of unmatched texts, the most frequent first. Raises sqlite3.Error."""
    return [Unmatched(*row) for row in connection.execute(_UNMATCHED).fetchall()]


def join(connection: sqlite3.Connection, group: Unmatched) -> None:
    """Count a text that no rule matched to its group, and keep so many groups. Raises sqlite3.Error."""
    connection.execute(_JOIN, (group.key, group.count, group.first, group.last, group.sample))
    connection.execute(_PART, (MOST_UNMATCHED,))


def rule_some(
    connection: sqlite3.Connection, identity: str, ruling: Ruling, after: AddressKey | None, policy: Policy
) -> tuple[AddressKey | None, int]:
    """Let a ruling reach the next addresses of an incident; return the last of them (None: there was none) and how many changed.

    Such an event has no token, and no guard or incident asks for it: what `record` does besides is not done, and the rows go in by the
    hundred. Raises NoSuchIncident, RowError, sqlite3.Error.
    """
    incident = Shelf(connection).incident(identity)
    if incident is None:
        raise NoSuchIncident(identity)
    keys = held_by(connection, identity, after, _RULED_AT_ONCE)
    number = last_event(connection)
    events: list[tuple[object, ...]] = []
    standings: list[tuple[object, ...]] = []
    for before, previous in load_all(connection, keys).values():
        event = incidents.ruling_on(before, incident)
        if event is not None and incident.ruling is ruling:
            number += 1
            events.append((number, *event_row(event), previous))
            ruled = step(before, event, policy)
            drop_gone(connection, before, ruled)
            standings += changed_rows(before, ruled, number)
    connection.executemany(ADD_NUMBERED, events)
    connection.executemany(PUT_STANDING, standings)
    return keys[-1] if keys else None, len(events)


def held_by(connection: sqlite3.Connection, identity: str, after: AddressKey | None, limit: int) -> Sequence[AddressKey]:
    """Return addresses of which an incident holds or held a verdict. Raises sqlite3.Error."""
    rows = connection.execute(
        "SELECT address FROM hold WHERE incident = ? AND address > ? ORDER BY address LIMIT ?", (identity, after or "", limit)
    ).fetchall()
    return [AddressKey(row[0]) for row in rows]


def all_incidents(connection: sqlite3.Connection) -> Sequence[Incident]:
    """Return all incidents, newest first. Raises RowError, sqlite3.Error."""
    return [incident_of(row[0]) for row in connection.execute("SELECT detail FROM incident ORDER BY opened_at DESC, id").fetchall()]


def standings(connection: sqlite3.Connection, after: Place | None, limit: int) -> Sequence[tuple[AddressKey, Standing]]:
    """Return standings in the order of address and scope. Raises RowError, sqlite3.Error."""
    rows = connection.execute(_ALL_STANDINGS, (*(after or ("", "")), limit)).fetchall()
    return [(AddressKey(row[0]), standing_of(StandingRow(*row[1:]))) for row in rows]


def overview(connection: sqlite3.Connection, since: int, now: int) -> Overview:
    """Count what there is. Raises sqlite3.Error."""
    known, blocks = 0, Counter[Cause]()
    for piece in _pieces(connection):
        for letter, addresses, times in connection.execute(_BLOCKS, (now, now, *piece)).fetchall():
            known += addresses
            if letter is not None:
                blocks[CAUSES[letter]] += times
    categories, blockers = Counter[str](), Counter[str]()
    for first in range(_last_before(connection, since), last_event(connection), _READ_AT_ONCE):
        for category, blocker, times in connection.execute(_OUTCOMES, (first, first + _READ_AT_ONCE, since)).fetchall():
            for counter, octets in ((categories, category), (blockers, blocker)):
                if octets is not None:
                    counter[octets.decode("utf-8", "replace")] += times
    return Overview(known, blocks, categories, blockers)


def _pieces(connection: sqlite3.Connection) -> Iterator[tuple[str, str, str, str]]:
    """Give the bounds of pieces of the standings: the place before each, and its last place. Raises sqlite3.Error."""
    last: tuple[str, str] | None = ("", "")
    while last is not None:
        after, last = last, connection.execute(_PIECE_END, (*last, _READ_AT_ONCE - 1)).fetchone()
        yield *after, *(last or (_AFTER_ALL, ""))


def events(connection: sqlite3.Connection, after: int, limit: int) -> Sequence[tuple[int, AnyEvent | None]]:
    """Return the events recorded after number `after`, each with its number. Raises RowError, sqlite3.Error."""
    rows = connection.execute(_AFTER, (after, limit)).fetchall()
    return [(number, None if row[1] == _FORGOTTEN else event_of(EventRow(*row))) for number, *row in rows]


def last_event(connection: sqlite3.Connection) -> int:
    """Return the number of the last event. Raises sqlite3.Error."""
    return int(connection.execute("SELECT ifnull(max(id), 0) FROM event").fetchone()[0])


def _last_before(connection: sqlite3.Connection, at: int) -> int:
    """Return the number of an event before all that happened from a time on, close to them; 0 where there is none. Raises sqlite3.Error."""
    first, last = 0, last_event(connection)
    while first < last:
        middle = (first + last) // 2
        found = connection.execute(_NEXT, (middle,)).fetchone()
        if found is not None and found[1] < at - _LATE:
            first = found[0]
        else:
            last = middle
    return int(first)


def forget(connection: sqlite3.Connection, key: AddressKey) -> None:
    """Erase an address where it is named as such, and from the samples of incidents. Raises RowError, sqlite3.Error."""
    last = last_event(connection)
    connection.execute(f"{_BACK} DELETE FROM event WHERE id IN (SELECT id FROM back)", (key, _ALL))  # noqa: S608 - our own words
    if last_event(connection) < last:
        # Else its number would be given again, and whoever has read so far would miss an event.
        connection.execute(_ADD_EVENT_AT, (last, _FORGOTTEN))
    for table in ("standing", "opaque", "hold"):
        connection.execute(f"DELETE FROM {table} WHERE address = ?", (key,))  # noqa: S608 - our own words
    shelf = Shelf(connection)
    for incident in all_incidents(connection):
        sample = without(incident.sample, key)
        if sample != incident.sample:
            shelf.put_incident(replace(incident, sample=sample))


def forget_mentions(connection: sqlite3.Connection, key: AddressKey, after: int) -> int | None:
    """Take an address out of what the next events of others say; return the last one looked at. None: there was none."""
    ((last,),) = connection.execute("SELECT max(id) FROM (SELECT id FROM event WHERE id > ? ORDER BY id LIMIT ?)", (after, _READ_AT_ONCE))
    if last is None:
        return None
    local_part = key.rpartition("@")[0]
    # What is said is JSON in ASCII: the part of it that SQL can find whatever the case.
    plain = max(re.findall(r"[a-z0-9]+", local_part.lower()) or [""], key=len)
    rows = connection.execute(
        "SELECT id, detail FROM event WHERE id > ? AND id <= ? AND instr(lower(detail), ?)", (after, last, plain)
    ).fetchall()
    for place, detail in rows:
        said = detail_without(detail, key)
        if said != detail:
            connection.execute("UPDATE event SET detail = ? WHERE id = ?", (said, place))
    return int(last)


def count(connection: sqlite3.Connection, tallies: Mapping[Tally, int]) -> None:
    """Add to the tallies. Raises sqlite3.Error."""
    connection.executemany(_COUNT, [(tally.day, tally.what, tally.source, times) for tally, times in tallies.items()])


def intern(connection: sqlite3.Connection, opaque_id: str, key: AddressKey) -> AddressKey:
    """Write down whom an opaque id means, unless it means somebody already; return whom it means now. Raises sqlite3.Error."""
    connection.execute("INSERT INTO opaque (id, address) VALUES (?, ?) ON CONFLICT DO NOTHING", (pack(opaque_id), key))
    return recipient_of(connection, opaque_id) or key


def _load(connection: sqlite3.Connection, key: AddressKey) -> tuple[AddressRecord, int | None]:
    """Return the record of an address and the id of its last event."""
    return _record_of(key, connection.execute(_STANDINGS, (key,)).fetchall())


def load_all(connection: sqlite3.Connection, keys: Collection[AddressKey]) -> dict[AddressKey, tuple[AddressRecord, int | None]]:
    """Return the records of some addresses, each with the id of its last event. Raises RowError, sqlite3.Error."""
    rows = connection.execute(_STANDINGS_OF_ALL, (json_of(list(keys)),)).fetchall()
    found = {AddressKey(key): _record_of(AddressKey(key), [row[1:] for row in of_key]) for key, of_key in groupby(rows, key=itemgetter(0))}
    return {key: found.get(key) or (AddressRecord(key=key), None) for key in keys}


def _record_of(key: AddressKey, rows: Sequence[tuple[Any, ...]]) -> tuple[AddressRecord, int | None]:
    if not rows:
        return AddressRecord(key=key), None
    # '*' sorts before every stream.
    known_since, delivered_at, last_event = rows[0][-3:]
    touched = tuple(standing_of(StandingRow(*row[:-3])) for row in rows if row[1:-3] != _UNTOUCHED)
    return AddressRecord(key=key, standings=touched, known_since=known_since, delivered_at=delivered_at), last_event


def gone(before: AddressRecord, after: AddressRecord) -> Sequence[Scope]:
    """Return the streams of which nothing is left to say."""
    return [one.scope for one in before.standings if one.scope != EVERYWHERE and after.standing(one.scope) == Standing(scope=one.scope)]


def drop_gone(connection: sqlite3.Connection, before: AddressRecord, after: AddressRecord) -> None:
    """Delete the standings that went. Raises sqlite3.Error."""
    connection.executemany("DELETE FROM standing WHERE address = ? AND scope = ?", [(after.key, scope) for scope in gone(before, after)])


def changed_rows(before: AddressRecord, after: AddressRecord, last_event: int | None) -> Sequence[tuple[object, ...]]:
    """Return what to write of the standings that changed, and of the one everywhere: it holds the end of the history."""
    changed = [one for one in after.standings if one.scope != EVERYWHERE and one != before.standing(one.scope)]
    own = (after.known_since, after.delivered_at, last_event)
    rows = [(*standing_row(after.standing(EVERYWHERE)), *own, after.key)]
    return rows + [(*standing_row(one), None, None, None, after.key) for one in changed]


class Shelf:
    """What the course of incidents asks of this backend (bounced/store/incidents.py). Everything may raise RowError, sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Look into the database on a connection, in the transaction that its owner began."""
        self.connection = connection

    def watch(self, provider: str) -> Watch | None:
        """Return what the guard remembers of a provider."""
        found = self.connection.execute("SELECT numbers FROM watch WHERE provider = ?", (provider,)).fetchall()
        return watch_of(found[0][0]) if found else None

    def put_watch(self, provider: str, watch: Watch) -> None:
        """Remember it."""
        self.connection.execute(PUT_WATCH, (provider, watch_numbers(watch)))

    def incident(self, identity: str) -> Incident | None:
        """Return one incident."""
        found = self.connection.execute("SELECT detail FROM incident WHERE id = ?", (identity,)).fetchall()
        return incident_of(found[0][0]) if found else None

    def open_incidents(self, kind: Kind | None = None, subject: str | None = None) -> Sequence[Incident]:
        """Return what is open, of a kind, of a subject."""
        return [incident_of(row[0]) for row in self.connection.execute(_OPEN, (kind, as_ascii(subject))).fetchall()]

    def put_incident(self, incident: Incident) -> None:
        """Add or replace an incident."""
        row = (incident.id, incident.kind, as_ascii(incident.subject), incident.opened_at, incident.closed_at, incident_detail(incident))
        self.connection.execute(_PUT_INCIDENT, row)

    def hold(self, identity: str, key: AddressKey) -> None:
        """Remember that an incident holds, or held, a verdict on an address."""
        self.connection.execute("INSERT INTO hold (incident, address) VALUES (?, ?) ON CONFLICT DO NOTHING", (identity, key))

    def places_since(self, at: int) -> incidents.Places:
        """Return places that hold all that was recorded from a time on."""
        return _last_before(self.connection, at), last_event(self.connection)

    def bounces_since(self, at: int, places: incidents.Places) -> Iterator[tuple[int, Bounced]]:
        """Return the bounces among some places that were recorded from a time on, newest first, each with its place."""
        for place, *columns in self.connection.execute(_BOUNCES, (*places, at)).fetchall():
            event = event_of(EventRow(*columns))
            if isinstance(event, Bounced):
                yield place, event

    def rewrite(self, place: int, event: Bounced) -> None:
        """Put an event with its hold where it stood without."""
        self.connection.execute("UPDATE event SET detail = ? WHERE id = ?", (event_row(event).detail, place))

    def refold(self, key: AddressKey, policy: Policy) -> None:
        """Make the record of an address the fold of its history."""
        before, last_event = _load(self.connection, key)
        after = fold(key, history(self.connection, key), policy)
        drop_gone(self.connection, before, after)
        self.connection.executemany(PUT_STANDING, changed_rows(before, after, last_event))

    def tallied(self, days: Sequence[str], words: Sequence[str]) -> dict[str, int]:
        """Return the sums of the tallies of some words, by day."""
        return dict(self.connection.execute(_TALLIED, (json.dumps(days), json.dumps(words))).fetchall())

    def drop_tallies(self, before: str, most: int) -> None:
        """Drop the oldest tallies of the days before one, so many at most."""
        self.connection.execute(_DROP_TALLIES, (before, most))


def as_ascii(text: str | None) -> str | None:
    """Make a stranger's word fit for a column: lone surrogates do not."""
    return None if text is None else text.encode("ascii", "backslashreplace").decode("ascii")
