"""The SQLite store beyond the contract: batches, the disk's errors, cancelled callers, the length of the log."""

import asyncio
import contextlib
import resource
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import aiosqlite
import pytest
from msgspec.structs import replace

from bounced.address import AddressKey
from bounced.fault import OperatorFault
from bounced.outcome import Disposition
from bounced.policy import Policy
from bounced.record import AddressRecord, Blocked
from bounced.store import StoreFault, files, sqlite, tables
from bounced.store.reader import SqliteReader
from bounced.store.sqlite import SqliteStore
from tests.store.events import ANNA, BERT, NEWS, NOON, bounced


async def test_aiosqlite_runs_a_function_in_one_hop() -> None:
    """The one private name of aiosqlite that we use is there, and runs a function of ours in the thread of the connection."""
    async with aiosqlite.connect(":memory:") as connection:
        threads = {await connection._execute(threading.get_ident) for _ in range(3)}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


async def _traced(store: SqliteStore) -> list[str]:
    """Return a list to which every statement of the writing connection is added."""
    statements: list[str] = []
    await store._writer._run(lambda: store._writer._connection.set_trace_callback(statements.append))
    return statements


async def test_what_waits_shares_a_transaction(sqlite_store: SqliteStore) -> None:
    """Fifty calls at once cost two commits at the most: the first and all that waited for it."""
    statements = await _traced(sqlite_store)
    await asyncio.gather(*(sqlite_store.record(bounced(mail)) for mail in range(50)))
    assert 1 <= statements.count("COMMIT") <= 2


async def test_one_after_the_other_commits_each(sqlite_store: SqliteStore) -> None:
    """The control: calls that wait for one another's answers cannot share, and each is committed before its answer."""
    statements = await _traced(sqlite_store)
    for mail in range(10):
        await sqlite_store.record(bounced(mail))
        assert statements.count("COMMIT") == mail + 1


async def test_the_settings_of_the_promise(sqlite_store: SqliteStore) -> None:
    """The writing connection syncs every commit, overwrites what is deleted and checkpoints only when told to."""

    def ask() -> list[object]:
        names = ("synchronous", "journal_mode", "secure_delete", "wal_autocheckpoint", "locking_mode")
        return [sqlite_store._writer._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await sqlite_store._writer._run(ask) == [2, "wal", 1, 0, "normal"]


async def test_one_connection_can_write(sqlite_store: SqliteStore, tmp_path: Path) -> None:
    """Of this process's descriptors on the database one is open for writing (SQLite's WAL-reset bug needs two)."""
    sqlite_store.look_up(ANNA)
    assert _writable_descriptors(tmp_path / "bounced.db") == 1


def _writable_descriptors(path: Path) -> int:
    numbers = [link.name for link in Path("/proc/self/fd").iterdir() if link.is_symlink() and link.readlink() == path]
    flags = [Path("/proc/self/fdinfo", number).read_text().split("flags:")[1].split()[0] for number in numbers]
    assert len(flags) == 2  # the lookups have one of their own
    return sum(int(flag, 8) & 3 != 0 for flag in flags)


@pytest.mark.parametrize(
    "bad",
    [bounced(2, at=1 << 70), bounced(2, key=AddressKey("\udc80@example.org"))],
    ids=["a number that SQLite cannot hold", "a text that SQLite cannot hold"],
)
async def test_a_bad_event_fails_alone(sqlite_store: SqliteStore, bad: object) -> None:
    """An event that cannot be written gets a StoreFault, and those that waited with it are written."""
    answers = await asyncio.gather(
        sqlite_store.record(bounced(1)),
        sqlite_store.record(bad),  # type: ignore[arg-type]
        sqlite_store.record(bounced(3)),
        return_exceptions=True,
    )
    assert [type(answer).__name__ for answer in answers] == ["Recorded", "StoreFault", "Recorded"]
    assert [event.token for event in sqlite_store.history(ANNA)] == [bounced(1).token, bounced(3).token]  # type: ignore[union-attr]


async def _submitted(store: SqliteStore, job: Callable[[sqlite3.Connection], object]) -> object:
    return await store._writer.submit(job)


async def test_want_of_memory_fails_the_batch_alone(sqlite_store: SqliteStore) -> None:
    """A MemoryError in the thread is a StoreFault for all that shared the transaction, and the next call is served."""

    def starve(connection: sqlite3.Connection) -> None:
        raise MemoryError

    answers = await asyncio.gather(
        asyncio.create_task(sqlite_store.record(bounced(1))), _submitted(sqlite_store, starve), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [StoreFault] * 2
    assert list(sqlite_store.history(ANNA)) == []
    assert (await sqlite_store.record(bounced(1))).fresh


async def test_a_cancelled_caller_takes_nothing_back(sqlite_store: SqliteStore) -> None:
    """A caller who is cancelled, waiting or in the midst of the commit, does not undo or delay what it asked for."""
    tasks = [asyncio.create_task(sqlite_store.record(bounced(mail, Disposition.HARD))) for mail in range(20)]
    await asyncio.sleep(0)  # lets them call
    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers[:2]] == [asyncio.CancelledError, sqlite.Recorded]
    await sqlite_store.record(bounced(99, Disposition.HARD))
    assert len(sqlite_store.history(ANNA)) == 21


async def test_a_cancelled_close_still_closes(tmp_path: Path) -> None:
    """Whoever gives up waiting for the end does not cut it short: all is committed, and the file is free."""
    store = await SqliteStore.open(tmp_path / "bounced.db", Policy())
    waiting = [asyncio.create_task(store.record(bounced(mail))) for mail in range(100)]
    await asyncio.sleep(0)  # lets them call
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)  # lets it begin
    closing.cancel()
    assert all(answer.fresh for answer in await asyncio.gather(*waiting))
    await store.close()
    again = await SqliteStore.open(tmp_path / "bounced.db", Policy())
    assert len(again.history(ANNA)) == 100
    await again.close()


