"""Many clients that bring bounces as fast as they are taken, and remember what was acknowledged.

For: the tests in which the daemon dies under load. Never: a judgement; the tests compare what was acknowledged with what is known.
"""

import smtplib
import threading
from collections.abc import Callable

from tests.system.mail import Session
from tests.system.waiting import PATIENCE

CLIENTS = 16

Bounce = tuple[str, str, bytes]
"""Whom it is about, the return path it comes to, and the content."""


class Load:
    """`clients` sessions, from `start` until the server is gone or `stop`. Each bounce is brought once.

    `acknowledged` are the recipients whose bounce got a 250, in that order; `refused` every other reply, by recipient.
    """

    def __init__(self, address: tuple[str, int], mint: Callable[[], Bounce], clients: int = CLIENTS) -> None:
        """Prepare; `mint` makes the next bounce and is called by one thread at a time."""
        self._address = address
        self._mint = mint
        self._news = threading.Condition()
        self._stopping = False
        self._closed = False
        self._running = clients
        self.acknowledged: list[str] = []
        self.refused: list[tuple[str, tuple[int, str]]] = []
        self._threads = [threading.Thread(target=self._bring_on, name=f"client-{number}") for number in range(clients)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> int:
        """How many sessions go on: the server has cut the others."""
        return self._running

    def wait_for(self, count: int) -> None:
        """Return the moment that `count` bounces are acknowledged in all."""
        with self._news:
            while self._running and len(self.acknowledged) < count:
                assert self._news.wait(PATIENCE), f"nothing happens after {len(self.acknowledged)} of {count}"
        assert len(self.acknowledged) >= count, f"the server went away after {len(self.acknowledged)} of {count}; {self.refused[:3]}"

    def stop(self) -> None:
        """Let every client end what it has begun; harmless after the server is gone."""
        self._stopping = True
        for thread in self._threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads), "a client hangs"

    def wait_for_refusal(self) -> None:
        """Return the moment that a bounce is refused for the first time."""
        with self._news:
            done = self._news.wait_for(lambda: self.refused or not self._running, PATIENCE)
        assert done, f"nothing was refused; {len(self.acknowledged)} acknowledged"

    def close_the_books(self) -> None:
        """Count no reply that comes after this moment."""
        with self._news:
            self._closed = True

    def _bring_on(self) -> None:
        try:
            with Session(self._address) as session:
                while not self._stopping:
                    self._bring_one(session)
        except (smtplib.SMTPException, OSError):
            pass  # The server is gone: that is what these tests are about.
        finally:
            with self._news:
                self._running -= 1
                self._news.notify_all()

    def _bring_one(self, session: Session) -> None:
        with self._news:
            recipient, return_path, content = self._mint()
        reply = session.bring(return_path, content)
        with self._news:
            if self._closed:
                return
            if reply[0] == 250:
                self.acknowledged.append(recipient)
            else:
                self.refused.append((recipient, reply))
            self._news.notify_all()
