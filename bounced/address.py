"""Mailboxes (RFC 5321 section 4.1.2) and the key by which the store knows them.

For: one reading of an address everywhere. Never: folding plus, hyphen or dots of a local part, or any letter outside ASCII: two people
would share a record.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType, Self, cast

AddressKey = NewType("AddressKey", str)
"""A mailbox as the store knows it: domain as lower-case A-labels, local part folded in ASCII only, quotes only where needed."""

MAX_OCTETS = 320
"""Longer addresses are refused: 64 + 1 + 255 (RFC 5321 section 4.5.3.1); real carriers exceed single limits, never the sum."""

MAX_DOMAIN = 255
"""Octets of a domain as A-labels (RFC 5321 section 4.5.3.1.2)."""

DRILL_DOMAIN = "doctor.invalid"
"""Mailboxes that nobody has (RFC 2606): what is told of them is a drill, written down, but counted to nothing (`is_drill`)."""

_OF_A_DRILL = f"@{DRILL_DOMAIN}"
_OVERLONG = f"the address has more than {MAX_OCTETS} octets"
_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\xa0-\U0010ffff"
# Dots where RFC 5321 forbids them (a..b@, a.@) are living mailboxes at Japanese carriers.
_DOT_ATOM = re.compile(rf"[{_ATEXT}.]+")
# What nearly every address is: its key is itself in lower case.
_USUAL_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_USUAL = re.compile(rf"[A-Za-z0-9._=+-]{{1,64}}@{_USUAL_LABEL}(?:\.{_USUAL_LABEL}){{0,20}}")
# The same of many, one a line, narrower: no label can be overlong, and what else a domain may not hold are _ODD_DOTS.
_PLAIN_LINES = re.compile(r"(?:[a-z0-9._=+-]{1,64}@[a-z0-9_][a-z0-9._-]{0,61}[a-z0-9_]\n)*+")
_ODD_DOTS = ("..", ".-", "-.")
_QUOTED = re.compile(r'"((?:[^"\\\x00-\x1f\x7f-\x9f]|\\[\x20-\x7e])+)"')
_ESCAPED = re.compile(r"\\(.)")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_LITERAL = re.compile(r"\[[A-Za-z0-9.:]{2,60}\]")
_CONTROL = re.compile(r"[\x80-\xa0]")
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
        if len(text) > MAX_OCTETS:
            raise AddressError(_OVERLONG)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise AddressError("the address holds octets that are not text") from None
        written, at, domain = text.rpartition("@")
        if not at or not written or not domain:
            raise AddressError("the address has no local part, no @ or no domain")
        domain = _a_labels(domain)
        # An A-label is longer than its U-label; what is accepted must stay acceptable as we write it.
        if len(written.encode()) + len("@") + len(domain) > MAX_OCTETS:
            raise AddressError(_OVERLONG)
        quoted = _QUOTED.fullmatch(written)
        if quoted:
            return cls(_ESCAPED.sub(r"\1", quoted[1]), domain)
        if not _DOT_ATOM.fullmatch(written):
            raise AddressError("the local part holds a character that it may not")
        return cls(written, domain)

    @property
    def key(self) -> AddressKey:
        """The key of this mailbox: two mailboxes with one key are one mailbox to every mail system that we know of."""
        return AddressKey(f"{_quote(self.local_part.translate(_ASCII_LOWER))}@{self.domain}")

    def __str__(self) -> str:
        return f"{_quote(self.local_part)}@{self.domain}"


def address_key(text: str) -> AddressKey:
    """Return the key of the mailbox written in `text`. Raises AddressError."""
    if len(text) <= MAX_DOMAIN and _USUAL.fullmatch(text):
        return AddressKey(text.lower())
    return Mailbox.parse(text).key


def address_keys(texts: Sequence[str]) -> tuple[list[AddressKey], dict[int, AddressError]]:
    """Return the keys of mailboxes, with or without blanks around, and by its place why one is none (then its key is empty).

    Addresses as most are take half the time of `address_key`, or less.
    """
    together = "\n".join([*texts, ""])
    folded = together.lower()
    if together.isascii() and _PLAIN_LINES.fullmatch(folded) and not any(dots in folded for dots in _ODD_DOTS):
        lines = folded.split("\n")[:-1]
        if len(lines) == len(texts):
            return cast("list[AddressKey]", lines), {}
    keys, none = [], {}
    for place, text in enumerate(texts):
        try:
            keys.append(address_key(text.strip()))
        except AddressError as error:
            keys.append(AddressKey(""))
            none[place] = error
    return keys, none


def is_drill(key: AddressKey) -> bool:
    """Tell whether an address is one of the fire drill's."""
    return key.endswith(_OF_A_DRILL)


def _quote(local_part: str) -> str:
    if _DOT_ATOM.fullmatch(local_part):
        return local_part
    escaped = local_part.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _a_labels(domain: str) -> str:
    if domain.startswith("["):
        if not _LITERAL.fullmatch(domain):
            raise AddressError("the address literal is malformed")
        return domain.lower()
    labels = domain.removesuffix(".").split(".")
    encoded = [label.lower() if label.isascii() else _a_label(label) for label in labels]
    if not all(map(_LABEL.fullmatch, encoded)):
        raise AddressError("the domain holds an empty, overlong or malformed label")
    whole = ".".join(encoded)
    if len(whole) > MAX_DOMAIN:
        raise AddressError(f"the domain has more than {MAX_DOMAIN} octets")
    return whole


def _a_label(label: str) -> str:
    """Encode a label as IDNA does (RFC 5891 section 4.4), also where IDNA 2008 refuses it: such labels are met in mail.

    Refusing or mapping them is the registries' matter; encoded as they stand they equal nothing but themselves.
    """
    if _CONTROL.search(label):
        raise AddressError("the domain holds a control character")
    return "xn--" + "".join(map(_fold, label)).encode("punycode").decode("ascii")


def _fold(char: str) -> str:
    lower = char.lower()
    # U+212A KELVIN SIGN lowers to "k": a letter outside ASCII must never become one inside.
    # Cherokee folds upwards (Unicode CaseFolding.txt): there the capitals are the letters of domains.
    return lower if len(lower) == 1 and lower.isascii() == char.isascii() and char.casefold() != char else char
