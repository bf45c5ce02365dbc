"""Mail data: its end, its dots and its bound, over every cut into chunks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounced.smtp.mail_data import MailData, whole

wire = st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"a", b"\0", b"..", b"\r\n.\r\n"]), max_size=30).map(b"".join)


def plainly(octets: bytes, limit: int) -> tuple[bytes, bytes] | None:
    """Read mail data as RFC 5321 section 4.5.2 tells it, all at once: content, and what follows the end."""
    end = (b"\r\n" + octets).find(b"\r\n.\r\n")
    if end < 0:
        return None
    lines = (octets[:end]).removesuffix(b"\r\n").split(b"\r\n") if end else []
    content = b"".join(line.removeprefix(b".") + b"\n" for line in lines)
    return content[:limit], octets[end + 3 :]


def fed(octets: bytes, sizes: list[int], limit: int) -> tuple[bytes, bytes] | None:
    """Read mail data in chunks of these sizes, over and over."""
    mail, at, number = MailData(limit), 0, 0
    while at < len(octets):
        size = sizes[number % len(sizes)]
        rest = mail.feed(octets[at : at + size])
        at += size
        number += 1
        assert mail.held <= limit
        if rest is not None:
            assert mail.seen == len(octets[:at]) - len(rest)
            return mail.content(), rest + octets[at:]
    assert mail.seen == len(octets)
    return None


@given(wire, st.lists(st.integers(1, 7), min_size=1, max_size=5), st.sampled_from([3, 10, 1000]))
def test_every_cut_reads_the_same(octets: bytes, sizes: list[int], limit: int) -> None:
    """However the octets are cut, content and end are those of the whole."""
    assert fed(octets, sizes, limit) == fed(octets, [len(octets) or 1], limit) == plainly(octets, limit)


@given(wire, wire)
def test_mail_that_came_all_at_once_reads_the_same(before: bytes, octets: bytes) -> None:
    """Where the short way takes mail data, it takes what the long one takes, whatever stands before it."""
    found = whole(before + octets, len(before)) if octets else None
    if found is not None:
        content, end = found
        assert (content, (before + octets)[end:]) == plainly(octets, 1000)


@pytest.mark.parametrize(
    ("octets", "found"),
    [
        (b"a\r\nb\r\n.\r\nQUIT\r\n", (b"a\nb\n", 9)),
        (b"\r\n.\r\n", (b"\n", 5)),
        (b".\r\n", None),
        (b".a\r\n.\r\n", None),
        (b"a\r\n..\r\n.\r\n", None),
        (b"a\rb\r\n.\r\n", None),
        (b"a\r\r\n.\r\n", None),
        (b"a\nb\r\n.\r\n", None),
        (b"a\rb\nc\r\n.\r\n", None),
        (b"a\r\n.\r", None),
        (b"a\r\n", None),
    ],
)
def test_the_short_way_is_for_plain_mail(octets: bytes, found: tuple[bytes, int] | None) -> None:
    """Plain mail data is taken at once; stuffed dots, bare CR or LF and what has no end yet are left to MailData."""
    assert whole(octets, 0) == found


@pytest.mark.parametrize(
    ("octets", "content"),
    [
        (b".\r\n", b""),
        (b"a\r\n.\r\n", b"a\n"),
        (b"..\r\n.\r\n", b".\n"),
        (b".a\r\n...b\r\n.\r\n", b"a\n..b\n"),
        (b"a\n.\nb\n..c\r\n.\r\n", b"a\n.\nb\n..c\n"),
        (b"a\rb\0c\r\n.\r\n", b"a\rb\0c\n"),
        (b"\r\n\r\n.\r\n", b"\n\n"),
        (b"\xff\xfe\r\r\n.\r\n", b"\xff\xfe\r\n"),
    ],
)
def test_what_is_kept(octets: bytes, content: bytes) -> None:
    """Stuffed dots go, CRLF becomes LF; bare CR, bare LF, NUL and octets over 127 stay."""
    assert fed(octets, [1], 1000) == (content, b"")


def test_a_dropped_mail_keeps_nothing_and_still_ends() -> None:
    """After drop() no content is held, and the end is found as before."""
    mail = MailData(1000)
    mail.feed(b"hello\r\n" * 10)
    mail.drop()
    assert mail.feed(b"hello\r\n" * 10) is None
    assert mail.held == 0
    assert mail.feed(b".\r\nQUIT\r\n") == b"QUIT\r\n"
    assert mail.content() == b""
