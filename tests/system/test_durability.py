"""A 250 after DATA means that the bounce is on disk: the daemon dies under load, in every way, and nothing acknowledged is missing.

Each way has its control: a daemon with the fault that this way of dying must find out, or the test would prove nothing. kill -9 finds out
an answer before the commit; only a power cut finds out a commit that is not on disk, since what a killed process wrote is still in the page
cache.
"""

import random
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.ask import Mailer
from tests.system.bounces import Mint
from tests.system.daemon import Daemon, DaemonRefusedError, alive
from tests.system.disk import Disk
from tests.system.load import Load
from tests.system.tracing import traced


@dataclass(frozen=True, slots=True)
class Way:
    """A way to die under load: what does it, where the store lies meanwhile, and the fault that it finds out."""

    name: str
    die: Callable[[Daemon, Load], None]
    finds_out: str
    full: int = 200
    """Rounds at full count."""
    database: Path | None = None


@dataclass(frozen=True, slots=True)
class Death:
    """One round: how many bounces were acknowledged before the daemon died, and how many of them it did not know afterwards."""

    acknowledged: int
    missing: int


def killed(daemon: Daemon, load: Load) -> None:
    """Kill -9 the moment that a random number of bounces is acknowledged."""
    load.start()
    load.wait_for(random.randint(1, 200))
    daemon.kill()


def killed_in_sync(daemon: Daemon, load: Load) -> None:
    """SIGKILL as the daemon enters its n-th fdatasync, for a random n."""
    nth = random.randint(1, 40)
    with traced(daemon.pid, daemon.home / "strace", "-e", "trace=fdatasync", "-e", f"inject=fdatasync:signal=KILL:when={nth}"):
        load.start()
        daemon.wait()


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path, as_root: None, need_program: Callable[[str], str]) -> Iterator[Disk]:
    """A disk whose power can be cut, with the file system that the test is named after."""
    kind = "xfs" if "xfs" in request.node.name else "ext4"
    need_program(f"mkfs.{kind}")
    one = Disk(tmp_path, kind)
    yield one
    one.remove()


@pytest.fixture(params=["kill -9", "SIGKILL in fdatasync", "power cut on ext4", "power cut on xfs"])
def way(request: pytest.FixtureRequest) -> Way:
    """Each way to die."""
    if request.param == "kill -9":
        return Way(request.param, killed, "answer_before_commit")
    if request.param == "SIGKILL in fdatasync":
        request.getfixturevalue("as_root")
        request.getfixturevalue("need_program")("strace")
        return Way(request.param, killed_in_sync, "answer_before_commit")
    disk: Disk = request.getfixturevalue("disk")

    def lose_power(daemon: Daemon, load: Load) -> None:
        load.start()
        load.wait_for(random.randint(1, 200))
        # A commit already inside the kernel may report success during the cut: only what was acknowledged before it counts.
        load.close_the_books()
        disk.cut_power()
        daemon.kill()
        load.stop()
        disk.power_up()

    full = 50 if "xfs" in request.param else 200
    return Way(request.param, lose_power, "commit_without_sync", full, disk.path / "bounced.db")


def die_and_rise(daemon: Daemon, mint: Mint, way: Way) -> Death:
    """Let the daemon die under load, start it again, and ask for everything that was acknowledged.

    If it refuses to serve from what it finds, everything is missing, and the next round begins with an empty store.
    """
    load = Load(daemon.smtp, mint)
    try:
        way.die(daemon, load)
    finally:
        daemon.kill()
        load.stop()
    assert not load.refused, load.refused[:3]
    count = len(load.acknowledged)
    try:
        daemon.start()
    except DaemonRefusedError as refusal:
        sys.stdout.write(f"{refusal}\n")
        daemon.forget()
        daemon.start()
        return Death(count, count)
    with Mailer(daemon.door("socketmap")) as mailer:
        return Death(count, len(mailer.missing(load.acknowledged)))


def die_again_and_again(daemon: Daemon, way: Way, rounds: int, what: str, figure: Callable[[str], None]) -> list[Death]:
    """Run the rounds on one store, and tell what was seen."""
    mint = Mint(daemon)
    deaths = [die_and_rise(daemon, mint, way) for _ in range(rounds)]
    acknowledged, missing = sum(death.acknowledged for death in deaths), sum(death.missing for death in deaths)
    figure(f"{what}: {rounds} rounds, {acknowledged} acknowledged, {missing} missing in {losing(deaths)} rounds")
    return deaths


def losing(deaths: list[Death]) -> int:
    """Count the rounds in which something was lost."""
    return sum(bool(death.missing) for death in deaths)


def integrity(database: Path) -> str:
    """Return SQLite's own word on the file."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def test_nothing_acknowledged_is_lost(way: Way, rounds: Callable[[int, int], int], figure: Callable[[str], None]) -> None:
    """Under 16 clients the daemon dies again and again; it starts again, knows every acknowledged bounce, and its file is sound."""
    with alive(database=way.database) as daemon:
        assert losing(die_again_and_again(daemon, way, rounds(max(3, way.full // 20), way.full), way.name, figure)) == 0
        assert daemon.stop() == 0
        assert integrity(daemon.database) == "ok"


def test_the_fault_of_this_way_is_found_out(way: Way, rounds: Callable[[int, int], int], figure: Callable[[str], None]) -> None:
    """Control: a daemon that answers before COMMIT, or commits without a sync, loses bounces in nine of ten rounds."""
    with alive("tests.system.faulty", way.finds_out, database=way.database) as daemon:
        deaths = die_again_and_again(daemon, way, rounds(max(3, way.full // 40), way.full // 4), f"{way.name}, {way.finds_out}", figure)
        # A death between two batches may find nobody waiting: two rounds are left for that where there are few.
        assert len(deaths) - losing(deaths) <= max(2, len(deaths) / 10)
