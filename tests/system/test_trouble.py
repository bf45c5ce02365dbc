"""When the disk fails or is full, bounces are put off (4xx) and nothing acknowledged is lost; when it is well again, so is the daemon.

A 5xx would destroy the only copy of a bounce; a false 250 would too.
"""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.ask import Mailer, TemporaryTroubleError
from tests.system.bounces import Mint
from tests.system.daemon import DOMAIN, Daemon, DaemonRefusedError, alive
from tests.system.load import Load
from tests.system.mail import NO_SUCH_USER, Session, report, vacation
from tests.system.tracing import calls, traced
from tests.system.waiting import until


@pytest.fixture
def output(tmp_path: Path, as_root: None, need_program: Callable[[str], str]) -> Path:
    """Where strace writes."""
    need_program("strace")
    return tmp_path / "strace"


@pytest.fixture
def small_disk(tmp_path: Path, as_root: None) -> Iterator[Path]:
    """A file system of one megabyte."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


def taken_again(daemon: Daemon, mint: Mint) -> bool:
    """Bring one bounce; tell whether it is acknowledged and known."""
    recipient, return_path, content = mint()
    with Session(daemon.smtp) as session, Mailer(daemon.door("socketmap")) as mailer:
        code, _ = session.bring(return_path, content)
        assert code // 100 in {2, 4}, code
        return code == 250 and mailer.suppressed(recipient)


def bring_while_syncs_fail(daemon: Daemon, output: Path) -> tuple[Load, int]:
    """Let each fdatasync from the 5th to the 30th fail with EIO under load; return the load, and how many acknowledged are not known."""
    load = Load(daemon.smtp, Mint(daemon), clients=8)
    with traced(daemon.pid, output, "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=5..30"):
        load.start()
        try:
            until(lambda: len(calls(output)) > 40, "the disk to be well again", shown=daemon.log)
        finally:
            load.stop()
    daemon.kill()
    daemon.start()
    with Mailer(daemon.door("socketmap")) as mailer:
        return load, len(mailer.missing(load.acknowledged))


def test_errors_of_the_disk_put_bounces_off_and_lose_none(daemon: Daemon, output: Path, figure: Callable[[str], None]) -> None:
    """While fdatasync fails, every reply is 250 for what is on disk or 451; afterwards bounces are taken again, without a restart."""
    load, missing = bring_while_syncs_fail(daemon, output)
    figure(f"EIO in fdatasync: {len(load.acknowledged)} acknowledged, {missing} missing, {len(load.refused)} put off")
    assert missing == 0
    assert {reply[0] for _, reply in load.refused} == {451}
    assert load.acknowledged


def test_answering_before_the_commit_is_found_out_by_errors_of_the_disk(output: Path) -> None:
    """Control: a daemon that answers before COMMIT says 250 to what the disk then refuses."""
    with alive("tests.system.faulty", "answer_before_commit") as daemon:
        _, missing = bring_while_syncs_fail(daemon, output)
        assert missing > 0


def until_refused(daemon: Daemon, mint: Mint) -> Load:
    """Bring bounces until one is put off."""
    load = Load(daemon.smtp, mint, clients=8)
    load.start()
    try:
        load.wait_for_refusal()
    finally:
        load.stop()
    return load


@pytest.mark.parametrize("min_free", ["64MiB", "0B"])
def test_a_full_disk_puts_bounces_off_while_lookups_go_on(small_disk: Path, min_free: str, figure: Callable[[str], None]) -> None:
    """With no room left every bounce is put off and none is lost; mailers are answered all the time; with room again, bounces are taken."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(256 << 10))
    with alive(database=small_disk / "bounced.db", settings={"smtp": {"min_free": min_free}}) as daemon:
        mint = Mint(daemon)
        load = until_refused(daemon, mint)
        with Mailer(daemon.door("socketmap")) as mailer:
            missing = len(mailer.missing(load.acknowledged))
        figure(f"disk full: {len(load.acknowledged)} acknowledged, {missing} missing, {len(load.refused)} put off")
        assert missing == 0
        assert {reply[0] for _, reply in load.refused} <= {451, 452}
        if min_free != "0B":
            # The disk is looked at once a second.
            until(lambda: taken_again(daemon, mint) or "smtp.disk_full" in daemon.log(), "mail to be put off", shown=daemon.log)

        ballast.unlink()
        until(lambda: taken_again(daemon, mint), "a bounce to be taken again", shown=daemon.log)


