"""The watchdog is fed by the work itself: it starves when the loop, the writing thread or the disk hangs, and only then."""

import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.system.daemon import Daemon, alive
from tests.system.disk import Disk
from tests.system.mail import NO_SUCH_USER, bring, report

_INTERVAL = 1.5
"""Seconds of the watchdog of these tests; the daemon feeds it three times as often."""


@pytest.fixture
def watched(
    as_root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, need_program: Callable[[str], str]
) -> Iterator[tuple[Daemon, Disk]]:
    """A daemon under a watchdog, with its database on a disk of its own."""
    need_program("fsfreeze")
    monkeypatch.setenv("WATCHDOG_USEC", str(int(_INTERVAL * 1e6)))
    disk = Disk(tmp_path)
    try:
        with alive(database=disk.path / "bounced.db") as daemon:
            yield daemon, disk
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", disk.path], capture_output=True, check=False)
        disk.remove()


class Manager:
    """Who hears what the daemon tells its service manager."""

    def __init__(self, daemon: Daemon) -> None:
        at = daemon.home / "notify-all.sock"
        at.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(at))

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()

    def hears(self, seconds: float) -> bool:
        """Tell whether the watchdog is fed within so many seconds from now on."""
        self._socket.setblocking(False)
        try:
            while self._socket.recv(4096):
                pass
        except BlockingIOError:
            pass
        self._socket.settimeout(seconds)
        try:
            return b"WATCHDOG=1" in self._socket.recv(4096)
        except TimeoutError:
            return False


@pytest.fixture
def watching() -> Iterator[Callable[[Daemon], Manager]]:
    """Make a manager that is closed at the end."""
    with ExitStack() as stack:
        yield lambda daemon: stack.enter_context(closing(Manager(daemon)))


def test_the_watchdog_starves_when_the_disk_hangs(watched: tuple[Daemon, Disk], watching: Callable[[Daemon], Manager]) -> None:
    """While the file system is frozen nothing feeds the watchdog, although no mail waits; when it thaws, all goes on."""
    daemon, disk = watched
    manager = watching(daemon)
    assert manager.hears(20)

    subprocess.run(["fsfreeze", "--freeze", disk.path], check=True)
    manager.hears(_INTERVAL)  # one may be on its way
    assert not manager.hears(2 * _INTERVAL)
    subprocess.run(["fsfreeze", "--unfreeze", disk.path], check=True)

    assert manager.hears(20)
    assert bring(daemon.smtp, daemon.tell("sign", "joe@example.org"), [report("joe@example.org", NO_SUCH_USER)])[0][0] == 250


def test_the_watchdog_starves_when_the_loop_hangs(watched: tuple[Daemon, Disk], watching: Callable[[Daemon], Manager]) -> None:
    """A process that stands still does not feed it."""
    daemon, _ = watched
    manager = watching(daemon)
    assert manager.hears(20)

    daemon.signal(signal.SIGSTOP)
    manager.hears(_INTERVAL)
    assert not manager.hears(2 * _INTERVAL)
    daemon.signal(signal.SIGCONT)

    assert manager.hears(20)
