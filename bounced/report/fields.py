"""The syntax inside reports: typed fields and addresses (RFC 3464, 6533, 3461 xtext), replies, text made fit to keep.

For: reading one value, in standard form or in the forms that are met. Never: deciding what a value means.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from operator import methodcaller

from bounced.report import Action
from bounced.status import Reply, StatusCode

DIAGNOSTIC_LIMIT = 4096
"""Characters of explanation that are kept for one recipient."""

# Controls, what has no width, what turns the direction of a line, and surrogates: no text that is kept has any.
_HIDDEN = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
_NO_WORD = rf"""\s<>"(),:;@\[\]\\{_HIDDEN}"""
# Possessive, and only from where a word begins: linear on whatever text.
_LOCAL = rf"""(?<![^{_NO_WORD}])(?:[^{_NO_WORD}]{{1,128}}+|"(?:[^"\\{_HIDDEN}]|\\[^{_HIDDEN}]){{1,64}}+")"""
_DOMAIN = rf"""(?:[^{_NO_WORD}!?'=/*|{{}}]{{1,255}}+|\[[0-9A-Fa-f.:IPv]{{2,60}}\])"""
PLAIN = re.compile(r"[A-Za-z0-9._+=&/~-]{1,64}@[A-Za-z0-9.-]{1,254}[A-Za-z0-9]")
"""What nearly every address is."""
_USUAL = re.compile(r"[ \t]*(?:[Rr][Ff][Cc]822[ \t]*;[ \t]*)?<?([A-Za-z0-9._+=&/~-]{1,64}@[A-Za-z0-9.-]{1,254}[A-Za-z0-9])>?[ \t]*")
ADDRESS = re.compile(rf"{_LOCAL}@{_DOMAIN}")
"""An address anywhere in text; `found_addresses` trims what prose leaves on it."""

_JOINED = re.compile(
    r"([^@]{1,128}@(?:[A-Za-z0-9-]{1,63}\.){1,10}[A-Za-z]{2,24})[\u0e00-\u0eff\u3000-\u30ff\u3400-\u9fff\uac00-\ud7a3\uff00-\uffef]"
)
"""An address of ASCII to which the next word of a script without blanks is joined."""
_CAPITAL = re.compile(r"\\.|[A-Z]")
_TRIES = 2000
"""How many likenesses of an address are looked at in one text."""
_UNWANTED = re.compile(f"[{_HIDDEN}]")
_OCTAL = re.compile(r"(?:\\[0-3][0-7]{2}){1,400}")
_UNICODE_ESCAPE = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
# "+" and "=" are all of an address that xtext must write otherwise; a tag of its own ("joe+20@") is no such pair.
_ALL_XTEXT = re.compile(r"(?:[^+@]|\+(?:2B|3D)(?!@))+@[^+]*")
_TYPE = re.compile(r"[ \t]*([A-Za-z][A-Za-z0-9-]{0,30})[ \t]*;[ \t]*")
_REPLY = re.compile(
    r"(?<![\w.@/+=,])([45][0-57]\d)"
    r"(?:[ -]{1,3}(?=[^\s\d]|\d\D?\.|\d{3}[ -]|\d{1,2}[a-zA-Z]|\d{1,2}[ ][A-Z])|[ ]?\(?#(?=[45]\.)|[:,;][ ]?(?=\D)|$)"
    r"(?:[45]\d\d[ -])?(?:\(?#?([245]\.\d{1,3}\.\d{1,3})(?![\d.]*\d)[\]): -]{0,3})?"
)
# Yahoo numbers its sentences ("552 1 Requested mail action aborted"); elsewhere such a pair may be a count or a date.
_NUMBERED = re.compile(r"\d{1,2} [A-Z]")
# What stands before a code that is a reply; before others it may be a port, a line, a count.
_BEFORE_REPLY = (
    ":",
    "<",
    "[",
    "(",
    '"',
    "'",
    "|",
    ";",
    "said",
    "was",
    "reason",
    "code",
    "returned",
    "error",
    "response",
    "with",
    "status",
    "-",
)
_BEFORE_NUMBER = ("port", "line", "for", "last", "after", "than", "about", "to")
_CONTINUED = re.compile(r" (?:[245]\d\d[- ])(?:[245]\.\d{1,3}\.\d{1,3}[- ]{1,2})?")
_COMMENT = re.compile(r"\([^()]{0,300}\)")
_TRAILING = ".,;:!?'`*_-"
_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]{1,40})[ \t]*:")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,40}")
_NAME_LIMIT = 60
_MOST_NAMES = 512
_LINE_LIMIT = 16 << 10
"""Characters of a line of fields that are read; and those of a value after which no line continues it any more."""
_BLOCK_LIMIT = 32 << 10
"""Characters of a block of fields that is parted the short way, which copies it."""
_MTA_LIMIT = 255
_ACTIONS = {action.value: action for action in Action} | {
    "failure": Action.FAILED, "fail": Action.FAILED, "undeliverable": Action.FAILED, "hard": Action.FAILED, "bounced": Action.FAILED,
    "delay": Action.DELAYED, "deferred": Action.DELAYED, "success": Action.DELIVERED,
}  # fmt: skip


