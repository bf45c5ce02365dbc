"""Lists of others, put into the tables by the thousand.

For: Store.take_over of the SQLite store, in the transaction of whoever calls. Never: how a list is written (takeover knows).
"""

import sqlite3
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter

from bounced.address import AddressKey
from bounced.policy import Policy, no_firmer, step
from bounced.record import AddressRecord, Imported
from bounced.scope import EVERYWHERE
from bounced.store import ledger, tables
from bounced.store.rows import CAUSES, event_row, imported_detail, json_of, standing_row
from bounced.takeover import Taken, imported

# Their rows come as a list in JSON: a number for each column would have to be bound for each row.
_ADD_IMPORTED = """
    INSERT INTO event (id, at, kind, address, scope, detail)
    SELECT :first + key, :at, 'imported', {address}, '*', :before || {since} || :after FROM json_each(:rows)"""
_STAND_AS_IMPORTED = """
    INSERT INTO standing (address, scope, cause, category, since, detail, known_since, last_event)
    SELECT {address}, '*', :cause, :category, {since}, :detail, :at, :first + key FROM json_each(:rows)"""
_ALIKE = [statement.format(address="value", since=":since") for statement in (_ADD_IMPORTED, _STAND_AS_IMPORTED)]
# Each row is "TIME ADDRESS", the time in so many characters: to take the two apart costs half as much as all the rest.
_TIME = 13
_DATED = [
    statement.format(address=f"substr(value, {_TIME + 2})", since="CAST(value AS INTEGER)")
    for statement in (_ADD_IMPORTED, _STAND_AS_IMPORTED)
]
_ANY_BETWEEN = "SELECT 1 FROM standing WHERE address BETWEEN ? AND ? LIMIT 1"
_KNOWN_AMONG = "SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM standing WHERE address = value)"
_PLAINLY_BLOCKED = """
    SELECT address, cause FROM json_each(?) JOIN standing ON address = value AND scope = '*' AND cause IS NOT NULL AND detail IS NULL"""


def take_over(connection: sqlite3.Connection, blocks: Sequence[Taken], policy: Policy, *, at: int, by: str, source: str) -> int:
    """Add the blocks of another list; return how many changed anything. Raises RowError, sqlite3.Error.

    Of an address that nobody knows yet the outcome is the same for all blocks of one kind: it is worked out once, and the rows go in by the
    thousand. Every other block is stepped like any event.
    """
    seen = set(_known_among(connection, sorted(chain.from_iterable(block.keys for block in blocks))))
    changed = 0
    for block in blocks:
        new = set(block.keys) - seen if block.scope == EVERYWHERE else set()
        seen.update(block.keys)
        fresh, others = (block, None) if len(new) == len(block.keys) else _parted(block, new)
        if fresh.keys:
            like = imported(fresh, fresh.keys[0], fresh.since[0], at=at, by=by, source=source)
            _add_strangers(connection, fresh, like, policy)
            changed += len(fresh.keys)
        if others is not None:
            done = _no_softer(connection, others)
            for key, since in zip(others.keys, others.since, strict=True):
                if key not in done:
                    event, before = imported(others, key, since, at=at, by=by, source=source), tables.look_up(connection, key)
                    if step(before, event, policy).standings != before.standings:
                        ledger.record(connection, [(event, event_row(event))], policy)
                        changed += 1
    return changed


def _parted(block: Taken, new: set[AddressKey]) -> tuple[Taken, Taken]:
    """Part what is told of new addresses for the first time from the rest; empties `new`."""
    fresh, others = block._replace(keys=[], since=[]), block._replace(keys=[], since=[])
    for key, since in zip(block.keys, block.since, strict=True):
        part = fresh if key in new else others
        new.discard(key)
        part.keys.append(key)
        part.since.append(since)
    return fresh, others


def _add_strangers(connection: sqlite3.Connection, block: Taken, like: Imported, policy: Policy) -> None:
    """Add blocks of addresses that nobody knows, of which the first is `like`.

    In two statements, and not two for each: they run without Python's lock, so that whoever else runs here goes on.
    """
    if len(set(block.since)) == 1:
        statements, rows = _ALIKE, json_of(sorted(block.keys))
    else:
        pairs = sorted(zip(block.keys, block.since, strict=True), key=itemgetter(0))
        statements = _DATED
        rows = json_of([f"{like.at if since is None else min(since, like.at):0{_TIME}} {key}" for key, since in pairs])
    before, after = imported_detail(like)
    row = standing_row(step(AddressRecord(key=like.key), like, policy).standing(EVERYWHERE))
    told = {"at": like.at, "since": like.since, "cause": row.cause, "category": row.category, "detail": row.detail}
    told |= {"first": tables.last_event(connection) + 1, "before": before, "after": after, "rows": rows}
    for statement in statements:
        connection.execute(statement, told)


def _no_softer(connection: sqlite3.Connection, block: Taken) -> set[AddressKey]:
    """Return the addresses that are blocked everywhere at least as firmly, for good, and without anything to remember besides."""
    if block.scope != EVERYWHERE:
        return set()
    rows = connection.execute(_PLAINLY_BLOCKED, (json_of(block.keys),)).fetchall()
    return {AddressKey(address) for address, letter in rows if no_firmer(block.cause, CAUSES[letter])}


def _known_among(connection: sqlite3.Connection, keys: Sequence[AddressKey]) -> Sequence[AddressKey]:
    """Return those of some addresses, in their order, that are known."""
    if not keys or not connection.execute(_ANY_BETWEEN, (keys[0], keys[-1])).fetchall():
        return ()
    return [AddressKey(row[0]) for row in connection.execute(_KNOWN_AMONG, (json_of(keys),)).fetchall()]
