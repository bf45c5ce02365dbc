"""Postfix asks and signs by the milter, for mail by SMTP and by sendmail(1), as the blocks of config/mailers/postfix have it."""

import signal
import smtplib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.system.daemon import DOMAIN, Daemon
from tests.system.dropin import here, main_cf
from tests.system.postfix import Postfix
from tests.system.refuser import Refuser
from tests.system.town import Town, opened
from tests.system.waiting import until

SENDER = "news@sender.example"
ALIAS = "all@lists.example"
STRANGERS = {"mynetworks": "192.0.2.0/24", "smtpd_relay_restrictions": "reject_unauth_destination"}
"""A door for mail from outside; what it takes for the alias goes out again."""


class MilterTown(Town):
    """A Postfix that asks by milter, a daemon that takes its bounces, and a server on the other side that refuses some recipients."""

    def __init__(self, home: Path, block: str, daemon_name: str, senders: Mapping[str, str]) -> None:
        """Write the configurations; nothing runs yet."""
        home.mkdir(mode=0o755)
        daemon, remote = Daemon(home, socket_group="postfix", settings={"query": {"milter_signs": True}}), Refuser()
        smtpd = here(main_cf(block), daemon)
        self.postfix = Postfix(
            home,
            doors={"milter": {}, "strangers": STRANGERS, "news": {"milter_macro_daemon_name": "bounced_news"}},
            settings={
                **smtpd,
                "milter_macro_daemon_name": daemon_name,
                "virtual_alias_domains": "lists.example",
                "virtual_alias_maps": f"inline:{{ {{ {ALIAS} = taker@receiver.example }} }}",
                **here(senders, daemon),
                "transport_maps": "inline:{{ {{ {} = smtp:[{}]:{} }} }}".format(DOMAIN, *daemon.smtp),
                "relay_domains": DOMAIN,
                "relay_recipient_maps": "",
                "default_transport": "smtp:[{}]:{}".format(*remote.address),
            },
        )
        super().__init__(self.postfix, daemon, remote)

    def refusal(self, recipient: str, door: str = "milter") -> str:
        """Return the reply by which Postfix refuses a recipient; empty where it takes him."""
        code, text = self.postfix.rcpt(door, recipient)
        return "" if code == 250 else f"{code} {text}"

    def drained(self) -> bool:
        """Tell whether nothing is left: neither in the queue nor where sendmail(1) puts mail."""
        return not any((self.postfix.queue_directory / "maildrop").iterdir()) and self.postfix.drained()


def founded(
    home: Path, block: str, *, daemon_name: str = "mail.sender.example", senders: Mapping[str, str] = MappingProxyType({})
) -> AbstractContextManager[MilterTown]:
    """Found a town below `home`, with one of the blocks of config/mailers, a name for Postfix to call itself by to milters, and
    restrictions of who may send as whom.
    """
    return opened(MilterTown(home, block, daemon_name, senders))


@pytest.fixture(scope="module")
def town(place: Path, need_postfix: None) -> Iterator[MilterTown]:
    """One town for the stories in which the daemon answers."""
    with founded(place / "open", "postfix/milter-open.cf") as one:
        yield one


def test_a_dead_recipient_is_refused_and_the_living_gets_his_mail(town: MilterTown, name: Callable[[str], str]) -> None:
    """By SMTP the reply is ours, word for word, and the other recipients of the mail are taken."""
    dead, live = town.blocked(name("gone")), name("live")
    assert town.refusal(dead).startswith("550 5.7.1 recipient is on the suppression list (manual, manual, ")
    town.postfix.send("milter", SENDER, dead, live)
    until(town.drained, "the mail to go out", shown=town.log)
    assert (town.delivered(dead), town.delivered(live)) == ([], [SENDER])


def test_the_name_of_the_daemon_is_the_stream(town: MilterTown, name: Callable[[str], str]) -> None:
    """Whoever left one stream is refused at the listener whose milter_macro_daemon_name is of it, and at no other."""
    reader = town.blocked(name("reader"), "--scope", "news")
    assert town.refusal(reader) == ""
    assert town.refusal(reader, "news").startswith("550 5.7.1")


def test_a_mail_to_one_is_signed_and_its_bounce_blocks(town: MilterTown, name: Callable[[str], str]) -> None:
    """Mail from our return-path domain to one recipient goes out signed, by SMTP and by sendmail(1); Postfix' bounce comes back by it."""
    live, scripted, dead = name("live"), name("live"), name("dead")
    town.postfix.send("milter", f"news@{DOMAIN}", live)
    town.postfix.submit(f"news@{DOMAIN}", scripted)
    town.postfix.send("milter", f"news@{DOMAIN}", dead)
    until(lambda: town.suppressed(dead), "the bounce", shown=town.log)
    until(town.drained, "the mails to come to their ends", shown=town.log)
    for recipient in (live, scripted):
        (signed,) = town.delivered(recipient)
        assert f"a mail to {recipient}," in town.daemon.tell("verify", signed)
    assert town.refusal(dead).startswith("550 5.7.1 recipient is on the suppression list (hard, no-such-user, ")


