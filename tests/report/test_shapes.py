"""The same bounce in shapes that gateways, archives and editors give it: it says the same in all of them."""

from collections.abc import Callable

import pytest

from bounced.report import AutomaticReply, DeliveryReport, Report
from bounced.report.fields import bare
from bounced.report.reader import read
from tests.report import samples

_STATUS_TYPE = b"Content-Type: message/delivery-status"
_TEXT = b"""This is the mail system at host mx.example.

<gone@there.example>: host mx.there.example[192.0.2.1] said: 550 5.1.1
    <gone@there.example>: Recipient address rejected: User unknown (in reply
    to RCPT TO command)
"""
_GATEWAY = b"""Return-Path: <>
From: Mail Delivery Subsystem <MAILER-DAEMON@gateway.example>
To: b+token@bounces.example
Subject: Undeliverable mail
Content-Type: multipart/mixed; boundary="gateway"

--gateway
Content-Type: text/plain

The attached message was returned.

--gateway
Content-Type: message/rfc822

%b
--gateway--
"""


def told(report: Report) -> list[tuple[str | None, str, str, str]]:
    """Return what a report says of each recipient, without the words around it."""
    assert isinstance(report, DeliveryReport)
    return [(one.address, one.action, str(one.status), str(one.reply.code if one.reply else None)) for one in report.recipients]


def _status_part(content: bytes) -> tuple[int, int]:
    begin = content.index(b"Reporting-MTA")
    return begin, content.index(b"\n--=_1", begin)


def _reversed_fields(content: bytes) -> bytes:
    begin, end = _status_part(content)
    unfolded = content[begin:end].replace(b"\n    ", b" ").strip()
    groups = [b"\n".join(reversed(group.split(b"\n"))) for group in unfolded.split(b"\n\n")]
    return content[:begin] + b"\n\n".join(groups) + b"\n" + content[end:]


def _indented_fields(content: bytes) -> bytes:
    begin, end = _status_part(content)
    return content[:begin] + b"   " + content[begin:end].replace(b"\n", b"\n   ") + content[end:]


def _status_ahead(content: bytes) -> bytes:
    text = content.index(b"--=_1\nContent-Type: text/plain")
    status, original = content.index(b"--=_1\n" + _STATUS_TYPE), content.index(b"--=_1\nContent-Type: message/rfc822")
    return content[:text] + content[status:original] + content[text:status] + content[original:]


SHAPES: dict[str, Callable[[bytes], bytes]] = {
    "utf-8 mark": lambda content: b"\xef\xbb\xbf" + content,
    "utf-16": lambda content: content.decode("latin-1").encode("utf-16"),
    "utf-16, big end first": lambda content: b"\xfe\xff" + content.decode("latin-1").encode("utf-16-be"),
    "blank lines of blanks ahead": lambda content: b"\r\n \t\n" + content,
    "status as text": lambda content: content.replace(_STATUS_TYPE, b"Content-Type: text/plain; name=details.txt"),
    "status as a file": lambda content: content.replace(_STATUS_TYPE, b"Content-Type: application/octet-stream; name=ATT01.dat"),
    "status without a type": lambda content: content.replace(_STATUS_TYPE, b"Content-Description: Details"),
    "status ahead of the text": _status_ahead,
    "fields in reverse": _reversed_fields,
    "fields indented": _indented_fields,
    "through a gateway": lambda content: _GATEWAY % content,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shape_makes_no_difference(shape: str) -> None:
    """A standard report reads the same, whatever was done to its shape on the way."""
    assert SHAPES[shape](samples.STANDARD) != samples.STANDARD
    assert told(read(SHAPES[shape](samples.STANDARD))) == told(read(samples.STANDARD))


@pytest.mark.parametrize("name", ["dma", "yahoo"])
def test_letter_through_a_gateway(name: str) -> None:
    """A letter that is no standard report is read when a gateway that names nobody returns it as a message."""
    assert told(read(_GATEWAY % samples.OTHERS[name])) == told(read(samples.OTHERS[name]))


def test_gateways_own_words_go_first() -> None:
    """Where the gateway itself names who failed, the letter in what it returns is another's."""
    content = (_GATEWAY % samples.OTHERS["dma"]).replace(b"The attached", b"<here@ours.example>: mailbox full\n\nThe attached")
    assert told(read(content))[0][0] == "here@ours.example"


def test_file_that_opens_otherwise_is_no_status() -> None:
    """Negative control: an attached text in which such fields stand later is not taken for the report."""
    content = samples.STANDARD.replace(_STATUS_TYPE, b"Content-Type: text/plain")
    content = content.replace(b"Reporting-MTA", b"See below.\n\nReporting-MTA")
    report = read(content)
    assert isinstance(report, DeliveryReport)
    assert report.reader != "rfc3464"


def test_report_that_lost_its_status() -> None:
    """A delivery report that was cut ahead of its machine-readable part is a bounce still, though it calls itself auto-replied."""
    content = samples.STANDARD[: samples.STANDARD.index(b"--=_1\n" + _STATUS_TYPE)]
    content = content.replace(b"MAILER-DAEMON@mx.example (Mail Delivery System)", b"Outlook <notices@mx.example>")
    assert told(read(content)) == [("gone@there.example", "failed", "5.1.1", "550")]
    away = content.replace(b"multipart/report; report-type=delivery-status", b"multipart/mixed").replace(_TEXT, b"Away.")
    assert isinstance(read(away), AutomaticReply)


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("joe@example.jp您好，", "joe@example.jp"),
        ("joe@mail.example.comの宛先", "joe@mail.example.com"),
        ("joe@example.co.kr님에게", "joe@example.co.kr"),
        ("joe@例え.テスト", "joe@例え.テスト"),
        ("joe@españa.example", "joe@españa.example"),
        ("joe@www.españa.example.", "joe@www.españa.example"),
        ("joe@[192.0.2.1]", "joe@[192.0.2.1]"),
    ],
)
def test_address_ends_where_another_script_begins(written: str, address: str) -> None:
    """What Chinese, Japanese or Korean prose joins to an address of ASCII is no part of it; international domains stay whole."""
    assert bare(written) == address


def test_text_behind_the_status_that_opens_as_a_header() -> None:
    """Of what stands behind a status without a text ahead, returned mail under another type is no explanation."""
    content = _status_ahead(samples.STANDARD).replace(_TEXT, b"Subject: your mailbox is full of surprises\n\nHello.\n")
    content = content.replace(b"Status: 5.1.1", b"Status: 5.0.0").replace(b"Diagnostic-Code: smtp; 550 5.1.1", b"X-Was: 550 5.1.1")
    report = read(content)
    assert isinstance(report, DeliveryReport)
    assert "surprises" not in report.recipients[0].diagnostic


def test_recipients_in_another_order_are_bounded() -> None:
    """Groups whose fields stand in another order are counted as well."""
    begin, end = _status_part(samples.STANDARD)
    group = b"\n\nDiagnostic-Code: smtp; 550 no\nAction: failed\nFinal-Recipient: rfc822; joe%d@there.example"
    groups = b"".join(group % number for number in range(1100))
    report = read(samples.STANDARD[:begin] + b"Reporting-MTA: dns; mx.example" + groups + samples.STANDARD[end:])
    assert isinstance(report, DeliveryReport)
    assert len(report.recipients) == 1000
