"""A Maildir that has the mail on disk before it says so.

For: mail to postmaster and abuse, and returned mail that nobody could read. Never: the store's work; what is kept here is for people.
"""

import asyncio
import gzip
import itertools
import os
import socket
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from bounced.fault import OwnFault

_MOST_MESSAGES = 10_000
"""A small message takes a whole block of the disk, and all are looked at whenever one more comes."""


class Maildir:
    """Messages in `path`, one file each, at most `quota` octets and 10,000 messages in all: beyond that the oldest go first.

    Without `retention` they stay until then; with it they go after so many seconds, and lie there compressed: they are for
    `bounced explain` and `bounced ingest`, not for a mail program.
    """

    def __init__(self, path: Path, quota: int, retention: int | None = None, clock: Callable[[], float] = time.time) -> None:
        """Take `path` as it is; it is made when the first message comes."""
        self._path = path
        self._quota = quota
        self._retention = retention
        self._clock = clock
        self._serial = itertools.count()
        self._host = socket.gethostname().replace("/", "\\057").replace(":", "\\072")
        self._lock = asyncio.Lock()

    async def keep(self, content: bytes) -> Path:
        """Keep one message; returns where, when it is on disk. Raises OwnFault where that fails."""
        async with self._lock:
            try:
                return await asyncio.to_thread(self._write, content)
            except OSError as error:
                raise OwnFault(f"cannot write to {self._path}: {error.strerror}") from error

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self._path

    async def count(self) -> int:
        """Return how many messages lie here, read or not. Raises OwnFault."""
        try:
            return len(await asyncio.to_thread(self._kept))
        except OSError as error:
            raise OwnFault(f"cannot read {self._path}: {error.strerror}") from error

    async def tidy(self) -> None:
        """Remove what is too old. Raises OwnFault."""
        async with self._lock:
            try:
                await asyncio.to_thread(self._make_room, 0)
            except OSError as error:
                raise OwnFault(f"cannot tidy {self._path}: {error.strerror}") from error

    async def forget(self, names: Callable[[bytes], bool]) -> None:
        """Remove each message of which `names` is true. Raises OwnFault."""
        try:
            named = await asyncio.to_thread(lambda: [file for file in self._kept() if names(_content(file))])
            async with self._lock:
                for file in named:
                    file.unlink(missing_ok=True)
        except OSError as error:
            raise OwnFault(f"cannot erase from {self._path}: {error.strerror}") from error

    def _write(self, content: bytes) -> Path:
        if self._retention is not None:
            content = gzip.compress(content, mtime=0)
        for part in ("tmp", "new", "cur"):
            (self._path / part).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_room(len(content))
        name = f"{time.time_ns() // 10**9}.P{os.getpid()}Q{next(self._serial)}R{os.urandom(4).hex()}.{self._host}"
        if self._retention is not None:
            name += ".gz"
        draft = self._path / "tmp" / name
        try:
            with open(draft, "xb", opener=_private) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            kept = draft.rename(self._path / "new" / name)
        except BaseException:
            # On a full disk each try would leave a part behind, and no room would ever be had again.
            draft.unlink(missing_ok=True)
            raise
        _sync_directory(self._path / "new")
        return kept

    def _kept(self) -> list[Path]:
        return [file for part in ("new", "cur") if (self._path / part).is_dir() for file in (self._path / part).iterdir()]

    def _make_room(self, octets: int) -> None:
        kept = sorted(self._kept(), key=lambda file: file.name)
        found = {file: file.stat() for file in kept}
        excess, most = sum(one.st_size for one in found.values()) + octets - self._quota, len(kept) + 1 - _MOST_MESSAGES
        oldest = 0.0 if self._retention is None else self._clock() - self._retention
        for number, file in enumerate(kept):
            if excess <= 0 and number >= most and found[file].st_mtime >= oldest:
                return
            file.unlink(missing_ok=True)
            excess -= found[file].st_size


def _content(file: Path) -> bytes:
    """Return a message; nothing of one that somebody took away, or that is no gzip file though it is called so."""
    try:
        octets = file.read_bytes()
        return gzip.decompress(octets) if file.suffix == ".gz" else octets
    except (FileNotFoundError, EOFError, gzip.BadGzipFile, zlib.error):
        return b""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
