"""Complaints and authentication failures: whole, sparse, redacted, wrongly typed, without fields; and what is none."""

import base64

import pytest

from bounced.report import FeedbackReport, feedback
from bounced.report.mime import scan
from tests.report import seeds as samples
from tests.report.seeds import RETURNED, message, multipart, note

_KIND = "report; report-type=feedback-report"
_SENDER = ("From: feedback@example.net", "To: abuse@example.com", "Subject: FW: Letter")


def read(content: bytes) -> FeedbackReport:
    """Read what must be a feedback report."""
    found = feedback.read(scan(content))
    assert found is not None
    return found


def fields(*lines: str, kind: str = "message/feedback-report") -> tuple[str, str]:
    """Return a part with these fields."""
    return f"Content-Type: {kind}", "\n".join([*lines, ""])


def test_a_whole_report() -> None:
    """Every field that we keep is read, and the headers of the mail complained about."""
    report = read(samples.COMPLAINT)
    assert (report.reader, report.feedback_type, report.recipients) == ("rfc5965", "abuse", ("user@example.org",))
    assert (report.source_ip, report.reported_domain, report.user_agent) == ("192.0.2.1", "example.com", "Feedback/1.0")
    assert report.returned is not None
    assert report.returned.message_id == "<1@example.com>"
    assert report.returned.return_path == "b+seal+user=example.org@bounces.example.com"


@pytest.mark.parametrize(
    ("lines", "recipients"),
    [
        (("Original-Rcpt-To: <a@example.org>", "Original-Rcpt-To: b@example.org"), ("a@example.org", "b@example.org")),
        (("Original-Rcpt-To: rfc822; a@example.org",), ("a@example.org",)),
        (("Removal-Recipient: a@example.org",), ("a@example.org",)),
        (("Original-Rcpt-To: 3f9a@redacted.example",), ("3f9a@redacted.example",)),
        (("Original-Rcpt-To: ",), ("user@example.org",)),
        ((), ("user@example.org",)),
    ],
)
def test_who_complains(lines: tuple[str, ...], recipients: tuple[str, ...]) -> None:
    """The recipient comes from the field that names it, redacted or not, else from the returned mail's To."""
    content = multipart(_SENDER, fields("Feedback-Type: abuse", "Version: 1", *lines), RETURNED, kind=_KIND)
    assert read(content).recipients == recipients


def test_nobody_is_named() -> None:
    """Where the recipient is redacted everywhere, or many stand in To, none is guessed."""
    hidden = ("Content-Type: message/rfc822", "From: news@example.com\nTo: undisclosed\n\nText\n")
    several = ("Content-Type: message/rfc822", "From: news@example.com\nTo: a@example.org, b@example.org\n\nText\n")
    for original in (hidden, several):
        assert read(multipart(_SENDER, fields("Feedback-Type: abuse"), original, kind=_KIND)).recipients == ()


def test_a_sparse_report() -> None:
    """A report of one line, without the mail, is a complaint; the path of the mail may stand in the fields alone."""
    report = read(multipart(_SENDER, fields("User-Agent: x"), kind=_KIND))
    assert (report.feedback_type, report.recipients, report.returned) == ("abuse", (), None)
    told = read(multipart(_SENDER, fields("Feedback-Type: Abuse", "Original-Mail-From: <news@example.com>"), kind=_KIND)).returned
    assert told is not None
    assert told.return_path == "news@example.com"


def test_the_path_of_the_fields_completes_the_mail() -> None:
    """Original-Mail-From is taken where the returned headers have no path, and never over theirs."""
    original = ("Content-Type: text/rfc822-headers", "From: news@example.com\nTo: user@example.org\n")
    line = "Original-Mail-From: <path@example.com>"
    for part, path in ((original, "path@example.com"), (RETURNED, "b+seal+user=example.org@bounces.example.com")):
        told = read(multipart(_SENDER, fields("Feedback-Type: abuse", line), part, kind=_KIND)).returned
        assert told is not None
        assert told.return_path == path


def test_blank_lines_between_fields() -> None:
    """Blank lines among the fields end nothing."""
    assert read(multipart(_SENDER, fields("Feedback-Type: fraud", "", "Original-Rcpt-To: a@example.org"), kind=_KIND)).recipients == (
        "a@example.org",
    )


