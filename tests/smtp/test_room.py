"""A disk that fills up: mail is put off before it comes, in time, and taken again by itself."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bounced.smtp.room import Room
from tests.conftest import lacking
from tests.smtp.talk import Client, House, on_asyncio, pass_time


class Clock:
    """A clock that stands still."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    if os.geteuid() != 0:
        lacking("root, to mount a small disk")
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def test_room_is_what_is_asked_for_or_a_tenth(disk: Path) -> None:
    """On a small disk a tenth is enough, where less is asked for that is enough; a look holds for a second."""
    clock = Clock()
    a_tenth, little = Room(disk, 64 << 20, clock), Room(disk, 4096, clock)
    assert (a_tenth(), little()) == (True, True)

    (disk / "mail").write_bytes(bytes(960 << 10))
    assert (a_tenth(), little()) == (True, True)
    clock.now = 1
    assert (a_tenth(), little()) == (False, True)

    (disk / "mail").unlink()
    clock.now = 2
    assert a_tenth()


def test_a_full_disk_is_a_line_a_minute(disk: Path) -> None:
    """While the disk is full that is logged once a minute, and once when it is over."""
    clock = Clock()
    room = Room(disk, 64 << 20, clock)
    (disk / "mail").write_bytes(bytes(1000 << 10))
    with capture_logs() as logs:
        for second in range(150):
            clock.now = second
            assert not room()
        (disk / "mail").unlink()
        for second in range(150, 200):
            clock.now = second
            assert room()

    assert [line["event"] for line in logs] == ["smtp.disk_full"] * 3 + ["smtp.disk_has_room"]


def test_a_disk_that_is_not_there_is_for_the_store_to_tell(tmp_path: Path) -> None:
    """What cannot be looked at is no reason to send mail away."""
    assert Room(tmp_path / "nowhere", 1 << 40, Clock())()


@on_asyncio
async def test_mail_is_put_off_while_there_is_no_room(house: House, disk: Path) -> None:
    """MAIL is answered 452 while the disk is full, what follows it in a group 451, and all 250 on the same connection when it is not."""
    address = await house.open(disk=disk, min_free=64 << 20)
    async with await Client.greeted(address) as client:
        (disk / "mail").write_bytes(bytes(1000 << 10))
        assert await client.say(b"MAIL FROM:<>") == "452 4.3.1 the disk is nearly full, please try again later\r\n"
        assert (await client.say(b"RCPT TO:<%s>" % house.signed().encode())).startswith("451 ")
        assert (await client.say(b"DATA")).startswith("451 ")
        (disk / "mail").unlink()
        await pass_time(2)
        assert (await client.mail(house.signed())).startswith("250 ")
