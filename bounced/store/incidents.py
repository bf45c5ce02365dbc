"""What a store does beyond one address, inside its write transaction: guards are asked, incidents opened, counted, ruled and closed.

For: one course of these things for every backend, which offers a `Shelf` to it. Never: SQL, a transaction, or arithmetic; guard, incident
and policy do that. What is decided here is written into the events, so that a record stays the fold of its history.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from msgspec.structs import replace

from bounced.address import AddressKey, is_drill
from bounced.guard import Closed, Holding, Opened, Watch, learn, observe, settle
from bounced.incident import (
    MORE,
    MOST_REFUSED,
    Act,
    Backlog,
    Incident,
    Kind,
    Ruling,
    accepted,
    is_flood,
    joined,
    opened,
    refusal_subject,
    refused,
    settled,
)
from bounced.outcome import Disposition
from bounced.policy import Effect, Policy, established
from bounced.record import AddressRecord, AnyEvent, Bounced, Confirmed, Delivered, Noticed, Reverted
from bounced.scope import EVERYWHERE
from bounced.store import TALLY_DAYS


@dataclass(frozen=True, slots=True)
class _Flood:
    """A kind of incident that the tallies of a day tell: how many of some words are a flood, against the worst of so many days before.

    It is told only of who is `known` for so many days.
    """

    kind: Kind
    subject: str
    words: tuple[str, ...]
    least: int
    days: int = 14
    known: int = 0


_FLOODS = (
    _Flood(Kind.BACKSCATTER, "return path", ("foreign", "forged", "unknown-key"), least=1_000),
    _Flood(Kind.COMPROMISED, "unsigned mail", ("unannounced",), least=20),
    # A monthly mailing is usual.
    _Flood(Kind.COMPROMISED, "signed mail", ("genuine",), least=1_000, days=TALLY_DAYS, known=28),
)
_DROPPED_AT_ONCE = 500
LOOKED_AT_ONCE = 100
"""Events from before an outage that one transaction looks at: 20 ms if all are held. Bounces are committed in between."""
Places = tuple[int, int]
"""Where events stand: after the first number, up to the second."""
_DAY = 86_400


class Shelf(Protocol):
    """What a backend keeps for it, as one transaction sees it."""

    def watch(self, provider: str) -> Watch | None:
        """Return what the guard remembers of a provider."""
        ...

    def put_watch(self, provider: str, watch: Watch) -> None:
        """Remember it."""
        ...

    def incident(self, identity: str) -> Incident | None:
        """Return one incident."""
        ...

    def open_incidents(self, kind: Kind | None = None, subject: str | None = None) -> Sequence[Incident]:
        """Return what is open, of a kind, of a subject."""
        ...

    def put_incident(self, incident: Incident) -> None:
        """Add or replace an incident."""
        ...

    def hold(self, identity: str, key: AddressKey) -> None:
        """Remember that an incident holds, or held, a verdict on an address."""
        ...

    def places_since(self, at: int) -> Places:
        """Return places that hold all that was recorded from a time on."""
        ...

    def bounces_since(self, at: int, places: Places) -> Iterator[tuple[int, Bounced]]:
        """Return the bounces among some places that were recorded from a time on, newest first, each with its place."""
        ...

    def rewrite(self, place: int, event: Bounced) -> None:
        """Put an event with its hold where it stood without."""
        ...

    def refold(self, key: AddressKey, policy: Policy) -> None:
        """Make the record of an address the fold of its history."""
        ...

    def tallied(self, days: Sequence[str], words: Sequence[str]) -> dict[str, int]:
        """Return the sums of the tallies of some words, by day."""
        ...

    def drop_tallies(self, before: str, most: int) -> None:
        """Drop the oldest tallies of the days before one, so many at most."""
        ...


def guarded(shelf: Shelf, before: AddressRecord, event: AnyEvent, policy: Policy) -> tuple[AnyEvent, tuple[Incident, ...]]:
    """Ask the guard of the provider; return the event as it is to be recorded, and the outages that opened or closed."""
    if not isinstance(event, Bounced | Noticed) or event.provider is None or not policy.outage_guard or is_drill(event.key):
        return event, ()
    hard = isinstance(event, Bounced) and _would_block(event, policy)
    known = hard and established(before, event.at)
    watch, turn = observe(shelf.watch(event.provider), event.at, hard=hard, established=known, least=policy.outage_least)
    shelf.put_watch(event.provider, watch)
    match turn:
        case Opened(at=at, since=since) if isinstance(event, Bounced):
            outage = joined(opened(Kind.OUTAGE, event.provider, at), event.at, domain=_domain(event), sample=event.outcome.diagnostic)
            outage = _looked_back(shelf, replace(outage, backlog=_backlog(shelf, since)), policy)
            shelf.put_incident(outage)
            shelf.hold(outage.id, event.key)
            return replace(event, held=outage.id), (outage,)
        case Holding() if isinstance(event, Bounced):
            for outage in shelf.open_incidents(Kind.OUTAGE, event.provider):
                shelf.put_incident(joined(outage, event.at, domain=_domain(event)))
                shelf.hold(outage.id, event.key)
                return replace(event, held=outage.id), ()
        case Closed():
            return event, _closed(shelf, event.provider, event.at, policy)
        case _:
            pass
    return event, ()


def told(shelf: Shelf, event: AnyEvent) -> tuple[Incident, ...]:
    """Count an event that was recorded to the incident that it belongs to; return what it opened or closed."""
    if is_drill(event.key):
        return ()
    match event:
        case Bounced() if (subject := refusal_subject(event)) is not None:
            found = shelf.open_incidents(Kind.REFUSED, subject)
            if not found and len(shelf.open_incidents(Kind.REFUSED)) >= MOST_REFUSED:
                subject, found = MORE, shelf.open_incidents(Kind.REFUSED, MORE)
            incident = refused(found[0] if found else None, event, subject)
            if incident is not None:
                shelf.put_incident(incident)
            return () if found or incident is None else (incident,)
        case Delivered():
            open_ = shelf.open_incidents(Kind.REFUSED)
            counted = _changed(shelf, ((incident, accepted(incident, event.at, _domain(event))) for incident in open_))
            return tuple(incident for incident in counted if incident.closed_at is not None)
        case _:
            return ()


def unfinished(shelf: Shelf) -> Incident | None:
    """Return an open outage that has something of the time before it yet to hold."""
    return next((outage for outage in shelf.open_incidents(Kind.OUTAGE) if outage.backlog is not None), None)


def passed(shelf: Shelf, now: int, policy: Policy) -> tuple[Incident, ...]:
    """Let the time pass: close what is over, open a flood of backscatter, drop old tallies; return what opened or closed."""
    turned = [incident for flood in _FLOODS for incident in _flooded(shelf, flood, now)]
    _drop_tallies(shelf, now)
    for outage in shelf.open_incidents(Kind.OUTAGE):
        watch = shelf.watch(outage.subject)
        if watch is not None and watch.opened_at is not None:
            watch, closed = settle(watch, now)
            shelf.put_watch(outage.subject, watch)
            turned += _closed(shelf, outage.subject, now, policy) if closed else ()
    turned += _changed(shelf, ((incident, settled(incident, now)) for incident in shelf.open_incidents()))
    return tuple(turned)


def by_hand(shelf: Shelf, provider: str, since: int, act: Act) -> Incident:
    """Return an incident that a person makes, of what was recorded from `since` on. It is closed from the start."""
    return replace(opened(Kind.OUTAGE, provider, act.at), closed_at=act.at, acts=(act,), backlog=_backlog(shelf, since))


def looked_back(shelf: Shelf, outage: Incident, policy: Policy) -> Incident:
    """Hold the next of an outage's backlog; where it holds nothing at all yet, it is not kept."""
    outage = _looked_back(shelf, shelf.incident(outage.id) or outage, policy)
    if outage.count:
        shelf.put_incident(outage)
    return outage


