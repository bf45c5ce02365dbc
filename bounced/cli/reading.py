"""The commands about what mail says: explain, unmatched.

For: whoever doubts a judgement, or wants to write a rule. Never: a change of anything.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bounced import config
from bounced.cli.base import Answer, as_json, ask, plain, when
from bounced.cli.messages import whole_files

if TYPE_CHECKING:
    from bounced.explain import Explanation


@click.command("explain")
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR|-...")
@click.option("--json", "json_", is_flag=True, help="One JSON object a message and line.")
@click.pass_obj
def explain_(config_file: Path, paths: Sequence[str], json_: bool) -> None:
    """Tell what every stage makes of messages. With a directory, of all files below it. Changes nothing."""
    from bounced.explain import as_json as words_of  # noqa: PLC0415 - see _explained
    from bounced.explain import as_text  # noqa: PLC0415

    for name, explanation in _explained(config_file, paths):
        click.echo(json.dumps(words_of(explanation, name), ensure_ascii=True) if json_ else f"{plain(name)}\n{as_text(explanation)}")


@click.command()
@click.argument("paths", nargs=-1, metavar="[FILE|DIR|-]...")
@as_json
@click.pass_obj
def unmatched(config_file: Path, paths: Sequence[str], json_: bool) -> None:
    """Show the texts that no rule matched, grouped. Of all bounces that came, or of the messages given."""
    answer = _unmatched_among(config_file, paths) if paths else ask(config_file, "GET", "/v1/unmatched", {})
    click.echo(json.dumps(answer) if json_ else "\n".join(_unmatched_lines(answer)))


def _unmatched_among(config_file: Path, paths: Sequence[str]) -> Answer:
    """Answer as the daemon does, for messages."""
    from bounced.outcome import UNMATCHED  # noqa: PLC0415 - see _explained
    from bounced.outcome.similarity import sample_of, similarity_key  # noqa: PLC0415

    times: Counter[str] = Counter()
    samples: dict[str, str] = {}
    for _, explanation in _explained(config_file, paths):
        for recipient in explanation.recipients:
            if recipient.outcome.rule == UNMATCHED:
                text = recipient.outcome.diagnostic
                times[similarity_key(text)] += 1
                samples.setdefault(similarity_key(text), sample_of(text))
    return {"groups": [{"count": count, "sample": samples[key]} for key, count in times.most_common()]}


def _unmatched_lines(answer: Answer) -> Iterator[str]:
    for group in answer["groups"]:
        last = f"  {when(group['last'])}" if "last" in group else ""
        yield f"{group['count']:>9}{last}  {plain(group['sample']) or '(no text)'}"
    yield "docs/RULES.md tells how to write a rule for them" if answer["groups"] else "a rule matched every text"
    if unread := answer.get("unread"):
        yield f"mail in which no report was found: {unread['messages']}, in {plain(unread['directory'])}"


def _explained(config_file: Path, paths: Sequence[str]) -> "Iterator[tuple[str, Explanation]]":
    """Explain each message with the operator's rules, or with ours where there is no configuration."""
    from bounced.daemon.files import rules_of  # noqa: PLC0415 - see running._serve
    from bounced.explain import explain  # noqa: PLC0415
    from bounced.outcome.ruleset import RuleSet  # noqa: PLC0415

    # It writes a traceback, strangers' words in it, for mail that one of its detectors stumbles over.
    logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)
    rules = rules_of(config.load(config_file)) if config_file.exists() else RuleSet.builtin()
    for name, content in whole_files(paths):
        yield name, explain(content, rules)
