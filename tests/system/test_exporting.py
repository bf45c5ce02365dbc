"""The list as a file: what each reader of such files finds in it, and that it is there whole or not at all."""

import csv
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bounced.cli.exporting import write
from bounced.fault import OperatorFault
from tests.system.daemon import PROJECT, Daemon, alive
from tests.system.waiting import until

PEOPLE = [
    "dead@receiver.example",
    "=cmd@receiver.example",
    '"john smith"@receiver.example',
    "o'neil+x@receiver.example",
    "#tag@receiver.example",
]
_SINCE = 1_795_000_000


def block(address: str, scope: str = "*", **more: object) -> dict[str, object]:
    """One block, as the list tells it."""
    return {"address": address, "scope": scope, "cause": "hard", "category": "no-such-user", "since": _SINCE, "until": None, **more}


BLOCKS = [*(block(one) for one in PEOPLE), block("news@receiver.example", "news"), block("#0f1e2d", "*")]
REPLY = "550 5.7.1 recipient is on the suppression list (hard, no-such-user, 2026-11-18)"


def test_access_is_what_postmap_reads(tmp_path: Path, need_program: Callable[[str], str]) -> None:
    """Postfix finds each address in the text, as texthash, and nobody else; what the text cannot hold is counted."""
    said = write(tmp_path / "access", "access", None, BLOCKS)
    assert said == f"{tmp_path}/access: 3 addresses, 3 left out that have no address or cannot be written in this form"
    for address in ("dead@receiver.example", "o'neil+x@receiver.example", "=cmd@receiver.example"):
        assert postmap(need_program, f"texthash:{tmp_path}/access", address) == REPLY
    for address in ("live@receiver.example", "news@receiver.example", "john"):
        assert postmap(need_program, f"texthash:{tmp_path}/access", address) == ""


def test_cdb_is_what_postmap_reads(tmp_path: Path, need_program: Callable[[str], str]) -> None:
    """Postfix finds each address in the constant database, quoted ones too, in the stream that was asked for."""
    if "cdb" not in subprocess.run([need_program("postconf"), "-m"], capture_output=True, text=True, check=True).stdout.split():
        pytest.fail("the package postfix-cdb is missing") if os.environ.get("BOUNCED_REQUIRE_ALL") == "1" else pytest.skip(
            "needs postfix-cdb"
        )
    write(tmp_path / "list.cdb", "cdb", "news", [*BLOCKS, *(block(f"{number}@many.example") for number in range(3_000))])
    for address in ("dead@receiver.example", "john smith@receiver.example", "#tag@receiver.example", "news@receiver.example"):
        assert postmap(need_program, f"cdb:{tmp_path}/list", address) == REPLY
    assert postmap(need_program, f"cdb:{tmp_path}/list", "live@receiver.example") == ""
    keys = "".join(f"{number}@many.example\n" for number in range(4_000))
    found = subprocess.run(
        [need_program("postmap"), "-q", "-", f"cdb:{tmp_path}/list"], input=keys, capture_output=True, text=True, check=False
    )
    assert found.stdout.count("\n") == 3_000


def test_cdb_is_what_the_format_says(tmp_path: Path) -> None:
    """Every key is found by the algorithm of cr.yp.to/cdb/cdb.txt, and none that is not there."""
    write(tmp_path / "list.cdb", "cdb", None, BLOCKS)
    octets = (tmp_path / "list.cdb").read_bytes()
    assert looked_up(octets, b"dead@receiver.example") == REPLY.encode()
    assert looked_up(octets, b"john smith@receiver.example") == REPLY.encode()
    assert looked_up(octets, b"live@receiver.example") is None
    write(tmp_path / "empty.cdb", "cdb", None, [])
    assert looked_up((tmp_path / "empty.cdb").read_bytes(), b"dead@receiver.example") is None


def looked_up(octets: bytes, key: bytes) -> bytes | None:
    """Read a constant database as its page says."""
    value = 5381
    for octet in key:
        value = (value * 33 & 0xFFFFFFFF) ^ octet
    place, slots = struct.unpack_from("<II", octets, (value & 255) * 8)
    for number in range(slots):
        hash_, where = struct.unpack_from("<II", octets, place + ((value >> 8) + number) % slots * 8)
        if not where:
            return None
        length, size = struct.unpack_from("<II", octets, where)
        if hash_ == value and octets[where + 8 : where + 8 + length] == key:
            return octets[where + 8 + length : where + 8 + length + size]
    return None


