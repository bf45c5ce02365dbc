"""The query sockets with real peers: order, back pressure, limits, drain, and never "clear" because something broke."""

import asyncio
import contextlib
import os
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bounced import listen
from bounced.address import AddressKey
from bounced.consult import Consult
from bounced.listen import QueryDoor, QuerySettings
from bounced.policy import Policy
from bounced.query.socketmap import NOT_FOUND
from bounced.record import AddressRecord
from bounced.scope import EVERYWHERE
from bounced.store.memory import MemoryStore
from bounced.store.sqlite import SqliteStore
from tests.asking import DEAD, LIVE, asked, bound, consult_over, query_door, with_dead
from tests.query.wires import WIRES, LineWire, PolicyWire, SocketmapWire, Wire

ROUNDS = 10_000 if os.environ.get("BOUNCED_ACCEPTANCE") == "1" else 200
PROTOCOLS = {"socketmap": "socketmap", "policy_delegation": "policy", "line": "line", "milter": "milter"}
LONG = "a-local-part-that-does-not-fit-into-a-return-path-" + "x" * 20 + "@remote.test"

every_wire = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)


class Gated(MemoryStore):
    """A memory store whose interning waits until the gate is opened, as for a slow disk."""

    def __init__(self) -> None:
        super().__init__(Policy())
        self.gate = asyncio.Event()

    async def intern(self, opaque_id: str, key: AddressKey) -> None:
        await self.gate.wait()
        await super().intern(opaque_id, key)


class Peer:
    """A mailer's connection."""

    def __init__(self, wire: Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.wire = wire
        self.reader = reader
        self.writer = writer

    def check(self, recipient: str) -> None:
        self.writer.write(self.wire.check(recipient.encode(), "news"))

    def sign(self, recipient: str) -> None:
        self.writer.write(self.wire.sign(recipient.encode(), "news") or b"")

    async def said(self, count: int) -> list[str]:
        """Read so many answers."""
        octets = b""
        end = b"," if isinstance(self.wire, SocketmapWire) else b"\n\n"
        while octets.count(b"TEMP") + octets.count(b"NOTFOUND") + octets.count(b"OK ") + octets.count(b"action=") < count or not (
            octets.endswith(end)
        ):
            more = await self.reader.read(65536)
            assert more, octets
            octets += more
        return list(self.wire.answers(octets))

    async def ended(self, most: int = -1) -> bytes:
        """Read to the end of the connection, or what has come of `most` octets; a reset is an end."""
        try:
            return await self.reader.read(most)
        except (ConnectionResetError, BrokenPipeError):
            return b""


@asynccontextmanager
async def peer(path: Path, wire: Wire) -> AsyncIterator[Peer]:
    """Connect, and close at the end."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield Peer(wire, reader, writer)
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except (ConnectionResetError, BrokenPipeError):
            pass


@every_wire
async def test_each_protocol_is_served(wire: Wire, tmp_path: Path) -> None:
    """Each wire protocol answers on its socket what consult knows."""
    async with query_door(await with_dead(consult_over()), tmp_path / "s", PROTOCOLS[wire.name]):
        assert wire.answers(await asked(tmp_path / "s", wire.greeting() + wire.check(DEAD.encode(), "news"))) == ["suppressed"]
        assert wire.answers(await asked(tmp_path / "s", wire.greeting() + wire.check(LIVE.encode(), "news"))) == ["clear"]


async def test_an_unknown_protocol_is_refused(tmp_path: Path) -> None:
    """A name that is no protocol is an error at the start, not a silent socket."""
    with bound(tmp_path / "s") as sock, pytest.raises(KeyError):
        await QueryDoor(consult_over(), QuerySettings()).listen(sock, "smtp")


async def test_a_tcp_socket_will_do() -> None:
    """A mailer on another machine of the same private network can ask too, where the operator binds such a socket."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    door = QueryDoor(consult_over(), QuerySettings())
    await door.listen(sock, "line")
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(b"check live@remote.test\n")
    assert await reader.read() == b"clear"
    writer.close()
    await door.drain(5)


@pytest.mark.parametrize("wire", [SocketmapWire(), PolicyWire()], ids=lambda wire: wire.name)
async def test_many_questions_on_one_connection(wire: Wire, tmp_path: Path) -> None:
    """Pipelined questions, more than one reading holds, are answered in their order."""
    async with query_door(await with_dead(consult_over()), tmp_path / "s", PROTOCOLS[wire.name]), peer(tmp_path / "s", wire) as mailer:
        for recipient in [DEAD, LIVE, LIVE] * 200:
            mailer.check(recipient)
        assert await mailer.said(600) == ["suppressed", "clear", "clear"] * 200


async def heard_before(door: QueryDoor, path: Path) -> int:
    """Let 50 mailers ask 500 questions each at once, and one after them one; return how many answers they had when that one had its own."""
    loop, question = asyncio.get_running_loop(), SocketmapWire().check(LIVE.encode(), "news")
    await door.listen(bound(path), "socketmap")
    with contextlib.ExitStack() as stack:
        *busy, single = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(51))
        for each in (*busy, single):
            each.setblocking(False)
            each.connect(str(path))
            await loop.sock_sendall(each, question)
            assert await loop.sock_recv(each, 65536) == NOT_FOUND
        for each in busy:
            assert each.send(question * 500) == 500 * len(question)
        single.send(question)
        assert await loop.sock_recv(single, 65536) == NOT_FOUND
        answers = 0
        for each in busy:
            with contextlib.suppress(BlockingIOError):
                answers += each.recv(1 << 20).count(NOT_FOUND)
    await door.drain(5)
    return answers


