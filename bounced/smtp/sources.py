"""Who is connected, and how much one source may take (RFC 5321 section 7.8).

For: counting connections by source: an IPv4 address, or a /64 of IPv6, since that is what one customer holds. Never: closing a connection,
or judging a mail. What comes over a unix socket is one of us: it counts among all, but is no source.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

LOCAL = "local"
"""The source of what comes over a unix socket."""

_MOST_SOURCES = 100_000
"""Sources told apart within one window; with more, all begin anew: memory stays bounded, and the limits on connections still hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLimits:
    """How much there may be at a time: `connections` in all and `per_source`; `rate` new ones a minute from a source; `kept` mails
    for postmaster and abuse an hour from a source.
    """

    connections: int = 10_000
    per_source: int = 50
    rate: int = 300
    kept: int = 60


class Sources:
    """The connections that are open. `clock` gives seconds that never go back."""

    def __init__(self, limits: SourceLimits, clock: Callable[[], float]) -> None:
        """Begin with nobody connected."""
        self._limits = limits
        self._open: dict[str, int] = {}
        self._new = _Window(60, clock)
        self._kept = _Window(3600, clock)
        self.total = 0
        """Connections that are open now."""

    @property
    def crowded(self) -> bool:
        """Whether over 80 % of all connections are taken, so that nobody may idle for long."""
        return self.total * 5 > self._limits.connections * 4

    def enter(self, client: str) -> str | None:
        """Count a new connection, or say in one word why it may not stay; then it is not counted."""
        source = _source(client)
        if self.total >= self._limits.connections:
            return "full"
        if source != LOCAL:
            here = self._open.get(source, 0)
            if here >= self._limits.per_source:
                return "source-full"
            if self._new.add(source) > self._limits.rate:
                return "source-rate"
            self._open[source] = here + 1
        self.total += 1
        return None

    def leave(self, client: str) -> None:
        """Count a connection out that `enter` let in."""
        source = _source(client)
        self.total -= 1
        if source != LOCAL:
            here = self._open.pop(source) - 1
            if here:
                self._open[source] = here

    def may_keep(self, client: str) -> bool:
        """Whether one more mail from this client's source may be kept for a person here; asking counts."""
        source = _source(client)
        return source == LOCAL or self._kept.add(source) <= self._limits.kept


class _Window:
    """Counts within fixed stretches of time."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._ends = clock() + seconds
        self._counts: dict[str, int] = {}

    def add(self, source: str) -> int:
        now = self._clock()
        if now >= self._ends or len(self._counts) >= _MOST_SOURCES:
            self._counts = {}
            self._ends = now + self._seconds
        count = self._counts.get(source, 0) + 1
        self._counts[source] = count
        return count


def _source(client: str) -> str:
    if ":" not in client:
        return client
    try:
        address = ipaddress.IPv6Address(client)
    except ValueError:
        return client
    return str(ipaddress.IPv6Network((address, 64), strict=False).network_address)


def client_of(peer: object) -> str:
    """Return the client's IP address from what a socket calls its peer, or "local" for a unix socket, which says '' or a path."""
    if not isinstance(peer, tuple):
        return LOCAL
    client = str(peer[0])
    if "." in client:
        return client.removeprefix("::ffff:")  # IPv4 on a socket that listens on both families
    return client.partition("%")[0]  # the zone of a link-local address names an interface of ours
