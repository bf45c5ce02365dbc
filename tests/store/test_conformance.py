"""What every store promises (bounced/store/__init__.py), asked of every store that there is."""

import asyncio
import itertools
from contextlib import closing
from functools import reduce

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bounced.address import AddressKey
from bounced.incident import Ruling
from bounced.outcome import Disposition
from bounced.outcome.judge import UNMATCHED
from bounced.policy import Policy, step
from bounced.record import AddressRecord, AnyEvent, Cause
from bounced.scope import EVERYWHERE, Scope
from bounced.store import Store, StoreFault, Tally, Unmatched, memory, tables
from bounced.store.copies import verify
from bounced.store.memory import MemoryStore
from bounced.store.reader import SqliteReader
from bounced.takeover import Taken, imported
from tests.store.conftest import OPENERS, found
from tests.store.events import (
    ANNA,
    BERT,
    NEWS,
    NOON,
    blocked,
    bounced,
    complained,
    confirmed,
    delivered,
    noticed,
    released,
    reverted,
    seal,
    sent,
    unsigned,
)

REPLAYED = Tally("2025-06-15", "replayed", "")
_NUMBERS = st.integers(0, 6)
_TIMES = st.integers(NOON, NOON + 9)
_PEOPLE = st.sampled_from((ANNA, BERT))
_EVENTS: st.SearchStrategy[AnyEvent] = st.one_of(
    st.builds(bounced, _NUMBERS, st.sampled_from(Disposition), st.just(ANNA), _TIMES),
    st.builds(bounced, _NUMBERS.map(lambda number: number + 100), st.sampled_from(Disposition), st.just(BERT), _TIMES),
    st.builds(complained, _NUMBERS, st.just(ANNA), _TIMES),
    st.builds(unsigned, _NUMBERS.map(lambda number: number + 200), st.sampled_from(Disposition), st.just(ANNA), _TIMES),
    st.builds(noticed, _NUMBERS, st.just(ANNA), _TIMES),
    st.builds(sent, _NUMBERS, st.just(ANNA), _TIMES),
    st.builds(confirmed, _PEOPLE, _TIMES),
    st.builds(reverted, _PEOPLE, _TIMES),
    st.builds(delivered, _PEOPLE, _TIMES),
    st.builds(blocked, _PEOPLE, st.sampled_from((EVERYWHERE, NEWS, Scope("bills"))), _TIMES),
    st.builds(released, _PEOPLE, st.sampled_from((EVERYWHERE, NEWS)), _TIMES),
)


def fold(key: AddressKey, events: list[AnyEvent]) -> AddressRecord:
    """Add up the events as the policy says."""
    return reduce(lambda record, event: step(record, event, Policy()), events, AddressRecord(key=key))


def test_every_store_is_opened_here() -> None:
    """A store that is added to the package takes part in this suite, or the suite fails."""
    assert set(found()) == set(OPENERS)


async def test_nothing_is_known_of_strangers(store: Store) -> None:
    """An address of which nothing is known has an empty record and no history."""
    assert store.look_up(ANNA) == AddressRecord(key=ANNA)
    assert list(store.history(ANNA)) == []


async def test_the_fifth_soft_bounce_blocks(store: Store) -> None:
    """Four soft bounces of four mails leave the address clear, the fifth blocks it, and each answer tells before and after."""
    for mail in range(4):
        recorded = await store.record(bounced(mail))
        assert recorded.fresh
        assert recorded.after.standing(EVERYWHERE).strikes == mail + 1
    assert store.look_up(ANNA).block(NEWS, NOON) is None
    recorded = await store.record(bounced(4))
    block = store.look_up(ANNA).block(NEWS, NOON)
    assert recorded.before.block(NEWS, NOON) is None
    assert recorded.after == store.look_up(ANNA)
    assert block is not None
    assert (block.cause, block.category, block.since) == (Cause.SOFT, "mailbox-full", NOON)


async def test_a_delivery_begins_the_count_again(store: Store) -> None:
    """A success between soft bounces means that they are not consecutive."""
    for mail in range(4):
        await store.record(bounced(mail))
    await store.record(delivered())
    await store.record(bounced(4, at=NOON + 100))
    assert store.look_up(ANNA).standing(EVERYWHERE).strikes == 1


