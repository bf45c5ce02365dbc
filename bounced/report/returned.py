"""What came back of the original mail (RFC 6522 section 3, third part; RFC 3462, 6533).

For: the few headers that prove or name something. Never: the body, or belief in any of it.
"""

import re
from typing import NamedTuple

from bounced.report import Returned
from bounced.report.fields import address, found_addresses, printable
from bounced.report.mime import Headers, Message, Part, header_text, inner_headers

TYPES = (
    "message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers", "text/rfc822-header", "message/rfc822-headers",
    "text/rfc822", "message/partial",
)  # fmt: skip
_ADDRESS_LIST_LIMIT = 8 << 10
_RECEIVED = 10
_VALUE_LIMIT = 16 << 10
_TOLD = re.compile(rb"\n(message-id|from|to|return-path|x-envelope-from|received):([^\n]*(?:\n[ \t][^\n]*)*)", re.IGNORECASE)


class ReturnedPart(NamedTuple):
    """The part of a report that holds what came back: a Copy."""

    part: Part

    def read(self) -> Returned | None:
        """Read its headers."""
        return of_part(self.part)

    def __repr__(self) -> str:
        """Show no mail to who looks at the report."""
        return "ReturnedPart()"


def copy_of(message: Message) -> ReturnedPart | None:
    """Return a report's last part of such a type, unread."""
    for part in reversed(message.parts):
        if part.content_type in TYPES:
            return ReturnedPart(part)
    return None


def returned(message: Message) -> Returned | None:
    """Return what a report's last part of such a type tells of the original mail."""
    copy = copy_of(message)
    return copy.read() if copy else None


def of_part(part: Part) -> Returned | None:
    """Read the headers that stand in the body of `part`."""
    return of_headers(inner_headers(part))


def of_headers(headers: Headers) -> Returned | None:
    """Return the headers that prove or name something; None if there is none of them."""
    told: dict[bytes, list[bytes]] = {}
    for name, value in _TOLD.findall(headers.block):
        told.setdefault(name.lower(), []).append(value)
    message_id = printable(_first(told, b"message-id"), 1000)
    sender = address(_first(told, b"from"))
    recipients = tuple(found_addresses(_first(told, b"to")[:_ADDRESS_LIST_LIMIT]))
    return_path = address(_first(told, b"return-path")) or address(_first(told, b"x-envelope-from"))
    received = tuple(printable(header_text(line), 1000) for line in told.get(b"received", ())[:_RECEIVED])
    if not (message_id or sender or recipients or return_path or received):
        return None
    return Returned(message_id=message_id or None, return_path=return_path, sender=sender, recipients=recipients, received=received)


def _first(told: dict[bytes, list[bytes]], name: bytes) -> str:
    values = told.get(name)
    return header_text(values[0][:_VALUE_LIMIT]) if values else ""
