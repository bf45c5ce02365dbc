"""The outage guard: tells a provider's bad day from addresses that died.

For: noticing, bounce by bounce, that one provider refuses as unknown whom it knew yesterday (Gmail did so for hours in December
2020), so that these verdicts can be held back. Never: which address is concerned, a clock, or what becomes of a verdict that is held.

A flood alone says nothing: after a large campaign dead addresses come by the thousand. Two things together do. Most of what the provider
sends back is that established addresses are dead; and there are many times more of these than its other bounces, which tell how much mail
is going out to it, let expect. A provider's measure, its mean and its worst, is learned from itself for two weeks before the guard may
open.

All that is remembered of a provider is a `Watch`: some twenty whole numbers. Times are Unix seconds, slots their number of ten minutes.
"""

from dataclasses import dataclass
from math import sqrt

import msgspec
from msgspec.structs import replace

SLOT = 600
"""Seconds in a slot."""

WINDOW = 3
"""Slots that are looked at together: the one that runs and two before it, twenty to thirty minutes."""

_LEARNING = 14 * 86400 // SLOT
_MEMORY = 14 * 86400 / SLOT
_PEAK_MEMORY = 60 * 86400 / SLOT
_CALM_SLOTS = 3600 // SLOT

LEAST = 30
"""The guard opens for no fewer established addresses said to be dead within the window."""

_MOST = 3
_ENOUGH = 10
_FACTOR = 6
_DEVIATIONS = 8
_OVER_PEAK = 6
_OVER_WORST = 3
_PRIOR = 3
_UNIT = 1000

Slots = tuple[int, int, int]
"""Counts of the slot that runs, of the one before it, and of the one before that."""


