"""Sendmail without its machine-readable part, old and new, and its imitators (Mail2000, Active!Hunter): lists and transcript.

For: addresses listed as failed, or refused in the transcript with `address...`. Never: hosts named in the transcript.
"""

import re

from bounced.report import DeliveryReport, compose, fields
from bounced.report.prose import Letter

READER = "sendmail"
_LIST = re.compile(
    r"^[ \t]{0,6}-{3,5} ?The following addresses had[^\n]{1,60}-{3,5}[ \t]*\n(.{1,8000}?)(?:^[ \t]{0,6}-{3,5}|\Z)",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
_REFUSED = re.compile(r"^[45]\d\d <?([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})>?\.\.\. ?", re.MULTILINE)
_TRANSCRIPT = re.compile(r"^[ \t]{0,6}-{3,5} ?Transcript of session follows ?-{3,5}", re.MULTILINE)
_CONTEXT_LIMIT = 2000


def recognizes(letter: Letter) -> bool:
    """Whether a list or a transcript stands under its rule."""
    return bool(_LIST.search(letter.note[:32000]) or _TRANSCRIPT.search(letter.note[:32000]))


def read(letter: Letter) -> DeliveryReport | None:
    """Read the listed, with the list and the transcript; else the refused, each with the lines since the one before."""
    listed = _LIST.search(letter.note)
    if listed:
        named = fields.found_addresses(listed[1])
        return compose.of_addresses(letter, READER, named) if named else None
    refused: list[tuple[str, str]] = []
    at = 0
    found = _TRANSCRIPT.search(letter.note)
    text = letter.note[found.end() :] if found else letter.note
    for match in _REFUSED.finditer(text):
        end = text.find("\n", match.end())
        end = len(text) if end < 0 else end
        told = text[max(at, match.start() - _CONTEXT_LIMIT) : end]
        # What hosts before this one said is about others.
        refused.append((match[1], told[max(told.lower().rfind("while talking to"), 0) :]))
        at = end
    return compose.of_sections(letter, READER, refused)
