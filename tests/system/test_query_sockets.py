"""Mailers that behave badly, and a database that somebody else holds: the others are answered, and truly."""

import contextlib
import socket
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.system.ask import Mailer, TemporaryTroubleError
from tests.system.daemon import Daemon, alive
from tests.system.mail import NO_SUCH_USER, bring, report
from tests.test_address import key_or_none, lookalikes

DEAD, LIVE = "dead@receiver.example", "live@receiver.example"
_MOST_GROWTH = 16 << 20
_TIMED = 200


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
        took: list[float] = []
        idle = 0
        # Until nobody could send more for as many rounds, in each of which the daemon goes on at least once.
        while len(took) < _TIMED or (idle < deaf and memory(daemon.pid) - before <= _MOST_GROWTH):
            idle += 1
            for peer in peers:
                with contextlib.suppress(BlockingIOError):
                    peer.send(questions)
                    idle = 0
            begun = time.perf_counter()
            assert honest.suppressed(DEAD)
            took.append(time.perf_counter() - begun)
        del took[_TIMED:]
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


_PLACES = ("{}@example.net", "a{}b@example.net", "u{}example.net", "u@{}", "u@{}.net", "u@a{}b.net", "u@net.{}")


def likenesses(each: int) -> Iterator[tuple[str, str]]:
    """Give addresses that some folding of Unicode turns into another one, all of ASCII; and that one. Of NFKC's, `each` so many-th."""
    pairs = {*lookalikes("casefold"), *lookalikes("lower"), *lookalikes("NFKC")[::each]}
    for char, folded in sorted(pairs):
        for place in _PLACES:
            if key_or_none(place.format(folded)) is not None:
                yield place.format(char), place.format(folded)


def taken_for_others(daemon: Daemon, home: Path, each: int) -> tuple[int, list[str]]:
    """Block the addresses of ASCII in one stream, their likenesses in another; return how many there are, and whose answer is another's."""
    alike = list(likenesses(each))
    victims = sorted({address for _, address in alike})
    keyed = sorted({written for written, _ in alike if key_or_none(written) is not None})
    for stream, addresses in (("default", victims), ("news", keyed)):
        (home / stream).write_text("".join(f"{address}\n" for address in addresses))
        daemon.tell("import", str(home / stream), "--scope", stream)
    with Mailer(daemon.door("socketmap")) as mailer, Mailer(daemon.door("socketmap"), "access_news") as of_news:
        assert mailer.missing(victims) == []
        wrong = of_news.missing(keyed) + [written for written, _ in alike if is_suppressed(mailer, written)]
        wrong += [victim for victim in victims if of_news.suppressed(victim)]
    asked = [written for written, _ in alike]
    wrong += [written for written, reply in zip(asked, checks(daemon.door("line"), asked), strict=True) if reply.startswith("suppressed")]
    return len(alike), wrong


def is_suppressed(mailer: Mailer, written: str) -> bool:
    """Ask; what is no address is nobody's."""
    try:
        return mailer.suppressed(written)
    except TemporaryTroubleError:
        return False


def checks(door: Path, addresses: Sequence[str]) -> list[str]:
    """Ask about many at once on the line socket."""
    with socket.socket(socket.AF_UNIX) as peer, peer.makefile("r") as answers:
        peer.connect(str(door))
        replies = []
        for first in range(0, len(addresses), 100):
            some = addresses[first : first + 100]
            peer.sendall(("checks\n" if first == 0 else "").encode() + "".join(f"{one}\n" for one in some).encode())
            replies += [answers.readline() for _ in some]
        return replies


def test_nobody_is_taken_for_another(daemon: Daemon, tmp_path: Path, full_counts: bool, figure: Callable[[str], None]) -> None:
    """Code points that some folding turns into ASCII (all; reduced: some), in each part of an address: no two people become one."""
    count, wrong = taken_for_others(daemon, tmp_path, 1 if full_counts else 40)
    figure(f"{count} addresses with likenesses of ASCII, {len(wrong)} taken for another")
    assert wrong == []


def test_a_daemon_that_folds_all_of_unicode_is_found_out(tmp_path: Path) -> None:
    """Control: where keys are lowered as text is, the sign of the kelvin makes two people one."""
    with alive("tests.system.faulty", "fold_unicode") as daemon:
        assert "u@\u212a.net" in taken_for_others(daemon, tmp_path, 1403)[1]
