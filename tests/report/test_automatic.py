"""Automatic answers told apart from bounces and from people."""

import pytest

from bounced.report import AutomaticReply, Automation, DeliveryReport, Unrecognized
from bounced.report.reader import read
from tests.report import samples


@pytest.mark.parametrize(
    ("name", "automation"),
    [
        ("vacation", Automation.REPLY),
        ("challenge", Automation.CHALLENGE),
        ("receipt", Automation.READ_RECEIPT),
        ("unsubscribe", Automation.UNSUBSCRIBE),
    ],
)
def test_kinds(name: str, automation: Automation) -> None:
    """Each kind of automaton is told."""
    report = read(samples.NO_BOUNCES[name])
    assert isinstance(report, AutomaticReply)
    assert report.automation is automation


@pytest.mark.parametrize(
    "subject",
    [
        "Abwesenheitsnotiz: News",
        "Réponse automatique : News",
        "Respuesta automática: News",
        "自動応答: News",
        "Out of Office: News",
        "Автоответ: News",
    ],
)
def test_vacations_by_their_subject(subject: str) -> None:
    """An absence told in the subject and a null path are an automatic answer in every language we know, without Auto-Submitted."""
    report = read(f"Return-Path: <>\nFrom: ann@there.example\nSubject: {subject}\n\nI am away.\n".encode())
    assert report == AutomaticReply(reader="rfc3834", automation=Automation.REPLY)


@pytest.mark.parametrize("field", [b"X-Autoreply: yes", b"Precedence: auto_reply", b"Auto-Submitted: auto-notified"])
def test_vacations_by_a_field(field: bytes) -> None:
    """The older fields say the same."""
    assert isinstance(read(b"From: ann@there.example\nSubject: News\n" + field + b"\n\nI am away.\n"), AutomaticReply)


def test_a_list_about_vacations() -> None:
    """Control: a list's post with such a subject is ordinary mail."""
    assert isinstance(read(b"From: ann@there.example\nSubject: Out of office\nList-Id: <l.example>\n\nWhat to write?\n"), Unrecognized)


def test_refusal_by_a_filter_is_a_bounce() -> None:
    """A disposition notification that says the mail was refused (RFC 5429) is a delivery report with its reason."""
    report = read(samples.SIEVE_REJECT)
    assert isinstance(report, DeliveryReport)
    assert report.reader == "rfc5429"
    assert report.recipients[0].final_recipient == "ann@there.example"
    assert report.recipients[0].reply is not None
    assert "no newsletters" in report.recipients[0].diagnostic


def test_deletion_without_refusal_is_a_receipt() -> None:
    """Control: mail that was deleted unread, without a refusal, is a receipt only."""
    content = samples.SIEVE_REJECT.replace(b"rejected", b"deleted")
    assert read(content) == AutomaticReply(reader="rfc8098", automation=Automation.READ_RECEIPT)


def test_refusal_without_recipient() -> None:
    """A refusal that names nobody takes the recipient of the returned mail, else it is a receipt."""
    content = samples.SIEVE_REJECT.replace(b"Final-Recipient: rfc822; ann@there.example\n", b"")
    assert isinstance(read(content), AutomaticReply)
    returned = content.replace(b"--d--", b"--d\nContent-Type: message/rfc822\n\nTo: ann@there.example\n\nx\n--d--")
    report = read(returned)
    assert isinstance(report, DeliveryReport)
    assert report.recipients[0].final_recipient == "ann@there.example"


def test_receipt_without_its_part() -> None:
    """A report of type disposition-notification is a receipt even if its machine-readable part is lost."""
    content = samples.RECEIPT.replace(b"message/disposition-notification", b"text/plain")
    assert read(content) == AutomaticReply(reader="rfc8098", automation=Automation.READ_RECEIPT)


def test_challenge_needs_a_sign_of_an_automaton() -> None:
    """A person's wish for confirmation is no challenge."""
    text = b"\n\nPlease confirm that you are a human.\n"
    assert isinstance(read(b"From: ann@there.example\nSubject: hello" + text), Unrecognized)
    assert isinstance(read(b"From: ann@there.example\nSubject: Sender verification" + text), AutomaticReply)


@pytest.mark.parametrize(
    "subject", ["Vacation rentals by the sea", "Leave request for May", "Remove the old server", "Absence of evidence"]
)
def test_people_use_these_words_too(subject: str) -> None:
    """Control: a subject that only contains such a word is ordinary mail."""
    assert isinstance(read(f"From: ann@there.example\nSubject: {subject}\n\nHello.\n".encode()), Unrecognized)
