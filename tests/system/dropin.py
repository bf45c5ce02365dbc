"""What a postmaster pastes: the files of config/mailers, with a test's own sockets and domain in the place of the installed ones.

For: tests that run each of them in the real program. Never: another change to what the file says.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.system.daemon import DOMAIN, PROJECT, Daemon

DROPINS = PROJECT / "config" / "mailers"


def dropin(name: str, home: Path | None = None) -> str:
    """Return the file `name` of config/mailers for the tests' return-path domain, and for sockets below `home` (else in /run/bounced)."""
    return _moved((DROPINS / name).read_text(), home)


def main_cf(name: str) -> dict[str, str]:
    """Return the parameters of a file for Postfix' main.cf as they are; a line that begins with a blank goes on (postconf(5))."""
    lines = re.sub(r"\n +", " ", (DROPINS / name).read_text()).splitlines()
    return {parameter.strip(): value.strip() for parameter, _, value in (line.partition("=") for line in lines)}


def master_cf(name: str) -> dict[str, dict[str, str]]:
    """Return the services of a file for Postfix' master.cf as they are, each with its options (master(5))."""
    rows = [line.split() for line in (DROPINS / name).read_text().splitlines()]
    return {row[0]: dict(option.split("=", 1) for option in row[9::2]) for row in rows}


def here(parameters: Mapping[str, str], daemon: Daemon) -> dict[str, str]:
    """Return parameters for this daemon's sockets and return-path domain."""
    return {name: _moved(value, daemon.home) for name, value in parameters.items()}


def _moved(text: str, home: Path | None) -> str:
    for dot in (".", "[.]", "\\."):
        text = text.replace("bounces.example.net".replace(".", dot), DOMAIN.replace(".", dot))
    return re.sub("/run/bounced/|/etc/postfix/", f"{home}/", text) if home else text