async def test_a_release_clears_all_scopes(store: Store) -> None:
    """A release everywhere undoes the block everywhere and those of the streams, and older mail counts no more."""
    await store.record(bounced(1, Disposition.HARD))
    await store.record(complained(2))
    await store.record(blocked(scope=Scope("bills")))
    assert len(store.look_up(ANNA).standings) == 3
    await store.record(released(at=NOON + 5))
    record = store.look_up(ANNA)
    assert [standing.scope for standing in record.standings] == [EVERYWHERE]
    assert record.block(NEWS, NOON) is None
    late = await store.record(bounced(3, Disposition.HARD, at=NOON + 9))
    assert late.fresh
    assert store.look_up(ANNA) == record


async def test_a_replay_counts_once(store: Store) -> None:
    """Copies of a bounce change nothing, are not kept, and are tallied."""
    first = await store.record(bounced(1))
    for _ in range(5):
        again = await store.record(bounced(1))
        assert (again.fresh, again.before, again.after) == (False, first.after, first.after)
    assert list(store.history(ANNA)) == [bounced(1)]
    assert store.tallies() == {REPLAYED: 5}


async def test_a_notice_is_not_told_twice(store: Store) -> None:
    """A second notice about one mail adds nothing, and the address has a history without a standing."""
    assert (await store.record(noticed(1))).fresh
    assert not (await store.record(noticed(1))).fresh
    assert store.look_up(ANNA) == AddressRecord(key=ANNA, known_since=NOON)
    assert list(store.history(ANNA)) == [noticed(1)]


async def test_hard_supersedes_soft_of_the_same_mail(store: Store) -> None:
    """A permanent failure counts although the same mail had reported a soft one before; the reverse does not."""
    assert (await store.record(bounced(1, Disposition.SOFT))).fresh
    assert (await store.record(bounced(1, Disposition.HARD))).fresh
    assert not (await store.record(bounced(1, Disposition.SOFT))).fresh
    assert store.look_up(ANNA).standing(EVERYWHERE).cause is Cause.HARD


async def test_a_complaint_is_a_matter_of_its_own(store: Store) -> None:
    """A complaint counts beside the bounce of the same mail, in its stream alone, and once."""
    await store.record(bounced(1, Disposition.HARD, BERT))
    await store.record(bounced(2))
    assert (await store.record(complained(2))).fresh
    assert not (await store.record(complained(2))).fresh
    assert store.look_up(ANNA).standing(NEWS).cause is Cause.COMPLAINT
    assert store.look_up(ANNA).block(Scope("bills"), NOON) is None


async def test_what_was_recorded_is_read_at_once(store: Store) -> None:
    """A lookup after the answer sees what was answered, each time."""
    for mail in range(50):
        key = AddressKey(f"user{mail}@example.org")
        recorded = await store.record(bounced(mail, Disposition.HARD, key))
        assert store.look_up(key) == recorded.after
        assert store.look_up(key).block(NEWS, NOON) is not None


async def test_many_are_read_as_each_alone(store: Store) -> None:
    """What may keep mail away is told of many as of each: its standings with a cause, in their order, and nothing of who has none."""
    odd = [AddressKey(key) for key in ('"a b\\\\c\\"d"@example.org', "j\xf6s\U0001f600@example.org", "o'neil@example.org")]
    for key in (ANNA, *odd):
        for scope in (NEWS, EVERYWHERE, Scope("bills")):
            await store.record(blocked(key, scope))
    await store.record(released(ANNA, NEWS, NOON))
    await store.record(bounced(1, key=BERT))
    people = [ANNA, BERT, *odd, ANNA, AddressKey("stranger@example.org")]
    expected = {key: [one for one in store.look_up(key).standings if one.cause is not None] for key in people}
    assert [len(expected[key]) for key in people] == [2, 0, 3, 3, 3, 2, 0]
    assert {key: list(store.blocking(key)) for key in people} == expected
    many = store.blocking_of_many(people)
    assert {key: list(standings) for key, standings in many.items()} == {key: found for key, found in expected.items() if found}
    assert store.blocking_of_many([]) == {}


