"""The database file: what is refused at the start, and how."""

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bounced.fault import OperatorFault
from bounced.outcome import Disposition
from bounced.policy import Policy
from bounced.store import StoreFault, files
from bounced.store.sqlite import SqliteStore
from tests.store.events import ANNA, BERT, bounced


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database closed in order, with enough in it to be worth damaging."""
    return asyncio.run(_filled(tmp_path_factory.mktemp("sound") / "bounced.db", 1500))


@pytest.fixture(scope="module")
def crashed(sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as a crash leaves it: the last commits are in the log alone."""
    directory = tmp_path_factory.mktemp("crashed")

    async def crash() -> None:
        path = directory / "run" / "bounced.db"
        path.parent.mkdir()
        for file in sound.parent.iterdir():
            shutil.copy2(file, path.parent)
        store = await SqliteStore.open(path, Policy())
        await store.record(bounced(5000, Disposition.HARD, BERT))
        for file in path.parent.iterdir():
            if not file.name.endswith("-shm"):
                shutil.copy2(file, directory)
        await store.close()

    asyncio.run(crash())
    return directory / "bounced.db"


async def _filled(path: Path, events: int) -> Path:
    store = await SqliteStore.open(path, Policy())
    await asyncio.gather(*(store.record(bounced(mail, key=ANNA)) for mail in range(events)))
    await store.close()
    return path


def _copied(path: Path, to: Path) -> Path:
    for file in path.parent.iterdir():
        if file.is_file():
            shutil.copy2(file, to)
    return to / path.name


