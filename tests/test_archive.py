"""The archive of returned mail: whole, compressed, bounded in size and age."""

import asyncio
import gzip
import time
from pathlib import Path

from bounced.archive import Archive
from bounced.cli.messages import messages_in

NOW = 1_790_000_000
DAY = 86_400


def octets(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.iterdir())


def contents(directory: Path) -> list[bytes]:
    return [found.content for found in messages_in([str(directory)])]


def segments(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """What lies there: by name the time of the last change, the mode, the octets."""
    files = ((file, file.stat()) for file in directory.iterdir())
    return {file.name: (found.st_mtime_ns, found.st_mode & 0o777, file.read_bytes()) for file, found in files}


def cut_short(directory: Path) -> None:
    """Take the last octets of the one segment away."""
    (segment,) = directory.iterdir()
    segment.write_bytes(segment.read_bytes()[:-10])


async def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    """Messages come out as they went in, in order, also such as quote other mailboxes."""
    archive = Archive(tmp_path, 1 << 20, 90 * DAY)
    given = [
        b"Subject: one\n\nFrom here on\n>From there\n>>From afar\n",
        b"Subject: two\r\n\r\n\x00\xff\r\n",
        b"Subject: three\n\nno end of line",
    ]

    for content in given:
        await archive.keep(content, NOW)

    assert contents(tmp_path) == [given[0], given[1], given[2] + b"\n"]


async def test_it_lies_compressed_and_private(tmp_path: Path) -> None:
    """A file a day, which gzip reads and nobody else; an archive that is opened again goes on in a file of its own."""
    for at in (NOW, NOW + 1, NOW + DAY):
        await Archive(tmp_path / "archive", 1 << 20, 90 * DAY).keep(b"Subject: x\n\n" + b"words " * 1000, at)

    files = sorted((tmp_path / "archive").iterdir())
    assert len({file.name[:10] for file in files}) == 2
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert all(file.stat().st_size < 500 for file in files)
    assert gzip.decompress(files[0].read_bytes()).startswith(b"From MAILER-DAEMON ")


async def test_beyond_the_quota_the_oldest_go(tmp_path: Path) -> None:
    """Whatever comes, the files never take more than the quota, and what came last is there."""
    archive = Archive(tmp_path, 100_000, 90 * DAY)

    for number in range(400):
        noise = bytes((number * 7919 + place * 104729) % 251 for place in range(1500))
        await archive.keep(b"Subject: %d\n\n%s" % (number, noise.hex().encode()), NOW + number)
        assert octets(tmp_path) <= 100_000

    kept = contents(tmp_path)
    assert 20 < len(kept) < 400
    assert kept[-1].startswith(b"Subject: 399\n")


async def test_what_is_too_old_goes(tmp_path: Path) -> None:
    """A file goes when its last message is older than the retention, also when no more comes."""
    archive = Archive(tmp_path, 1 << 20, 90 * DAY)
    written = time.time()
    await archive.keep(b"Subject: old\n\n", NOW)

    await archive.tidy(int(written) + 90 * DAY - 10)
    assert len(contents(tmp_path)) == 1

    await archive.tidy(int(written) + 90 * DAY + 10)
    assert contents(tmp_path) == []


async def test_who_is_forgotten_is_taken_out(tmp_path: Path) -> None:
    """Messages that name somebody go from every segment, others stay as they lie, and how old a segment is stays too."""
    archive = Archive(tmp_path, 1 << 20, 90 * DAY)
    for number in range(60):
        await archive.keep(b"Subject: %d\n\nto %s\n" % (number, b"anna" if number % 3 == 0 else b"bert"), NOW + number % 2 * DAY)
    before = segments(tmp_path)

    await archive.forget(lambda content: b"to nobody" in content)
    assert segments(tmp_path) == before
    await archive.forget(lambda content: b"to anna" in content)

    assert {name: found[:2] for name, found in segments(tmp_path).items()} == {name: found[:2] for name, found in before.items()}
    assert sorted(int(content.split()[1]) for content in contents(tmp_path)) == [number for number in range(60) if number % 3]
    await archive.keep(b"Subject: 99\n\nto anna\n", NOW + DAY)
    assert len(contents(tmp_path)) == 41


async def test_mail_that_comes_meanwhile_stays(tmp_path: Path) -> None:
    """What is added to a segment while it is searched is in it afterwards, once."""
    archive = Archive(tmp_path, 1 << 20, 90 * DAY)
    for number in range(20):
        await archive.keep(b"Subject: %d\n\nto anna\n" % number, NOW)
    loop = asyncio.get_running_loop()

    def names(content: bytes) -> bool:
        if b"Subject: 7\n" in content:
            asyncio.run_coroutine_threadsafe(archive.keep(b"Subject: 20\n\nto bert\n", NOW), loop).result()
        return b"to anna" in content

    await archive.forget(names)

    assert contents(tmp_path) == [b"Subject: 20\n\nto bert\n"]


async def test_what_cannot_be_unpacked_is_not_left_behind(tmp_path: Path) -> None:
    """A segment that a crash cut short keeps what is whole; of the rest nobody can say whom it names, and it goes."""
    archive = Archive(tmp_path, 1 << 20, 90 * DAY)
    for number in range(3):
        await archive.keep(b"Subject: %d\n\nto bert\n" % number, NOW)
    cut_short(tmp_path)

    await archive.forget(lambda _: False)

    assert [int(content.split()[1]) for content in contents(tmp_path)] == [0, 1]
