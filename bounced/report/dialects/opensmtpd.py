"""OpenSMTPD before it wrote delivery reports: plain text, lines `address: reason`.

For: the list between its two standing sentences. Never: its later letters, which are RFC 3464.
"""

import re

from bounced.report import DeliveryReport, compose
from bounced.report.prose import Letter

READER = "opensmtpd"
_HEADING = re.compile(r"^([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255}): ", re.MULTILINE)
_END = re.compile(r"^ {4}(?:Below is a copy|Please note that)", re.MULTILINE)


def recognizes(letter: Letter) -> bool:
    """Whether it says that it is the MAILER-DAEMON, as only OpenSMTPD does."""
    return "This is the MAILER-DAEMON, please DO NOT REPLY" in letter.note[:500]


def read(letter: Letter) -> DeliveryReport | None:
    """Read one line a recipient."""
    found = _END.search(letter.note)
    listed = letter.note[: found.start()] if found else letter.note
    return compose.of_sections(letter, READER, compose.sections(listed, _HEADING))
