"""The log: one harmless line an event, never in anybody's way; and the catalogue of events."""

import ast
import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bounced.log import LogSettings, Sink, message_id, setup
from bounced.record import Blocked, Bounced, Complained, Delivered, Noticed, Released
from bounced.returnpath import Key, KeyRing

_ROOT = Path(__file__).parents[1]
_RING = KeyRing((Key("b", b"2" * 32), Key("a", b"1" * 32)))
_HOSTILE = (
    "'; DROP TABLE events; --", "=cmd|' /C calc'!A0", "<script>alert(1)</script>", "a\r\n250 2.0.0 ok",
    "\x1b[2J\x1b]0;x\x07", "\u202egnp.exe", "\u2066\u2069",
    "\x00", "\x7f", "\x85\x9b31m", "\u2028\u2029", 'a" b="c',
    "a\\", "\ud800", "\U000e0001", "tab\there", "x" * (1 << 20), "", " ", "=", "-", "山田@例え.jp",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Give structlog, logging and warnings back as they were."""
    root, shown = logging.getLogger(), warnings.showwarning
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    warnings.showwarning = shown
    root.handlers[:] = handlers
    root.setLevel(level)


def _logged(config: LogSettings, event: str = "bounce.bounced", *, ring: KeyRing | None = None, **words: object) -> str:
    stream = io.StringIO()
    sink = setup(config, stream, ring)
    structlog.get_logger("test").info(event, **words)
    sink.close()
    return stream.getvalue()


def _harmless(text: str) -> bool:
    return text.isascii() and all(unicodedata.category(char) != "Cc" for char in text)


def test_line_is_like_a_mail_log() -> None:
    """A bounce is one line: time, level, event, then name=value in the order given."""
    line = _logged(
        LogSettings(), rcpt="ada@example.com", disposition="hard", status="5.1.1", suppressed=True, size=12, rule=None, why="a b"
    )
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info bounce\.bounced rcpt=<ada@example\.com> disposition=hard status=5\.1\.1 "
        r'suppressed=true size=12 rule=- why="a b"\n',
        line,
    )


def test_json_is_one_object_a_line() -> None:
    """In JSON the same fields are an object, with the types that they have."""
    found = json.loads(_logged(LogSettings(format="json"), rcpt="ada@example.com", suppressed=True, size=12, rule=None))
    assert found.pop("time")
    assert found == {"event": "bounce.bounced", "level": "info", "rcpt": "ada@example.com", "suppressed": True, "size": 12, "rule": None}


@pytest.mark.parametrize("form", ["line", "json"])
@pytest.mark.parametrize("text", _HOSTILE, ids=range(len(_HOSTILE)))
def test_hostile_text_is_harmless(form: str, text: str) -> None:
    """Whatever a stranger writes, as address, as text or even as an event, gives one line of printable ASCII, and not an endless one."""
    for hidden in ("plain", "hashed"):
        line = _logged(LogSettings(format=form, addresses=hidden), text, rcpt=text, why=text, other=[text, {text: text}])
        assert line.endswith("\n")
        assert _harmless(line[:-1])
        assert len(line) < 50_000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_values_stay_apart(one: str, two: str) -> None:
    """No value can begin another field: what is read back from a line is what was logged."""
    line = _logged(LogSettings(), one=one, two=two)
    found = re.fullmatch(r'\S+ info bounce\.bounced one=("(?:[^"\\]|\\.)*"|[^ "=\\]+) two=("(?:[^"\\]|\\.)*"|[^ "=\\]+)\n', line)
    assert found
    assert _harmless(line[:-1])
    for shown, meant in zip(found.groups(), (one, two), strict=True):
        read = ast.literal_eval(shown if shown.startswith('"') else repr(shown))
        assert read == meant or re.search("[A-Za-z2-7]{23}", meant)


def test_renderers_of_structlog_would_not_do() -> None:
    """Control: the check of harmlessness fails for the two renderers that leave strangers' text raw."""
    for render in (structlog.processors.LogfmtRenderer(), structlog.dev.ConsoleRenderer(colors=False)):
        assert not _harmless(render(None, "info", {"event": "x", "why": "\x1b[2J\u202e"}))


def test_no_whole_token_is_logged() -> None:
    """A token is cut in every field, any case, also at the edge of what is kept; control: without it a text stays as it is."""
    token = "abcde" + "ba" + "qrstuvwxyz234567"
    for text in (
        f"b+{token}+ada=example.com@b.example",
        f"<b+{token.upper()}+ada=example.com>",
        token,
        "x " * 990 + token,
        " " * 1990 + token,
    ):
        for form in ("line", "json"):
            line = _logged(LogSettings(format=form), forward_path=text, why=ValueError(text))
            assert token[:16] not in line.lower()
    assert "a234567.b234567" in _logged(LogSettings(), why="a234567.b234567")


def test_addresses_are_hashed_on_request() -> None:
    """Hashed addresses do not show, are the same for the same address, differ for others, and outlive a rotation of keys."""
    hashed = LogSettings(addresses="hashed")

    def shown(address: str, ring: KeyRing | None) -> str:
        line = _logged(hashed, ring=ring, rcpt=address, forward_path=address, final_recipient=address, reverse_path=None, why="x")
        assert "example" not in line
        assert line.count("=#") == 3
        return line.partition("rcpt=")[2].split()[0]

    assert re.fullmatch(r"#[a-z2-7]{16}", shown("ada@example.com", _RING))
    assert shown("ada@example.com", _RING) == shown("ada@example.com", _RING.rotated(b"3" * 32))
    assert shown("ada@example.com", _RING) != shown("bob@example.com", _RING)
    assert shown("ada@example.com", _RING) != shown("ada@example.com", KeyRing(_RING.keys[:1]))
    assert shown("ada@example.com", None) != shown("ada@example.com", None)


def test_level_is_the_least_that_is_written() -> None:
    """What is below the level is not written."""
    assert _logged(LogSettings(level="warning")) == ""
    assert _logged(LogSettings(level="debug")) != ""


def test_exception_is_one_line() -> None:
    """A traceback is a field of its line."""
    stream = io.StringIO()
    sink = setup(LogSettings(), stream)
    try:
        int("evil\r\n\x1b[2J")
    except ValueError:
        structlog.get_logger().exception("query.bug")
    sink.close()
    assert stream.getvalue().count("\n") == 1
    assert "Traceback" in stream.getvalue()
    assert _harmless(stream.getvalue()[:-1])


def test_libraries_speak_through_us() -> None:
    """Lines of the standard library's loggers come as an event of ours: warnings and worse, broken ones too, and few of a flood."""
    stream = io.StringIO()
    sink = setup(LogSettings(format="json", level="debug"), stream)
    logging.getLogger("mail.log").info("%r RCPT %s", "peer", "b+token+x")
    logging.getLogger("asyncio").error("socket %s\r\n", "x")
    logging.getLogger("asyncio").error("%d and %s", "broken")  # noqa: PLE1206
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("careful", ResourceWarning, stacklevel=1)
    for _ in range(1000):
        logging.getLogger("asyncio").error("too many open files")
    sink.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {line["event"] for line in lines} == {"library.said"}
    assert [line["said"] for line in lines[:2]] == ["socket x\r\n", "%d and %s"]
    assert "careful" in lines[2]["said"]
    assert 10 <= len(lines) <= 20


def test_journal_gets_priorities(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the journal reads this very stream, a priority stands before the line, and no time; control: elsewhere there is none."""
    for named in (True, False):
        with (tmp_path / f"log-{named}").open("w") as stream:
            found = os.fstat(stream.fileno())
            monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino if named else found.st_ino + 1}")
            sink = setup(LogSettings(), stream)
            structlog.get_logger().info("daemon.ready", took=1)
            structlog.get_logger().error("query.failed", why="x")
            sink.close()
    assert (tmp_path / "log-True").read_text() == "<6>daemon.ready took=1\n<3>query.failed why=x\n"
    assert (tmp_path / "log-False").read_text().startswith("20")


def test_stuck_reader_stops_nobody() -> None:
    """While nobody reads a pipe, logging goes on and counts what it drops; when somebody reads again, the count is told."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        sink = setup(LogSettings(format="json"), stream)
        log = structlog.get_logger()
        for number in range(12_000):
            log.info("daemon.ready", number=number, padding="x" * 50)
        assert sink.dropped > 0
        dropped = sink.dropped
        lines: list[str] = []
        with os.fdopen(reader) as read:
            collecting = threading.Thread(target=lambda: lines.extend(read))
            collecting.start()
            # The queue drains while somebody reads; the next line that finds room tells of those that found none.
            sink.close(timeout=30)
            stream.close()
            collecting.join()
    found = [json.loads(line) for line in lines]
    told = [line["lines"] for line in found if line["event"] == "log.dropped"]
    assert sum(told) == dropped
    assert len(found) - len(told) + dropped == 12_000


def test_stuck_reader_costs_little_memory() -> None:
    """While nobody reads, what waits is bounded in octets too: strangers' texts make lines of many kilobytes."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        sink = Sink(stream, str)
        for _ in range(1_000):
            sink.put("x" * 100_000)
        # What the thread took and cannot write is no part of the queue.
        assert sink.dropped > 1_000 - (16 << 20) // 100_000 - 2 * 100
        os.close(reader)
        sink.close(timeout=30)


def test_stuck_reader_does_not_keep_us_from_ending() -> None:
    """Closing gives up on a pipe that nobody reads; a whole process ends too."""
    code = """
import os, sys, structlog
from bounced.log import LogSettings, message_id, setup
reader, writer = os.pipe()
sink = setup(LogSettings(), os.fdopen(writer, "w"))
for _ in range(20000):
    structlog.get_logger().info("daemon.ready", padding="x" * 100)
print("ended", flush=True)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("ended\n", "", 0)


def test_reader_that_does_not_block_gets_everything() -> None:
    """On a stream that somebody made non-blocking, a slow reader gets every line whole."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    lines: list[str] = []
    with os.fdopen(reader) as read, os.fdopen(writer, "w") as stream:
        sink = setup(LogSettings(format="json"), stream)
        for number in range(2000):
            structlog.get_logger().info("daemon.ready", number=number, padding="x" * 100)
        collecting = threading.Thread(target=lambda: lines.extend(read))
        collecting.start()
        sink.close(timeout=30)
        stream.close()
        collecting.join()
    assert [json.loads(line)["number"] for line in lines] == list(range(2000))


def test_gone_reader_is_no_error() -> None:
    """When the reader is gone, nothing is raised, and the thread goes on."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        sink = setup(LogSettings(), stream)
        structlog.get_logger().info("daemon.ready")
        sink.close()
    assert sink.dropped == 0


_LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
_EXPANSIONS = {
    "bounce.": [kind.__name__.lower() for kind in (Bounced, Complained, Noticed, Delivered)],
    "address.": [kind.__name__.lower() for kind in (Blocked, Released, Delivered)],
}
"""What an event name that is put together may become."""


def _events_of(source: str) -> Iterator[str]:
    """Give the names of all events that a module logs; what is neither a literal nor a known f-string is given as it is written."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LEVELS and node.args):
            continue
        if not re.search(r"(\b|_)log(ger)?$|get_logger\(.*\)$", ast.unparse(node.func.value)):
            continue
        match node.args[0]:
            case ast.Constant(value=str(name)):
                yield name
            case ast.JoinedStr(values=[ast.Constant(value=str(head)), ast.FormattedValue()]) if head in _EXPANSIONS:
                yield from (head + tail for tail in _EXPANSIONS[head])
            case other:
                yield ast.unparse(other)


def _documented() -> set[str]:
    rows = r"^\| `([a-z._-]+)` \| [a-z, ]+ \| [A-Z].+\. \|$"
    return set(re.findall(rows, (_ROOT / "docs" / "EVENTS.md").read_text(), re.MULTILINE))


def test_every_event_is_documented() -> None:
    """docs/EVENTS.md has a sentence for each event that the package logs, and for no other."""
    logged = {name for file in (_ROOT / "bounced").rglob("*.py") for name in _events_of(file.read_text())}
    assert logged | {"library.said", "log.dropped"} == _documented()


def test_control_of_the_catalogue() -> None:
    """Control: a new event, one that is put together and one that is a variable are each found."""
    source = """
self._log.info("new.event", x=1)
log.error(f"bounce.{x}")
self.door.log.debug(name)
get_logger("x").warning(f"y.{z}")
other.info("no")
"""
    found = set(_events_of(source))
    assert {"new.event", "bounce.bounced", "name"} <= found
    assert not found <= _documented()
    assert "no" not in found


def test_the_journal_gets_fields(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An entry has the line, its priority, the id of its event, and each value as a field that no stranger's text can leave."""
    place = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal, (tmp_path / "log").open("w+") as stream:
        journal.bind(place)
        journal.settimeout(20)
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        monkeypatch.setattr("bounced.log.JOURNAL", place)
        sink = setup(LogSettings(), stream)
        structlog.get_logger().warning("bounce.bounced", rcpt="joe@example.org", fresh=True, diagnostic="550 no\nPRIORITY=0\x1b[31m")
        entry = journal.recv(65536).decode("ascii")
        sink.close()

    fields = dict(line.split("=", 1) for line in entry.splitlines())
    assert fields == {
        "MESSAGE": r'bounce.bounced rcpt=<joe@example.org> fresh=true diagnostic="550 no\nPRIORITY=0\x1b[31m"',
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "bounced",
        "MESSAGE_ID": message_id("bounce.bounced"),
        "BOUNCED_LEVEL": "warning",
        "BOUNCED_EVENT": "bounce.bounced",
        "BOUNCED_RCPT": "joe@example.org",
        "BOUNCED_FRESH": "true",
        "BOUNCED_DIAGNOSTIC": r"550 no\nPRIORITY=0\x1b[31m",
    }
    assert message_id("bounce.bounced") != message_id("bounce.noticed")
