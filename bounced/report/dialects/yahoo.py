"""Yahoo, the American and the Japanese one: QSBMF with an opening of their own.

For: letters that are sorry, and head each recipient with `<address>:`. Never: qmail itself.
"""

import re

from bounced.report import DeliveryReport, compose
from bounced.report.prose import Letter

READER = "yahoo"
_HEADING = re.compile(r"^<([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})>:", re.MULTILINE)
_OPENING = re.compile(
    r"\s*(?:Sorry, we were unable to deliver your message to the following address|Message from\s+yahoo"
    r"|.{0,200}Unable to deliver message to the following address)",
    re.DOTALL,
)


def recognizes(letter: Letter) -> bool:
    """Whether it opens as Yahoo does."""
    return bool(_OPENING.match(letter.note[:1000])) and bool(_HEADING.search(letter.note))


def read(letter: Letter) -> DeliveryReport | None:
    """Read one section for each heading."""
    return compose.of_sections(letter, READER, compose.sections(letter.note, _HEADING))
