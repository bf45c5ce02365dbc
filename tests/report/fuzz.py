"""Damaged mail through reader and judge, counted: `python -m tests.report.fuzz COUNT [DIRECTORY ...]`.

For: one process whose memory is that of the reading alone; seeds are our own letters and every file below the directories. It prints one
JSON object. Never: an exception that goes uncounted, also one that the reader itself catches of a library.
"""

import json
import logging
import random
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bounced.explain import as_json, as_text, explain_report
from bounced.outcome.judge import UNMATCHED
from bounced.outcome.ruleset import RuleSet
from bounced.outcome.similarity import similarity_key
from bounced.report import Report, last_resort
from bounced.report.reader import read
from tests.report import samples
from tests.report.mutations import mutated
from tests.report.seeds import EVERY

MAX_SECONDS = 1.0
MAX_MIB = 200


@dataclass(slots=True)
class Found:
    """What happened to all inputs. `library` are the exceptions of flufl.bounce, which its one caller expects and catches."""

    inputs: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    crashes: Counter[str] = field(default_factory=Counter)
    library: Counter[str] = field(default_factory=Counter)
    slow: int = 0
    slowest: float = 0.0
    first_crashes: dict[str, bytes] = field(default_factory=dict)


def through(content: bytes, rules: RuleSet, reader: Callable[[bytes], Report]) -> str:
    """Take one input all the way that a stranger's mail goes; return its kind."""
    explanation = explain_report(reader(content), rules)
    as_text(explanation)
    json.dumps(as_json(explanation, "x"))
    for recipient in explanation.recipients:
        if recipient.outcome.rule == UNMATCHED:
            similarity_key(recipient.outcome.diagnostic)
    return explanation.kind


def fuzz(count: int, seeds: Sequence[bytes], number: int, reader: Callable[[bytes], Report] = read) -> Found:
    """Send `count` damaged letters through, the same ones for the same random `number`."""
    rules, chance, found = RuleSet.builtin(), random.Random(number), Found()
    asked = last_resort.all_failures

    def counted(*words: object) -> object:
        try:
            return asked(*words)
        except Exception as error:
            found.library[type(error).__name__] += 1
            raise

    last_resort.all_failures = counted
    try:
        for _ in range(count):
            content = mutated(chance.choice(seeds), seeds, chance)
            begun = time.process_time()
            try:
                found.kinds[through(content, rules, reader)] += 1
            except Exception as error:  # noqa: BLE001 - every one is a finding
                where = traceback.extract_tb(error.__traceback__)[-1]
                name = f"{type(error).__name__} {Path(where.filename).name}:{where.lineno}"
                found.crashes[name] += 1
                found.first_crashes.setdefault(name, content)
            took = time.process_time() - begun
            found.inputs += 1
            found.slow += took > MAX_SECONDS
            found.slowest = max(found.slowest, took)
    finally:
        last_resort.all_failures = asked
    return found


def seeds_of(directories: Iterable[Path]) -> list[bytes]:
    """Return our own letters and what the directories hold."""
    files = (path for directory in directories for path in sorted(directory.rglob("*")) if path.is_file())
    return [*samples.ALL.values(), *samples.RFC_EXAMPLES.values(), *EVERY.values(), *(path.read_bytes() for path in files)]


def peak_mib() -> int:
    """Return how much of this process was resident at most. Not ru_maxrss: it begins with the peak of whoever started us (getrusage(2))."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) >> 10


def main(count: int, directories: Sequence[Path]) -> None:
    """Fuzz and print what was found."""
    logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)  # it writes a traceback for what is counted here
    seeds = seeds_of(directories)
    begun = time.process_time()
    found = fuzz(count, seeds, 20261122)
    told = {
        "inputs": found.inputs,
        "seeds": len(seeds),
        "kinds": dict(found.kinds.most_common()),
        "crashes": dict(found.crashes),
        "caught_of_flufl_bounce": dict(found.library.most_common()),
        "over_1_s": found.slow,
        "slowest_s": round(found.slowest, 3),
        "peak_mib": peak_mib(),
        "cpu_s": round(time.process_time() - begun),
        "first_crashes": {name: content.hex() for name, content in found.first_crashes.items()},
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