def test_a_mail_to_several_keeps_its_sender(town: MilterTown, name: Callable[[str], str]) -> None:
    """One sender cannot be the path of two recipients."""
    live = [name("live"), name("live")]
    town.postfix.send("milter", f"news@{DOMAIN}", *live)
    until(town.drained, "the mail to go out", shown=town.log)
    assert [town.delivered(one) for one in live] == [[f"news@{DOMAIN}"]] * 2


def test_sendmail_mail_loses_its_dead_recipients(town: MilterTown, name: Callable[[str], str]) -> None:
    """By sendmail(1) nobody can be refused: the dead are removed, the living get the mail, and a mail to the dead alone is discarded."""
    dead, live = town.blocked(name("gone")), name("live")
    town.postfix.submit(SENDER, dead, live)
    town.postfix.submit(SENDER, dead)
    until(lambda: town.drained() and "milter-discard" in town.postfix.log(), "both mails to come to their ends", shown=town.log)
    assert (town.delivered(dead), town.delivered(live)) == ([], [SENDER])


def test_we_cannot_tell_keeps_sendmail_mail(place: Path, need_postfix: None, name: Callable[[str], str]) -> None:
    """A stream that is not declared is a temporary failure: mail by SMTP is deferred, and that by sendmail(1) stays where it is."""
    with founded(place / "undeclared", "postfix/milter-open.cf", daemon_name="bounced_nothing") as town:
        live = name("live")
        assert town.refusal(live) == "451 4.3.0 this scope is not declared in the configuration"
        town.postfix.submit(SENDER, live)
        # What Postfix says of any refusal there: a 5xx would keep the whole mail for ever.
        until(lambda: "can't reject recipient in non-smtpd(8) submission" in town.postfix.log(), "Postfix to ask", shown=town.log)
        assert not town.drained()
        assert town.delivered(live) == []


def deferred(town: MilterTown, recipient: str) -> bool:
    """Tell whether a client is told, at whatever point, to come again."""
    try:
        said = town.refusal(recipient)
    except smtplib.SMTPResponseException as error:
        said = str(error.smtp_code)
    assert said[:1] in {"", "4"}
    return said != ""


@pytest.mark.parametrize("block", ["postfix/milter-open.cf", "postfix/milter-closed.cf"])
def test_down_and_hung_the_default_action_is_done(block: str, place: Path, need_postfix: None, name: Callable[[str], str]) -> None:
    """With our daemon stopped or hung, accept lets mail pass unasked; tempfail keeps SMTP clients waiting, and mail by sendmail(1)."""
    fails_open = "open" in block
    with founded(place / f"down-{Path(block).stem}", block) as town:
        live = [name("live"), name("live")]
        town.daemon.signal(signal.SIGSTOP)
        assert deferred(town, live[0]) is not fails_open
        town.postfix.submit(SENDER, live[0])
        until(lambda: "pickup" in town.postfix.log(), "Postfix to take the script's mail", shown=town.log)
        until(lambda: fails_open <= bool(town.delivered(live[0])), "the mail to pass", shown=town.log)
        town.daemon.kill()
        assert deferred(town, live[1]) is not fails_open
        town.postfix.submit(SENDER, live[1])
        if not fails_open:
            assert [town.delivered(one) for one in live] == [[], []]
            town.daemon.start()
        until(lambda: [town.delivered(one) for one in live] == [[SENDER]] * 2, "the mail that waited", shown=town.log)


def stolen(town: MilterTown) -> bool:
    """Let a stranger mail the alias with a sender of our return-path domain; tell whether the mail that reaches him is signed."""
    try:
        town.postfix.send("strangers", f"mine@{DOMAIN}", ALIAS)
    except smtplib.SMTPRecipientsRefused:
        return False
    until(town.drained, "the mail to go out again", shown=town.log)
    (sender,) = town.delivered("taker@receiver.example")
    return f"a mail to {ALIAS}," in town.daemon.run("verify", sender).stdout


def test_nothing_is_signed_for_a_stranger(place: Path, need_postfix: None) -> None:
    """With the block for senders nobody from outside gets a return path, and our own mail is still signed; without it, he gets one."""
    with founded(place / "careful", "postfix/milter-open.cf", senders=main_cf("postfix/milter-sign.cf")) as town:
        assert not stolen(town)
        town.postfix.send("milter", f"news@{DOMAIN}", "live@receiver.example")
        until(town.drained, "our mail to go out", shown=town.log)
        assert "a mail to live@receiver.example," in town.daemon.tell("verify", *town.delivered("live@receiver.example"))
    with founded(place / "careless", "postfix/milter-open.cf") as town:
        assert stolen(town)
