"""What events do to a record: one pure step.

For: every decision about whom not to mail. Never: reading reports, clocks or the store. A hard bounce blocks at once, soft bounces
at the fifth in a row, a complaint in its stream; what is our own fault never blocks the recipient.

In a row means: in the order in which the mails were sent. A success takes back the strikes of all mail sent up to then, also those that
come later. Nobody tells us of most successes; a signed mail of which nothing came back for `Policy.silence` counts as one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, reduce
from typing import assert_never

from msgspec.structs import replace

from bounced.address import AddressKey
from bounced.guard import LEAST
from bounced.outcome import Category, Disposition, Outcome
from bounced.record import (
    OPT_OUT,
    AddressRecord,
    AnyEvent,
    Blocked,
    Bounced,
    Cause,
    Complained,
    Confirmed,
    Delivered,
    Hold,
    Imported,
    Noticed,
    Released,
    Reverted,
    Sent,
    Standing,
)
from bounced.scope import EVERYWHERE, Scope

DAY = 86_400
MOST_SENT = 20
"""Mails under way that are remembered of an address: enough for the oldest to become a success."""

TRIAL = 3600
"""Seconds in which one trial mail after the end of a block is let pass, from its signing on."""

RECENT = 90 * DAY
"""An address that took mail so many seconds ago is established."""

LONG_KNOWN = 30 * DAY
"""An address of which no success is known is established if it is known for so long and clear."""

_KEPT_STRIKES = 20
_LONGEST_BLOCK = 3650 * DAY


class Effect(StrEnum):
    """What a bounce of some category does."""

    BLOCK = "block"
    STRIKE = "strike"
    TELL = "tell"
    """Nothing to the recipient; the operator is told."""
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """How bounces of one category are treated.

    `threshold`: the n-th strike in a row blocks. `expiry`: seconds until a block ends by itself; each further block without a success
    between lasts `growth` times as long, ten years at most.
    """

    action: Effect
    threshold: int = 5
    expiry: int | None = None
    growth: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The operator's decisions. `soft_limit`: the n-th soft bounce in a row blocks.

    `silence`: seconds after which a signed mail counts as delivered: the longest time in a queue (RFC 5321 section 4.5.4.1: 4 to 5 days),
    and a day for the bounce. `categories`: what is treated otherwise than its disposition says; COMPLAINT among them, which cannot
    strike. `pass_complaints`: the streams that go on after a complaint (password resets). `outage_guard`: whether verdicts are held while a
    provider calls many living addresses dead; `outage_least` of them, or more.
    """

    soft_limit: int = 5
    silence: int = 6 * DAY
    categories: Mapping[Category, Treatment] = field(default_factory=dict)
    pass_complaints: frozenset[Scope] = frozenset()
    outage_guard: bool = True
    outage_least: int = LEAST

    def treatment(self, outcome: Outcome) -> Treatment:
        """Return what is done about an outcome. What the report itself calls temporary is never made a death."""
        if outcome.disposition is Disposition.NONE:
            return _IGNORED
        own = self.categories.get(outcome.category)
        if own is None:
            return _by_itself(outcome.disposition, self.soft_limit)
        if own.action is Effect.BLOCK and outcome.disposition is Disposition.SOFT and outcome.category in PERMANENT:
            return Treatment(action=Effect.STRIKE, threshold=self.soft_limit, expiry=own.expiry, growth=own.growth)
        return own

    def complaint(self, scope: Scope) -> Treatment:
        """Return what is done about a complaint in a stream."""
        if scope in self.pass_complaints:
            return Treatment(action=Effect.TELL)
        return self.categories.get(Category.COMPLAINT, Treatment(action=Effect.BLOCK))


PERMANENT = frozenset({Category.NO_SUCH_USER, Category.NO_SUCH_DOMAIN, Category.INACTIVE, Category.MOVED, Category.NOT_ACCEPTING})
"""Categories that are deaths by nature (outcome/rules/causes.toml)."""

_EFFECTS = {Disposition.HARD: Effect.BLOCK, Disposition.SOFT: Effect.STRIKE, Disposition.BLOCKED: Effect.TELL}
_MANUAL = Treatment(action=Effect.BLOCK)
_IGNORED = Treatment(action=Effect.IGNORE)
_WEIGHT = {Disposition.NONE: 0, Disposition.BLOCKED: 1, Disposition.SOFT: 2, Disposition.HARD: 3}
_FIRMNESS = {Cause.SOFT: 0, Cause.COMPLAINT: 1, Cause.HARD: 2, Cause.MANUAL: 3}


