"""Postfix without its machine-readable part: bounces as text, and letters to the postmaster about a session.

For: sections headed `<address>: reason`, and transcripts of smtpd. Never: the RFC 3464 reports that Postfix writes since 2.3.
"""

import re

from bounced.report import DeliveryReport, compose
from bounced.report.prose import Letter

READER = "postfix"
_HEADING = re.compile(r"^<([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})>(?:[ ]\(expanded[ ]from\s{1,8}<?[^>\n]{1,300}>?\))?:", re.MULTILINE)
_OPENING = re.compile(r"This is the (?:Postfix program|mail system) at host")
_COMMAND = re.compile(r"^ In: {1,4}RCPT\s{1,10}TO:\s{0,4}<([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})>", re.MULTILINE | re.IGNORECASE)
_REFUSAL = re.compile(r"^ Out: [45]\d\d.*(?:\n {4,}.*){0,4}", re.MULTILINE)


def recognizes(letter: Letter) -> bool:
    """Whether it is a letter of Postfix."""
    return bool(_OPENING.search(letter.note[:1500])) or letter.subject.startswith("Postfix SMTP server: errors from")


def read(letter: Letter) -> DeliveryReport | None:
    """Read the sections, or the session: its recipients and the refusals in it."""
    if not letter.subject.startswith("Postfix SMTP server"):
        return compose.of_sections(letter, READER, compose.sections(letter.note, _HEADING))
    refusals = " ".join(found[0].removeprefix(" Out: ") for found in list(_REFUSAL.finditer(letter.whole))[:20])
    named = [found[1] for found in _COMMAND.finditer(letter.whole)][:50]
    return compose.of_sections(letter, READER, [(address, refusals) for address in named])
