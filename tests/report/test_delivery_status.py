"""RFC 3464 and 6533 reports: fields, their orders and damages, and the words of the text part."""

import base64
import tracemalloc

import pytest

from bounced.report import Action, DeliveryReport, RecipientStatus, fields
from bounced.report.delivery_status import MAX_RECIPIENTS
from bounced.report.reader import read
from bounced.status import Reply, StatusCode
from tests.report.samples import STANDARD


def _written(status: bytes, note: bytes = b"See below.", kind: bytes = b"message/delivery-status") -> bytes:
    content = b"From: MAILER-DAEMON@mx.example\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\n" + note
    content += b"\n--b\nContent-Type: " + kind + b"\n\n" + status + b"\n--b\nContent-Type: text/rfc822-headers\n\n"
    return content + b"From: news@ours.example\nTo: gone@there.example\n\n--b--\n"


def _report(status: bytes, note: bytes = b"See below.", kind: bytes = b"message/delivery-status") -> DeliveryReport:
    report = read(_written(status, note, kind))
    assert isinstance(report, DeliveryReport)
    assert report.standard
    return report


def _one(status: bytes, note: bytes = b"See below.") -> RecipientStatus:
    report = _report(status, note)
    assert len(report.recipients) == 1
    return report.recipients[0]


def test_all_fields() -> None:
    """A whole report gives every noun of it, the original's headers among them."""
    report = read(STANDARD)
    assert isinstance(report, DeliveryReport)
    status = report.recipients[0]
    assert (report.reporting_mta, report.original_envelope_id, report.reader) == ("mx.example", "env-77", "rfc3464")
    assert (status.final_recipient, status.original_recipient, status.address) == (
        "gone@there.example",
        "alias@there.example",
        "gone@there.example",
    )
    assert status.reply == Reply(550, StatusCode(5, 1, 1), "<gone@there.example>: Recipient address rejected: User unknown")
    assert (status.status, status.remote_mta) == (StatusCode(5, 1, 1), "mx.there.example")
    assert report.returned is not None
    assert report.returned.message_id == "<m1@ours.example>"
    assert report.returned.return_path == "b+token@bounces.example"
    assert report.returned.sender == "news@ours.example"
    assert report.returned.recipients == ("alias@there.example",)
    assert len(report.returned.received) == 1


def test_order_case_and_missing_blank_lines() -> None:
    """Fields in any order and case are read, also where no empty line parts message, recipients and each other."""
    report = _report(
        b"REPORTING-MTA: dns; mx.example\nSTATUS: 5.1.1\naction: FAILED\nfinal-recipient: rfc822; a@x.example\n"
        b"Final-Recipient: rfc822; b@x.example\nAction: delayed\nStatus: 4.2.2\n"
    )
    assert [(status.final_recipient, status.action, str(status.status)) for status in report.recipients] == [
        ("a@x.example", Action.FAILED, "5.1.1"),
        ("b@x.example", Action.DELAYED, "4.2.2"),
    ]


def test_blank_line_within_a_recipient() -> None:
    """A diagnostic after a stray empty line still belongs to its recipient."""
    status = _one(
        b"Reporting-MTA: dns; m\n\nFinal-Recipient: rfc822; a@x.example\nAction: failed\n\nDiagnostic-Code: smtp; 550 5.1.1 no such user\n"
    )
    assert status.reply is not None
    assert status.reply.code == 550


def test_base64_status_part() -> None:
    """A status part in base64 is decoded."""
    fields = base64.encodebytes(b"Final-Recipient: rfc822; a@x.example\nAction: failed\nStatus: 5.1.1\n")
    report = _report(fields, kind=b"message/delivery-status\nContent-Transfer-Encoding: base64")
    assert report.recipients[0].final_recipient == "a@x.example"


def test_global_report() -> None:
    """RFC 6533: UTF-8 addresses, plain and escaped, in a global report."""
    status = "Final-Recipient: utf-8; 用户@there.example\n"
    status += "Original-Recipient: utf-8; \\x{7528}\\x{6237}@there.example\nAction: failed\nStatus: 5.1.1\n"
    report = _report(status.encode(), kind=b"message/global-delivery-status")
    assert report.recipients[0].final_recipient == report.recipients[0].original_recipient == "用户@there.example"


def _originally(original: bytes, final: bytes = b"c@y.example") -> str | None:
    status = _one(b"Original-Recipient: rfc822;" + original + b"\nFinal-Recipient: rfc822; " + final + b"\nAction: failed\n")
    return status.original_recipient


