"""Commands about everything at once: stats.

For: the operator, who has not asked for anything yet. Never: a decision.
"""

import json
from pathlib import Path

import click

from bounced.cli.base import as_json, ask, plain


@click.command()
@as_json
@click.pass_obj
def stats(config_file: Path, json_: bool) -> None:
    """Show what was refused or repeated, by day and source."""
    answer = ask(config_file, "GET", "/v1/stats", {})
    if json_:
        click.echo(json.dumps(answer))
        return
    for row in answer["tallies"]:
        click.echo(f"{row['day']}  {row['what']:12} {row['count']:>9}  {plain(row['source'])}")
    if not answer["tallies"]:
        click.echo("nothing was refused")
