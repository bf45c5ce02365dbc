"""The short way through a report that is written as nearly all are: multipart/report, its parts plain, its fields in RFC 3464's order.

For: not touching what is not needed. The parts up to the delivery status are found, their fields read; what came back of the original, the
most of nearly every bounce, is left unscanned until somebody asks. Never: another answer than the long way gives (mime, then
delivery_status): what is not written as usual is left to that.
"""

import re
from typing import NamedTuple

from bounced.report import DeliveryReport, Returned, delivery_status, prose
from bounced.report.mime import FIELD_START, HEADER_LINES, PARTS, SCAN_LIMIT, Headers, Message, Part, collect, scan
from bounced.report.returned import returned

_HEADER_LIMIT = 16 << 10
_PART_HEADER_LIMIT = 400
_PARTS = 10
_FEW_LINES = 2 * HEADER_LINES
"""Octets that cannot hold more lines than a header may have: a line takes two."""

_AFTER_DELIMITER = (b"\n", b"--")
_STATUS = re.compile(rb"message/(?:global-)?delivery-status")
_CONTENT_TYPE = b"\ncontent-type:"
_FIRST_FIELD = re.compile(rb"(?!content-type)[a-z][a-z-]{1,40}:", re.IGNORECASE)
_REPORT = re.compile(
    rb"[ \t]*multipart/report;[ \t]*(?:\n[ \t]+)?(?:report-type=(?:\"[a-z-]{1,40}\"|[a-z-]{1,40});[ \t]*(?:\n[ \t]+)?)?"
    rb"boundary=(?:\"([\w'()+,./:=-]{1,100})\"|([\w'()+,./:=-]{1,100}))(?=[;\n])",
    re.IGNORECASE,
)


class Unscanned(NamedTuple):
    """What came back of the original mail, somewhere in a message that was not scanned to its end: a Copy."""

    content: bytes

    def read(self) -> Returned | None:
        """Scan the message, and read the headers."""
        return returned(scan(self.content))

    def __repr__(self) -> str:
        """Show no mail to who looks at the report."""
        return "Unscanned()"


def read(content: bytes) -> DeliveryReport | None:
    """Read a usual report; None if a message is not plainly one."""
    message = opening(beginning(content))
    return delivery_status.of_part(message, message.parts[-1], Unscanned(content)) if message else None


def beginning(content: bytes) -> bytes:
    """Return what `mime.plain` makes of a message, up to the line that ends its delivery status; nothing where that is not plain."""
    found = _STATUS.search(content, 0, SCAN_LIMIT)
    status = found.start() if found else -1
    delimiter = content.find(b"\n--", status, SCAN_LIMIT)
    end = content.find(b"\n", delimiter + 1, SCAN_LIMIT)
    if min(status, delimiter, end) < 0:
        return b""
    # A bare CR further on changes nothing here: see mime.
    begun = content[: end + 1].replace(b"\r\n", b"\n").lstrip()
    return b"" if b"\r" in begun else begun


def opening(buffer: bytes) -> Message | None:
    """Return a report as `mime.scan` finds it, up to the delivery status, its last part then; None if anything is not plain."""
    blank = buffer.find(b"\n\n", 0, _HEADER_LIMIT)
    at = buffer[:blank].lower().find(_CONTENT_TYPE) if blank > 0 and _FIRST_FIELD.match(buffer) else -1
    found = _REPORT.match(buffer, at + len(_CONTENT_TYPE), blank + 1) if at >= 0 else None
    if not found or (blank > _FEW_LINES and buffer.count(b"\n", 0, blank) > HEADER_LINES):
        return None
    headers = Headers(buffer[:blank])
    delimiter = b"\n--" + (found[1] or found[2])
    size, find = len(delimiter), buffer.find
    leaves: list[Part] = []
    after = find(delimiter, blank + 1) + size
    if after < size:
        return None
    for _ in range(_PARTS):
        if not buffer.startswith(b"\n", after):
            return None
        begun, at = after + 1, find(delimiter, after)
        after = at + size
        if at < 0 or not buffer.startswith(_AFTER_DELIMITER, after):
            return None
        blank = find(b"\n\n", begun, at)
        before = len(leaves)
        if not begun < blank < begun + _PART_HEADER_LIMIT or before >= PARTS or not FIELD_START.match(buffer, begun):
            return None
        block = Headers(buffer[begun:blank])
        part = Part(buffer, block, block.content[0], blank + 2, at, 1)
        if part.content_type in delivery_status.STATUS_TYPES:
            return _opened(headers, (*leaves, part))
        if not part.content_type.startswith("multipart/"):
            leaves.append(part)
            continue
        collect(leaves, part)
        for place in range(before, len(leaves)):
            if leaves[place].content_type in delivery_status.STATUS_TYPES:
                return _opened(headers, tuple(leaves[: place + 1]))
    return None


def _opened(headers: Headers, parts: tuple[Part, ...]) -> Message | None:
    """Return a message that ends with its delivery status; None if no text stands ahead of it: then it may stand behind."""
    if not any(part.content_type in prose.READABLE for part in parts[:-1]):
        return None
    return Message(headers, "multipart/report", parts, over_limit=False)
