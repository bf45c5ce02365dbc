"""m-FILTER and mail hubs that write as it does: server message, SMTP command, original mail, each under a rule.

For: the addresses before the server message, and that message. Never: the original mail's info.
"""

import re

from bounced.report import DeliveryReport, compose, fields
from bounced.report.prose import Letter

READER = "mfilter"
_PARTS = re.compile(r"^-{5,8} ?(?:server message|SMTP command|original mail)", re.MULTILINE)


def recognizes(letter: Letter) -> bool:
    """Whether the first rule is there."""
    return "-------server message" in letter.whole[:8000]


def read(letter: Letter) -> DeliveryReport | None:
    """Read the addresses with the server's words."""
    parts = _PARTS.split(letter.whole[:16000])
    if len(parts) < 2:
        return None
    return compose.of_sections(letter, READER, [(address, parts[1][:4000]) for address in fields.found_addresses(parts[0])[:50]])
