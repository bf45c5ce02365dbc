"""The list as a file: export.

For: mailers that read a file and ask nobody, and people with a spreadsheet. Never: the live database; the list is read through the daemon,
and a file is replaced as a whole, so that whoever has it open keeps the old one.
"""

import csv
import io
import json
import os
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import click

from bounced.address import AddressError, Mailbox
from bounced.cli.base import Answer, ask, fresh, pages, stream, when
from bounced.fault import OperatorFault, OwnFault

_WATCH_SECONDS = 60
"""How long one question for events waits."""

_REST_SECONDS = 5.0
"""The list is not read more often, however much happens."""

_MODE = 0o640
_REPLY = "550 5.7.1 recipient is on the suppression list ({cause}, {category}, {day})"
# What a spreadsheet would take for a formula (owasp.org, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Entry = tuple[str, str]
"""An address as mail servers look it up, and the reply for its sender."""


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(["cdb", "access", "exim-lsearch", "jsonl", "csv"]), required=True, help="What to write."
)
@stream
@click.option("--watch", is_flag=True, help="Go on, and write it anew whenever the list changes.")
@click.pass_obj
def export(config_file: Path, file: Path, form: str, scope: str | None, watch: bool) -> None:
    """Write the list to FILE, for mailers that want a file. A forgotten address has no name, and stands in no file but those of people."""
    while True:
        # First the place in the events: what happens while the list is read is seen again.
        after = ask(config_file, "GET", "/v1/events", {"after": "end"})["next"]
        click.echo(write(file, form, scope, _blocks(config_file)), err=True)
        if not watch:
            return
        time.sleep(_REST_SECONDS)
        _wait(config_file, after)


