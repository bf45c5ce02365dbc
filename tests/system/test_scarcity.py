"""Memory or descriptors run out: the daemon may die of it, but never says 250 to what is lost, and never 5xx."""

import os
import random
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import lacking
from tests.system.ask import Mailer
from tests.system.bounces import Mint
from tests.system.daemon import Daemon, alive
from tests.system.load import Bounce, Load
from tests.system.waiting import until

CLIENTS = 8
_CGROUPS = Path("/sys/fs/cgroup/memory")


@pytest.fixture
def memory_cgroup(as_root: None) -> Iterator[Path]:
    """A control group (v1) whose memory can be limited."""
    group = _CGROUPS / f"bounced-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        lacking("memory control groups, version 1")
    yield group
    group.rmdir()


def heavy(mint: Callable[[], Bounce], octets: int) -> Callable[[], Bounce]:
    """Return what makes bounces that bring back a long mail."""
    text = b"Good news, and more of it.\r\n" * (octets // 28)

    def make() -> Bounce:
        recipient, return_path, content = mint()
        return recipient, return_path, content.replace(b"Good news.\r\n", text)

    return make


def missing_of(daemon: Daemon, load: Load) -> int:
    """Count what the daemon does not know of what was acknowledged."""
    with Mailer(daemon.door("socketmap")) as mailer:
        return len(mailer.missing(load.acknowledged))


@contextmanager
def starved(group: Path, daemon: Daemon) -> Iterator[None]:
    """Let the group run out of memory, and the daemon be the one that the kernel kills for it.

    A limit alone kills only who asks for more, and a daemon that has once taken what it needs may go on within it. So another program in
    the group asks, without an end, and the daemon is named as the one to go (oom_score_adj, proc(5)).
    """
    Path(f"/proc/{daemon.pid}/oom_score_adj").write_text("1000")
    used = int((group / "memory.usage_in_bytes").read_text())
    (group / "memory.limit_in_bytes").write_text(str(used + (64 << 20)))
    join_and_eat = f"echo $$ > {group / 'cgroup.procs'} && exec tail -n 1 /dev/zero"
    with subprocess.Popen(["sh", "-c", join_and_eat], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as greedy:
        try:
            yield
        finally:
            greedy.kill()


def killed_for_want_of_memory(daemon: Daemon, group: Path, rounds: int) -> tuple[int, int]:
    """Let the kernel kill the daemon under load so many times; return how many were acknowledged, and how many of them are missing."""
    acknowledged = missing = 0
    mint = Mint(daemon)
    for _ in range(rounds):
        load = Load(daemon.smtp, heavy(mint, 1 << 20), clients=CLIENTS)
        (group / "memory.limit_in_bytes").write_text("-1")
        (group / "cgroup.procs").write_text(str(daemon.pid))
        load.start()
        try:
            load.wait_for(random.randint(1, 60))
            with starved(group, daemon):
                assert daemon.wait() == -signal.SIGKILL
        finally:
            daemon.kill()
            load.stop()
        daemon.start()
        assert load.refused == []
        missing += missing_of(daemon, load)
        acknowledged += len(load.acknowledged)
    return acknowledged, missing


def test_killed_for_want_of_memory(memory_cgroup: Path, rounds: Callable[[int, int], int], figure: Callable[[str], None]) -> None:
    """The kernel kills the daemon when its memory runs out, under load, again and again: nothing acknowledged is missing."""
    with alive() as daemon:
        acknowledged, missing = killed_for_want_of_memory(daemon, memory_cgroup, rounds(3, 20))
    figure(f"killed for want of memory {rounds(3, 20)} times: {acknowledged} acknowledged, {missing} missing")
    assert missing == 0


def test_an_answer_before_the_commit_is_found_out_by_want_of_memory(memory_cgroup: Path) -> None:
    """Control: a daemon that answers before COMMIT is killed in the midst of some batch before long, and then something is missing."""
    with alive("tests.system.faulty", "answer_before_commit") as daemon:
        assert any(killed_for_want_of_memory(daemon, memory_cgroup, 1)[1] for _ in range(20))


@contextmanager
def limited(daemon: Daemon, limit: int, most: int) -> Iterator[None]:
    """Let the daemon have no more than `most` of something (setrlimit(2)) meanwhile."""
    soft, hard = resource.prlimit(daemon.pid, limit)
    resource.prlimit(daemon.pid, limit, (most, hard))
    try:
        yield
    finally:
        resource.prlimit(daemon.pid, limit, (soft, hard))


def without_memory(daemon: Daemon, load: Load) -> None:
    """Take memory away until a bounce is put off or a session cut."""
    load.start()
    try:
        load.wait_for(10)
        most = int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[0]) * resource.getpagesize()

        def felt() -> bool:
            nonlocal most
            most -= 64 << 10
            resource.prlimit(daemon.pid, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
            return bool(load.refused) or load.running < CLIENTS

        with limited(daemon, resource.RLIMIT_AS, most):
            until(felt, "a bounce to be put off, or a session to be cut", shown=daemon.log)
    finally:
        load.stop()


def test_without_memory_nothing_is_lost(daemon: Daemon, rounds: Callable[[int, int], int], figure: Callable[[str], None]) -> None:
    """When no more memory is to be had (RLIMIT_AS), sessions are cut or get 4xx; what got 250 is on disk, and the same process goes on."""
    mint = heavy(Mint(daemon), 2 << 20)
    loads = [Load(daemon.smtp, mint, clients=CLIENTS) for _ in range(rounds(3, 20))]
    for load in loads:
        without_memory(daemon, load)
    missing = sum(missing_of(daemon, load) for load in loads)
    acknowledged, refused = sum(len(load.acknowledged) for load in loads), [code for load in loads for _, (code, _) in load.refused]
    figure(f"no memory {len(loads)} times: {acknowledged} acknowledged, {missing} missing, {len(refused)} put off")
    assert missing == 0
    assert all(400 <= code < 500 for code in refused)
    assert daemon.stop() == 0


def test_without_descriptors_bounces_are_taken_on(daemon: Daemon, rounds: Callable[[int, int], int], figure: Callable[[str], None]) -> None:
    """When no more descriptors are to be had, open sessions go on, and what they bring is committed."""
    load = Load(daemon.smtp, Mint(daemon), clients=CLIENTS)
    load.start()
    try:
        load.wait_for(50)
        for _ in range(rounds(3, 20)):
            with limited(daemon, resource.RLIMIT_NOFILE, len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))):
                load.wait_for(len(load.acknowledged) + 30)
            load.wait_for(len(load.acknowledged) + 10)
    finally:
        load.stop()
    missing = missing_of(daemon, load)
    figure(f"no descriptors {rounds(3, 20)} times: {len(load.acknowledged)} acknowledged, {missing} missing, {len(load.refused)} put off")
    assert missing == 0
    assert load.refused == []
    assert daemon.stop() == 0
