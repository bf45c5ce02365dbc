"""The client library against a real door, and against daemons that are down, hung, slow or talk nonsense: never "yes" by accident."""

import ast
import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

import bounced.client
from bounced.address import address_key
from bounced.client import AsyncClient, Client, TemporaryFailure, WhenUnknown
from bounced.returnpath import Claims, KeyRing, ReturnPath
from bounced.scope import Scope
from bounced.signing import Signer
from tests.asking import DEAD, LIVE

ACCEPTANCE = os.environ.get("BOUNCED_ACCEPTANCE") == "1"
ROUNDS = 10_000 if ACCEPTANCE else 20
ROOT = Path(__file__).resolve().parents[1]

CORRUPT = (
    b"\0" * 100,
    b"9:NOTFOUND;",
    b"8:NOTFOUND,",
    b"10:NOTFOUND x,",
    b"09:NOTFOUND ,",
    b"9:NOTFOUND ,9:NOTFOUND ,",
    b"9:NOTFOUND ,x",
    b"9:notfound ,",
    b"9999:NOTFOUND ,",
    b"99999999999:",
    b"0:,",
    b"3:OK ,",
    b"2:OK,",
    b"6:OK \r\nx,",
    b"6:OK \x1b[1,",
    b"7:TIMEOUT,",
    b"10:TEMP later,",
    b"9:PERM never,",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"\xff\xfe",
    b"-1:,",
    b"4:",
    b"",
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A door in a process of its own: its socket's path, and its process id."""
    path = tmp_path_factory.mktemp("daemon") / "s"
    with subprocess.Popen([sys.executable, "-m", "tests.serving", str(path)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline()
            while not process.stdout.readline().startswith(b"ready"):
                pass
            yield path, process.pid
        finally:
            process.kill()


class Impostor:
    """A listener that treats every connection as it is told, in a thread of its own."""

    def __init__(self, path: Path, treat: Callable[[socket.socket], None]) -> None:
        self.treat = treat
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(100)
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    self.treat(connection)
                except OSError:
                    pass

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


def saying(answer: bytes) -> Callable[[socket.socket], None]:
    """Answer the first question so, then end."""

    def treat(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    return treat


def trickling(connection: socket.socket) -> None:
    """Send an answer octet by octet, each in time and the whole much too late."""
    connection.recv(4096)
    connection.settimeout(0.03)
    for octet in b"9:NOTFOUND ,":
        connection.sendall(bytes([octet]))
        try:
            connection.recv(1)
        except TimeoutError:
            continue


def silent(connection: socket.socket) -> None:
    """Take the question, and say nothing until the peer goes."""
    while connection.recv(4096):
        pass


class Both:
    """The client and its asyncio twin, asked the same."""

    def __init__(self, path: Path, deadline: float = 0.25, when_unknown: WhenUnknown = "raise") -> None:
        self.client = Client(str(path), deadline=deadline, when_unknown=when_unknown)
        self.twin = AsyncClient(str(path), deadline=deadline, when_unknown=when_unknown)

    def may_send(self, address: str) -> list[bool | str]:
        """Ask both; a failure to tell is told as "later"."""
        said = [_outcome(lambda: self.client.may_send(address)), _outcome(lambda: asyncio.run(self._later(address)))]
        self.client.close()
        return said

    async def _later(self, address: str) -> bool:
        try:
            return await self.twin.may_send(address)
        finally:
            self.twin.close()
            await asyncio.sleep(0)


def _outcome(ask: Callable[[], bool]) -> bool | str:
    begun = time.monotonic()
    try:
        return ask()
    except TemporaryFailure:
        return "later"
    finally:
        if ACCEPTANCE:
            assert time.monotonic() - begun < 1.0


def test_it_asks_the_daemon(daemon: tuple[Path, int]) -> None:
    """May-send, refusal and return path, in any declared stream, from both clients."""
    client = Client(str(daemon[0]), deadline=10)
    assert client.may_send(LIVE)
    assert client.may_send(LIVE, "news")
    assert not client.may_send(DEAD)
    assert client.refusal(LIVE) is None
    assert (client.refusal(DEAD) or "").startswith("550 5.7.1 recipient is on the suppression list (manual, ")
    assert client.return_path(LIVE, "news").endswith("+live=remote.test@bounces.example.net")
    client.close()


async def test_it_asks_from_asyncio(daemon: tuple[Path, int]) -> None:
    """The same for asyncio, with many tasks at a time, each given its own answer."""
    client = AsyncClient(str(daemon[0]), deadline=10)
    assert (await client.refusal(DEAD) or "").startswith("550 5.7.1 ")
    paths = await asyncio.gather(*(client.return_path(f"joe{number}@remote.test") for number in range(50)))
    assert all(f"+joe{number}=remote.test@" in path for number, path in enumerate(paths))
    verdicts = await asyncio.gather(*(client.may_send(address) for address in [DEAD, LIVE] * 25))
    assert verdicts == [False, True] * 25
    client.close()
    await asyncio.sleep(0)


def test_threads_get_their_own_answers(daemon: tuple[Path, int]) -> None:
    """Many threads share a client, and none reads another's answer."""
    client = Client(str(daemon[0]), deadline=10)
    wrong: list[str] = []

    def ask(name: str) -> None:
        asked = (f"{name}{number}" for number in range(50))
        wrong.extend(joe for joe in asked if f"+{joe}=remote.test@" not in client.return_path(f"{joe}@remote.test"))

    threads = [threading.Thread(target=ask, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    assert not wrong


FORKED = """
import os, sys
from bounced.client import Client
client = Client(sys.argv[1], deadline=10)
assert client.may_send("live@remote.test")
child = os.fork()
name = "parent" if child else "child"
for number in range(200):
    assert f"+{name}{number}=remote.test@" in client.return_path(f"{name}{number}@remote.test"), name
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_gets_its_own_answers(daemon: tuple[Path, int]) -> None:
    """A child asks on connections of its own: two processes on one would read each other's answers."""
    subprocess.run([sys.executable, "-c", FORKED, str(daemon[0])], cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize(("address", "scope"), [("joe", "default"), ("", "default"), ("j\0@x", "default"), ("x" * 2000 + "@x", "default")])
def test_what_is_no_address_is_an_error(address: str, scope: str) -> None:
    """What the daemon could take for another question, or for none, is refused here: a programming error, never "yes"."""
    for client in (Client("/nowhere", when_unknown="send"), Client("/nowhere")):
        with pytest.raises(ValueError, match="no address"):
            client.may_send(address, scope)


@pytest.mark.parametrize("scope", ["", "*", "News", "news x", "a/b", "x" * 33, "news\n"])
def test_what_is_no_scope_is_an_error(scope: str) -> None:
    """A blank in a stream's name would shift the address, and the daemon would be asked of another."""
    with pytest.raises(ValueError, match="no scope"):
        Client("/nowhere", when_unknown="send").may_send(LIVE, scope)


@pytest.mark.parametrize(
    "address",
    [f"Dead <{DEAD}>", f"<{DEAD}>", f" {DEAD}", f"{DEAD} ", f"{DEAD}\n", f"{DEAD}, {LIVE}", f"{DEAD} (comment)", f"a;{DEAD}", "a b@x.test"],
)
def test_what_is_more_than_an_address_is_an_error(address: str) -> None:
    """What smtplib would mail, but the daemon has no record of as it is written, is never "yes"."""
    for client in (Client("/nowhere", when_unknown="send"), Client("/nowhere")):
        with pytest.raises(ValueError, match="no address"):
            client.may_send(address)


@pytest.mark.parametrize(
    "address", ["o'brien+x=y@x.test", '"a b@c"@x.test', r'"a\"b"@x.test', "josé@bücher.test", "a..b.@x.test", "a@[IPv6:::1]"]
)
def test_every_address_can_be_asked_about(address: str) -> None:
    """What the daemon takes for an address the client does not keep from it."""
    address_key(address)
    with pytest.raises(TemporaryFailure):
        Client("/nowhere").may_send(address)


def test_a_lone_surrogate_is_an_error() -> None:
    """Text that has no octets is no address."""
    with pytest.raises(ValueError, match="surrogates"):
        Client("/nowhere").may_send("\ud800@x.test")


def test_a_misspelt_choice_is_an_error() -> None:
    """A word that is neither "raise" nor "send" is not taken for one of them."""
    with pytest.raises(ValueError, match="when_unknown"):
        Client(when_unknown="open")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="when_unknown"):
        AsyncClient(when_unknown="open")  # type: ignore[arg-type]


def test_down(tmp_path: Path) -> None:
    """No socket, or one that nobody listens on: temporary failure."""
    for _ in range(ROUNDS):
        assert Both(tmp_path / "none").may_send(LIVE) == ["later", "later"]
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "stale"))
    stale.close()
    assert Both(tmp_path / "stale").may_send(LIVE) == ["later", "later"]


def test_hung_before_it_accepts(tmp_path: Path) -> None:
    """A daemon that accepts nothing, with room in its queue and without: temporary failure."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        for _ in range(4):
            assert Both(tmp_path / "s", deadline=0.02).may_send(LIVE) == ["later", "later"]


def test_hung_after_it_accepts(tmp_path: Path) -> None:
    """A daemon that hears the question and says nothing: temporary failure."""
    with Impostor(tmp_path / "s", silent):
        for _ in range(5):
            assert Both(tmp_path / "s", deadline=0.02).may_send(LIVE) == ["later", "later"]


def test_too_slow(tmp_path: Path) -> None:
    """An answer that trickles in is too late at the deadline of the whole, however short each wait for an octet."""
    with Impostor(tmp_path / "s", trickling):
        assert Both(tmp_path / "s", deadline=0.1).may_send(LIVE) == ["later", "later"]


@pytest.mark.parametrize("answer", CORRUPT, ids=repr)
def test_nonsense(answer: bytes, tmp_path: Path) -> None:
    """What is not exactly one answer of the protocol is a temporary failure."""
    with Impostor(tmp_path / "s", saying(answer)):
        for _ in range(ROUNDS // 20):
            assert Both(tmp_path / "s").may_send(LIVE) == ["later", "later"]


@pytest.mark.parametrize(("answer", "may_send"), [(b"9:NOTFOUND ,", True), (b"15:OK 550 5.7.1 no,", False)])
def test_sense(answer: bytes, may_send: bool, tmp_path: Path) -> None:
    """Control: an impostor's right answers are taken, so that the wrong ones are refused for what they say."""
    with Impostor(tmp_path / "s", saying(answer)):
        assert Both(tmp_path / "s", deadline=10).may_send(LIVE) == [may_send, may_send]


@pytest.mark.parametrize("answer", [b"9:NOTFOUND ,", b"7:OK b+x,", b"12:OK b@x\r\nDATA,", b"8:OK b@x ,", b"10:OK <b@x.y>,,"], ids=repr)
def test_a_return_path_is_one(answer: bytes, tmp_path: Path) -> None:
    """What is no address is not handed to a mailer that would write it into an SMTP command, fail open or not."""
    with Impostor(tmp_path / "s", saying(answer)):
        client = Client(str(tmp_path / "s"), when_unknown="send")
        with pytest.raises(TemporaryFailure):
            client.return_path(LIVE)
        client.close()


def test_fail_open_is_a_choice(tmp_path: Path) -> None:
    """Who said "send" is told to send when it cannot be told, and only then."""
    assert Both(tmp_path / "none", when_unknown="send").may_send(LIVE) == [True, True]
    with Impostor(tmp_path / "s", saying(b"15:OK 550 5.7.1 no,")):
        assert Both(tmp_path / "s", deadline=10, when_unknown="send").may_send(DEAD) == [False, False]


def test_a_stopped_daemon(daemon: tuple[Path, int]) -> None:
    """While the daemon is stopped, temporary failure; when it goes on, its late answers are nobody's."""
    path, pid = daemon
    client = Client(str(path), deadline=0.05)
    patient = Client(str(path), deadline=10)
    assert patient.may_send(LIVE)
    os.kill(pid, signal.SIGSTOP)
    try:
        for address in (LIVE, DEAD) * (ROUNDS // 2 if not ACCEPTANCE else 1000):
            with pytest.raises(TemporaryFailure):
                client.may_send(address)
    finally:
        os.kill(pid, signal.SIGCONT)
    client._deadline = 10
    assert [client.may_send(address) for address in (DEAD, LIVE, LIVE, DEAD)] == [False, True, True, False]
    client.close()
    patient.close()


def test_a_late_answer_is_nobodys(tmp_path: Path) -> None:
    """After a question without an answer its connection is not asked on: the next answer there would be the last question's."""
    release = threading.Event()

    def late(connection: socket.socket) -> None:
        connection.recv(4096)
        release.wait(10)
        connection.sendall(b"9:NOTFOUND ,")
        connection.recv(4096)

    with Impostor(tmp_path / "s", late):
        for keep in (False, True):
            release.clear()
            client = Client(str(tmp_path / "s"), deadline=0.05)
            with _keeping(client, keep):
                with pytest.raises(TemporaryFailure):
                    client.may_send(LIVE)
                release.set()
                if keep:
                    # Control: a client that kept it would take the answer about LIVE for one about DEAD.
                    client._deadline = 5
                    assert client.may_send(DEAD)
                else:
                    assert not client._idle
            client.close()


@contextmanager
def _keeping(client: Client, keep: bool) -> Iterator[None]:
    """Make a client keep a connection whatever came of it, if `keep`."""
    if not keep:
        yield
        return
    connect = client._connect

    def connected(end: float) -> tuple[socket.socket, select.poll]:
        connection, answers = connect(end)
        kept, its_answers = connection.dup(), select.poll()
        its_answers.register(kept, select.POLLIN)
        client._idle.append((kept, its_answers))
        return connection, answers

    client._connect = connected  # type: ignore[method-assign]
    yield


def test_a_restarted_daemon_costs_one_new_connection(tmp_path: Path) -> None:
    """A kept connection that ended meanwhile is replaced, and the question asked again, without an error."""
    client = Client(str(tmp_path / "s"), deadline=5)
    for _ in range(3):
        (tmp_path / "s").unlink(missing_ok=True)
        with Impostor(tmp_path / "s", saying(b"9:NOTFOUND ,")):
            assert client.may_send(LIVE)
            assert client.may_send(LIVE)
    client.close()


async def test_a_restarted_daemon_from_asyncio(tmp_path: Path) -> None:
    """The same for asyncio."""
    client = AsyncClient(str(tmp_path / "s"), deadline=5)
    for _ in range(3):
        (tmp_path / "s").unlink(missing_ok=True)
        with Impostor(tmp_path / "s", saying(b"9:NOTFOUND ,")):
            assert await client.may_send(LIVE)
            assert await client.may_send(LIVE)
    client.close()
    await asyncio.sleep(0)


def test_it_needs_the_standard_library_alone() -> None:
    """A mailer's environment gets by with this one file."""
    tree = ast.parse(Path(bounced.client.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported
    assert {name.partition(".")[0] for name in imported} <= set(sys.stdlib_module_names)


def test_many_are_asked_at_once(daemon: tuple[Path, int]) -> None:
    """A list is answered in its order, more than one round trip holds too."""
    client = Client(str(daemon[0]), deadline=5)
    addresses = [DEAD if number % 7 == 0 else f"live{number}@remote.test" for number in range(250)]
    assert client.may_send_many(addresses, "news") == [address != DEAD for address in addresses]
    assert client.refusals([]) == []
    with pytest.raises(ValueError):
        client.may_send_many([LIVE, "nobody"])
    client.close()


async def test_many_are_asked_at_once_from_asyncio(daemon: tuple[Path, int]) -> None:
    """The same for asyncio."""
    client = AsyncClient(str(daemon[0]), deadline=5)
    assert await client.may_send_many([DEAD, LIVE] * 120) == [False, True] * 120
    client.close()


def test_many_without_a_daemon(tmp_path: Path) -> None:
    """Where it cannot be told, it cannot be told of any of them; open where one said so."""
    with pytest.raises(TemporaryFailure):
        Client(str(tmp_path / "none")).may_send_many([DEAD, LIVE])
    assert Client(str(tmp_path / "none"), when_unknown="send").may_send_many([DEAD, LIVE] * 60) == [True] * 120


def test_a_signer_signs_without_the_daemon(tmp_path: Path) -> None:
    """With the keys a return path is signed here, and proves what it must; a new key in the file signs the next; an opaque one is asked."""
    keys = tmp_path / "keys"
    ring = KeyRing(()).rotated(b"k" * 32)
    keys.write_text(ring.render())
    client = Client(str(tmp_path / "none"), signer=Signer("bounces.example.net", str(keys)).sign)
    for _ in range(2):
        local_part, _, domain = client.return_path(LIVE, "news").rpartition("@")
        claims = ReturnPath(ring=ring, scopes=(Scope("news"),)).verify(local_part, int(time.time()), lambda _: None)
        assert isinstance(claims, Claims)
        assert (claims.recipient, claims.scope, domain) == (LIVE, "news", "bounces.example.net")
        ring = KeyRing(()).rotated(b"n" * 32)
        keys.unlink()
        keys.write_text(ring.render())
    with pytest.raises(TemporaryFailure):
        client.return_path("x" * 64 + "@remote.test", "news")
    with pytest.raises(ValueError):
        client.return_path("nobody", "news")
