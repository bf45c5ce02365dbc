"""Enhanced status codes (RFC 3463) and SMTP replies (RFC 5321 section 4.2).

For: the two kinds of code by which mail systems say what happened. Never: what a code means for the recipient; that is outcome's.
"""

import re
from functools import lru_cache

import msgspec

# ASCII digits only, and no part of something longer: 192.5.1.1, 5.1.1.9, v4.6.1.
_STATUS = re.compile(r"(?<![\d.])(?<!\b[vV])([245])\.(\d{1,3})\.(\d{1,3})(?!\.?\d)", re.ASCII)


class StatusCode(msgspec.Struct, frozen=True, order=True, gc=False):
    """An enhanced mail system status code, `class.subject.detail` (RFC 3463 section 2)."""

    klass: int
    subject: int
    detail: int

    @classmethod
    def parse(cls, text: str) -> "StatusCode | None":
        """Read a code from the start of `text` (`5.1.1 (bad mailbox)` is met in the wild); None if there is none."""
        return _parsed(text) if len(text) <= _MEMORABLE else _parsed.__wrapped__(text)

    @classmethod
    def find(cls, text: str) -> "StatusCode | None":
        """Find the first code that stands alone in `text`: not in IP addresses, longer numbers and versions (v4.6.1)."""
        found = _STATUS.search(text)
        return cls(*map(int, found.groups())) if found else None

    @property
    def permanent(self) -> bool:
        """Whether the class says permanent failure (RFC 3463 section 3.1)."""
        return self.klass == 5

    def __str__(self) -> str:
        return f"{self.klass}.{self.subject}.{self.detail}"


_MEMORABLE = 32


@lru_cache(maxsize=1024)
def _parsed(text: str) -> StatusCode | None:
    found = _STATUS.match(text.strip())
    return StatusCode(*map(int, found.groups())) if found else None


class Reply(msgspec.Struct, frozen=True, gc=False):
    """An SMTP reply as some server gave it: three-digit code, enhanced status if it had one, the text without both."""

    code: int
    status: StatusCode | None
    text: str

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.code, self.status, self.text) if part)
