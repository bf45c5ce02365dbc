"""What Prometheus may ask: how often, how long, how many (docs/METRICS.md tells each).

For: the one place where the daemon's metrics are declared; doors and intake count, the daemon says what there is. Never: an address, a
domain or any word that strangers choose as a label: each new one is a time series for ever. Counters begin at zero with the process.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from shutil import disk_usage

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from bounced import __version__

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The content type of what `rendered` returns."""

REGISTRY = CollectorRegistry()


class Counted(Collector):
    """How often something happened, by labels; counted by one thread. The library's own counters take 5 us each time, these 0.2."""

    def __init__(self, name: str, help_: str, labels: Sequence[str]) -> None:
        """Begin with nothing, and tell it to whoever asks the registry."""
        self.labels = tuple(labels)
        self._name, self._help = name, help_
        self._times: dict[tuple[str, ...], int] = {}
        REGISTRY.register(self)

    def count(self, labels: tuple[str, ...], times: int = 1) -> None:
        """Count it once more, or `times`; 0 shows that it can happen."""
        self._times[labels] = self._times.get(labels, 0) + times

    def describe(self) -> Iterable[Metric]:
        """Tell the registry the name, before anything is counted."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """Tell what was counted."""
        metric = CounterMetricFamily(self._name, self._help, labels=self.labels)
        for labels, times in self._times.items():
            metric.add_metric(labels, times)
        yield metric


class Timed(Collector):
    """How long something took, counted by one thread."""

    def __init__(self, name: str, help_: str, bounds: Sequence[float]) -> None:
        """Begin with nothing, and tell it to whoever asks the registry. `bounds` are seconds, the least first."""
        self._name, self._help, self._bounds = name, help_, bounds
        self._seen = [0] * (len(bounds) + 1)
        self._seconds = 0.0
        REGISTRY.register(self)

    def observe(self, seconds: float) -> None:
        """Count one that took so long."""
        self._seen[bisect_left(self._bounds, seconds)] += 1
        self._seconds += seconds

    def describe(self) -> Iterable[Metric]:
        """Tell the registry the name."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """Tell what was counted."""
        metric = HistogramMetricFamily(self._name, self._help)
        upper = [*(str(bound) for bound in self._bounds), "+Inf"]
        metric.add_metric([], list(zip(upper, accumulate(self._seen), strict=True)), self._seconds)
        yield metric


RECEIVED = Counted("bounced_messages_received", "Mail whose data was taken, by what became of it.", ["result"])
BOUNCES = Counted(
    "bounced_bounces",
    "Bounces that counted, by disposition, category, and the reader that understood the report.",
    ["class", "reason", "source"],
)
TOKEN_FAILURES = Counted("bounced_token_failures", "Recipients refused because their return path proves nothing.", ["why"])
BLOCKED_IP = Counted("bounced_blocked_ip", "Bounces that say that our address is on a list: a list that a rule knows, or other.", ["list"])
LOOKUPS = Counted("bounced_lookups", "Questions whether an address may be mailed, by protocol and answer.", ["protocol", "result"])
for _result in ("suppressed", "clear", "trouble"):
    LOOKUPS.count(("http", _result), 0)
LOOKUP_SECONDS = Timed(
    "bounced_lookup_seconds",
    "Time from the octets of questions to the octets of their answers, once for what was read together.",
    (0.000005, 0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0),
)
PARSE_SECONDS = Timed(
    "bounced_parse_seconds",
    "Time to read and judge one mail.",
    (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5),
)
COMMIT_SECONDS = Timed(
    "bounced_commit_seconds",
    "Time until an event is on disk, waiting for others included.",
    (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0),
)
TURNED_AWAY = Counter(
    "bounced_smtp_turned_away",
    "SMTP sessions that we refused or ended, by reason.",
    ["why"],
    registry=REGISTRY,
)
SUPPRESSIONS = Gauge(
    "bounced_suppressions",
    "Blocks in force by cause, as counted lately.",
    ["class"],
    registry=REGISTRY,
)
ADDRESSES = Gauge("bounced_addresses", "Addresses of which something is known, as counted lately.", registry=REGISTRY)
INCIDENTS = Gauge("bounced_incidents_open", "Incidents that are open now.", ["kind"], registry=REGISTRY)
_CERTIFICATE_ENDS = Gauge(
    "bounced_certificate_ends_timestamp_seconds", "When the certificate for STARTTLS expires, Unix seconds.", registry=None
)
BUILD_INFO = Gauge("bounced_build_info", "Always 1; the version is its label.", ["version"], registry=REGISTRY)
BUILD_INFO.labels(__version__).set(1)
ProcessCollector(registry=REGISTRY)


class _Asked(Collector):
    """What is measured when somebody asks: the files of the store, the lines that the log dropped."""

    def __init__(self, database: Path, dropped: Callable[[], int]) -> None:
        self._measures: tuple[tuple[str, str, str, Callable[[], int]], ...] = (
            ("bounced_db_bytes", "gauge", "Size of the database file.", lambda: database.stat().st_size),
            ("bounced_db_wal_bytes", "gauge", "Size of its write-ahead log.", lambda: Path(f"{database}-wal").stat().st_size),
            ("bounced_db_free_bytes", "gauge", "Free space where the database lies.", lambda: disk_usage(database.parent).free),
            ("bounced_log_lines_dropped", "counter", "Log lines that found no room because nobody read.", dropped),
        )

    def collect(self) -> Iterable[Metric]:
        """Measure."""
        for name, kind, help_, measure in self._measures:
            metric = Metric(name, help_, kind)
            try:
                metric.add_sample(name if kind == "gauge" else f"{name}_total", {}, measure())
            except OSError:
                # Better no value than a wrong one: Prometheus shows the gap.
                continue
            yield metric


_asked: list[_Asked] = []


def watch(database: Path, dropped: Callable[[], int]) -> None:
    """Tell of this database and this log from now on, and of no other."""
    while _asked:
        REGISTRY.unregister(_asked.pop())
    _asked.append(_Asked(database, dropped))
    REGISTRY.register(_asked[0])


def take_stock(addresses: int, blocks: Mapping[str, int], incidents: Mapping[str, int]) -> None:
    """Set what there is: known addresses, blocks by every cause there is, open incidents by every kind there is."""
    ADDRESSES.set(addresses)
    for cause, number in blocks.items():
        SUPPRESSIONS.labels(cause).set(number)
    for kind, number in incidents.items():
        INCIDENTS.labels(kind).set(number)


def certificate_ends(at: int | None) -> None:
    """Tell when the certificate expires that STARTTLS shows, Unix seconds; None: there is none, and so no metric."""
    with suppress(KeyError):
        REGISTRY.unregister(_CERTIFICATE_ENDS)
    if at is not None:
        _CERTIFICATE_ENDS.set(at)
        REGISTRY.register(_CERTIFICATE_ENDS)


def rendered() -> bytes:
    """Return all metrics in the text format of Prometheus."""
    return generate_latest(REGISTRY)
