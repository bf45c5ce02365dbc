"""Automatic answers: told from bounces and from people, by fields that say so, or by a subject and a weaker sign."""

import pytest

from bounced.report import Action, AutomaticReply, Automation, DeliveryReport, Unrecognized, automatic
from bounced.report.mime import scan
from bounced.report.reader import read
from tests.report import seeds as samples
from tests.report.seeds import message, multipart, note


def kind(content: bytes) -> Automation | None:
    """Tell what kind of automaton answered, if one did."""
    found = automatic.read(scan(content))
    return found.automation if found else None


def answer(*headers: str, text: str = "I am away until Monday.") -> bytes:
    """Return an answer with these headers."""
    return message("From: user@example.org", "To: news@example.com", *headers, "", text)


@pytest.mark.parametrize(
    "header",
    [
        "Auto-Submitted: auto-replied",
        "Auto-Submitted: Auto-Replied (vacation)",
        "Auto-Submitted: auto-generated",
        "Auto-Submitted: auto-notified; owner-email=a@example.org",
        "Precedence: auto_reply",
        "Precedence: auto-reply",
        "X-Autoreply: yes",
        "X-Autorespond: Letter",
        "X-Auto-Reply-From: user@example.org",
        "X-Vacation: 1",
        "X-FC-MachineGenerated: true",
        "X-MS-Exchange-Inbox-Rules-Loop: user@example.org",
    ],
)
def test_fields_that_say_so(header: str) -> None:
    """One field of an autoresponder is enough, whatever the subject."""
    assert kind(answer("Subject: Re: Letter", header)) is Automation.REPLY


@pytest.mark.parametrize(
    "header",
    [
        "Auto-Submitted: no",
        "X-Auto-Response-Suppress: All",
        "Precedence: bulk",
        "Precedence: list",
        "X-Autoreply: no",
        "Return-Path: <>",
        "X: y",
    ],
)
def test_fields_that_do_not(header: str) -> None:
    """A request not to be answered, a mailing's precedence or a null path alone make no automatic reply."""
    assert kind(answer("Subject: Re: Letter", header)) is None


_SUBJECTS = [
    "Automatic reply: Letter", "Auto: Letter", "Autoreply: Letter", "Out of Office: Letter", "Out of the office until Monday",
    "OOO: Letter", "Abwesenheitsnotiz: Brief", "Automatische Antwort: Brief", "Réponse automatique : Lettre", "Absence du bureau",
    "Respuesta automática: Carta", "Fuera de la oficina", "Resposta automática: Carta", "Risposta automatica: Lettera", "Fuori sede",
    "Automatisch antwoord: Brief", "Afwezig", "Autosvar: Brev", "Frånvaro", "Automaattinen vastaus: Kirje", "Автоответ: Письмо",
    "Автоматический ответ: Письмо", "自動応答: 手紙", "自动回复: 信", "자동 회신: 편지",
]  # fmt: skip


@pytest.mark.parametrize("subject", _SUBJECTS)
def test_subjects_of_autoresponders(subject: str) -> None:
    """A subject in any of many languages needs a second, weaker sign; from a mailing list it is none."""
    for sign in ("Return-Path: <>", "X-Auto-Response-Suppress: All", "In-Reply-To: <1@example.com>", "Precedence: bulk"):
        assert kind(answer(f"Subject: {subject}", sign)) is Automation.REPLY
    assert kind(answer(f"Subject: {subject}")) is None
    assert kind(answer(f"Subject: {subject}", "Return-Path: <>", "List-Id: <list.example.org>")) is None


def test_aggregate_reports_are_no_answers() -> None:
    """DMARC and TLS reports may be marked as generated; they answer no mail."""
    for header in ("Subject: Report domain: example.com Submitter: x", "TLS-Report-Domain: example.com\nSubject: x"):
        assert kind(answer(header, "Auto-Submitted: auto-generated")) is None


@pytest.mark.parametrize(
    "content",
    [
        samples.CHALLENGE,
        answer("Subject: Re: Letter", "X-BoxTrapper: yes"),
        answer("Subject: Letter", "X-TMDA-Fingerprint: abc", "Auto-Submitted: auto-replied"),
        answer(
            "Subject: Re: Letter (Verification required)",
            "Return-Path: <>",
            text="Please click https://example.net/x to verify your message so that it can be delivered.",
        ),
        answer(
            "Subject: Letter", "Auto-Submitted: auto-replied", text="Your message is being held. Reply to confirm that you are a human."
        ),
    ],
)
def test_challenges(content: bytes) -> None:
    """Systems that hold mail until its sender confirms are told by their fields, or by what they ask."""
    assert kind(content) is Automation.CHALLENGE


