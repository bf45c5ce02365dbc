"""Counts of what came and changed no record: kept for some seconds in memory, then added to the store's tallies.

For: the numbers from which a flood of forged or of unannounced mail is told. Never: a row for each stranger; a count that is lost with a
crash is some seconds of them.
"""

import ipaddress
from collections import Counter
from datetime import UTC, datetime
from functools import lru_cache

from bounced.store import Store, Tally

_DAY = 86_400
MOST_SOURCES = 1000
"""Sources told apart on one day; a flood from more is counted under one name. Each is a row of the store."""


class Counts:
    """Counts that wait for the store."""

    def __init__(self) -> None:
        """Begin with none."""
        self._waiting: Counter[Tally] = Counter()
        self._today: Counter[Tally] = Counter()
        self._day = ""

    def add(self, what: str, at: int, client: str = "", most: int | None = None) -> None:
        """Count one more of `what`, brought by a client. `most`: of one public network so many count on a day."""
        tally = Tally(day=_day(at // _DAY), what=what, source=_network(client))
        if tally.day != self._day:
            self._day, self._today = tally.day, Counter()
        if tally not in self._today and len(self._today) >= MOST_SOURCES:
            tally = Tally(day=tally.day, what=what, source="")
        self._today[tally] += 1
        if most is None or self._today[tally] <= most or not _is_stranger(client):
            self._waiting[tally] += 1

    async def flush(self, store: Store) -> None:
        """Add them to the store's; they wait for the next time if it cannot. Raises StoreFault."""
        waiting, self._waiting = self._waiting, Counter()
        try:
            if waiting:
                await store.count(waiting)
        except BaseException:
            self._waiting.update(waiting)
            raise


@lru_cache(maxsize=2)
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * _DAY, UTC).date().isoformat()


@lru_cache(maxsize=1024)
def _network(client: str) -> str:
    """Return the network that a client counts under: /24 of IPv4, /64 of IPv6; other words as they are."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 64), strict=False))


def _is_stranger(client: str) -> bool:
    """Tell whether a client is somewhere on the Internet; a mail server of ours may bring what many strangers sent."""
    try:
        return ipaddress.ip_address(client).is_global
    except ValueError:
        return False
