"""strace around a running process: faults put into its system calls, and the order of what it does.

For: deaths at an exact point, and proof of what left the house when. Never: the product's help; it does not know that it is watched.
"""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.system.waiting import PATIENCE, until


@contextmanager
def traced(pid: int, output: Path, *options: str) -> Iterator[None]:
    """Have every thread of `pid` under strace with `options` while the block runs; what it writes goes to `output`."""
    strace = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", str(output), *options, "-p", str(pid)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        until(lambda: _is_traced(pid, strace), "strace to have every thread")
        yield
    finally:
        strace.terminate()
        strace.wait(PATIENCE)
        assert strace.stderr is not None
        strace.stderr.close()


def _is_traced(pid: int, strace: subprocess.Popen[bytes]) -> bool:
    if strace.poll() is not None:
        assert strace.stderr is not None
        raise AssertionError(f"strace ended: {strace.stderr.read().decode()}")
    threads = Path(f"/proc/{pid}/task").glob("*/status")
    return all(f"\nTracerPid:\t{strace.pid}\n" in status.read_text() for status in threads)


@dataclass(frozen=True, slots=True)
class Call:
    """One system call: its name, the file descriptor with strace's name for it, its text, and the lines on which it began and ended."""

    name: str
    file: str
    text: str
    began: int
    ended: int


_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)")
_UNFINISHED = " <unfinished ...>"


def calls(output: Path) -> list[Call]:
    """Read what strace -y wrote, with the halves of interrupted lines put together, in the order of their ends."""
    waiting: dict[str, tuple[int, str]] = {}
    found: list[Call] = []
    for number, line in enumerate(output.read_text().splitlines()):
        match = _LINE.fullmatch(line)
        if not match:
            continue
        thread, resumed, name, rest = match.groups()
        if rest.endswith(_UNFINISHED):
            waiting[thread] = (number, rest.removesuffix(_UNFINISHED))
            continue
        began, text = number, rest
        if resumed:
            began, first = waiting.pop(thread, (number, ""))
            text = first + rest
        found.append(Call(resumed or name, text.partition(",")[0].partition(")")[0], text, began, number))
    return found
