"""What a mailer hears: the truth the moment that it is acknowledged, "cannot tell" when nobody can, and an answer through every restart."""

import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bounced.client import Client, TemporaryFailure
from tests.system.ask import Mailer, TemporaryTroubleError
from tests.system.bounces import Mint
from tests.system.daemon import Daemon, alive
from tests.system.mail import MAILBOX_FULL, NO_SUCH_USER, Session, bring, report
from tests.system.waiting import until


def stale_answers(daemon: Daemon, bounces: int) -> int:
    """Bring bounces from eight clients, each asking as soon as it has its 250; return how often the answer did not know it yet."""
    mint, lock = Mint(daemon), threading.Lock()

    def bring_and_ask(share: int) -> int:
        stale = 0
        with Session(daemon.smtp) as session, Mailer(daemon.door("socketmap")) as mailer:
            for _ in range(share):
                with lock:
                    recipient, return_path, content = mint()
                assert session.bring(return_path, content)[0] == 250
                stale += not mailer.suppressed(recipient)
        return stale

    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(bring_and_ask, [bounces // 8] * 8))


def test_after_the_250_the_next_lookup_says_so(daemon: Daemon, rounds: Callable[[int, int], int], figure: Callable[[str], None]) -> None:
    """No mailer is told "clear" of an address whose bounce was acknowledged before it asked."""
    asked = rounds(1_000, 10_000)
    stale = stale_answers(daemon, asked)
    figure(f"read your writes: {asked} asked after their 250, {stale} stale")
    assert stale == 0


def test_a_lookup_behind_the_250_is_found_out(figure: Callable[[str], None]) -> None:
    """Control: with a daemon that answers before COMMIT, lookups come too early."""
    with alive("tests.system.faulty", "answer_before_commit") as daemon:
        stale = stale_answers(daemon, 200)
        figure(f"read your writes, answering before the commit: 200 asked, {stale} stale")
        assert stale > 0


def early_blocks(daemon: Daemon, recipients: int) -> tuple[int, int]:
    """Let each recipient's mailbox be full five times, each report brought by clients that are cut off before the 250 and come again.

    Returns how many were blocked before the fifth mail, and how many were not after it.
    """
    names = [f"full{number}@receiver.example" for number in range(recipients)]
    signed_at = count(int(time.time()) - 3600)
    early = 0
    with Mailer(daemon.door("socketmap")) as mailer:
        for mail in range(1, 6):
            at = next(signed_at)
            for number, name in enumerate(names):
                return_path, content = daemon.sign(name, at), report(name, MAILBOX_FULL)
                for _ in range(1 + number % 3):
                    with Session(daemon.smtp) as session:
                        session.reset_after_data(return_path, content)
                assert bring(daemon.smtp, return_path, [content])[0][0] == 250
            if mail == 4:
                early = recipients - len(mailer.missing(names))
        return early, len(mailer.missing(names))


def test_a_client_cut_off_before_its_250_comes_again_and_counts_once(daemon: Daemon, rounds: Callable[[int, int], int]) -> None:
    """Whatever was committed of the lost tries, a mail that comes back is one strike: the fifth mail blocks, and not one earlier."""
    recipients = rounds(30, 2_000)
    assert early_blocks(daemon, recipients) == (0, 0)


def test_counting_the_resent_twice_is_found_out() -> None:
    """Control: without the rule that a mail counts once, resent reports block before the fifth mail."""
    with alive("tests.system.faulty", "count_every_copy") as daemon:
        early, never = early_blocks(daemon, 10)
        assert early > 0
        assert never == 0


def test_whoever_cannot_reach_the_daemon_is_told_that_nobody_can_tell(daemon: Daemon, rounds: Callable[[int, int], int]) -> None:
    """Hung, killed or gone: the client library says TemporaryFailure and the command exits with 64 or more, every time; never "clear"."""
    dead = "dead@receiver.example"
    assert bring(daemon.smtp, daemon.sign(dead, int(time.time())), [report(dead, NO_SUCH_USER)])[0][0] == 250
    client = Client(str(daemon.door("socketmap")))
    assert not client.may_send(dead)
    assert client.may_send("live@receiver.example")

    daemon.signal(signal.SIGSTOP)
    for _ in range(rounds(8, 1_000)):
        with pytest.raises(TemporaryFailure):
            client.may_send("live@receiver.example")
    daemon.signal(signal.SIGCONT)
    until(lambda: _answers(client), "the daemon to answer again")

    daemon.kill()
    for _ in range(rounds(100, 9_000)):
        with pytest.raises(TemporaryFailure):
            client.may_send("live@receiver.example")
    assert daemon.run("check", dead).returncode >= 64
    daemon.start()
    assert not client.may_send(dead)
    client.close()


def _answers(client: Client) -> bool:
    try:
        return client.may_send("live@receiver.example")
    except TemporaryFailure:
        return False


@dataclass
class Asking:
    """Lookups without a pause while the daemon goes up and down: what went wrong with them."""

    path: Path
    dead: str
    answered: int = 0
    retried: int = 0
    wrong: list[str] = field(default_factory=list)
    longest: float = 0.0
    stop: bool = False

    def run(self) -> None:
        """Ask about the dead and the living by turns; whoever is cut off tries once more."""
        for number in count():
            if self.stop:
                return
            asked_at = time.monotonic()
            recipient = self.dead if number % 2 else "live@receiver.example"
            try:
                answer = self._ask(recipient)
            except ConnectionError:
                self.retried += 1
                try:
                    answer = self._ask(recipient)
                except (ConnectionError, OSError) as error:
                    self.wrong.append(f"not answered after one retry: {error!r}")
                    continue
            except (TemporaryTroubleError, OSError) as error:
                self.wrong.append(repr(error))
                continue
            self.longest = max(self.longest, time.monotonic() - asked_at)
            self.answered += 1
            if answer != (recipient == self.dead):
                self.wrong.append(f"{recipient}: {answer}")

    def _ask(self, recipient: str) -> bool:
        with Mailer(self.path) as mailer:
            return mailer.suppressed(recipient)


def _all_went_on(askers: list[Asking], before: list[int]) -> bool:
    return all(asker.answered > one for asker, one in zip(askers, before, strict=True))


@pytest.fixture
def activated() -> Iterator[Daemon]:
    """A daemon whose sockets somebody else holds open, as systemd does."""
    with TemporaryDirectory(prefix="bounced-") as home, socket.socket(socket.AF_UNIX) as asked:
        asked.bind(str(Path(home) / "held.sock"))
        asked.listen(1024)
        daemon = Daemon(Path(home), handed_over={"socketmap": asked})
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.kill()
            sys.stdout.write(daemon.log())


def test_lookups_live_through_restarts_and_kills(
    activated: Daemon, rounds: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    """With the socket held by systemd, lookups through restarts and kill -9 are never refused, never wrong, answered at the second try."""
    dead = "dead@receiver.example"
    assert bring(activated.smtp, activated.sign(dead, int(time.time())), [report(dead, NO_SUCH_USER)])[0][0] == 250
    path = activated.home / "held.sock"
    askers = [Asking(path, dead) for _ in range(4)]
    threads = [threading.Thread(target=asker.run) for asker in askers]
    for thread in threads:
        thread.start()
    try:
        for number in range(rounds(8, 100)):
            before = [asker.answered for asker in askers]
            if number % 2:
                activated.kill()
            else:
                assert activated.stop() == 0
            assert path.exists()
            activated.start()
            until(partial(_all_went_on, askers, before), "every mailer's next answer")
    finally:
        for asker in askers:
            asker.stop = True
        for thread in threads:
            thread.join()
    answered, retried = sum(asker.answered for asker in askers), sum(asker.retried for asker in askers)
    longest = max(asker.longest for asker in askers)
    figure(f"restarts under lookups: {answered} answered, {retried} at the second try, longest {longest:.2f} s")
    assert [asker.wrong for asker in askers if asker.wrong] == []
