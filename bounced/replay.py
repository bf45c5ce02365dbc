"""The kept history judged anew: who would be blocked, or freed, under another policy.

For: trying a policy out on what really happened, before it is switched on. Never: a change of the store; a long look at it, since a reader
that stays makes the write-ahead log grow: every page and every history is a question of its own. Memory stays flat, whatever the history.

What incidents held stays held: that was written into the events when they were recorded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from bounced.address import AddressKey
from bounced.policy import Policy, fold
from bounced.record import AnyEvent, Standing
from bounced.scope import Scope
from bounced.store import Place

_PAGE = 1000


class Past(Protocol):
    """What is read of a store."""

    def standings(self, after: Place | None = None, limit: int = 1000) -> Sequence[tuple[AddressKey, Standing]]:
        """Return standings in the order of address and scope, from the one after `after` on."""
        ...

    def history(self, key: AddressKey) -> Sequence[AnyEvent]:
        """Return all kept events of an address, oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """What would be otherwise in one scope: the block that there is, and the one that there would be. None: clear."""

    scope: Scope
    is_: Standing | None
    would_be: Standing | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """One address, replayed: how many events it has, and what would change by the other policy."""

    key: AddressKey
    events: int
    changes: tuple[Change, ...]


def replay(past: Past, policy: Policy, now: int) -> Iterator[Replayed]:
    """Judge every address anew, in their order. Raises StoreFault."""
    for key, standings in groupby(_walked(past), key=lambda pair: pair[0]):
        events = past.history(key)
        is_ = {standing.scope: standing for _, standing in standings if standing.blocks(now)}
        would_be = {standing.scope: standing for standing in fold(key, events, policy).standings if standing.blocks(now)}
        changed = sorted(is_.keys() ^ would_be.keys())
        yield Replayed(key, len(events), tuple(Change(scope, is_.get(scope), would_be.get(scope)) for scope in changed))


def _walked(past: Past) -> Iterator[tuple[AddressKey, Standing]]:
    after: Place | None = None
    while page := past.standings(after, _PAGE):
        yield from page
        after = page[-1][0], page[-1][1].scope
