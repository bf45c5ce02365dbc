"""What the users of bounced were promised, sentence by sentence: bounces come by SMTP, and the answer is what a mailer hears on the socket.

Hard bounces block at once; soft ones at the fifth in a row; complaints block their stream; what is our own fault never blocks anybody; what
we never sent changes nothing; and whatever was blocked wrongly is shown with its reason, and lifted by one command.
"""

import itertools
import time
from collections.abc import Callable, Iterator

import pytest

from bounced.scope import DEFAULT_SCOPE, Scope
from tests.system.ask import Mailer
from tests.system.daemon import DOMAIN, Daemon, alive
from tests.system.mail import DELAYED, DELIVERED, MAILBOX_FULL, NO_SUCH_USER, Failure, bring, complaint, report, vacation

HARD = {
    "no such user": NO_SUCH_USER,
    "no such user, as Gmail says it": Failure("5.1.1", "550-5.1.1 The email account that you tried to reach does not exist. - gsmtp"),
    "no such domain": Failure("5.4.4", "Host or domain name not found. Name service error for name=receiver.example type=A"),
    "server gone for good": Failure("5.1.10", "556 5.1.10 Domain receiver.example does not accept mail (nullMX)"),
}
SOFT = {
    "mailbox full": MAILBOX_FULL,
    "message too large": Failure("5.3.4", "552 5.3.4 Message size exceeds fixed limit"),
    "server down": Failure("4.4.1", "connect to mx.receiver.example[192.0.2.1]:25: Connection refused"),
    "server offline": Failure("4.4.1", "connect to mx.receiver.example[192.0.2.1]:25: Connection timed out"),
}
OUR_FAULT = {
    "spam filter": Failure("5.7.1", "554 5.7.1 Message rejected as spam by content filtering"),
    "Spamhaus": Failure(
        "5.7.1",
        "554 5.7.1 Service unavailable; Client host [192.0.2.25] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/192.0.2.25",
    ),
    "firewall": Failure(
        "5.7.606", "550 5.7.606 Access denied, banned sending IP [192.0.2.25]. To request removal visit https://sender.office.com/"
    ),
    "authentication": Failure(
        "5.7.26", "550-5.7.26 This mail has been blocked because the sender is unauthenticated. Gmail requires all senders to authenticate"
    ),
}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One daemon for all sentences; each has recipients of its own."""
    with alive() as one:
        yield one


@pytest.fixture
def recipient() -> str:
    """An address that nothing has happened to."""
    return f"reader{next(_SERIAL)}@receiver.example"


_SERIAL = itertools.count(1)


@pytest.fixture
def mail(daemon: Daemon) -> Callable[..., str]:
    """Send a mail: all that bounced sees of it is that its return path is signed. Two mails are never of one second."""
    seconds = itertools.count(int(time.time()) - 3600)
    return lambda recipient, scope=DEFAULT_SCOPE: daemon.sign(recipient, next(seconds), scope)


def comes_back(daemon: Daemon, return_path: str, content: bytes) -> None:
    """Bring one mail to the return path; it must be taken."""
    assert bring(daemon.smtp, return_path, [content])[0][0] == 250


def suppressed(daemon: Daemon, recipient: str, scope: str = "") -> bool:
    """Ask as a mailer does, for the default stream or another."""
    with Mailer(daemon.door("socketmap"), f"access_{scope}" if scope else "access") as mailer:
        return mailer.suppressed(recipient)


@pytest.mark.parametrize("why", HARD)
def test_hard_no_such_user_no_such_domain_server_gone_blocks_at_once(
    daemon: Daemon, mail: Callable[..., str], recipient: str, why: str
) -> None:
    """One hard bounce blocks the address in every stream."""
    comes_back(daemon, mail(recipient), report(recipient, HARD[why]))
    assert suppressed(daemon, recipient)
    assert suppressed(daemon, recipient, "news")


def test_hard_stays_blocked_until_somebody_releases(daemon: Daemon, mail: Callable[..., str], recipient: str) -> None:
    """Neither a restart nor a delivery report of another mail lifts a hard block; a release does."""
    comes_back(daemon, mail(recipient), report(recipient, NO_SUCH_USER))
    comes_back(daemon, mail(recipient), report(recipient, DELIVERED))
    daemon.stop()
    daemon.start()
    assert suppressed(daemon, recipient)
    daemon.tell("release", recipient, "--reason", "it was a typing error of theirs")
    assert not suppressed(daemon, recipient)


@pytest.mark.parametrize("why", SOFT)
def test_soft_mail_goes_on_and_the_fifth_in_a_row_blocks(daemon: Daemon, mail: Callable[..., str], recipient: str, why: str) -> None:
    """Four soft bounces change nothing for the mailer; the fifth blocks like a hard one."""
    for _ in range(4):
        comes_back(daemon, mail(recipient), report(recipient, SOFT[why]))
        assert not suppressed(daemon, recipient)
    comes_back(daemon, mail(recipient), report(recipient, SOFT[why]))
    assert suppressed(daemon, recipient)
    assert suppressed(daemon, recipient, "news")


@pytest.mark.parametrize("success", ["a delivery report", "a mailer's word"])
def test_soft_a_success_between_begins_anew(daemon: Daemon, mail: Callable[..., str], recipient: str, success: str) -> None:
    """Five soft bounces with a success among them are not five in a row, in the order in which the mails were sent."""
    for _ in range(4):
        comes_back(daemon, mail(recipient), report(recipient, MAILBOX_FULL))
    if success == "a delivery report":
        comes_back(daemon, mail(recipient), report(recipient, DELIVERED))
    else:
        daemon.tell("delivered", recipient)
    # Signed a little ahead of the clock: sent after the success, without waiting for a second to pass.
    for number in range(1, 6):
        comes_back(daemon, daemon.sign(recipient, int(time.time()) + 60 * number), report(recipient, MAILBOX_FULL))
        assert suppressed(daemon, recipient) == (number == 5), f"after {number}"


def test_soft_one_mail_is_one_strike(daemon: Daemon, mail: Callable[..., str], recipient: str) -> None:
    """A mail that comes back nine times is one that came back once."""
    return_path = mail(recipient)
    for _ in range(9):
        comes_back(daemon, return_path, report(recipient, MAILBOX_FULL))
    assert not suppressed(daemon, recipient)


def test_soft_a_final_failure_supersedes_its_own_mails_earlier_soft_one(daemon: Daemon, mail: Callable[..., str], recipient: str) -> None:
    """The same mail first over quota and then to nobody is a hard bounce."""
    return_path = mail(recipient)
    comes_back(daemon, return_path, report(recipient, DELAYED))
    comes_back(daemon, return_path, report(recipient, MAILBOX_FULL))
    assert not suppressed(daemon, recipient)
    comes_back(daemon, return_path, report(recipient, NO_SUCH_USER))
    assert suppressed(daemon, recipient)


@pytest.mark.parametrize("notice", ["delayed", "vacation"])
def test_soft_delays_and_automatic_replies_are_no_strikes(daemon: Daemon, mail: Callable[..., str], recipient: str, notice: str) -> None:
    """Twenty notices that nothing is wrong with the mailbox block nobody."""
    content = report(recipient, DELAYED) if notice == "delayed" else vacation(recipient)
    for _ in range(20):
        comes_back(daemon, mail(recipient), content)
    assert not suppressed(daemon, recipient)


def test_complaint_blocks_the_stream_complained_of_and_no_other(daemon: Daemon, mail: Callable[..., str], recipient: str) -> None:
    """Who calls the newsletter spam gets it no more, and still gets the rest."""
    comes_back(daemon, mail(recipient, Scope("news")), complaint(recipient))
    assert suppressed(daemon, recipient, "news")
    assert not suppressed(daemon, recipient)


@pytest.mark.parametrize("why", OUR_FAULT)
def test_refused_because_of_us_never_blocks_the_recipient(daemon: Daemon, mail: Callable[..., str], recipient: str, why: str) -> None:
    """However often a filter refuses us, the recipient is fine, and the words are kept for the operator."""
    for _ in range(20):
        comes_back(daemon, mail(recipient), report(recipient, OUR_FAULT[why]))
    assert not suppressed(daemon, recipient)
    assert daemon.tell("why", recipient).count(OUR_FAULT[why].reply[:40]) >= 20


def test_refused_because_of_us_tells_who_blocks_what_and_where_to_be_delisted(
    daemon: Daemon, mail: Callable[..., str], recipient: str
) -> None:
    """The operator sees the list, our own address on it, and the page at which to ask for removal."""
    comes_back(daemon, mail(recipient), report(recipient, OUR_FAULT["Spamhaus"]))
    (event,) = daemon.events(recipient)
    assert "Spamhaus" in event["outcome"]["blocker"]["name"]
    assert event["outcome"]["blocker"]["ours"] == "192.0.2.25"
    assert "spamhaus.org" in event["outcome"]["blocker"]["delisting"]
    (line,) = [line for line in daemon.tell("incidents").splitlines() if "Spamhaus 192.0.2.25" in line]
    assert "to be delisted: https://www.spamhaus.org/query/ip/192.0.2.25" in daemon.tell("incidents", "show", line.split()[0])


@pytest.mark.parametrize("why", OUR_FAULT)
def test_refused_because_of_us_is_an_incident_whoever_refuses(daemon: Daemon, mail: Callable[..., str], recipient: str, why: str) -> None:
    """A spam filter without a name, a firewall, missing authentication: each is told to the operator, with the words and the domain."""
    comes_back(daemon, mail(recipient), report(recipient, OUR_FAULT[why]))
    shown = [daemon.tell("incidents", "show", line.split()[0]) for line in daemon.tell("incidents").splitlines()]
    assert any(OUR_FAULT[why].reply[:40] in one and "receiver.example" in one for one in shown)


@pytest.mark.parametrize("shape", ["forged", "unsigned", "somebody else's"])
def test_a_bounce_of_mail_we_never_sent_changes_nobody(daemon: Daemon, mail: Callable[..., str], recipient: str, shape: str) -> None:
    """It is refused before its content is read, and the recipient that it names stays as he was."""
    genuine = mail(recipient)
    return_path = {
        "forged": f"b+{'a' * 23}+{recipient.replace('@', '=')}@{DOMAIN}",
        "unsigned": f"bounces@{DOMAIN}",
        "somebody else's": genuine.replace(recipient.replace("@", "="), "other=receiver.example"),
    }[shape]
    ((code, text),) = bring(daemon.smtp, return_path, [report(recipient, NO_SUCH_USER)])
    assert (code, text[:5]) == (550, "5.1.1")
    assert not suppressed(daemon, recipient)
    assert daemon.events(recipient) == []


def test_only_the_recipient_of_the_mail_can_be_concerned(daemon: Daemon, mail: Callable[..., str], recipient: str) -> None:
    """A genuine return path with a report about somebody else changes nothing for that somebody."""
    victim = f"victim-of-{recipient}"
    comes_back(daemon, mail(recipient), report(victim, NO_SUCH_USER))
    assert not suppressed(daemon, victim)
    assert daemon.events(victim) == []


def test_a_wrong_block_is_shown_and_lifted_by_one_command(daemon: Daemon, mail: Callable[..., str], recipient: str) -> None:
    """`why` shows the server's words and names the command; after it the address is mailed again, and late copies don't undo that."""
    return_path = mail(recipient)
    comes_back(daemon, return_path, report(recipient, NO_SUCH_USER))
    told = daemon.tell("why", recipient)
    assert "User unknown in virtual mailbox table" in told
    assert "bounced release" in told

    daemon.tell("release", recipient, "--reason", "she says it works")
    assert not suppressed(daemon, recipient)
    comes_back(daemon, return_path, report(recipient, NO_SUCH_USER))
    assert not suppressed(daemon, recipient)
    assert "she says it works" in daemon.tell("why", recipient)


def still_blocked_after_releases(daemon: Daemon, mail: Callable[..., str], recipient: str) -> list[str]:
    """Have recipients blocked automatically for every cause there is, release each by one command, and name those that stay blocked."""
    news, blocked = Scope("news"), {cause: f"{cause}-{recipient}" for cause in ("hard", "soft", "complaint")}
    comes_back(daemon, mail(blocked["hard"], news), report(blocked["hard"], NO_SUCH_USER))
    for _ in range(5):
        comes_back(daemon, mail(blocked["soft"], news), report(blocked["soft"], MAILBOX_FULL))
    comes_back(daemon, mail(blocked["complaint"], news), complaint(blocked["complaint"]))
    assert all(suppressed(daemon, address, "news") for address in blocked.values())
    for address in blocked.values():
        daemon.tell("release", address, "--reason", "a mistake")
    return [cause for cause, address in blocked.items() if suppressed(daemon, address, "news")]


def test_every_automatic_block_is_undone_by_one_command(daemon: Daemon, mail: Callable[..., str], recipient: str) -> None:
    """Hard, soft or a complaint, in one stream or everywhere: one `release` without more words lifts it."""
    assert still_blocked_after_releases(daemon, mail, recipient) == []


def test_a_daemon_that_loses_releases_is_found_out() -> None:
    """Control: where a release is only written down, every cause still blocks."""
    seconds = itertools.count(int(time.time()) - 3600)
    with alive("tests.system.faulty", "lose_releases") as faulty:
        left = still_blocked_after_releases(
            faulty, lambda recipient, scope: faulty.sign(recipient, next(seconds), scope), "r@receiver.example"
        )
    assert left == ["hard", "soft", "complaint"]


def test_a_lookup_never_says_clear_because_something_broke(daemon: Daemon, recipient: str) -> None:
    """With no daemon there, the command says "cannot tell" by its exit code, and never "clear"."""
    daemon.stop()
    try:
        assert daemon.run("check", recipient).returncode >= 64
    finally:
        daemon.start()
    assert daemon.run("check", recipient).returncode == 0
