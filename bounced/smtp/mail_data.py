"""Mail data as it comes after DATA: where it ends and what it says (RFC 5321 sections 4.1.1.4 and 4.5.2).

For: finding the one end of data, <CRLF>.<CRLF>, over any cut into chunks; undoing dot stuffing; bounding what is kept. Never: limiting the
length of a line, since a refused line is a lost bounce; taking any other sequence for the end, since that is how mail is smuggled.

The content keeps every octet but these: the stuffed dots go, and CRLF becomes LF, so that CRLF and a bare LF read alike, as in a file on
disk. A bare CR and NUL stay where they are; they end nothing.
"""

import re
from io import BytesIO

_DOT_LINE = b"\r\n.\r\n"
_DOT = b"\r\n."
_START = b"\r\n"
_DOT_LINES = re.compile(rb"\r\n\.")  # finds in a third of the time of bytes.find(), which is slow where the last octet is frequent


def whole(octets: bytes, at: int) -> tuple[bytes, int] | None:
    """Read mail data that stands from `at` on in `octets`, up to its end, and has no stuffed dot, no bare CR and no bare LF, as nearly all.

    Returns the content and where the end of data ends; None where MailData has to read it, at several times the cost.
    """
    dot = _DOT_LINES.search(octets, at)
    if dot is None or octets[at] == _DOT[-1] or not octets.startswith(_DOT_LINE, dot.start()):
        return None
    text = octets[at : dot.start() + 2]
    lines = text.replace(b"\r", b"")
    # To look for single octets is fast: this is the cheapest proof that each CR stood before an LF.
    return (lines, dot.start() + len(_DOT_LINE)) if lines.replace(b"\n", b"\r\n") == text else None


class MailData:
    """The mail data of one transaction. At most `limit` octets of content are kept; the rest is counted and dropped."""

    __slots__ = ("_begun", "_content", "_limit", "_tail", "dropped", "held", "seen")

    def __init__(self, limit: int) -> None:
        """Begin after the line DATA: a dot right at the start is at the start of a line."""
        self._content = BytesIO()
        self._limit = limit
        self._tail = _START
        self._begun = False
        self.held = 0
        """Octets kept in memory."""
        self.seen = 0
        """Octets that came, end of data among them."""
        self.dropped = False
        """Whether `drop` was called: the content is gone, only the end is still looked for."""

    def feed(self, octets: bytes) -> bytes | None:
        """Take what came; return what follows the end of data, or None while the end has not come."""
        self.seen += len(octets)
        text = self._tail + octets
        # Most mail has no line that begins with a dot, but for its end: one search finds both.
        dot = text.find(_DOT)
        end = dot if dot < 0 or text.startswith(_DOT_LINE, dot) else text.find(_DOT_LINE, dot + 1)
        if end >= 0:
            self._keep(text[: end + 2], stuffed=dot != end)
            rest = text[end + 5 :]
            self.seen -= len(rest)
            return rest
        cut = _safe_cut(text)
        self._keep(text[:cut], stuffed=dot >= 0)
        self._tail = text[cut:]
        return None

    def drop(self) -> None:
        """Let go of the content, because there is no room for it."""
        self._content = BytesIO()
        self.held = 0
        self.dropped = True

    def content(self) -> bytes:
        """Return the content, after the end of data."""
        # Without a copy where CPython can (read() would hold a large message twice).
        return self._content.getvalue()

    def _keep(self, text: bytes, *, stuffed: bool) -> None:
        room = self._limit - self.held
        if room <= 0 or self.dropped or not text:
            return
        if stuffed:
            text = text.replace(_DOT, b"\r\n")
        lines = text.replace(b"\r\n", b"\n")
        if not self._begun:
            # The line end of DATA itself went in first, so that the first line is seen as one.
            lines = lines[1:]
            self._begun = True
        self.held += self._content.write(lines[:room])


def _safe_cut(text: bytes) -> int:
    """Return where `text` may be cut: the rest could begin the end of data, and no CRLF or stuffed dot is divided."""
    cut = max(len(text) - 4, 0)
    if text[cut - 1 : cut] == b"\r":
        return cut - 1
    if text[cut - 2 : cut] == b"\r\n":
        return cut - 2
    return cut
