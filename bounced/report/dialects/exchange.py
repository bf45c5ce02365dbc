"""Exchange 5.5 to 2003 and Internet Mail Service, and Exchange Online without its machine-readable part.

For: the list after "did not reach the following recipient(s)" or "Delivery has failed to". Never: the RFC 3464 reports of later Exchange.
"""

import re

from bounced.report import DeliveryReport, compose, fields
from bounced.report.prose import Letter

READER = "exchange"
_HEADING = re.compile(
    r"^[ \t]{0,8}(?:'[^'\n]{1,100}'[ ])?<?([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})>?(?:<mailto:[^>\n]{1,320}>)?(?: on [^\n]{1,80}"
    r"|[ \t]*(?:\([^)\n]{0,320}\))?)[ \t]*$",
    re.MULTILINE,
)
_SIGN = re.compile(
    r"did not reach the following recipient|^Delivery has failed to these recipients"
    r"|could not be delivered to the following recipients because",
    re.IGNORECASE | re.MULTILINE,
)
_signed = fields.blind(_SIGN)
_ONE = re.compile(r"did not reach the following recipient: ([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})", re.IGNORECASE)


def recognizes(letter: Letter) -> bool:
    """Whether one of its standing sentences is there."""
    return _signed(letter.note[:8000])


def read(letter: Letter) -> DeliveryReport | None:
    """Read the sections after the sentence."""
    one = _ONE.search(letter.note)
    if one:
        return compose.of_sections(letter, READER, [(fields.address(one[1]) or one[1], letter.note[one.start() :])])
    sign = _SIGN.search(letter.note)
    listed = letter.note[sign.end() :] if sign else ""
    return compose.of_sections(letter, READER, compose.sections(listed, _HEADING))