def ruled(shelf: Shelf, identity: str, ruling: Ruling, *, at: int, by: str, reason: str) -> Incident | None:
    """Write down what a person said of an incident; None if there is none. Who confirms an open outage closes its guard."""
    incident = shelf.incident(identity)
    if incident is None:
        return None
    act = Act(at=at, what=ruling.value, by=by, reason=reason)
    incident = replace(incident, ruling=ruling, ruled_at=at, by=by, reason=reason, acts=(*incident.acts, act))
    if ruling is Ruling.CONFIRMED and incident.kind is Kind.OUTAGE and incident.closed_at is None:
        watch = shelf.watch(incident.subject)
        if watch is not None:
            shelf.put_watch(incident.subject, learn(watch))
        incident = replace(incident, closed_at=at)
    shelf.put_incident(incident)
    return incident


def ruling_on(record: AddressRecord, incident: Incident) -> Confirmed | Reverted | None:
    """Return the event by which a ruling reaches an address; None where the incident has nothing to do with how it stands."""
    standing = record.standing(EVERYWHERE)
    holds = any(hold.incident == incident.id for hold in standing.held)
    at, by, reason = incident.ruled_at or 0, incident.by or "", incident.reason or ""
    if incident.ruling is Ruling.CONFIRMED and any(hold.incident == incident.id and hold.confirmed_at is None for hold in standing.held):
        return Confirmed(at=at, key=record.key, scope=EVERYWHERE, incident=incident.id, by=by, reason=reason)
    if incident.ruling is Ruling.REVERTED and (holds or standing.incident == incident.id):
        return Reverted(at=at, key=record.key, scope=EVERYWHERE, incident=incident.id, by=by, reason=reason)
    return None


