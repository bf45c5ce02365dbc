"""The store in dictionaries: the fake for the tests of the other parts, which passes the same conformance suite.

For: every promise of the contract but durability. Never: production.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from bounced.address import AddressKey
from bounced.guard import Watch
from bounced.incident import Act, Incident, Kind, Ruling
from bounced.policy import Policy, adds, fold, step
from bounced.record import AddressRecord, AnyEvent, Bounced, Standing
from bounced.scope import EVERYWHERE
from bounced.store import (
    MOST_UNMATCHED,
    NoSuchIncident,
    Overview,
    Place,
    Recorded,
    StoreFault,
    Tally,
    Unmatched,
    incidents,
)
from bounced.store.rows import detail_without, event_of, event_row, replayed, token_of, unmatched_of, without
from bounced.takeover import Taken, imported


class MemoryStore:
    """The store in dictionaries. See the contract in bounced/store/__init__.py."""

    def __init__(self, policy: Policy) -> None:
        """Begin empty."""
        self._policy = policy
        self._records: dict[AddressKey, AddressRecord] = {}
        self._shelf = _Shelf(self._records)
        self._by_token: defaultdict[str, list[AnyEvent]] = defaultdict(list)
        self._recipients: dict[str, AddressKey] = {}
        self._unmatched: dict[str, Unmatched] = {}
        self._closed = False

    async def record(self, event: AnyEvent) -> Recorded:
        """Add an event and step its record. Raises StoreFault."""
        before = self.look_up(event.key)
        token = token_of(event)
        if token is not None and not adds(event, self._by_token[token]):
            self._shelf.tallies[replayed(event)] += 1
            return Recorded(before, before, fresh=False)
        guarded, outages = incidents.guarded(self._shelf, before, event, self._policy)
        after = step(before, guarded, self._policy)
        self._records[event.key] = after
        self._shelf.add(guarded)
        if token is not None:
            self._by_token[token].append(guarded)
        if (group := unmatched_of(guarded)) is not None:
            self._join(group)
        held = guarded.held if isinstance(guarded, Bounced) else None
        return Recorded(before, after, fresh=True, held=held, turned=(*outages, *incidents.told(self._shelf, guarded)))

    async def take_over(self, blocks: Sequence[Taken], *, at: int, by: str, source: str) -> int:
        """Add the blocks of another list; return how many changed anything. Raises StoreFault."""
        changed = 0
        for block in blocks:
            for key, since in zip(block.keys, block.since, strict=True):
                event, before = imported(block, key, since, at=at, by=by, source=source), self.look_up(key)
                if step(before, event, self._policy).standings != before.standings:
                    await self.record(event)
                    changed += 1
        return changed

    async def intern(self, opaque_id: str, key: AddressKey) -> None:
        """Make sure that `recipient_of(opaque_id)` answers `key`. Raises StoreFault, also if the id means somebody else."""
        self._refuse_if_closed()
        if self._recipients.setdefault(opaque_id, key) != key:
            raise StoreFault("an opaque id would mean two recipients")

    async def count(self, tallies: Mapping[Tally, int]) -> None:
        """Add to the tallies of what was refused. Raises StoreFault."""
        self._refuse_if_closed()
        self._shelf.tallies.update(tallies)

    async def settle(self, now: int) -> Sequence[Incident]:
        """Let the time pass: close incidents that are over, open a flood of backscatter. Raises StoreFault."""
        self._refuse_if_closed()
        while (outage := incidents.unfinished(self._shelf)) is not None:
            self._look_back(outage)
        return incidents.passed(self._shelf, now, self._policy)

    async def hold(self, provider: str, since: int, *, at: int, by: str, reason: str) -> Incident:
        """Make an incident, by hand, of the hard verdicts of a provider that were recorded from `since` on. Raises StoreFault."""
        self._refuse_if_closed()
        return self._look_back(incidents.by_hand(self._shelf, provider, since, Act(at=at, what="held", by=by, reason=reason)))

    async def forget(self, key: AddressKey) -> None:
        """Erase an address. Raises StoreFault."""
        self._refuse_if_closed()
        self._records.pop(key, None)
        for opaque_id in [one for one, recipient in self._recipients.items() if recipient == key]:
            del self._recipients[opaque_id]
        self._shelf.forget(key)
        self._by_token.clear()
        for event in self._shelf.events:
            if (token := token_of(event)) is not None:
                self._by_token[token].append(event)

    async def overview(self, since: int, now: int) -> Overview:
        """Count what there is. Raises StoreFault."""
        self._refuse_if_closed()
        outcomes = [event.outcome for event in self._shelf.events if isinstance(event, Bounced) and event.at >= since]
        blocks = [standing for record in self._records.values() for standing in record.standings if standing.blocks(now)]
        return Overview(
            len(self._records),
            Counter(standing.cause for standing in blocks if standing.cause is not None),
            Counter(outcome.category.value for outcome in outcomes),
            Counter(outcome.blocker.name for outcome in outcomes if outcome.blocker is not None),
        )

    async def rule(self, incident: str, ruling: Ruling, *, at: int, by: str, reason: str) -> int:
        """Let all that an incident holds count, or undo all that it did. Raises NoSuchIncident, StoreFault."""
        self._refuse_if_closed()
        if (held := self._shelf.incident(incident)) is not None:
            self._look_back(held)
        found = incidents.ruled(self._shelf, incident, ruling, at=at, by=by, reason=reason)
        if found is None:
            raise NoSuchIncident(incident)
        events = [incidents.ruling_on(self.look_up(key), found) for key in sorted(self._shelf.holds[incident])]
        return len([await self.record(event) for event in events if event is not None])

    def _look_back(self, outage: Incident) -> Incident:
        while outage.backlog is not None:
            outage = incidents.looked_back(self._shelf, outage, self._policy)
        return outage

    async def backup(self) -> Path:
        """Raise StoreFault: what is in memory alone has no copy."""
        raise StoreFault("a store in memory has no backup")

    def version(self) -> None:
        """Return None: nothing here tells what has changed."""

    def any_forgotten(self) -> bool:
        """Tell whether there is a pseudonym. Raises StoreFault."""
        self._refuse_if_closed()
        return any("@" not in key for key in self._records)

    def blocking(self, key: AddressKey) -> Sequence[Standing]:
        """Return the standings of an address that have a cause, EVERYWHERE first. Raises StoreFault."""
        return [standing for standing in self.look_up(key).standings if standing.cause is not None]

    def blocking_of_many(self, keys: Sequence[AddressKey]) -> Mapping[AddressKey, Sequence[Standing]]:
        """Return `blocking` of each address that has any such standing. Raises StoreFault."""
        return {key: standings for key in keys if (standings := self.blocking(key))}

    def look_up(self, key: AddressKey) -> AddressRecord:
        """Return the record of an address; an empty one for an address of which nothing is known. Raises StoreFault."""
        self._refuse_if_closed()
        return self._records.get(key) or AddressRecord(key=key)

    def history(self, key: AddressKey, newest: int | None = None) -> Sequence[AnyEvent]:
        """Return the kept events of an address, oldest first: all of them, or the `newest` so many. Raises StoreFault."""
        self._refuse_if_closed()
        return self._shelf.history(key)[-newest if newest else None :]

    def standings(self, after: Place | None = None, limit: int = 1000) -> Sequence[tuple[AddressKey, Standing]]:
        """Return standings in the order of address and scope, from the one after `after` on. Raises StoreFault."""
        self._refuse_if_closed()
        all_ = [
            (record.key, standing)
            for record in self._records.values()
            for standing in (record.standing(EVERYWHERE), *(one for one in record.standings if one.scope != EVERYWHERE))
        ]
        places = sorted(all_, key=lambda pair: (pair[0], pair[1].scope))
        return [(key, standing) for key, standing in places if after is None or (key, standing.scope) > after][:limit]

    def events(self, after: int, limit: int) -> Sequence[tuple[int, AnyEvent | None]]:
        """Return the events of all addresses that were recorded after number `after`, each with its number. Raises StoreFault."""
        self._refuse_if_closed()
        numbered = zip(self._shelf.numbers, self._shelf.events, strict=True)
        return [(number, event) for number, event in numbered if number > after][:limit]

    def last_event(self) -> int:
        """Return the number of the event that was recorded last. Raises StoreFault."""
        self._refuse_if_closed()
        return self._shelf.last

    def recipient_of(self, opaque_id: str) -> AddressKey | None:
        """Return the recipient that was interned under this id. Raises StoreFault."""
        self._refuse_if_closed()
        return self._recipients.get(opaque_id)

    def tallies(self, since: str = "") -> Mapping[Tally, int]:
        """Return the tallies from the day `since` on. Raises StoreFault."""
        self._refuse_if_closed()
        return {tally: times for tally, times in self._shelf.tallies.items() if tally.day >= since}

    def incidents(self) -> Sequence[Incident]:
        """Return all incidents, newest first. Raises StoreFault."""
        self._refuse_if_closed()
        return sorted(self._shelf.incidents.values(), key=lambda incident: (-incident.opened_at, incident.id))

    def held_by(self, incident: str, after: AddressKey | None = None, limit: int = 500) -> Sequence[AddressKey]:
        """Return addresses of which an incident holds or held a verdict, in their order. Raises StoreFault."""
        self._refuse_if_closed()
        return [key for key in sorted(self._shelf.holds[incident]) if key > (after or "")][:limit]

    def unmatched(self) -> Sequence[Unmatched]:
        """Return the groups of texts that no rule matched, the most frequent first. Raises StoreFault."""
        self._refuse_if_closed()
        return sorted(self._unmatched.values(), key=lambda group: (-group.count, -group.last, group.key))

    def _join(self, group: Unmatched) -> None:
        known = self._unmatched.get(group.key)
        if known is not None:
            group = replace(known, count=known.count + 1, first=min(known.first, group.first), last=max(known.last, group.last))
        self._unmatched[group.key] = group
        if len(self._unmatched) > MOST_UNMATCHED:
            del self._unmatched[min(self._unmatched.values(), key=lambda one: (one.last, one.key)).key]

    async def close(self) -> None:
        """Later calls raise StoreFault."""
        self._closed = True

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreFault("the store is closed")


class _Shelf:
    """What the course of incidents asks of a backend (bounced/store/incidents.py), in dictionaries."""

    def __init__(self, records: dict[AddressKey, AddressRecord]) -> None:
        self.records = records
        self.events: list[AnyEvent] = []
        self.numbers: list[int] = []
        self.last = 0
        self.tallies: Counter[Tally] = Counter()
        self.incidents: dict[str, Incident] = {}
        self.holds: defaultdict[str, set[AddressKey]] = defaultdict(set)
        self._watches: dict[str, Watch] = {}

    def add(self, event: AnyEvent) -> None:
        self.last += 1
        self.events.append(event)
        self.numbers.append(self.last)

    def history(self, key: AddressKey) -> Sequence[AnyEvent]:
        return tuple(event for event in self.events if event.key == key)

    def watch(self, provider: str) -> Watch | None:
        return self._watches.get(provider)

    def put_watch(self, provider: str, watch: Watch) -> None:
        self._watches[provider] = watch

    def incident(self, identity: str) -> Incident | None:
        return self.incidents.get(identity)

    def open_incidents(self, kind: Kind | None = None, subject: str | None = None) -> Sequence[Incident]:
        found = (one for one in self.incidents.values() if one.closed_at is None)
        return [one for one in found if kind in (None, one.kind) and subject in (None, one.subject)]

    def put_incident(self, incident: Incident) -> None:
        self.incidents[incident.id] = incident

    def hold(self, identity: str, key: AddressKey) -> None:
        self.holds[identity].add(key)

    def places_since(self, _at: int) -> incidents.Places:
        return 0, self.last

    def bounces_since(self, at: int, places: incidents.Places) -> Iterator[tuple[int, Bounced]]:
        first, end = (bisect_right(self.numbers, place) for place in places)
        for number, event in zip(self.numbers[first:end][::-1], self.events[first:end][::-1], strict=True):
            if isinstance(event, Bounced) and event.at >= at:
                yield number, event

    def rewrite(self, place: int, event: Bounced) -> None:
        self.events[bisect_left(self.numbers, place)] = event

    def refold(self, key: AddressKey, policy: Policy) -> None:
        self.records[key] = fold(key, self.history(key), policy)

    def forget(self, key: AddressKey) -> None:
        kept = [(number, event) for number, event in zip(self.numbers, self.events, strict=True) if event.key != key]
        self.numbers = [number for number, _ in kept]
        self.events = [_without_mention(event, key) for _, event in kept]
        for held in self.holds.values():
            held.discard(key)
        for identity, incident in self.incidents.items():
            self.incidents[identity] = structs.replace(incident, sample=without(incident.sample, key))

    def tallied(self, days: Sequence[str], words: Sequence[str]) -> dict[str, int]:
        sums: Counter[str] = Counter()
        for tally, times in self.tallies.items():
            if tally.day in days and tally.what in words:
                sums[tally.day] += times
        return dict(sums)

    def drop_tallies(self, before: str, most: int) -> None:
        for tally in sorted((one for one in self.tallies if one.day < before), key=lambda one: (one.day, one.what, one.source))[:most]:
            del self.tallies[tally]


def _without_mention(event: AnyEvent, key: AddressKey) -> AnyEvent:
    row = event_row(event)
    return event_of(row._replace(detail=detail_without(row.detail, key)))
