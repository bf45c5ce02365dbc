"""fml, the mailing list manager: its refusal of who is not a member.

For: the list's address as the recipient. Never: other letters of fml.
"""

import re

from bounced.report import DeliveryReport, compose
from bounced.report.prose import Letter

READER = "fml"
_HEADING = re.compile(r"You are not a member of this mailing list <([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})>", re.IGNORECASE)


def recognizes(letter: Letter) -> bool:
    """Whether its sentence opens the letter."""
    return bool(_HEADING.match(letter.note[:500].lstrip()))


def read(letter: Letter) -> DeliveryReport | None:
    """Read the list's address."""
    return compose.of_sections(letter, READER, compose.sections(letter.note, _HEADING))
