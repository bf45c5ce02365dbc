"""read: total, deterministic, bounded; which tier speaks."""

import io
import random
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bounced.report import Action, AutomaticReply, DeliveryReport, FeedbackReport, Report, Unrecognized
from bounced.report.reader import read
from tests.report import samples
from tests.report.mutations import mutated

_REPORTS = (DeliveryReport, FeedbackReport, AutomaticReply, Unrecognized)
_SEEDS = list(samples.ALL.values())


def test_the_same_octets_give_the_same_report() -> None:
    """A thousand damaged letters are each read alike twice."""
    chance = random.Random(20261123)
    for _ in range(1000):
        content = mutated(chance.choice(_SEEDS), _SEEDS, chance)
        assert read(content) == read(content)


@given(st.binary(max_size=600))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_octets_give_a_report(content: bytes) -> None:
    """Octets without any sense are read without an error."""
    assert isinstance(read(content), _REPORTS)


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
    assert read(content.replace(b"\n", ending)) == read(content)


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


def _tool(shared: Path, name: str) -> ModuleType:
    path = shared / "tools" / f"{name}.py"
    source = path.read_text(encoding="utf-8")
    module = ModuleType(name)
    # It reads itself for its list of kinds, and leaves the file open.
    module.__dict__["open"] = lambda _: io.StringIO(source)
    module.__dict__["__file__"] = str(path)
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("size", [32 << 10, 128 << 10, 1 << 20])
def test_bombs(shared: Path, size: int) -> None:
    """The 43 kinds of MIME and header bombs are read without an error at every size."""
    bombs = _tool(shared, "bombs")
    assert len(bombs.KINDS) >= 43
    for kind in bombs.KINDS:
        report: Report = read(bombs.B(kind, size))
        assert isinstance(report, _REPORTS), kind
