"""The ledger: what is recorded together is recorded as one after the other."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from bounced.address import AddressKey
from bounced.outcome import Disposition
from bounced.policy import Policy
from bounced.record import AnyEvent
from bounced.scope import EVERYWHERE
from bounced.store import Recorded, Store, incidents, ledger
from bounced.store.memory import MemoryStore
from bounced.store.sqlite import SqliteStore
from tests.store.events import NEWS, NOON, blocked, bounced, complained, delivered, noticed, released, sent
from tests.store.test_incidents import DAY, dead, known, user

_PEOPLE = range(50)
_OUTAGE = 130


def course(seed: int) -> Sequence[AnyEvent]:
    """Return what happens in a bad half hour: copies, refusals, releases, and in the middle of it an outage of one provider."""
    chance = random.Random(seed)
    events: list[AnyEvent] = []
    for number in range(250):
        at, mail, key = NOON + 3 * number, chance.randrange(150), user(chance.choice(_PEOPLE))
        events.append(
            chance.choice(
                (
                    dead(mail, key, at, "google" if number > _OUTAGE else "example.com"),
                    dead(mail, key, at, "example.net"),
                    replace(bounced(mail, Disposition.SOFT, key, at), provider="example.net"),
                    replace(bounced(mail, Disposition.BLOCKED, key, at), provider="example.com"),
                    complained(mail, key, at),
                    noticed(mail, key, at),
                    delivered(key, at),
                    sent(mail, key, at),
                    blocked(key, NEWS, at),
                    released(key, chance.choice((NEWS, EVERYWHERE)), at),
                )
            )
        )
    outage = [dead(5_000 + number, user(100 + number), NOON + 400) for number in range(60)]
    return [*events[:_OUTAGE], *outage, *events[_OUTAGE:]]


@pytest.fixture(autouse=True)
def _opens_in_one_portion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a guard that opens hold all it has to at once: what is recorded between two portions is answered before the later one."""
    monkeypatch.setattr(incidents, "LOOKED_AT_ONCE", 10_000)


async def told(store: Store, events: Sequence[AnyEvent], together: int) -> tuple[list[Recorded], list[object]]:
    """Record what happens, so many at once; return every answer, and all that the store knows afterwards."""
    await known(store, range(100, 160))
    answers: list[Recorded] = []
    for first in range(0, len(events), together):
        answers += await asyncio.gather(*map(store.record, events[first : first + together]))
    keys = [AddressKey(key) for key in sorted({event.key for event in events})]
    return answers, [
        [store.look_up(key) for key in keys],
        [store.history(key) for key in keys],
        list(store.incidents()),
        dict(store.tallies()),
        [event for _, event in store.events(0, 10_000)],
        [list(store.held_by(incident.id)) for incident in store.incidents()],
        await store.settle(NOON + DAY),
    ]


@pytest.mark.parametrize("together", [1, 7, 64, 400])
async def test_what_comes_together_counts_as_one_after_the_other(together: int, tmp_path: Path) -> None:
    """Whatever happens, in batches of any size: every answer and all that is known are those of a store that takes one at a time."""
    events = course(together)
    store = await SqliteStore.open(tmp_path / "bounced.db", Policy())
    answers, afterwards = await told(store, events, together)
    await store.close()
    expected, known_then = await told(MemoryStore(Policy()), events, 1)
    assert any(answer.held for answer in expected)
    assert not all(answer.fresh for answer in expected)
    assert answers == expected
    assert afterwards == known_then


async def test_what_waits_unwritten_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: if an outage that opens in a batch did not have the rest of it written first, its first verdicts would go on to block."""
    for look in ("places_since", "bounces_since"):
        monkeypatch.setattr(ledger._Ledger, look, getattr(ledger.tables.Shelf, look))
    with pytest.raises(AssertionError):
        await test_what_comes_together_counts_as_one_after_the_other(400, tmp_path)