@cache
def _by_itself(disposition: Disposition, soft_limit: int) -> Treatment:
    return Treatment(action=_EFFECTS[disposition], threshold=soft_limit)


def adds(event: AnyEvent, earlier: Iterable[AnyEvent]) -> bool:
    """Tell whether `event` says more than the `earlier` events of the same token.

    One mail counts once: copies of a bounce add nothing, but a permanent failure supersedes the delay or the soft failure that the same
    mail reported before. A complaint, a report of delivery and the signing are matters of their own, each counted once.
    """
    matter, weight = _matter(event), _weight(event)
    return all(weight > _weight(past) for past in earlier if _matter(past) is matter)


def _matter(event: AnyEvent) -> type[Complained | Delivered | Sent | Bounced]:
    match event:
        case Complained() | Delivered() | Sent():
            return type(event)
        case _:
            return Bounced


def _weight(event: AnyEvent) -> int:
    return _WEIGHT[event.outcome.disposition] if isinstance(event, Bounced) else 0


def established(record: AddressRecord, at: int) -> bool:
    """Tell whether an address is known to live: mail arrived not long ago, or it is long known and clear."""
    if record.known_since is None or record.block(EVERYWHERE, at) is not None:
        return False
    if record.delivered_at is not None:
        return record.delivered_at >= at - RECENT
    return record.known_since <= at - LONG_KNOWN and not record.standing(EVERYWHERE).struck


def awaits_success(record: AddressRecord, scope: Scope, now: int) -> bool:
    """Tell whether it matters that a mail of a stream is signed now: the address has strikes, or a block that has ended."""
    standings = (record.standing(EVERYWHERE), record.standing(scope))
    return any((standing.struck or _lapsed(standing, now)) and len(standing.sent) < MOST_SENT for standing in standings)


def released_since(record: AddressRecord, scope: Scope, signed_at: int) -> bool:
    """Tell whether a person released the address after a mail of a stream was signed: then what comes back of it counts no more."""
    for standing in record.standings:
        if standing.released_at is not None and signed_at <= standing.released_at and standing.scope in (EVERYWHERE, scope):
            return True
    return False


def fold(key: AddressKey, events: Iterable[AnyEvent], policy: Policy) -> AddressRecord:
    """Return what all events of an address add up to."""
    return reduce(lambda record, event: step(record, event, policy), events, AddressRecord(key=key))


def step(record: AddressRecord, event: AnyEvent, policy: Policy) -> AddressRecord:
    """Return `record` after `event`. `event` must add something to what its token told before (see `adds`)."""
    if record.known_since is None:
        record = replace(record, known_since=event.at)
    if record.standings:
        if isinstance(event, Bounced | Complained | Noticed):
            record = _answered(record, event.signed_at)
        record = _ripened(record, event.at, policy)
    match event:
        case Noticed():
            return record
        case Bounced() | Complained() if record.standings and released_since(record, event.scope, event.signed_at):
            return record
        case Bounced() | Complained() if _contradicted(record, event):
            return record
        case Bounced():
            return _bounced(record, event, policy)
        case Complained():
            return _complained(record, event, policy)
        case Delivered():
            return _succeeded(record, event.at if event.signed_at is None else event.signed_at, (EVERYWHERE, event.scope))
        case Sent():
            return _sent(record, event, policy)
        case Blocked():
            return _put(record, _block(record.standing(event.scope), Cause.MANUAL, "manual", event.at, _MANUAL))
        case Released():
            return _released(record, record.standing(event.scope), event.at)
        case Confirmed():
            return _confirmed(record, event, policy)
        case Imported():
            return _imported(record, event)
        case Reverted():
            return _reverted(record, event.incident, policy)
        case _:
            assert_never(event)


def _contradicted(record: AddressRecord, event: Bounced | Complained) -> bool:
    """Tell whether an unsigned event is about a mail that may be older than one of which is known that it arrived."""
    return event.unsigned is not None and record.delivered_at is not None and event.signed_at <= record.delivered_at


