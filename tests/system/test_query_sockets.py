"""Mailers that behave badly, and a database that somebody else holds: the others are answered, and truly."""

import contextlib
import socket
import sqlite3
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from tests.system.ask import Mailer
from tests.system.daemon import Daemon, alive
from tests.system.mail import NO_SUCH_USER, bring, report

DEAD, LIVE = "dead@receiver.example", "live@receiver.example"
_MOST_GROWTH = 16 << 20


def grown(daemon: Daemon, deaf: int, figure: Callable[[str], None]) -> int:
    """Let so many mailers ask and never read, and one write a line without end; return by how many octets the daemon's memory grew."""
    daemon.tell("block", DEAD)
    question = f"access {DEAD}".encode()
    questions = b"%d:%b," % (len(question), question) * 500
    with contextlib.ExitStack() as stack, Mailer(daemon.door("socketmap")) as honest:
        assert honest.suppressed(DEAD)
        before = memory(daemon.pid)
        peers = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(deaf)]
        for peer in peers:
            peer.connect(str(daemon.door("socketmap")))
            peer.setblocking(False)
        took = []
        for _ in range(200):
            for peer in peers:
                with contextlib.suppress(BlockingIOError):
                    peer.send(questions)
            begun = time.perf_counter()
            assert honest.suppressed(DEAD)
            took.append(time.perf_counter() - begun)
            if memory(daemon.pid) - before > _MOST_GROWTH:
                break
        endless(daemon.door("line"))
        growth = memory(daemon.pid) - before
    middle, worst = statistics.median(took) * 1e3, statistics.quantiles([*took, took[0]], n=100)[98] * 1e3
    said = f"memory +{growth / 2**20:.1f} MiB, an honest one waits {middle:.1f} ms, p99 {worst:.1f} ms"
    figure(f"{deaf} mailers that never read: {said}")
    return growth


def endless(door: Path) -> None:
    """Write a line without end until the daemon cuts it."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(door))
        peer.settimeout(20)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while True:
                sent += peer.send(b"x" * 4096)
                assert sent < 10_000_000, "a line of ten million octets is still read"


def memory(pid: int) -> int:
    """Return the resident memory of a process, in octets."""
    (line,) = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS")]
    return int(line.split()[1]) << 10


def test_who_never_reads_costs_little(daemon: Daemon, rounds: Callable[[int, int], int], figure: Callable[[str], None]) -> None:
    """Mailers that ask without reading, and a line without end, take at most 16 MiB, and an honest one is answered all the while."""
    assert grown(daemon, rounds(30, 200), figure) <= _MOST_GROWTH


def test_reading_the_deaf_is_found_out(figure: Callable[[str], None]) -> None:
    """Control: a daemon that goes on reading from who does not read fills its memory with his answers."""
    with alive("tests.system.faulty", "read_the_deaf") as daemon:
        assert grown(daemon, 30, figure) > _MOST_GROWTH


def test_a_foreign_lock_stops_no_lookup(daemon: Daemon, rounds: Callable[[int, int], int], figure: Callable[[str], None]) -> None:
    """While another program holds the database locked, the list is read as before, new bounces are put off, and none is lost."""
    bounce = lambda recipient: bring(daemon.smtp, daemon.sign(recipient, int(time.time())), [report(recipient, NO_SUCH_USER)])[0]  # noqa: E731
    assert bounce(DEAD)[0] == 250
    seconds = rounds(3, 10)
    with contextlib.closing(sqlite3.connect(daemon.database, isolation_level=None)) as foreign, Mailer(daemon.door("socketmap")) as mailer:
        foreign.execute("BEGIN EXCLUSIVE")
        end, asked, longest = time.monotonic() + seconds, 0, 0.0
        while time.monotonic() < end:
            begun = time.monotonic()
            assert mailer.suppressed(DEAD)
            assert not mailer.suppressed(LIVE)
            longest, asked = max(longest, time.monotonic() - begun), asked + 2
        code, text = bounce(LIVE)
        assert (code, text[:5]) == (451, "4.3.0")
        assert not mailer.suppressed(LIVE)
        foreign.execute("ROLLBACK")
        assert bounce(LIVE)[0] == 250
        assert mailer.suppressed(LIVE)
    figure(f"locked for {seconds} s by another program: {asked} asked, 0 wrong, the longest {longest * 1e3:.1f} ms")