async def test_steps_are_serialised(store: Store) -> None:
    """Hundreds of calls at once to few addresses lose no strike, and every answer's `before` is some answer's `after`."""
    keys = [AddressKey(f"user{number}@example.org") for number in range(20)]
    events = [bounced(mail, Disposition.SOFT, keys[mail % 20]) for mail in range(400)]
    answers = await asyncio.gather(*(store.record(event) for event in events))
    for key in keys:
        assert store.look_up(key).standing(EVERYWHERE).strikes == 20
        strikes = sorted(answer.before.standing(EVERYWHERE).strikes for answer in answers if answer.after.key == key)
        assert strikes == list(range(20))


async def test_one_mail_counts_once_when_copies_come_at_once(store: Store) -> None:
    """Of a hundred copies that wait together, one is fresh."""
    answers = await asyncio.gather(*(store.record(bounced(7)) for _ in range(100)))
    assert sum(answer.fresh for answer in answers) == 1
    assert store.tallies()[REPLAYED] == 99


async def test_history_is_in_order(store: Store) -> None:
    """The history of an address is its own events in the order of their recording, each as it was given."""
    events: list[AnyEvent] = [
        noticed(1),
        bounced(1, Disposition.SOFT, at=NOON + 5),
        bounced(2, Disposition.BLOCKED, at=NOON - 5),
        complained(2),
        delivered(),
        blocked(scope=NEWS),
        released(scope=NEWS),
    ]
    for event in events:
        await store.record(bounced(100 + len(store.history(BERT)), Disposition.SOFT, BERT))
        await store.record(event)
    assert list(store.history(ANNA)) == events
    assert list(store.history(ANNA, 3)) == events[-3:]
    assert list(store.history(ANNA, 1000)) == events
    assert len(store.history(BERT)) == len(events)


async def test_an_opaque_id_means_one_recipient(store: Store) -> None:
    """An id that was interned is known, again and again; it cannot come to mean somebody else."""
    assert store.recipient_of("a" * 16) is None
    for _ in range(2):
        await store.intern("a" * 16, ANNA)
        assert store.recipient_of("a" * 16) == ANNA
    with pytest.raises(StoreFault):
        await store.intern("a" * 16, BERT)
    both = await asyncio.gather(store.intern("b" * 16, ANNA), store.intern("b" * 16, BERT), return_exceptions=True)
    assert [type(result) for result in both] == [type(None), StoreFault]
    assert store.recipient_of("a" * 16) == store.recipient_of("b" * 16) == ANNA


async def test_tallies_add_up(store: Store) -> None:
    """Tallies grow by what is added, each by itself."""
    forged, foreign = Tally("2026-01-01", "forged", "192.0.2.0/24"), Tally("2026-01-02", "foreign", "")
    await store.count({forged: 3, foreign: 1})
    await store.count({forged: 4})
    await store.count({})
    assert store.tallies() == {forged: 7, foreign: 1}
    assert store.tallies("2026-01-02") == {foreign: 1}


async def test_a_closed_store_says_so(store: Store) -> None:
    """After closing, every call raises StoreFault, and closing again does nothing."""
    await store.record(bounced(1))
    await store.close()
    await store.close()
    for read in (
        lambda: store.look_up(ANNA),
        lambda: store.history(ANNA),
        lambda: store.recipient_of("a" * 16),
        store.tallies,
        store.standings,
    ):
        with pytest.raises(StoreFault):
            read()
    for write in (
        store.record(bounced(2)),
        store.intern("a" * 16, ANNA),
        store.count({REPLAYED: 1}),
        store.forget(ANNA),
        store.overview(0, NOON),
    ):
        with pytest.raises(StoreFault):
            await write


async def test_closing_finishes_what_waits(store: Store) -> None:
    """Calls that wait when the store is closed are answered: done, and not dropped."""
    waiting = [asyncio.create_task(store.record(bounced(mail))) for mail in range(300)]
    await asyncio.sleep(0)  # lets them call
    await store.close()
    assert all(answer.fresh for answer in await asyncio.gather(*waiting))


