"""Replay: the kept history under another policy says exactly what the record would be, and changes nothing."""

from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bounced.address import AddressKey
from bounced.outcome import Category, Disposition
from bounced.policy import Effect, Policy, Treatment, step
from bounced.record import AddressRecord, AnyEvent, Bounced, Cause, Reverted, Sent
from bounced.replay import Replayed, replay
from bounced.scope import EVERYWHERE, Scope
from bounced.store import Store
from bounced.store.memory import MemoryStore
from bounced.store.reader import SqliteReader
from bounced.store.sqlite import SqliteStore
from tests.store.events import ANNA, BERT, NEWS, NOON, blocked, bounced, complained, delivered, noticed, released, seal

LATER = NOON + 100 * 86400
_AT = st.integers(0, 40).map(lambda days: NOON + days * 86400)
_MAILS = st.integers(0, 30)
_PEOPLE = st.sampled_from((ANNA, BERT))


def _sent(mail: int, key: AddressKey, at: int) -> Sent:
    return Sent(at=at, key=key, scope=NEWS, token=seal(mail))


_EVENTS: st.SearchStrategy[AnyEvent] = st.one_of(
    st.builds(bounced, _MAILS, st.sampled_from(Disposition), st.just(ANNA), _AT),
    st.builds(bounced, _MAILS.map(lambda number: number + 100), st.sampled_from(Disposition), st.just(BERT), _AT),
    st.builds(complained, _MAILS, st.just(ANNA), _AT),
    st.builds(noticed, _MAILS, st.just(ANNA), _AT),
    st.builds(_sent, _MAILS.map(lambda number: number + 200), _PEOPLE, _AT),
    st.builds(delivered, _PEOPLE, _AT),
    st.builds(blocked, _PEOPLE, st.sampled_from((EVERYWHERE, NEWS)), _AT),
    st.builds(released, _PEOPLE, st.sampled_from((EVERYWHERE, NEWS)), _AT),
)
_POLICIES = st.sampled_from(
    (
        Policy(soft_limit=1),
        Policy(soft_limit=3, silence=86400),
        Policy(pass_complaints=frozenset({NEWS})),
        Policy(categories={Category.NO_SUCH_USER: Treatment(action=Effect.TELL)}),
        Policy(categories={Category.MAILBOX_FULL: Treatment(action=Effect.STRIKE, threshold=2, expiry=86400 * 300, growth=2)}),
    )
)


def record_of(events: Sequence[AnyEvent], key: AddressKey, policy: Policy) -> AddressRecord:
    """Step by step, as the events came."""
    record = AddressRecord(key=key)
    for event in events:
        record = step(record, event, policy)
    return record


async def filled(events: Sequence[AnyEvent], store: Store) -> Store:
    """Record all events."""
    for event in events:
        await store.record(event)
    return store


@settings(max_examples=150, deadline=None)
@given(st.lists(_EVENTS, max_size=40))
async def test_under_its_own_policy_nothing_changes(events: list[AnyEvent]) -> None:
    """Replayed under the policy that was in force, every record is what it is."""
    store = await filled(events, MemoryStore(Policy()))
    found = list(replay(store, Policy(), LATER))
    assert [address.changes for address in found] == [()] * len(found)
    # An address whose only events were replays of another's token was never recorded.
    assert {address.key for address in found} == {event.key for event in events if store.history(event.key)}


@settings(max_examples=150, deadline=None)
@given(st.lists(_EVENTS, max_size=40), _POLICIES)
async def test_what_it_says_is_what_would_have_been(events: list[AnyEvent], policy: Policy) -> None:
    """Under another policy it names exactly the scopes in which a store with that policy would answer otherwise."""
    store, other = await filled(events, MemoryStore(Policy())), await filled(events, MemoryStore(policy))
    said = {
        (address.key, change.scope, change.would_be is not None) for address in replay(store, policy, LATER) for change in address.changes
    }
    for key in (ANNA, BERT):
        for scope in (EVERYWHERE, NEWS):
            is_, would_be = (one.look_up(key).standing(scope).blocks(LATER) for one in (store, other))
            assert ((key, scope, would_be) in said) == (is_ != would_be)


async def test_a_page_may_end_within_an_address(tmp_path: Path) -> None:
    """Hundreds of addresses with standings in many scopes are each replayed once, whatever the pages; the sums are right."""
    store = await SqliteStore.open(tmp_path / "bounced.db", Policy())
    people = [AddressKey(f"user{number:04}@example.org") for number in range(420)]
    for number, key in enumerate(people):
        await store.record(bounced(number, Disposition.SOFT, key))
        for scope in ("bills", "news"):
            await store.record(blocked(key, Scope(scope)))
    found = list(replay(SqliteReader(tmp_path / "bounced.db"), Policy(soft_limit=1), LATER))
    await store.close()
    assert [address.key for address in found] == people
    assert {address.events for address in found} == {3}
    assert {(change.scope, change.would_be.cause if change.would_be else None) for address in found for change in address.changes} == {
        (EVERYWHERE, Cause.SOFT)
    }


async def test_what_an_incident_held_stays_held() -> None:
    """A verdict that an incident holds, and one that was reverted, blocks nobody under any policy."""
    store = MemoryStore(Policy())
    event: Bounced = replace(bounced(1, Disposition.HARD), held="outage-20250615-aaaaa")
    await store.record(event)
    await store.record(replace(bounced(2, Disposition.HARD, BERT), held="outage-20250615-aaaaa"))
    await store.record(Reverted(at=NOON + 5, key=BERT, scope=EVERYWHERE, incident="outage-20250615-aaaaa", by="olga", reason=""))
    found: list[Replayed] = list(replay(store, Policy(soft_limit=1, outage_guard=False), LATER))
    assert [address.changes for address in found] == [(), ()]


def test_the_check_can_fail() -> None:
    """Control: the records under two of these policies do differ."""
    events = [bounced(mail) for mail in range(4)]
    assert record_of(events, ANNA, Policy(soft_limit=3)).block(NEWS, LATER) is not None
    assert record_of(events, ANNA, Policy()).block(NEWS, LATER) is None
