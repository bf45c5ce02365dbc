"""IMail and other SMTP32 servers: one line of its own wording per recipient.

For: `Unknown user: address`, `undeliverable to address`. Never: other mail with that X-Mailer.
"""

import re

from bounced.report import DeliveryReport, compose, fields
from bounced.report.prose import Letter

READER = "imail"
_ADDR = fields.ADDRESS.pattern
_HEADING = re.compile(
    rf"^[ \t]{{0,4}}(?:unknown user|undeliverable to|unknown host|invalid final delivery userid|user mailbox exceeds allowed size"
    rf"|delivery failed \d{{1,3}} attempts|delivery userid not allowed)[: ]{{1,4}}<?({_ADDR})",
    re.MULTILINE | re.IGNORECASE,
)


def recognizes(letter: Letter) -> bool:
    """Whether SMTP32 wrote it, and one of its lines is there."""
    return "SMTP32" in letter.message.headers.get(b"x-mailer") and bool(_HEADING.search(letter.note))


def read(letter: Letter) -> DeliveryReport | None:
    """Read one section a line."""
    return compose.of_sections(letter, READER, compose.sections(letter.note, _HEADING))