async def test_who_asks_once_waits_for_a_share_of_each_flood(tmp_path: Path) -> None:
    """However much others have sent, of each only a part is answered before the single one has its turn, and of many a smaller part."""
    assert await heard_before(QueryDoor(consult_over(), QuerySettings()), tmp_path / "s") <= 50 * 500 / 4


async def test_turns_without_a_bound_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: where one reading takes all that somebody sent, the single question waits for everything."""
    monkeypatch.setattr(listen, "_READ", 1 << 16)
    door = QueryDoor(consult_over(), QuerySettings())
    assert len(door.scratch) == 1 << 16
    assert await heard_before(door, tmp_path / "s") == 50 * 500


async def test_what_does_not_end_as_a_request_is_none(tmp_path: Path) -> None:
    """A request whose comma is another mark is garbled, also where the request was answered before."""
    request = SocketmapWire().check(LIVE.encode(), "news")
    store = await SqliteStore.open(tmp_path / "db", Policy())
    assert store._connection is not None
    await store._read_known(store._connection)
    async with query_door(consult_over(store), tmp_path / "s", "socketmap"):
        assert SocketmapWire().answers(await asked(tmp_path / "s", request)) == ["clear"]
        assert SocketmapWire().answers(await asked(tmp_path / "s", request[:-1] + b";")) == ["trouble"]
    await store.close()


async def test_an_answer_that_waits_keeps_its_place(tmp_path: Path) -> None:
    """A signing that waits for the store holds back the answers behind it, and other connections are not held back."""
    store = Gated()
    wire = SocketmapWire()
    async with (
        query_door(await with_dead(consult_over(store)), tmp_path / "s", "socketmap"),
        peer(tmp_path / "s", wire) as waiting,
        peer(tmp_path / "s", wire) as other,
    ):
        waiting.check(DEAD)
        waiting.sign(LONG)
        waiting.sign(LIVE)
        waiting.check(LIVE)
        assert await waiting.said(1) == ["suppressed"]
        other.check(DEAD)
        assert await other.said(1) == ["suppressed"]
        store.gate.set()
        opaque, plain, clear = await waiting.said(3)
        assert opaque.startswith("b+")
        assert "=remote.test@" not in opaque
        assert plain.endswith("+live=remote.test@bounces.example.net")
        assert clear == "clear"


async def test_exim_half_closes_before_it_reads(tmp_path: Path) -> None:
    """A peer that ends its half after the question still gets an answer that has to wait."""
    store = Gated()
    async with query_door(consult_over(store), tmp_path / "s", "line"):
        answer = asyncio.create_task(asked(tmp_path / "s", LineWire().sign(LONG.encode(), "news") or b""))
        store.gate.set()
        assert (await answer).endswith(b"@bounces.example.net")


@every_wire
async def test_a_broken_store_is_trouble(wire: Wire, tmp_path: Path) -> None:
    """Where the list cannot be read, the answer is "temporary failure", never "clear"."""
    store = MemoryStore(Policy())
    async with query_door(consult_over(store), tmp_path / "s", PROTOCOLS[wire.name]):
        await store.close()
        for request in filter(None, (wire.check(LIVE.encode(), "news"), wire.sign(LONG.encode(), "news"))):
            assert wire.answers(await asked(tmp_path / "s", wire.greeting() + request)) == ["trouble"]


class Buggy(MemoryStore):
    """A store with an error that nobody foresaw."""

    def look_up(self, key: AddressKey) -> AddressRecord:
        raise RuntimeError(f"a bug that shows {key}")

    async def intern(self, opaque_id: str, key: AddressKey) -> None:
        raise RuntimeError(f"a bug that shows {key}")


@every_wire
async def test_a_bug_is_trouble(wire: Wire, tmp_path: Path) -> None:
    """An unforeseen error is answered "temporary failure" too: an end without an answer looks like an empty one to Exim."""
    async with query_door(consult_over(Buggy(Policy())), tmp_path / "s", PROTOCOLS[wire.name]):
        for request in filter(None, (wire.check(LIVE.encode(), "news"), wire.sign(LONG.encode(), "news"))):
            answer = await asked(tmp_path / "s", wire.greeting() + request)
            assert wire.answers(answer) == ["trouble"]
            assert b"shows" not in answer


@every_wire
async def test_a_line_without_end_is_cut(wire: Wire, tmp_path: Path) -> None:
    """Of a request without end no more than the bound is read: then the connection ends, while the peer still writes."""
    async with query_door(consult_over(), tmp_path / "s", PROTOCOLS[wire.name]), peer(tmp_path / "s", wire) as endless:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            while True:
                endless.writer.write(b"x=" + b"y" * 4096)
                await endless.writer.drain()
                await asyncio.sleep(0)


def deaf_peer(path: Path) -> socket.socket:
    """Connect a peer that asks and never reads."""
    deaf = socket.socket(socket.AF_UNIX)
    deaf.connect(str(path))
    deaf.setblocking(False)
    return deaf


async def taken(deaf: socket.socket, most: int) -> int:
    """Write questions until the other side takes no more for a hundred turns of the loop, or `most` octets; return how many it took."""
    questions = SocketmapWire().check(DEAD.encode(), "news") * 200
    octets = patience = 0
    while octets < most and patience < 100:
        try:
            octets += deaf.send(questions)
            patience = 0
        except BlockingIOError:
            patience += 1
        await asyncio.sleep(0)
    return octets


async def test_a_deaf_peer_is_not_read(tmp_path: Path) -> None:
    """Who takes no answers gets no more questions read: what we keep for him is bounded, and the others are served."""
    async with query_door(await with_dead(consult_over()), tmp_path / "s", "socketmap"):
        deaf = [deaf_peer(tmp_path / "s") for _ in range(20)]
        for one in deaf:
            assert await taken(one, 1_000_000) < 1_000_000
        async with peer(tmp_path / "s", SocketmapWire()) as honest:
            honest.check(DEAD)
            assert await honest.said(1) == ["suppressed"]
        for one in deaf:
            one.close()


async def test_without_back_pressure_a_deaf_peer_is_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the measure sees a door that goes on reading."""
    monkeypatch.setattr("bounced.listen._Connection.pause_writing", lambda self: None)
    monkeypatch.setattr("bounced.listen._Connection.resume_writing", lambda self: None)
    async with query_door(await with_dead(consult_over()), tmp_path / "s", "socketmap"):
        with deaf_peer(tmp_path / "s") as deaf:
            assert await taken(deaf, 1_000_000) >= 1_000_000


