"""The command that reads mail: explain.

For: whoever doubts a judgement. Never: the daemon, or the store.
"""

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from bounced import config
from bounced.cli.base import EX_NO_INPUT, plain


@click.command("explain")
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR|-...")
@click.option("--json", "json_", is_flag=True, help="One JSON object a message and line.")
@click.pass_obj
def explain_(config_file: Path, paths: Sequence[str], json_: bool) -> None:
    """Tell what every stage makes of messages; with a directory, of all files below it. Changes nothing."""
    from bounced.daemon import rules_of  # noqa: PLC0415 - see _serve
    from bounced.explain import as_json, as_text, explain  # noqa: PLC0415
    from bounced.outcome.ruleset import RuleSet  # noqa: PLC0415

    # It writes a traceback, strangers' words in it, for mail that one of its detectors stumbles over.
    logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)
    rules = rules_of(config.load(config_file)) if config_file.exists() else RuleSet.builtin()
    for name, content in _messages(paths):
        explanation = explain(content, rules)
        click.echo(json.dumps(as_json(explanation, name), ensure_ascii=True) if json_ else f"{plain(name)}\n{as_text(explanation)}")


def _messages(paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Give each message with its name: as given for a file, as below DIR for what a directory holds."""
    for given in paths:
        if given == "-":
            yield given, sys.stdin.buffer.read()
            continue
        root = Path(given)
        try:
            if root.is_dir():
                files = sorted(path for path in root.rglob("*") if path.is_file())
                yield from ((path.relative_to(root).as_posix(), path.read_bytes()) for path in files)
            else:
                yield given, root.read_bytes()
        except OSError as error:
            click.echo(f"bounced: cannot read {plain(given)}: {error.strerror}", err=True)
            sys.exit(EX_NO_INPUT)
