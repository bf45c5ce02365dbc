"""Exim and the systems that took over its letter (1&1, GMX, MXLogic, Zoho, mail.ru): text, addresses in lines of their own.

For: the list under "The following address(es) failed", indented or not, also in the two languages of
mail.ru. Never: Google, which shares only a header with it.
"""

import re

from bounced.report import DeliveryReport, compose
from bounced.report.prose import Letter

READER = "exim"
_HEADING = re.compile(
    r"^[ \t]{0,8}[\"<]?([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})[\">]?(?:[ \t]*$|:| Invalid Address| \("
    r"|[ ]<[^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255}>)",
    re.MULTILINE,
)
_MALFORMED = re.compile(r"^[ \t]{1,8}.{0,300}<([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})>: malformed address", re.MULTILINE)
_SIGNS = (
    "This message was created automatically by mail delivery software",
    "This message was created automatically by the SMTP relay",
    "one or more recipient addresses that were\nincorrectly constructed",
    "Это письмо создано автоматически сервером Mail.Ru",
)
_BOILERPLATE = re.compile(
    r"^(?:No action is required on your part|Рекомендуем Вам|\*{6,}|The following address|For further|Delivery attempts)", re.MULTILINE
)


def recognizes(letter: Letter) -> bool:
    """Whether one of its standing sentences opens the letter. TMDA, which asks senders to confirm, borrowed one of them."""
    return any(sign in letter.note[:3000] for sign in _SIGNS) and "(TMDA)" not in letter.note[:3000]


def read(letter: Letter) -> DeliveryReport | None:
    """Read the sections; a name without domain is completed from X-Failed-Recipients."""
    malformed = _MALFORMED.search(letter.note)
    if malformed:
        return compose.of_sections(letter, READER, [(malformed[1], letter.note[malformed.start() : malformed.end() + 300])])
    told = [(address, _BOILERPLATE.split(text)[0]) for address, text in compose.sections(letter.note, _HEADING)]
    if told:
        return compose.of_sections(letter, READER, told)
    named = compose.failed_recipients(letter)
    return compose.of_addresses(letter, READER, named) if named else None
