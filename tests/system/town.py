"""A town: a mail server that asks the daemon and sends, the daemon that takes its bounces, and a server on the other side.

For: the stories of one mail server each, told in tests/system/test_*.py. Never: a mail server of its own; each test brings one.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from tests.system.ask import Mailer
from tests.system.daemon import Daemon
from tests.system.refuser import Refuser


class MailServer(Protocol):
    """What a town wants of a mail server."""

    def start(self) -> None:
        """Start it; returns when it listens."""
        ...

    def stop(self) -> None:
        """End it, with everything that it started."""
        ...

    def log(self) -> str:
        """Return what it logged."""
        ...


class Town:
    """`server` asks `daemon`, and sends to `remote`, which refuses some recipients."""

    def __init__(self, server: MailServer, daemon: Daemon, remote: Refuser) -> None:
        """Put the three together; nothing runs yet."""
        self.server = server
        self.daemon = daemon
        self.remote = remote

    def blocked(self, recipient: str, *scope: str) -> str:
        """Put a recipient on the list by hand."""
        self.daemon.tell("block", recipient, "--reason", "a test", *scope)
        return recipient

    def suppressed(self, recipient: str) -> bool:
        """Ask as a mailer does."""
        with Mailer(self.daemon.door("socketmap")) as mailer:
            return mailer.suppressed(recipient)

    def delivered(self, recipient: str) -> list[str]:
        """Return the envelope senders of the mails to a recipient that the other side took."""
        return [sender for sender, taken in self.remote.taken if taken == recipient]

    def log(self) -> str:
        """Return what both logged."""
        return f"--- {type(self.server).__name__}\n{self.server.log()}\n--- bounced\n{self.daemon.log()}"


_Town = TypeVar("_Town", bound=Town)


@contextmanager
def opened(town: _Town) -> Iterator[_Town]:
    """Let everything in a town run, and print at the end what it logged."""
    town.remote.start()
    try:
        town.daemon.start()
        town.server.start()
        yield town
    finally:
        town.server.stop()
        town.daemon.kill()
        town.remote.stop()
        sys.stdout.write(town.log())