def test_a_person_may_speak_of_confirming() -> None:
    """The words of a challenge in a person's mail, or in a list's, make none."""
    text = "Please click here to confirm your message will be delivered."
    assert kind(answer("Subject: Lunch", text=text)) is None
    assert kind(answer("Subject: Please confirm your message", "List-Id: <l.example.org>", text=text)) is None


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("unsubscribe", ""),
        ("Unsubscribe", "unsubscribe"),
        ("unsubscribe 4711-abc", ""),
        ("REMOVE", "remove"),
        ("abmelden", ""),
        ("Désabonnement", ""),
        ("отписаться", ""),
        ("配信停止", ""),
        ("unsubscribe", "This email was automatically generated by the mail program on behalf of its user."),
    ],
)
def test_mailed_unsubscribes(subject: str, text: str) -> None:
    """The answer to a mailto of List-Unsubscribe has the word in its subject and nothing, or its client's sentence, in its body."""
    assert kind(answer(f"Subject: {subject}", text=text)) is Automation.UNSUBSCRIBE


def test_what_a_person_writes_is_no_unsubscribe() -> None:
    """A subject with the word and a letter below it is a person's; so is a word that goes on; a list's own mail is none either."""
    letter = "Hello, I do not know how I came to this list, please tell me where you have my address from."
    assert kind(answer("Subject: unsubscribe", text=letter)) is None
    assert kind(answer("Subject: Leaves of grass", text="")) is None
    assert kind(answer("Subject: unsubscribe", "List-Id: <l.example.org>", text="")) is None


def test_apples_unsubscribe() -> None:
    """A client that marks its unsubscribes is believed, although it marks them as automatic replies too."""
    assert kind(answer("Subject: Letter", "X-Apple-Unsubscribe: true", "Auto-Submitted: auto-replied")) is Automation.UNSUBSCRIBE


def receipt(
    disposition: str, text: str = "Your message was read.", *headers: str, to: str = "Final-Recipient: rfc822; user@example.org"
) -> bytes:
    """Return a receipt."""
    part = ("Content-Type: message/disposition-notification", f"Reporting-UA: x.example\n{to}\nDisposition: {disposition}\n")
    return multipart(("From: user@example.org", *headers), note(text), part, kind="report; report-type=disposition-notification")


@pytest.mark.parametrize(
    "content",
    [
        samples.RECEIPT,
        receipt("automatic-action/MDN-sent-automatically; displayed"),
        receipt("manual-action/MDN-sent-manually; deleted", "Your message was deleted without being read."),
        receipt("automatic-action/MDN-sent-automatically; deleted", "Your message was deleted without being read."),
        receipt("automatic-action/MDN-sent-automatically; deleted", "It was rejected.", to="X: y"),
        multipart(("From: user@example.org",), note("Read."), kind="report; report-type=disposition-notification"),
    ],
)
def test_read_receipts(content: bytes) -> None:
    """A disposition notification (RFC 8098) is a receipt, whatever was done with the mail, as long as nobody refused it."""
    found = automatic.receipt(scan(content))
    assert found == AutomaticReply(reader="rfc8098", automation=Automation.READ_RECEIPT)


def test_a_filters_refusal_is_a_failure() -> None:
    """A Sieve reject (RFC 5429) comes as a receipt, and is the recipient's refusal of our mail."""
    found = automatic.receipt(scan(samples.SIEVE_REJECT))
    assert isinstance(found, DeliveryReport)
    (status,) = found.recipients
    assert (status.action, status.final_recipient, status.original_recipient) == (Action.FAILED, "user@example.org", "alias@example.org")
    assert "I do not want your letters." in status.diagnostic
    assert found.reporting_mta is not None
    assert found.returned is not None


def test_a_refusal_without_recipient() -> None:
    """A refusal that names nobody is about the returned mail's one recipient."""
    content = samples.SIEVE_REJECT.replace(b"Final-Recipient:", b"X-Final:").replace(b"Original-Recipient:", b"X-Original:")
    found = automatic.receipt(scan(content))
    assert isinstance(found, DeliveryReport)
    assert found.recipients[0].address == "user@example.org"


def test_bounces_are_bounces() -> None:
    """A bounce that calls itself an automatic reply stays one; so does one that quotes a vacation's subject."""
    bounce = samples.UNKNOWN_SYSTEM.replace(b"Return-Path: <>", b"Auto-Submitted: auto-replied")
    assert isinstance(read(bounce), DeliveryReport)
    assert isinstance(read(samples.EXIM.replace(b"X-Failed", b"Auto-Submitted: auto-replied\nX-Failed")), DeliveryReport)


def test_people_are_people() -> None:
    """A person's answer is nothing of all this."""
    assert automatic.receipt(scan(samples.PERSON)) is None
    assert isinstance(read(samples.PERSON), Unrecognized)