def test_a_start_on_a_full_disk_is_tried_again(small_disk: Path) -> None:
    """Killed on a disk without room, it ends with exit code 75, so that systemd tries again, and not 78; with room all is there."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(256 << 10))
    with alive(database=small_disk / "bounced.db", settings={"smtp": {"min_free": "0B"}}) as daemon:
        load = until_refused(daemon, Mint(daemon))
        daemon.kill()
        with (small_disk / "rest").open("wb", buffering=0) as rest, contextlib.suppress(OSError):
            while rest.write(bytes(4096)) == 4096:
                pass

        with pytest.raises(AssertionError, match=r"exit 75:(.|\n)*there is no room"):
            daemon.start()

        ballast.unlink()
        daemon.start()
        with Mailer(daemon.door("socketmap")) as mailer:
            assert mailer.missing(load.acknowledged) == []


def test_answering_before_the_commit_is_found_out_by_a_full_disk(small_disk: Path) -> None:
    """Control: a daemon that answers before COMMIT says 250 to what no longer fits."""
    with alive(
        "tests.system.faulty", "answer_before_commit", database=small_disk / "bounced.db", settings={"smtp": {"min_free": "0B"}}
    ) as daemon:
        load = Load(daemon.smtp, Mint(daemon), clients=8)
        load.start()
        try:
            until(lambda: "StoreFault" in daemon.log() or os.statvfs(small_disk).f_bavail == 0, "the disk to be full", shown=daemon.log)
            load.wait_for(len(load.acknowledged) + 100)
        finally:
            load.stop()
        with Mailer(daemon.door("socketmap")) as mailer:
            assert mailer.missing(load.acknowledged)


def test_another_program_that_reads_without_an_end_puts_bounces_off(figure: Callable[[str], None]) -> None:
    """Nobody can cut a foreign reader: at the log's limit bounces get 451, the log says why, mailers are answered; all is over with it."""
    with alive("tests.system.short_log") as daemon:
        mint = Mint(daemon)
        with contextlib.closing(sqlite3.connect(daemon.database, isolation_level=None)) as foreign:
            foreign.execute("BEGIN")
            foreign.execute("SELECT count(*) FROM event").fetchall()
            load = until_refused(daemon, mint)
            log = daemon.database.with_name("bounced.db-wal").stat().st_size
            figure(f"foreign reader: {len(load.acknowledged)} acknowledged, {len(load.refused)} put off, log of {log >> 10} KiB")
            assert {reply[0] for _, reply in load.refused} == {451}
            assert log < 2 * (40 << 20) // 100
            assert "some other program reads the database and does not end" in daemon.log()
            with Mailer(daemon.door("socketmap")) as mailer:
                assert mailer.missing(load.acknowledged) == []
        until(lambda: taken_again(daemon, mint), "a bounce to be taken again", shown=daemon.log)


def connections(output: Path, *module: str, bounces: int = 20) -> list[str]:
    """Return every connection to another host, or to a port of this one, that a daemon opens while it takes bounces and is asked."""
    with alive(*module) as daemon:
        mint = Mint(daemon)
        with traced(daemon.pid, output, "-e", "trace=connect"):
            for _ in range(bounces):
                assert taken_again(daemon, mint)
            assert daemon.run("why", "user@receiver1.example").returncode == 0
            assert daemon.run("sign", "user@receiver1.example").returncode == 0
            daemon.stop()
    # glibc asks nscd on a unix socket for the name of the user who released something.
    return [call.text for call in calls(output) if call.name == "connect" and "sa_family=AF_UNIX" not in call.text]


def test_the_daemon_opens_no_connection(output: Path, full_counts: bool) -> None:
    """Bounces, questions, commands and an orderly end: not one connect(2), so that it needs no network of its own."""
    assert connections(output, bounces=10_000 if full_counts else 20) == []


def test_a_daemon_that_calls_home_is_found_out(output: Path) -> None:
    """Control: a daemon that opens a connection for each bounce is seen doing so."""
    assert len(connections(output, "tests.system.faulty", "call_home")) == 20


