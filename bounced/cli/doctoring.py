"""The command that looks for trouble before it comes: doctor.

For: people, and monitoring (exit codes as plugins of Nagios have them: 0 good, 1 warning, 2 failure). Never: a change of anything but by
the fire drill.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from bounced import __version__, config
from bounced.cli.base import as_json, ask, mail_places, plain
from bounced.doctor import Finding, Level, failure, ok, skipped
from bounced.fault import Fault, OperatorFault
from bounced.settings import Config

_EXIT = {Level.OK: 0, Level.SKIPPED: 0, Level.WARNING: 1, Level.FAILURE: 2}
_PROBE = "drill-probe@doctor.invalid"


@click.command()
@click.option("--fire-drill", is_flag=True, help="Bounce a mail of each category to itself, and check what comes of it.")
@click.option("--no-dns", is_flag=True, help="Ask no name server, and connect to no MX.")
@click.option("--nameserver", metavar="ADDRESS", help="Ask this name server (IP address, or with port) in place of the system's.")
@as_json
@click.pass_obj
def doctor(config_file: Path, fire_drill: bool, no_dns: bool, nameserver: str | None, json_: bool) -> None:
    """Look for what is wrong, and say what to do. Exit code 0: good, 1: warnings, 2: failures."""
    findings = []
    for finding in _findings(config_file, fire_drill=fire_drill, dns=not no_dns, nameserver=nameserver):
        findings.append(finding)
        if not json_:
            click.echo("\n".join(_lines(finding)))
    if json_:
        click.echo(json.dumps({"level": max(findings, key=_weight).level, "findings": [asdict(finding) for finding in findings]}))
    sys.exit(max(map(_weight, findings)))


def _weight(finding: Finding) -> int:
    return _EXIT[finding.level]


def _lines(finding: Finding) -> Iterator[str]:
    yield f"{finding.level:8} {plain(finding.check)}: {plain(finding.says)}"
    if finding.do:
        yield f"{'':8} -> {plain(finding.do)}"


def _findings(config_file: Path, *, fire_drill: bool, dns: bool, nameserver: str | None) -> Iterator[Finding]:
    try:
        settings = config.load(config_file)
    except OperatorFault as fault:
        yield failure("configuration", str(fault), fault.hint)
        return
    yield ok("configuration", str(config_file))
    from bounced.doctor import machine  # noqa: PLC0415 - no other command needs it

    yield from machine.examined(settings)
    daemon = list(_daemon(config_file))
    yield from daemon
    if any(finding.level is Level.FAILURE for finding in daemon):
        yield skipped("dns, fire drill", "only a daemon that answers can prove that the MX is us")
        return
    if dns:
        yield from _names(config_file, settings, nameserver)
    if fire_drill:
        yield from _drill(config_file, settings)


def _daemon(config_file: Path) -> Iterator[Finding]:
    try:
        version = ask(config_file, "GET", "/v1/health", {})["version"]
    except Fault as fault:
        says, _, hint = str(fault).partition("\n")
        yield failure("daemon", says, hint.strip() or "See `journalctl -u bounced`.")
        return
    if version == __version__:
        yield ok("daemon", f"version {version} answers")
    else:
        yield failure("daemon", f"version {version} runs, and {__version__} is installed", "systemctl restart bounced")


def _names(config_file: Path, settings: Config, nameserver: str | None) -> Iterator[Finding]:
    # Imported late: no other command asks name servers.
    from bounced.doctor.names import Names, NoAnswerError, examined, probe_with  # noqa: PLC0415

    genuine = ask(config_file, "POST", "/v1/sign", {"address": _PROBE})["return_path"]
    local_part = genuine.rpartition("@")[0]
    forged = local_part[:10] + ("b" if local_part[10] == "a" else "a") + local_part[11:]
    try:
        names = Names(nameserver)
    except (ValueError, NoAnswerError) as error:
        yield failure("dns", str(error), "Name a server by its IP address: --nameserver 192.0.2.53")
        return
    for domain in settings.return_path.domains:
        yield from examined(names, domain, probe_with(f"{local_part}@{domain}", f"{forged}@{domain}"))


def _drill(config_file: Path, settings: Config) -> Iterable[Finding]:
    from bounced.daemon.files import rules_of  # noqa: PLC0415 - see running._serve
    from bounced.doctor.drill import Places, drilled  # noqa: PLC0415

    def asking(method: str, path: str, words: Mapping[str, str]) -> dict[str, Any]:
        return ask(config_file, method, path, words)

    query = settings.query
    sockets = {"socketmap": query.socketmap, "policy": query.policy, "line": query.line}
    lmtp, smtp = mail_places(settings)
    listener = smtp or lmtp  # our own port first: that is the way which strangers take
    if listener is None:
        return [failure("drill", "the configuration names no listener for bounces", "Set smtp.listen or lmtp.socket.")]
    places = Places(listener=listener, sockets={name: place for name, place in sockets.items() if place is not None})
    return drilled(asking, places, rules_of(settings), config.policy_of(settings))
