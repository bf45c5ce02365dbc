"""Mailboxes (RFC 5321 section 4.1.2) and the key by which the store knows them.

For: one reading of an address everywhere. Never: folding plus, hyphen or dots of a local part, or any letter outside ASCII: two people
would share a record.
"""

import re
from dataclasses import dataclass
from typing import NewType, Self

import idna

AddressKey = NewType("AddressKey", str)
"""A mailbox as the store knows it: domain as lower-case A-labels, local part folded in ASCII only, quotes only where needed."""

MAX_OCTETS = 320
"""Longer addresses are refused: 64 + 1 + 255 (RFC 5321 section 4.5.3.1); real carriers exceed single limits, never the sum."""

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\x80-\U0010ffff"
# Dots where RFC 5321 forbids them (a..b@, a.@) are living mailboxes at Japanese carriers.
_DOT_ATOM = re.compile(rf"[{_ATEXT}.]+")
_QUOTED = re.compile(r'"((?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*)"')
_ESCAPED = re.compile(r"\\(.)")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LITERAL = re.compile(r"\[[A-Za-z0-9.:]{2,60}\]")
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


class AddressError(ValueError):
    """The text is no mailbox; the message says why and never repeats the text."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox: `local_part` without quotes and escapes, `domain` as lower-case A-labels or an address literal."""

    local_part: str
    domain: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `local-part@domain`, quoted or not, without brackets or comments.

        Raises AddressError for everything else, control characters, lone surrogates and overlong text among it.
        """
        try:
            octets = len(text.encode())
        except UnicodeEncodeError:
            raise AddressError("the address holds octets that are not text") from None
        if octets > MAX_OCTETS:
            raise AddressError(f"the address has more than {MAX_OCTETS} octets")
        local_part, at, domain = text.rpartition("@")
        if not at or not local_part or not domain:
            raise AddressError("the address has no local part, no @ or no domain")
        quoted = _QUOTED.fullmatch(local_part)
        if quoted:
            local_part = _ESCAPED.sub(r"\1", quoted[1])
            if not local_part:
                raise AddressError("the local part is empty")
        elif not _DOT_ATOM.fullmatch(local_part):
            raise AddressError("the local part holds a character that it may not")
        if any(0x80 <= ord(char) <= 0x9F for char in local_part):
            raise AddressError("the local part holds a control character")
        return cls(local_part, _a_labels(domain))

    @property
    def key(self) -> AddressKey:
        """The key of this mailbox: two mailboxes with one key are one mailbox to every mail system that we know of."""
        return AddressKey(f"{_quote(self.local_part.translate(_ASCII_LOWER))}@{self.domain}")

    def __str__(self) -> str:
        return f"{_quote(self.local_part)}@{self.domain}"


def address_key(text: str) -> AddressKey:
    """Return the key of the mailbox written in `text`. Raises AddressError."""
    return Mailbox.parse(text).key


def _quote(local_part: str) -> str:
    if _DOT_ATOM.fullmatch(local_part):
        return local_part
    escaped = local_part.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _a_labels(domain: str) -> str:
    if domain.startswith("["):
        if not _LITERAL.fullmatch(domain):
            raise AddressError("the address literal is malformed")
        return domain.translate(_ASCII_LOWER)
    labels = domain.removesuffix(".").split(".")
    encoded = ".".join(map(_a_label, labels))
    if len(encoded) > 255:
        raise AddressError("the domain has more than 255 octets")
    return encoded


def _a_label(label: str) -> str:
    if label.isascii():
        if not _LABEL.fullmatch(label):
            raise AddressError("the domain holds an empty or malformed label")
        return label.translate(_ASCII_LOWER)
    if any(ord(char) <= 0x20 or 0x7F <= ord(char) <= 0xA0 for char in label):
        raise AddressError("the domain holds a control character")
    folded = "".join(map(_fold, label))
    try:
        return idna.alabel(folded).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        # Labels that IDNA 2008 refuses are met in mail. Encoded as they stand they equal nothing but themselves.
        return "xn--" + folded.encode("punycode").decode("ascii").translate(_ASCII_LOWER)


def _fold(char: str) -> str:
    lower = char.lower()
    # U+212A KELVIN SIGN lowers to "k": a letter outside ASCII must never become one inside.
    return lower if len(lower) == 1 and lower.isascii() == char.isascii() else char
