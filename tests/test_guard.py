"""The outage guard: opens on a provider's bad day, stays shut on thousands of quiet ones, and closes by itself."""

import random
from functools import reduce

import pytest
from msgspec.structs import replace

from bounced import guard
from bounced.guard import SLOT, Closed, Holding, Opened, Turn, Watch, learn, observe, settle
from tests.days import DAY, MONDAY, Guards, gmail_day, openings

NOON = MONDAY + 12 * 3600
WEEK = 7 * DAY
LEARNED = Watch(since=(NOON - 3 * WEEK) // SLOT, slot=NOON // SLOT, usual_dead=100_000, usual_rest=300_000, peak=5_000)
"""A small provider, known for three weeks: a hundred dead among four hundred, never more than five in a slot."""


def flood(watch: Watch, number: int, at: int = NOON, *, hard: bool = True, established: bool = True) -> tuple[Watch, list[Turn]]:
    """Observe as many equal results in one slot; return the turns."""
    turns: list[Turn] = []
    for _ in range(number):
        watch, turn = observe(watch, at, hard=hard, established=established)
        turns += [turn] if turn else []
    return watch, turns


def test_opens_at_the_thirtieth() -> None:
    """Some thirty established addresses dead in a slot, and little else, open the guard of a small provider; what is hard is held then."""
    watch, turns = flood(LEARNED, 40)
    assert turns[0] == Opened(NOON, NOON - 2 * SLOT)
    assert turns[1:] == [Holding(NOON)] * (len(turns) - 1)
    assert 30 <= 40 - len(turns) + 1 <= 31
    assert watch.opened_at == NOON


def test_waits_for_as_many_as_it_is_told() -> None:
    """Where the operator says a hundred, ninety-nine leave it shut."""
    watch = LEARNED
    for number in range(1, 101):
        watch, turn = observe(watch, NOON, hard=True, established=True, least=100)
        assert isinstance(turn, Opened) == (number == 100)


def test_holds_what_is_hard_and_nothing_else() -> None:
    """While it is open, every hard verdict is held, of strangers too, and nothing that is not hard."""
    watch, _ = flood(LEARNED, 40)
    assert observe(watch, NOON + 5, hard=True, established=False)[1] == Holding(NOON)
    assert observe(watch, NOON + 5, hard=False, established=False)[1] is None


@pytest.mark.parametrize(
    ("watch", "number", "hard", "established"),
    [
        (LEARNED, 29, True, True),
        (LEARNED, 5_000, True, False),
        (LEARNED, 5_000, False, True),
        (replace(LEARNED, since=NOON // SLOT - 2000), 5_000, True, True),
        (replace(LEARNED, peak=20_000), 120, True, True),
        (replace(LEARNED, rest=(100, 0, 0)), 290, True, True),
        (replace(LEARNED, rest=(20, 0, 0), worst=3_000), 200, True, True),
    ],
    ids=["few", "of strangers", "not hard", "not known for long", "seen before", "much else", "as bad before"],
)
def test_stays_shut(watch: Watch, number: int, hard: bool, established: bool) -> None:
    """No flood opens it that is small, of unknown addresses, of other kinds, of a new provider, or nothing new."""
    assert flood(watch, number, hard=hard, established=established)[1] == []


@pytest.mark.parametrize(
    ("watch", "number"),
    [
        (replace(LEARNED, peak=20_000), 130),
        (replace(LEARNED, rest=(100, 0, 0)), 310),
        (replace(LEARNED, rest=(20, 0, 0), worst=3_000), 220),
    ],
    ids=["seen before", "much else", "as bad before"],
)
def test_opens_a_little_above(watch: Watch, number: int) -> None:
    """Control: what kept it shut is a measure; somewhat more opens it."""
    assert isinstance(flood(watch, number)[1][0], Opened)


def test_closes_after_a_calm_hour() -> None:
    """It closes an hour after the rate fell, tells so once, forgets the outage's numbers, and what is hard then stands."""
    open_, _ = flood(LEARNED, 300)
    watch, closed = settle(open_, NOON + 3600)
    assert (closed, watch.opened_at) == (None, NOON)
    watch, closed = settle(watch, NOON + 2 * 3600)
    assert closed == Closed(NOON)
    assert (watch.dead, watch.opened_at, watch.peak <= LEARNED.peak) == ((0, 0, 0), None, True)
    assert settle(watch, NOON + 3 * 3600)[1] is None
    late, turn = observe(open_, NOON + 3 * 3600, hard=True, established=True)
    assert turn == Closed(NOON)
    assert observe(late, NOON + 3 * 3600, hard=True, established=True)[1] is None


def test_stays_open_while_it_lasts() -> None:
    """Slot after slot with as many keeps it open; calm slots with a storm between do not add up."""
    watch, _ = flood(LEARNED, 100)
    for slot in range(1, 40):
        watch, turns = flood(watch, 100 if slot % 7 < 2 else 0, NOON + slot * SLOT)
        assert not any(isinstance(turn, Closed) for turn in turns)
    assert watch.opened_at == NOON


def test_a_person_who_confirms_teaches_it() -> None:
    """After a person said that the dead are dead it is closed, and as many again are no alarm."""
    watch, _ = flood(LEARNED, 300)
    taught = learn(watch)
    assert taught.opened_at is None
    assert flood(taught, 300)[1] == []
    assert flood(replace(LEARNED, dead=watch.dead), 1)[1] != []


def test_what_is_usual_fades() -> None:
    """A burst becomes the measure when it left the window, and fades over months."""
    watch, _ = flood(Watch(since=NOON // SLOT, slot=NOON // SLOT), 100)
    assert watch.peak == 0
    watch, _ = settle(watch, NOON + 3 * SLOT)
    assert (watch.usual_dead, watch.peak, watch.worst) == (100_000, 100_000, 33_333)
    later, _ = settle(watch, NOON + 60 * DAY)
    assert 36_000 < later.peak < 38_000
    assert 12_000 < later.worst < 13_000
    assert later.usual_dead < 2_000
    by_steps = reduce(lambda one, slot: settle(one, NOON + slot * SLOT)[0], range(4, 1000), watch)
    at_once, _ = settle(watch, NOON + 999 * SLOT)
    assert by_steps.peak == pytest.approx(at_once.peak, rel=0.02)


def test_a_clock_that_goes_back_stands_still() -> None:
    """Results from before the slot that runs are counted in it, and nothing closes or fades."""
    watch, _ = observe(LEARNED, NOON - DAY, hard=True, established=True)
    assert watch == replace(LEARNED, dead=(1, 0, 0))
    assert settle(LEARNED, NOON - DAY) == (LEARNED, None)


def test_gmail_day() -> None:
    """20,000 false 5.1.1 in two hours beside 0.5 % true ones: open within 200 of them, all the later ones held, closed after it, once."""
    guards, false, held, early = Guards(), 0, 0, 0
    for result, is_false in gmail_day(random.Random(1), quiet_days=14):
        turn = guards.observe(result)
        false += is_false
        held += is_false and isinstance(turn, Opened | Holding)
        early += is_false and not guards.opened and result.at >= MONDAY + 14 * DAY + 10 * 3600
    assert false == 20_000
    assert early < 200
    assert held == false - early
    assert len(guards.opened) == 1
    assert guards.opened[0][1].since <= MONDAY + 14 * DAY + 10 * 3600
    assert [provider for provider, _ in guards.closed] == ["google"]


def test_no_guard_opens_on_quiet_days(full_counts: bool) -> None:
    """On 10,000 quiet days (reduced: 300, of smaller senders) of senders of all sizes, with eight providers each, no guard opens."""
    seen, found = openings(10_000, seed=2020) if full_counts else openings(300, seed=2020, most=2_000)
    assert found == []
    assert seen > 100_000


def test_quiet_days_notice_a_nervous_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a guard that only asks whether it is clearly more than usual opens on such days."""
    for name, value in {"LEAST": 10, "_MOST": 0, "_FACTOR": 0, "_DEVIATIONS": 2, "_OVER_PEAK": 0, "_OVER_WORST": 0}.items():
        monkeypatch.setattr(guard, name, value)
    assert openings(200, seed=2020, most=2_000)[1]