_HISTORIES = itertools.count(1)


def afresh(events: list[AnyEvent]) -> list[AnyEvent]:
    """Return the events as if they were about people and mails of whom no store has heard: each example has the same stores."""
    number = next(_HISTORIES)
    moved = [replace(event, key=AddressKey(f"{number}.{event.key}")) for event in events]
    return [
        replace(event, token=seal(number << 20)[:19] + event.token[19:]) if hasattr(event, "token") and event.token else event
        for event in moved
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_EVENTS, max_size=25).map(afresh))
async def test_a_record_is_the_fold_of_its_history(store: Store, events: list[AnyEvent]) -> None:
    """Whatever comes, in whatever order, history keeps what was fresh, and the record that is looked up is what history adds up to."""
    expected: dict[AddressKey, list[AnyEvent]] = {event.key: [] for event in events}
    for event in events:
        before = store.look_up(event.key)
        recorded = await store.record(event)
        assert recorded.before == before
        if recorded.fresh:
            expected[event.key].append(event)
    for key, kept in expected.items():
        assert list(store.history(key)) == kept
        assert store.look_up(key) == fold(key, kept)


def places(store: Store, limit: int = 1000) -> list[tuple[AddressKey, Scope]]:
    """Walk all standings, a page at a time."""
    walked: list[tuple[AddressKey, Scope]] = []
    while True:
        page = store.standings(walked[-1] if walked else None, limit)
        walked += [(key, standing.scope) for key, standing in page]
        if len(page) < limit:
            return walked


async def test_standings_are_walked_in_order(store: Store) -> None:
    """A page after the other gives every standing once, in the order of address and scope, whatever the size of the page."""
    for mail, key in enumerate((BERT, ANNA, AddressKey("\u00fc@example.org"), AddressKey("Anna@example.org"))):
        await store.record(bounced(mail, Disposition.HARD, key))
    await store.record(complained(9, BERT))
    await store.record(noticed(10, AddressKey("carl@example.org")))
    expected = [
        (AddressKey("Anna@example.org"), EVERYWHERE),
        (ANNA, EVERYWHERE),
        (BERT, EVERYWHERE),
        (BERT, NEWS),
        (AddressKey("carl@example.org"), EVERYWHERE),
        (AddressKey("\u00fc@example.org"), EVERYWHERE),
    ]
    assert [places(store, limit) for limit in (1, 2, 3, 1000)] == [expected] * 4
    assert dict(store.standings())[ANNA] == store.look_up(ANNA).standing(EVERYWHERE)
    assert store.standings((BERT, EVERYWHERE), 1) == [(BERT, store.look_up(BERT).standing(NEWS))]


async def test_a_backup_has_what_was_recorded_before(store: Store) -> None:
    """The copy is one sound file that knows every event; a store that cannot give one says so."""
    recorded = await store.record(bounced(1, Disposition.HARD))
    if isinstance(store, MemoryStore):
        with pytest.raises(StoreFault, match="no backup"):
            await store.backup()
        return
    copy = await store.backup()
    verify(copy)
    with closing(SqliteReader(copy)) as reader:
        assert reader.look_up(ANNA) == recorded.after
        assert list(reader.history(ANNA)) == [bounced(1, Disposition.HARD)]


async def test_an_overview_counts(store: Store) -> None:
    """It counts known addresses, blocks in force by cause, and of late bounces the categories and who refused us."""
    await store.record(bounced(2, Disposition.SOFT, BERT, NOON - 9000))
    await store.record(bounced(1, Disposition.HARD))
    await store.record(bounced(3, Disposition.BLOCKED, BERT))
    await store.record(blocked(AddressKey("carl@example.org"), NEWS))
    overview = await store.overview(NOON - 60, NOON)
    assert (overview.known, dict(overview.blocks)) == (3, {Cause.HARD: 1, Cause.MANUAL: 1})
    assert dict(overview.categories) == {"no-such-user": 1, "blocked-ip": 1}
    assert dict(overview.blockers) == {"Example list": 2}
    assert dict((await store.overview(NOON - 10_000, NOON)).categories) == {"no-such-user": 1, "blocked-ip": 1, "mailbox-full": 1}