def write(file: Path, form: str, scope: str | None, blocks: Iterable[Answer]) -> str:
    """Replace `file` by the blocks in a form; return what to tell of it. Raises OperatorFault."""
    left_out = [0]
    draft = file.with_name(f".{file.name}.new")
    try:
        with fresh(draft) as stream:
            os.fchmod(stream.fileno(), file.stat().st_mode & 0o777 if file.exists() else _MODE)
            count = _FORMS[form](stream, scope, blocks, left_out)
            stream.flush()
            os.fsync(stream.fileno())
        draft.rename(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OperatorFault(
            f"cannot write {file}: {error.strerror}", "Choose another place; its directory must be yours to write."
        ) from None
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    lost = f", {left_out[0]} left out that have no address or cannot be written in this form" if left_out[0] else ""
    return f"{file}: {count} addresses{lost}"


def _blocks(config_file: Path) -> Iterator[Answer]:
    from rich.console import Console  # noqa: PLC0415 - see running
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("blocks", total=None)
        for page in pages(config_file, "/v1/list", {}):
            bar.advance(task, len(page["blocks"]))
            yield from page["blocks"]


def _wait(config_file: Path, after: str) -> None:
    """Return when something has happened since. While the daemon is away the file stays as it is."""
    while True:
        try:
            if ask(config_file, "GET", "/v1/events", {"after": after, "wait": _WATCH_SECONDS}, 2 * _WATCH_SECONDS)["next"] != after:
                return
        except OwnFault as fault:
            click.echo(f"bounced: {fault}; the file stays as it is", err=True)
            time.sleep(_REST_SECONDS)


def _entries(scope: str | None, blocks: Iterable[Answer], left_out: list[int]) -> Iterator[Entry]:
    """Return each address once that mail of a stream may not go to. The list comes in the order of addresses."""
    last = ""
    for block in blocks:
        if block["scope"] not in ("*", scope or "default") or block["address"] == last:
            continue
        last = block["address"]
        try:
            mailbox = Mailbox.parse(last)
        except AddressError:
            left_out[0] += 1  # the pseudonym of a forgotten one
            continue
        # Postfix and Exim look an address up without its quotes.
        yield f"{mailbox.local_part}@{mailbox.domain}", _REPLY.format(**block, day=when(block["since"])[:10])


def _access(stream: BinaryIO, scope: str | None, blocks: Iterable[Answer], left_out: list[int]) -> int:
    """Write access(5) of Postfix, as source of postmap or as texthash."""
    count = 0
    for address, reply in _entries(scope, blocks, left_out):
        if any(char.isspace() or char in '"#\\' for char in address):
            left_out[0] += 1  # postmap would read something else
            continue
        stream.write(f"{address} {reply}\n".encode())
        count += 1
    return count


def _exim_lsearch(stream: BinaryIO, scope: str | None, blocks: Iterable[Answer], left_out: list[int]) -> int:
    """Write a file for Exim's lsearch: a key in quotes may hold anything but a line's end."""
    count = 0
    for address, reply in _entries(scope, blocks, left_out):
        quoted = address.replace("\\", "\\\\").replace('"', '\\"')
        stream.write(f'"{quoted}": {reply}\n'.encode())
        count += 1
    return count


def _cdb(stream: BinaryIO, scope: str | None, blocks: Iterable[Answer], left_out: list[int]) -> int:
    """Write a constant database (cr.yp.to/cdb/cdb.txt): records, then 256 hash tables, and where they are in front."""
    tables: list[list[tuple[int, int]]] = [[] for _ in range(256)]
    place, count = 2048, 0
    stream.seek(place)
    for address, reply in _entries(scope, blocks, left_out):
        key, value = address.encode(), reply.encode()
        value_hash = _cdb_hash(key)
        tables[value_hash & 255].append((value_hash, place))
        stream.write(struct.pack("<II", len(key), len(value)) + key + value)
        place += 8 + len(key) + len(value)
        count += 1
        if place + 16 * count >= 1 << 32:
            raise OperatorFault("the list does not fit into a cdb of 4 GiB", "Ask the daemon, or use another form.")
    heads = []
    for table in tables:
        slots = [(0, 0)] * (2 * len(table))
        for value_hash, where in table:
            slot = (value_hash >> 8) % len(slots)
            while slots[slot][1]:
                slot = (slot + 1) % len(slots)
            slots[slot] = (value_hash, where)
        heads.append(struct.pack("<II", place, len(slots)))
        stream.write(b"".join(struct.pack("<II", *slot) for slot in slots))
        place += 8 * len(slots)
    stream.seek(0)
    stream.write(b"".join(heads))
    return count


def _cdb_hash(key: bytes) -> int:
    value = 5381
    for octet in key:
        value = ((value << 5) + value ^ octet) & 0xFFFFFFFF
    return value


def _jsonl(stream: BinaryIO, scope: str | None, blocks: Iterable[Answer], left_out: list[int]) -> int:  # noqa: ARG001 - every form takes it
    """Write one JSON object a line, of every block."""
    count = 0
    for block in blocks:
        if scope is None or block["scope"] in ("*", scope):
            stream.write(json.dumps(block).encode("ascii") + b"\n")
            count += 1
    return count


def _csv(stream: BinaryIO, scope: str | None, blocks: Iterable[Answer], left_out: list[int]) -> int:  # noqa: ARG001 - every form takes it
    """Write a table for people, of every block; what a spreadsheet would compute stands behind an apostrophe."""
    count = 0
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    table = csv.writer(text)
    table.writerow(["address", "scope", "cause", "category", "since", "until"])
    for block in blocks:
        if scope is None or block["scope"] in ("*", scope):
            times = (when(block[name]) if block[name] else "" for name in ("since", "until"))
            table.writerow([_harmless(word) for word in (block["address"], block["scope"], block["cause"], block["category"], *times)])
            count += 1
    text.detach()
    return count


def _harmless(word: str) -> str:
    return f"'{word}" if word.startswith(_FORMULA) else word


_FORMS: dict[str, Callable[[BinaryIO, str | None, Iterable[Answer], list[int]], int]] = {
    "cdb": _cdb,
    "access": _access,
    "exim-lsearch": _exim_lsearch,
    "jsonl": _jsonl,
    "csv": _csv,
}
