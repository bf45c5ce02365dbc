"""The short way through a report that is written as usual leads where the long way leads."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bounced.report import mime
from bounced.report.mime import Message

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
    """Return all that a message is, headers by their octets."""
    parts = [(*part._replace(headers=None), part.headers.block) for part in message.parts]  # type: ignore[arg-type]
    return message.headers.block, message.content_type, parts, message.over_limit


def ways(content: bytes) -> tuple[Message | None, Message]:
    """Scan by the short way and by the long."""
    return mime._usual(content, False), mime._scan(content, 0, len(content), 0, False)


def test_usual_report_goes_the_short_way() -> None:
    """A plain report is scanned without the long way, with the same result; what a stranger's line feeds do to it is seen."""
    plain = _REPORT.replace(b"--b/1x", b"text")
    short, long = ways(plain)
    assert short is not None
    assert [part.content_type for part in short.parts] == ["text/plain", "message/delivery-status", "message/rfc822"]
    assert shape(short) == shape(long)
    # Negative control: a delimiter of which only the beginning is right is left to the long way.
    assert ways(_REPORT)[0] is None
    assert shape(long) != shape(ways(plain.replace(b"Joe", b"joe").replace(b"8bit", b"7bit"))[1])


_OTHERS = [
    b"\n", b"\n\n", b" ", b"\t", b":", b";", b'"', b"--b/1", b"--b/1\n", b"\n--b/1--\n", b"\n--b/1\n\n", b"\n--b/1\n", b"--", b"=?",
    b"Content-Type: text/plain\n", b"\nContent-Type: message/rfc822\n\n", b"\nCONTENT-TYPE: multipart/report; boundary=z\n", b"boundary=z",
    b"Content-Type: multipart/mixed; boundary=inner\n\n", b"--inner\n\n" * 120, b"X: y\n" * 1001, b"\xff", b"\x1b$B", b"From x\n",
]  # fmt: skip


@settings(max_examples=1500, deadline=None)
@example([(97, 0, b'"')])  # a quote that is opened before report-type's value and never closed there
@given(st.lists(st.tuples(st.integers(0, len(_REPORT)), st.integers(0, 12), st.sampled_from([b"", b"", *_OTHERS])), max_size=4))
def test_both_ways_agree_on_damaged_reports(damages: list[tuple[int, int, bytes]]) -> None:
    """Whatever is cut out of a report or put into it: where the short way is gone at all, it leads to the same parts."""
    content = _REPORT.replace(b"--b/1x", b"text")
    for place, length, put in damages:
        content = content[:place] + put + content[place + length :]
    short, long = ways(content)
    assert short is None or shape(short) == shape(long)


def test_both_ways_agree_on_the_corpus(shared: Path) -> None:
    """All messages of the corpus have the same parts by both ways; a good part of the reports goes the short one."""
    count = 0
    for path in sorted((shared / "corpus" / "messages").rglob("*.eml")):
        short, long = ways(re.sub(rb"\r\n?", b"\n", path.read_bytes())[: mime.SCAN_LIMIT])
        count += short is not None
        assert short is None or shape(short) == shape(long), path.name
    assert count > 200


@pytest.mark.parametrize("header", [b"Content-Type: multipart/report; boundary=x\n", b"Content-Type: text/plain\n"])
def test_first_content_type_counts(header: bytes) -> None:
    """A second Content-Type says nothing, whichever way is gone."""
    short, long = ways(header + _REPORT)
    assert short is None or shape(short) == shape(long)
    assert long.content_type != "multipart/report" or b"boundary=x" in header
