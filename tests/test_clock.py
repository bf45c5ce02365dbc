"""The time of day, which a jump of the system's clock does not move."""

import time
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from bounced.clock import LARGEST_STEP, Clock

NOW = 1_800_000_000.0
DAY = 86_400.0


@dataclass
class Machine:
    """What a machine's clocks show."""

    wall: float = NOW
    steady: float = 500.0

    def passes(self, seconds: float) -> None:
        """Let time pass on both."""
        self.wall += seconds
        self.steady += seconds


def clock_of(machine: Machine) -> Clock:
    return Clock(lambda: machine.wall, lambda: machine.steady)


@pytest.mark.parametrize("jump", [LARGEST_STEP + 1, -LARGEST_STEP - 1, DAY, -DAY, 3652 * DAY, 2_147_483_647 - NOW])
def test_a_jump_is_not_believed_and_told_once(jump: float) -> None:
    """Forward or back, time goes on as if nothing had happened, until the clock is right again."""
    machine = Machine()
    clock = clock_of(machine)
    machine.wall += jump
    machine.passes(10)
    with capture_logs() as lines:
        assert [clock(), clock()] == [NOW + 10, NOW + 10]
    assert lines == [{"event": "daemon.clock_jumped", "log_level": "error", "seconds": round(jump)}]

    machine.wall -= jump
    assert clock() == NOW + 10


@pytest.mark.parametrize("step", [LARGEST_STEP, -LARGEST_STEP, 1.0, -0.001])
def test_a_clock_may_be_set_right(step: float) -> None:
    """A step of up to an hour is believed at once, and what follows is measured from there."""
    machine = Machine()
    clock = clock_of(machine)
    machine.wall += step
    assert clock() == NOW + step
    machine.passes(DAY)
    assert clock() == NOW + step + DAY


def test_a_machine_without_a_battery_is_set_once() -> None:
    """A clock that stood before this was written is right as soon as it is set, however far; then it may jump no more."""
    machine = Machine(wall=20 * DAY)
    clock = clock_of(machine)
    machine.wall = NOW
    assert clock() == NOW
    machine.wall = NOW + DAY
    assert clock() == NOW


def test_the_machines_own_clock() -> None:
    """Without a jump it shows what the system shows."""
    before = time.time()
    assert before <= Clock()() <= time.time()
