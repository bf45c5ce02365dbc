"""Incidents: what many bounces have in common, told to the operator once.

For: joining outages, refusals, floods of backscatter and signs of a stolen account into one thing each that is opened, counted and closed.
Never: the decision that a verdict is held (guard), a clock, or the store; who keeps incidents looks for an open one of the same kind and
subject before it opens another.
"""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from bounced.outcome import Disposition
from bounced.provenance import ADVICE, Provenance
from bounced.record import Bounced

MAX_SAMPLE = 500
"""Characters of a stranger's text that an incident shows."""

MAX_DOMAINS = 50
"""Affected domains that an incident names; `count` goes on."""

QUIET = 86_400
"""Seconds without another of its kind after which an incident closes by itself; an outage closes by its guard."""

MOST_REFUSED = 100
"""Refusals that are open at once, each by its subject: strangers' texts may name any list. Further ones are one incident."""

MORE = "more lists"
"""The subject of these."""

_CERTAIN = 7
_PRIOR = 60
# exp(-7) is 1 in 1,100. Sixty deliveries are taken to have gone before the first refusal, since those are not counted.

_FLOOD_FACTOR = 10


class Kind(StrEnum):
    """What sort of trouble it is."""

    OUTAGE = "outage"
    """A provider calls established addresses dead: its hard verdicts are held."""
    REFUSED = "refused"
    """Somebody refuses mail from one of our IP addresses or domains."""
    BACKSCATTER = "backscatter"
    """Bounces of mail that we never sent, by the thousand: somebody forges our return path."""
    COMPROMISED = "compromised"
    """Bounces of mail that did leave our servers, but that no mailer announced; or far more of signed mail than ever."""


class Ruling(StrEnum):
    """What a person said of the verdicts that an incident holds."""

    CONFIRMED = "confirmed"
    REVERTED = "reverted"


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """What a person (`by`) did about an incident: `what` is `held` or a ruling. Acts are added, never changed."""

    at: int
    what: str
    by: str
    reason: str


class Backlog(msgspec.Struct, frozen=True):
    """Events from before an outage was known whose verdicts are yet to be held: the places after the first number, up to the second.

    Only what was recorded from `since` on belongs to it.
    """

    since: int
    after: int
    upto: int


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """Many bounces with one cause. `subject` is who or what: a provider, a blocker and what of ours it refuses, a return-path domain.

    `count` is how many bounces belong to it, `sample` the words of the first, `domains` whose mail is concerned, as many as are named.
    `ours` and `delisting` are the blocker's. `accepted_in_row` deliveries to those domains were told since the last refusal, and
    `accepted_before` between the first and the last. `ruling` is what a person said last of what it holds, with who, when and why; `acts`
    all that persons did, oldest first. `backlog` is what an outage is yet to hold of the time before it was known.
    """

    id: str
    kind: Kind
    subject: str
    opened_at: int
    last_at: int
    closed_at: int | None = None
    count: int = 0
    sample: str = ""
    domains: tuple[str, ...] = ()
    ours: str | None = None
    delisting: str | None = None
    accepted_before: int = 0
    accepted_in_row: int = 0
    ruling: Ruling | None = None
    ruled_at: int | None = None
    by: str | None = None
    reason: str | None = None
    acts: tuple[Act, ...] = ()
    backlog: Backlog | None = None


def opened(kind: Kind, subject: str, at: int) -> Incident:
    """Open an incident with nothing in it yet. Its id is the same for the same kind, subject and second."""
    seal = (
        base64.b32encode(hashlib.sha256(f"{kind}\0{subject}\0{at}".encode("utf-8", "backslashreplace")).digest())[:5]
        .decode("ascii")
        .lower()
    )
    day = datetime.fromtimestamp(at, UTC).strftime("%Y%m%d")
    return Incident(id=f"{kind}-{day}-{seal}", kind=kind, subject=subject, opened_at=at, last_at=at)


def joined(incident: Incident, at: int, *, domain: str = "", sample: str = "", times: int = 1) -> Incident:
    """Count one more, or `times`. The first sample stays; every new domain is named until there are many."""
    known = incident.domains
    return replace(
        incident,
        last_at=max(incident.last_at, at),
        count=incident.count + times,
        sample=incident.sample or sample[:MAX_SAMPLE],
        domains=(*known, domain) if domain and domain not in known and len(known) < MAX_DOMAINS else known,
    )


def refusal_subject(event: Bounced) -> str | None:
    """Name who refuses what of ours; None for a bounce in which nobody does.

    Many receivers refuse by filters of their own, without a name: one incident for each receiver would be a flood of alarms.
    """
    blocker = event.outcome.blocker
    if blocker is None:
        return f"no list named, {event.outcome.category}" if event.outcome.disposition is Disposition.BLOCKED else None
    return f"{blocker.name} {blocker.ours}" if blocker.ours else blocker.name


def refused(incident: Incident | None, event: Bounced, subject: str | None = None) -> Incident | None:
    """Join a refusal to the open incident of its subject, or of MORE, or open one. None for a bounce in which nobody refuses us."""
    blocker = None if subject == MORE else event.outcome.blocker
    subject = subject or refusal_subject(event)
    if subject is None:
        return None
    now = incident or replace(opened(Kind.REFUSED, subject, event.at), ours=blocker.ours if blocker else None)
    now = joined(now, event.at, domain=event.key.rpartition("@")[2], sample=event.outcome.diagnostic)
    before = now.accepted_before + now.accepted_in_row
    delisting = now.delisting or (blocker.delisting if blocker else None)
    return replace(now, delisting=delisting, accepted_before=before, accepted_in_row=0)


def accepted(incident: Incident, at: int, domain: str) -> Incident:
    """Count a delivery to a domain that a refusal concerns; close it after so many in a row that the refusals must have ended.

    Which of our addresses a delivery came from is not told, and a filter refuses only a share of what it gets. If that share went on, so
    many deliveries without a refusal between would come by chance once in 1,100 times.
    """
    if incident.kind is not Kind.REFUSED or incident.closed_at is not None or domain not in incident.domains or at <= incident.last_at:
        return incident
    in_row = incident.accepted_in_row + 1
    over = in_row * incident.count >= _CERTAIN * (incident.count + incident.accepted_before + _PRIOR)
    return replace(incident, accepted_in_row=in_row, closed_at=at if over else None)


def settled(incident: Incident, now: int) -> Incident:
    """Close what stayed quiet for a day. An outage is closed by its guard alone."""
    if incident.closed_at is None and incident.kind is not Kind.OUTAGE and now >= incident.last_at + QUIET:
        return replace(incident, closed_at=now)
    return incident


def is_flood(today: int, earlier: Sequence[int], least: int) -> bool:
    """Tell whether a day's count is a flood: `least` or more, and ten times the worst of the `earlier` days."""
    return today >= least and today >= _FLOOD_FACTOR * max(earlier, default=0)


def advice(kind: Kind) -> str | None:
    """Return what to do about an incident of forgery or abuse; None for the other kinds."""
    provenance = _ADVISED.get(kind)
    return None if provenance is None else ADVICE[provenance]


_ADVISED = {Kind.BACKSCATTER: Provenance.FORGED, Kind.COMPROMISED: Provenance.COMPROMISED}
