"""The DragonFly Mail Agent: plain text, `From: MAILER-DAEMON <>`, one recipient a letter.

For: its one sentence with the address, and the paragraph after it. Never: addresses that a remote server named in its reply.
"""

import re

from bounced.report import DeliveryReport, compose
from bounced.report.prose import Letter

READER = "dma"
_HEADING = re.compile(r"There was an error delivering your mail to <([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})>", re.IGNORECASE)


def recognizes(letter: Letter) -> bool:
    """Whether it names itself."""
    return "This is the DragonFly Mail Agent" in letter.note[:500]


def read(letter: Letter) -> DeliveryReport | None:
    """Read the one recipient."""
    return compose.of_sections(letter, READER, compose.sections(letter.note, _HEADING))
