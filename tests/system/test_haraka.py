"""Haraka asks and signs by the plugin of config/mailers/haraka: the real server, mail out and back, and ours stopped and hung."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.ask import Mailer
from tests.system.daemon import DOMAIN, Daemon
from tests.system.haraka import Haraka
from tests.system.refuser import Refuser
from tests.system.sender import refusal, send
from tests.system.waiting import until


class Town:
    """A Haraka that asks, a daemon that takes its bounces, and a server on the other side that refuses some recipients."""

    def __init__(self, home: Path, *, fail_closed: bool) -> None:
        """Write the configurations; nothing runs yet."""
        home.mkdir(mode=0o755)
        self.daemon = Daemon(home)
        self.remote = Refuser()
        self.haraka = Haraka(home, fail_closed=fail_closed, remote=self.remote.address, bounced=self.daemon.smtp)

    def suppressed(self, recipient: str) -> bool:
        """Ask as a mailer does."""
        with Mailer(self.daemon.door("socketmap")) as mailer:
            return mailer.suppressed(recipient)

    def delivered(self, recipient: str) -> list[str]:
        """Return the envelope senders of the mails to a recipient that the other side took."""
        return [sender for sender, taken in self.remote.taken if taken == recipient]

    def log(self) -> str:
        """Return what both logged."""
        return f"--- Haraka\n{self.haraka.log()}\n--- bounced\n{self.daemon.log()}"


@contextmanager
def founded(home: Path, *, fail_closed: bool) -> Iterator[Town]:
    """Found a town below `home`."""
    town = Town(home, fail_closed=fail_closed)
    town.remote.start()
    try:
        town.daemon.start()
        town.haraka.start()
        yield town
    finally:
        town.haraka.stop()
        town.daemon.kill()
        town.remote.stop()
        sys.stdout.write(town.log())


@pytest.mark.parametrize("fail_closed", [False, True])
def test_haraka_asks_signs_and_fails_as_it_says(
    fail_closed: bool, place: Path, need_mailer: Callable[[str], Path], need_program: Callable[[str], str]
) -> None:
    """Each recipient's mail is signed, Haraka's own bounce blocks the dead, who is refused from then on; then ours is hung, and down."""
    need_mailer("haraka")
    need_program("node")
    dead, live, late, stranger = (f"{name}@receiver.example" for name in ("dead", "live", "late", "stranger"))
    with founded(place / f"closed-{fail_closed}", fail_closed=fail_closed) as town:
        address = town.haraka.address
        assert refusal(address, dead) == ""
        send(address, f"news@{DOMAIN}", dead, live)
        until(lambda: town.suppressed(dead), "the bounce", shown=town.log)
        assert refusal(address, dead).startswith("550 5.7.1 recipient is on the suppression list (hard, no-such-user, ")
        until(lambda: town.delivered(live), "the mail to the living", shown=town.log)
        (signed,) = town.delivered(live)
        assert f"a mail to {live}," in town.daemon.tell("verify", signed)
        send(address, "joe@sender.example", stranger)
        until(lambda: town.delivered(stranger) == ["joe@sender.example"], "the mail of another sender", shown=town.log)

        fault = "450 4.3.0 suppression list not available" if fail_closed else ""
        town.daemon.signal(signal.SIGSTOP)
        assert refusal(address, dead) == fault
        town.daemon.kill()
        assert refusal(address, dead) == fault
        if not fail_closed:
            send(address, f"news@{DOMAIN}", late)
            until(lambda: town.delivered(late) == [f"news@{DOMAIN}"], "the unsigned mail", shown=town.log)
        town.daemon.start()
        assert refusal(address, dead).startswith("550 5.7.1 ")