async def test_what_is_forgotten_is_gone(store: Store) -> None:
    """After forgetting, nothing is known of the address, by itself, by an opaque id or a hold, and others are as they were."""
    await store.intern("a" * 16, ANNA)
    await store.intern("b" * 16, BERT)
    for mail, key in ((1, ANNA), (2, BERT), (3, ANNA)):
        await store.record(replace(bounced(mail, Disposition.HARD, key), provider="google"))
    await store.record(complained(3))
    held = (await store.hold("google", NOON - 60, at=NOON, by="olga", reason="a bad day")).id
    of_bert = store.look_up(BERT), store.history(BERT)
    await store.forget(ANNA)
    assert (store.look_up(ANNA), list(store.history(ANNA)), store.recipient_of("a" * 16)) == (AddressRecord(key=ANNA), [], None)
    assert (store.look_up(BERT), store.history(BERT), store.recipient_of("b" * 16)) == (*of_bert, BERT)
    assert list(store.held_by(held)) == [BERT]
    assert places(store) == [(BERT, EVERYWHERE)]
    assert (await store.record(bounced(1, Disposition.HARD))).fresh
    await store.forget(AddressKey("nobody@example.org"))


async def test_others_mention_the_forgotten_no_more(store: Store) -> None:
    """What a bounce of somebody else says of the address is taken out of it, in any case, and nothing of longer addresses."""
    words = "550 5.1.1 <ANNA@Example.org>: b+x+anna=example.org@b.test for\nanna@example.org, joanna@example.org, anna@example.org.uk"
    mentioning = replace(bounced(1, Disposition.BLOCKED, BERT), final_recipient="anna@example.org")
    mentioning = replace(mentioning, outcome=replace(mentioning.outcome, diagnostic=words))
    await store.record(mentioning)
    await store.record(bounced(2, Disposition.HARD))
    await store.forget(ANNA)
    (event,) = store.history(BERT)
    assert event == replace(
        mentioning,
        final_recipient="[forgotten]",
        outcome=replace(
            mentioning.outcome,
            diagnostic="550 5.1.1 <[forgotten]>: b+x+[forgotten]@b.test for\n[forgotten], joanna@example.org, anna@example.org.uk",
        ),
    )
    assert [incident.sample for incident in store.incidents()] == [event.outcome.diagnostic]


def unmatched(mail: int, text: str, at: int = NOON) -> AnyEvent:
    """Return a bounce whose text no rule matched."""
    event = bounced(mail, at=at)
    return replace(event, outcome=replace(event.outcome, rule=UNMATCHED, diagnostic=text))


async def test_texts_that_no_rule_matched_are_grouped(store: Store) -> None:
    """Equal complaints are one group with its count, first and last time and first text; replays and matched texts are in none."""
    await store.record(unmatched(1, "550 <anna@example.org> frobnicated by mx1.example.org", NOON + 5))
    await store.record(unmatched(2, "551 <bert@example.net> frobnicated by mx9.example.net", NOON + 3))
    await store.record(unmatched(2, "551 <bert@example.net> frobnicated by mx9.example.net", NOON + 9))
    await store.record(unmatched(3, "転送\udc80\0\u2028失敗", NOON + 7))
    await store.record(bounced(4))
    assert store.unmatched() == [
        Unmatched("frobnicated by", 2, NOON + 3, NOON + 5, "550 <*@example.org> frobnicated by mx1.example.org"),
        Unmatched("転送 失敗", 1, NOON + 7, NOON + 7, "転送   失敗"),
    ]


