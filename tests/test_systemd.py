"""What systemd and the daemon tell each other, played by hand: a notify socket, an environment, descriptors from 3 on."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bounced import systemd

_CHILD = """
import json, os, sys
from bounced import systemd
from bounced.fault import OperatorFault
if sys.argv[1] != "-":
    os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[1]))
try:
    found = {name: [one.getsockname() for one in listeners] for name, listeners in systemd.inherited().items()}
    print(json.dumps([found, sorted(key for key in os.environ if key.startswith("LISTEN")), systemd.inherited()]))
except OperatorFault as fault:
    print(json.dumps([str(fault), fault.hint]))
"""


def _handed_over(descriptors: list[int], names: str | None, pid: str = "0", count: str | None = None) -> list[object]:
    """Start a child with `descriptors` from 3 on and let it take them; `pid` is what LISTEN_PID is off by, - for none."""
    environment = os.environ | {"LISTEN_FDS": count or str(len(descriptors))} | ({} if names is None else {"LISTEN_FDNAMES": names})
    high = [os.dup2(one, 200 + index) for index, one in enumerate(descriptors)]
    try:
        moves = "".join(f" {3 + index}<&{one} {one}<&-" for index, one in enumerate(high))
        command = ["/bin/bash", "-c", f'exec "$0" -c "$1" "$2"{moves}', sys.executable, _CHILD, pid]
        ran = subprocess.run(command, env=environment, pass_fds=high, capture_output=True, text=True, timeout=60, check=True)
    finally:
        for one in high:
            os.close(one)
    return json.loads(ran.stdout)  # type: ignore[no-any-return]


def _listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def test_sockets_come_by_name(tmp_path: Path) -> None:
    """Sockets are found by their names, two of one name together; afterwards the environment is clean and nothing is found."""
    with _listening(tmp_path / "a") as one, _listening(tmp_path / "b") as two, _listening(tmp_path / "c") as three:
        found = _handed_over([one.fileno(), two.fileno(), three.fileno()], "smtp:line:smtp")
    assert found == [{"smtp": [str(tmp_path / "a"), str(tmp_path / "c")], "line": [str(tmp_path / "b")]}, [], {}]


def test_sockets_without_names_are_unknown(tmp_path: Path) -> None:
    """A socket without name has the name that sd_listen_fds_with_names gives it."""
    with _listening(tmp_path / "a") as one:
        assert _handed_over([one.fileno()], None)[0] == {"unknown": [str(tmp_path / "a")]}


@pytest.mark.parametrize(("pid", "count"), [("1", None), ("-", None), ("0", "many"), ("0", "-1"), ("0", "\u0663")])
def test_sockets_for_somebody_else_are_left(pid: str, count: str | None, tmp_path: Path) -> None:
    """What was meant for another process, or is no number, is left alone."""
    with _listening(tmp_path / "a") as one:
        assert _handed_over([one.fileno()], "smtp", pid, count)[0] == {}


def test_what_does_not_listen_is_refused(tmp_path: Path) -> None:
    """A file, a connection, a datagram socket or nothing at all in a socket's place is told with a hint, never served."""
    with (
        (tmp_path / "file").open("w") as file,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_UNIX) as idle,
    ):
        for descriptor in (file.fileno(), datagrams.fileno(), idle.fileno()):
            problem, hint = _handed_over([descriptor], "smtp\x1b")
            assert "descriptor 3 ('smtp\\x1b')" in str(problem)
            assert "FileDescriptorName" in str(hint)
    assert "descriptor 3" in str(_handed_over([], "smtp", count="1")[0])


@pytest.mark.parametrize("abstract", [True, False])
def test_notify_reaches_the_manager(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state arrives at the manager's socket, in the file system or abstract."""
    name = f"\0bounced-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))
        assert systemd.notify("READY=1\nSTATUS=über")
        assert manager.recv(100) == "READY=1\nSTATUS=über".encode()


def test_notify_never_blocks_or_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without manager, with a dead one and with one that does not read, the answer is False."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not systemd.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not systemd.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "stuck"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "stuck"))
        assert not all(systemd.notify("WATCHDOG=1") for _ in range(5000))


def test_watchdog_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interval is given in seconds, to the process that is watched, and only if it is a number."""
    monkeypatch.setenv("WATCHDOG_USEC", "2500000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert systemd.watchdog_interval() == 2.5
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert systemd.watchdog_interval() == 2.5
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert systemd.watchdog_interval() is None
    monkeypatch.delenv("WATCHDOG_PID")
    for nonsense in ("", "0", "soon", "-5"):
        monkeypatch.setenv("WATCHDOG_USEC", nonsense)
        assert systemd.watchdog_interval() is None
