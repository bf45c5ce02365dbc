"""The command that takes over the suppression list of another service or program: import.

For: whoever moves in. Never: a form of a list (takeover knows them). It hands the blocks to the daemon, or, where none runs, writes them
into the store itself; what is on the list already stays as it is, so a run that was cut short is simply run again.
"""

import asyncio
import csv
import getpass
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import click

from bounced import config
from bounced.cli.base import EX_NO_INPUT, LONG_SECONDS, Refused, ask, plain
from bounced.scope import EVERYWHERE, Scope, ScopeError, parse_scope
from bounced.takeover import Form, Page, Taken, blocks_of, pages_of_csv, pages_of_rows, rows_in

_AT_ONCE = 2000
_AT_ONCE_OFFLINE = 20_000
Take = Callable[[Sequence[Taken], str], Awaitable[int]]
"""Has blocks taken over under the name of their source; gives how many changed anything."""


@dataclass
class _Sum:
    """What became of the rows so far."""

    forms: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    rejected: int = 0
    changed: int = 0


@click.command("import")
@click.argument("paths", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--source", metavar="NAME", help="What `why` calls the list; without it the form of the list and the file's name.")
@click.option("--scope", metavar="STREAM", help="Block in this stream only; without it: everywhere.")
@click.option(
    "--rejects", type=click.Path(path_type=Path), metavar="FILE", help="Write the rows that are no block, with the reason, as CSV."
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option("--offline", is_flag=True, help="Write into the store itself: for a first, large import while no daemon runs.")
@click.pass_obj
def import_(  # noqa: PLR0917 - click names them
    config_file: Path, paths: Sequence[Path], source: str | None, scope: str | None, rejects: Path | None, dry_run: bool, offline: bool
) -> None:
    """Take over the suppression lists of others. CSV, JSON and plain lists, recognized by their columns."""
    stream = _stream(config_file, scope)
    with ExitStack() as stack:
        reject = csv.writer(stack.enter_context(rejects.open("w", encoding="utf-8", newline=""))).writerow if rejects else None
        if reject:
            reject(("file", "line", "reason", "row"))
        run = _Run(stream, source, dry_run, reject)
        if offline and not dry_run:
            asyncio.run(_offline(config_file, paths, run))
        else:
            asyncio.run(run.all(paths, _by_daemon(config_file), _AT_ONCE))
    _report(run)


def _stream(config_file: Path, scope: str | None) -> Scope:
    if scope is None:
        return EVERYWHERE
    try:
        found = parse_scope(scope)
    except ScopeError as error:
        raise Refused(str(error)) from None
    if found not in config.load(config_file).return_path.scopes:
        raise Refused("this stream is not declared in return_path.scopes")
    return found


def _by_daemon(config_file: Path) -> Take:
    async def take(blocks: Sequence[Taken], source: str) -> int:
        rows = [
            (key, one.scope, one.cause.value, one.category, since, one.until)
            for one in blocks
            for key, since in zip(one.keys, one.since, strict=True)
        ]
        return int(ask(config_file, "POST", "/v1/import", {"source": source, "blocks": rows}, LONG_SECONDS)["changed"])

    return take


async def _offline(config_file: Path, paths: Sequence[Path], run: "_Run") -> None:
    import time  # noqa: PLC0415 - as the rest here, for this alone

    from bounced.store.sqlite import SqliteStore  # noqa: PLC0415

    settings = config.load(config_file)
    owner = settings.store.database.parent.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        # The files belong to the daemon, which could not open those of root.
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
    by = f"import by {getpass.getuser()}"
    store = await SqliteStore.open(settings.store.database, config.policy_of(settings))
    try:
        await run.all(paths, lambda blocks, source: store.take_over(blocks, at=int(time.time()), by=by, source=source), _AT_ONCE_OFFLINE)
    finally:
        await store.close()


class _Run:
    """One run over some files."""

    def __init__(self, scope: Scope, source: str | None, dry_run: bool, reject: Callable[[Sequence[object]], object] | None) -> None:
        self.sums = _Sum()
        self.dry_run = dry_run
        self._scope = scope
        self._source = source
        self._write = reject

    async def all(self, paths: Sequence[Path], take: Take, at_once: int) -> None:
        """Take all files over, so many rows at once."""
        from rich.console import Console  # noqa: PLC0415 - see running
        from rich.progress import Progress  # noqa: PLC0415

        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
            for path in paths:
                with _opened(path) as file:
                    task = bar.add_task(plain(path.name), total=os.fstat(file.fileno()).st_size or None)
                    blocks = self._blocks(path, _pages(path, file, at_once))
                    found = await asyncio.to_thread(next, blocks, None)
                    while found is not None:
                        bar.update(task, completed=file.buffer.tell())  # type: ignore[attr-defined]
                        # The next are read while these are written: SQLite lets go of Python's lock meanwhile.
                        found, changed = await asyncio.gather(
                            asyncio.to_thread(next, blocks, None), take(found, self._named(path)) if not self.dry_run else _nothing()
                        )
                        self.sums.changed += changed
                    bar.remove_task(task)

    def _named(self, path: Path) -> str:
        form = self._form.name if self._form else "list"
        return self._source or f"{form}, {plain(path.name)}"[:200]

    def _blocks(self, path: Path, pages: Iterator[Page]) -> Iterator[Sequence[Taken]]:
        """Give what is to be taken over; count it, and reject the rest."""
        self._form: Form | None = None
        for page in pages:
            blocks, refused = blocks_of(page, self._scope)
            for place, why in refused.items():
                self._reject(path, page.line[place], why, page.rows[place])
            if page.form is not None and blocks:
                self.sums.forms[page.form.name] += sum(len(block.keys) for block in blocks)
                for block in blocks:
                    self.sums.causes[block.cause] += len(block.keys)
                self._form = self._form or page.form
                yield blocks

    def _reject(self, path: Path, line: int, why: str, row: Sequence[str]) -> None:
        self.sums.rejected += 1
        if self._write:
            # A cell that begins so is a formula to a spreadsheet.
            text = plain(" ".join(row))[:500]
            self._write((plain(str(path)), line, why, f"'{text}" if text[:1] in "=+-@\t" else text))


async def _nothing() -> int:
    return 0


def _opened(path: Path) -> IO[str]:
    try:
        return path.open(encoding="utf-8", errors="surrogateescape", newline="")
    except OSError as error:
        click.echo(f"bounced: cannot read {plain(str(path))}: {error.strerror}", err=True)
        sys.exit(EX_NO_INPUT)


def _pages(path: Path, file: IO[str], rows_of_each: int) -> Iterator[Page]:
    first = file.buffer.peek(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]  # type: ignore[attr-defined]
    if first not in {b"{", b"["}:
        try:
            yield from pages_of_csv(file, rows_of_each)
        except csv.Error as error:
            raise Refused(f"{plain(str(path))} is no CSV: {error}") from None
        return
    content = file.read().removeprefix("\ufeff")
    rows: Iterator[tuple[int, dict[object, object]]]
    try:
        whole = json.loads(content)
    except ValueError:
        rows = ((number, row) for number, line in enumerate(content.splitlines(), 1) if line.strip() for row in rows_in(json.loads(line)))
    else:
        rows = enumerate(rows_in(whole), 1)
    try:
        yield from pages_of_rows(rows, rows_of_each)
    except (ValueError, RecursionError):
        raise Refused(f"{plain(str(path))} is neither JSON nor lines of JSON") from None


def _report(run: _Run) -> None:
    sums = run.sums
    of_forms = ", ".join(f"{count} of {name}" for name, count in sums.forms.most_common()) or "none"
    click.echo(f"{sums.forms.total():>9}  blocks read: {of_forms}")
    for cause, count in sums.causes.most_common():
        click.echo(f"{count:>9}  {cause}")
    click.echo(f"{sums.rejected:>9}  rows rejected")
    click.echo("nothing was changed: this was a dry run" if run.dry_run else f"{sums.changed:>9}  addresses changed")
