"""Two processes, one list: what one of them wrote the other says at once, and goes on saying while the first is away."""

import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bounced.client import Client, TemporaryFailure
from tests.system.ask import Mailer
from tests.system.daemon import Daemon
from tests.system.mail import NO_SUCH_USER, bring, report
from tests.system.test_mailers_questions import stale_answers
from tests.system.waiting import until

DEAD, LIVE = "dead@receiver.example", "live@receiver.example"
LONG = f"{'a-local-part-that-fits-into-no-return-path-' + 'x' * 21}@receiver.example"


@dataclass
class Pair:
    """The two roles of one installation."""

    smtp: Daemon
    query: Daemon
    clients: list[Client] = field(default_factory=list)

    def client(self) -> Client:
        """A mailer's client, patient enough for a busy machine."""
        self.clients.append(Client(str(self.query.door("socketmap")), deadline=5))
        return self.clients[-1]

    def kill(self) -> None:
        """End both."""
        for client in self.clients:
            client.close()
        for daemon in (self.smtp, self.query):
            daemon.kill()
            sys.stdout.write(daemon.log())


def bounce(daemon: Daemon, recipient: str, return_path: str) -> None:
    """Bring a hard bounce."""
    assert bring(daemon.smtp, return_path, [report(recipient, NO_SUCH_USER)])[0][0] == 250


@pytest.fixture
def stopped() -> Iterator[Pair]:
    """Both roles, neither started."""
    with TemporaryDirectory(prefix="bounced-") as home:
        daemon = Daemon(Path(home))
        pair = Pair(daemon.as_role("smtp"), daemon.as_role("query"))
        yield pair
        pair.kill()


@pytest.fixture
def pair(stopped: Pair) -> Pair:
    """Both roles, started."""
    stopped.smtp.start()
    stopped.query.start()
    return stopped


def test_what_one_process_acknowledged_the_other_says(pair: Pair, rounds: Callable[[int, int], int], figure: Callable[[str], None]) -> None:
    """Read your writes across processes: no mailer is told "clear" of an address whose bounce was acknowledged before it asked."""
    asked = rounds(400, 10_000)
    stale = stale_answers(pair.smtp, asked)
    figure(f"read your writes across processes: {asked} asked after their 250, {stale} stale")
    assert stale == 0


def test_questions_are_answered_while_nobody_takes_bounces(pair: Pair) -> None:
    """With the writer stopped, hung or killed, the list is read as before; what must be written is refused, and taken again later."""
    bounce(pair.smtp, DEAD, pair.smtp.sign(DEAD, int(time.time())))
    client = pair.client()
    pair.smtp.signal(signal.SIGSTOP)
    assert (client.may_send(DEAD), client.may_send(LIVE)) == (False, True)
    pair.smtp.signal(signal.SIGCONT)
    assert pair.smtp.stop() == 0
    assert (client.may_send(DEAD), client.may_send(LIVE)) == (False, True)
    with pytest.raises(TemporaryFailure, match="cannot be signed"):
        client.return_path(LONG)
    refused = pair.query.run("release", DEAD)
    assert refused.returncode == 75
    assert "the process that writes (bounced.service) cannot be reached" in refused.stderr
    pair.smtp.start()
    pair.smtp.kill()
    assert (client.may_send(DEAD), client.may_send(LIVE)) == (False, True)
    pair.smtp.start()
    pair.query.tell("release", DEAD)
    assert client.may_send(DEAD)


def test_a_query_process_that_starts_alone_reads_what_a_killed_one_left(pair: Pair) -> None:
    """What a killed writer left in its log is on the list of a query process that starts after it."""
    bounce(pair.smtp, DEAD, pair.smtp.sign(DEAD, int(time.time())))
    pair.smtp.kill()
    pair.query.kill()
    pair.query.start()
    assert (pair.client().may_send(DEAD), pair.client().may_send(LIVE)) == (False, True)


def test_what_is_signed_at_one_process_comes_back_to_the_other(pair: Pair) -> None:
    """An opaque return path is written down before it is handed out, and its bounce blocks whom it means."""
    client = pair.client()
    return_path = client.return_path(LONG)
    assert "=" not in return_path
    bounce(pair.smtp, LONG, return_path)
    assert not client.may_send(LONG)


def test_what_people_tell_one_process_the_other_writes(pair: Pair) -> None:
    """Block, release, delivered and forget go through the query process, and a forgotten address stays blocked."""
    client = pair.client()
    pair.query.tell("block", DEAD, "--reason", "asked by letter")
    assert not client.may_send(DEAD)
    pair.query.tell("delivered", LIVE)
    assert [event["kind"] for event in pair.query.events(LIVE)] == ["delivered"]
    pair.query.tell("forget", DEAD, "--reason", "asked by law")
    assert not client.may_send(DEAD)
    assert DEAD not in pair.query.tell("list")
    pair.query.tell("release", DEAD)
    assert client.may_send(DEAD)


def test_no_list_is_temporary(stopped: Pair) -> None:
    """Without a database a query process cannot tell; as soon as there is one it can, and no more when it is taken away."""
    stopped.query.start()
    client = stopped.client()
    with pytest.raises(TemporaryFailure):
        client.may_send(LIVE)
    assert stopped.query.run("check", LIVE).returncode == 75
    stopped.smtp.start()
    until(lambda: _told(client, LIVE) is True, "the query process to find the database", shown=stopped.query.log)
    assert stopped.smtp.stop() == 0
    shutil.move(stopped.smtp.database, stopped.smtp.home / "away.db")
    until(lambda: _told(client, LIVE) is None, "the query process to miss the database", shown=stopped.query.log)


def test_a_damaged_list_is_temporary(stopped: Pair) -> None:
    """What is no database, or has lost its log, is answered "temporary failure", never "clear"."""
    stopped.smtp.start()
    bounce(stopped.smtp, DEAD, stopped.smtp.sign(DEAD, int(time.time())))
    stopped.smtp.kill()
    log = stopped.smtp.database.with_name("bounced.db-wal")
    log.rename(stopped.smtp.home / "away-wal")
    stopped.query.start()
    client = stopped.client()
    for address in (DEAD, LIVE):
        with pytest.raises(TemporaryFailure):
            client.may_send(address)
    (stopped.smtp.home / "away-wal").rename(log)
    until(lambda: _told(client, LIVE) is True, "the query process to find the log", shown=stopped.query.log)
    assert not client.may_send(DEAD)


def test_a_query_process_takes_no_mail_and_no_claim(pair: Pair) -> None:
    """Each role opens its own doors only, and no other process can write beside the one that does."""
    assert not pair.smtp.door("socketmap").is_relative_to("/run")
    second = pair.smtp.as_role("all")
    assert second.run("serve").returncode == 78
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(pair.query.door("writer")))
    assert (pair.query.door("writer").stat().st_mode & 0o777) == 0o600


def _told(client: Client, address: str) -> bool | None:
    try:
        return client.may_send(address)
    except TemporaryFailure:
        return None


def test_a_connection_outlives_the_writer(pair: Pair) -> None:
    """A mailer's open connection is not cut by a restart of the process that writes."""
    with Mailer(pair.query.door("socketmap")) as mailer:
        assert not mailer.suppressed(DEAD)
        assert pair.smtp.stop() == 0
        pair.smtp.start()
        bounce(pair.smtp, DEAD, pair.smtp.sign(DEAD, int(time.time())))
        assert mailer.suppressed(DEAD)
