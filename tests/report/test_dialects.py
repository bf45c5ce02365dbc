"""The dialects: found by name, each for itself, none for another's."""

import json
from pathlib import Path

import pytest

from bounced.report import Action, DeliveryReport, compose
from bounced.report.dialects import DIALECTS
from bounced.report.mime import scan
from bounced.report.prose import letter
from bounced.report.reader import read
from tests.report import samples

_NAMES = [dialect.__name__.rpartition(".")[2] for dialect in DIALECTS]


def _recognizers(content: bytes) -> list[str]:
    written = letter(scan(content))
    return [name for name, dialect in zip(_NAMES, DIALECTS, strict=True) if dialect.recognizes(written)]


def test_every_module_is_found_and_has_a_sample() -> None:
    """Each module of the package is a dialect, and one letter of our samples is its."""
    modules = {path.stem for path in Path(compose.__file__).with_name("dialects").glob("[a-z]*.py")}
    assert set(_NAMES) == modules
    assert modules <= set(samples.BOUNCES)


@pytest.mark.parametrize("name", _NAMES)
def test_each_knows_its_own_and_nobody_else_does(name: str) -> None:
    """A family's letter is recognized by its module alone."""
    assert _recognizers(samples.BOUNCES[name]) == [name]


@pytest.mark.parametrize("name", _NAMES)
def test_each_report_names_its_reader(name: str) -> None:
    """A dialect's report says by its name who read it."""
    report = read(samples.BOUNCES[name])
    assert isinstance(report, DeliveryReport)
    assert report.reader == name.replace("_", "-")


@pytest.mark.parametrize("name", samples.NO_BOUNCES)
def test_none_knows_what_is_no_bounce(name: str) -> None:
    """No module recognizes mail that is no bounce."""
    assert _recognizers(samples.NO_BOUNCES[name]) == []


def test_at_most_one_recognizes_any_message_of_the_corpus(shared: Path) -> None:
    """Over the whole corpus no two modules recognize one message that is not a standard report."""
    crowded = {}
    for line in (shared / "corpus" / "labels.jsonl").read_text(encoding="utf-8").splitlines():
        label = json.loads(line)
        content = (shared / "corpus" / label["file"]).read_bytes()
        known = _recognizers(content)
        report = read(content)
        if len(known) > 1 and not (isinstance(report, DeliveryReport) and report.standard):
            crowded[label["id"]] = known
    assert crowded == {}


def test_two_recipients_of_one_letter() -> None:
    """QSBMF with two headings gives two recipients, each with its own words."""
    report = read(samples.QMAIL)
    assert isinstance(report, DeliveryReport)
    one, two = report.recipients
    assert one.reply is not None
    assert one.reply.code == 550
    assert "too long" not in one.diagnostic
    assert str(two.status) == "4.4.1"
    assert "in the queue too long" in two.diagnostic
    assert report.returned is not None
    assert report.returned.return_path == "b+token@bounces.example"


def test_octets_of_exim() -> None:
    """Exim's octal octets are decoded in the diagnostic."""
    report = read(samples.EXIM)
    assert isinstance(report, DeliveryReport)
    assert "Boîte inconnue" in report.recipients[0].diagnostic


def test_exim_letters_of_other_forms() -> None:
    """A malformed address, and a local name that X-Failed-Recipients completes, give their recipient."""
    head = b"From: Mailer-Daemon@e.example\nX-Failed-Recipients: gone@there.example\n\n"
    malformed = head + b"A message that you sent contained one or more recipient addresses that were\n"
    malformed += b"incorrectly constructed:\n\n"
    malformed += b"  x@y.example <gone@there.example>: malformed address: may not follow\n"
    local = head + b"This message was created automatically by mail delivery software.\n\n  gone\n    550 5.1.1 unknown\n"
    for content in (malformed, local):
        report = read(content)
        assert isinstance(report, DeliveryReport)
        assert [status.final_recipient for status in report.recipients] == ["gone@there.example"]


def test_postfix_session_letter() -> None:
    """Postfix's letter about a session gives the session's recipients with the refusals."""
    content = b"From: MAILER-DAEMON@p.example\nSubject: Postfix SMTP server: errors from gw.example[192.0.2.1]\n\n"
    content += b"Transcript of session follows.\n\n"
    content += b" Out: 220 p.example\n In:  RCPT TO:<gone@there.example>\n Out: 451 4.3.0 Error: queue file write error\n In:  QUIT\n"
    report = read(content)
    assert isinstance(report, DeliveryReport)
    assert report.recipients[0].final_recipient == "gone@there.example"
    assert report.recipients[0].reply is not None
    assert report.recipients[0].reply.code == 451


