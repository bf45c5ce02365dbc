"""The short way through a report that is written as usual leads where the long way leads."""

import codecs
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bounced.report import DeliveryReport, delivery_status, mime, usual
from bounced.report.mime import Message
from tests.report.seeds import EVERY

_REPORT = b"""From: MAILER-DAEMON@example.net
Subject: Undelivered
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="b/1"

preamble

--b/1
Content-Description: Notification
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain; charset=us-ascii

It failed.
--inner--
--b/1
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; joe@example.org
Action: failed
--b/1
Content-Type: message/rfc822
Content-Transfer-Encoding: 8bit

Subject: hello

--b/1x
text
--b/1--
epilogue
"""


def shape(message: Message) -> object:
    """Return all that a message is up to its delivery status, headers by their octets."""
    places = [place for place, part in enumerate(message.parts) if part.content_type in delivery_status.STATUS_TYPES]
    parts = [(*part[2:], part.body(), part.headers.block) for part in message.parts[: places[0] + 1 if places else 0]]
    return message.headers.block, message.content_type, parts


def told(report: DeliveryReport | None) -> object:
    """Return all that a report says, what came back of the original among it."""
    return report and (report.recipients, report.reporting_mta, report.original_envelope_id, report.returned)


def ways(content: bytes) -> tuple[Message | None, Message]:
    """Scan by the short way and by the long."""
    return usual.opening(usual.beginning(content)), mime.scan(content)


def agree(content: bytes) -> bool:
    """Assert that the short way, where it is gone at all, leads to the same parts and to the same report; tell whether it was gone."""
    short, long = ways(content)
    assert short is None or shape(short) == shape(long)
    report = usual.read(content)
    assert report is None or told(report) == told(delivery_status.read(long))
    return short is not None


def test_usual_report_goes_the_short_way() -> None:
    """A plain report is scanned without the long way, with the same result; what a stranger's line feeds do to it is seen."""
    plain = _REPORT.replace(b"--b/1x", b"text")
    short, long = ways(plain)
    assert short is not None
    assert [part.content_type for part in short.parts] == ["text/plain", "message/delivery-status"]
    assert agree(plain)
    # Negative control: a delimiter of which only the beginning is right is left to the long way.
    assert not agree(_REPORT.replace(b"--b/1\nContent-Type: message/d", b"--b/1x\nContent-Type: message/d"))
    assert shape(long) != shape(ways(plain.replace(b"Joe", b"joe").replace(b"It failed", b"It fails!"))[1])


@pytest.mark.parametrize(
    ("ends", "is_short"),
    [
        (lambda report: report, True),
        (lambda report: report.replace(b"\n", b"\r\n"), True),
        (lambda report: b"\r\n \r\n" + report.replace(b"\n", b"\r\n"), True),
        (lambda report: report.replace(b"\n", b"\r\n").replace(b"hello", b"hello\r\rhello"), True),
        (lambda report: report.replace(b"hello", b"hello" + 1000 * b"\r"), True),
        (lambda report: report.replace(b"failed\n", b"failed\r\r\n"), False),
        (lambda report: report.replace(b"failed\n", b"failed\n" + 1000 * b"X: y\r"), False),
        (lambda report: report.replace(b"\n", b"\r"), False),
        (lambda report: codecs.BOM_UTF8 + report, False),
        (lambda report: codecs.BOM_UTF16_LE + report.decode("ascii").encode("utf-16-le"), False),
    ],
)
def test_the_ends_of_lines_change_nothing(ends: Callable[[bytes], bytes], is_short: bool) -> None:
    """However its lines end, and whatever stands ahead, a report says the same by both ways; what is odd up to its status goes the long."""
    assert agree(ends(_REPORT.replace(b"--b/1x", b"text"))) == is_short


def test_what_came_back_is_scanned_when_somebody_asks() -> None:
    """A report that was read the short way tells what came back of the original all the same, and shows no mail in its representation."""
    report = usual.read(_REPORT.replace(b"Subject: hello", b"Message-ID: <1@example.com>"))
    assert report is not None
    assert report.returned is not None
    assert report.returned.message_id == "<1@example.com>"
    assert "example.com" not in repr(report)


_OTHERS = [
    b"\n", b"\n\n", b" ", b"\t", b":", b";", b'"', b"--b/1", b"--b/1\n", b"\n--b/1--\n", b"\n--b/1\n\n", b"\n--b/1\n", b"--", b"=?",
    b"Content-Type: text/plain\n", b"\nContent-Type: message/rfc822\n\n", b"\nCONTENT-TYPE: multipart/report; boundary=z\n", b"boundary=z",
    b"Content-Type: multipart/mixed; boundary=inner\n\n", b"--inner\n\n" * 120, b"X: y\n" * 1001, b"\xff", b"\x1b$B", b"From x\n",
    b"\r", b"\r\n",
]  # fmt: skip


@settings(max_examples=600, deadline=None)
@example([(352, 0, b"\n--b/1--\n"), (358, 0, b":")])  # an end of the status part that is no delimiter
@example([(205, 0, b"--inner\n\n" * 120)])  # more parts than are read stand before the status part
@example([(97, 0, b'"')])  # a quote that is opened before report-type's value and never closed there
@given(st.lists(st.tuples(st.integers(0, len(_REPORT)), st.integers(0, 12), st.sampled_from([b"", b"", *_OTHERS])), max_size=4))
def test_both_ways_agree_on_damaged_reports(damages: list[tuple[int, int, bytes]]) -> None:
    """Whatever is cut out of a report or put into it: where the short way is gone at all, it leads to the same parts."""
    content = _REPORT.replace(b"--b/1x", b"text")
    for place, length, put in damages:
        content = content[:place] + put + content[place + length :]
    agree(content)
    agree(content.replace(b"\n", b"\r\n"))


@settings(max_examples=12, deadline=None)
@given(st.randoms(use_true_random=False))
def test_both_ways_agree_on_damaged_samples(chance: random.Random) -> None:
    """Whatever is cut out of a sample of any system, doubled or put into it: both ways agree."""
    for sample in EVERY.values():
        content = sample
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(content) + 1)
            content = content[:place] + chance.choice([b"", *_OTHERS]) + content[place + chance.randrange(12) :]
        agree(content)


def test_both_ways_agree_on_the_corpus(shared: Path) -> None:
    """All messages of the corpus have the same parts by both ways; a good part of the reports goes the short one."""
    assert sum(agree(path.read_bytes()) for path in sorted((shared / "corpus" / "messages").rglob("*.eml"))) > 200


@pytest.mark.parametrize("header", [b"Content-Type: multipart/report; boundary=x\n", b"Content-Type: text/plain\n"])
def test_first_content_type_counts(header: bytes) -> None:
    """A second Content-Type says nothing, whichever way is gone."""
    agree(header + _REPORT)
    long = ways(header + _REPORT)[1]
    assert long.content_type != "multipart/report" or b"boundary=x" in header