def _bounced(record: AddressRecord, event: Bounced, policy: Policy) -> AddressRecord:
    standing = record.standing(EVERYWHERE)
    treatment, category = policy.treatment(event.outcome), event.outcome.category.value
    match treatment.action:
        case Effect.BLOCK if event.held is not None:
            hold = Hold(incident=event.held, category=category, signed_at=event.signed_at)
            return _put(record, replace(standing, held=(*standing.held, hold)))
        case Effect.BLOCK:
            cause = Cause.HARD if event.outcome.disposition is Disposition.HARD else Cause.SOFT
            return _put(record, _block(standing, cause, category, event.at, treatment, unsigned=event.unsigned is not None))
        case Effect.STRIKE if record.delivered_at is None or event.signed_at > record.delivered_at:
            kept = max(_KEPT_STRIKES, treatment.threshold)
            # Where the operator lets others than soft bounces strike, a mail that supersedes its own earlier strike is still one strike.
            again = policy.categories and event.signed_at in standing.struck
            struck = standing if again else replace(standing, struck=tuple(sorted((*standing.struck, event.signed_at)))[-kept:])
            if struck.strikes >= treatment.threshold:
                struck = _block(struck, Cause.SOFT, category, event.at, treatment, unsigned=event.unsigned is not None)
            return _put(record, struck)
        case Effect.STRIKE | Effect.TELL | Effect.IGNORE:
            return record
        case _:
            assert_never(treatment.action)


def _complained(record: AddressRecord, event: Complained, policy: Policy) -> AddressRecord:
    treatment = policy.complaint(event.scope)
    if treatment.action is not Effect.BLOCK:
        return record
    category = OPT_OUT if event.feedback_type == OPT_OUT else Category.COMPLAINT.value
    unsigned = event.unsigned is not None
    return _put(record, _block(record.standing(event.scope), Cause.COMPLAINT, category, event.at, treatment, unsigned=unsigned))


def _block(
    standing: Standing, cause: Cause, category: str, at: int, treatment: Treatment, *, incident: str | None = None, unsigned: bool = False
) -> Standing:
    """Block, unless it is blocked already; a proved death (hard) or a person's word (manual) replaces a softer cause."""
    lapsed = _lapsed(standing, at)
    times = standing.times + 1 if lapsed else standing.times
    until = _until(at, treatment, times)
    # What only an incident or unsigned mail blocked is blocked anew by what proves it without: then these can go.
    proved = (standing.incident is not None and incident is None) or (standing.unsigned and not unsigned)
    if standing.cause is None or lapsed or proved:
        standing = replace(standing, cause=cause, category=category, since=at, until=until, times=times, rests_until=None)
        return replace(standing, incident=incident, unsigned=unsigned)
    if _FIRMNESS[cause] > _FIRMNESS[standing.cause]:
        return replace(standing, cause=cause, category=category, until=until)
    return standing


def _until(at: int, treatment: Treatment, times: int) -> int | None:
    if treatment.expiry is None:
        return None
    return at + int(min(treatment.expiry * treatment.growth ** min(times, 100), _LONGEST_BLOCK))


def _lapsed(standing: Standing, at: int) -> bool:
    """Tell whether a block has ended and nobody knows yet if the address lives: none, or one trial mail was sent since."""
    return standing.cause is not None and standing.until is not None and (standing.until <= at or standing.rests_until is not None)


def _sent(record: AddressRecord, event: Sent, policy: Policy) -> AddressRecord:
    """Remember a mail under way; the first after a block is its trial, and the block waits for what comes of it."""
    for scope in dict.fromkeys((EVERYWHERE, event.scope)):
        standing = record.standing(scope)
        if standing.until is not None and standing.until <= event.at and standing.cause is not None:
            standing = replace(standing, until=event.at + policy.silence, rests_until=event.at + TRIAL)
        elif not standing.struck or event.at <= standing.struck[0]:
            continue
        if len(standing.sent) < MOST_SENT:
            standing = replace(standing, sent=tuple(sorted((*standing.sent, event.at))))
        record = _put(record, standing)
    return record


def _answered(record: AddressRecord, signed_at: int) -> AddressRecord:
    """Expect no more silence of a mail of which something came back."""
    for standing in record.standings:
        if signed_at in standing.sent:
            record = _put(record, replace(standing, sent=tuple(sent for sent in standing.sent if sent != signed_at)))
    return record