def _overwrite(path: Path, at: int, octets: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(octets)


def _header(path: Path) -> None:
    _overwrite(path, 0, b"x" * 100)


def _pages(path: Path) -> None:
    dice = random.Random(path.stat().st_ino)
    for page in dice.sample(range(1, path.stat().st_size // 4096), 30):
        _overwrite(path, page * 4096, dice.randbytes(4096))


def _truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def _torn(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1000)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _missing(path: Path) -> None:
    path.unlink()


def _newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()


def _foreign(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE addresses (address)")
    connection.close()


def _garbled_state(path: Path) -> None:
    files.beside(path, ".state").write_bytes(b"\xff\xfe nonsense")


def _garbage_log(path: Path) -> None:
    files.beside(path, "-wal").write_bytes(random.Random(1).randbytes(20_000))


def _no_log(path: Path) -> None:
    files.beside(path, "-wal").unlink()


def _empty_log_head(path: Path) -> None:
    _overwrite(files.beside(path, "-wal"), 0, bytes(32))


_ROUNDS = 20 if os.environ.get("BOUNCED_ACCEPTANCE") == "1" else 1
_EITHER = [_header, _pages, _truncated, _torn, _empty, _missing, _garbled_state, _garbage_log]


def _name(value: object) -> str:
    return getattr(value, "__name__", str(value)).strip("_")


def _contents(directory: Path) -> dict[str, bytes]:
    # Whoever looks into a database makes an index of the log, and a log without content.
    files = {file.name: file.read_bytes() for file in directory.iterdir() if not file.name.endswith("-shm")}
    return {name: octets for name, octets in files.items() if octets or not name.endswith("-wal")}


async def _refused(path: Path) -> OperatorFault:
    """Open the database, which must be refused in one line, with a hint, and without a change to any file."""
    before = _contents(path.parent)
    with pytest.raises(OperatorFault) as caught:
        await SqliteStore.open(path, Policy())
    assert _contents(path.parent) == before
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    return caught.value


async def _damaged_and_refused(good: Path, place: Path, damage: Callable[[Path], None]) -> None:
    for number in range(_ROUNDS):
        directory = place / str(number)
        directory.mkdir()
        path = _copied(good, directory)
        damage(path)
        assert str(await _refused(path)) == str(await _refused(path))


@pytest.mark.parametrize("damage", [*_EITHER, _newer, _foreign], ids=_name)
async def test_damage_after_an_orderly_end_is_refused(sound: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """A database that was damaged while nobody used it is refused with one line and a hint, twice alike, and never made anew."""
    await _damaged_and_refused(sound, tmp_path, damage)


@pytest.mark.parametrize(
    "damage", [_pages, _truncated, _empty, _missing, _garbled_state, _garbage_log, _no_log, _empty_log_head], ids=_name
)
async def test_damage_after_a_crash_is_refused(crashed: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """The same after a crash, and a log that is missing or headless is refused, since commits are lost with it."""
    await _damaged_and_refused(crashed, tmp_path, damage)


@pytest.mark.parametrize("damage", [_header, _torn], ids=_name)
async def test_damage_that_the_log_mends_is_mended(crashed: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """The first and the last page stand in the log after a crash: overwritten in the file, they are taken from there, nothing is lost."""
    path = _copied(crashed, tmp_path)
    damage(path)
    store = await SqliteStore.open(path, Policy())
    assert len(store.history(ANNA)) == 1500
    assert store.look_up(BERT).standings
    await store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


async def test_sqlite_alone_would_serve_what_we_refuse(crashed: Path, tmp_path: Path) -> None:
    """The control: plain SQLite takes an emptied file and a crashed database without its log for sound, and the block is gone."""
    path = _copied(crashed, tmp_path)
    _no_log(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    assert connection.execute("SELECT count(*) FROM standing WHERE address = ?", (BERT,)).fetchall() == [(0,)]
    connection.close()
    _empty(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    connection.close()


async def test_what_a_crash_left_is_served(crashed: Path, tmp_path: Path) -> None:
    """The control of the damage tests: undamaged, the crashed database opens, and what was in the log alone is there."""
    store = await SqliteStore.open(_copied(crashed, tmp_path), Policy())
    assert store.look_up(BERT) == (await store.record(bounced(5000, Disposition.HARD, BERT))).after
    assert len(store.history(ANNA)) == 1500
    await store.close()


@pytest.mark.parametrize("log", [b"", b"\x37\x7f\x06\x82", bytes(32)], ids=["empty", "short", "zeros"])
async def test_a_log_that_never_began_is_no_damage(sound: Path, tmp_path: Path, log: bytes) -> None:
    """A crash in the moment after an orderly start can leave a log without a whole head: nothing was in it."""
    path = _copied(sound, tmp_path)
    files.beside(path, "-wal").write_bytes(log)
    store = await SqliteStore.open(path, Policy())
    assert len(store.history(ANNA)) == 1500
    await store.close()


async def test_a_crash_while_creating_is_no_damage(tmp_path: Path) -> None:
    """A half-made draft and a state file that says nothing are what a crash at the first start leaves: it begins again."""
    path = tmp_path / "bounced.db"
    files.beside(path, ".new").write_bytes(b"SQLite for")
    files.beside(path, ".state").touch()
    store = await SqliteStore.open(path, Policy())
    await store.close()
    assert sorted(_modes(tmp_path)) == ["bounced.db", "bounced.db-shm", "bounced.db-wal", "bounced.db.state"]


async def test_what_a_crash_left_of_copies_goes(sound: Path, tmp_path: Path) -> None:
    """A start takes away half-made copies, with what SQLite laid beside them, and no file of the operator's."""
    path = _copied(sound, tmp_path)
    theirs = [files.beside(path, suffix) for suffix in (".copy", ".copy-2026-03-01", ".backup", ".old")]
    for file in (*theirs, files.beside(path, f"{files.COPY}0"), files.beside(path, f"{files.COPY}3-journal")):
        file.touch()
    store = await SqliteStore.open(path, Policy())
    await store.close()
    left = set(_modes(tmp_path))
    assert {file.name for file in theirs} <= left
    assert not [name for name in left if files.COPY in name]


async def test_two_daemons_never_write_one_file(tmp_path: Path, sqlite_store: SqliteStore) -> None:
    """The second is refused with a hint, and may when the first is gone."""
    with pytest.raises(OperatorFault, match="another process writes"):
        await SqliteStore.open(tmp_path / "bounced.db", Policy())
    await sqlite_store.close()
    await (await SqliteStore.open(tmp_path / "bounced.db", Policy())).close()


def _modes(directory: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in directory.iterdir()}


async def test_the_world_reads_nothing(tmp_path: Path) -> None:
    """Whatever the umask, others may not read database, log, index and state; a database restored too openly is closed to them."""
    path = tmp_path / "bounced.db"
    umask = os.umask(0)
    try:
        store = await SqliteStore.open(path, Policy())
        await store.record(bounced(1))
        modes = _modes(tmp_path)
        await store.close()
        path.chmod(0o666)
        await (await SqliteStore.open(path, Policy())).close()
    finally:
        os.umask(umask)
    assert modes == dict.fromkeys(("bounced.db", "bounced.db-wal", "bounced.db-shm", "bounced.db.state"), 0o640)
    assert path.stat().st_mode & 0o007 == 0


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """A directory that is not there is the operator's fault, and the line names it."""
    with pytest.raises(OperatorFault, match="nowhere"):
        await SqliteStore.open(tmp_path / "nowhere" / "bounced.db", Policy())


_NEXT = """
CREATE TABLE extra (address TEXT NOT NULL PRIMARY KEY, note TEXT) STRICT, WITHOUT ROWID;
INSERT INTO extra SELECT address, 'kept' FROM standing;
ALTER TABLE tally ADD COLUMN note TEXT;
CREATE INDEX event_at ON event (at);
"""

_MIGRATE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from bounced.store import files
path, directory, deadly = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
connection = files.connect_writer(path)
seen = 0
def count(statement):
    global seen
    seen += 1
    if seen == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
connection.set_trace_callback(count)
files.migrate(connection, directory)
connection.close()
print(seen)
"""


def test_what_is_no_damage_is_not_called_so(tmp_path: Path) -> None:
    """A full disk and a foreign lock pass, and a file that we may not write wants another owner: nobody is told to throw the list away."""
    path = tmp_path / "bounced.db"
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("PRAGMA max_page_count = 2")
        with pytest.raises(StoreFault, match="no room"), files.told_as_faults(path):
            connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
        with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreFault, match="SQLITE_BUSY"), files.told_as_faults(path):
                connection.execute("BEGIN IMMEDIATE")
        connection.execute("PRAGMA query_only = ON")
        with pytest.raises(OperatorFault, match="SQLITE_READONLY") as caught, files.told_as_faults(path):
            connection.execute("DELETE FROM t")
    assert "owner" in caught.value.hint
    assert files.RESTORE not in caught.value.hint


def test_a_migration_survives_kill_at_each_statement(sound: Path, tmp_path: Path) -> None:
    """Killed at any statement, a migration leaves the old schema or the new one, whole, with all rows; the next start ends it."""
    last = max(int(file.stem) for file in files.SCHEMA.glob("*.sql"))
    schema = shutil.copytree(files.SCHEMA, tmp_path / "schema")
    (schema / f"{last + 1:04}.sql").write_text(_NEXT, encoding="utf-8")
    outcomes = set()
    for deadly in range(1, 50):
        run = tmp_path / str(deadly)
        run.mkdir()
        path = _copied(sound, run)
        command = [sys.executable, "-c", _MIGRATE_AND_DIE, str(path), str(schema), str(deadly)]
        child = subprocess.run(command, capture_output=True, check=False, text=True)
        assert child.returncode in {0, -signal.SIGKILL}, child.stderr
        connection = files.connect_writer(path)
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        assert ({"extra", "event_at"} <= tables) == (version == last + 1)
        files.migrate(connection, schema)
        files.check(connection, path)
        assert connection.execute("SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM extra)").fetchall() == [(1500, 1)]
        connection.close()
        outcomes.add((child.returncode == 0, version - last))
        if child.returncode == 0:
            break
    assert {(False, 0), (True, 1)} <= outcomes <= {(False, 0), (False, 1), (True, 1)}


def test_a_migration_that_fails_changes_nothing(sound: Path, tmp_path: Path) -> None:
    """An error in the midst of a migration rolls all of it back, its number too."""
    last = max(int(file.stem) for file in files.SCHEMA.glob("*.sql"))
    (tmp_path / f"{last + 1:04}.sql").write_text("CREATE TABLE half (x); CREATE TABLE event (x);", encoding="utf-8")
    connection = files.connect_writer(_copied(sound, tmp_path))
    with pytest.raises(sqlite3.OperationalError):
        files.migrate(connection, tmp_path)
    assert connection.execute("PRAGMA user_version").fetchall() == [(last,)]
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").fetchall() == [(0,)]
    connection.close()


def test_a_migration_without_a_transaction_is_found_out(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: where each statement commits by itself, a migration that fails leaves a half."""

    class Careless(sqlite3.Connection):
        def executescript(self, script: str, /) -> sqlite3.Cursor:
            return super().executescript(script.replace("BEGIN IMMEDIATE;", "").replace("COMMIT;", ""))

    monkeypatch.setattr(files, "_connect", lambda path, *_, **__: sqlite3.connect(path, isolation_level=None, factory=Careless))
    with pytest.raises(AssertionError):
        test_a_migration_that_fails_changes_nothing(sound, tmp_path)


async def test_an_older_version_refuses_what_a_newer_one_wrote(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up, back and up again: the older version refuses, says how to go back, and changes nothing, so that no row of either is lost."""
    place = tmp_path / "database"
    place.mkdir()
    path = _copied(sound, place)
    older, newer = files.SCHEMA, shutil.copytree(files.SCHEMA, tmp_path / "schema")
    last = max(int(file.stem) for file in older.glob("*.sql"))
    (newer / f"{last + 1:04}.sql").write_text(_NEXT, encoding="utf-8")
    monkeypatch.setattr(files, "SCHEMA", newer)
    store = await SqliteStore.open(path, Policy())
    await store.record(bounced(5000, Disposition.HARD, BERT))
    await store.close()

    monkeypatch.setattr(files, "SCHEMA", older)
    refusal = await _refused(path)
    assert f"has schema {last + 1}, and this version knows {last}" in str(refusal)
    assert "restore the backup made before the upgrade" in refusal.hint

    monkeypatch.setattr(files, "SCHEMA", newer)
    store = await SqliteStore.open(path, Policy())
    assert (len(store.history(ANNA)), len(store.history(BERT))) == (1500, 1)
    await store.close()


def test_migrations_are_numbered_without_gaps() -> None:
    """The files in schema are 0001.sql, 0002.sql and so on."""
    names = sorted(file.name for file in files.SCHEMA.iterdir())
    assert names == [f"{number:04}.sql" for number in range(1, len(names) + 1)]


async def test_the_log_does_not_grow_from_crash_to_crash(tmp_path: Path) -> None:
    """A daemon that is killed soon after each start does not make the write-ahead log longer each time: the start empties it."""
    path = tmp_path / "0" / "bounced.db"
    path.parent.mkdir()
    lengths = []
    for life in range(4):
        store = await SqliteStore.open(path, Policy())
        await asyncio.gather(*(store.record(bounced(life * 200 + mail, key=ANNA)) for mail in range(200)))
        lengths.append(files.beside(path, "-wal").stat().st_size)
        after_kill = tmp_path / str(life + 1) / "bounced.db"
        after_kill.parent.mkdir()
        for file in path.parent.iterdir():
            if not file.name.endswith("-shm"):
                shutil.copy2(file, after_kill.parent)
        await store.close()
        path = after_kill

    assert max(lengths) < 2 * lengths[0], lengths
