"""Gmail and Google Groups before their RFC 3464 reports: text in many languages, X-Failed-Recipients.

For: the address in a line of its own, and "Technical details". Never: the texts of the groups: they give several reasons at once.
"""

import re

from bounced.report import DeliveryReport, compose
from bounced.report.prose import Letter

READER = "google"
_HEADING = re.compile(r"^[ \t]{2,8}([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})[ \t]*$", re.MULTILINE)


def recognizes(letter: Letter) -> bool:
    """Whether a Google daemon sent it."""
    return "@googlemail.com" in letter.sender or "@google.com" in letter.sender


def read(letter: Letter) -> DeliveryReport | None:
    """Read the section of each address; for groups the whole text."""
    told = compose.sections(letter.note, _HEADING)
    if told:
        return compose.of_sections(letter, READER, told)
    return compose.of_sections(letter, READER, [(address, letter.note) for address in compose.failed_recipients(letter)])