def test_postfix_session_letter_with_many_refusals() -> None:
    """All refusals of a session stand in the diagnostic, each by itself, with their further lines."""
    content = b"From: MAILER-DAEMON@p.example\nSubject: Postfix SMTP server: errors from gw.example[192.0.2.1]\n\n"
    content += b" In:  RCPT TO:<gone@there.example>\n Out: 451 4.3.0 Error: queue file\n     write error\n Out: 550 5.1.1 unknown\n"
    report = read(content)
    assert isinstance(report, DeliveryReport)
    assert report.recipients[0].diagnostic == "451 4.3.0 Error: queue file write error 550 5.1.1 unknown"


def test_opensmtpd_says_of_the_last_recipient_only_what_stands_in_its_line() -> None:
    """What follows the list is said of nobody."""
    end = b"    Below is a copy of the original message:"
    content = samples.OTHERS["opensmtpd"].replace(end, b"    Please note that it will be tried again.\n\n" + end)
    assert content.count(b"Please note") == 1
    report = read(content)
    assert isinstance(report, DeliveryReport)
    assert report.recipients[0].diagnostic == "gone@there.example: 550 5.1.1 no such user"


def test_sendmails_list_goes_before_its_transcript() -> None:
    """The addresses listed under their rule are the failed ones, each with what the transcript says of it."""
    listed = b"   ----- The following addresses had permanent fatal errors -----\n<gone@there.example>\n<far@away.example>\n\n"
    rule = b"   ----- Transcript"
    report = read(samples.OTHERS["sendmail"].replace(rule, listed + rule))
    assert isinstance(report, DeliveryReport)
    assert (report.reader, [status.final_recipient for status in report.recipients]) == (
        "sendmail",
        ["gone@there.example", "far@away.example"],
    )
    assert "5.1.1" in report.recipients[0].diagnostic


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("mfilter", b"\n-------", b"\n > -------"),
        ("mailmarshal", b"Could not be delivered because of", b"It is told below why"),
        ("sendmail", b"gone@there.example>... User", b"gone>... User"),
        ("amazon_sns", b'"Type"', b'notificationType "Type"'),
        ("amazon_sns", b'{"Type"', b'Dear all, {"Type"'),
    ],
)
def test_a_letter_that_only_resembles_a_family_is_left_to_the_others(name: str, before: bytes, after: bytes) -> None:
    """Where the family's form is broken its module gives nothing."""
    assert before in samples.OTHERS[name]
    report = read(samples.OTHERS[name].replace(before, after))
    assert not isinstance(report, DeliveryReport) or report.reader != name.replace("_", "-")


def test_exchange_lists_in_any_case() -> None:
    """Each address of the list begins a section, however its first line is spelled."""
    two = b"Far@Away.example on Fri, 2 Jan 2026 00:00:00 -0000\n    Mailbox full\n"
    report = read(samples.OTHERS["exchange"].replace(b"did not reach", b"DID NOT reach") + two)
    assert isinstance(report, DeliveryReport)
    assert [status.final_recipient for status in report.recipients] == ["gone@there.example", "Far@Away.example"]
    assert "Mailbox full" not in report.recipients[0].diagnostic


def test_delays_are_told_from_failures() -> None:
    """A notice of delay gives delayed recipients, in a dialect as in free text."""
    delayed = samples.OTHERS["google"].replace(b"failed permanently", b"has been delayed").replace(b"(Failure)", b"(Delay)")
    report = read(delayed.replace(b"permanent failure", b"temporary failure"))
    assert isinstance(report, DeliveryReport)
    assert report.recipients[0].action is Action.DELAYED


@pytest.mark.parametrize(("kind", "action"), [("Delivery", Action.DELIVERED), ("Complaint", None)])
def test_other_notices_of_amazon(kind: str, action: Action | None) -> None:
    """A delivery is a delivery report, another notice is none; broken JSON is none either."""
    text = json.dumps({"notificationType": kind, "delivery": {"recipients": ["a@x.example"]}})
    report = read(f"From: no-reply@sns.example\nSubject: AWS Notification\n\n{text}".encode())
    assert (report.recipients[0].action if isinstance(report, DeliveryReport) else None) is action
    assert not isinstance(read(f"From: no-reply@sns.example\nSubject: AWS\n\n{text[:-3]}".encode()), DeliveryReport)


def test_recognized_but_without_recipient() -> None:
    """A module that finds no recipient after all leaves the letter to the others."""
    for name, content in samples.OTHERS.items():
        bare = content.replace(b"gone@there.example", b"somebody")
        report = read(bare)
        assert not isinstance(report, DeliveryReport) or all("somebody" not in (status.address or "") for status in report.recipients), name
