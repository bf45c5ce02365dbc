"""Sockets of our own: permissions before the first client, stale ones replaced, living ones left."""

import asyncio
import errno
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from bounced import sockets
from bounced.fault import OperatorFault

_DAEMON = """
import sys, time
from pathlib import Path
from bounced import sockets
listener = sockets.unix(Path(sys.argv[1]), 0o660, "")
print("listening", flush=True)
sys.stdin.read()
"""


def _connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_unix_socket_has_its_permissions(tmp_path: Path) -> None:
    """A socket has the permissions that were asked for, whatever the umask, and takes connections."""
    before = os.umask(0o777)
    try:
        listener = sockets.unix(tmp_path / "s", 0o620, "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o620
    assert _connects(tmp_path / "s")
    listener.close()


def test_permissions_come_before_the_first_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can connect until the permissions are set."""
    seen: list[tuple[bool, bool]] = []
    chmod = Path.chmod

    def watched(path: Path, mode: int) -> None:
        early = _connects(path)
        chmod(path, mode)
        seen.append((early, _connects(path)))

    monkeypatch.setattr(Path, "chmod", watched)
    listener = sockets.unix(tmp_path / "s", 0o660, "")
    assert seen == [(False, False)]
    assert _connects(tmp_path / "s")
    listener.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_strangers_are_refused(tmp_path: Path, full_counts: bool) -> None:
    """Whoever is neither the owner nor in the group gets EACCES; control: with other permissions he connects."""
    where = tmp_path / "s"
    for directory in (tmp_path, *tmp_path.parents):
        directory.chmod(directory.stat().st_mode | 0o011)
    rounds = 10_000 if full_counts else 200
    as_nobody = "import os, socket; os.setgid(65534); os.setuid(65534);"
    answers = []
    for mode, times in ((0o660, rounds), (0o666, 200)):  # nobody accepts: more would wait for ever
        connect = f"{as_nobody} print({{socket.socket(socket.AF_UNIX).connect_ex({str(where)!r}) for _ in range({times})}})"
        listener = sockets.unix(where, mode, "")
        answers.append(
            subprocess.run(["/usr/bin/env", "python3", "-c", connect], capture_output=True, text=True, check=True).stdout.strip()
        )
        listener.close()
    assert answers == ["{13}", "{0}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a socket to a group")
def test_unix_socket_has_its_group(tmp_path: Path) -> None:
    """A socket belongs to the group that was asked for."""
    listener = sockets.unix(tmp_path / "s", 0o660, "daemon")
    assert (tmp_path / "s").group() == "daemon"
    listener.close()


def test_stale_socket_is_replaced(tmp_path: Path) -> None:
    """After kill -9 the path still exists, refuses, and is taken over; before it, it is not."""
    where = tmp_path / "s"
    with subprocess.Popen([sys.executable, "-c", _DAEMON, str(where)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == b"listening\n"
        with pytest.raises(OperatorFault, match="another bounced serves it"):
            sockets.unix(where, 0o660, "")
        assert _connects(where)
        daemon.send_signal(signal.SIGKILL)
    assert stat.S_ISSOCK(where.stat().st_mode)
    assert not _connects(where)
    listener = sockets.unix(where, 0o660, "")
    assert _connects(where)
    listener.close()


def test_living_socket_without_our_lock_is_left(tmp_path: Path) -> None:
    """The socket of another program, or one whose queue is full, is never unlinked."""
    where = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(where))
        other.listen(0)
        waiting = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for number, client in enumerate(waiting):
            client.setblocking(False)
            client.connect_ex(str(where))
            with pytest.raises(OperatorFault, match="another program serves it"):
                sockets.unix(where, 0o660, "")
            assert where.exists(), number
        for client in waiting:
            client.close()


def test_own_path_goes_at_the_end(tmp_path: Path) -> None:
    """Closing removes the path and frees it for the next; closing twice is harmless."""
    for _ in range(3):
        listener = sockets.unix(tmp_path / "s", 0o660, "")
        listener.close()
        listener.close()
        assert not (tmp_path / "s").exists()


def test_path_of_somebody_else_stays(tmp_path: Path) -> None:
    """A path that meanwhile is another socket is not removed."""
    listener = sockets.unix(tmp_path / "s", 0o660, "")
    (tmp_path / "s").unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "s"))
        listener.close()
        assert (tmp_path / "s").exists()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_served_and_closed_by_a_loop(run: object, tmp_path: Path) -> None:
    """Also after a loop has served it, closing the socket removes its path; a path that is systemd's own stays."""
    theirs = socket.socket(socket.AF_UNIX)
    theirs.bind(str(tmp_path / "theirs"))
    theirs.listen()
    ours = sockets.unix(tmp_path / "ours", 0o660, "")
    options = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        for listener in (ours, theirs):
            server = await loop.create_unix_server(asyncio.Protocol, sock=listener, **options)
            assert _connects(Path(listener.getsockname()))
            server.close()
            await server.wait_closed()

    assert callable(run)
    run(serve())
    ours.close()
    assert not (tmp_path / "ours").exists()
    assert (tmp_path / "theirs").exists()
    theirs.close()


@pytest.mark.parametrize(
    ("make", "problem", "hint"),
    [
        (lambda path: path / ("x" * 108), "longer than 107", "shorter"),
        (lambda path: path / "missing" / "s", "No such file", "Make the directory"),
        (lambda path: path / "file", "no socket is there", "Move it"),
        (lambda path: path / "file" / "s", "Not a directory", "Make the directory"),
    ],
)
def test_impossible_paths_are_explained(make: object, problem: str, hint: str, tmp_path: Path) -> None:
    """What cannot be is told with its reason and the next step, and what was there before stays."""
    (tmp_path / "file").write_text("precious")
    assert callable(make)
    with pytest.raises(OperatorFault, match=problem) as caught:
        sockets.unix(make(tmp_path), 0o660, "")
    assert hint in caught.value.hint
    assert (tmp_path / "file").read_text() == "precious"


def test_longest_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """107 octets fit, 108 do not."""
    monkeypatch.chdir(tmp_path)
    sockets.unix(Path("x" * 107), 0o660, "").close()
    with pytest.raises(OperatorFault, match="longer than 107"):
        sockets.unix(Path("x" * 108), 0o660, "")


def test_failed_socket_leaves_nothing(tmp_path: Path) -> None:
    """When the group does not exist, neither a path nor a lock stays behind."""
    with pytest.raises(OperatorFault, match="no group no-such-group"):
        sockets.unix(tmp_path / "s", 0o660, "no-such-group")
    assert not (tmp_path / "s").exists()
    sockets.unix(tmp_path / "s", 0o660, "").close()


def test_directory_without_permission_is_explained(tmp_path: Path) -> None:
    """A directory that the user may not write to is named, with what to do."""
    (tmp_path / "closed").mkdir(mode=0o555)
    code = f"""
import os
from pathlib import Path
from bounced import sockets
from bounced.fault import OperatorFault
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
try:
    sockets.unix(Path({str(tmp_path / "closed" / "s")!r}), 0o660, "")
except OperatorFault as fault:
    print(fault, fault.hint)
"""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.geteuid():
            directory.chmod(directory.stat().st_mode | 0o011)
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Permission denied" in said
    assert "must be able to write to" in said


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tcp_listens(host: str) -> None:
    """A TCP socket listens; a second one at the same place is told who to ask."""
    first = sockets.tcp(host, 0)
    port = first.getsockname()[1]
    with socket.create_connection((host, port)):
        pass
    with pytest.raises(OperatorFault, match="in use") as caught:
        sockets.tcp(host, port)
    assert f"sport = :{port}" in caught.value.hint
    first.close()


def test_ipv6_takes_no_ipv4() -> None:
    """All of IPv6 and all of IPv4 can listen at one port side by side."""
    six = sockets.tcp("::", 0)
    four = sockets.tcp("0.0.0.0", six.getsockname()[1])
    six.close()
    four.close()


@pytest.mark.parametrize(
    ("host", "setting", "families", "hint"),
    [
        (
            "0.0.0.0",
            "smtp.listen",
            "AF_INET",
            "`systemctl enable --now bounced-smtp.socket` hands it over; smtp.listen = []",
        ),
        ("::", "smtp.listen", "AF_INET6 AF_INET", "`systemctl enable --now bounced-smtp.socket`"),
        ("127.0.0.1", "metrics.listen", "AF_INET", "`systemctl enable --now bounced-metrics.socket`"),
        ("::", "smtp.listen", "AF_INET6", "This machine has no IPv6"),
    ],
)
def test_a_sandbox_without_network_is_told_from_a_wrong_address(
    host: str, setting: str, families: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the unit lets the daemon open no socket of TCP, as in a sandbox, the hint names what hands it over."""
    real = socket.socket
    none = {getattr(socket, name) for name in families.split()}

    def restricted(family: int = -1, *words: int, **more: int) -> socket.socket:
        if family in none:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *words, **more)

    monkeypatch.setattr(sockets.socket, "socket", restricted)
    with pytest.raises(OperatorFault) as caught:
        sockets.tcp(host, 25, setting=setting)
    assert hint in caught.value.hint


def test_foreign_address_is_explained() -> None:
    """An address that is not this machine's is told as such."""
    with pytest.raises(OperatorFault, match=r"192\.0\.2\.1:0") as caught:
        sockets.tcp("192.0.2.1", 0)
    assert "smtp.listen" in caught.value.hint
