"""The command that tries out a policy: replay.

For: whoever is about to change [policy] or [category]. Never: a change of anything. It alone reads the database itself, in a process of
its own, so that the daemon's answers do not wait for it.
"""

import json
import sys
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import click

from bounced import config
from bounced.cli.base import plain
from bounced.record import Standing
from bounced.replay import Change, Replayed, replay

_SHOWN_EVERY = 500


@dataclass
class _Sum:
    """What was seen so far."""

    addresses: int = 0
    events: int = 0
    blocked: int = 0
    freed: int = 0


@click.command("replay")
@click.option(
    "--policy", "policy_file", required=True, metavar="FILE", type=click.Path(path_type=Path), help="The configuration to be tried out."
)
@click.option("--json", "json_", is_flag=True, help="One JSON object a change and line, and the sums at the end.")
@click.pass_obj
def replay_(config_file: Path, policy_file: Path, json_: bool) -> None:
    """Tell whom another policy would block or free. As if [policy] and [category] of FILE had always been in force. Changes nothing."""
    from rich.console import Console  # noqa: PLC0415 - see running
    from rich.progress import Progress  # noqa: PLC0415

    from bounced.store.reader import SqliteReader  # noqa: PLC0415

    policy = config.policy_of(config.load(policy_file))
    sums, now = _Sum(), int(time.time())
    with (
        closing(SqliteReader(config.load(config_file).store.database)) as past,
        Progress(
            console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True, redirect_stdout=False, redirect_stderr=False
        ) as bar,
    ):
        # Where both go to one terminal, a line is written above the bar and not into it.
        on_screen = partial(bar.console.print, markup=False, highlight=False, soft_wrap=True)
        say = on_screen if sys.stdout.isatty() and sys.stderr.isatty() else click.echo
        task = bar.add_task("addresses", total=past.addresses())
        for address in replay(past, policy, now):
            _add(sums, address)
            for change in address.changes:
                say(_words(address.key, change, json_))
            if sums.addresses % _SHOWN_EVERY == 0:
                bar.update(task, completed=sums.addresses)
    if json_:
        click.echo(json.dumps(asdict(sums)))
    else:
        click.echo(f"{sums.events} events of {sums.addresses} addresses: {sums.blocked} blocks more, {sums.freed} less")


def _add(sums: _Sum, address: Replayed) -> None:
    sums.addresses += 1
    sums.events += address.events
    for change in address.changes:
        if change.would_be is None:
            sums.freed += 1
        else:
            sums.blocked += 1


def _words(key: str, change: Change, json_: bool) -> str:
    what = "freed" if change.would_be is None else "blocked"
    block = change.would_be or change.is_ or Standing(scope=change.scope)
    if json_:
        words = {"address": key, "scope": change.scope, "change": what, "cause": block.cause, "category": block.category}
        return json.dumps(words)
    stream = "" if change.scope == "*" else f" [{change.scope}]"
    return f"{what:7}  {plain(key)}{stream}  {block.cause} ({block.category})"
