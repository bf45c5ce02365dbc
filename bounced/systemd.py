"""What systemd and the daemon tell each other: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).

For: readiness, the watchdog, and sockets handed over by name. Never: making sockets; sockets.py does where there is no systemd.
"""

import os
import socket

from bounced.fault import OperatorFault

_FIRST_DESCRIPTOR = 3
_HINT = "Look at the socket unit: ListenStream= and FileDescriptorName= (systemd.socket(5))."


def notify(state: str) -> bool:
    """Tell the service manager, for example `READY=1`. Returns False where nobody listens; never blocks, never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(state.encode(), address)
    except OSError:
        return False
    return True


def watchdog_interval() -> float | None:
    """Return after how many seconds without `WATCHDOG=1` we are killed, or None. Notify twice as often (sd_watchdog_enabled(3))."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isascii() and microseconds.isdigit() and int(microseconds) else None


def inherited() -> dict[str, list[socket.socket]]:
    """Take the listening sockets that were handed over, by FileDescriptorName=; empty without socket activation.

    The second call finds nothing: the environment is cleared, so that no child takes them for its own. Raises OperatorFault for what is
    no listening stream socket.
    """
    meant_for = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "0")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if meant_for != str(os.getpid()) or not count.isascii() or not count.isdigit():
        return {}
    handed_over: dict[str, list[socket.socket]] = {}
    for index in range(int(count)):
        name = names[index] if index < len(names) and names[index] else "unknown"
        handed_over.setdefault(name, []).append(_take(_FIRST_DESCRIPTOR + index, name))
    return handed_over


def _take(descriptor: int, name: str) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        taken = socket.socket(fileno=descriptor)
        listening = taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise OperatorFault(f"descriptor {descriptor} ({name!a}) from systemd is no socket: {error.strerror}", _HINT) from error
    if taken.type != socket.SOCK_STREAM or not listening:
        raise OperatorFault(f"descriptor {descriptor} ({name!a}) from systemd is no listening stream socket", _HINT)
    taken.setblocking(False)
    return taken