def _ripened(record: AddressRecord, at: int, policy: Policy) -> AddressRecord:
    """Count the mails as delivered of which nothing came back for long."""
    for standing in record.standings:
        ripe = standing.sent and [sent for sent in standing.sent if sent + policy.silence <= at]
        if ripe:
            record = _succeeded(record, max(ripe), (standing.scope,))
    return record


def _succeeded(record: AddressRecord, sent_at: int, scopes: Iterable[Scope]) -> AddressRecord:
    """Take back what earlier mail brought about: strikes, holds, and blocks that had ended before that mail was sent."""
    for scope in dict.fromkeys(scopes):
        standing = record.standing(scope)
        standing = replace(
            standing,
            struck=tuple(struck for struck in standing.struck if struck > sent_at),
            sent=tuple(sent for sent in standing.sent if sent > sent_at),
            held=tuple(hold for hold in standing.held if hold.signed_at > sent_at or hold.confirmed_at is not None),
        )
        ended = standing.until if standing.rests_until is None else standing.rests_until - TRIAL
        if standing.cause is not None and (standing.unsigned or (ended is not None and ended <= sent_at)):
            standing = _cleared(replace(standing, times=0))
        record = _put(record, standing)
    return replace(record, delivered_at=max(sent_at, record.delivered_at or sent_at))


def no_firmer(imported: Cause, blocked: Cause) -> bool:
    """Tell whether an imported block changes nothing where a block of this cause, without end and incident, stands already."""
    return _FIRMNESS[imported] <= _FIRMNESS[blocked]


def _imported(record: AddressRecord, event: Imported) -> AddressRecord:
    """Take over another list's block, unless a person released the address since, or it is blocked as firmly."""
    standing = record.standing(event.scope)
    if any(one.released_at is not None and one.released_at >= event.since for one in (standing, record.standing(EVERYWHERE))):
        return record
    blocked = _block(standing, event.cause, event.category, event.at, _MANUAL)
    if blocked is standing:
        return record
    return _put(record, replace(blocked, since=min(event.since, blocked.since or event.since), until=event.until))


def _confirmed(record: AddressRecord, event: Confirmed, policy: Policy) -> AddressRecord:
    """Let the held verdict count, where nothing else blocks the address."""
    standing = record.standing(EVERYWHERE)
    held = tuple(replace(hold, confirmed_at=event.at) if _open(hold, event.incident) else hold for hold in standing.held)
    if held == standing.held:
        return record
    standing = replace(standing, held=held)
    return _put(record, standing if standing.blocks(event.at) else _blocked_by_holds(standing, policy))


def _reverted(record: AddressRecord, incident: str, policy: Policy) -> AddressRecord:
    """Undo what the incident did, and nothing else."""
    standing = record.standing(EVERYWHERE)
    standing = replace(standing, held=tuple(hold for hold in standing.held if hold.incident != incident))
    return _put(record, _blocked_by_holds(_cleared(standing), policy) if standing.incident == incident else standing)


def _open(hold: Hold, incident: str) -> bool:
    return hold.incident == incident and hold.confirmed_at is None


def _blocked_by_holds(standing: Standing, policy: Policy) -> Standing:
    """Block by the first confirmed verdict, if there is one."""
    for hold in standing.held:
        if hold.confirmed_at is not None:
            treatment = policy.categories.get(Category(hold.category), _MANUAL)
            return _block(standing, Cause.HARD, hold.category, hold.confirmed_at, treatment, incident=hold.incident)
    return standing


def _cleared(standing: Standing) -> Standing:
    return replace(standing, cause=None, category=None, since=None, until=None, rests_until=None, incident=None, unsigned=False)


def _released(record: AddressRecord, standing: Standing, at: int) -> AddressRecord:
    """Clear one standing, or all of them. A clock that was set back in between takes no earlier release back."""
    cleared = record.standings if standing.scope == EVERYWHERE else (standing,)
    released_at = max([at, *(earlier.released_at or at for earlier in cleared)])
    released = Standing(scope=standing.scope, released_at=released_at)
    return replace(record, standings=(released,)) if standing.scope == EVERYWHERE else _put(record, released)


def _put(record: AddressRecord, standing: Standing) -> AddressRecord:
    standings = [other for other in record.standings if other.scope != standing.scope]
    if standing != Standing(scope=standing.scope):
        standings.append(standing)
        standings.sort(key=lambda one: one.scope)
    return replace(record, standings=tuple(standings))
