"""Ordinary mail with the words of bounces."""

import tomllib
from pathlib import Path

import pytest

from bounced.report import DeliveryReport, Unrecognized
from bounced.report.reader import read

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
