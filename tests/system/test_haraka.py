"""Haraka asks and signs by the plugin of config/mailers/haraka: the real server, mail out and back, and ours stopped and hung."""

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.system.daemon import DOMAIN, Daemon
from tests.system.haraka import Haraka
from tests.system.refuser import Refuser
from tests.system.sender import refusal, send
from tests.system.town import Town, opened
from tests.system.waiting import until


class HarakaTown(Town):
    """A Haraka that asks, a daemon that takes its bounces, and a server on the other side that refuses some recipients."""

    def __init__(self, home: Path, *, fail_closed: bool) -> None:
        """Write the configurations; nothing runs yet."""
        home.mkdir(mode=0o755)
        daemon, remote = Daemon(home), Refuser()
        self.haraka = Haraka(home, fail_closed=fail_closed, remote=remote.address, bounced=daemon.smtp)
        super().__init__(self.haraka, daemon, remote)


def founded(home: Path, *, fail_closed: bool) -> AbstractContextManager[HarakaTown]:
    """Found a town below `home`."""
    return opened(HarakaTown(home, fail_closed=fail_closed))


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