async def test_a_deaf_peer_that_hears_again_gets_every_answer(tmp_path: Path) -> None:
    """Pausing loses nothing: when the peer reads at last, all answers come, in order."""
    async with query_door(await with_dead(consult_over()), tmp_path / "s", "socketmap"), peer(tmp_path / "s", SocketmapWire()) as mailer:
        for recipient in [DEAD, LIVE] * 3_000:
            mailer.check(recipient)
        sending = asyncio.create_task(mailer.writer.drain())
        assert await mailer.said(6_000) == ["suppressed", "clear"] * 3_000
        await sending


async def test_one_connection_too_many(tmp_path: Path) -> None:
    """Over the limit a connection is ended at once; when another ends, there is room again."""
    settings = QuerySettings(max_connections=2)
    async with query_door(consult_over(), tmp_path / "s", "socketmap", settings), peer(tmp_path / "s", SocketmapWire()) as first:
        async with peer(tmp_path / "s", SocketmapWire()) as second:
            for one in (first, second):
                one.check(LIVE)
                assert await one.said(1) == ["clear"]
            async with peer(tmp_path / "s", SocketmapWire()) as third:
                assert await third.ended() == b""
        for _ in range(1000):  # until the end of the second one has come through
            async with peer(tmp_path / "s", SocketmapWire()) as again:
                again.check(LIVE)
                if answer := await again.ended(65536):
                    break
        assert SocketmapWire().answers(answer) == ["clear"]
        first.check(LIVE)
        assert await first.said(1) == ["clear"]


