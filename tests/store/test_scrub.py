"""A database that looks as it did when it was closed is served at once, and read for damage meanwhile."""

import asyncio
import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bounced.fault import OperatorFault
from bounced.outcome import Disposition
from bounced.policy import Policy
from bounced.store import StoreFault, files, scrub
from bounced.store.sqlite import SqliteStore
from tests.store.events import ANNA, bounced
from tests.store.recorder import of_mail

_EVENTS = 5000


@pytest.fixture
async def closed(tmp_path: Path) -> Path:
    """A database closed in order, with more rows than are read in one piece."""
    path = tmp_path / "bounced.db"
    store = await SqliteStore.open(path, Policy())
    await asyncio.gather(*(store.record(of_mail(number)) for number in range(_EVENTS)))
    await store.intern("a" * 16, ANNA)
    await store.close()
    return path


def _unnoticed(path: Path, damage: Callable[[Path], None]) -> None:
    """Damage the file as a disk does that rots: no clock and no size tells."""
    status = path.stat()
    damage(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _root(path: Path, name: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchall()
        return int(page)


def _overwrite_root(name: str) -> Callable[[Path], None]:
    def overwrite(path: Path) -> None:
        page = _root(path, name)
        with path.open("r+b") as stream:
            stream.seek((page - 1) * 4096)
            stream.write(random.Random(page).randbytes(4096))

    return overwrite


def _reword(old: bytes, new: bytes) -> Callable[[Path], None]:
    def reword(path: Path) -> None:
        octets = path.read_bytes()
        assert old in octets
        with path.open("r+b") as stream:
            stream.write(octets.replace(old, new))

    return reword


async def test_a_closed_file_is_served_without_reading_it(closed: Path) -> None:
    """What rotted while nobody looked does not keep the start waiting, since the file is not read; the next test finds it."""
    _unnoticed(closed, _overwrite_root("event"))
    store = await SqliteStore.open(closed, Policy())
    assert store.look_up(of_mail(1).key).standings
    await store.close()


async def test_a_file_with_a_newer_time_is_read_first(closed: Path) -> None:
    """The control: the same damage, if the file's time tells of a change, is refused at the start."""
    _overwrite_root("event")(closed)
    with pytest.raises(OperatorFault, match="damaged"):
        await SqliteStore.open(closed, Policy())


async def test_a_file_with_something_in_its_log_is_read_first(closed: Path) -> None:
    """Who wrote to a closed database by other means has its file read, though the file itself is as it was."""
    with closing(sqlite3.connect(closed)) as other, closing(sqlite3.connect(closed)) as second:
        other.execute("CREATE TABLE other (x)")
        second.execute("SELECT * FROM other").fetchall()
        _unnoticed(closed, _overwrite_root("event"))
        with pytest.raises(OperatorFault, match="damaged"):
            await SqliteStore.open(closed, Policy())


@pytest.mark.parametrize(
    ("where", "damage"),
    [
        *((name, _overwrite_root(name)) for name in ("event", "event_token", "standing", "opaque", "hold", "incident", "tally")),
        ("standing", _reword(b"user2500@example.org", b"uzer2500@example.org")),
        ("event", _reword(b'"reader":"', b'"re\xff\xfeer":"')),
    ],
    ids=["event", "token", "standing", "opaque", "hold", "incident", "tally", "order", "no text"],
)
async def test_damage_is_found_while_it_is_served(closed: Path, where: str, damage: Callable[[Path], None]) -> None:
    """The background check finds it in every tree; then nothing is answered or taken any more, and the next start refuses."""
    _unnoticed(closed, damage)
    store = await SqliteStore.open(closed, Policy())
    with pytest.raises(OperatorFault, match=f"damaged, in {where}"):
        await store.scrub(0)
    with pytest.raises(StoreFault):
        store.look_up(of_mail(1).key)
    with pytest.raises(StoreFault):
        await store.record(bounced(1, Disposition.HARD, ANNA))
    await store.close()

    with pytest.raises(OperatorFault, match="was found damaged"):
        await SqliteStore.open(closed, Policy())


async def test_a_sound_file_is_read_to_its_end_in_pieces(closed: Path) -> None:
    """Nothing is found where nothing is wrong, and events come in the meantime."""
    store = await SqliteStore.open(closed, Policy())
    pieces = 0
    for _ in scrub.pieces(closed):
        pieces += 1
        await store.record(of_mail(_EVENTS + pieces))
    await store.scrub(0)
    await store.close()
    # Three walks over 5,000 rows, two over few, four small tables.
    assert pieces == 3 * 3 + 2 + 4


def test_every_table_and_index_is_read(tmp_path: Path) -> None:
    """What the schema has and the check does not know would rot unseen."""
    connection = sqlite3.connect(tmp_path / "bounced.db")
    files.migrate(connection)
    ours = connection.execute("SELECT name, tbl_name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'").fetchall()
    connection.close()
    walked = {name for name, _, _ in scrub._WALKS}
    assert {name for name, table in ours if table not in scrub._SMALL} == walked
    assert set(scrub._SMALL) == {name for name, table in ours if name == table} - walked
