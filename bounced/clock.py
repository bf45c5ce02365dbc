"""The time of day, which a jump of the system's clock does not move.

For: everything that the daemon dates, and whatever ends at a time: return paths, blocks, mail that was not heard of. A clock that is set
wrong would otherwise refuse genuine bounces for good, and set dead addresses free. Never: deadlines; those go by clocks that never jump.

Who starts a daemon believes the clock that there is. From then on a step of more than an hour is not believed, and told once, until the
clock comes back or the daemon is started again.
"""

import time
from collections.abc import Callable

import structlog

LARGEST_STEP = 3660.0
"""Seconds by which a clock may be set right while we run: an hour, the most common of mistakes, and what passes meanwhile."""

_WRITTEN = 1_767_225_600.0
"""2026-01-01: a machine without a battery begins before that, and every step forward is right."""


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """Gives Unix seconds when it is called."""

    def __init__(self, told: Callable[[], float] = time.time, steady: Callable[[], float] = _since_boot) -> None:
        """Believe `told`, the time of day, as long as it agrees with `steady`, seconds that also count while the machine sleeps."""
        self._told, self._steady = told, steady
        self._at, self._since = told(), steady()
        self._complained = False

    def __call__(self) -> float:
        """Return the time of day."""
        told, steady = self._told(), self._steady()
        expected = self._at + (steady - self._since)
        if abs(told - expected) <= LARGEST_STEP or expected < _WRITTEN:
            self._at, self._since, self._complained = told, steady, False
            return told
        if not self._complained:
            self._complained = True
            structlog.get_logger("daemon").error("daemon.clock_jumped", seconds=round(told - expected))
        return expected
