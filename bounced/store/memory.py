"""The store in dictionaries: the fake for the tests of the other parts, which passes the same conformance suite.

For: every promise of the contract but durability. Never: production.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from bounced.address import AddressKey
from bounced.policy import Policy, adds, step
from bounced.record import AddressRecord, AnyEvent
from bounced.store import Recorded, StoreFault, Tally
from bounced.store.rows import replayed, token_of


class MemoryStore:
    """The store in dictionaries. See the contract in bounced/store/__init__.py."""

    def __init__(self, policy: Policy) -> None:
        """Begin empty."""
        self._policy = policy
        self._records: dict[AddressKey, AddressRecord] = {}
        self._events: defaultdict[AddressKey, list[AnyEvent]] = defaultdict(list)
        self._by_token: defaultdict[str, list[AnyEvent]] = defaultdict(list)
        self._recipients: dict[str, AddressKey] = {}
        self._tallies: Counter[Tally] = Counter()
        self._closed = False

    async def record(self, event: AnyEvent) -> Recorded:
        """Add an event and step its record. Raises StoreFault."""
        before = self.look_up(event.key)
        token = token_of(event)
        if token is not None and not adds(event, self._by_token[token]):
            self._tallies[replayed(event)] += 1
            return Recorded(before, before, fresh=False)
        after = step(before, event, self._policy)
        self._records[event.key] = after
        self._events[event.key].append(event)
        if token is not None:
            self._by_token[token].append(event)
        return Recorded(before, after, fresh=True)

    async def intern(self, opaque_id: str, key: AddressKey) -> None:
        """Make sure that `recipient_of(opaque_id)` answers `key`. Raises StoreFault, also if the id means somebody else."""
        self._refuse_if_closed()
        if self._recipients.setdefault(opaque_id, key) != key:
            raise StoreFault("an opaque id would mean two recipients")

    async def count(self, tallies: Mapping[Tally, int]) -> None:
        """Add to the tallies of what was refused. Raises StoreFault."""
        self._refuse_if_closed()
        self._tallies.update(tallies)

    def look_up(self, key: AddressKey) -> AddressRecord:
        """Return the record of an address; an empty one for an address of which nothing is known. Raises StoreFault."""
        self._refuse_if_closed()
        return self._records.get(key) or AddressRecord(key=key)

    def history(self, key: AddressKey) -> Sequence[AnyEvent]:
        """Return all kept events of an address, oldest first. Raises StoreFault."""
        self._refuse_if_closed()
        return tuple(self._events.get(key, ()))

    def recipient_of(self, opaque_id: str) -> AddressKey | None:
        """Return the recipient that was interned under this id. Raises StoreFault."""
        self._refuse_if_closed()
        return self._recipients.get(opaque_id)

    def tallies(self) -> Mapping[Tally, int]:
        """Return all tallies. Raises StoreFault."""
        self._refuse_if_closed()
        return dict(self._tallies)

    async def close(self) -> None:
        """Later calls raise StoreFault."""
        self._closed = True

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreFault("the store is closed")
