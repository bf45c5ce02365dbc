"""The file of the key ring.

For: making it at the first start, reading and rotating it so that neither a crash nor another user gets at the keys. Never: what a key
means; returnpath does.
"""

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from bounced.fault import OperatorFault
from bounced.returnpath import KeyRing, RingError

_SECRET_OCTETS = 32
_TOO_OPEN = stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH
_MOST_OCTETS = 64 << 10


def load_or_make(path: Path) -> KeyRing:
    """Return the ring in `path`; where there is no file, make one with one key that only we may read. Raises OperatorFault."""
    with _told(path):
        ring = _read(path)
        if ring is not None:
            return ring
        with _directory_locked(path.parent):
            # Another process may have been first.
            return _read(path) or _write(path, KeyRing(()).rotated(secrets.token_bytes(_SECRET_OCTETS)), 0o600, None)


def rotate(path: Path) -> KeyRing:
    """Put a new key in front and return the ring; owner and permissions stay. Raises OperatorFault, also where there is no file."""
    with _told(path), _directory_locked(path.parent):
        ring = _read(path)
        if ring is None:
            raise OperatorFault(f"there is no key file {path}", "It is made at the first start; correct return_path.key_file.")
        found = path.stat()
        return _write(path, ring.rotated(secrets.token_bytes(_SECRET_OCTETS)), stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid))


def _read(path: Path) -> KeyRing | None:
    try:
        # Without O_NONBLOCK a FIFO at this path would stop the start for good.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except FileNotFoundError:
        return None
    with file:
        found = os.fstat(file.fileno())
        octets = file.read(_MOST_OCTETS) if stat.S_ISREG(found.st_mode) else b""
    if found.st_mode & _TOO_OPEN:
        raise OperatorFault(f"others can read or write the key file {path}", f"`chmod 0600 {path}`; if others had it, rotate the keys.")
    try:
        return KeyRing.parse(octets.decode("ascii"))
    except (RingError, UnicodeDecodeError) as error:
        problem = str(error) if isinstance(error, RingError) else "it holds octets that are no text"
        raise OperatorFault(f"the key file {path} is damaged: {problem}", "Restore it from a backup; keys in it prove bounces.") from None


def _write(path: Path, ring: KeyRing, mode: int, owner: tuple[int, int] | None) -> KeyRing:
    """Replace the file as a whole: after a power cut there is the old one or the new one."""
    target = path.resolve()
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            if owner is not None:
                os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            file.write(ring.render())
            file.flush()
            os.fsync(descriptor)
        draft.rename(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync(target.parent)
    return ring


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _directory_locked(directory: Path) -> Iterator[None]:
    """Two that make or rotate at once would lose one's keys."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = f"The directory {path.parent} must exist, and the daemon's user must be able to write to it."
        raise OperatorFault(f"cannot use the key file {path}: {error.strerror}", hint) from error
