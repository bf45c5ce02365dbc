"""Incidents: what many bounces have in common, told to the operator once.

For: joining outages, refusals, floods of backscatter and signs of a stolen account into one thing each that is opened, counted and closed.
Never: the decision that a verdict is held (guard), a clock, or the store; who keeps incidents looks for an open one of the same kind and
subject before it opens another.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from bounced.record import Bounced

MAX_SAMPLE = 500
"""Characters of a stranger's text that an incident shows."""

MAX_DOMAINS = 50
"""Affected domains that an incident names; `count` goes on."""

QUIET = 86_400
"""Seconds without another of its kind after which an incident closes by itself; an outage closes by its guard."""

_FLOOD = 1_000
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
    """Bounces of mail that did leave our servers, but that no mailer announced."""


class Ruling(StrEnum):
    """What a person said of the verdicts that an incident holds."""

    CONFIRMED = "confirmed"
    REVERTED = "reverted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What a person (`by`) did about an incident: `what` is `held` or a ruling. Acts are added, never changed."""

    at: int
    what: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Many bounces with one cause. `subject` is who or what: a provider, a blocker and what of ours it refuses, a return-path domain.

    `count` is how many bounces belong to it, `sample` the words of the first, `domains` whose mail is concerned, as many as are named.
    `ours` and `delisting` are the blocker's. `ruling` is what a person said last of what it holds, with who, when and why; `acts` all that
    persons did, oldest first.
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
    ruling: Ruling | None = None
    ruled_at: int | None = None
    by: str | None = None
    reason: str | None = None
    acts: tuple[Act, ...] = ()


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
    """Name who refuses what of ours; None for a bounce in which nobody does."""
    blocker = event.outcome.blocker
    if blocker is None:
        return None
    return f"{blocker.name} {blocker.ours}" if blocker.ours else blocker.name


def refused(incident: Incident | None, event: Bounced) -> Incident | None:
    """Join a refusal to the open incident of its subject, or open one. None for a bounce in which nobody refuses us."""
    subject, blocker = refusal_subject(event), event.outcome.blocker
    if subject is None or blocker is None:
        return None
    now = incident or replace(opened(Kind.REFUSED, subject, event.at), ours=blocker.ours)
    now = joined(now, event.at, domain=event.key.rpartition("@")[2], sample=event.outcome.diagnostic)
    return replace(now, delisting=now.delisting or blocker.delisting)


def accepted(incident: Incident, at: int, domain: str) -> Incident:
    """Close a refusal when mail to a domain that it concerns was accepted after its last bounce."""
    if incident.kind is Kind.REFUSED and incident.closed_at is None and domain in incident.domains and at > incident.last_at:
        return replace(incident, closed_at=at)
    return incident


def settled(incident: Incident, now: int) -> Incident:
    """Close what stayed quiet for a day. An outage is closed by its guard alone."""
    if incident.closed_at is None and incident.kind is not Kind.OUTAGE and now >= incident.last_at + QUIET:
        return replace(incident, closed_at=now)
    return incident


def is_flood(today: int, earlier: Sequence[int]) -> bool:
    """Tell whether a day's refused bounces are a flood: a thousand, and ten times the worst of the `earlier` days."""
    return today >= _FLOOD and today >= _FLOOD_FACTOR * max(earlier, default=0)