def _would_block(event: Bounced, policy: Policy) -> bool:
    return event.outcome.disposition is Disposition.HARD and policy.treatment(event.outcome).action is Effect.BLOCK


def _domain(event: AnyEvent) -> str:
    return event.key.rpartition("@")[2]


def _backlog(shelf: Shelf, since: int) -> Backlog | None:
    after, upto = shelf.places_since(since)
    return Backlog(since, after, upto) if after < upto else None


def _looked_back(shelf: Shelf, outage: Incident, policy: Policy) -> Incident:
    """Take hard verdicts of the outage's provider into it, the newest of its backlog, and their blocks back."""
    backlog = outage.backlog
    if backlog is None:
        return outage
    first = max(backlog.after, backlog.upto - LOOKED_AT_ONCE)
    keys: dict[AddressKey, None] = {}
    for place, event in list(shelf.bounces_since(backlog.since, (first, backlog.upto))):
        mine = event.provider == outage.subject and event.held is None and backlog.since <= event.at <= outage.opened_at
        if mine and _would_block(event, policy):
            shelf.rewrite(place, replace(event, held=outage.id))
            outage = joined(outage, event.at, domain=_domain(event), sample=event.outcome.diagnostic)
            keys[event.key] = None
    for key in keys:
        shelf.hold(outage.id, key)
        shelf.refold(key, policy)
    return replace(outage, backlog=replace(backlog, upto=first) if backlog.after < first else None)


def _closed(shelf: Shelf, provider: str, at: int, policy: Policy) -> tuple[Incident, ...]:
    open_ = shelf.open_incidents(Kind.OUTAGE, provider)
    return _changed(shelf, ((outage, replace(_all_looked_back(shelf, outage, policy), closed_at=at)) for outage in open_))


def _all_looked_back(shelf: Shelf, outage: Incident, policy: Policy) -> Incident:
    """Hold all of a backlog: once an outage is closed, nobody looks for one. There is seldom any, since it goes within seconds."""
    while outage.backlog is not None:
        outage = _looked_back(shelf, outage, policy)
    return outage


def _changed(shelf: Shelf, pairs: Iterable[tuple[Incident, Incident]]) -> tuple[Incident, ...]:
    changed = tuple(after for before, after in list(pairs) if after != before)
    for incident in changed:
        shelf.put_incident(incident)
    return changed


def _flooded(shelf: Shelf, flood: _Flood, now: int) -> Iterator[Incident]:
    """Open an incident where the tallies tell a flood, or count on; yield it if it opened."""
    today = datetime.fromtimestamp(now, UTC).date()
    found = shelf.open_incidents(flood.kind, flood.subject)
    first = datetime.fromtimestamp(found[0].opened_at, UTC).date() if found else today
    since = min(first, today) - timedelta(days=flood.days)
    days = [since + timedelta(days=number) for number in range((today - since).days + 1)]
    sums = shelf.tallied([day.isoformat() for day in days], flood.words)

    def on(day: date) -> int:
        return sums.get(day.isoformat(), 0)

    is_known = min(sums, default=today.isoformat()) <= (today - timedelta(days=flood.known)).isoformat()
    if not is_known or not is_flood(on(today), [on(day) for day in days if day < first], flood.least):
        return
    count = sum(on(day) for day in days if day >= first)
    incident = found[0] if found else opened(flood.kind, flood.subject, now)
    if count > incident.count:
        incident = joined(incident, now, times=count - incident.count)
        shelf.put_incident(incident)
    if not found:
        yield incident


def _drop_tallies(shelf: Shelf, now: int) -> None:
    """Drop what nobody reads any more: a flood is counted from its first day, whenever that was."""
    floods = (flood for kind in (Kind.BACKSCATTER, Kind.COMPROMISED) for flood in shelf.open_incidents(kind))
    oldest = min((flood.opened_at for flood in floods), default=now) - TALLY_DAYS * _DAY
    shelf.drop_tallies(datetime.fromtimestamp(oldest, UTC).date().isoformat(), _DROPPED_AT_ONCE)