def postmap(need_program: Callable[[str], str], table: str, key: str) -> str:
    """Ask Postfix."""
    done = subprocess.run([need_program("postmap"), "-q", key, table], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.rstrip("\n")


def test_exim_lsearch_quotes_its_keys(tmp_path: Path) -> None:
    """A key stands in quotes, so that Exim reads blanks, colons and marks in it as they are."""
    write(tmp_path / "list", "exim-lsearch", None, BLOCKS)
    lines = (tmp_path / "list").read_text().splitlines()
    assert lines[0] == f'"dead@receiver.example": {REPLY}'
    assert f'"john smith@receiver.example": {REPLY}' in lines
    assert len(lines) == 5


def test_a_spreadsheet_computes_nothing(tmp_path: Path) -> None:
    """In the table for people no cell begins like a formula; the address stands there behind an apostrophe."""
    write(tmp_path / "list.csv", "csv", None, [*BLOCKS, block("-1@x.test"), block("+1@x.test"), block("@x.test")])
    with (tmp_path / "list.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["address", "scope", "cause", "category", "since", "until"]
    assert rows[1] == ["dead@receiver.example", "*", "hard", "no-such-user", "2026-11-18 11:06:40Z", ""]
    assert "'=cmd@receiver.example" in [row[0] for row in rows]
    assert [cell for row in rows for cell in row if cell[:1] in {"=", "+", "-", "@"}] == []
    assert len(rows) == len(BLOCKS) + 4


def test_jsonl_has_every_block(tmp_path: Path) -> None:
    """One object a line, as the list tells it; of one stream those everywhere too."""
    write(tmp_path / "list.jsonl", "jsonl", None, BLOCKS)
    assert [json.loads(line) for line in (tmp_path / "list.jsonl").read_text().splitlines()] == BLOCKS
    write(tmp_path / "list.jsonl", "jsonl", "default", BLOCKS)
    assert len((tmp_path / "list.jsonl").read_text().splitlines()) == len(BLOCKS) - 1


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """Whoever has the old file open keeps it; where the list breaks off, the old file stays, and no draft."""
    file = tmp_path / "list"
    file.write_text("old\n")
    file.chmod(0o644)

    def broken() -> Iterator[dict[str, object]]:
        yield BLOCKS[0]
        raise OperatorFault("the daemon went away", "")

    with file.open() as old:
        with pytest.raises(OperatorFault):
            write(file, "access", None, broken())
        assert file.read_text() == "old\n"
        write(file, "access", None, BLOCKS)
        assert old.read() == "old\n"
    assert file.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in tmp_path.iterdir()] == ["list"]
    with pytest.raises(OperatorFault, match="cannot write"):
        write(tmp_path / "nowhere" / "list", "access", None, BLOCKS)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon with somebody on its list."""
    with alive() as one:
        one.tell("block", "dead@receiver.example")
        yield one


def test_the_command_reads_through_the_daemon(daemon: Daemon, tmp_path: Path) -> None:
    """`bounced export` writes what the daemon knows; without a daemon it says so, and writes nothing."""
    daemon.tell("export", "--format", "exim-lsearch", str(tmp_path / "list"))
    assert (tmp_path / "list").read_text().startswith('"dead@receiver.example": 550 5.7.1 ')
    assert daemon.run("export", "--format", "cdb", str(tmp_path / "none" / "list")).returncode == 78


def test_a_watched_file_stays_fresh(daemon: Daemon, tmp_path: Path) -> None:
    """With --watch the file is written anew when the list changes."""
    file = tmp_path / "list"
    command = [
        sys.executable,
        "-m",
        "bounced",
        "-C",
        str(daemon.home / "bounced.toml"),
        "export",
        "--format",
        "access",
        str(file),
        "--watch",
    ]
    with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: file.exists() and "dead@" in file.read_text(), "the first file")
            daemon.tell("block", "next@receiver.example")
            until(lambda: "next@receiver.example" in file.read_text(), "the next file")
        finally:
            process.terminate()
