"""Novell GroupWise: `address (reason)` under its standing sentence.

For: that list. Never: anything else of Novell.
"""

import re

from bounced.report import DeliveryReport, compose
from bounced.report.prose import Letter

READER = "groupwise"
_HEADING = re.compile(r"^[ \t]{0,8}([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})[ ]?\(", re.MULTILINE)
_SIGN = "The message that you sent was undeliverable to the following"


def recognizes(letter: Letter) -> bool:
    """Whether the sentence is there."""
    return _SIGN in letter.note[:4000]


def read(letter: Letter) -> DeliveryReport | None:
    """Read one line a recipient."""
    return compose.of_sections(letter, READER, compose.sections(letter.note, _HEADING))
