"""The system's clock jumps under load: no state changes because of it, and no bounce is refused.

libfaketime shows the daemon another time of day; its clocks that never jump are left alone, as on a real machine.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import lacking
from tests.system.ask import Mailer
from tests.system.bounces import Mint
from tests.system.daemon import Daemon, alive
from tests.system.load import Load
from tests.system.mail import MAILBOX_FULL, Session, report

JUMPS = ["+1h", "-1h", "+1d", "-1d", "+10y", "@2038-01-19 03:14:00"]
_EXPIRING = {"category.no-such-user": {"action": "block", "expiry": "30d"}}


@pytest.fixture
def library() -> str:
    """The library that fakes the time."""
    found = [str(path) for path in Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
    if not found:
        lacking("the library libfaketime")
    return found[0]


@contextmanager
def with_clock(library: str, place: Path, *module: str) -> Iterator[tuple[Daemon, Callable[[str], None]]]:
    """Give a daemon whose blocks expire, and what sets its clock."""
    shown = place / "clock"

    def jump(to: str) -> None:
        (place / "next").write_text(f"{to}\n")
        (place / "next").replace(shown)

    jump("+0")
    faked = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(shown), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    with pytest.MonkeyPatch.context() as patched:
        for name, value in faked.items():
            patched.setenv(name, value)
        context = alive(*module, settings=_EXPIRING)
        daemon = context.__enter__()
    try:
        yield daemon, jump
    finally:
        context.__exit__(None, None, None)


def jump_under_load(daemon: Daemon, jump: Callable[[str], None], jumps: list[str]) -> tuple[Load, list[str]]:
    """Let the clock jump under load, there and back; return the load, and who of the acknowledged was called clear meanwhile."""
    load = Load(daemon.smtp, Mint(daemon), clients=4)
    free: list[str] = []
    load.start()
    try:
        load.wait_for(20)
        for to in jumps:
            # More than the four that may be under way: somebody has looked at the clock since.
            jump(to)
            load.wait_for(len(load.acknowledged) + 8)
            with Mailer(daemon.door("socketmap")) as mailer:
                free += mailer.missing(load.acknowledged)
            jump("+0")
            load.wait_for(len(load.acknowledged) + 8)
    finally:
        load.stop()
    return load, free


def test_a_clock_that_jumps_changes_nothing(library: str, tmp_path: Path, figure: Callable[[str], None]) -> None:
    """An hour, a day, ten years, 2038, forward and back: all bounces are taken, no block ends, strikes stay, and all is dated right."""
    began = int(time.time())
    with with_clock(library, tmp_path) as (daemon, jump):
        with Session(daemon.smtp) as session:
            assert session.bring(daemon.sign("full@remote.example", began), report("full@remote.example", MAILBOX_FULL))[0] == 250
        daemon.tell("sign", "full@remote.example")  # the mail of which nobody hears, which in ten years would have arrived
        load, free = jump_under_load(daemon, jump, JUMPS)
        assert load.refused == []
        assert free == []
        struck = daemon.tell("why", "full@remote.example", "--json")
        dates = [event["at"] for recipient in load.acknowledged[:: len(load.acknowledged) // 4] for event in daemon.events(recipient)]
        assert '"strikes": 1' in struck
        # A step of an hour may be the truth, and is believed.
        assert all(began - 3700 <= at <= time.time() + 3700 for at in dates)
        assert daemon.log().count("daemon.clock_jumped") == 4
    figure(f"{len(JUMPS)} jumps of the clock: {len(load.acknowledged)} acknowledged, none refused, no block ended")


def test_a_daemon_that_believes_any_clock_is_found_out(library: str, tmp_path: Path) -> None:
    """Control: where the clock is believed whatever it shows, genuine bounces are refused as expired, and blocks end."""
    with with_clock(library, tmp_path, "tests.system.faulty", "believe_any_clock") as (daemon, jump):
        load = Load(daemon.smtp, Mint(daemon), clients=2)
        load.start()
        try:
            load.wait_for(20)
            jump("+10y")
            load.wait_for_refusal()
        finally:
            load.stop()
        assert load.refused[0][1][0] == 550
        with Mailer(daemon.door("socketmap")) as mailer:
            assert mailer.missing(load.acknowledged)
