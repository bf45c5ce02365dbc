"""sendmail asks by socketmap and by milter, and signs by milter, with the blocks of config/mailers/sendmail in the real program."""

import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.system.ask import Mailer
from tests.system.daemon import DOMAIN, Daemon
from tests.system.dropin import dropin
from tests.system.refuser import Refuser
from tests.system.room import SOCKET_GROUP
from tests.system.sender import SENDER, connect, refusal, send
from tests.system.sendmail import Sendmail
from tests.system.waiting import until


class Town:
    """A sendmail that asks, a daemon that takes its bounces, and a server on the other side that refuses some recipients."""

    def __init__(self, home: Path, block: str) -> None:
        """Write the configurations; nothing runs yet."""
        home.mkdir(mode=0o755)
        self.daemon = Daemon(home, socket_group=SOCKET_GROUP, milter_signs=True)
        self.remote = Refuser()
        self.sendmail = Sendmail(home, dropin(block), remote=self.remote.address, bounced=self.daemon.smtp)

    def refusal(self, recipient: str) -> str:
        """Return the reply by which sendmail refuses a recipient, or the whole mail; empty where it takes him."""
        return refusal(self.sendmail.address, recipient)

    def blocked(self, recipient: str) -> str:
        """Put a recipient on the list by hand."""
        self.daemon.tell("block", recipient, "--reason", "a test")
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
        return f"--- sendmail\n{self.sendmail.room.log()}\n--- bounced\n{self.daemon.log()}"


@contextmanager
def founded(home: Path, block: str) -> Iterator[Town]:
    """Found a town below `home`, with one of the blocks of config/mailers."""
    town = Town(home, block)
    town.remote.start()
    try:
        town.daemon.start()
        town.sendmail.start()
        yield town
    finally:
        town.sendmail.room.close()
        town.daemon.kill()
        town.remote.stop()
        sys.stdout.write(town.log())


_SERIAL = count(1)


@pytest.fixture
def name() -> Callable[[str], str]:
    """Make recipients whom no other story uses; how the remote server treats them is told by how the name begins."""
    return lambda beginning: f"{beginning}{next(_SERIAL)}@receiver.example"


def held(town: Town, recipient: str) -> bool:
    """Ask about a recipient while the daemon hangs; tell whether there is no answer until it goes on, and then the recipient is taken."""
    with connect(town.sendmail.address) as session:
        session.ehlo()
        session.mail(SENDER)
        session.putcmd("rcpt", f"to:<{recipient}>")
        assert session.sock is not None
        # Longer than any limit that the blocks set.
        early, _, _ = select.select([session.sock], [], [], 4)
        town.daemon.signal(signal.SIGCONT)
        return not early and session.getreply()[0] == 250


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        ("sendmail/socketmap-closed.mc", "451 4.3.0 "),
        ("sendmail/socketmap-open.mc", ""),
        ("sendmail/milter-closed.mc", "451 4.3.2 "),
        ("sendmail/milter-open.mc", ""),
    ],
)
def test_each_block_refuses_and_fails_as_it_says(
    block: str, fault: str, place: Path, need_mailer: Callable[[str], Path], name: Callable[[str], str]
) -> None:
    """The blocked are refused by SMTP, and come back by sendmail(1); the others get their mail. Then ours is hung, and down."""
    need_mailer("sendmail")
    with founded(place / Path(block).stem, block) as town:
        dead, live = town.blocked(name("gone")), name("live")
        assert town.refusal(dead).startswith("550 5.7.1 ")
        assert "suppression list" in town.refusal(dead)
        send(town.sendmail.address, SENDER, live)
        until(lambda: town.delivered(live) == [SENDER], "the mail to go out", shown=town.log)
        scripted = name("live")
        assert town.sendmail.submit("script@sender.example", dead, scripted) == 67  # EX_NOUSER
        until(lambda: town.delivered(scripted) == ["script@sender.example"], "the script's mail", shown=town.log)
        until(lambda: town.delivered("script@sender.example"), "the script's bounce", shown=town.log)
        assert not town.delivered(dead)

        town.daemon.signal(signal.SIGSTOP)
        if "socketmap" in block:
            # sendmail has no limit for the answer of a map.
            assert held(town, live)
        else:
            assert town.refusal(live)[: len(fault) or None] == fault
        town.daemon.kill()
        assert town.refusal(live)[: len(fault) or None] == fault
        town.daemon.start()
        assert town.refusal(dead).startswith("550 5.7.1 ")


def test_sendmail_signs_by_milter_and_its_own_bounce_blocks(
    place: Path, need_mailer: Callable[[str], Path], name: Callable[[str], str]
) -> None:
    """Mail from our return-path domain to one recipient goes out signed; the name of the daemon in sendmail.mc is the stream."""
    need_mailer("sendmail")
    with founded(place / "signs", "sendmail/milter-open.mc") as town:
        dead, live, reader = name("dead"), name("live"), name("reader")
        for recipient in (dead, live):
            send(town.sendmail.address, f"news@{DOMAIN}", recipient)
        until(lambda: town.suppressed(dead), "the bounce", shown=town.log)
        until(lambda: town.delivered(live), "the mail to the living", shown=town.log)
        (signed,) = town.delivered(live)
        assert f"a mail to {live}," in town.daemon.tell("verify", signed)
        assert "suppression list (hard, no-such-user, " in town.refusal(dead)
        town.daemon.tell("block", reader, "--scope", "news", "--reason", "he left")
        assert town.refusal(reader) == ""
        assert refusal(town.sendmail.news_address, reader).startswith("550 5.7.1 ")
