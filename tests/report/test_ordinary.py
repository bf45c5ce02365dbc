"""Ordinary mail with the words of bounces."""

import tomllib
from pathlib import Path

import pytest

from bounced.report import DeliveryReport, Unrecognized
from bounced.report.reader import read
from tests.report.test_wrappings import STATUS, letter

MAILS = {row["id"]: row["text"] for row in tomllib.loads((Path(__file__).parent / "ordinary.toml").read_text("utf-8"))["mail"]}


@pytest.mark.parametrize("name", MAILS)
def test_ordinary_mail_is_no_bounce(name: str) -> None:
    """Who asks about bounces, forwards, counts or explains them, or writes their words, is not taken for a mail system."""
    for path in ("", "Return-Path: <joe.bloggs@example.net>\n"):
        assert isinstance(read((path + MAILS[name].lstrip("\n")).encode()), Unrecognized)


def test_control() -> None:
    """Negative control: the forwarded words, from a mail system to a null path, are a bounce."""
    _, text = MAILS["fwd"].split("\n\nThis message was", 1)
    content = f"Return-Path: <>\nFrom: Mailer-Daemon@there.example\nSubject: Mail delivery failed\n\nThis message was{text}"
    assert isinstance(read(content.encode()), DeliveryReport)


@pytest.mark.parametrize(
    ("fields", "ours"),
    [
        ("From: Joe <joe@there.example>\nSubject: Fwd: Undelivered Mail\n", False),
        ("From: Joe <joe@there.example>\nSubject: bounces\nList-Id: <talk.lists.example>\n", False),
        ("From: Joe <joe@there.example>\nSubject: Re: bounces\nIn-Reply-To: <1@ours.example>\n", False),
        ("From: MAILER-DAEMON@there.example\nSubject: Re: bounces\n", True),
        ("From: Joe <joe@there.example>\nSubject: Delivery status notification\n", True),
    ],
)
def test_the_parts_of_anothers_report(fields: str, ours: bool) -> None:
    """Fields of a report that a person or a list passes on say nothing of our mail; a system that lacks the type of a report does."""
    parts = f"--Q\nContent-Type: text/plain\n\nSee below.\n\n--Q\nContent-Type: message/delivery-status\n\n{STATUS}550 5.1.1 User unknown\n"
    content = f"{fields}MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=Q\n\n{parts}\n--Q--\n"
    assert isinstance(read(content.encode()), DeliveryReport) == ours


def test_postmaster_with_a_report_is_a_machine() -> None:
    """A report within what a postmaster sends is read, though a mail program's name stands in the header: gateways write such."""
    parts = f"--Q\nContent-Type: text/plain\n\nSee below.\n\n--Q\nContent-Type: message/delivery-status\n\n{STATUS}550 5.1.1 User unknown\n"
    header = "From: postmaster@there.example\nX-Mailer: Microsoft Outlook Express 6\nContent-Type: multipart/mixed; boundary=Q\n"
    assert isinstance(read(f"{header}\n{parts}\n--Q--\n".encode()), DeliveryReport)


@pytest.mark.parametrize("kind", ["mixed", "digest"])
def test_a_report_attached_by_a_person(kind: str) -> None:
    """A whole report that a person attaches is not read."""
    inner = letter("postfix", "550 5.1.1 User unknown")
    content = f"From: Joe <joe@there.example>\nSubject: What is this?\nContent-Type: multipart/{kind}; boundary=Q\n\n"
    content += f"--Q\nContent-Type: text/plain\n\nLook.\n\n--Q\nContent-Type: message/rfc822\n\n{inner}\n--Q--\n"
    assert isinstance(read(content.encode()), Unrecognized)