def test_encoded_fields() -> None:
    """Fields in base64, as some gateways re-encode them, are decoded."""
    encoded = base64.encodebytes(b"Feedback-Type: auth-failure\r\nVersion: 1\r\nSource-IP: 192.0.2.7\r\n").decode()
    report = read(multipart(_SENDER, ("Content-Type: message/feedback-report\nContent-Transfer-Encoding: base64", encoded), kind="mixed"))
    assert (report.feedback_type, report.source_ip) == ("auth-failure", "192.0.2.7")


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "message/feedback", "text/feedback-report"])
@pytest.mark.parametrize("whole", ["mixed", _KIND])
def test_wrongly_typed_fields(kind: str, whole: str) -> None:
    """Fields in a part of another type are found by what they are."""
    lines = ("Feedback-Type: abuse", "User-Agent: x", "Version: 1", "Original-Rcpt-To: a@example.org")
    assert read(multipart(_SENDER, note("A complaint."), fields(*lines, kind=kind), RETURNED, kind=whole)).recipients == ("a@example.org",)


def test_fields_among_text() -> None:
    """A report whose structure is lost is read from the paragraph that holds the fields."""
    content = message(*_SENDER, "", "A complaint.", "", "User-Agent: x", "Feedback-Type: abuse", "Source-IP: 192.0.2.7", "", "more text")
    assert read(content).source_ip == "192.0.2.7"


def test_a_report_that_lost_its_fields() -> None:
    """A multipart/report that is typed as feedback, with the mail alone, is a complaint by the mail's recipient."""
    assert read(multipart(_SENDER, note("A complaint."), RETURNED, kind=_KIND)).recipients == ("user@example.org",)


def test_hotmail() -> None:
    """Microsoft's complaints have no fields: a subject, the mail, the recipient in a header of its own."""
    report = read(samples.JMRP)
    assert (report.reader, report.feedback_type, report.recipients, report.source_ip) == (
        "jmrp",
        "abuse",
        ("user@example.org",),
        "192.0.2.1",
    )
    assert feedback.read(scan(message("From: a@example.org", "Subject: complaint about message from 192.0.2.1", "", "text"))) is None


def test_a_failure_report_in_prose() -> None:
    """A DMARC failure report without fields is an authentication failure."""
    content = multipart(
        ("From: no-reply@example.net", "Subject: DMARC Forensic Report for example.com from IP 192.0.2.7", "Auto-Submitted: auto-replied"),
        note("It has failed the published DMARC policy.\n\n  Sender Domain: example.com\n  Sender IP Address: 192.0.2.7"),
        kind="report",
    )
    report = read(content)
    assert (report.feedback_type, report.source_ip, report.reported_domain) == ("auth-failure", "192.0.2.7", "example.com")


NONE = [
    samples.PERSON,
    samples.POSTFIX,
    samples.VACATION,
    message("From: a@example.org", "Subject: Re: your question", "", "Set the line", "Feedback-Type: abuse", "in the file, that is all."),
    message("From: a@example.org", "Subject: about dmarc failure", "", "Our DMARC policy is strict."),
    multipart(
        ("From: noreply@example.net", "Subject: Report Domain: example.com Submitter: example.net Report-ID: 1"),
        ("Content-Type: application/gzip\nContent-Transfer-Encoding: base64", "H4sIAAAAAAAA"),
        kind="mixed",
    ),
    multipart(
        ("From: tls@example.net", "TLS-Report-Domain: example.com", "Subject: Report Domain: example.com"),
        ("Content-Type: application/tlsrpt+gzip", "x"),
        kind="report; report-type=tlsrpt",
    ),
    multipart(
        ("From: a@example.org", "Subject: look at this"),
        ("Content-Type: message/rfc822", samples.COMPLAINT.decode().replace("=_B", "=_C")),
        kind="mixed",
    ),
]


@pytest.mark.parametrize("content", NONE, ids=range(len(NONE)))
def test_what_is_no_feedback(content: bytes) -> None:
    """Bounces, vacations, people's mail about complaints and aggregate reports are no feedback reports."""
    assert feedback.read(scan(content)) is None
