"""IMail and other SMTP32 servers: one line of its own wording per recipient.

For: `Unknown user: address`, `undeliverable to address`. Never: other mail with that X-Mailer.
"""

import re

from bounced.report import DeliveryReport, compose
from bounced.report.prose import Letter

READER = "imail"
_HEADING = re.compile(
    r"^[ \t]{0,4}(?:unknown user|undeliverable to|unknown host|invalid final delivery userid|user mailbox exceeds allowed size"
    r"|delivery failed \d{1,3} attempts|delivery userid not allowed)[: ]{1,4}<?([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})",
    re.MULTILINE | re.IGNORECASE,
)


def recognizes(letter: Letter) -> bool:
    """Whether SMTP32 wrote it, and one of its lines is there."""
    return "SMTP32" in letter.message.headers.get(b"x-mailer") and bool(_HEADING.search(letter.note))


def read(letter: Letter) -> DeliveryReport | None:
    """Read one section a line."""
    return compose.of_sections(letter, READER, compose.sections(letter.note, _HEADING))
