"""What keeps bounced from working, looked for before it breaks: the machine, the DNS, the daemon itself.

For: `bounced doctor`: each check gives findings, and each finding that is not good says what to do. Never: a change of anything but by the
fire drill, which writes about mailboxes that nobody has and forgets them. It opens connections and asks name servers, as the daemon never
does.
"""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    SKIPPED = "skipped"
    """It could not be looked at, for the reason told."""
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: `check` is its name, `says` what there is, `do` what to do about it. May hold strangers' text (DNS)."""

    check: str
    level: Level
    says: str
    do: str = ""


def ok(check: str, says: str) -> Finding:
    """Return a good finding."""
    return Finding(check, Level.OK, says)


def skipped(check: str, why: str) -> Finding:
    """Return that a check could not be made."""
    return Finding(check, Level.SKIPPED, why)


def warning(check: str, says: str, do: str) -> Finding:
    """Return what will hurt one day."""
    return Finding(check, Level.WARNING, says, do)


def failure(check: str, says: str, do: str) -> Finding:
    """Return what hurts now."""
    return Finding(check, Level.FAILURE, says, do)
