"""A bounce travels the whole way with a real Postfix on both ends: mail out, refused, bounced, taken in, asked for, refused at once.

Everything is real but the Internet: the server that refuses is ours. Each story is told twice, with the bounces handed over by SMTP
and by LMTP.
"""

import smtplib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.system.daemon import DOMAIN, Daemon
from tests.system.postfix import Postfix
from tests.system.refuser import Refuser
from tests.system.waiting import until

FAIL_OPEN = "check_policy_service {{ unix:{}, timeout=2s, try_limit=1, default_action=DUNNO }}, permit_mynetworks, reject"
MAP = "check_recipient_access socketmap:unix:{}:access, permit_mynetworks, reject"


@dataclass
class Town:
    """A Postfix that sends, a daemon that takes its bounces, and a server on the other side that refuses some recipients."""

    postfix: Postfix
    daemon: Daemon
    remote: Refuser
    handover: str

    def log(self) -> str:
        """Return what both logged."""
        return f"--- Postfix\n{self.postfix.log()}\n--- bounced\n{self.daemon.log()}"

    def mail(self, recipient: str) -> str:
        """Send a mail with a signed envelope sender past every check, and wait until it and its bounce are at their end."""
        return_path = self.daemon.tell("sign", recipient)
        self.postfix.send("open", return_path, recipient)
        until(self.postfix.drained, f"the mail to {recipient} to come to its end", shown=self.log)
        return return_path

    def suppressed(self, recipient: str) -> bool:
        """Ask as a shell script does."""
        code = self.daemon.run("check", recipient).returncode
        assert code in {0, 1}, f"check could not tell: {code}\n{self.log()}"
        return code == 1

    def refusal(self, door: str, recipient: str) -> str:
        """Return the reply by which Postfix refuses a recipient at a door; empty where it takes him."""
        code, text = self.postfix.rcpt(door, recipient)
        return "" if code == 250 else f"{code} {text}"


@pytest.fixture(scope="module", params=["smtp", "lmtp"])
def town(request: pytest.FixtureRequest, as_root: None, place: Path, need_postfix: None) -> Iterator[Town]:
    """One town for all stories of this module; each story has recipients of its own."""
    home = place / request.param
    home.mkdir(mode=0o755)
    daemon = Daemon(home, socket_group="postfix")
    remote = Refuser()
    host, port = daemon.smtp
    transport = f"smtp:[{host}]:{port}" if request.param == "smtp" else f"lmtp:unix:{daemon.door('lmtp')}"
    postfix = Postfix(
        home,
        doors={
            "open": {},
            "policy": {"smtpd_recipient_restrictions": FAIL_OPEN.format(daemon.door("policy"))},
            "socketmap": {"smtpd_recipient_restrictions": MAP.format(daemon.door("socketmap"))},
        },
        settings={
            "transport_maps": f"inline:{{ {{ {DOMAIN} = {transport} }} }}",
            "relay_domains": DOMAIN,
            "relay_recipient_maps": "",
            "default_transport": "smtp:[{}]:{}".format(*remote.address),
        },
    )
    built = Town(postfix, daemon, remote, request.param)
    try:
        remote.start()
        daemon.start()
        postfix.start()
        yield built
    finally:
        postfix.stop()
        daemon.kill()
        remote.stop()
        sys.stdout.write(built.log())


@pytest.fixture
def name(town: Town) -> Callable[[str], str]:
    """Make recipients whom no other story uses; how the remote server treats them is told by how the name begins."""
    return lambda beginning: f"{beginning}{next(_SERIAL)}@receiver.example"


_SERIAL = count(1)


@pytest.mark.parametrize("door", ["policy", "socketmap"])
def test_a_dead_address_is_refused_by_the_same_postfix_that_mailed_it(town: Town, name: Callable[[str], str], door: str) -> None:
    """A mail to nobody comes back, is understood, and the next one is refused at once, until a person releases the address."""
    dead, live = name("dead"), name("live")
    assert not town.suppressed(dead)
    assert town.refusal(door, dead) == ""

    town.mail(dead)
    town.mail(live)

    assert town.suppressed(dead)
    assert "User unknown in virtual mailbox table" in town.daemon.tell("why", dead)
    assert town.refusal(door, dead).startswith("550 5.7.1 ")
    assert "suppression list (hard, no-such-user" in town.refusal(door, dead)
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        town.postfix.send(door, "news@sender.example", dead)
    assert not town.suppressed(live)
    town.postfix.send(door, "news@sender.example", live)
    until(lambda: ("news@sender.example", live) in town.remote.taken, "the mail to the living", shown=town.log)

    town.daemon.tell("release", dead, "--reason", "he is back")
    assert not town.suppressed(dead)
    assert town.refusal(door, dead) == ""


def test_the_fifth_full_mailbox_in_a_row_blocks_and_not_the_fourth(town: Town, name: Callable[[str], str]) -> None:
    """Mail goes on while a mailbox is full, and stops at the fifth mail that comes back."""
    full = name("full")
    for mails in (1, 2, 3, 4):
        town.mail(full)
        assert not town.suppressed(full), f"blocked after {mails}"
        assert town.refusal("policy", full) == ""
    town.mail(full)
    assert town.suppressed(full)
    assert "(soft, mailbox-full" in town.refusal("policy", full)
    assert "(soft, mailbox-full" in town.refusal("socketmap", full)


def test_a_spam_refusal_never_blocks_the_recipient(town: Town, name: Callable[[str], str]) -> None:
    """Twenty mails refused as spam say nothing against the recipient, and everything about them is kept."""
    spam = name("spam")
    for _ in range(20):
        town.mail(spam)
    assert not town.suppressed(spam)
    assert town.refusal("policy", spam) == town.refusal("socketmap", spam) == ""
    assert town.daemon.tell("why", spam).count("Message rejected as spam") >= 20


def test_with_the_daemon_down_each_door_does_what_its_recipe_promises(town: Town, name: Callable[[str], str]) -> None:
    """The policy recipe with default_action lets mail pass; a socketmap has no such word, and defers: neither loses a mail."""
    dead = name("dead")
    town.mail(dead)
    assert town.refusal("policy", dead).startswith("550")
    town.daemon.stop()
    try:
        assert town.refusal("policy", dead) == ""
        assert town.refusal("socketmap", dead).startswith("451 4.3.")
        assert town.daemon.run("check", dead).returncode >= 64
    finally:
        town.daemon.start()
    assert town.refusal("policy", dead).startswith("550")
    assert town.refusal("socketmap", dead).startswith("550")


def test_a_bounce_waits_in_the_senders_queue_while_the_daemon_is_down(town: Town, name: Callable[[str], str]) -> None:
    """What comes back while nobody listens is not lost: Postfix keeps it, and it counts as soon as the daemon is back."""
    dead = name("dead")
    return_path = town.daemon.tell("sign", dead)
    town.daemon.stop()
    try:
        town.postfix.send("open", return_path, dead)
        until(lambda: any(mail["queue_name"] == "deferred" for mail in town.postfix.queue()), "the bounce to be deferred", shown=town.log)
    finally:
        town.daemon.start()
    town.postfix.flush()
    until(town.postfix.drained, "the deferred bounce to be taken", shown=town.log)
    assert town.suppressed(dead)
