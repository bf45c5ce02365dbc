"""The archive of returned mail: whole, compressed, bounded in size and age."""

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
