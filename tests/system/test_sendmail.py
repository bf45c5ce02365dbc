"""sendmail asks by socketmap and by milter, and signs by milter, with the blocks of config/mailers/sendmail in the real program."""

import select
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.system.daemon import DOMAIN, Daemon
from tests.system.dropin import dropin
from tests.system.refuser import Refuser
from tests.system.room import SOCKET_GROUP
from tests.system.sender import SENDER, connect, refusal, send
from tests.system.sendmail import Sendmail
from tests.system.town import Town, opened
from tests.system.waiting import until


class SendmailTown(Town):
    """A sendmail that asks, a daemon that takes its bounces, and a server on the other side that refuses some recipients."""

    def __init__(self, home: Path, block: str) -> None:
        """Write the configurations; nothing runs yet."""
        home.mkdir(mode=0o755)
        daemon, remote = Daemon(home, socket_group=SOCKET_GROUP, settings={"query": {"milter_signs": True}}), Refuser()
        self.sendmail = Sendmail(home, dropin(block), remote=remote.address, bounced=daemon.smtp)
        super().__init__(self.sendmail, daemon, remote)

    def refusal(self, recipient: str) -> str:
        """Return the reply by which sendmail refuses a recipient, or the whole mail; empty where it takes him."""
        return refusal(self.sendmail.address, recipient)


def founded(home: Path, block: str) -> AbstractContextManager[SendmailTown]:
    """Found a town below `home`, with one of the blocks of config/mailers."""
    return opened(SendmailTown(home, block))


def held(town: SendmailTown, recipient: str) -> bool:
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
