"""Replies that are kept until the next commit: said again without a look at the database, and never after they ceased to be true."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from bounced.address import AddressKey
from bounced.consult import Consult
from bounced.listen import _MOST_REPLIES, Replies
from bounced.policy import Policy
from bounced.record import Cause, Imported
from bounced.scope import EVERYWHERE
from bounced.store import tables
from bounced.store.relay import RelayedStore
from bounced.store.sqlite import SqliteStore
from tests.asking import DEAD, DOMAIN, LIVE, NEWS, NOW, asked, consult_over, query_door, return_path, with_dead
from tests.listen.test_listen import peer
from tests.query.wires import SocketmapWire

_T = TypeVar("_T")
COMMAS = '"a,b"@remote.test'


class Counting(RelayedStore):
    """Another process's reader, which counts how often the database was asked for a block."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "db", directory / "nobody.sock")
        self.asked = 0

    async def warm(self) -> None:
        """Read the addresses into memory, as `keep_known` does."""
        assert self._connection is not None
        await self._read_known(self._connection)

    def _read(self, read: Callable[..., _T], *asked: object) -> _T:
        self.asked += read in {tables.blocking, tables.blocking_of_many}
        return super()._read(read, *asked)


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[Consult]:
    """The process that writes; DEAD is on its list."""
    store = await SqliteStore.open(tmp_path / "db", Policy())
    yield await with_dead(consult_over(store))
    await store.close()


@pytest.fixture
async def reader(writer: Consult, tmp_path: Path) -> AsyncIterator[Counting]:
    """The process that answers."""
    store = Counting(tmp_path)
    await store.warm()
    yield store
    await store.close()


async def said(path: Path, *recipients: str) -> Sequence[str]:
    """Ask for recipients in one piece."""
    async with peer(path, SocketmapWire()) as mailer:
        mailer.writer.write(b"".join(SocketmapWire().check(one.encode(), "news") for one in recipients))
        return await mailer.said(len(recipients))


async def many(path: Path, *recipients: str) -> Sequence[bytes]:
    """Ask for recipients by `checks`; return the first word of each answer."""
    answers = await asked(path, b"checks_news\n" + "".join(f"{one}\n" for one in recipients).encode())
    return [answer.split()[0] for answer in answers.splitlines()]


async def test_what_was_answered_is_said_again(reader: Counting, tmp_path: Path) -> None:
    """The second time nobody asks the database, whether questions come alone, in one piece or by lines; the answers are the same."""
    consult = consult_over(reader)
    async with query_door(consult, tmp_path / "s", "socketmap"), query_door(consult, tmp_path / "l", "line"):
        for _ in range(3):
            assert await said(tmp_path / "s", DEAD) == ["suppressed"]
            assert await said(tmp_path / "s", LIVE) == ["clear"]
            assert await said(tmp_path / "s", LIVE, DEAD, LIVE) == ["clear", "suppressed", "clear"]
        assert reader.asked == 1
        # A comma within a key is no end of a request: all of the piece is read anew.
        assert await said(tmp_path / "s", LIVE, COMMAS, DEAD, COMMAS) == ["clear", "clear", "suppressed", "clear"]
        assert reader.asked == 2
        for _ in range(3):
            assert await many(tmp_path / "l", LIVE, DEAD, COMMAS) == [b"clear", b"suppressed", b"clear"]
        assert reader.asked == 3


async def test_only_what_is_new_in_a_piece_is_looked_up(writer: Consult, reader: Counting, tmp_path: Path) -> None:
    """Of questions that come together, those that were answered before are not asked of the database again."""
    other = f"other-{DEAD}"
    await writer.block(other, EVERYWHERE, by="test", reason="to be found")
    async with query_door(consult_over(reader), tmp_path / "s", "socketmap"):
        assert await said(tmp_path / "s", DEAD) == ["suppressed"]
        assert await said(tmp_path / "s", DEAD, other, LIVE, DEAD) == ["suppressed", "suppressed", "clear", "suppressed"]
        assert reader.asked == 2


@pytest.mark.parametrize("inner", [DEAD, LIVE])
async def test_a_request_within_a_key_is_none(reader: Counting, tmp_path: Path, inner: str) -> None:
    """A key that holds a whole request between its commas is one question, also where that request was answered before."""
    request = SocketmapWire().check(inner.encode(), "news").decode()
    async with query_door(consult_over(reader), tmp_path / "s", "socketmap"):
        for _ in range(2):
            assert await said(tmp_path / "s", f'"x,{request}y"@remote.test', inner) == ["clear", "suppressed" if inner == DEAD else "clear"]
            assert await said(tmp_path / "s", f'"x,{request}y"@remote.test') == ["clear"]


