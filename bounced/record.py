"""Events, and what they add up to: the record of one address in one scope.

For: the vocabulary between intake, policy and store. Never: the arithmetic; policy.step adds events up.
All times are Unix time in seconds, UTC.

All are msgspec Structs: a frozen dataclass of so many fields takes ten to thirty times as long to make, copy and compare, which was half
of `bounced replay`.
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from bounced.address import AddressKey
from bounced.outcome import Outcome
from bounced.scope import EVERYWHERE, Scope


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to an address. `scope` is the stream it happened in."""

    at: int
    key: AddressKey
    scope: Scope


class Bounced(Event, frozen=True, kw_only=True):
    """A mail came back, proved by its token. `signed_at` tells when the mail was sent, `reader` who read the report.

    `final_recipient` is whom the report names if that is somebody else (a forwarder's target): evidence, never a key.
    `client` is the IP address that brought it. `provider` is who refused: a name of the provider rows, or a domain. `held` is the
    incident because of which the verdict blocks nobody; the store writes it, when it records the event or when the incident opens.
    `unsigned` is set, here and below, where no seal proves it, to what the operator trusts instead: "verp" or "feedback".
    """

    token: str
    signed_at: int
    outcome: Outcome
    reader: str
    final_recipient: str | None = None
    client: str = ""
    provider: str | None = None
    held: str | None = None
    unsigned: str | None = None


class Complained(Event, frozen=True, kw_only=True):
    """The recipient reported our mail (RFC 5965) or unsubscribed by mail (`feedback_type` OPT_OUT), proved by its token."""

    token: str
    signed_at: int
    feedback_type: str
    client: str = ""
    unsigned: str | None = None


class Noticed(Event, frozen=True, kw_only=True):
    """Something came back that changes nothing: a delay, a vacation notice, a success, a text that nobody could read."""

    token: str
    signed_at: int
    what: str
    reader: str
    client: str = ""
    provider: str | None = None
    unsigned: str | None = None


class Delivered(Event, frozen=True, kw_only=True):
    """A mail arrived, as told by a mailer (`by`) or by a report of delivery. `token` and `signed_at` where it is known which mail."""

    by: str
    token: str | None = None
    signed_at: int | None = None


class Sent(Event, frozen=True, kw_only=True):
    """A return path was signed, at `at`, for one mail to an address of which the next success matters: it has strikes, or was blocked.

    Only what was signed can bounce to us, so only its silence says that it arrived; a question whether one may mail says nothing.
    """

    token: str


class Blocked(Event, frozen=True, kw_only=True):
    """A person (`by`) put the address on the list, for `reason`. In EVERYWHERE or in one stream."""

    by: str
    reason: str


class Released(Event, frozen=True, kw_only=True):
    """A person (`by`) took the address off the list, for `reason`: in EVERYWHERE, from all scopes at once."""

    by: str
    reason: str


class Confirmed(Event, frozen=True, kw_only=True):
    """A person (`by`) said that what an incident held of this address is true."""

    incident: str
    by: str
    reason: str


class Reverted(Event, frozen=True, kw_only=True):
    """A person (`by`) said that what an incident held of this address is false, also where it had been confirmed."""

    incident: str
    by: str
    reason: str


class Imported(Event, frozen=True, kw_only=True):
    """A block that another list had: `source` names the list, `since` is when it began there, `cause` and `category` why, as we call it.

    `by` is who brought it. It blocks until `until`, if that is set.
    """

    by: str
    source: str
    cause: "Cause"
    category: str
    since: int
    until: int | None = None


AnyEvent = Bounced | Complained | Noticed | Delivered | Sent | Blocked | Released | Confirmed | Reverted | Imported

OPT_OUT = "opt-out"
"""The feedback type of who unsubscribed by mail."""


class Cause(StrEnum):
    """What keeps an address blocked."""

    HARD = "hard"
    SOFT = "soft"
    COMPLAINT = "complaint"
    MANUAL = "manual"


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict that an incident holds: the address would be blocked as `category` because of mail signed at `signed_at`.

    `confirmed_at` is when a person said that it is true.
    """

    incident: str
    category: str
    signed_at: int
    confirmed_at: int | None = None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How an address stands in one scope.

    `cause` is None while it is clear; else `category` is the outcome's word for it and `since` the time of the block. A block ends at
    `until`, if that is set; it was blocked `times` times before without a success between; `rests_until` is set while a trial mail is
    under way, which the block lets pass until then. `incident` is set where nothing but a confirmed incident blocks it, `unsigned` where
    nothing but unsigned mail does: then a success lifts it.

    `struck` are the times at which the consecutive mails were signed that came back soft, oldest first, twenty or as many as block; `sent`
    those of mails signed since, of which nothing came back yet; `held` the verdicts that incidents hold. Mail signed at or before
    `released_at` counts no more.
    """

    scope: Scope
    cause: Cause | None = None
    category: str | None = None
    since: int | None = None
    until: int | None = None
    times: int = 0
    rests_until: int | None = None
    incident: str | None = None
    unsigned: bool = False
    struck: tuple[int, ...] = ()
    sent: tuple[int, ...] = ()
    held: tuple[Hold, ...] = ()
    released_at: int | None = None

    @property
    def strikes(self) -> int:
        """The number of consecutive soft bounces."""
        return len(self.struck)

    def blocks(self, now: int) -> bool:
        """Tell whether it keeps mail from the address now."""
        if self.cause is None or (self.until is not None and now >= self.until):
            return False
        return self.rests_until is None or now >= self.rests_until


class AddressRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What all events of one address add up to: a standing for each scope in which something happened, sorted by scope.

    `known_since` is the time of the first event, `delivered_at` when the last mail was sent of which is known that it arrived.
    """

    key: AddressKey
    standings: tuple[Standing, ...] = ()
    known_since: int | None = None
    delivered_at: int | None = None

    def standing(self, scope: Scope) -> Standing:
        """Return the standing in exactly this scope; an untouched one where nothing happened."""
        for standing in self.standings:
            if standing.scope == scope:
                return standing
        return Standing(scope=scope)

    def block(self, scope: Scope, now: int) -> Standing | None:
        """Return the standing that keeps mail of this stream from the address: its own, or the one everywhere. None means clear."""
        return first_block(self.standings, scope, now)


def first_block(standings: Sequence[Standing], scope: Scope, now: int) -> Standing | None:
    """Return the first of an address's standings, sorted by scope, that keeps mail of a stream from it now; None means clear."""
    # EVERYWHERE sorts before every stream.
    for standing in standings:
        if standing.scope in (EVERYWHERE, scope) and standing.blocks(now):
            return standing
    return None
