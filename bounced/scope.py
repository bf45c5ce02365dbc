"""Scopes: the streams of mail that a recipient can leave one by one.

For: one spelling of a stream's name at signing, asking and storing. Never: which stream may send what; that is policy's.
"""

import re
from typing import NewType

Scope = NewType("Scope", str)
"""A stream of mail ("news", "receipts"): lower-case letters, digits, hyphen and dot, 1 to 32 octets."""

EVERYWHERE = Scope("*")
"""What concerns the address itself, whatever the stream. Never signed, never asked for."""

DEFAULT_SCOPE = Scope("default")
"""The stream of whoever names none, at signing as at asking."""

_SCOPE = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,30}[a-z0-9])?")


class ScopeError(ValueError):
    """The text names no scope; the message says why and never repeats the text."""


def parse_scope(text: str) -> Scope:
    """Read the name of a stream. Raises ScopeError."""
    if not _SCOPE.fullmatch(text):
        raise ScopeError("a scope is 1 to 32 of a-z, 0-9, hyphen and dot, beginning and ending with a letter or digit")
    return Scope(text)
