"""How fast returned mail is read, beside flufl.bounce in the same run (goal F3), and how long the worst inputs take.

For: `python benchmarks/reading.py TOOLS`, TOOLS the directory of gen_dsn.py, gen_worst.py and bombs.py; JSON lines on standard output.
Never: an assertion about time. All times are CPU time of this process.
"""

import email
import gc
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from flufl.bounce import all_failures

from bounced.report.reader import read

ROUNDS = 7
MESSAGES = 300
WORST_MS = 50.0
GROWTH = 2.3


def flufl(content: bytes) -> object:
    """Find the addresses as flufl.bounce does: the peer."""
    return all_failures(email.message_from_bytes(content))


def cpu(function: Callable[[bytes], object], messages: Sequence[bytes]) -> float:
    """Return the CPU seconds that `function` takes for all messages."""
    gc.collect()
    start = time.process_time()
    for message in messages:
        function(message)
    return time.process_time() - start


def compare(name: str, messages: Sequence[bytes], goal: float) -> None:
    """Print the medians of rotated rounds of ours and the peer's, and the spread of their ratio."""
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(ROUNDS):
        for function in (read, flufl) if number % 2 else (flufl, read):
            (ours if function is read else theirs).append(cpu(function, messages) / len(messages) * 1e6)
    ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
    line = {
        "goal": "F3",
        "what": name,
        "octets": sum(map(len, messages)) // len(messages),
        "us": round(statistics.median(ours), 1),
        "peer": "flufl.bounce",
        "peer_us": round(statistics.median(theirs), 1),
        "ratio": round(statistics.median(ratios), 1),
        "spread": [round(min(ratios), 1), round(max(ratios), 1)],
        "wanted": goal,
    }
    print(json.dumps(line))


def module(path: Path) -> ModuleType:
    """Load a tool from its source; it reads itself."""
    source = path.read_text(encoding="utf-8")
    loaded = ModuleType(path.stem)
    loaded.__dict__["open"] = lambda _: io.StringIO(source)
    loaded.__dict__["__file__"] = str(path)
    exec(compile(source, str(path), "exec"), loaded.__dict__)
    return loaded


def worst(inputs: dict[str, bytes]) -> None:
    """Print the slowest inputs, least of three times each, and how many are over the bound."""
    took = {name: min(cpu(read, [content]) for _ in range(3)) * 1000 for name, content in inputs.items()}
    slowest = sorted(took.items(), key=lambda pair: -pair[1])[:5]
    over = sorted(name for name, ms in took.items() if ms > WORST_MS)
    line = {"goal": "F3", "what": "worst inputs", "inputs": len(took), "slowest_ms": [(name, round(ms, 1)) for name, ms in slowest]}
    print(json.dumps(line | {"wanted_ms": WORST_MS, "over": over}))


def growth(bombs: ModuleType) -> None:
    """Print the greatest time(2n)/time(n) among the bombs that take a millisecond at all."""
    found: dict[str, float] = {}
    for kind in bombs.KINDS:
        small, large = bombs.B(kind, 128 << 10), bombs.B(kind, 256 << 10)
        base = min(cpu(read, [small]) for _ in range(3))
        if base > 0.001:
            found[kind] = round(min(cpu(read, [large]) for _ in range(3)) / base, 2)
    most = sorted(found.items(), key=lambda pair: -pair[1])[:5]
    print(json.dumps({"goal": "F3", "what": "time(2n)/time(n)", "most": most, "wanted": GROWTH}))


def main(tools: Path) -> None:
    """Generate the inputs in a directory of its own and measure."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, tools / "gen_dsn.py", f"{place}/bulk", str(MESSAGES), "1"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run([sys.executable, tools / "gen_worst.py", f"{place}/worst"], check=True, stdout=subprocess.DEVNULL)
        bulk = [path.read_bytes() for path in sorted(Path(place, "bulk", "eml").iterdir())]
        inputs = {path.stem: path.read_bytes() for path in sorted(Path(place, "worst").iterdir())}
    compare("bulk reports", bulk, 25)
    compare("reports of 3 to 5 KB", [message for message in bulk if 3000 <= len(message) <= 5000], 20)
    bombs = module(tools / "bombs.py")
    sizes = (32 << 10, 128 << 10, 1 << 20, 10 << 20)
    worst(inputs | {f"{kind} {size >> 10} KiB": bombs.B(kind, size) for kind in bombs.KINDS for size in sizes})
    growth(bombs)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "shared" / "tools"))