def test_an_original_recipient_that_was_left_in_xtext_is_decoded() -> None:
    """+2B and +3D are decoded where nothing else is escaped, and any pair where that gives the final recipient."""
    assert _originally(b"a+2Bb@x.example") == "a+b@x.example"
    assert _originally(b"a+2Bb+3Dc@x.example") == "a+b=c@x.example"
    assert _originally(b"a+20b@x.example", b"a b@x.example") == "a+20b@x.example"
    assert _originally(b"a+2Db@x.example", b"A-b@x.example") == "a-b@x.example"


def test_a_plus_that_xtext_would_have_escaped_is_kept() -> None:
    """A tag that only looks like an escape, an escape beside a bare plus, and one with nothing after it are as they were written."""
    for written in (b"joe+20@x.example", b"joe+AD@x.example", b"joe+news+2Bx@x.example", b"class+2B@x.example", b"joe+2bx@x.example"):
        assert _originally(written) == written.decode()


def test_the_mailbox_that_failed_is_the_final_recipient() -> None:
    """An alias of many gives each of its targets; only a name that means nothing outside the reporting system gives way to the original."""

    def named(final: bytes) -> str | None:
        return _one(b"Original-Recipient: rfc822; all@x.example\nFinal-Recipient: rfc822; " + final + b"\nAction: failed\n").address

    assert named(b"joe@y.example") == "joe@y.example"
    assert named(b"joe@[192.0.2.1]") == "joe@[192.0.2.1]"
    assert named(b"joe@server") == "all@x.example"
    assert named(b"") == "all@x.example"


def test_a_numbered_sentence_follows_its_reply_code() -> None:
    """`552 1 Requested ...` (Yahoo) is a reply at the start of a diagnostic and after a colon; a count or date amid words is none."""
    told = _one(b"Final-Recipient: rfc822; a@x.example\nAction: failed\nDiagnostic-Code: smtp; 552 1 Requested mail action aborted\n")
    assert told.reply == Reply(552, None, "1 Requested mail action aborted")
    assert fields.find_reply("mx.x.example did not like our RCPT TO: 554 30 Sorry, disabled") == Reply(554, None, "30 Sorry, disabled")
    assert fields.find_reply("it holds 512 30 Megabyte files") is None
    assert fields.find_reply("552 1 messages") is None


def test_actions_are_respected() -> None:
    """Each action is kept; a missing one is a failure, or a delivery where the status says so."""
    for word, action in (
        ("delivered", Action.DELIVERED),
        ("relayed", Action.RELAYED),
        ("expanded", Action.EXPANDED),
        ("delayed", Action.DELAYED),
    ):
        assert _one(b"Final-Recipient: rfc822; a@x.example\nStatus: 5.0.0\nAction: " + word.encode()).action is action
    assert _one(b"Final-Recipient: rfc822; a@x.example\nStatus: 2.0.0").action is Action.DELIVERED
    assert _one(b"Final-Recipient: rfc822; a@x.example\nStatus: 5.1.1 (gone)").status == StatusCode(5, 1, 1)


def test_reason_from_the_text_part() -> None:
    """Where the fields give no reason the text's is taken, with the reply in it; the generic status stays."""
    note = b"An error has occurred:\n\na@x.example: 552 5.2.2 Mailbox full\n\nBelow is a copy of the original message:\n"
    status = _one(b"Final-Recipient: rfc822; a@x.example\nAction: failed\nStatus: 5.0.0\n", note)
    assert status.status == StatusCode(5, 0, 0)
    assert status.reply == Reply(552, StatusCode(5, 2, 2), "Mailbox full")
    assert "Mailbox full" in status.diagnostic


def test_expiry_told_in_prose_only() -> None:
    """An expiry that only the text tells is in the diagnostic, beside the last reply."""
    note = b"The following address(es) failed:\n\n  a@x.example\n    retry timeout exceeded\n"
    status = _one(
        b"Final-Recipient: rfc822; a@x.example\nAction: failed\nStatus: 5.0.0\nDiagnostic-Code: smtp; 451 try again later, please\n", note
    )
    assert "retry timeout exceeded" in status.diagnostic
    assert status.reply is not None
    assert status.reply.code == 451


def test_first_line_of_a_longer_reply() -> None:
    """A diagnostic that ends after the first line of many is completed from the transcript."""
    note = b"----- Transcript of session follows -----\n"
    note += b"<<< 550-5.7.1 Blocked\n<<< 550 5.7.1 see blocklist.example\n550 5.1.1 <a@x.example>... no\n"
    status = _one(
        b"Final-Recipient: rfc822; a@x.example\nAction: failed\nStatus: 5.7.1\nDiagnostic-Code: SMTP; 550-5.7.1 Blocked by a list\n", note
    )
    assert "blocklist.example" in status.diagnostic


