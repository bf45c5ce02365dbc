"""Mimecast and other gateways whose letters list facts after two hyphens.

For: the address and the two answers of the letter. Never: the RFC 3464 reports of Mimecast.
"""

import re

from bounced.report import DeliveryReport, compose
from bounced.report.prose import Letter

READER = "mimecast"
_HEADING = re.compile(r"^-- ([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})[ \t]*$", re.MULTILINE)


def recognizes(letter: Letter) -> bool:
    """Whether its sentence is there."""
    return "An email that you attempted to send to the following address" in letter.note[:2000]


def read(letter: Letter) -> DeliveryReport | None:
    """Read one section an address."""
    told = [(address, text.partition("This condition occurred")[0]) for address, text in compose.sections(letter.note, _HEADING)]
    return compose.of_sections(letter, READER, told)