def words_to_the_world(output: Path, *module: str, times: int) -> list[str]:
    """Return each call by which a daemon speaks to a host or runs a program while it gets bounces of bounces, six kinds, each so often."""
    with alive(*module) as daemon:
        signed = Mint(daemon)
        with traced(daemon.pid, output, "-e", "trace=connect,sendto,sendmsg,sendmmsg,execve"):
            for _ in range(times):
                recipient, return_path, _ = signed()
                # Our own words of refusal, returned to us: by a null sender and by one that could be answered.
                bounce = report("mailer-daemon@receiver.example", NO_SUCH_USER, sender="MAILER-DAEMON@sender.example")
                bounce = bounce.replace(b"Subject: News", b"Return-Path: <>\r\nAuto-Submitted: auto-replied\r\nSubject: Undelivered Mail")
                mails = [(return_path, bounce), (f"postmaster@{DOMAIN}", bounce), (f"b+forged@{DOMAIN}", vacation(recipient))]
                with Session(daemon.smtp) as session:
                    senders = ("", "MAILER-DAEMON@receiver.example")
                    codes = [session.bring(*mail, sender=sender)[0] for sender in senders for mail in mails]
                assert codes == [250, 250, 550] * 2
            daemon.stop()
    world = ("sa_family=AF_INET", "sa_family=AF_INET6")
    return [call.text for call in calls(output) if call.name == "execve" or any(family in call.text for family in world)]


def test_bounces_of_bounces_are_answered_by_nobody(output: Path, full_counts: bool, figure: Callable[[str], None]) -> None:
    """Whoever returns a bounce to us, and whatever we refuse of it, gets no mail: no connection, no datagram, no program is run."""
    times = 10_000 // 6 + 1 if full_counts else 5
    assert words_to_the_world(output, times=times) == []
    figure(f"{6 * times} bounces of bounces: no connect(2), no datagram to any host, no program run")


def test_a_daemon_that_answers_bounces_is_found_out(output: Path) -> None:
    """Control: a daemon that opens a connection for each bounce is seen doing so."""
    assert len(words_to_the_world(output, "tests.system.faulty", "call_home", times=2)) >= 2


def answers_while_reads_fail(daemon: Daemon, output: Path) -> set[str]:
    """Have an address blocked, let each pread64 fail with EIO, and return what a mailer is told of the address."""
    recipient, return_path, content = Mint(daemon)()
    with Session(daemon.smtp) as session:
        assert session.bring(return_path, content)[0] == 250
    told = set()
    with traced(daemon.pid, output, "-e", "trace=pread64", "-e", "inject=pread64:error=EIO"), Mailer(daemon.door("socketmap")) as mailer:
        for _ in range(20):
            try:
                told.add("suppressed" if mailer.suppressed(recipient) else "clear")
            except TemporaryTroubleError:
                told.add("trouble")
    return told


def test_what_cannot_be_read_is_never_clear(daemon: Daemon, output: Path) -> None:
    """While the disk gives nothing back, a mailer is told "temporary failure" of a dead address, or what memory still knows."""
    told = answers_while_reads_fail(daemon, output)
    assert "trouble" in told
    assert "clear" not in told


def test_a_daemon_that_says_clear_in_trouble_is_found_out(output: Path) -> None:
    """Control: a daemon that calls clear what it cannot read is heard saying so."""
    with alive("tests.system.faulty", "clear_in_trouble") as daemon:
        assert "clear" in answers_while_reads_fail(daemon, output)


def refuses(address: tuple[str, int]) -> bool:
    """Tell whether nobody listens there."""
    try:
        socket.create_connection(address).close()
    except ConnectionRefusedError:
        return True
    return False


def test_one_deaf_client_keeps_no_other_door_open(daemon: Daemon) -> None:
    """At the end all doors close at once: a mailer that reads no answers costs none of them the time that the unit leaves for the end."""
    daemon.tell("block", "joe@remote.example", "--reason", "an answer longer than its question")
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(str(daemon.door("socketmap")))
        deaf.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                deaf.send(b"25:access joe@remote.example," * 100)

        daemon.signal(signal.SIGTERM)

        until(lambda: refuses(daemon.smtp), "the SMTP door to close", shown=daemon.log)
        assert "query.cut" not in daemon.log()
    assert daemon.wait() == 0


def test_what_rotted_unseen_ends_the_daemon(daemon: Daemon) -> None:
    """A file that rotted while it was closed, without a trace, is served until the check in the background finds it: one line, exit 78."""
    daemon.tell("block", "joe@remote.example", "--reason", "so that there is something to lose")
    assert daemon.stop() == 0
    with contextlib.closing(sqlite3.connect(daemon.database)) as connection:
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'event'").fetchall()
    status = daemon.database.stat()
    with daemon.database.open("r+b") as stream:
        stream.seek((page - 1) * 4096)
        stream.write(b"\xa5" * 4096)
    os.utime(daemon.database, ns=(status.st_atime_ns, status.st_mtime_ns))

    daemon.start()

    assert daemon.wait() == 78
    assert "is damaged, in event: found while it was served" in daemon.log().splitlines()[-2]
    with pytest.raises(DaemonRefusedError, match="was found damaged"):
        daemon.start()
