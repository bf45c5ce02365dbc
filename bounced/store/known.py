"""Which addresses a database may know, in memory, so that a question about a stranger costs no SQL.

For: the lookups of the SQLite store. Never: an answer about an address that it may know, and never one older than the last commit, whoever
made it: SQLite's own word for "nothing was committed since" is looked at before each.
"""

import mmap
import os
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from bounced.store.files import beside

# https://www.sqlite.org/walformat.html#the_wal_index_file_format: the header that each commit rewrites, and its second copy.
_HEADER = 96
_LEAST_BITS = 1 << 20
_INDEXES: dict[tuple[int, int], mmap.mmap] = {}
"""Never closed: to close any descriptor of a file drops every lock that SQLite holds on it in this process (fcntl(2))."""

_LAST = "SELECT ifnull(max(id), 0) FROM event"
_SINCE = "SELECT DISTINCT address FROM event WHERE id > ? LIMIT ?"
_SLICE = "SELECT address FROM standing WHERE address > ? AND scope = '*' ORDER BY address LIMIT ?"
_Address = TypeVar("_Address", bound=str)
MOST_BEHIND = 2000
"""Addresses that are added before a question is answered; a filter that is further behind is made anew."""


class Commits:
    """Tells whether anything was committed to a database since one looked: 0.1 us, where `PRAGMA data_version` takes 4."""

    def __init__(self, path: Path) -> None:
        """Map the index of the write-ahead log of the database at `path`, which this process has open already. Raises OSError."""
        descriptor = os.open(beside(path, "-shm"), os.O_RDONLY | os.O_CLOEXEC)
        identity = (os.fstat(descriptor).st_dev, os.fstat(descriptor).st_ino)
        if identity not in _INDEXES:
            _INDEXES[identity] = mmap.mmap(descriptor, _HEADER, prot=mmap.PROT_READ)
        self._index = _INDEXES[identity]

    def now(self) -> bytes:
        """Return what each commit changes."""
        return self._index[:_HEADER]


class Filter:
    """A Bloom filter of addresses, two bits each. What is not in it is not known; of what is not known, it takes 1 to 5 % for known."""

    def __init__(self, addresses: int) -> None:
        """Make room for so many and half as many more; 1.5 to 3 octets each."""
        bits = max(_LEAST_BITS, 1 << (12 * addresses).bit_length())
        self.octets = bytearray(bits >> 3)
        self.mask = bits - 1
        self.room = bits // 8
        self._shift = sys.hash_info.width - bits.bit_length() + 1

    def add(self, addresses: Sequence[str]) -> None:
        """Put addresses in."""
        octets, mask, shift = self.octets, self.mask, self._shift
        for address in addresses:
            value = hash(address)
            first, second = value & mask, (value >> shift) & mask
            octets[first >> 3] |= 1 << (first & 7)
            octets[second >> 3] |= 1 << (second & 7)
        self.room -= len(addresses)

    def may_hold(self, address: str) -> bool:
        """Tell whether an address may have been put in."""
        value = hash(address)
        place = value & self.mask
        if not self.octets[place >> 3] >> (place & 7) & 1:
            return False
        place = (value >> self._shift) & self.mask
        return bool(self.octets[place >> 3] >> (place & 7) & 1)

    def which_may_hold(self, addresses: Sequence[_Address]) -> Sequence[_Address]:
        """Return those that `may_hold` tells of."""
        octets, mask, shift = self.octets, self.mask, self._shift
        first = [one for one in addresses if octets[(place := hash(one) & mask) >> 3] >> (place & 7) & 1]
        return [one for one in first if octets[(place := hash(one) >> shift & mask) >> 3] >> (place & 7) & 1]


class Known:
    """A filter of all addresses that a database knows. It is caught up with what was committed before it is asked."""

    def __init__(self, connection: sqlite3.Connection, commits: Commits, addresses: int) -> None:
        """Begin to read: `slice` until it returns False. Raises sqlite3.Error."""
        self._connection = connection
        self._commits = commits
        self._seen = commits.now()
        self._last = _last(connection)
        self._filter = Filter(addresses)
        self._after = ""
        self._forgotten = False

    def slice(self, addresses: int) -> bool:
        """Read so many more addresses; tell whether there are more to come. Raises sqlite3.Error."""
        rows = self._connection.execute(_SLICE, (self._after, addresses)).fetchall()
        self._add([row[0] for row in rows])
        if rows:
            self._after = rows[-1][0]
        return len(rows) == addresses

    def may_hold(self, address: str) -> bool | None:
        """Tell whether the database may know an address; None where it is too far behind, and has to be made anew. Raises sqlite3.Error."""
        if (now := self._commits.now()) != self._seen:
            if not self._catch_up():
                return None
            # What is committed from here on changes it again.
            self._seen = now
        return self._filter.may_hold(address)

    def version(self) -> bytes:
        """Return what each commit changes."""
        return self._commits.now()

    def which_may_hold(self, addresses: Sequence[_Address]) -> Sequence[_Address]:
        """Return those that the database may know, as far as `may_hold` was asked just now."""
        return self._filter.which_may_hold(addresses)

    def any_forgotten(self) -> bool:
        """Tell whether the database may know a pseudonym; False is certain. Raises sqlite3.Error."""
        if self._commits.now() != self._seen and self.may_hold("") is None:
            return True
        return self._forgotten

    def _add(self, addresses: Sequence[str]) -> None:
        self._filter.add(addresses)
        # A pseudonym has no @.
        self._forgotten = self._forgotten or not all("@" in address or not address for address in addresses)

    def _catch_up(self) -> bool:
        """Add the addresses of all events since; False where they are too many."""
        # The last number first: what is recorded between the two is added now, and once more the next time.
        last = _last(self._connection)
        if last == self._last:
            return True
        added = self._connection.execute(_SINCE, (self._last, MOST_BEHIND + 1)).fetchall()
        if len(added) > min(MOST_BEHIND, self._filter.room):
            return False
        self._add([row[0] for row in added])
        self._last = last
        return True


def _last(connection: sqlite3.Connection) -> int:
    return int(connection.execute(_LAST).fetchone()[0])
