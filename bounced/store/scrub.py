"""Reading the whole database for damage while it is served, a little at a time.

For: finding what has rotted in a file that the start took for sound, since it looked as it did when it was closed; to read 10 million
addresses first would keep mailers waiting for seconds. Never: a long read, which would hold the write-ahead log fast, and never a write.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from bounced.fault import OperatorFault
from bounced.store import files

AT_ONCE = 2000
"""Rows that are read in one go: a few milliseconds."""

_Key = tuple[int | str | bytes, ...]

# What grows is walked in the order of its keys: the name, how to go on after a key, and the key before all others.
_WALKS: tuple[tuple[str, str, _Key], ...] = (
    ("event", "SELECT * FROM event WHERE id > ? ORDER BY id LIMIT ?", (-1,)),
    (
        "event_token",
        "SELECT token, id FROM event INDEXED BY event_token WHERE token >= ?1 AND (token, id) > (?1, ?2) ORDER BY token, id LIMIT ?3",
        ("", -1),
    ),
    ("standing", "SELECT * FROM standing WHERE (address, scope) > (?, ?) ORDER BY address, scope LIMIT ?", ("", "")),
    ("opaque", "SELECT * FROM opaque WHERE id > ? ORDER BY id LIMIT ?", ("",)),
    ("hold", "SELECT * FROM hold WHERE (incident, address) > (?, ?) ORDER BY incident, address LIMIT ?", ("", "")),
)
_SMALL = ("incident", "watch", "unmatched", "tally")


def pieces(path: Path) -> Iterator[None]:
    """Read the database at `path`, a piece at each step of the iterator. Raises OperatorFault for damage.

    Raises sqlite3.Error where nothing can be read now; then it is at its end.
    """
    for table in _SMALL:
        if _read(path, table, f"PRAGMA quick_check({table})") != [("ok",)]:
            raise _damaged(path, table)
        yield
    for name, walk, first in _WALKS:
        key, rows = first, AT_ONCE
        while rows == AT_ONCE:
            rows, key = _piece(path, name, walk, key)
            yield


def _piece(path: Path, name: str, walk: str, after: _Key) -> tuple[int, _Key]:
    """Read the next rows of a walk; return how many there were, and the key of the last."""
    rows = _read(path, name, walk, (*after, AT_ONCE))
    for row in rows:
        key = row[: len(after)]
        # Where keys are out of order, what is there is not found.
        if _rank(key) <= _rank(after):
            raise _damaged(path, name)
        after = key
    return len(rows), after


def _read(path: Path, name: str, sql: str, words: Sequence[object] = ()) -> list[tuple[int | str | bytes, ...]]:
    try:
        with closing(files.connect_reader(path)) as reader:
            return reader.execute(sql, words).fetchall()
    except sqlite3.DatabaseError as error:
        # A text that is no UTF-8 has no code of SQLite's.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
        if code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise _damaged(path, name) from None
        raise


def _damaged(path: Path, name: str) -> OperatorFault:
    return OperatorFault(f"{path} is damaged, in {name}: found while it was served", files.RESTORE)


def _rank(key: _Key) -> tuple[tuple[bool, int | str | bytes], ...]:
    """Return what sorts as SQLite does: texts before octets."""
    return tuple((isinstance(part, bytes), part) for part in key)