def test_two_recipients_keep_their_own_words() -> None:
    """What the text says of one recipient is not told of another."""
    note = b"a@x.example\n    Mailbox is full here\n\nb@x.example\n    There is no such user\n"
    report = _report(
        b"Final-Recipient: rfc822; a@x.example\nAction: failed\n\nFinal-Recipient: rfc822; b@x.example\nAction: failed\n", note
    )
    assert "full" in report.recipients[0].diagnostic
    assert "no such user" not in report.recipients[0].diagnostic
    assert "no such user" in report.recipients[1].diagnostic


def test_recipient_from_text_or_returned_mail() -> None:
    """A status without address takes it from the text, else from the returned mail's To."""
    assert _one(b"Final-Recipient: rfc822;\nAction: failed\nStatus: 5.1.1\n", b"a@x.example: unknown\n").address == "a@x.example"
    assert _one(b"Final-Recipient: rfc822;\nAction: failed\nStatus: 5.1.1\n").address == "gone@there.example"


def test_bare_local_name() -> None:
    """A name without domain is kept where nothing better is known."""
    content = b"From: MAILER-DAEMON@mx.example\nContent-Type: multipart/report; boundary=b\n\n--b\n\nInvalid address - nair_s\n--b\n"
    report = read(content + b"Content-Type: message/delivery-status\n\nFinal-Recipient: unknown; nair_s\nAction: failed\n\n--b--\n")
    assert isinstance(report, DeliveryReport)
    assert report.recipients[0].final_recipient == "nair_s"
    assert "Invalid address" in report.recipients[0].diagnostic


def test_fields_outside_of_any_part() -> None:
    """Where the MIME structure is lost the fields are read from the text, and the report is not standard."""
    body = STANDARD.partition(b"Reporting-MTA")[2].partition(b"\n--=_1")[0]
    report = read(b"From: MAILER-DAEMON@mx.example\nSubject: Returned mail\n\nSorry.\n\nReporting-MTA" + body)
    assert isinstance(report, DeliveryReport)
    assert (report.standard, report.recipients[0].final_recipient, report.reporting_mta) == (False, "gone@there.example", "mx.example")


def test_thousand_recipients() -> None:
    """A report on a thousand recipients is read whole; beyond the bound it is cut."""
    fields = b"".join(b"Final-Recipient: rfc822; u%d@x.example\nAction: failed\nStatus: 5.1.1\n\n" % number for number in range(1000))
    note = b"".join(b"\n<u%d@x.example>: host mx said: 550 5.1.1 User unknown\n" % number for number in range(1000))
    report = _report(fields, note)
    assert len(report.recipients) == 1000
    assert all(status.reply is not None for status in report.recipients)
    assert len(_report(fields * 3).recipients) == MAX_RECIPIENTS


@pytest.mark.parametrize("line_end", [b"", b"\n ", b"\n"], ids=["one line", "folded", "unfolded"])
def test_memory_of_a_long_diagnostic(line_end: bytes) -> None:
    """A diagnostic of a megabyte takes hardly twice its size to read, however its lines are written."""
    fields = b"Reporting-MTA: dns; mx.example\n\nFinal-Recipient: rfc822; a@x.example\nAction: failed\nStatus: 5.1.1\n"
    diagnostic = b"Diagnostic-Code: smtp; 550 5.1.1 No such user" + (line_end + b" of whom I know, nor was there ever one") * 25_000
    content = _written(fields + diagnostic + b"\n").replace(b"\n", b"\r\n")
    tracemalloc.start()
    try:
        report = read(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(report, DeliveryReport)
    assert report.recipients[0].diagnostic.startswith("550 5.1.1 No such user of whom I know")
    assert peak < 2.2 * len(content)


def test_nullmailer_says_delayed_and_means_failed() -> None:
    """The one report of nullmailer is final whatever its action says, and its unfolded lines belong together; others' delays are delays."""
    fields = b"Final-Recipient: rfc822; a@x.example\nAction: delayed\nStatus: 4.4.1\nDiagnostic-Code: smtp; 451 Try later\n451 and later\n"
    status = _report(b"Reporting-MTA: x-local-hostname; n.example\n\n" + fields).recipients[0]
    assert status.action is Action.FAILED
    assert status.diagnostic.startswith("451 Try later 451 and later")
    assert _report(b"Reporting-MTA: dns; n.example\n\n" + fields).recipients[0].action is Action.DELAYED


@pytest.mark.parametrize(
    "kind",
    [
        *("message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers", "text/rfc822-header"),
        *("message/rfc822-headers", "text/rfc822", "message/partial"),
    ],
)
def test_every_type_of_what_came_back(kind: str) -> None:
    """The original's headers are read under each type that systems give them, in any case."""
    for written in (kind, kind.upper()):
        report = read(STANDARD.replace(b"Content-Type: message/rfc822", b"Content-Type: " + written.encode()))
        assert isinstance(report, DeliveryReport)
        assert report.returned is not None
        assert report.returned.message_id == "<m1@ours.example>"
