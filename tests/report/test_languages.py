"""Letters of mail systems in the languages of the world: failures, delays, absences."""

import email.header
import quopri
import tomllib
from pathlib import Path

import pytest

from bounced.outcome.judge import judge
from bounced.outcome.ruleset import RuleSet
from bounced.report import Action, AutomaticReply, Automation, DeliveryReport
from bounced.report.reader import read

RULES = RuleSet.builtin()
ADDRESS = "joe.bloggs@example.net"
TEXTS = tomllib.loads((Path(__file__).parent / "languages.toml").read_text("utf-8"))
Row = dict[str, object]


def letter(row: Row, sender: str, encoding: str = "8bit") -> bytes:
    """Write a row as a mail in its charset."""
    charset = str(row["charset"])
    subject = email.header.Header(str(row["subject"]), charset).encode()
    text = str(row["text"]).replace("$address", ADDRESS).encode(charset)
    head = f"Return-Path: <>\nFrom: {sender}\nSubject: {subject}\nContent-Type: text/plain; charset={charset}\n"
    body = quopri.encodestring(text) if encoding == "quoted-printable" else text
    return f"{head}Content-Transfer-Encoding: {encoding}\n\n".encode() + body


@pytest.mark.parametrize("encoding", ["8bit", "quoted-printable"])
@pytest.mark.parametrize("row", TEXTS["failure"], ids=lambda row: row["id"])
def test_failures(row: Row, encoding: str) -> None:
    """A failure told in words alone is read in every language, whatever its charset and encoding."""
    report = read(letter(row, '"Microsoft Outlook" <postmaster@there.example>', encoding))
    assert isinstance(report, DeliveryReport)
    outcomes = [judge(status, None, RULES) for status in report.recipients]
    assert [status.address for status in report.recipients] == [ADDRESS]
    assert [[outcome.disposition, outcome.category] for outcome in outcomes] == [row["means"]]


@pytest.mark.parametrize("row", TEXTS["delay"], ids=lambda row: row["id"])
def test_delays(row: Row) -> None:
    """A notice of delay is one in every language: it never counts as a failure."""
    report = read(letter(row, "Mail Delivery System <MAILER-DAEMON@there.example>"))
    assert isinstance(report, DeliveryReport)
    assert [(status.address, status.action) for status in report.recipients] == [(ADDRESS, Action.DELAYED)]


@pytest.mark.parametrize("language", TEXTS["absences"])
@pytest.mark.parametrize("field", ["Return-Path: <>", "X-Auto-Response-Suppress: All"])
def test_absences(language: str, field: str) -> None:
    """Who is away answers automatically: a null path or Outlook's field beside the subject suffices, in every language."""
    subject, text = TEXTS["absences"][language]
    content = f"{field}\nFrom: Joe <{ADDRESS}>\nSubject: {subject}\nContent-Type: text/plain; charset=utf-8\n\n{text}\n"
    assert read(content.encode()) == AutomaticReply(reader="rfc3834", automation=Automation.REPLY)


def test_absences_control() -> None:
    """Negative control: the same words from a person's mail program are no automatic answer."""
    for subject, text in TEXTS["absences"].values():
        content = f"Return-Path: <{ADDRESS}>\nFrom: Joe <{ADDRESS}>\nSubject: {subject}\n\n{text}\n"
        assert not isinstance(read(content.encode()), AutomaticReply | DeliveryReport)
