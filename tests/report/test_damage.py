"""Damaged mail in great number: nothing makes reader or judge raise, take long or much memory."""

import json
import subprocess
import sys
import time
from pathlib import Path

from bounced.report import Report, Unrecognized
from bounced.report.reader import read
from tests.report import samples
from tests.report.fuzz import MAX_MIB, fuzz

_OURS = Path(__file__).parents[1] / "corpus"
_CORPUS = Path(__file__).parents[3] / "shared" / "corpus" / "messages"
_ROOT = Path(__file__).parents[2]


def test_no_damage_is_too_much(full_counts: bool) -> None:
    """Ten thousand (a million in full) damaged letters: none raises, none takes a second of CPU, memory stays under 200 MiB."""
    count = 1_000_000 if full_counts else 10_000
    directories = [str(place) for place in (_OURS, _CORPUS) if place.is_dir()]
    program = [sys.executable, "-m", "tests.report.fuzz", str(count), *directories]
    found = json.loads(subprocess.run(program, cwd=_ROOT, check=True, capture_output=True, text=True).stdout)

    assert found["crashes"] == {}
    assert (found["inputs"], found["over_1_s"]) == (count, 0)
    assert found["peak_mib"] <= MAX_MIB
    # Most of it is still mail that says something: else nothing but the first lines of the reader was tried.
    assert sum(found["kinds"].values()) - found["kinds"]["not-a-bounce"] > 0.4 * count


def test_what_goes_wrong_is_counted() -> None:
    """Control: a reader that raises on some letters, and one that takes long, are noticed, each with its first input."""

    def raising(content: bytes) -> Report:
        if b"rfc822;" in content:
            raise IndexError
        return read(content)

    def slow(_: bytes) -> Report:
        end = time.process_time() + 1.05
        while time.process_time() < end:
            pass
        return Unrecognized(reason="late")

    seeds = list(samples.ALL.values())
    crashed = fuzz(200, seeds, 1, raising)
    assert crashed.crashes.total() + crashed.kinds.total() == crashed.inputs == 200
    assert [name.split(":")[0] for name in crashed.crashes] == ["IndexError test_damage.py"]
    assert all(b"rfc822;" in content for content in crashed.first_crashes.values())
    assert fuzz(1, seeds, 1, slow).slow == 1
