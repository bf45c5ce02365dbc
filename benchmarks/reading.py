"""What reading and judging costs, against flufl.bounce, which only finds addresses, in the same run.

    python -m benchmarks.reading [--rounds N] [--reports N] [--shared DIRECTORY]

Prints JSON lines: CPU in microseconds per message, read and judged with all of our rules (and, beside it, read alone), for bulk reports
(mean 15 KB) and their small ones, for the corpus without our own laboratory's bounces, and with them. What is remembered of one text
helps with the next like it, as it does in the daemon, but no message is met twice: each round has a process of its own. Then the dearest
of the worst inputs and bombs with what they take, and how the cost of each kind grows: time(2n)/time(n). Inputs come from the corpus and
the tools beside the project. Rounds of both sides alternate, and a ratio is that of one round, so that other work on the machine
weighs on both; medians are printed with their spread (interquartile range over median).
"""

import argparse
import email
import gc
import importlib.util
import json
import logging
import os
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

from flufl.bounce import all_failures

from bounced.outcome.judge import judge, judge_feedback
from bounced.outcome.ruleset import RuleSet
from bounced.report import DeliveryReport, FeedbackReport
from bounced.report.reader import read

_SHARED = Path(__file__).resolve().parents[2] / "shared"
_RULES = RuleSet.builtin()
_SMALL = 6000
"""Octets below which a bulk report counts as small; those are 3 to 4 KB in the mean."""

Bomb = Callable[[int], bytes]


def ours(content: bytes) -> None:
    """Read and judge."""
    report = read(content)
    if isinstance(report, DeliveryReport):
        for recipient in report.recipients:
            judge(recipient, report.reporting_mta, _RULES)
    elif isinstance(report, FeedbackReport):
        judge_feedback(report)


def reading(content: bytes) -> None:
    """Read, and leave it unjudged."""
    read(content)


def peers(content: bytes) -> None:
    """Parse with the standard library, and have flufl.bounce find the addresses."""
    try:
        all_failures(email.message_from_bytes(content))
    except Exception:  # noqa: BLE001 - it raises whatever it likes
        return


def cpu(side: Callable[[bytes], object], messages: list[bytes]) -> float:
    """Return the microseconds that a message takes."""
    gc.collect()
    started = time.process_time()
    for content in messages:
        side(content)
    return (time.process_time() - started) / len(messages) * 1e6


def apart(side: Callable[[bytes], None], messages: list[bytes]) -> float:
    """Return the same of a process that has read nothing before."""
    given, taken = os.pipe()
    child = os.fork()
    if child == 0:
        cpu(len, messages)  # The pages that fork shares are copied when an object in them is first touched: not what reading costs.
        os.write(taken, struct.pack("d", cpu(side, messages)))
        os._exit(0)
    os.close(taken)
    told = os.read(given, 8)
    os.close(given)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"a child ended with {status}")
    microseconds: float = struct.unpack("d", told)[0]
    return microseconds


def spread(values: list[float]) -> float:
    low, middle, high = statistics.quantiles(values, n=4)
    return round((high - low) / middle, 3) if middle else 0.0


def compare(what: str, messages: list[bytes], rounds: int, goal: str) -> None:
    """Measure both sides in turn, and print a line."""
    mine, theirs, read_alone = [], [], []
    for _ in range(rounds):
        mine.append(apart(ours, messages))
        theirs.append(apart(peers, messages))
        read_alone.append(apart(reading, messages))
    value, peer_value = statistics.median(mine), statistics.median(theirs)
    ratios, read_ratios = (
        [theirs_then / ours_then for theirs_then, ours_then in zip(theirs, side, strict=True)] for side in (mine, read_alone)
    )
    figures = {
        "what": what,
        "messages": len(messages),
        "mean_octets": sum(map(len, messages)) // len(messages),
        "unit": "us_cpu",
        "value": round(value, 1),
        "spread": spread(mine),
        "read_alone": round(statistics.median(read_alone), 1),
        "peer": "flufl.bounce",
        "peer_value": round(peer_value, 1),
        "peer_spread": spread(theirs),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_spread": spread(ratios),
        "read_alone_ratio": round(statistics.median(read_ratios), 2),
        "goal": goal,
    }
    print(json.dumps(figures), flush=True)


def least(content: bytes, times: int = 3) -> float:
    """Return the milliseconds that one message takes at best."""
    return min(cpu(ours, [content]) for _ in range(times)) / 1e3


