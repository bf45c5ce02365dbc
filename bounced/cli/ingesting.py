"""The command that takes in mail which lies in files: ingest.

For: bounces that came before the daemon did, or another way than by SMTP: a mailbox, an archive, a pipe of another mail server. Never: a
way of its own past intake; courier.py brings each message to the daemon.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from enum import StrEnum
from pathlib import Path

import click

from bounced import config
from bounced.cli.base import Unreachable, plain
from bounced.cli.messages import Found, messages_in, size_of
from bounced.fault import OperatorFault


class Fate(StrEnum):
    """What became of a message."""

    TAKEN = "taken"
    REFUSED = "refused"
    NOT_OURS = "not ours"
    """It names no recipient at a return-path domain."""
    UNREADABLE = "not readable"
    """Of what was kept because no reader understood it: none does today."""
    DONE = "done before"


@click.command("ingest")
@click.argument("paths", nargs=-1, metavar="[FILE|DIR|-]...")
@click.option("--again", is_flag=True, help="Read again what was kept: mail that no reader understood, and the archive if there is one.")
@click.option("--recipient", metavar="ADDRESS", help="The envelope's recipient; without it, as Delivered-To and its like tell.")
@click.option("--resume", "journal", metavar="FILE", type=click.Path(path_type=Path), help="Note in FILE what is done, and skip it.")
@click.option("--json", "json_", is_flag=True, help="Print the sums as one JSON object.")
@click.pass_obj
def ingest(config_file: Path, *, paths: Sequence[str], again: bool, recipient: str | None, journal: Path | None, json_: bool) -> None:
    """Take in bounces from files, Maildirs or mboxes. By the running daemon; mail that has counted counts no more."""
    # Imported late: the readers cost more than a whole other command.
    from bounced.cli.courier import Courier, PutOff  # noqa: PLC0415

    if bool(paths) == again:
        raise click.UsageError("name files, Maildirs or mboxes, or say --again.")
    settings = config.load(config_file)
    unread = settings.kept.unread if again else None
    inputs = [str(path) for path in (unread, settings.kept.archive) if path is not None and path.exists()] if again else paths
    sums: Counter[Fate] = Counter()
    with ExitStack() as stack:
        done = stack.enter_context(closing(_Journal(journal)))
        told = _progress(inputs, stack)
        courier = stack.enter_context(closing(Courier(settings, recipient, unread)))
        try:
            for found, fate, words in courier.carry(done.rest(messages_in(inputs))):
                sums[fate] += 1
                told(found.octets)
                if words:
                    click.echo(f"{plain(found.name)}: {plain(words)}", err=True)
                done.note(found.name)
        except PutOff as put_off:
            raise Unreachable(f"{_summed(sums)}; then no more: {plain(str(put_off))}\n  Ingest the same again later.") from None
    sums[Fate.DONE] = done.skipped
    click.echo(json.dumps({fate.replace(" ", "_"): sums[fate] for fate in Fate}) if json_ else _summed(sums))


def _summed(sums: Counter[Fate]) -> str:
    return ", ".join(f"{sums[fate]} {fate}" for fate in Fate if sums[fate] or fate is Fate.TAKEN)


def _progress(inputs: Sequence[str], stack: ExitStack) -> Callable[[int], object]:
    """Show a bar on a terminal; returns what takes the octets that were done."""
    from rich.console import Console  # noqa: PLC0415 - see running
    from rich.progress import Progress  # noqa: PLC0415

    bar = stack.enter_context(Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True))
    task = bar.add_task("octets", total=size_of(inputs))
    return lambda octets: bar.advance(task, octets)


class _Journal:
    """The names of what is done, one a line of a file; without a file, none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._names: set[str] = set()
        self.skipped = 0
        with self._told():
            self._file = None if path is None else path.open("a+b", buffering=0)
            if self._file is not None:
                self._file.seek(0)
                self._names.update(self._file.readall().decode("utf-8", "replace").split("\n"))

    def rest(self, messages: Iterator[Found]) -> Iterator[Found]:
        """Leave out what is done."""
        for found in messages:
            if self._names and plain(found.name) in self._names:
                self.skipped += 1
            else:
                yield found

    def note(self, name: str) -> None:
        """Write down that a message is done."""
        if self._file is not None:
            with self._told():
                self._file.write(f"{plain(name)}\n".encode())

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            hint = "Make room or choose another file for what is done, and ingest the same again: nothing counts twice."
            raise OperatorFault(f"cannot write {self._path}: {error.strerror}", hint) from None
