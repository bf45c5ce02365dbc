"""What was acknowledged is on disk, whatever kills the process or the machine.

Each way to die has a control that loses, or its test would prove nothing: kill -9 finds out an answer before the commit, and only a power
cut finds out a commit that is in the page cache. BOUNCED_ACCEPTANCE=1 runs the full counts.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bounced.policy import Policy
from bounced.store.sqlite import SqliteStore
from tests.conftest import lacking
from tests.store.recorder import of_mail
from tests.system.disk import Disk

_ROUNDS, _CONTROLS = (200, 20) if os.environ.get("BOUNCED_ACCEPTANCE") == "1" else (10, 3)
_PROJECT = Path(__file__).resolve().parents[2]


@dataclass
class Recorder:
    """A recorder as a child process, and what it has said so far."""

    child: subprocess.Popen[bytes]
    said: list[str]

    @property
    def acknowledged(self) -> list[int]:
        """The mails whose bounces it has been told to be durable."""
        return [int(word) for word in self.said if word.isdigit()]

    def hear(self, lines: int) -> None:
        """Read so many lines more, or all that there are."""
        assert self.child.stdout is not None
        for _ in range(lines):
            line = self.child.stdout.readline()
            if not line.endswith(b"\n"):
                return
            self.said.append(line.decode().strip())

    def end(self) -> None:
        """Kill it if it lives, and read what it had said."""
        self.child.kill()
        self.hear(1_000_000)
        self.child.wait()


@contextmanager
def recording(path: Path, fault: str = "none", calls: str = "", strace: tuple[str, ...] = ()) -> Iterator[Recorder]:
    """Run a recorder on the database at `path`, under strace with these options if there are any."""
    wrapped = ("strace", "-f", "-qq", "-o", "/dev/null", *strace) if strace else ()
    command = [*wrapped, sys.executable, "-m", "tests.store.recorder", str(path), fault, *calls.split()]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd=_PROJECT)
    recorder = Recorder(child, [])
    try:
        yield recorder
    finally:
        recorder.end()
        assert child.stdout is not None
        child.stdout.close()


def missing(path: Path, acknowledged: list[int]) -> list[int]:
    """Open the store as the next start does, and tell what it does not know of what was acknowledged."""

    async def ask() -> list[int]:
        store = await SqliteStore.open(path, Policy())
        lost = [
            number
            for number in acknowledged
            if list(store.history(of_mail(number).key)) != [of_mail(number)] or not store.look_up(of_mail(number).key).standings
        ]
        await store.close()
        return lost

    return asyncio.run(ask())


def lost_at_kill(path: Path, fault: str) -> list[int]:
    """Kill -9 a recorder after a random number of acknowledgements."""
    with recording(path, fault) as recorder:
        recorder.hear(random.randint(2, 400))
    assert recorder.child.returncode == -signal.SIGKILL
    assert recorder.acknowledged
    return missing(path, recorder.acknowledged)


def lost_at_power_cut(disk: Disk, name: str, fault: str) -> list[int]:
    """Cut the power after a random number of acknowledgements, of which none counts that was heard later."""
    path = disk.path / name
    with recording(path, fault) as recorder:
        recorder.hear(random.randint(1, 400))
        heard = recorder.acknowledged
        disk.cut_power()
    disk.power_up()
    return missing(path, heard)


@pytest.fixture
def need_root() -> None:
    """Skip where we are not root: mounts need it."""
    if os.geteuid() != 0:
        lacking("root")


@pytest.fixture
def disk(tmp_path: Path, need_root: None, need_program: Callable[[str], str]) -> Iterator[Disk]:
    """A disk whose power can be cut."""
    need_program("mkfs.ext4")
    made = Disk(tmp_path)
    yield made
    made.remove()


def test_kill_loses_nothing(tmp_path: Path) -> None:
    """After kill -9 at a random moment everything that was acknowledged is there, round after round."""
    for number in range(_ROUNDS):
        assert lost_at_kill(tmp_path / f"{number}.db", "none") == []


def test_kill_finds_out_a_hasty_answer(tmp_path: Path) -> None:
    """The control: a store that answers before COMMIT loses at kill -9."""
    assert sum(lost_at_kill(tmp_path / f"{number}.db", "hasty") != [] for number in range(_CONTROLS)) >= 0.9 * _CONTROLS - 1


def test_kill_inside_the_sync_loses_nothing(tmp_path: Path, need_program: Callable[[str], str]) -> None:
    """Killed as it enters its n-th fdatasync, the first starts among them, it has acknowledged nothing that is not there."""
    need_program("strace")
    for number in range(_ROUNDS):
        path = tmp_path / f"{number}.db"
        nth = random.randint(1, 12) if number % 2 else random.randint(13, 200)
        with recording(path, strace=("-e", "trace=fdatasync", "-e", f"inject=fdatasync:signal=KILL:when={nth}")) as recorder:
            recorder.hear(1_000_000)
        assert missing(path, recorder.acknowledged) == []


def test_a_power_cut_loses_nothing(disk: Disk) -> None:
    """What was acknowledged before the power was cut is there when it is back, whenever it was cut, and the store opens."""
    for number in range(_ROUNDS):
        assert lost_at_power_cut(disk, f"{number}.db", "none") == []


def test_a_power_cut_finds_out_a_commit_without_sync(disk: Disk) -> None:
    """The control: with synchronous=NORMAL acknowledged commits are gone after a power cut; after kill -9 they are not."""
    assert sum(lost_at_power_cut(disk, f"{number}.db", "normal") != [] for number in range(_CONTROLS)) >= 0.9 * _CONTROLS - 1
    assert lost_at_kill(disk.path / "killed.db", "normal") == []


@pytest.mark.parametrize(
    ("call", "error", "begins"),
    # Later than the start, which must not be disturbed here, and sooner than the end.
    [("fdatasync", "EIO", 20), ("fdatasync", "EROFS", 20), ("pwrite64", "EIO", 150), ("pwrite64", "ENOSPC", 150)],
)
def test_errors_of_the_disk_are_said_and_survived(
    tmp_path: Path, need_program: Callable[[str], str], call: str, error: str, begins: int
) -> None:
    """While the disk fails, callers hear of it; afterwards the same process serves, and what it acknowledged is there."""
    need_program("strace")
    path = tmp_path / "bounced.db"
    first = begins + random.randint(0, 8)
    options = ("-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={first}..{first + 5}")
    with recording(path, calls="800", strace=options) as recorder:
        recorder.hear(1_000_000)
        assert recorder.child.wait() == 0
    assert "fault" in recorder.said
    assert sorted(recorder.acknowledged) == list(range(1, 801))
    assert missing(path, recorder.acknowledged) == []