async def test_a_long_queue_is_refused(sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls beyond the bound get a StoreFault at once, the others are served."""
    monkeypatch.setattr(sqlite, "MAX_WAITING", 10)
    answers = await asyncio.gather(*(sqlite_store.record(bounced(mail)) for mail in range(12)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [sqlite.Recorded] * 10 + [StoreFault] * 2


@contextlib.contextmanager
def _no_file_grows() -> Iterator[None]:
    """Make writes beyond the first 8 KiB of a file fail (EFBIG: to SQLite an I/O error)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_an_error_of_the_disk_is_answered_and_over_when_it_is_over(sqlite_store: SqliteStore) -> None:
    """While writing fails all calls get StoreFault, nothing is stored and lookups work; afterwards a new connection serves."""
    await sqlite_store.record(bounced(1))
    before = sqlite_store._writer._connection
    with _no_file_grows():
        for _ in range(2):
            answers = await asyncio.gather(*(sqlite_store.record(bounced(mail)) for mail in range(2, 30)), return_exceptions=True)
            assert {type(answer) for answer in answers} == {StoreFault}
        assert [type(error) for error in answers if "IOERR" in str(error)]
        assert list(sqlite_store.history(ANNA)) == [bounced(1)]
    assert (await sqlite_store.record(bounced(2))).fresh
    assert list(sqlite_store.history(ANNA)) == [bounced(1), bounced(2)]
    assert sqlite_store._writer._connection is not before


async def test_an_error_at_the_end_loses_nothing(tmp_path: Path) -> None:
    """If the disk fails while the store closes, or while it opens again, the log stays, and the start after that has everything."""
    path = tmp_path / "bounced.db"
    store = await SqliteStore.open(path, Policy())
    await asyncio.gather(*(store.record(bounced(mail)) for mail in range(100)))
    with _no_file_grows():
        await store.close()
        with pytest.raises(OperatorFault):
            await SqliteStore.open(path, Policy())
    assert _log_octets(path) > 0
    store = await SqliteStore.open(path, Policy())
    assert len(store.history(ANNA)) == 100
    await store.close()
    assert _log_octets(path) == 0


async def test_after_an_error_of_the_disk_the_file_is_checked(sqlite_store: SqliteStore, tmp_path: Path) -> None:
    """If the error left damage, nothing is acknowledged until the file is sound again; then the same process serves."""
    await asyncio.gather(*(sqlite_store.record(bounced(mail)) for mail in range(1, 400)))
    await sqlite_store._writer._run(sqlite_store._writer._checkpoint)
    path = tmp_path / "bounced.db"
    with _no_file_grows(), pytest.raises(StoreFault):
        await sqlite_store.record(bounced(500))
    old = _leaf_of_old_events(path)
    sound = _swap_page(path, old, b"\xff" * 4096)
    for _ in range(3):
        with pytest.raises(StoreFault, match="is damaged"):
            await sqlite_store.record(bounced(500, key=BERT))
    _swap_page(path, old, sound)
    assert (await sqlite_store.record(bounced(500, key=BERT))).fresh


async def test_a_store_that_checks_nothing_after_an_error_is_found_out(
    sqlite_store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: a connection that is opened again without a look at the file goes on in the damage."""
    monkeypatch.setattr(files, "check", lambda *_: None)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await test_after_an_error_of_the_disk_the_file_is_checked(sqlite_store, tmp_path)


def _leaf_of_old_events(path: Path) -> int:
    """Return a page that no new event needs: SQLite by itself would not see that it is damaged."""
    octets = path.read_bytes()
    pages = [octets[begin : begin + 4096] for begin in range(0, len(octets), 4096)]
    # https://www.sqlite.org/fileformat2.html#b_tree_pages: 13 is a leaf of a table with numbered rows.
    return next(number for number, page in enumerate(pages) if page[0] == 13 and ANNA.encode() in page)


def _swap_page(path: Path, page: int, octets: bytes) -> bytes:
    with path.open("r+b") as stream:
        stream.seek(page * 4096)
        old = stream.read(4096)
        stream.seek(page * 4096)
        stream.write(octets)
    return old


async def test_a_foreign_lock_is_waited_for_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another program holds the write lock, calls get StoreFault and lookups answer; then the same connection serves on."""
    monkeypatch.setattr(files, "WRITE_PATIENCE", 0.05)
    store = await SqliteStore.open(tmp_path / "bounced.db", Policy())
    connection = store._writer._connection
    foreign = sqlite3.connect(tmp_path / "bounced.db", isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreFault, match="SQLITE_BUSY"):
        await store.record(bounced(1))
    assert store.look_up(ANNA) == AddressRecord(key=ANNA)
    foreign.execute("ROLLBACK")
    foreign.close()
    assert (await store.record(bounced(1))).fresh
    assert store._writer._connection is connection
    await store.close()


def _log_octets(path: Path) -> int:
    return files.beside(path, "-wal").stat().st_size


async def _record_until(store: SqliteStore, mails: range, stop: Callable[[], bool]) -> None:
    for mail in mails:
        if stop():
            return
        await store.record(bounced(mail, key=AddressKey(f"user{mail * 7919 % 10007}@example.org")))


async def test_the_log_stays_short(sqlite_store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints come by themselves, between batches: the log begins again and again at its start."""
    monkeypatch.setattr(sqlite, "CHECKPOINT_AFTER", 20)
    statements = await _traced(sqlite_store)
    await _record_until(sqlite_store, range(200), lambda: False)
    await sqlite_store.count({})  # comes after the checkpoint that follows the last
    assert statements.count("PRAGMA wal_checkpoint(PASSIVE)") == 10
    assert _log_octets(tmp_path / "bounced.db") < 600_000


async def test_a_reader_without_end_cannot_grow_the_log_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign read that never ends holds the log to its limit: then calls are refused, and served again when it is over."""
    monkeypatch.setattr(sqlite, "CHECKPOINT_AFTER", 20)
    monkeypatch.setattr(sqlite, "LOG_LIMIT", 500_000)
    monkeypatch.setattr(files, "WRITE_PATIENCE", 0.05)
    path = tmp_path / "bounced.db"
    store = await SqliteStore.open(path, Policy())
    foreign = sqlite3.connect(path, isolation_level=None)
    foreign.execute("BEGIN")
    foreign.execute("SELECT count(*) FROM event").fetchall()
    with pytest.raises(StoreFault, match="some other program"):
        await _record_until(store, range(1000), lambda: False)
    assert 500_000 < _log_octets(path) < 900_000
    with pytest.raises(StoreFault, match="some other program"):
        await store.record(bounced(2000))
    assert store.look_up(ANNA) == AddressRecord(key=ANNA)
    foreign.close()
    assert (await store.record(bounced(2000))).fresh
    assert _log_octets(path) < 500_000
    await store.close()


async def test_a_log_without_limit_would_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: where nobody is refused, the log outgrows what the limit keeps it to."""
    monkeypatch.setattr(sqlite, "_FRAME", 0)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        await test_a_reader_without_end_cannot_grow_the_log_without_end(tmp_path, monkeypatch)
    assert _log_octets(tmp_path / "bounced.db") > 900_000


async def test_an_overview_is_read_in_pieces(sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the pieces, the sums are the same: no piece reads twice what another has read, and none leaves anything out."""
    for mail in range(25):
        await sqlite_store.record(
            bounced(mail, Disposition.HARD if mail % 2 else Disposition.BLOCKED, AddressKey(f"user{mail}@example.org"))
        )
        await sqlite_store.record(Blocked(at=mail, key=AddressKey(f"user{mail}@example.org"), scope=NEWS, by="me", reason="so"))
    whole = await sqlite_store.overview(0, 10)
    assert (whole.known, sum(whole.blocks.values()), sum(whole.categories.values())) == (25, 12 + 25, 25)
    for piece in (1, 2, 3, 7, 25, 26, 50):
        monkeypatch.setattr(tables, "_READ_AT_ONCE", piece)
        assert await sqlite_store.overview(0, 10) == whole


async def test_a_reader_of_its_own_sees_what_was_committed(sqlite_store: SqliteStore, tmp_path: Path) -> None:
    """Another process may look up in the same file: it sees each commit, cannot write, and says StoreFault when closed."""
    reader = SqliteReader(tmp_path / "bounced.db")
    assert reader.look_up(ANNA).block(NEWS, 0) is None
    await sqlite_store.record(bounced(1, Disposition.HARD))
    assert reader.look_up(ANNA) == sqlite_store.look_up(ANNA)
    assert list(reader.history(ANNA)) == [bounced(1, Disposition.HARD)]
    connection = reader._connection
    assert connection is not None
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM standing")
    reader.close()
    with pytest.raises(StoreFault):
        reader.look_up(ANNA)


async def test_a_reader_without_database_says_so(tmp_path: Path) -> None:
    """Nothing is created by asking: a missing file is a StoreFault."""
    with pytest.raises(StoreFault, match="CANTOPEN"):
        SqliteReader(tmp_path / "bounced.db")
    assert not (tmp_path / "bounced.db").exists()


async def test_what_cannot_be_read_is_no_empty_record(sqlite_store: SqliteStore) -> None:
    """A standing or an event that this version cannot read is a StoreFault: never clear, never left out."""
    await sqlite_store.record(bounced(1, Disposition.HARD))
    connection = sqlite_store._writer._connection
    await sqlite_store._writer._run(lambda: connection.execute("UPDATE standing SET cause = 'x'"))
    await sqlite_store._writer._run(lambda: connection.execute("UPDATE event SET detail = '{'"))
    for read in (sqlite_store.look_up, sqlite_store.history):
        with pytest.raises(StoreFault, match="cannot read"):
            read(ANNA)
    with pytest.raises(StoreFault, match="cannot read"):
        await sqlite_store.record(bounced(2))


async def test_nothing_deleted_stays_in_the_file(sqlite_store: SqliteStore, tmp_path: Path) -> None:
    """What is deleted from a table is gone from database and log after a checkpoint (secure_delete)."""
    await sqlite_store.intern("a" * 16, AddressKey("somebody.to.forget@example.org"))
    path = tmp_path / "bounced.db"
    assert b"somebody.to.forget" in files.beside(path, "-wal").read_bytes()
    connection = sqlite_store._writer._connection
    await sqlite_store._writer._run(lambda: connection.execute("DELETE FROM opaque"))
    await sqlite_store._writer._run(lambda: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    assert b"somebody.to.forget" not in path.read_bytes() + files.beside(path, "-wal").read_bytes()


def traces(directory: Path, word: bytes) -> list[str]:
    """Name the files of a store that hold `word`, in any case."""
    return sorted(file.name for file in directory.iterdir() if word.lower() in file.read_bytes().lower())


async def test_no_file_has_the_forgotten_address(sqlite_store: SqliteStore, tmp_path: Path) -> None:
    """After forgetting, neither the database nor its log holds a trace of the address; before, both may."""
    words = "550 <Anna.Marker@example.org> is unknown"
    marker = AddressKey("anna.marker@example.org")
    for mail in range(400):
        key = marker if mail % 4 == 0 else AddressKey(f"user{mail}@example.org")
        event = bounced(mail, Disposition.HARD, key, NOON + mail)
        await sqlite_store.record(replace(event, outcome=replace(event.outcome, diagnostic=words)))
    await sqlite_store.intern("a" * 16, marker)
    assert traces(tmp_path, b"anna.marker")
    await sqlite_store.forget(marker)
    assert traces(tmp_path, b"anna.marker") == []
    assert traces(tmp_path, b"user399@example.org")


async def test_forgetting_says_when_the_log_is_held(sqlite_store: SqliteStore, tmp_path: Path) -> None:
    """While some other program reads the old state, the log cannot be emptied, and it is said; afterwards it is done."""
    await sqlite_store.record(bounced(1, Disposition.HARD))
    with closing(sqlite3.connect(tmp_path / "bounced.db", isolation_level=None)) as foreign:
        foreign.execute("BEGIN")
        foreign.execute("SELECT count(*) FROM event").fetchall()
        with pytest.raises(StoreFault, match="some other program reads"):
            await sqlite_store.forget(ANNA)
    await sqlite_store.forget(ANNA)
    assert traces(tmp_path, b"anna@") == []


async def test_forgetting_leaves_traces_without_overwriting(sqlite_store: SqliteStore, tmp_path: Path) -> None:
    """Control: an address that is deleted like any row, with nothing overwritten and the log left, is found in the files."""
    await sqlite_store.record(bounced(1, Disposition.HARD))
    await sqlite_store.forget(BERT)
    assert traces(tmp_path, b"anna@") == ["bounced.db"]
    with closing(sqlite3.connect(tmp_path / "bounced.db")) as foreign, foreign:
        foreign.execute("PRAGMA secure_delete = OFF")
        foreign.execute("DELETE FROM event")
        foreign.execute("DELETE FROM standing")
    assert traces(tmp_path, b"anna@")
