"""The last tier: unknown systems' bounces by their signs, and never a person's mail about bounces."""

import pytest

from bounced.report import Action, last_resort
from bounced.report.mime import scan
from bounced.report.prose import Letter, letter
from tests.report import samples
from tests.report.samples import message, multipart, note


def written(*lines: str) -> Letter:
    """Read a message as a letter."""
    return letter(scan(message(*lines)))


_SIGNED = ("Return-Path: <>", "From: postmaster@gw.example.net", "To: news@example.com", "Subject: Mail could not be delivered")


def addresses(*text: str) -> list[str | None]:
    """Return whom the last resort finds in a bounce with this text."""
    report = last_resort.read(written(*_SIGNED, "", *text))
    return [recipient.address for recipient in report.recipients] if report else []


def test_an_unknown_system() -> None:
    """Recipient, reply and reason of an unknown system's bounce are found."""
    report = last_resort.read(letter(scan(samples.UNKNOWN_SYSTEM)))
    assert report is not None
    assert (report.reader, report.standard) == (last_resort.READER, False)
    (status,) = report.recipients
    assert (status.action, status.address) == (Action.FAILED, "user@example.org")
    assert status.reply is not None
    assert status.reply.code == 550
    assert "mailbox unavailable" in status.diagnostic


@pytest.mark.parametrize(
    "text",
    [
        ("Your mail was not delivered.", "", "<user@example.org>: no such user"),
        ("Your mail was not delivered.", "RCPT TO:<user@example.org>", "550 no"),
        ("Ihre Nachricht wurde nicht zugestellt.", "Empfänger: user@example.org"),
        ("Delivery failed.", "", "Original message follows", "", "From: news@example.com", "To: user@example.org", "Subject: Letter"),
        ("This mail from news@example.com could not be delivered to user@example.org, sorry.",),
    ],
)
def test_where_recipients_stand(text: tuple[str, ...]) -> None:
    """The recipient is found listed, in a transcript, after its title, in the returned mail, in a sentence; our own address is none."""
    assert addresses(*text) == ["user@example.org"]


def test_nobody_is_named() -> None:
    """A bounce that names nobody is not read."""
    assert addresses("Your mail could not be delivered.") == []


def test_failed_recipients_of_the_header() -> None:
    """X-Failed-Recipients is believed before the text."""
    report = last_resort.read(
        written(*_SIGNED, "X-Failed-Recipients: a@example.org,\n b@example.org", "", "Your mail was not delivered to c@example.org")
    )
    assert report is not None
    assert [recipient.address for recipient in report.recipients] == ["a@example.org", "b@example.org"]


def test_a_delay_is_a_delay() -> None:
    """A notice that the mail is still being tried is no failure."""
    report = last_resort.read(
        written(*_SIGNED[:3], "Subject: Warning: delivery delayed", "", "Not yet been delivered to <user@example.org>, it will be retried.")
    )
    assert report is not None
    assert report.recipients[0].action is Action.DELAYED


_BODY = ("", "Your mail to user@example.org could not be delivered: 550 user unknown")


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        (("From: MAILER-DAEMON@example.net", "Subject: failure notice"), True),
        (("Return-Path: <>", "From: x@example.net", "Subject: Letter"), True),
        (("From: x@example.net", "Subject: Undeliverable: Letter"), True),
        (("From: x@example.net", "Subject: Letter"), False),
        (("From: x@example.net", "Subject: Re: Undeliverable: Letter"), False),
        (("From: x@example.net", "Subject: Undeliverable: Letter", "In-Reply-To: <1@example.com>"), False),
        (("From: MAILER-DAEMON@example.net", "Subject: failure notice", "List-Id: <l.example.net>"), False),
        (("From: postmaster@example.net", "Subject: failure notice", "Precedence: list"), False),
    ],
)
def test_signs_of_a_bounce(headers: tuple[str, ...], verdict: bool) -> None:
    """A mail system's name needs a fitting subject or text; anybody else both of them, a reply, and no thread or list."""
    assert last_resort.looks_like_bounce(written(*headers, *_BODY)) is verdict


def test_a_mail_system_may_write_letters() -> None:
    """A postmaster's letter on other matters is no bounce."""
    assert not last_resort.looks_like_bounce(written("From: postmaster@example.net", "Subject: New opening hours", "", "We open at nine."))
    assert (
        last_resort.read(written("From: postmaster@example.net", "Subject: New opening hours", "", "We open at nine, a@example.org."))
        is None
    )


def test_flufl_is_asked() -> None:
    """flufl.bounce finds the address in a bounce of one of its families."""
    assert last_resort.flufl_addresses(scan(samples.QMAIL)) == ["user@example.org"]
    assert last_resort.flufl_addresses(scan(samples.PERSON)) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Subject: no sender\n\nfailure",
        b"From: \nSubject: x\n\nx",
        b"From: =?utf-8?q?=C3=A9?= <>\nSubject: \xff\n\n\xff",
        b"From: MAILER-DAEMON@sina.com\nSubject: x\n\nThis message was not delivered",
        b"From: x\nContent-Type: multipart/mixed\n\n--",
        multipart(("From: x@aol.com", "Subject: Mail Delivery Problem"), note("----- The following address(es) had errors"), kind="mixed"),
        b'From: <>>,"\nX-Mailer: <SMTP32 v\n\nuser mailbox[',
    ],
)
def test_flufl_never_raises(content: bytes) -> None:
    """Whatever flufl.bounce would raise on odd input, an answer comes."""
    assert isinstance(last_resort.flufl_addresses(scan(content)), list)
