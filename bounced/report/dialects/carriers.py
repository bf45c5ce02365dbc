"""Japanese carriers: au (KDDI, ezweb, auone), docomo, SoftBank and Vodafone; text in Japanese and English, transcript after arrows.

For: the recipient and the reply in those letters. Never: other mail from a carrier.
"""

import re

from bounced.report import DeliveryReport, compose
from bounced.report.prose import Letter

READER = "carriers"
_HEADING = re.compile(
    r"(?:^[ \t]{0,8}Recipient:[ ]<|Could not be delivered to:[ ]<|^<)([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})>",
    re.MULTILINE,
)
_SIGN = re.compile(
    r"Each of the following recipients was rejected by a remote|The following recipients did not receive this message"
    r"|Could not be delivered to: <"
    r"|As their mailbox is full|The user\(s\) account is (?:disabled|temporarily limited)"
)


def recognizes(letter: Letter) -> bool:
    """Whether one of their sentences is there."""
    return bool(_SIGN.search(letter.note[:8000]))


def read(letter: Letter) -> DeliveryReport | None:
    """Read one section a recipient; what is said before the first is said of all."""
    told = compose.sections(letter.note, _HEADING)
    if not told:
        return None
    common = letter.note[: letter.note.find(told[0][1])] if len(told) == 1 else ""
    return compose.of_sections(letter, READER, [(address, f"{text} {common}") for address, text in told])
