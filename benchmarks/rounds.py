"""What the benchmarks share: rounds in turn, what a process used, and a line that compares.

For: what more than one of them needs. Never: a server or a client.
"""

import json
import re
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

_Server = TypeVar("_Server")


def in_turn(servers: Sequence[_Server], rounds: int) -> Iterator[tuple[bool, _Server]]:
    """Give each server once a round, every round beginning with another; and whether it counts: the first round only warms up."""
    for number in range(rounds + 1):
        first = number % len(servers)
        for server in (*servers[first:], *servers[:first]):
            yield number > 0, server


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that a process's threads have used; 0 where it has ended."""
    try:
        return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9
    except OSError:
        return 0.0


def pss(pid: int) -> int:
    """Return the proportional set size of a process, KiB."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def tell(line: dict[str, str], ours: list[float], peer: str, peers: list[float], *, higher: bool = False) -> None:
    """Print a JSON line: medians, our cost over the peer's (`higher`: the peer's over ours), and the larger of both spreads."""
    own, other = statistics.median(ours), statistics.median(peers)
    ratio = round(other / own, 2) if higher else round(own / other, 3)
    noise = round(max(_spread(ours), _spread(peers)), 2)
    print(json.dumps({**line, "ours": round(own, 1), "peer": peer, "peers": round(other, 1), "ratio": ratio, "noise": noise}), flush=True)


def _spread(figures: list[float]) -> float:
    """Return the interquartile range over the median."""
    quarters = statistics.quantiles(figures, n=4)
    return (quarters[2] - quarters[0]) / statistics.median(figures)
