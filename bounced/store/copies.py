"""Copies of the database: made while it is served, checked, and put in its place.

For: a backup that has every write that was durable before it began. Never: an open read of many seconds: SQLite's backup runs on the
writing connection, which tells it of each page that is written meanwhile (https://www.sqlite.org/backup.html), so nothing is held fast. A
process that only reads asks the one that writes.
"""

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from bounced.fault import OperatorFault
from bounced.store import StoreFault, files

_PAGES = 256
"""Pages that are copied in one go: 1 MiB, a millisecond or two in which a commit waits."""

_PAUSE = 0.002
"""Seconds in which commits come first, after each piece, and before the next try where one is going on."""


class Copy:
    """One copy, to `draft`, of the database at `path`, to which `connection` writes."""

    def __init__(self, connection: sqlite3.Connection, path: Path, draft: Path) -> None:
        """Prepare; nothing is written yet."""
        self._connection = connection
        self._path = path
        self._draft = draft
        self._given_up = False

    def made(self) -> Path:
        """Copy, in a thread of its own, and return the draft, which is a whole copy then. Raises StoreFault, sqlite3.Error, OSError."""
        if sqlite3.threadsafety < 3:
            raise StoreFault("this build of SQLite cannot copy while it writes; stop the daemon and copy the file")
        # Room for the copy, and as much again for what comes meanwhile: a copy must not put bounces off.
        size = self._path.stat().st_size
        if shutil.disk_usage(self._path.parent).free < 2 * size:
            raise StoreFault(f"there is no room for a copy of {size >> 20} MiB beside the database")
        self._draft.unlink(missing_ok=True)
        try:
            os.close(os.open(self._draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            _copy(self._connection, self._draft, progress=self._go_on)
        except BaseException:
            self._draft.unlink(missing_ok=True)
            raise
        return self._draft

    def give_up(self) -> None:
        """Let `made` end soon, with StoreFault."""
        self._given_up = True

    def _go_on(self, _status: int, _remaining: int, _total: int) -> None:
        if self._given_up:
            raise StoreFault("the copy was given up: the store is closed, or opened anew after an error of the disk")
        time.sleep(_PAUSE)


def _copy(source: sqlite3.Connection, draft: Path, *, progress: Callable[[int, int, int], None] | None = None) -> None:
    """Fill `draft`, an empty file, from a database. Raises sqlite3.Error."""
    with closing(sqlite3.connect(draft, isolation_level=None)) as target:
        # It is worth nothing until it is whole, and whoever keeps it syncs it.
        target.execute("PRAGMA synchronous = OFF")
        source.backup(target, pages=_PAGES, progress=progress, sleep=_PAUSE)
        # One file that needs no other beside it.
        target.execute("PRAGMA journal_mode = DELETE").fetchall()


def verify(copy: Path) -> None:
    """Read a copy as a whole. Raises OperatorFault if it is damaged, or no database of ours."""
    try:
        with closing(sqlite3.connect(f"{copy.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)) as connection:
            files.refuse_strangers(connection, copy)
            files.check(connection, copy)
    except sqlite3.Error as error:
        raise OperatorFault(f"{copy} cannot be used: {files.sqlite_words(error)}", "take another backup") from None


def restore(copy: Path, path: Path) -> Path | None:
    """Put `copy` in the place of the database at `path`, which nobody may serve now; return where the old one is kept, if there was one.

    What is cut short is finished by doing it again; until then nothing is served. Raises OperatorFault, OSError.
    """
    claim = files.Claim(path)
    try:
        draft, old = files.beside(path, ".new"), files.beside(path, ".old")
        draft.unlink(missing_ok=True)
        try:
            # Not octet by octet: an old database may have a log beside it.
            with closing(files.connect_reader(copy)) as source:
                _copy(source, draft)
        except sqlite3.Error as error:
            raise OperatorFault(f"{copy} cannot be used: {files.sqlite_words(error)}", "take another backup") from None
        verify(draft)
        _hand_over(draft, path)
        claim.write(files.State.RESTORING)
        _hand_over(files.beside(path, ".state"), path)
        # The log first: a database without its log is refused, but a log beside another database is not seen.
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                files.beside(path, suffix).replace(files.beside(old, suffix))
        draft.replace(path)
        files.sync_directory(path)
        claim.write(files.State.CLOSED)
        return old if old.exists() else None
    finally:
        claim.release()


def _hand_over(file: Path, path: Path) -> None:
    """Let the daemon use a file, whoever made it, and put it on disk. Raises OSError."""
    file.chmod(0o640)
    owner = path.parent.stat()
    if os.geteuid() == 0:
        os.chown(file, owner.st_uid, owner.st_gid)
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
