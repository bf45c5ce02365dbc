"""Bombs and worst inputs: nothing raises, every limit holds, and what is read does not grow with what is sent."""

import importlib.util
import runpy
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from bounced.report import DeliveryReport, Unrecognized, last_resort, mime
from bounced.report.mime import Message, Part, scan
from bounced.report.reader import read
from tests.report.seeds import POSTFIX, UNKNOWN_SYSTEM
from tests.report.test_fuzz import check

_SIZES = (32 << 10, 128 << 10, 1 << 20)


@pytest.fixture
def bombs(shared: Path) -> dict[str, Callable[[int], bytes]]:
    """Return the kinds of bombs."""
    spec = importlib.util.spec_from_file_location("bombs", shared / "tools" / "bombs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # it leaves files open
        spec.loader.exec_module(module)
    assert len(module.KINDS) >= 43
    return {kind: (lambda size, kind=kind: module.B(kind, size)) for kind in module.KINDS}


def keeps_the_limits(message: Message) -> bool:
    """Whether a scan stayed within every limit."""
    return len(message.parts) <= mime.PARTS and all(within(part) for part in message.parts)


def within(part: Part) -> bool:
    """Whether a part is within the limits on octets and levels."""
    return part.end <= mime.SCAN_LIMIT and part.level <= mime.LEVELS and len(part.body()) <= mime.TEXT_LIMIT


def test_bombs(bombs: dict[str, Callable[[int], bytes]]) -> None:
    """Every kind, small and large, is read without an exception, the same each time, within the limits."""
    for kind, bomb in bombs.items():
        for size in _SIZES:
            content = bomb(size)
            check(content)
            assert keeps_the_limits(scan(content)), (kind, size)


def test_worst_inputs(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of ten megabytes, a thousand recipients, twenty thousand parts and their like are read within the limits."""
    monkeypatch.setattr(sys, "argv", ["gen_worst.py", str(tmp_path)])
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        runpy.run_path(str(shared / "tools" / "gen_worst.py"), run_name="__main__")
    inputs = sorted(tmp_path.glob("*.eml"))
    assert len(inputs) >= 30
    for path in inputs:
        content = path.read_bytes()
        check(content)
        assert keeps_the_limits(scan(content)), path.name


def test_a_limit_that_does_not_hold_is_noticed() -> None:
    """The check of the limits fails for too many parts, too deep ones, too large ones."""
    message = scan(POSTFIX)
    part = message.parts[0]
    assert keeps_the_limits(message)
    assert not keeps_the_limits(message._replace(parts=(part,) * (mime.PARTS + 1)))
    assert not keeps_the_limits(message._replace(parts=(part._replace(level=mime.LEVELS + 1),)))
    assert not keeps_the_limits(message._replace(parts=(part._replace(end=mime.SCAN_LIMIT + 1),)))


def test_over_the_limit_is_told() -> None:
    """A message over a limit, in which no report was found, says so; one in which it was found is a report all the same."""
    over = read(b"Subject: x\n" + b"X: y\n" * (mime.HEADER_LINES + 1) + b"\nbody")
    assert isinstance(over, Unrecognized)
    assert over.over_limit
    under = read(b"Subject: x\n\nbody")
    assert isinstance(under, Unrecognized)
    assert not under.over_limit
    assert isinstance(read(POSTFIX + b"x" * (2 << 20)), DeliveryReport)


def test_what_flufl_gets_is_bounded() -> None:
    """The last resort hands over a copy of bounded size: few short header lines, one flat text, short lines."""
    hostile = UNKNOWN_SYSTEM.replace(b"Subject: ", b"Subject: " + b"y" * 60_000 + b" ").replace(b"Reason", b"<" * 500_000 + b"\nReason")
    given = last_resort._bounded_copy(scan(hostile + b"line\n" * 100_000))
    header, _, body = given.partition(b"\n\n")
    assert header.count(b"\n") <= 10
    assert max(map(len, given.split(b"\n"))) <= 1000
    assert 1000 < len(body) <= last_resort.FLUFL_LIMIT
