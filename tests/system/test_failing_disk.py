"""The disk fails and is well again, under load, again and again: no false 250, no 5xx, no restart."""

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.ask import Mailer
from tests.system.bounces import Mint
from tests.system.daemon import Daemon, alive
from tests.system.load import Load
from tests.system.preload import FAULTS, SYNC, Faults
from tests.system.waiting import until


@pytest.fixture
def faults(tmp_path: Path, need_program: Callable[[str], str]) -> Faults:
    """The switch of the disk's faults."""
    need_program("gcc")
    return Faults(tmp_path)


@pytest.fixture
def failing(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Daemon]]:
    """Start a daemon whose disk can fail; `module` is run instead of `bounced`."""
    open_ones = []

    def start(*module: str) -> Daemon:
        with monkeypatch.context() as patched:
            for name, value in faults.environment.items():
                patched.setenv(name, value)
            context = alive(*module)
            daemon = context.__enter__()
        open_ones.append(context)
        return daemon

    yield start
    for context in open_ones:
        context.__exit__(None, None, None)


def fail_and_recover(daemon: Daemon, faults: Faults, rounds: int) -> tuple[Load, float]:
    """Let the disk fail so many times; return the load, and the longest time from the end of a fault to the next 250."""
    load = Load(daemon.smtp, Mint(daemon), clients=8)
    longest = 0.0
    load.start()
    try:
        load.wait_for(1)
        for _ in range(rounds):
            refused = len(load.refused)
            faults.begin(*random.choice(FAULTS))
            until(lambda refused=refused: len(load.refused) > refused + random.randrange(20), "a bounce to be put off", shown=daemon.log)  # type: ignore[misc]
            faults.end()
            ended = time.monotonic()
            load.wait_for(len(load.acknowledged) + 1)
            longest = max(longest, time.monotonic() - ended)
    finally:
        faults.end()
        load.stop()
    return load, longest


def missing_after_kill(daemon: Daemon, load: Load) -> int:
    """Kill the daemon, start it again, and count what it does not know of what it acknowledged."""
    daemon.kill()
    daemon.start()
    with Mailer(daemon.door("socketmap")) as mailer:
        return len(mailer.missing(load.acknowledged))


def test_a_disk_that_fails_now_and_then_loses_nothing(
    failing: Callable[..., Daemon], faults: Faults, rounds: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    """EIO, ENOSPC and EROFS at syncs and writes, on and off: what was answered 250 is there, all else got 451, by one process."""
    daemon = failing()

    load, longest = fail_and_recover(daemon, faults, rounds(12, 300))

    assert {code for _, (code, _) in load.refused} == {451}
    missing = missing_after_kill(daemon, load)
    figure(
        f"disk failing {rounds(12, 300)} times: {len(load.acknowledged)} acknowledged, {missing} missing, {len(load.refused)} put off, "
        f"at most {longest:.2f} s until the next 250"
    )
    assert missing == 0


def test_an_answer_before_the_commit_is_found_out_by_a_failing_disk(failing: Callable[..., Daemon], faults: Faults) -> None:
    """Control: a daemon that answers before COMMIT says 250 to what the disk refuses."""
    daemon = failing("tests.system.faulty", "answer_before_commit")
    load = Load(daemon.smtp, Mint(daemon), clients=8)
    load.start()
    try:
        load.wait_for(1)
        faults.begin(SYNC, errno.EIO)
        load.wait_for(len(load.acknowledged) + 200)
    finally:
        load.stop()
    daemon.kill()
    faults.end()
    daemon.start()
    with Mailer(daemon.door("socketmap")) as mailer:
        assert mailer.missing(load.acknowledged)


def written_through(daemon: Daemon) -> set[str]:
    """Return the descriptors of the daemon through which the database can be written."""
    found = set()
    for descriptor in Path(f"/proc/{daemon.pid}/fd").iterdir():
        if descriptor.exists() and descriptor.resolve() == daemon.database:
            flags = Path(f"/proc/{daemon.pid}/fdinfo/{descriptor.name}").read_text().split("flags:\t")[1].split()[0]
            if int(flags, 8) & os.O_ACCMODE != os.O_RDONLY:
                found.add(descriptor.name)
    return found


def test_one_connection_writes(failing: Callable[..., Daemon], faults: Faults) -> None:
    """There is one descriptor that can write to the database, also under questions, and after a failed sync has it opened anew."""
    daemon = failing()
    load = Load(daemon.smtp, Mint(daemon), clients=2)
    seen = [written_through(daemon)]
    load.start()
    try:
        load.wait_for(5)
        faults.begin(SYNC, errno.EIO)
        load.wait_for_refusal()
        faults.end()
        load.wait_for(len(load.acknowledged) + 5)
        daemon.tell("stats")
        seen.append(written_through(daemon))
    finally:
        load.stop()
    assert [len(descriptors) for descriptors in seen] == [1, 1]


def test_a_second_writing_connection_is_found_out() -> None:
    """Control: a daemon that keeps another connection for writing has more such descriptors."""
    with alive("tests.system.faulty", "write_twice") as daemon:
        assert len(written_through(daemon)) > 1
