"""Listening sockets of our own, where systemd hands none over.

For: a TCP or unix socket that listens with the right permissions from its first moment, or one clear sentence why not. Never: serving them,
and never taking a path away from a daemon that lives. Give asyncio the socket, not the path: from Python 3.13 it would unlink the path of
any unix socket at the end, also one of systemd's, unless told `cleanup_socket=False`.
"""

import contextlib
import errno
import fcntl
import grp
import os
import socket
import stat
from pathlib import Path

from bounced.fault import OperatorFault

BACKLOG = 1024
"""Connections that may wait to be accepted."""

_LONGEST_PATH = 107
"""sun_path of unix(7) has 108 octets, and a NUL ends it."""


def tcp(host: str, port: int, *, setting: str = "smtp.listen") -> socket.socket:
    """Listen at an IP address; an IPv6 socket takes no IPv4 clients, so that a client's address has one spelling.

    `setting` named it. Raises OperatorFault.
    """
    listener = None
    try:
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise OperatorFault(f"cannot listen at {where}: {error.strerror or error}", _tcp_hint(error, host, port, setting)) from error
    listener.setblocking(False)
    return listener


def _tcp_hint(error: OSError, host: str, port: int, setting: str) -> str:
    unit = f"bounced-{setting.partition('.')[0]}.socket"
    match error.errno:
        case errno.EACCES:
            return f"Port {port} is privileged: let systemd hand the socket over ({unit}), or grant CAP_NET_BIND_SERVICE."
        case errno.EADDRINUSE:
            return f"Another program listens there: `ss -ltnp 'sport = :{port}'` names it."
        case errno.EAFNOSUPPORT if ":" in host and _may_open(socket.AF_INET):
            return f"This machine has no IPv6. Correct {setting}."
        case errno.EAFNOSUPPORT:
            without = "where mail comes by LMTP" if setting == "smtp.listen" else "where nobody asks"
            return f"The unit's sandbox has no network: `systemctl enable --now {unit}` hands it over; {setting} = [] {without}."
        case errno.EADDRNOTAVAIL:
            return f"This machine does not have that address: `ip address` shows those it has. Correct {setting}."
        case _:
            return f"Correct {setting}."


def _may_open(family: int) -> bool:
    try:
        socket.socket(family, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


class OwnSocket(socket.socket):
    """A listening unix socket whose path goes when it is closed, and only if the path still is this socket.

    Whoever made it closes it, also after a loop has served it: uvloop takes the descriptor out of the object and never calls close().
    """

    def own(self, path: Path, lock: int) -> None:
        """Remember what to remove, and the descriptor of the lock that is held until then."""
        self._path = path
        self._identity = _identity(path)
        self._lock = lock

    def close(self) -> None:
        """Remove the path, stop listening, let go of the lock. Closing twice is harmless."""
        lock, self._lock = getattr(self, "_lock", -1), -1
        if lock >= 0 and _identity(self._path) == self._identity:
            with contextlib.suppress(OSError):
                self._path.unlink()
        super().close()
        if lock >= 0:
            os.close(lock)


def unix(path: Path, mode: int, group: str) -> OwnSocket:
    """Listen at `path` with permissions `mode`, of `group` if that is not empty. Closing it removes the path.

    A socket that a killed daemon left is replaced; one that somebody serves is not. Raises OperatorFault.
    """
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise OperatorFault(f"the socket path {path} is longer than {_LONGEST_PATH} octets", "Choose a shorter path.")
    with contextlib.ExitStack() as undo:
        try:
            lock = _lock(path)
            undo.callback(os.close, lock)
            _clear(path)
            listener = OwnSocket(socket.AF_UNIX, socket.SOCK_STREAM)
            undo.callback(listener.close)
            listener.bind(os.fspath(path))
            undo.callback(path.unlink, missing_ok=True)
            # Until it listens nobody can connect, so the permissions are right before the first client.
            _give(path, group)
            path.chmod(mode)
            listener.listen(BACKLOG)
            listener.setblocking(False)
            listener.own(path, lock)
        except OSError as error:
            raise OperatorFault(f"cannot listen at {path}: {error.strerror or error}", _unix_hint(error, path)) from error
        undo.pop_all()
    return listener


def _lock(path: Path) -> int:
    """Hold a lock beside the path: of two daemons that start at once, one finds the stale socket and the other finds this."""
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise OperatorFault(f"cannot listen at {path}: another bounced serves it", "Stop the other one, or choose another path.") from None
    return descriptor


def _clear(path: Path) -> None:
    """Remove a socket at `path` that nobody serves."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OperatorFault(f"cannot listen at {path}: something that is no socket is there", "Move it away, or choose another path.")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        # Only a refusal proves that nobody listens; EAGAIN is a full backlog, EACCES somebody else's socket.
        if probe.connect_ex(os.fspath(path)) != errno.ECONNREFUSED:
            raise OperatorFault(f"cannot listen at {path}: another program serves it", f"`ss -xlp src {path}` names it.")
    path.unlink()


def _give(path: Path, group: str) -> None:
    if not group:
        return
    try:
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
    except KeyError:
        raise OperatorFault(
            f"there is no group {group}", "Make it (`systemd-sysusers`, `groupadd --system`) or correct query.socket_group."
        ) from None
    except PermissionError:
        hint = f"Make the daemon's user a member of the group {group}, or correct query.socket_group."
        raise OperatorFault(f"cannot give {path} to the group {group}", hint) from None


def _unix_hint(error: OSError, path: Path) -> str:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return f"Make the directory {path.parent} (under systemd: RuntimeDirectory=, or tmpfiles.d/bounced.conf)."
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"The daemon's user must be able to write to {path.parent}."
        case _:
            return "Choose another path."


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
