"""What every store promises.

For: the contract between intake, the doors and a backend. Never: deciding what an event does; `policy.step` does, inside the backend's
write transaction. A store keeps every event, and the record of an address is the fold of its events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from bounced.address import AddressKey
from bounced.fault import OwnFault
from bounced.incident import Incident, Ruling
from bounced.record import AddressRecord, AnyEvent, Cause, Standing
from bounced.scope import Scope
from bounced.takeover import Taken

Place = tuple[AddressKey, Scope]
"""Where a standing is in the order of all."""


class StoreFault(OwnFault):
    """The store could not do it, and nothing was changed: ask again later. The message holds no stranger's text."""


class NoSuchIncident(LookupError):
    """No incident has that id."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of an event. `fresh` is False where its token had told as much before: nothing was stored, `before` is `after`.

    `held` is the incident because of which the verdict blocks nobody, `turned` are the incidents that it opened or closed.
    """

    before: AddressRecord
    after: AddressRecord
    fresh: bool
    held: str | None = None
    turned: tuple[Incident, ...] = ()


class Tally(NamedTuple):
    """How often something was refused or repeated: `what` is one of our words, `source` an IP network or "", `day` YYYY-MM-DD in UTC."""

    day: str
    what: str
    source: str


@dataclass(frozen=True, slots=True)
class Overview:
    """How many there are: `known` addresses, blocks in force by cause, bounces since some time by category and by who refused us."""

    known: int
    blocks: Mapping[Cause, int]
    categories: Mapping[str, int]
    blockers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Unmatched:
    """Texts of bounces that no rule matched and that say the same (bounced/outcome/similarity.py): how many, when, and one of them.

    `sample` is a stranger's text, bounded, on one line, without whom it concerned.
    """

    key: str
    count: int
    first: int
    last: int
    sample: str


TALLY_DAYS = 35
"""Days of tallies that are read, so that a monthly mailing is among them; what is older goes."""

MOST_UNMATCHED = 1000
"""Groups of unmatched texts that are kept; beyond it the one goes that was longest not met."""


class Store(Protocol):
    """One suppression store. Coroutines write and return after the commit is on disk; plain methods read at once, from committed state.

    Everything may raise StoreFault. A reader sees what was committed before it asked (read your writes).
    """

    async def record(self, event: AnyEvent) -> Recorded:
        """Add an event and step its record, in one transaction. Returns when it is durable. Waiting calls share a transaction."""
        ...

    async def take_over(self, blocks: Sequence[Taken], *, at: int, by: str, source: str) -> int:
        """Add the blocks of another list, all in one transaction, and return how many changed anything; the others are not recorded.

        `at` is the time, `by` who brings the list, `source` its name.

        Made for many thousands at once, best in the order of their addresses.
        """
        ...

    async def intern(self, opaque_id: str, key: AddressKey) -> None:
        """Make sure that `recipient_of(opaque_id)` answers `key`, durably, before the return path leaves the house."""
        ...

    async def count(self, tallies: Mapping[Tally, int]) -> None:
        """Add to the tallies of what was refused."""
        ...

    async def settle(self, now: int) -> Sequence[Incident]:
        """Let the time pass: close incidents that are over, open a flood, drop old tallies; return what opened or closed."""
        ...

    async def hold(self, provider: str, since: int, *, at: int, by: str, reason: str) -> Incident:
        """Make an incident, by hand, of the hard verdicts of a provider that were recorded from `since` on; their blocks are undone.

        Where there are none, its count is 0 and it is not kept. Durable in parts, other calls between them: what is cut short is finished
        by holding the rest.
        """
        ...

    async def forget(self, key: AddressKey) -> None:
        """Erase an address: its events, standings, opaque ids, holds, its mention in what is kept of others, and kept mail that names it.

        When it returns, no file of the store has the address any more. Durable in parts: what is cut short is finished by saying it again.
        """
        ...

    async def overview(self, since: int, now: int) -> Overview:
        """Count what there is now, and the bounces recorded from `since` on. It may take seconds; other calls go on meanwhile."""
        ...

    async def rule(self, incident: str, ruling: Ruling, *, at: int, by: str, reason: str) -> int:
        """Let all that an incident holds count (CONFIRMED), or undo all that it did (REVERTED); return how many addresses changed.

        Durable in parts, other calls between them: what is cut short is finished by saying it again. What other bounces say of the same
        addresses is not touched. Raises NoSuchIncident.
        """
        ...

    async def backup(self) -> Path:
        """Make a file with all that is known at some moment after the call; every write that was durable before it is in it.

        Whoever asked removes the file. Calls go on meanwhile. Raises StoreFault also where a backend is backed up by other means.
        """
        ...

    def version(self) -> bytes | None:
        """Return what every commit changes, whoever makes it; None where that cannot be told now. Costs next to nothing, never raises."""
        ...

    def any_forgotten(self) -> bool:
        """Tell whether there may be a pseudonym, which stands for an address that was forgotten; False is certain."""
        ...

    def blocking(self, key: AddressKey) -> Sequence[Standing]:
        """Return, at less cost than `look_up`, the standings of an address that have a cause, EVERYWHERE first."""
        ...

    def blocking_of_many(self, keys: Sequence[AddressKey]) -> Mapping[AddressKey, Sequence[Standing]]:
        """Return `blocking` of each address that has any such standing, all of one moment."""
        ...

    def look_up(self, key: AddressKey) -> AddressRecord:
        """Return the record of an address; an empty one for an address of which nothing is known."""
        ...

    def history(self, key: AddressKey, newest: int | None = None) -> Sequence[AnyEvent]:
        """Return the kept events of an address, oldest first: all of them, or the `newest` so many."""
        ...

    def standings(self, after: Place | None = None, limit: int = 1000) -> Sequence[tuple[AddressKey, Standing]]:
        """Return standings in the order of address and scope, from the one after `after` on.

        Every known address has one EVERYWHERE, untouched or not. Fewer than `limit` are the last.
        """
        ...

    def events(self, after: int, limit: int) -> Sequence[tuple[int, AnyEvent | None]]:
        """Return the events of all addresses that were recorded after number `after`, in order, each with its number.

        No number is given twice. Fewer than `limit` are the last. None is where an event was forgotten; not each of them has one.
        """
        ...

    def last_event(self) -> int:
        """Return the number of the event that was recorded last; 0 where there is none."""
        ...

    def recipient_of(self, opaque_id: str) -> AddressKey | None:
        """Return the recipient that was interned under this id."""
        ...

    def tallies(self, since: str = "") -> Mapping[Tally, int]:
        """Return the tallies from the day `since` on."""
        ...

    def incidents(self) -> Sequence[Incident]:
        """Return all incidents, newest first."""
        ...

    def held_by(self, incident: str, after: AddressKey | None = None, limit: int = 500) -> Sequence[AddressKey]:
        """Return addresses of which an incident holds or held a verdict, in their order, from the one after `after` on."""
        ...

    def unmatched(self) -> Sequence[Unmatched]:
        """Return the groups of texts that no rule matched, the most frequent first."""
        ...

    async def close(self) -> None:
        """Finish what has begun, then let go of everything. Later calls raise StoreFault."""
        ...
