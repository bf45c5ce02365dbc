"""Commands about everything at once: stats, backscatter, incidents.

For: the operator, who wants to know what is going on, and to rule on what an incident holds. Never: a decision of its own.
"""

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import click

from bounced.cli.base import LONG_SECONDS, Answer, Refused, as_json, ask, pages, plain, reason_, when

_SECONDS = {"m": 60, "h": 3600, "d": 86400}
_SHOWN = 12
_NEVER_OURS = ("foreign", "forged", "unknown-key")


@click.command()
@as_json
@click.pass_obj
def stats(config_file: Path, json_: bool) -> None:
    """Show how many addresses are known and blocked. Also what came back in the last seven days."""
    answer = ask(config_file, "GET", "/v1/stats", {}, LONG_SECONDS)
    click.echo(json.dumps(answer) if json_ else "\n".join(_stats_lines(answer)))


def _stats_lines(answer: Answer) -> Iterator[str]:
    yield f"{answer['addresses']:>9}  addresses known"
    for cause, number in _most(answer["blocks"]):
        yield f"{number:>9}  blocked: {cause}"
    yield f"{answer['open_incidents']:>9}  open incidents"
    for title, counts in (("bounces of the last 7 days by category", "categories"), ("who refused us", "blockers")):
        if answer[counts]:
            yield f"{title}:"
        for word, number in _most(answer[counts]):
            yield f"{number:>9}  {plain(word)}"


def _most(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_SHOWN]


@click.command()
@as_json
@click.pass_obj
def backscatter(config_file: Path, json_: bool) -> None:
    """Show what was refused or repeated, by day and network. Also what to do about mail sent in your name."""
    answer = ask(config_file, "GET", "/v1/backscatter", {})
    click.echo(json.dumps(answer) if json_ else "\n".join(_backscatter_lines(answer)))


def _backscatter_lines(answer: Answer) -> Iterator[str]:
    # They come sorted so.
    for (day, what), rows in groupby(answer["tallies"], key=lambda row: (row["day"], row["what"])):
        yield f"{day}  {what:12} {_by_source(list(rows))}"
    if not answer["tallies"]:
        yield "nothing was refused (counts of the last ten seconds may be missing)"
    kinds = {incident["kind"] for incident in answer["incidents"]}
    if any(row["what"] in _NEVER_OURS for row in answer["tallies"]):
        kinds.add("backscatter")
    for incident in answer["incidents"]:
        yield _headline(incident)
    for kind, advice in answer["advice"].items():
        if kind in kinds:
            yield advice


def _by_source(rows: list[Answer]) -> str:
    """Sum up what came on one day: how many, and where most came from. --json tells all."""
    times, networks = sum(row["count"] for row in rows), [row for row in rows if row["source"]]
    if not networks:
        return f"{times:>9}"
    most = max(networks, key=lambda row: row["count"])
    if len(networks) == 1:
        return f"{times:>9}  from {plain(most['source'])}"
    return f"{times:>9}  from {len(networks)} networks, most from {plain(most['source'])} ({most['count']})"


@click.group(invoke_without_command=True)
@as_json
@click.pass_context
def incidents(context: click.Context, json_: bool) -> None:
    """List what many bounces have in common, newest first. Outages, those who refuse us, floods of backscatter."""
    if context.invoked_subcommand is not None:
        return
    answer = ask(context.obj, "GET", "/v1/incidents", {})
    if json_:
        click.echo(json.dumps(answer))
    else:
        click.echo("\n".join(map(_headline, answer["incidents"])) or "no incidents")


@incidents.command()
@click.argument("identity", metavar="ID")
@click.option("--json", "json_", is_flag=True, help="One JSON object a page of addresses.")
@click.pass_obj
def show(config_file: Path, identity: str, json_: bool) -> None:
    """Show all of an incident. That is: words, domains, who did what about it, and whose verdicts it holds or held."""
    for number, page in enumerate(pages(config_file, "/v1/incident", {"id": identity})):
        if json_:
            click.echo(json.dumps(page))
            continue
        for line in _details(page["incident"], page["advice"]) if number == 0 else ():
            click.echo(line)
        for address in page["addresses"]:
            click.echo(f"  {plain(address)}")


@incidents.command()
@click.argument("provider")
@click.option("--since", default="3h", show_default=True, metavar="TIME", help='From when on: "3h" ago, or "2026-03-01T09:30" UTC.')
@reason_
@click.pass_obj
def hold(config_file: Path, provider: str, since: str, reason: str) -> None:
    """Hold back, by hand, what PROVIDER called dead lately. Those addresses are clear again until it is confirmed."""
    words: dict[str, str | int] = {"provider": provider, "since": _moment(since), "reason": reason}
    held = ask(config_file, "POST", "/v1/hold", words, LONG_SECONDS)["incidents"]
    if not held:
        nothing = f"{plain(provider)} called nobody dead since {when(_moment(since))}: nothing is held"
        raise Refused(f"{nothing}\n  `bounced why ADDRESS --json` tells the provider of each bounce.")
    click.echo(_headline(held[0]))


@incidents.command()
@click.argument("identity", metavar="ID")
@reason_
@click.pass_obj
def confirm(config_file: Path, identity: str, reason: str) -> None:
    """Say that what the incident holds is true. The addresses are blocked."""
    _rule(config_file, "confirm", identity, reason)


@incidents.command()
@click.argument("identity", metavar="ID")
@reason_
@click.pass_obj
def revert(config_file: Path, identity: str, reason: str) -> None:
    """Say that what the incident held is false. All that it did is undone, and nothing else."""
    _rule(config_file, "revert", identity, reason)


def _rule(config_file: Path, ruling: str, identity: str, reason: str) -> None:
    answer = ask(config_file, "POST", f"/v1/{ruling}", {"id": identity, "reason": reason}, LONG_SECONDS)
    click.echo(f"{identity}: {answer['changed']} addresses changed")


def _moment(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    if found:
        return int(time.time()) - int(found[1]) * _SECONDS[found[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refused('--since is "3h" (m, h, d), or a time such as "2026-03-01T09:30"') from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _headline(incident: Answer) -> str:
    over = f" to {when(incident['closed_at'])}" if incident["closed_at"] else ", open"
    bounces = f"{incident['count']} bounce{'' if incident['count'] == 1 else 's'}"
    ruling = f", {incident['ruling']}" if incident["ruling"] else ""
    return f"{incident['id']}  {plain(incident['subject'])}: {bounces}, from {when(incident['opened_at'])}{over}{ruling}"


def _details(incident: Answer, advice: str | None) -> Iterator[str]:
    yield _headline(incident)
    if advice:
        yield f"  {advice}"
    if incident["sample"]:
        yield f'  it said "{plain(incident["sample"])}"'
    if incident["delisting"]:
        yield f"  to be delisted: {plain(incident['delisting'])}"
    if incident["domains"]:
        yield f"  domains: {', '.join(map(plain, incident['domains']))}"
    for act in incident["acts"]:
        yield f"  {when(act['at'])}  {act['what']} by {plain(act['by'])}, reason: {plain(act['reason'])}"
