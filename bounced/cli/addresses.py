"""Commands about addresses: check, why, list, sign, verify, block, release, delivered, forget.

For: people and shell scripts; they ask the daemon. Never: a decision.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from bounced.cli.base import (
    LONG_SECONDS,
    Answer,
    as_json,
    ask,
    event_words,
    given,
    only_stream,
    pages,
    plain,
    reason_,
    reason_of,
    stream,
    when,
)


@click.command()
@click.argument("address")
@stream
@click.pass_obj
def sign(config_file: Path, address: str, scope: str | None) -> None:
    """Print a signed return path for one mail to ADDRESS."""
    click.echo(ask(config_file, "POST", "/v1/sign", given(address=address, scope=scope))["return_path"])


@click.command()
@click.argument("local_part")
@as_json
@click.pass_obj
def verify(config_file: Path, local_part: str, json_: bool) -> None:
    """Tell what a return path (or its LOCAL_PART) proves. Exit code 1 if nothing."""
    answer = ask(config_file, "POST", "/v1/verify", {"local_part": local_part.rpartition("@")[0] or local_part})
    if json_:
        click.echo(json.dumps(answer))
    elif "refused" in answer:
        click.echo(f"proves nothing: {answer['refused']}")
    else:
        click.echo(f"genuine: a mail to {answer['recipient']}, stream {answer['scope']}, signed {when(answer['signed_at'])}")
    sys.exit(1 if "refused" in answer else 0)


@click.command()
@click.argument("address")
@stream
@as_json
@click.pass_obj
def check(config_file: Path, address: str, scope: str | None, json_: bool) -> None:
    """Tell whether ADDRESS may be mailed. Exit code 0: clear, 1: suppressed, 64 and above: could not tell."""
    answer = ask(config_file, "GET", "/v1/check", given(address=address, scope=scope))
    if json_:
        click.echo(json.dumps(answer))
    else:
        click.echo(f"suppressed: {answer['text']}" if answer["suppressed"] else "clear")
    sys.exit(1 if answer["suppressed"] else 0)


@click.command()
@click.argument("address")
@as_json
@click.pass_obj
def why(config_file: Path, address: str, json_: bool) -> None:
    """Show how ADDRESS stands and why. With every event and its words, and what lifts a block."""
    answer = ask(config_file, "GET", "/v1/why", {"address": address})
    click.echo(json.dumps(answer) if json_ else "\n".join(_why_lines(answer)))


def _why_lines(answer: Answer) -> Iterator[str]:
    blocks = [standing for standing in answer["standings"] if standing["cause"]]
    word = plain(answer["address"])
    yield f"{plain(answer['address'])}: {'suppressed' if answer['suppressed'] else 'clear'}"
    for standing in answer["standings"]:
        where = "everywhere" if standing["scope"] == "*" else f"in stream {standing['scope']}"
        if standing["cause"]:
            until = f", until {when(standing['until'])}" if standing["until"] else ""
            yield f"  blocked {where} since {when(standing['since'])}{until}: {reason_of(standing)}"
            if standing["incident"]:
                yield f"    by an incident alone; to lift all that it did: bounced incidents revert {standing['incident']}"
        for incident in dict.fromkeys(standing["held"]):
            yield f"  held {where} by incident {incident}: it blocks nobody until bounced incidents confirm {incident}"
        if standing["strikes"]:
            hope = "" if standing["cause"] else "; mail that arrives takes them back"
            yield f"  {standing['strikes']} soft bounce{'s' if standing['strikes'] > 1 else ''} in a row{hope}"
        if standing["released_at"]:
            yield f"  released {where} {when(standing['released_at'])}: mail signed before counts no more"
    for event in answer["events"]:
        yield f"  {when(event['at'])}  {' '.join(event_words(event))}".rstrip()
    if any(event["outcome"]["disposition"] == "blocked" for event in answer["events"] if event.get("outcome")):
        yield '  a bounce judged "blocked" refused you, and blocks no recipient: see bounced incidents'
    if blocks:
        yield f"  to lift it: bounced release {word} --reason TEXT"
    elif not answer["events"]:
        yield "  nothing has happened to it"


@click.command()
@click.argument("address")
@only_stream
@reason_
@click.pass_obj
def block(config_file: Path, address: str, scope: str | None, reason: str) -> None:
    """Put ADDRESS on the list by hand."""
    ask(config_file, "POST", "/v1/block", given(address=address, scope=scope, reason=reason))
    click.echo(f"blocked: {plain(address)}")


@click.command()
@click.argument("address")
@only_stream
@reason_
@click.pass_obj
def release(config_file: Path, address: str, scope: str | None, reason: str) -> None:
    """Take ADDRESS off the list. Bounces of mail sent before count no more."""
    was = ask(config_file, "GET", "/v1/why", {"address": address})["suppressed"]
    ask(config_file, "POST", "/v1/release", given(address=address, scope=scope, reason=reason))
    click.echo(f"released: {plain(address)}{'' if was else ' (nothing blocked it)'}")


@click.command()
@click.argument("address")
@stream
@click.pass_obj
def delivered(config_file: Path, address: str, scope: str | None) -> None:
    """Tell that a mail to ADDRESS arrived. That ends a run of soft bounces. Better than ADDRESS is the return path it was sent with."""
    answer = ask(config_file, "POST", "/v1/delivered", given(address=address, scope=scope))
    click.echo(
        f"noted: {plain(answer['address'])}{' (it stays suppressed: `bounced why` tells what lifts it)' if answer['suppressed'] else ''}"
    )


@click.command("list")
@click.option("--cause", metavar="WORD", help="Only of this cause (hard, soft, complaint, manual) or category (mailbox-full).")
@click.option("--scope", metavar="STREAM", help='Only of this stream; "*": only those everywhere.')
@click.option("--json", "json_", is_flag=True, help="One JSON object a block and line.")
@click.pass_obj
def list_(config_file: Path, cause: str | None, scope: str | None, json_: bool) -> None:
    """List all blocks in the order of addresses. A forgotten address shows as # and a keyed hash."""
    for page in pages(config_file, "/v1/list", given(cause=cause, scope=scope)):
        for block in page["blocks"]:
            if json_:
                click.echo(json.dumps(block))
            else:
                stream_ = "" if block["scope"] == "*" else f" [{block['scope']}]"
                click.echo(f"{plain(block['address'])}{stream_}  {block['cause']} ({block['category']}) since {when(block['since'])}")


@click.command()
@click.argument("address")
@reason_
@click.pass_obj
def forget(config_file: Path, address: str, reason: str) -> None:
    """Erase every trace of ADDRESS from database and kept mail. If it is blocked, it stays so, known by a keyed hash alone."""
    answer = ask(config_file, "POST", "/v1/forget", given(address=address, reason=reason), LONG_SECONDS)
    click.echo("forgotten; still suppressed, by a keyed hash" if answer["suppressed"] else "forgotten")
