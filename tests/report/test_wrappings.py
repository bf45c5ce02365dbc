"""One refusal in the letters of many mail systems: the same recipient and the same judgement in all of them."""

import base64
import quopri
import textwrap
import tomllib
from pathlib import Path
from string import Template

import pytest

from bounced.outcome.judge import judge
from bounced.outcome.ruleset import RuleSet
from bounced.report import Action, DeliveryReport, RecipientStatus, fields
from bounced.report.reader import read

RULES = RuleSet.builtin()
ADDRESS = "joe.bloggs@example.net"
LETTERS = {row["name"]: row["text"] for row in tomllib.loads((Path(__file__).parent / "letters.toml").read_text("utf-8"))["letter"]}
REPLIES = [
    f"550 5.1.1 <{ADDRESS}>: Recipient address rejected: User unknown in local recipient table",
    "550 No such user here",
    f"552 5.2.2 <{ADDRESS}> Mailbox is full",
    "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/192.0.2.1",
    "550 5.7.1 Message rejected as spam by Content Filtering.",
    "552 5.3.4 Message size exceeds fixed limit",
    "550 5.2.1 The email account that you tried to reach is disabled.",
    "550 5.7.26 Unauthenticated email from ours.example is not accepted due to domain's DMARC policy.",
    "451 4.7.1 Greylisting in action, please come back later",
    "550 5.7.1 Relaying denied",
    "550 5.1.1 Empfängeradresse existiert nicht",
    "550 5.1.1 Пользователь не найден",
    "550 5.1.1 宛先のメールアドレスが見つかりませんでした",
]
ENVELOPE = "Return-Path: <>\nTo: b+token@bounces.ours.example\nDate: Mon, 1 Jun 2026 10:01:00 +0000\nMIME-Version: 1.0\n"
ORIGINAL = f"""Received: from app.ours.example (app.ours.example [192.0.2.9])
\tby out.ours.example (Postfix) with ESMTP id 4XYZ for <{ADDRESS}>; Mon, 1 Jun 2026 10:00:00 +0000 (UTC)
From: News <news@ours.example>
To: <{ADDRESS}>
Subject: Your order is full of surprises
Message-ID: <m1@ours.example>

Hello. Your mailbox is full of news; unknown users love it.
"""
STATUS = f"""Reporting-MTA: dns; mx.there.example
Arrival-Date: Mon, 1 Jun 2026 10:00:00 +0000

Final-Recipient: rfc822; {ADDRESS}
Action: failed
Status: 5.0.0
Remote-MTA: dns; mx.example.net
Diagnostic-Code: smtp; """


def letter(name: str, reply: str) -> str:
    """Fill a reply into one letter."""
    folded = "\n    ".join(textwrap.wrap(reply, 60, break_long_words=False, break_on_hyphens=False))
    told = {"address": ADDRESS, "reply": reply, "folded": folded, "status": f"{STATUS}{folded}\n", "original": ORIGINAL}
    return ENVELOPE + Template(LETTERS[name].lstrip("\n")).substitute(told)


def found(content: bytes) -> list[tuple[str | None, str, str]]:
    """Read and judge: address, disposition and category of each recipient; nothing if it is no bounce."""
    report = read(content)
    if not isinstance(report, DeliveryReport):
        return []
    outcomes = [(status.address, judge(status, report.reporting_mta, RULES)) for status in report.recipients]
    return [(address, outcome.disposition, outcome.category) for address, outcome in outcomes]


def wanted(reply: str) -> list[tuple[str | None, str, str]]:
    """Judge the reply by itself."""
    parsed = fields.find_reply(reply)
    status = RecipientStatus(
        action=Action.FAILED, final_recipient=ADDRESS, status=parsed.status if parsed else None, reply=parsed, diagnostic=reply
    )
    outcome = judge(status, None, RULES)
    return [(ADDRESS, outcome.disposition, outcome.category)]


@pytest.mark.parametrize("name", LETTERS)
def test_a_reply_means_the_same_in_every_letter(name: str) -> None:
    """Whoever wraps a reply, and however the lines end, the recipient and the judgement are those of the reply alone."""
    for reply in REPLIES:
        text = letter(name, reply)
        for ending in ("\n", "\r\n", "\r"):
            assert found(text.replace("\n", ending).encode()) == wanted(reply), reply


@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
@pytest.mark.parametrize("reply", REPLIES)
def test_encoded_parts(reply: str, encoding: str) -> None:
    """Where text and fields of a report are encoded, nothing changes."""
    parts = [
        ("text/plain; charset=utf-8", "Delivery failed.\n"),
        ("message/delivery-status", f"{STATUS}{reply}\n"),
        ("message/rfc822", ORIGINAL),
    ]
    encode = base64.encodebytes if encoding == "base64" else quopri.encodestring
    body = "".join(
        f"--B\nContent-Type: {kind}\nContent-Transfer-Encoding: {encoding}\n\n{encode(text.encode()).decode()}\n" for kind, text in parts
    )
    head = "From: postmaster@there.example\nSubject: Undeliverable\nContent-Type: multipart/report; boundary=B\n\n"
    assert found((ENVELOPE + head + body + "--B--\n").encode()) == wanted(reply)


@pytest.mark.parametrize("name", ["postfix", "exim", "qmail", "sendmail-text", "courier", "dma", "groupwise"])
def test_a_gateway_forwards_it_as_an_attachment(name: str) -> None:
    """A report, or a family's plain letter, inside the notice of a gateway that says nothing says what it says by itself."""
    head = 'From: postmaster@gw.example\nSubject: Undeliverable: FW\nContent-Type: multipart/mixed; boundary="N1"\n\n'
    for reply in REPLIES:
        inner = letter(name, reply)
        body = f"--N1\nContent-Type: text/plain\n\nReturned mail, see attachment.\n--N1\nContent-Type: message/rfc822\n\n{inner}\n--N1--\n"
        assert found((ENVELOPE + head + body).encode()) == wanted(reply), reply


def test_wrappings_control() -> None:
    """Negative control: with the reply of another refusal in the same letter, the comparison fails."""
    assert found(letter("qmail", REPLIES[2]).encode()) != wanted(REPLIES[0])
