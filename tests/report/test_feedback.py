"""Feedback reports: standard, sparse, and the forms like them."""

import pytest

from bounced.report import FeedbackReport
from bounced.report.reader import read
from tests.report.samples import FEEDBACK


def _read(content: bytes) -> FeedbackReport:
    report = read(content)
    assert isinstance(report, FeedbackReport)
    return report


def test_all_fields() -> None:
    """A whole report gives kind, recipients, source and what came back."""
    report = _read(FEEDBACK)
    assert (report.feedback_type, report.recipients, report.source_ip) == ("abuse", ("angry@there.example",), "192.0.2.9")
    assert (report.reported_domain, report.user_agent) == ("ours.example", "FBL/1.0")
    assert report.returned is not None
    assert (report.returned.return_path, report.returned.message_id) == ("b+token@bounces.example", "<m9@ours.example>")


def test_recipient_of_the_returned_mail() -> None:
    """A report that names no recipient takes the one of the returned mail; several prove nothing."""
    sparse = FEEDBACK.replace(b"Original-Rcpt-To: <angry@there.example>\n", b"")
    assert _read(sparse).recipients == ("angry@there.example",)
    assert _read(sparse.replace(b"To: angry@there.example", b"To: a@x.example, b@x.example")).recipients == ()


def test_redacted_report() -> None:
    """A report without returned mail still gives its path."""
    report = _read(FEEDBACK.partition(b"--f\nContent-Type: message/rfc822")[0] + b"--f--\n")
    assert report.returned is not None
    assert report.returned.return_path == "b+token@bounces.example"
    assert report.returned.message_id is None


def test_lost_machine_part() -> None:
    """A report of that type whose machine-readable part is gone is a complaint all the same."""
    report = _read(FEEDBACK.replace(b"message/feedback-report", b"text/plain"))
    assert (report.feedback_type, report.recipients) == ("abuse", ("angry@there.example",))


def test_complaint_of_the_jmrp_form() -> None:
    """A mail attached under the subject of Microsoft's programme is a complaint."""
    content = (
        b"From: staff@hotmail.example\nSubject: complaint about message from 192.0.2.9\nContent-Type: multipart/mixed; boundary=h\n\n--h\n"
    )
    content += b"Content-Type: message/rfc822\n\nX-HmXmrOriginalRecipient: angry@there.example\n"
    content += b"From: news@ours.example\nTo: x@y.example\n\nHi\n--h--\n"
    report = _read(content)
    assert (report.reader, report.recipients, report.source_ip) == ("jmrp", ("angry@there.example",), "192.0.2.9")


@pytest.mark.parametrize("kind", [b"Forensic", b"Failure"])
def test_policy_letter(kind: bytes) -> None:
    """A DMARC failure told in a letter is an authentication failure."""
    content = b"From: no-reply@gate.example\nSubject: DMARC " + kind + b" Report for ours.example from IP 192.0.2.9\n\n"
    report = _read(
        content + b"A message has failed the published DMARC policy.\n\n  Sender Domain: ours.example\n  Sender IP Address: 192.0.2.9\n"
    )
    assert (report.feedback_type, report.reported_domain, report.source_ip) == ("auth-failure", "ours.example", "192.0.2.9")


def test_talk_of_policy_is_no_report() -> None:
    """Control: a mail that only mentions DMARC is none."""
    assert not isinstance(read(b"From: a@x.example\nSubject: our dmarc record\n\nWhat does the policy say?\n"), FeedbackReport)