async def test_groups_of_unmatched_texts_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the most that are kept the group goes that was longest not met, whichever came first."""
    for module in (tables, memory):
        monkeypatch.setattr(module, "MOST_UNMATCHED", 3)
    for mail, word in enumerate(("alpha", "beta", "gamma", "alpha", "delta", "epsilon")):
        await store.record(unmatched(mail, word, NOON + mail))
    assert {group.key for group in store.unmatched()} == {"alpha", "delta", "epsilon"}


async def test_what_a_person_did_of_an_incident_is_kept(store: Store) -> None:
    """Each act adds to those before: who held, confirmed and reverted, when and why."""
    await store.record(replace(bounced(1, Disposition.HARD), provider="google"))
    held = await store.hold("google", NOON, at=NOON, by="olga", reason="a bad day")
    await store.rule(held.id, Ruling.CONFIRMED, at=NOON + 1, by="otto", reason="they say so")
    await store.rule(held.id, Ruling.REVERTED, at=NOON + 2, by="olga", reason="they took it back")
    (incident,) = [one for one in store.incidents() if one.id == held.id]
    assert [(act.at, act.what, act.by, act.reason) for act in incident.acts] == [
        (NOON, "held", "olga", "a bad day"),
        (NOON + 1, "confirmed", "otto", "they say so"),
        (NOON + 2, "reverted", "olga", "they took it back"),
    ]


LIST = 'ses, "l\u00eest".csv'


def listed(
    *keys: AddressKey, cause: Cause = Cause.HARD, since: int | None = NOON - 99, scope: Scope = EVERYWHERE, until: int | None = None
) -> Taken:
    return Taken(scope, cause, "no-such-user", until, list(keys), [since] * len(keys))


async def take_over(store: Store, *blocks: Taken) -> int:
    return await store.take_over(blocks, at=NOON, by="olga", source=LIST)


async def test_a_list_is_taken_over_as_if_one_by_one(store: Store) -> None:
    """What a list changes is what its blocks would change one after the other; what changes nothing is not recorded."""
    strangers = [AddressKey(f"user{number}@example.org") for number in range(40)]
    await store.record(blocked(ANNA))
    await store.record(bounced(1, key=BERT))
    await store.record(blocked(strangers[7], scope=NEWS))
    await store.record(released(strangers[8], at=NOON - 50))
    mixed = [*reversed(strangers[20:]), strangers[30], strangers[0], ANNA]
    digits = [AddressKey(f"{number}@example.org") for number in range(4)]
    blocks = [
        listed(*reversed(strangers[:20]), cause=Cause.COMPLAINT),
        Taken(EVERYWHERE, Cause.HARD, "no-such-user", None, mixed, [None if n % 2 else NOON - n for n in range(len(mixed))]),
        listed(ANNA, BERT, strangers[0]),
        listed(strangers[1], since=NOON + 60),
        listed(strangers[2], scope=NEWS),
        listed(AddressKey("short@example.org"), AddressKey('"a \\\\ b"@example.org'), AddressKey("\u00fc@example.org"), until=NOON + 100),
        listed(AddressKey("old@example.org"), AddressKey("young@example.org"), since=-62_135_596_800),
        Taken(EVERYWHERE, Cause.HARD, "no-such-user", None, digits, [-62_135_596_800, NOON + 9, None, 0]),
    ]
    events = [
        imported(block, key, since, at=NOON, by="olga", source=LIST)
        for block in blocks
        for key, since in zip(block.keys, block.since, strict=True)
    ]
    before = {event.key: list(store.history(event.key)) for event in events}

    changed = await take_over(store, *blocks)

    expected = 0
    for key, past in before.items():
        record = fold(key, past)
        for event in (event for event in events if event.key == key):
            after = step(record, event, Policy())
            if after.standings != record.standings:
                record, expected = after, expected + 1
                past.append(event)
        assert list(store.history(key)) == past
        assert store.look_up(key) == record
    assert changed == expected
    assert store.look_up(strangers[8]).block(NEWS, NOON) is None
    assert store.look_up(strangers[0]).block(NEWS, NOON) is not None
    assert store.look_up(AddressKey("young@example.org")).block(NEWS, NOON) is not None
    assert await take_over(store, *blocks) == 0


async def test_an_imported_block_is_released_like_any(store: Store) -> None:
    """A release lifts it, and the same list does not bring it back."""
    await take_over(store, listed(ANNA))
    assert store.look_up(ANNA).block(NEWS, NOON) is not None
    await store.record(released(ANNA))
    assert store.look_up(ANNA).block(NEWS, NOON) is None
    assert await take_over(store, listed(ANNA)) == 0
