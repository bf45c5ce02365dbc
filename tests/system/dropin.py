"""What a postmaster pastes: the files of config/mailers, with a test's own sockets and domain in the place of the installed ones.

For: tests that run each of them in the real program. Never: another change to what the file says.
"""

from tests.system.daemon import DOMAIN, PROJECT, Daemon

DROPINS = PROJECT / "config" / "mailers"


def dropin(name: str, daemon: Daemon) -> str:
    """Return the file `name` of config/mailers for this daemon's sockets and return-path domain."""
    text = (DROPINS / name).read_text()
    for marks in (".", "[.]", "\\."):
        text = text.replace("bounces.example.net".replace(".", marks), DOMAIN.replace(".", marks))
    return text.replace("/run/bounced/", f"{daemon.home}/")
