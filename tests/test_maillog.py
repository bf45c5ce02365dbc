"""Postfix's log: what it says itself of a mail that arrived, and nothing that a stranger had written into it."""

import pytest

from bounced.maillog import MOST_QUEUED, MailLog, Sent

PATH = "b+aabbccddeeffgghhiijjkkl+joe=remote.test@bounces.example.net"
QUEUED = f"Nov 29 23:10:01 mail postfix/qmgr[11]: 4Xyz12abcdz9: from=<{PATH}>, size=412, nrcpt=1 (queue active)"
SENT = (
    "Nov 29 23:10:02 mail postfix/smtp[12]: 4Xyz12abcdz9: to=<joe@remote.test>, relay=mx.remote.test[192.0.2.1]:25, delay=0.1, "
    "delays=0.05/0.01/0.02/0.02, dsn=2.0.0, status=sent (250 2.0.0 Ok)"
)
REMOVED = "Nov 29 23:10:02 mail postfix/qmgr[11]: 4Xyz12abcdz9: removed"
ARRIVED = Sent(PATH, ("joe@remote.test",))


def told(*lines: str) -> list[Sent]:
    """What a log of these lines tells."""
    log = MailLog()
    return [sent for line in lines if (sent := log.read(f"{line}\n".encode("utf-8", "surrogateescape"))) is not None]


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line,
        lambda line: line.replace("Nov 29 23:10:0", "Nov  9 23:10:0"),
        lambda line: line.replace("Nov 29 23:10:02", "2026-11-29T23:10:02.123456+00:00").replace("Nov 29 23:10:01", "2026-11-29T23:10:01Z"),
        lambda line: line.replace("postfix/smtp", "postfix/lmtp").replace("delay=", "conn_use=3, delay=", 1),
        lambda line: line.replace("postfix/smtp", "postfix/sign/smtp"),
        lambda line: line.replace("postfix/", "postfix-out/"),
        lambda line: line.replace("4Xyz12abcdz9", "A1B2C3D4E5"),
    ],
)
def test_a_mail_that_arrived_is_told_with_its_return_path(change: object) -> None:
    """In each form that the log has: two kinds of time, other clients, instances and queue ids."""
    assert callable(change)
    assert told(change(QUEUED), change(SENT), change(REMOVED)) == [ARRIVED]


def test_whom_it_was_meant_for_is_told_too() -> None:
    """An alias is named beside the mailbox that it led to."""
    line = SENT.replace("to=<joe@remote.test>", "to=<j@other.test>, orig_to=<joe@remote.test>")
    assert told(QUEUED, line) == [Sent(PATH, ("j@other.test", "joe@remote.test"))]


@pytest.mark.parametrize(
    "line",
    [
        SENT.replace("status=sent", "status=deferred"),
        SENT.replace("status=sent", "status=bounced").replace("dsn=2.0.0", "dsn=5.1.1"),
        SENT.replace("dsn=2.0.0", "dsn=4.0.0"),
        # A server's words, a header's, and those of another program, all of a stranger's choice.
        SENT.replace("status=sent (250 2.0.0 Ok)", f"status=deferred (host said: 450 {SENT})"),
        f"Nov 29 23:10:02 mail postfix/cleanup[13]: 4Xyz12abcdz9: warning: header Subject: {SENT}",
        f"Nov 29 23:10:02 mail dovecot: lmtp(joe): msgid=<{SENT}>",
        SENT.replace("postfix/smtp[12]", "myprogram[12]"),
        SENT.replace("<joe@remote.test>", '<"x>, relay=a, delay=1, delays=1, dsn=2.0.0, status=sent ("@remote.test>'),
        SENT.replace("<joe@remote.test>", "<joe@remote.test, eve@remote.test>"),
        SENT.removeprefix("Nov 29 23:10:02 mail "),
        SENT.replace(" mail ", " mail x "),
        "",
        "x" * 8192,
    ],
)
def test_nothing_else_is_told(line: str) -> None:
    """Mail that did not arrive, and lines that only quote one that says so."""
    assert told(QUEUED, line) == []


def test_a_return_path_is_taken_from_the_queue_manager_alone() -> None:
    """What smtpd, cleanup or a quoted sender says of a return path is none."""
    for line in (
        QUEUED.replace("postfix/qmgr", "postfix/smtpd"),
        QUEUED + " and more",
        QUEUED.replace(PATH, '"x>, size=1, nrcpt=1 (queue active)'),
        QUEUED.replace(PATH, f'"{PATH}>, size=1, nrcpt=1"@evil.test'),
        QUEUED.replace("postfix/", "postfix-in/"),
    ):
        assert told(line, SENT) == []


def test_a_queue_id_is_forgotten_with_its_mail() -> None:
    """A short queue id is given again: what is sent after the first mail is removed is not that one; a second try is the same mail."""
    assert told(QUEUED, REMOVED, SENT) == []
    assert told(QUEUED, QUEUED.replace(PATH, "other@sender.example"), SENT) == [Sent("other@sender.example", ("joe@remote.test",))]


def test_it_is_bounded() -> None:
    """Of a log that never says that a mail is gone, so many mails are remembered, the newest."""
    log = MailLog()
    for number in range(MOST_QUEUED + 10):
        log.read(QUEUED.replace("4Xyz12abcdz9", f"{number:012d}").encode())
    assert len(log._senders) == MOST_QUEUED
    assert log.read(SENT.replace("4Xyz12abcdz9", f"{MOST_QUEUED + 9:012d}").encode()) == ARRIVED
    assert log.read(SENT.replace("4Xyz12abcdz9", f"{9:012d}").encode()) is None


def test_time_is_linear_in_a_line() -> None:
    """A line of the utmost length that almost fits takes no longer than it is: it is read in one go, without going back."""
    for hostile in ("postfix/" * 1000, "a-" * 4000, SENT[: SENT.index("relay=")] + "relay=" + "x" * 8000, "to=<" * 2000):
        assert told(QUEUED, "Nov 29 23:10:02 mail " + hostile) == []
