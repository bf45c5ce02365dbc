"""What all sessions of the SMTP door share: their settings, their number, the memory they hold, and what is told of them.

For: the bounds that no session can keep alone. Never: a reply, a command, an octet of a mail.
"""

import asyncio
import resource
import ssl
import sys
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import structlog

from bounced import metrics
from bounced.smtp.room import Room
from bounced.smtp.sources import LOCAL, SourceLimits, Sources

_RESERVED_FILES = 256
"""Descriptors that connections leave to the store, the lookups and the log."""

_TOLD_EVERY = 60.0
"""Seconds between two log lines that sum up whom we turned away."""

LINGER = 10.0
"""Seconds that a client has to read our last words."""

_ROUND = 1.0
"""Seconds between two looks at who has used up his time: one timer for all costs less than one for each."""


class _Timed(Protocol):
    def look_at_the_time(self, now: float) -> None: ...

    def abort(self) -> None: ...


_Session = TypeVar("_Session", bound=_Timed)

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSettings:
    """How the door behaves. `hostname` is our name in the banner; times are seconds, sizes octets.

    Content beyond `max_message` is dropped and the rest is taken: the report stands at the start. The connection is cut at twice as much,
    which is the SIZE that we announce. `max_held` bounds all mail data in memory: beyond it, large messages are asked to come again.
    A session ends after `max_errors` refusals or `max_junk` commands that lead nowhere, both since its last mail; after `idle` without a
    command (`idle_crowded` where 80 % of all connections are taken), or `session` in all. Mail data comes at `min_data_rate` octets a
    second at least. With `tls`, STARTTLS is offered. Connections from the networks `proxy_from` begin with a PROXY header, which tells the
    client; from elsewhere none is believed. While the file system of the path `disk` has less than `min_free` octets free, mail is put off.
    """

    hostname: str
    max_message: int = 10 * 1024 * 1024
    max_held: int = 64 * 1024 * 1024
    max_recipients: int = 100
    max_errors: int = 20
    max_junk: int = 100
    idle: float = 60.0
    idle_crowded: float = 10.0
    session: float = 600.0
    min_data_rate: int = 500
    tls: ssl.SSLContext | None = None
    proxy_from: tuple[Network, ...] = ()
    disk: Path | None = None
    min_free: int = 0
    sources: SourceLimits = field(default_factory=SourceLimits)


class Sessions(Generic[_Session]):
    """The sessions that are open, and the work that outlives them."""

    def __init__(self, settings: SmtpSettings) -> None:
        """Begin with none, in a running loop."""
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        limits = settings.sources
        self.sources = Sources(replace(limits, connections=min(limits.connections, _files_for_connections())), self.loop.time)
        self.log = structlog.get_logger("smtp")
        self.has_room = Room(settings.disk, settings.min_free, self.loop.time) if settings.disk else _always
        self.tls = settings.tls
        """By which hands are shaken at STARTTLS; None where it is not offered."""
        self.held = 0
        """Octets of mail data in memory."""
        self.stopping = False
        """Whether the door is closing: nobody is let in any more."""
        self._open: set[_Session] = set()
        self._lingering: dict[_Session, float] = {}
        self._gone = asyncio.Event()
        self._going_round = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._turned_away: Counter[str] = Counter()

    def open(self) -> list[_Session]:
        """Return the open sessions."""
        return list(self._open)

    async def gone(self, seconds: float) -> None:
        """Wait until no session is open, but no longer than `seconds`."""
        if self._open:
            self._gone.clear()
            try:
                await asyncio.wait_for(self._gone.wait(), seconds)
            except TimeoutError:
                self.log.warning("smtp.cut", sessions=len(self._open))

    def is_proxy(self, peer: str) -> bool:
        """Whether a connection from this address begins with a PROXY header."""
        proxies = self.settings.proxy_from
        return bool(proxies) and peer != LOCAL and any(ip_address(peer) in network for network in proxies)

    def enter(self, session: _Session, client: str) -> str | None:
        """Let a session in, or say in one word why not."""
        reason = "stopping" if self.stopping else self.sources.enter(client)
        if reason is None:
            self._open.add(session)
            self._go_rounds()
        return reason

    def leave(self, session: _Session, client: str) -> None:
        """Forget a session whose connection and last commit are over; one that was not let in is only told to have ended."""
        self._lingering.pop(session, None)
        if session in self._open:
            self._open.remove(session)
            self.sources.leave(client)
            if not self._open:
                self._gone.set()

    def linger(self, session: _Session) -> None:
        """Cut a session that is closing if its client has not read our last words in time."""
        self._lingering[session] = self.loop.time() + LINGER
        self._go_rounds()

    def _go_rounds(self) -> None:
        if not self._going_round:
            self._going_round = True
            self.loop.call_later(_ROUND, self._go_round)

    def _go_round(self) -> None:
        now = self.loop.time()
        for session in self.open():
            session.look_at_the_time(now)
        for session in [session for session, due in self._lingering.items() if now >= due]:
            session.abort()
        self._going_round = False
        if self._open or self._lingering:
            self._go_rounds()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a task that no connection's end cancels."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ran)

    def turn_away(self, reason: str) -> None:
        """Count a session that we ended; a log line a minute sums them up, so that a flood does not fill the log."""
        if not self._turned_away and not self.stopping:
            self.loop.call_later(_TOLD_EVERY, self.tell)
        self._turned_away[reason] += 1
        metrics.TURNED_AWAY.labels(reason).inc()

    def tell(self) -> None:
        """Log whom we turned away since the last time."""
        if self._turned_away:
            counts = {reason.replace("-", "_"): count for reason, count in self._turned_away.items()}
            self._turned_away.clear()
            self.log.info("smtp.turned_away", sessions=self.sources.total, **counts)

    def _ran(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.log.error("smtp.fault", problem=type(error).__name__, exc_info=error)


def _always() -> bool:
    return True


def _files_for_connections() -> int:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if files == resource.RLIM_INFINITY else max(files - _RESERVED_FILES, files // 2)