async def test_a_connection_that_asks_nothing_whole_ends(tmp_path: Path) -> None:
    """Neither silence nor a question that trickles in for ever holds a connection beyond the idle deadline."""
    settings = QuerySettings(idle_seconds=0.05)
    async with query_door(consult_over(), tmp_path / "s", "socketmap", settings):
        async with peer(tmp_path / "s", SocketmapWire()) as silent:
            assert await silent.ended() == b""
        async with peer(tmp_path / "s", SocketmapWire()) as trickling:
            trickling.writer.write(b"4000:access ")
            end = asyncio.create_task(trickling.ended())
            while not end.done():
                trickling.writer.write(b"x" if trickling.writer.transport.get_write_buffer_size() == 0 else b"")
                await asyncio.wait([end], timeout=0.02)
            assert await end == b""


async def test_drain_answers_what_was_asked(tmp_path: Path) -> None:
    """At the end the listener goes first; idle connections end, and one whose answer waits ends after it."""
    store = Gated()
    door = QueryDoor(consult_over(store), QuerySettings())
    await door.listen(bound(tmp_path / "s"), "socketmap")
    async with peer(tmp_path / "s", SocketmapWire()) as idle, peer(tmp_path / "s", SocketmapWire()) as waiting:
        waiting.check(LIVE)
        assert await waiting.said(1) == ["clear"]
        waiting.sign(LONG)
        waiting.check(LIVE)
        idle.check(LIVE)
        assert await idle.said(1) == ["clear"]
        draining = asyncio.create_task(door.drain(30))
        assert await idle.ended() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_unix_connection(tmp_path / "s")
        assert not draining.done()
        store.gate.set()
        assert len(SocketmapWire().answers(await waiting.ended())) == 2
        await draining


async def test_drain_cuts_what_takes_too_long(tmp_path: Path) -> None:
    """After its time drain ends every connection, answered or not, and the path stays: it is not the door's."""
    door = QueryDoor(consult_over(Gated()), QuerySettings())
    await door.listen(bound(tmp_path / "s"), "socketmap")
    async with peer(tmp_path / "s", SocketmapWire()) as waiting:
        waiting.check(LIVE)
        assert await waiting.said(1) == ["clear"]
        waiting.sign(LONG)
        await waiting.writer.drain()
        await door.drain(0.05)
        assert await waiting.ended() == b""
    assert (tmp_path / "s").is_socket()


async def read_your_writes(consult: Consult, mailer: Peer) -> int:
    """Write, then ask on an open connection; return how many answers knew of the write before them."""
    known = 0
    for number in range(ROUNDS):
        address = f"joe{number}@remote.test"
        await consult.block(address, EVERYWHERE, by="test", reason="to be found")
        mailer.check(address)
        known += await mailer.said(1) == ["suppressed"]
    return known


async def test_a_lookup_after_a_commit_knows_it(tmp_path: Path) -> None:
    """The next lookup after a commit says so, every time, with the real store."""
    store = await SqliteStore.open(tmp_path / "db", Policy())
    consult = consult_over(store)
    async with query_door(consult, tmp_path / "s", "socketmap"), peer(tmp_path / "s", SocketmapWire()) as mailer:
        assert await read_your_writes(consult, mailer) == ROUNDS
    await store.close()


class Stale(MemoryStore):
    """A store whose readers are one write behind."""

    def look_up(self, key: AddressKey) -> AddressRecord:
        record = super().look_up(key)
        return AddressRecord(key=key) if len(self.history(key)) == 1 else record


async def test_a_stale_store_is_found(tmp_path: Path) -> None:
    """Control: the count sees readers that are behind."""
    consult = consult_over(Stale(Policy()))
    async with query_door(consult, tmp_path / "s", "socketmap"), peer(tmp_path / "s", SocketmapWire()) as mailer:
        assert await read_your_writes(consult, mailer) == 0


async def test_a_locked_database_is_never_clear(tmp_path: Path) -> None:
    """While another program holds the database locked, what is suppressed is suppressed or trouble, and never clear."""
    store = await SqliteStore.open(tmp_path / "db", Policy())
    consult = await with_dead(consult_over(store))
    foreign = sqlite3.connect(tmp_path / "db", isolation_level=None)
    foreign.execute("BEGIN EXCLUSIVE")
    async with query_door(consult, tmp_path / "s", "socketmap"), peer(tmp_path / "s", SocketmapWire()) as mailer:
        for _ in range(20):
            mailer.check(DEAD)
            assert await mailer.said(1) in (["suppressed"], ["trouble"])
        mailer.check(LIVE)
        assert await mailer.said(1) in (["clear"], ["trouble"])
    foreign.execute("ROLLBACK")
    foreign.close()
    await store.close()
