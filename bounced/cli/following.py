"""The command that reads Postfix's log: follow.

For: telling the daemon of mail that arrived, so that soft bounces with a success between them are no run. Never: a word for a mail whose
return path proves nothing, or to somebody else than that one was signed for.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import click

from bounced.address import AddressError, address_key
from bounced.cli.base import Answer, Refused, Unreachable, ask, plain
from bounced.fault import OwnFault
from bounced.maillog import LONGEST, MailLog, Sent
from bounced.returnpath import has_seal

_PAUSE = 2.0
"""Seconds until a daemon that could not answer is asked again; the log waits."""


@click.command("follow")
@click.pass_obj
def follow(config_file: Path) -> None:
    """Tell of mail that arrived, as Postfix logs it. The log comes on standard input; told is where soft bounces or a block wait for it."""
    log, arrived, told = MailLog(), 0, 0
    for line in _lines(sys.stdin.buffer):
        sent = log.read(line)
        if sent is None or not has_seal(sent.return_path.rpartition("@")[0]):
            continue
        arrived += 1
        answer = _patiently(lambda: _told(config_file, sent))  # noqa: B023 - it is called at once
        if answer is not None:
            told += 1
            click.echo(f"noted: {plain(answer['address'])}")
    click.echo(f"{arrived} mails of ours arrived, {told} of them were told")


def _lines(octets: BinaryIO) -> Iterator[bytes]:
    """Give whole lines; of one that is too long not even the rest, which a stranger could have begin like a line of Postfix's."""
    within = False
    while piece := octets.readline(LONGEST):
        if piece.endswith(b"\n") and not within:
            yield piece
        within = not piece.endswith(b"\n")


def _told(config_file: Path, sent: Sent) -> Answer | None:
    """Tell of a mail, where it matters; return the daemon's answer, or None. Raises what `ask` raises."""
    local_part = sent.return_path.rpartition("@")[0]
    proof = ask(config_file, "POST", "/v1/verify", {"local_part": local_part})
    if "refused" in proof or proof["recipient"] not in map(_key, sent.recipients):
        return None
    standings = ask(config_file, "GET", "/v1/why", {"address": proof["recipient"]})["standings"]
    if not any(standing["strikes"] or standing["cause"] for standing in standings):
        return None
    try:
        return ask(config_file, "POST", "/v1/delivered", {"address": sent.return_path})
    except Refused:
        return None  # it has grown too old between the two questions


def _patiently(work: Callable[[], Answer | None]) -> Answer | None:
    """Do what the daemon is needed for; while it is away, wait."""
    waiting = False
    while True:
        try:
            return work()
        except (Unreachable, OwnFault) as fault:
            if not waiting:
                click.echo(f"bounced: {fault}\n  Waiting for it.", err=True)
            waiting = True
            time.sleep(_PAUSE)


def _key(written: str) -> str:
    try:
        return address_key(written)
    except AddressError:
        return ""