def blind(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    """Return what tells whether a pattern that ignores case is found in a text. Text of ASCII is looked through in lower case.

    So it is done in a fifth of the time: only where case counts can `re` pass over an alternative by its first letter.
    """
    in_lower_case = _CAPITAL.sub(lambda found: found[0] if found[0].startswith("\\") else found[0].lower(), pattern.pattern)
    lower = re.compile(in_lower_case, pattern.flags & ~re.IGNORECASE)
    return lambda text: (lower.search(text.lower()) if text.isascii() else pattern.search(text)) is not None


def clean(text: str, limit: int = DIAGNOSTIC_LIMIT) -> str:
    """Return the text on one line, single-spaced, without control and direction characters, at most `limit` characters."""
    return printable(" ".join(text[: 4 * limit].split()), limit)


def printable(text: str, limit: int) -> str:
    """Return text of one line without control and direction characters, at most `limit` characters."""
    if not text.isprintable():
        text = _UNWANTED.sub("", text)
    return text[:limit]


def unescaped(text: str) -> str:
    r"""Return the text with runs of `\ooo`, as Exim writes octets over 127, decoded from UTF-8 (else Latin-1)."""
    return _OCTAL.sub(_octets, text) if "\\" in text else text


def _octets(found: re.Match[str]) -> str:
    octets = bytes(int(octal, 8) & 0xFF for octal in found[0].split("\\")[1:])
    try:
        return octets.decode("utf-8")
    except UnicodeError:
        return octets.decode("latin-1")


def without_type(value: str) -> str:
    """Return a typed field's value without the type before the semicolon (RFC 3464 section 2.1.2), on one line."""
    found = _TYPE.match(value)
    return " ".join((value[found.end() :] if found else value).split())


def address(value: str) -> str | None:
    """Read the address in a recipient field: type, brackets, comments, names and RFC 6533 escapes are taken off. None if it holds none."""
    usual = _USUAL.fullmatch(value)
    if usual:
        return usual[1]
    text = without_type(value[:2048])
    if not text.isprintable():
        text = _UNWANTED.sub("", text)
    if "\\x{" in text:
        text = _UNICODE_ESCAPE.sub(_code_point, text)
    opened = text.rfind("<")
    if opened >= 0:
        closed = text.find(">", opened)
        inner = text[opened + 1 : closed if closed > 0 else len(text)]
        if "@" in inner:
            text = inner
    if "(" in text and not text.startswith('"'):
        text = _COMMENT.sub("", text)
    text = text.strip(" <>\t")
    found = ADDRESS.fullmatch(text) or ADDRESS.search(text)
    return bare(found[0]) if found else None


def _code_point(found: re.Match[str]) -> str:
    number = int(found[1], 16)
    return chr(number) if 0x20 < number < 0xD800 or 0xE000 <= number <= 0x10FFFF else ""


def original(value: str, final: str | None) -> str | None:
    """Read an Original-Recipient field (RFC 3464 section 2.3.1). Exim and others copy ORCPT into it as it came.

    That was xtext (RFC 3461 section 4). It is taken for xtext where it then says what the final recipient says, or where every "+" begins
    a pair that xtext needs.
    """
    if not value:
        return None
    if final and value.removeprefix("rfc822;").lstrip() == final and "+" not in final and PLAIN.fullmatch(final):
        return final
    written = address(value)
    if written is None or "+" not in written:
        return written
    decoded = _XTEXT.sub(lambda found: chr(int(found[1], 16)), written)
    return decoded if decoded.lower() == (final or "").lower() or _ALL_XTEXT.fullmatch(written) else written


def bare(written: str) -> str:
    """Return an address without what prose leaves on its end: punctuation, and words of scripts that set no blank before them."""
    if not written.isascii():
        joined = _JOINED.match(written)
        written = joined[1] if joined else written
    if "='" in written:
        written = written.rpartition("='")[2]
    return written if written.endswith("]") else written.rstrip(_TRAILING)


def found_addresses(text: str, limit: int = 50) -> list[str]:
    """Return the addresses in prose, in order, each once."""
    found: dict[str, None] = {}
    if "@" not in text:
        return []
    alone = text.strip("<> ")
    if PLAIN.fullmatch(alone):
        return [alone]
    for match in islice(ADDRESS.finditer(text), _TRIES):
        candidate = bare(match[0].removeprefix("mailto:").lstrip(".'`*-"))
        if "." in candidate.rpartition("@")[2] or candidate.endswith("]"):
            found[candidate] = None
            if len(found) >= limit:
                break
    return list(found)


def action(value: str) -> Action | None:
    """Read an Action field (RFC 3464 section 2.3.3); a comment may follow the word."""
    if value in _ACTIONS:
        return _ACTIONS[value]
    words = value.split(None, 1)
    return _ACTIONS.get(words[0].lower().rstrip(";,.")) if words else None


def _deciding(text: str) -> re.Match[str] | None:
    weak: re.Match[str] | None = None
    for found in _REPLY.finditer(text):
        before = text[max(0, found.start() - 12) : found.start()].rstrip().lower()
        if before.endswith(_BEFORE_REPLY):
            return found
        counted = _NUMBERED.match(text, found.end()) or before.endswith(_BEFORE_NUMBER)
        if weak is None and not counted:
            weak = found
    return weak


def find_reply(text: str) -> Reply | None:
    """Find the SMTP reply in a line of `clean` text: three-digit code, enhanced status, text.

    The codes of a multi-line reply's later lines are dropped.
    """
    found = _REPLY.match(text) or _deciding(text)
    if not found:
        return None
    rest = text[found.end() :]
    if f" {found[1]}" in rest:
        rest = _CONTINUED.sub(" ", rest)
    status = StatusCode.parse(found[2]) if found[2] else None
    return Reply(int(found[1]), status, rest.strip()[:1024])


def pairs(block: str, every: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the fields of a block, names in lower case. A line that begins no field continues the one before, folded or not.

    Only names of RFC 3464 and X- names begin a field, since some systems do not fold what they quote; with `every`, all names do.
    """
    usual = None if every or len(block) > _BLOCK_LIMIT else usual_fields(block.strip("\n").replace("\n ", " ").replace("\n\t", " "))
    if usual:
        yield from usual.items()
        return
    name, value = "", ""
    for line in _lines(block):
        found = None if line[:1] in " \t" else _FIELD.match(line)
        if found and (every or name == "" or _begins_field(found[1])):
            if name:
                yield name, value
            name, value = found[1].lower(), line[found.end() :].strip()
        elif len(value) < _LINE_LIMIT:
            value += " " + line.strip()
    if name:
        yield name, value.rstrip()


def _lines(block: str) -> Iterator[str]:
    """Yield the lines of a block, cut where they are long, one at a time: all of them together are as large as the block."""
    start, end = 0, 0
    while end >= 0:
        end = block.find("\n", start)
        yield block[start : start + _LINE_LIMIT if end < 0 else min(end, start + _LINE_LIMIT)]
        start = end + 1


_KNOWN = {
    "action", "status", "arrival-date", "reporting-mta", "final-recipient", "original-recipient", "remote-mta", "diagnostic-code",
    "last-attempt-date", "will-retry-until", "final-log-id", "original-envelope-id", "dsn-gateway", "received-from-mta", "remote-recipient",
}  # fmt: skip


def usual_fields(block: str) -> dict[str, str] | None:
    """Return the fields of an unfolded block in which every line begins a known field, each its own; else None."""
    if len(block) > _BLOCK_LIMIT:
        return None
    lines = block.split("\n")
    try:
        written = dict(map(_AT_COLON, lines))
        found = dict(zip(map(_lower_name, written), map(_STRIPPED, written.values()), strict=True))
    except (KeyError, ValueError):
        return None
    return found if len(found) == len(lines) else None


class _Names(dict[str, str]):
    """Names that begin a field, as written, to the same in lower case; no more of them are remembered than reports have."""

    def __missing__(self, written: str) -> str:
        name = written.rstrip(" \t")
        if len(written) > _NAME_LIMIT or not (_NAME.fullmatch(name) and _begins_field(name)):
            raise KeyError
        if len(self) < _MOST_NAMES:
            self[written] = name.lower()
        return name.lower()


_AT_COLON = methodcaller("split", ":", 1)
_STRIPPED = methodcaller("strip")
_lower_name = _Names().__getitem__


@lru_cache(maxsize=1024)
def _mta(value: str) -> str | None:
    return clean(without_type(value), 255) or None


def mta(value: str | None) -> str | None:
    """Read the name of a mail system (RFC 3464 section 2.1.2), at most 255 characters; None where there is none."""
    if not value:
        return None
    return _mta(value) if len(value) <= _MTA_LIMIT else _mta.__wrapped__(value)


def _begins_field(name: str) -> bool:
    return name.lower() in _KNOWN or name[:2] in ("X-", "x-")
