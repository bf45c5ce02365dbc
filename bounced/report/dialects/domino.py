"""Lotus Notes and Domino as SMTP MTA: the reason stands before the address.

For: the paragraph under "Failure Reasons". Never: Domino's RFC 3464 reports.
"""

import re

from bounced.report import DeliveryReport, compose, fields
from bounced.report.prose import Letter

READER = "domino"
_ADDR = fields.ADDRESS.pattern
_SECTION = re.compile(r"-{3,} ?Failure Reasons? *-{3,}\n(.{1,4000}?)(?:\n-{3,}|\Z)", re.IGNORECASE | re.DOTALL)
_reasons = fields.blind(_SECTION)


def recognizes(letter: Letter) -> bool:
    """Whether it has a paragraph of failure reasons."""
    return _reasons(letter.whole[:8000])


def read(letter: Letter) -> DeliveryReport | None:
    """Read the addresses of the paragraph, all with its text."""
    found = _SECTION.search(letter.whole[:8000])
    text = found[1] if found else ""
    return compose.of_sections(letter, READER, [(address, text) for address in fields.found_addresses(text)])
