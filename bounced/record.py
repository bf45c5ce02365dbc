"""Events, and what they add up to: the record of one address in one scope.

For: the vocabulary between intake, policy and store. Never: the arithmetic; policy.step adds events up.
All times are Unix time in seconds, UTC.
"""

from dataclasses import dataclass
from enum import StrEnum

from bounced.address import AddressKey
from bounced.outcome import Outcome
from bounced.scope import EVERYWHERE, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to an address. `scope` is the stream it happened in."""

    at: int
    key: AddressKey
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounced(Event):
    """A mail came back, proved by its token. `signed_at` tells when the mail was sent, `reader` who read the report.

    `final_recipient` is whom the report names if that is somebody else (a forwarder's target): evidence, never a key.
    `client` is the IP address that brought it.
    """

    token: str
    signed_at: int
    outcome: Outcome
    reader: str
    final_recipient: str | None = None
    client: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Complained(Event):
    """The recipient reported our mail (RFC 5965), proved by its token."""

    token: str
    signed_at: int
    feedback_type: str
    client: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noticed(Event):
    """Something came back that changes nothing: a delay, a vacation notice, a success, a text that nobody could read."""

    token: str
    signed_at: int
    what: str
    reader: str
    client: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered(Event):
    """A mail arrived, as told by a mailer (`by`, no token) or by a report of delivery, proved by its token."""

    by: str
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked(Event):
    """A person (`by`) put the address on the list, for `reason`. In EVERYWHERE or in one stream."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Released(Event):
    """A person (`by`) took the address off the list, for `reason`: in EVERYWHERE, from all scopes at once."""

    by: str
    reason: str


AnyEvent = Bounced | Complained | Noticed | Delivered | Blocked | Released


class Cause(StrEnum):
    """What keeps an address blocked."""

    HARD = "hard"
    SOFT = "soft"
    COMPLAINT = "complaint"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How an address stands in one scope.

    `cause` is None while it is clear; else `category` is the outcome's word for it and `since` the time of the block. `strikes` counts the
    consecutive soft bounces. Mail signed at or before `released_at` counts no more.
    """

    scope: Scope
    cause: Cause | None = None
    category: str | None = None
    since: int | None = None
    strikes: int = 0
    released_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressRecord:
    """What all events of one address add up to: a standing for each scope in which something happened, sorted by scope."""

    key: AddressKey
    standings: tuple[Standing, ...] = ()

    def standing(self, scope: Scope) -> Standing:
        """Return the standing in exactly this scope; an untouched one where nothing happened."""
        return next((standing for standing in self.standings if standing.scope == scope), Standing(scope=scope))

    def block(self, scope: Scope) -> Standing | None:
        """Return the standing that keeps mail of this stream from the address: its own, or the one everywhere. None means clear."""
        for standing in (self.standing(EVERYWHERE), self.standing(scope)):
            if standing.cause is not None:
                return standing
        return None