async def rounds(writer: Consult, path: Path) -> int:
    """Block and release by turns, and ask twice after each; return how many answers were not the truth."""
    wrong = 0
    for truth in ("clear", "suppressed") * 5:
        if truth == "clear":
            await writer.release(DEAD, by="test", reason="found alive")
        else:
            await writer.block(DEAD, EVERYWHERE, by="test", reason="to be found")
        for _ in range(2):
            wrong += await said(path, DEAD) != [truth]
    return wrong


async def test_a_commit_of_another_process_ends_them(writer: Consult, reader: Counting, tmp_path: Path) -> None:
    """After a block or a release by the process that writes, the next answer of the one that only reads says so."""
    async with query_door(consult_over(reader), tmp_path / "s", "socketmap"):
        assert await said(tmp_path / "s", DEAD) == ["suppressed"]
        assert await rounds(writer, tmp_path / "s") == 0


async def test_a_forgetting_ends_them(writer: Consult, reader: Counting, tmp_path: Path) -> None:
    """Who is forgotten stays blocked under another name; who is then released is clear at once."""
    async with query_door(consult_over(reader), tmp_path / "s", "socketmap"):
        assert await said(tmp_path / "s", DEAD) == ["suppressed"]
        await writer.forget(DEAD, by="test", reason="asked to be")
        assert await said(tmp_path / "s", DEAD) == ["suppressed"]
        await writer.release(DEAD, by="test", reason="found alive")
        assert await said(tmp_path / "s", DEAD) == ["clear"]


async def test_a_memory_without_an_end_is_found(writer: Consult, reader: Counting, tmp_path: Path) -> None:
    """Control: the same rounds find replies that a commit does not end."""
    async with query_door(consult_over(reader), tmp_path / "s", "socketmap") as door:
        door.replies = Replies(lambda: b"always")
        assert await said(tmp_path / "s", DEAD) == ["suppressed"]
        assert await rounds(writer, tmp_path / "s") == 10


async def test_what_ends_by_itself_is_not_kept(writer: Consult, reader: Counting, tmp_path: Path) -> None:
    """A block that ends at a time is asked for each time, and is over when its time is, without a commit."""
    now = NOW
    consult = Consult(domain=DOMAIN, return_path=return_path(), store=reader, unread=consult_over()._unread, clock=lambda: now)
    block = Imported(
        at=NOW, key=AddressKey(LIVE), scope=EVERYWHERE, by="test", source="other", cause=Cause.SOFT, category="x", since=NOW, until=NOW + 60
    )
    await writer._store.record(block)
    async with query_door(consult, tmp_path / "s", "socketmap"), query_door(consult, tmp_path / "l", "line"):
        for now, truth in ((NOW, "suppressed"), (NOW + 59, "suppressed"), (NOW + 60, "clear"), (NOW, "suppressed")):  # noqa: B007
            for _ in range(2):
                assert await said(tmp_path / "s", LIVE) == [truth]
                assert await many(tmp_path / "l", LIVE) == [truth.encode()]


async def test_other_streams_end_them(reader: Counting, tmp_path: Path) -> None:
    """After a reload by which a stream is declared no more, nothing of it is answered from before."""
    consult = consult_over(reader)
    async with query_door(consult, tmp_path / "s", "socketmap"):
        assert await said(tmp_path / "s", DEAD, LIVE) == ["suppressed", "clear"]
        consult.use(replace(return_path(), scopes=tuple(one for one in return_path().scopes if one != NEWS)))
        assert await said(tmp_path / "s", DEAD, LIVE) == ["trouble", "trouble"]


async def test_a_database_that_is_let_go_ends_them(reader: Counting, tmp_path: Path) -> None:
    """Where the list cannot be read any more, what was clear before is not clear now."""
    async with query_door(consult_over(reader), tmp_path / "s", "socketmap"):
        assert await said(tmp_path / "s", DEAD, LIVE) == ["suppressed", "clear"]
        reader.let_go()
        assert await said(tmp_path / "s", DEAD, LIVE) == ["trouble", "trouble"]


def test_they_are_bounded() -> None:
    """However many are kept, the oldest go; the newest stay."""
    replies = Replies(lambda: b"always")
    for number in range(3 * _MOST_REPLIES):
        replies.current("x")
        replies.keep("x", {b"%d" % number: b"y"})
    kept = replies.current("x")
    assert len(kept) <= _MOST_REPLIES
    assert all(b"%d" % number in kept for number in range(3 * _MOST_REPLIES - _MOST_REPLIES // 2, 3 * _MOST_REPLIES))


async def test_a_stream_that_nobody_declared_is_kept_nowhere(reader: Counting, tmp_path: Path) -> None:
    """Whoever asks about one made-up stream after the other has us remember none of them."""
    async with query_door(consult_over(reader), tmp_path / "l", "line") as door:
        for number in range(20):
            assert (await asked(tmp_path / "l", f"checks_made-up-{number}\n{LIVE}\n".encode())).startswith(b"trouble ")
        assert door.replies._replies == {}
