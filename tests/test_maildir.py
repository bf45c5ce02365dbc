"""The Maildir that has mail on disk before it says so."""

import errno
import gzip
import os
import time
from pathlib import Path

import pytest

from bounced.fault import OwnFault
from bounced.maildir import Maildir


def _messages(path: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted((path / "new").iterdir())]


async def test_keeps_each_message_as_a_file_that_others_cannot_read(tmp_path: Path) -> None:
    """A kept message stands in new/ with its octets unchanged, readable by its owner alone, and tmp/ is empty again."""
    maildir = Maildir(tmp_path / "kept", quota=1 << 20)

    await maildir.keep(b"one\r\n\x00\xff")
    await maildir.keep(b"two")

    assert sorted(_messages(tmp_path / "kept")) == [b"one\r\n\x00\xff", b"two"]
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "kept" / "new").iterdir()} == {0o600}
    assert list((tmp_path / "kept" / "tmp").iterdir()) == []


async def test_beyond_the_quota_the_oldest_go(tmp_path: Path) -> None:
    """When a message does not fit, the oldest are removed until it does, read or not; without need none is."""
    maildir = Maildir(tmp_path, quota=100)
    await maildir.keep(b"a" * 40)
    oldest = next((tmp_path / "new").iterdir())
    seen = tmp_path / "cur" / "0.first"
    oldest.rename(seen)
    await maildir.keep(b"b" * 60)
    assert seen.exists()

    await maildir.keep(b"c" * 10)

    assert not seen.exists()
    assert sorted(_messages(tmp_path)) == [b"b" * 60, b"c" * 10]


async def test_a_message_over_the_quota_is_kept_alone(tmp_path: Path) -> None:
    """A message larger than the whole quota is still kept: losing it silently would be worse."""
    maildir = Maildir(tmp_path, quota=10)
    await maildir.keep(b"small")

    await maildir.keep(b"x" * 50)

    assert _messages(tmp_path) == [b"x" * 50]


async def test_many_small_messages_take_no_endless_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of messages is bounded too, since a message of one octet takes a block of the disk: the oldest go."""
    monkeypatch.setattr("bounced.maildir._MOST_MESSAGES", 3)
    maildir = Maildir(tmp_path, quota=1 << 20)

    for number in range(5):
        await maildir.keep(b"%d" % number)

    assert sorted(_messages(tmp_path)) == [b"2", b"3", b"4"]


async def test_a_full_disk_gets_no_fuller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that could not be written whole leaves nothing behind: its sender comes again and again."""

    def no_room(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    maildir = Maildir(tmp_path, quota=1 << 20)

    for _ in range(3):
        with pytest.raises(OwnFault, match="No space left"):
            await maildir.keep(b"x")

    assert [list((tmp_path / part).iterdir()) for part in ("tmp", "new", "cur")] == [[], [], []]


async def test_counts_what_lies_there_read_or_not(tmp_path: Path) -> None:
    """Messages in new/ and cur/ count, drafts do not; a Maildir that was never made is empty; one that cannot be read is our fault."""
    maildir = Maildir(tmp_path / "kept", quota=1 << 20)
    assert (maildir.path, await maildir.count()) == (tmp_path / "kept", 0)

    await maildir.keep(b"one")
    await maildir.keep(b"two")
    next((tmp_path / "kept" / "new").iterdir()).rename(tmp_path / "kept" / "cur" / "seen")
    (tmp_path / "kept" / "tmp" / "draft").touch()
    assert await maildir.count() == 2

    with pytest.raises(OwnFault, match="cannot read"):
        await Maildir(tmp_path / ("long" * 100), quota=1).count()


async def test_what_cannot_be_written_is_our_fault(tmp_path: Path) -> None:
    """Where the directory cannot be made, keep raises OwnFault, so that the sender is told 4xx."""
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(OwnFault, match="cannot write"):
        await Maildir(tmp_path / "file" / "below", quota=10).keep(b"x")


async def test_returns_after_the_fsync_of_file_and_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message and then the directory it was renamed into are synced before keep returns."""
    synced: list[str] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().parent.name if len(synced) % 2 == 0 else "new")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    await Maildir(tmp_path, quota=100).keep(b"x")

    assert synced == ["tmp", "new"]


async def test_what_has_a_time_lies_compressed_and_goes(tmp_path: Path) -> None:
    """With a retention, messages lie compressed, and go when they are too old, whether or not another comes; without one they stay."""
    now = time.time()
    maildir = Maildir(tmp_path / "timed", 1 << 20, retention=3600, clock=lambda: now)
    forever = Maildir(tmp_path / "untimed", 1 << 20, clock=lambda: now)
    first = await maildir.keep(b"an unread bounce " * 100)
    assert gzip.decompress(first.read_bytes()) == b"an unread bounce " * 100
    await forever.keep(b"a letter")

    now += 3500
    for one in (maildir, forever):
        await one.tidy()
    assert await maildir.count() == await forever.count() == 1

    now += 200
    for one in (maildir, forever):
        await one.tidy()
    assert await maildir.count() == 0
    assert await forever.count() == 1


async def test_who_is_forgotten_is_removed(tmp_path: Path) -> None:
    """Messages that name somebody go, compressed or not, read or not; others stay, also such as are no message."""
    for maildir in (Maildir(tmp_path, quota=1 << 20), Maildir(tmp_path, quota=1 << 20, retention=86_400)):
        for content in (b"to anna", b"to bert"):
            await maildir.keep(content)
    (tmp_path / "cur" / "0.seen").write_bytes(b"to anna")
    (tmp_path / "cur" / "1.odd.gz").write_bytes(b"no gzip: to anna")

    await Maildir(tmp_path, quota=1 << 20).forget(lambda content: b"to anna" in content)

    left = sorted(file.read_bytes() for part in ("new", "cur") for file in (tmp_path / part).iterdir())
    assert left == sorted([b"to bert", gzip.compress(b"to bert", mtime=0), b"no gzip: to anna"])
