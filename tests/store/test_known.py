"""The filter of known addresses: False is certain, whatever was committed, forgotten or given a number again meanwhile."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bounced.address import AddressKey
from bounced.policy import Policy
from bounced.store import StoreFault, known, tables
from bounced.store.known import Filter
from bounced.store.reader import Lookups
from bounced.store.relay import RelayedStore
from bounced.store.sqlite import SqliteStore
from tests.store.events import ANNA, BERT, NOON, blocked, delivered, released

STRANGER = AddressKey("stranger@example.org")
_PEOPLE = [AddressKey(f"{number}@example.org") for number in range(6)]


async def warmed(store: Lookups) -> None:
    """Let a store read its addresses into memory."""
    assert store._connection is not None
    await store._read_known(store._connection)
    assert store._known is not None


async def test_a_stranger_is_told_from_memory(sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the addresses are in memory, one that is not among them costs no SQL, and one that is is looked up."""
    await sqlite_store.record(blocked(ANNA, at=NOON))
    assert sqlite_store.may_know(STRANGER)
    await warmed(sqlite_store)
    assert not sqlite_store.may_know(STRANGER)
    assert sqlite_store.may_know(ANNA)
    read: list[object] = []
    monkeypatch.setattr(tables, "blocking_of_many", lambda _connection, keys: read.append(keys) or {})
    assert sqlite_store.blocking_of_many([STRANGER, ANNA, STRANGER]) == {}
    assert sqlite_store.blocking_of_many([STRANGER]) == sqlite_store.blocking_of_many([]) == {}
    assert read == [[ANNA]]


async def test_what_is_committed_is_known_at_once(sqlite_store: SqliteStore, tmp_path: Path) -> None:
    """After `record` has returned, the address is known here and in another reader, without a pause."""
    other = RelayedStore(tmp_path / "bounced.db", tmp_path / "none.sock")
    await warmed(sqlite_store)
    await warmed(other)
    for person in _PEOPLE:
        assert not other.may_know(person)
        await sqlite_store.record(delivered(person, NOON))
        assert other.may_know(person)
        assert sqlite_store.may_know(person)
    await other.close()


async def test_a_pseudonym_is_noticed_at_once(sqlite_store: SqliteStore, tmp_path: Path) -> None:
    """As soon as somebody is forgotten, whoever reads knows that an address may stand under another name."""
    other = RelayedStore(tmp_path / "bounced.db", tmp_path / "none.sock")
    await warmed(other)
    assert not other.any_forgotten()
    await sqlite_store.record(blocked(AddressKey("#tag@example.org"), at=NOON))
    assert not other.any_forgotten()
    await sqlite_store.record(blocked(AddressKey("#abcdef"), at=NOON))
    assert other.any_forgotten()
    assert sqlite_store.any_forgotten()
    await other.close()


async def test_without_a_look_at_the_commits_it_would_be_stale(sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with an index that never seems to change, what was committed stays unknown."""
    await warmed(sqlite_store)
    monkeypatch.setattr(known.Commits, "now", lambda self: sqlite_store._known and sqlite_store._known._seen)
    await sqlite_store.record(blocked(ANNA, at=NOON))
    assert not sqlite_store.may_know(ANNA)


async def test_what_comes_after_the_forgotten_is_known(sqlite_store: SqliteStore) -> None:
    """Where the newest event is forgotten, and another one is recorded, between two looks, that one is known."""
    await sqlite_store.record(blocked(ANNA, at=NOON))
    await warmed(sqlite_store)
    await sqlite_store.forget(ANNA)
    await sqlite_store.record(blocked(BERT, at=NOON))
    assert sqlite_store.may_know(BERT)
    await warmed(sqlite_store)
    assert sqlite_store.may_know(BERT)
    assert not sqlite_store.may_know(STRANGER)


async def test_a_number_given_again_is_found_out(sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: if the number of the last event were given again, the address that got it next would stay hidden."""
    await sqlite_store.record(blocked(ANNA, at=NOON))
    await warmed(sqlite_store)
    monkeypatch.setattr(tables, "_ADD_EVENT_AT", "SELECT ?, ?")
    await sqlite_store.forget(ANNA)
    await sqlite_store.record(blocked(BERT, at=NOON))
    assert not sqlite_store.may_know(BERT)


async def test_far_behind_it_begins_anew(sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """More new addresses than are added at once are asked of the database, until all are in memory again."""
    await warmed(sqlite_store)
    monkeypatch.setattr(known, "MOST_BEHIND", 3)
    await asyncio.gather(*(sqlite_store.record(delivered(person, NOON)) for person in _PEOPLE))
    assert all(sqlite_store.may_know(person) for person in (*_PEOPLE, STRANGER))
    await warmed(sqlite_store)
    assert [sqlite_store.may_know(person) for person in (*_PEOPLE, STRANGER)] == [True] * len(_PEOPLE) + [False]


@settings(max_examples=30)
@given(happened=st.lists(st.tuples(st.booleans(), st.sampled_from(_PEOPLE)), max_size=12))
def test_whatever_happens_nobody_is_hidden(happened: list[tuple[bool, AddressKey]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Through any order of events and erasures: of whom the filter says "unknown" the database knows nothing."""

    async def run(directory: Path) -> None:
        store = await SqliteStore.open(directory / "bounced.db", Policy())
        await warmed(store)
        for records, person in happened:
            await (store.record(delivered(person, NOON)) if records else store.forget(person))
            for one in _PEOPLE:
                assert store.may_know(one) or store.look_up(one).known_since is None
        await store.close()

    asyncio.run(run(tmp_path_factory.mktemp("store")))


async def test_a_closed_store_knows_nothing(tmp_path: Path) -> None:
    """After the end every question is a fault, from memory too."""
    store = await SqliteStore.open(tmp_path / "bounced.db", Policy())
    await warmed(store)
    await store.close()
    for ask in (lambda: store.may_know(STRANGER), store.any_forgotten):
        with pytest.raises(StoreFault):
            ask()


def test_the_filter_is_small_and_seldom_wrong() -> None:
    """Up to 3 octets an address, and of strangers at most one in twenty looks known, also when there is no more room."""
    filter_ = Filter(100_000)
    assert len(filter_.octets) <= 300_000
    count = filter_.room
    filter_.add([f"{number}@example.org" for number in range(count)])
    assert all(filter_.may_hold(f"{number}@example.org") for number in range(0, count, 7))
    assert sum(filter_.may_hold(f"{number}@stranger.example") for number in range(20_000)) <= 1_000 + 200


async def test_a_block_and_a_release_are_answered_at_once(sqlite_store: SqliteStore) -> None:
    """An address that was asked for is asked for again after a commit: no answer is older than it."""
    await sqlite_store.record(blocked(ANNA))
    await warmed(sqlite_store)
    for event, held in ((released(ANNA), False), (blocked(ANNA), True), (released(ANNA), False)):
        for _ in range(2):
            assert bool(sqlite_store.blocking(ANNA)) is not held
            assert (ANNA in sqlite_store.blocking_of_many([BERT, ANNA])) is not held
        await sqlite_store.record(event)
        assert bool(sqlite_store.blocking(ANNA)) is held
        assert (ANNA in sqlite_store.blocking_of_many([BERT, ANNA])) is held
