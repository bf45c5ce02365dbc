"""Mail in files: single messages, directories of them, Maildirs, mboxes, all of it compressed or not.

For: commands that read mail. Never: a change of any file, or a whole mbox in memory.
"""

import gzip
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import NoReturn, cast

import click

from bounced.cli.base import EX_NO_INPUT, plain

STDIN = "-"
_GZIP = b"\x1f\x8b"  # RFC 1952 section 2.3.1
_FROM = b"From "
_EMPTY = (b"\n", b"\r\n")
_Stream = BufferedReader | gzip.GzipFile


@dataclass(frozen=True, slots=True)
class Found:
    """One message: `name` as a person knows it, `file` where it lies alone, `octets` of the input were read with it."""

    name: str
    content: bytes
    octets: int
    file: Path | None = None


def messages_in(paths: Sequence[str]) -> Iterator[Found]:
    """Give each message of files, Maildirs, other directories and mboxes, in an order that does not change.

    A file that begins with "From " is an mbox (RFC 4155). Ends the program with exit code 66 where something cannot be read.
    """
    for name, path in _inputs(paths):
        try:
            with _opened(path) as stream:
                if _begins(stream, _FROM):
                    for number, content in enumerate(_of_mbox(stream), 1):
                        yield Found(f"{name}:{number}", content, len(content))
                else:
                    content = stream.read()
                    yield Found(name, content, len(content), path)
        except (OSError, EOFError) as error:
            _cannot_read(name, error)


def whole_files(paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Give each file as one message, with its name: as given, or as below the directory that was given."""
    for name, path in _inputs(paths, below=True):
        try:
            with _opened(path) as stream:
                content = stream.read()
        except (OSError, EOFError) as error:
            _cannot_read(name, error)
        yield name, content


def size_of(paths: Sequence[str]) -> int | None:
    """Return the octets of all files, for a progress bar; None where one of them is no plain file, or cannot be read."""
    files = [path for _, path in _inputs(paths)]
    if any(path is None or path.suffix == ".gz" for path in files):
        return None
    try:
        return sum(path.stat().st_size for path in files if path is not None)
    except OSError:
        return None  # who reads it says which


def _inputs(paths: Sequence[str], *, below: bool = False) -> Iterator[tuple[str, Path | None]]:
    for given in paths:
        if given == STDIN:
            yield given, None
            continue
        root = Path(given)
        if not root.is_dir():
            yield given, root
            continue
        # What lies in a Maildir's tmp is not delivered yet.
        maildir = (root / "new").is_dir() or (root / "cur").is_dir()
        homes = [root / "new", root / "cur"] if maildir and not below else [root]
        for path in sorted(path for home in homes for path in home.rglob("*") if path.is_file()):
            yield (path.relative_to(root).as_posix() if below else str(path)), path


def _opened(path: Path | None) -> _Stream:
    stream = cast("BufferedReader", sys.stdin.buffer) if path is None else path.open("rb")
    if not _begins(stream, _GZIP):
        return stream
    if path is None:
        return gzip.GzipFile(fileobj=stream)
    # Opened anew by gzip itself, so that it closes what it reads.
    stream.close()
    return gzip.GzipFile(path)


def _begins(stream: _Stream, octets: bytes) -> bool:
    return stream.peek(len(octets))[: len(octets)] == octets


def _of_mbox(stream: _Stream) -> Iterator[bytes]:
    """Split an mbox as mboxrd: a From line after an empty one begins a message; of its quoted ones the first > goes."""
    lines: list[bytes] = []
    empty = True
    for line in stream:
        if empty and line.startswith(_FROM):
            if lines:
                yield _without_last_empty(lines)
            lines = []
        else:
            lines.append(line[1:] if line.startswith(b">") and line.lstrip(b">").startswith(_FROM) else line)
        empty = line in _EMPTY
    if lines:
        yield _without_last_empty(lines)


def _without_last_empty(lines: list[bytes]) -> bytes:
    """Join the lines of a message; the empty one at its end is the mbox's."""
    return b"".join(lines[:-1] if lines[-1] in _EMPTY else lines)


def _cannot_read(name: str, error: Exception) -> NoReturn:
    click.echo(f"bounced: cannot read {plain(name)}: {getattr(error, 'strerror', None) or error}", err=True)
    sys.exit(EX_NO_INPUT)
