"""An archive of returned mail as it came: compressed, bounded in size and age.

For: reading it all again when the rules have changed (`bounced ingest --again`), and showing anybody what exactly came. Never: a promise:
the event that a mail brought about is the store's, and is on disk before the mail is put here.

The files are mboxes (RFC 4155, mboxrd) of gzip members, one member a message, so that one write adds a message and zcat reads them all.
"""

import asyncio
import contextlib
import gzip
import os
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_SEGMENTS = 8
"""Parts of the quota; the oldest goes as a whole."""

_FROM_LINE = re.compile(rb"^(>*From )", re.MULTILINE)
_SUFFIX = ".mbox.gz"
_PIECE = 1 << 16


class Archive:
    """Messages below `directory`, at most `quota` octets and none older than `retention` seconds, a day more or less."""

    def __init__(self, directory: Path, quota: int, retention: int) -> None:
        """Take the directory as it is; it is made when the first message comes."""
        self._directory = directory
        self._quota = quota
        self._retention = retention
        self._current: Path | None = None
        self._lock = asyncio.Lock()
        with contextlib.suppress(OSError):
            # What a crash in the midst of an erasure left.
            for draft in directory.glob(f".*{_SUFFIX}.new"):
                draft.unlink(missing_ok=True)

    async def keep(self, content: bytes, at: int) -> None:
        """Add a message that came at the Unix time `at`. Raises OSError."""
        async with self._lock:
            await asyncio.to_thread(self._append, content, at)

    async def tidy(self, now: int) -> None:
        """Remove what is too old. Raises OSError."""
        async with self._lock:
            await asyncio.to_thread(self._make_room, now)

    async def forget(self, names: Callable[[bytes], bool]) -> None:
        """Take out each message of which `names` is true. What can be unpacked no more goes too. Raises OSError."""
        for segment in sorted(self._directory.glob(f"*{_SUFFIX}")):
            async with self._lock:
                # So much is whole: no message is being added.
                size = segment.stat().st_size if segment.exists() else 0
            draft = segment.with_name(f".{segment.name}.new")
            if await asyncio.to_thread(_copy_others, segment, draft, size, names):
                async with self._lock:
                    await asyncio.to_thread(_put_in_place, segment, draft, size)
            draft.unlink(missing_ok=True)

    def _append(self, content: bytes, at: int) -> None:
        told = time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime(at))
        message = b"From MAILER-DAEMON %s\n%s\n\n" % (told.encode("ascii"), _FROM_LINE.sub(rb">\1", content).removesuffix(b"\n"))
        current = self._current
        if current is None or not current.exists() or current.stat().st_size > self._quota // _SEGMENTS or _day(current) != _date(at):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(at)
            current = self._current = self._directory / f"{time.strftime('%Y-%m-%dT%H%M%SZ', time.gmtime(at))}{_SUFFIX}"
        current.touch(mode=0o600)
        with current.open("ab", buffering=0) as file:
            # Small bounces are most of what comes: the fast level takes a fifth of the time and two tenths more room.
            file.write(gzip.compress(message, 1, mtime=0))

    def _make_room(self, now: int) -> None:
        """Leave room for one more segment, and nothing that is too old."""
        segments = sorted(self._directory.glob(f"*{_SUFFIX}"))
        sizes = {segment: segment.stat() for segment in segments}
        excess = sum(found.st_size for found in sizes.values()) + self._quota // _SEGMENTS - self._quota
        for segment, found in sizes.items():
            if excess > 0 or found.st_mtime < now - self._retention:
                segment.unlink(missing_ok=True)
                excess -= found.st_size


def _copy_others(segment: Path, draft: Path, size: int, names: Callable[[bytes], bool]) -> bool:
    """Copy the messages in the first octets of a segment but for those of which `names` is true; tell whether there are any of these."""
    found = False
    draft.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError), segment.open("rb") as stream, open(draft, "xb", opener=_private) as copy:
        for packed, content in _members(stream, size):
            if content is None or names(content):
                found = True
            else:
                copy.write(packed)
    return found


def _put_in_place(segment: Path, draft: Path, size: int) -> None:
    """Let a copy take a segment's place, with what was added to it since."""
    with contextlib.suppress(FileNotFoundError), segment.open("rb") as stream, draft.open("ab") as copy:
        stream.seek(size)
        shutil.copyfileobj(stream, copy)
        copy.flush()
        os.fsync(copy.fileno())
        was = os.fstat(stream.fileno())
        os.utime(draft, ns=(was.st_atime_ns, was.st_mtime_ns))
        draft.replace(segment)


def _members(stream: BinaryIO, left: int) -> Iterator[tuple[bytes, bytes | None]]:
    """Give each gzip member of so many octets, as it lies there and unpacked; None where it and the rest cannot be."""
    waiting = b""
    while waiting or left:
        unpacker, packed, content = zlib.decompressobj(wbits=31), b"", b""
        try:
            while not unpacker.eof:
                if not waiting:
                    waiting = stream.read(min(_PIECE, left))
                    left -= len(waiting)
                    if not waiting:
                        yield b"", None
                        return
                content += unpacker.decompress(waiting)
                packed, waiting = packed + waiting, b""
        except zlib.error:
            yield b"", None
            return
        waiting = unpacker.unused_data
        yield packed[: len(packed) - len(waiting)], content


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _day(segment: Path) -> str:
    return segment.name[:10]


def _date(at: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at))