class Watch(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of one provider.

    `since` and `slot` are the first slot and the one that runs; `dead` counts established addresses said to be dead, `rest` all else that
    the provider sent back. The `usual` ones are their sums over about two weeks; `peak` is the highest count of dead in one slot, `worst`
    the highest number of dead for one of the rest in a slot with enough of them, both fading over months; all in thousandths. While the
    guard is open, since `opened_at`, these stay as they are, and `calm` counts calm slots in a row.
    """

    since: int
    slot: int
    dead: Slots = (0, 0, 0)
    rest: Slots = (0, 0, 0)
    usual_dead: int = 0
    usual_rest: int = 0
    peak: int = 0
    worst: int = 0
    opened_at: int | None = None
    calm: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """The guard opened at `at`: this verdict is to be held, and with it the hard ones that were recorded from `since` on."""

    at: int
    since: int


@dataclass(frozen=True, slots=True)
class Holding:
    """The guard is open since `opened_at`: this hard verdict is to be held."""

    opened_at: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The guard that had opened at `opened_at` closed: an hour was calm. The verdict that was observed stands."""

    opened_at: int


Turn = Opened | Holding | Closed


def observe(watch: Watch | None, at: int, *, hard: bool, established: bool, least: int = 0) -> tuple[Watch, Turn | None]:
    """Take in one bounce or notice from a provider; return what is remembered now and, if it concerns the guard, what follows.

    `hard`: it would block its address at once. `established`: the address was known to live. A clock that goes back counts as standing
    still. For a provider of which nothing is remembered `watch` is None. The guard may wait for more
    than LEAST dead.
    """
    before = watch or Watch(since=at // SLOT, slot=at // SLOT)
    rolled = _rolled(before, at // SLOT)
    now = _counted(rolled, 1, 0) if hard and established else _counted(rolled, 0, 1)
    if before.opened_at is not None and now.opened_at is None:
        return now, Closed(before.opened_at)
    if not hard:
        return now, None
    if now.opened_at is not None:
        return now, Holding(now.opened_at)
    if established and now.slot - now.since >= _LEARNING and sum(now.dead) >= least and _far(now):
        return replace(now, opened_at=at), Opened(at, min(at, (now.slot - WINDOW + 1) * SLOT))
    return now, None


def settle(watch: Watch, at: int) -> tuple[Watch, Closed | None]:
    """Let the time pass: an open guard closes also where nothing comes any more."""
    now = _rolled(watch, at // SLOT)
    closed = watch.opened_at is not None and now.opened_at is None
    return now, Closed(watch.opened_at) if closed and watch.opened_at is not None else None


def learn(watch: Watch) -> Watch:
    """Close the guard because a person says that the dead are dead: as many as now are no alarm again."""
    return replace(watch, opened_at=None, calm=0, peak=max(watch.peak, _UNIT * max(watch.dead)))


def _counted(watch: Watch, dead: int, rest: int) -> Watch:
    return replace(
        watch,
        dead=(watch.dead[0] + dead, watch.dead[1], watch.dead[2]),
        rest=(watch.rest[0] + rest, watch.rest[1], watch.rest[2]),
    )


def _rolled(watch: Watch, slot: int) -> Watch:
    """Go on to `slot`; what leaves the window becomes part of what is usual, unless the guard is open."""
    if slot <= watch.slot:
        return watch
    for _ in range(min(slot - watch.slot, WINDOW + _CALM_SLOTS)):
        watch = _open_rolled(watch) if watch.opened_at is not None else _usual_rolled(watch)
    passed = slot - watch.slot  # and nothing came in these
    return replace(
        watch,
        slot=slot,
        usual_dead=int(watch.usual_dead * (1 - 1 / _MEMORY) ** passed),
        usual_rest=int(watch.usual_rest * (1 - 1 / _MEMORY) ** passed),
        peak=int(watch.peak * (1 - 1 / _PEAK_MEMORY) ** passed),
        worst=int(watch.worst * (1 - 1 / _PEAK_MEMORY) ** passed),
    )


def _usual_rolled(watch: Watch) -> Watch:
    dead, rest = watch.dead[-1], watch.rest[-1]
    return replace(
        watch,
        slot=watch.slot + 1,
        dead=(0, *watch.dead[:-1]),
        rest=(0, *watch.rest[:-1]),
        usual_dead=int(watch.usual_dead * (1 - 1 / _MEMORY)) + _UNIT * dead,
        usual_rest=int(watch.usual_rest * (1 - 1 / _MEMORY)) + _UNIT * rest,
        peak=max(int(watch.peak * (1 - 1 / _PEAK_MEMORY)), _UNIT * dead),
        worst=max(int(watch.worst * (1 - 1 / _PEAK_MEMORY)), _UNIT * dead // (rest + _PRIOR) if dead >= _ENOUGH else 0),
    )


def _open_rolled(watch: Watch) -> Watch:
    """Go on by a slot while the guard is open: after an hour of calm slots it closes, with nothing of the outage in its memory."""
    calm = 0 if _far(watch) else watch.calm + 1
    if calm >= _CALM_SLOTS:
        return replace(watch, slot=watch.slot + 1, dead=(0, 0, 0), rest=(0, 0, 0), opened_at=None, calm=0)
    return replace(watch, slot=watch.slot + 1, dead=(0, *watch.dead[:-1]), rest=(0, *watch.rest[:-1]), calm=calm)


def _far(watch: Watch) -> bool:
    """Tell whether the established addresses said to be dead are far more than the provider's other bounces let expect."""
    dead, rest = sum(watch.dead), sum(watch.rest)
    if dead < LEAST or dead < _MOST * rest:
        return False
    prior = _PRIOR * _UNIT
    usual = (rest + _PRIOR) * (watch.usual_dead + prior) / (watch.usual_rest + prior)
    worst = (rest + _PRIOR) * watch.worst / _UNIT
    return dead > max(_FACTOR * usual, usual + _DEVIATIONS * sqrt(usual + 1), _OVER_WORST * worst, _OVER_PEAK * watch.peak / _UNIT)
