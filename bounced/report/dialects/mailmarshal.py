"""MailMarshal SMTP: the reason first, then whom it affected.

For: the paragraph of the reason and the list. Never: its further information, which names the sender.
"""

import re

from bounced.report import DeliveryReport, compose, fields
from bounced.report.prose import Letter

READER = "mailmarshal"
_REASON = re.compile(
    r"Could not be delivered because of\s{1,40}(.{1,2000}?)\n\s{0,40}The following recipients were affected:"
    r"[^\n]{0,20}\n(.{1,4000}?)(?:\n[ \t]*\n[ \t]*\n|Additional Information|\Z)",
    re.DOTALL,
)


def recognizes(letter: Letter) -> bool:
    """Whether its two sentences are there."""
    return "The following recipients were affected" in letter.note[:8000]


def read(letter: Letter) -> DeliveryReport | None:
    """Read the affected with the reason."""
    found = _REASON.search(letter.note[:16000])
    if not found:
        return None
    return compose.of_sections(letter, READER, [(address, found[1]) for address in fields.found_addresses(found[2])])
