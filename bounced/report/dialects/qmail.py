"""Bounces in QSBMF, the format of qmail and its children (cr.yp.to/proto/qsbmf.txt): notqmail, netqmail, indimail, s/qmail.

For: letters that open with "Hi. This is the" and head each recipient with `<address>:`. Never: Yahoo, whose letters open otherwise.
"""

import re

from bounced.report import DeliveryReport, compose
from bounced.report.prose import Letter

READER = "qmail"
_HEADING = re.compile(r"^<([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})>:", re.MULTILINE)
_OPENING = re.compile(r"\s*Hi\. This is the|.{0,300}This is the qmail-send program", re.DOTALL)


def recognizes(letter: Letter) -> bool:
    """Whether it opens as QSBMF does, and heads a recipient so."""
    return bool(_OPENING.match(letter.note[:1000])) and bool(_HEADING.search(letter.note))


def read(letter: Letter) -> DeliveryReport | None:
    """Read one section for each heading."""
    return compose.of_sections(letter, READER, compose.sections(letter.note, _HEADING))
