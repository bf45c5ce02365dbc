"""What events do to a record: one pure step.

For: every decision about whom not to mail. Never: reading reports, clocks or the store. A hard bounce blocks at once, soft bounces
at the fifth in a row, a complaint in its stream; what is our own fault never blocks the recipient.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import assert_never

from bounced.outcome import Disposition
from bounced.record import (
    AddressRecord,
    AnyEvent,
    Blocked,
    Bounced,
    Cause,
    Complained,
    Delivered,
    Noticed,
    Released,
    Standing,
)
from bounced.scope import EVERYWHERE, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The operator's thresholds. `soft_limit`: the n-th soft bounce in a row blocks."""

    soft_limit: int = 5


_WEIGHT = {Disposition.NONE: 0, Disposition.BLOCKED: 1, Disposition.SOFT: 2, Disposition.HARD: 3}
_FIRMNESS = {Cause.SOFT: 0, Cause.COMPLAINT: 1, Cause.HARD: 2, Cause.MANUAL: 3}


def adds(event: AnyEvent, earlier: Iterable[AnyEvent]) -> bool:
    """Tell whether `event` says more than the `earlier` events of the same token.

    One mail counts once: copies of a bounce add nothing, but a permanent failure supersedes the delay or the soft failure that the same
    mail reported before. A complaint and a report of delivery are matters of their own, each counted once.
    """
    matter, weight = _matter(event), _weight(event)
    return all(weight > _weight(past) for past in earlier if _matter(past) is matter)


def _matter(event: AnyEvent) -> type[Complained | Delivered | Bounced]:
    match event:
        case Complained() | Delivered():
            return type(event)
        case _:
            return Bounced


def _weight(event: AnyEvent) -> int:
    return _WEIGHT[event.outcome.disposition] if isinstance(event, Bounced) else 0


def reach(event: AnyEvent) -> Scope:
    """Tell the scope whose record `event` changes: an address is dead everywhere, a complaint concerns its stream."""
    match event:
        case Bounced() | Noticed() | Delivered():
            return EVERYWHERE
        case Complained() | Blocked() | Released():
            return event.scope
        case _:
            assert_never(event)


def step(record: AddressRecord, event: AnyEvent, policy: Policy) -> AddressRecord:
    """Return `record` after `event`. `event` must add something to what its token told before (see `adds`)."""
    standing = record.standing(reach(event))
    match event:
        case Noticed():
            return record
        case Bounced() | Complained() if _released_since(record, event):
            return record
        case Bounced():
            return _put(record, _bounced(standing, event, policy))
        case Complained():
            return _put(record, _block(standing, Cause.COMPLAINT, "complaint", event.at))
        case Delivered():
            return _put(record, replace(standing, strikes=0))
        case Blocked():
            return _put(record, _block(standing, Cause.MANUAL, "manual", event.at))
        case Released():
            return _released(record, standing, event.at)
        case _:
            assert_never(event)


def _bounced(standing: Standing, event: Bounced, policy: Policy) -> Standing:
    category = event.outcome.category.value
    match event.outcome.disposition:
        case Disposition.HARD:
            return _block(standing, Cause.HARD, category, event.at)
        case Disposition.SOFT:
            struck = replace(standing, strikes=standing.strikes + 1)
            return _block(struck, Cause.SOFT, category, event.at) if struck.strikes >= policy.soft_limit else struck
        case Disposition.BLOCKED | Disposition.NONE:
            return standing
        case _:
            assert_never(event.outcome.disposition)


def _block(standing: Standing, cause: Cause, category: str, at: int) -> Standing:
    """Block, unless it is blocked already; a proved death (hard) or a person's word (manual) replaces a softer cause."""
    if standing.cause is None:
        return replace(standing, cause=cause, category=category, since=at)
    if _FIRMNESS[cause] > _FIRMNESS[standing.cause]:
        return replace(standing, cause=cause, category=category)
    return standing


def _released(record: AddressRecord, standing: Standing, at: int) -> AddressRecord:
    """Clear one standing, or all of them. A clock that was set back in between takes no earlier release back."""
    cleared = record.standings if standing.scope == EVERYWHERE else (standing,)
    released_at = max([at, *(earlier.released_at or at for earlier in cleared)])
    released = Standing(scope=standing.scope, released_at=released_at)
    return replace(record, standings=(released,)) if standing.scope == EVERYWHERE else _put(record, released)


def _released_since(record: AddressRecord, event: Bounced | Complained) -> bool:
    releases = (record.standing(EVERYWHERE).released_at, record.standing(event.scope).released_at)
    return any(released_at is not None and event.signed_at <= released_at for released_at in releases)


def _put(record: AddressRecord, standing: Standing) -> AddressRecord:
    others = tuple(other for other in record.standings if other.scope != standing.scope)
    if standing == Standing(scope=standing.scope):
        return replace(record, standings=others)
    return replace(record, standings=tuple(sorted((*others, standing), key=lambda one: one.scope)))
