"""read: which tier speaks. That it is total, deterministic and bounded: test_fuzz.py, test_damage.py, test_bombs.py."""

import pytest

from bounced.report import Action, DeliveryReport, Unrecognized
from bounced.report.reader import read
from tests.report import samples


@pytest.mark.parametrize("name", samples.BOUNCES)
def test_each_family_is_read_with_address_and_reply(name: str) -> None:
    """Each family's letter gives the failed recipient and the server's reply or reason."""
    report = read(samples.BOUNCES[name])
    assert isinstance(report, DeliveryReport)
    assert report.recipients[0].address in ("gone@there.example", "one@there.example", "alias@there.example")
    assert report.recipients[0].action is Action.FAILED
    assert "5.1.1" in report.recipients[0].diagnostic
    assert report.standard == (name == "standard")


@pytest.mark.parametrize("name", samples.BOUNCES)
@pytest.mark.parametrize("ending", [b"\r\n", b"\r"])
def test_the_form_of_line_ends_does_not_matter(name: str, ending: bytes) -> None:
    """CRLF and bare-CR copies are read like the original."""
    content = samples.BOUNCES[name]
    report, other = read(content), read(content.replace(b"\n", ending))
    assert isinstance(report, DeliveryReport)
    assert isinstance(other, DeliveryReport)
    assert (other.recipients, other.reporting_mta, other.original_envelope_id) == (
        report.recipients, report.reporting_mta, report.original_envelope_id
    )  # fmt: skip
    assert other.returned == report.returned


@pytest.mark.parametrize("name", samples.NO_BOUNCES)
def test_what_is_no_bounce_is_not_taken_for_one(name: str) -> None:
    """Complaints, automatic answers, receipts, people and lists that speak of bounces give no delivery report."""
    assert not isinstance(read(samples.NO_BOUNCES[name]), DeliveryReport)


def test_people_and_lists_are_unrecognized() -> None:
    """A list's post and a person's letter that quote bounces are ordinary mail."""
    assert read(samples.LIST_POST) == read(samples.PERSON) == Unrecognized(reason="no sign of a report")


def test_the_same_quotation_from_a_daemon_is_a_bounce() -> None:
    """Control: the list's post is spared for its List-Id and sender alone."""
    content = samples.LIST_POST.replace(b"List-Id", b"X-Other").replace(b"Postmaster Bob <bob@", b"<MAILER-DAEMON@")
    assert isinstance(read(content), DeliveryReport)


def test_a_report_forwarded_by_a_gateway_is_read() -> None:
    """A daemon's letter without facts that returns another daemon's report is read as that report."""
    outer = b"From: MAILER-DAEMON@gw.example\nSubject: Returned mail\nContent-Type: multipart/mixed; boundary=o\n\n--o\n\nError.\n\n--o\n"
    report = read(outer + b"Content-Type: message/rfc822\n\n" + samples.STANDARD + b"\n--o--\n")
    assert isinstance(report, DeliveryReport)
    assert report.recipients[0].final_recipient == "gone@there.example"


def test_limits_are_told() -> None:
    """A header block beyond the limit gives Unrecognized with over_limit, and no attempt at its content."""
    report = read(b"X-Long: " + b"a" * 70_000 + b"\n" + samples.STANDARD)
    assert isinstance(report, Unrecognized)
    assert report.over_limit
    many = read(b"".join(b"X-H: %d\n" % number for number in range(1500)) + samples.STANDARD)
    assert isinstance(many, Unrecognized)
    assert many.over_limit


def test_no_content() -> None:
    """An empty message is unrecognized, within limits."""
    assert read(b"") == Unrecognized(reason="no sign of a report")
