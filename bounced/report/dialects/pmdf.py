"""PMDF, iPlanet and Sun Messaging Server without the machine-readable part: labelled lines.

For: `Recipient address:` with `Reason:` and `Diagnostic code:`. Never: their RFC 3464 reports.
"""

import re

from bounced.report import DeliveryReport, compose
from bounced.report.prose import Letter

READER = "pmdf"
_HEADING = re.compile(r"^[ \t]{0,8}Recipient address:[ \t]*<?([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})", re.MULTILINE | re.IGNORECASE)


def recognizes(letter: Letter) -> bool:
    """Whether such a label stands with a reason."""
    return bool(_HEADING.search(letter.note)) and "Reason:" in letter.note


def read(letter: Letter) -> DeliveryReport | None:
    """Read one section a label."""
    return compose.of_sections(letter, READER, compose.sections(letter.note, _HEADING))