def memory(content: bytes) -> float:
    """Return the most memory in use while reading, as a multiple of the message."""
    tracemalloc.start()
    ours(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / max(len(content), 1 << 20)


def worst(inputs: dict[str, bytes]) -> None:
    """Print the dearest inputs, and the whole as one line."""
    taken = sorted(((least(content), name) for name, content in inputs.items()), reverse=True)
    for milliseconds, name in taken[:8]:
        octets = len(inputs[name])
        print(json.dumps({"what": f"worst: {name}", "octets": octets, "unit": "ms_cpu", "value": round(milliseconds, 1), "goal": "<= 50"}))
    most = max((memory(content), name) for name, content in inputs.items())
    figures = {"what": "worst, all", "inputs": len(inputs), "over_50_ms": sum(ms > 50 for ms, _ in taken), "most_memory_of": most[1],
               "unit": "memory over message (at least 1 MiB)", "value": round(most[0], 2), "goal": "<= 2"}  # fmt: skip
    print(json.dumps(figures), flush=True)


def alone(content: bytes) -> tuple[float, float]:
    """Return milliseconds of CPU and MiB of growth of a process that reads and judges one message and nothing else."""
    given, taken = os.pipe()
    child = os.fork()
    if child == 0:
        before = resource.getrusage(resource.RUSAGE_SELF)
        ours(content)
        after = resource.getrusage(resource.RUSAGE_SELF)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        os.write(taken, struct.pack("dd", seconds * 1000, (after.ru_maxrss - before.ru_maxrss) / 1024))
        os._exit(0)
    os.close(taken)
    told = os.read(given, 16)
    os.close(given)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"a child ended with {status}")
    milliseconds, mebibytes = struct.unpack("dd", told)
    return milliseconds, mebibytes


def bound(bombs: dict[str, Bomb]) -> None:
    """Print the dearest bomb of each size, each in a process of its own (P2). The daemon reads in its loop: so long it stands still."""
    ours(b"From: MAILER-DAEMON\nSubject: failure notice\n\n<a@example.org>:\n550 5.1.1 no such user\n")
    for size in (32 << 10, 128 << 10, 1 << 20):
        rounds = {name: [alone(bomb(size)) for _ in range(3)] for name, bomb in bombs.items()}
        slowest = max((min(ms for ms, _ in taken), name) for name, taken in rounds.items())
        largest = max((max(mib for _, mib in taken), name) for name, taken in rounds.items())
        figures = {"what": f"bombs of {size >> 10} KiB", "inputs": len(rounds), "unit": "ms_cpu", "value": round(slowest[0], 1)}
        figures |= {"of": slowest[1], "goal": "<= 50", "mib": round(largest[0], 1), "mib_of": largest[1], "mib_goal": "<= 64"}
        print(json.dumps(figures), flush=True)


def growth(bombs: dict[str, Bomb], size: int = 256 << 10) -> None:
    """Print how the cost of the dearest kinds grows when they double, below the bound on what is scanned."""
    ratios = []
    for name, bomb in bombs.items():
        once = least(bomb(size), 5)
        if once > 2:
            ratios.append((least(bomb(2 * size), 5) / once, name))
    for ratio, name in sorted(ratios, reverse=True)[:5]:
        print(json.dumps({"what": f"growth: {name}", "unit": "time(2n)/time(n)", "value": round(ratio, 2), "goal": "<= 2.3"}), flush=True)


def bombs_of(shared: Path) -> dict[str, Bomb]:
    """Return the kinds of bombs, each a function of its size."""
    spec = importlib.util.spec_from_file_location("bombs", shared / "tools" / "bombs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {kind: partial(module.B, kind) for kind in module.KINDS}


def generated(shared: Path, directory: Path, tool: str, *arguments: str) -> dict[str, bytes]:
    """Run a generator and return what it wrote, by name."""
    subprocess.run([sys.executable, shared / "tools" / tool, directory / tool, *arguments], check=True, stdout=subprocess.DEVNULL)
    return {path.stem: path.read_bytes() for path in sorted((directory / tool).rglob("*.eml"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reports", type=int, default=2000)
    parser.add_argument("--shared", type=Path, default=_SHARED)
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)  # flufl.bounce logs what its detectors raise
    if not (given.shared / "tools").is_dir():
        print(json.dumps({"what": "reading", "skipped": "the corpus and the tools are not beside the project"}))
        return
    labels = [json.loads(line) for line in (given.shared / "corpus" / "labels.jsonl").read_text().splitlines()]
    corpus = {label["id"]: (given.shared / "corpus" / label["file"]).read_bytes() for label in labels}
    with tempfile.TemporaryDirectory() as name:
        bulk = list(generated(given.shared, Path(name), "gen_dsn.py", str(given.reports)).values())
        inputs = generated(given.shared, Path(name), "gen_worst.py")
    compare("bulk reports", bulk, given.rounds, ">= 25")
    compare("small reports", [content for content in bulk if len(content) < _SMALL], given.rounds, ">= 20")
    compare("open corpus", [content for name, content in corpus.items() if not name.startswith("real/")], given.rounds, ">= 6")
    compare("whole corpus", list(corpus.values()), given.rounds, "none")
    bombs = bombs_of(given.shared)
    worst(
        inputs
        | {f"{kind} {size >> 10} KiB": bomb(size) for kind, bomb in bombs.items() for size in (32 << 10, 128 << 10, 1 << 20, 10 << 20)}
    )
    bound(bombs)
    growth(bombs)


if __name__ == "__main__":
    main()
