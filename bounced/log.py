"""The log: one line an event, on standard error.

For: writing what happened so that neither a stranger's text nor a stuck reader can harm us. Never: whole tokens, keys, subjects or bodies.

Every value is escaped to printable ASCII, so no line holds a control, ANSI or bidirectional character. A line is put into a bounded queue
and written by a thread: where nobody reads, lines are dropped and counted, and the count is told as soon as somebody reads again. Lines
of the libraries (asyncio, uvicorn) come the same way, as event `library.said`. The names of events and what they mean: docs/EVENTS.md.
"""

import atexit
import base64
import contextlib
import hashlib
import hmac
import io
import json
import logging
import os
import re
import secrets
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any

from bounced.returnpath import KeyRing

Line = MutableMapping[str, Any]
"""What one log line says, by name, as structlog hands it on."""

_Scalar = str | float | None
_TAME = frozenset({bool, int, float, type(None)})
"""The types of values that need no taming."""


FORMATS = ("line", "json")
LEVELS = ("debug", "info", "warning", "error")
ADDRESSES = ("plain", "hashed")

_HEAD = frozenset({"time", "level", "event"})
_NO_FIELD = frozenset({"time"})
_ADDRESS_FIELDS = frozenset({"rcpt", "forward_path", "final_recipient", "reverse_path"})
_MOST_LINES = 10_000
_MOST_WAITING = 16 << 20
"""Octets of the lines that wait: ten thousand usual ones are a quarter of it, and one of strangers' texts may have a hundred kilobytes."""
_MOST_AT_ONCE = 100
_GATHERED_FOR = 0.01
"""Seconds that a line may wait for others, so that they are written together."""

_MOST_CHARS = 2_000
"""Longer values are cut: a diagnostic text may have a megabyte."""

_LIBRARY_LINES = 10
"""Lines a minute from the libraries: asyncio writes hundreds of tracebacks a second while descriptors are short."""

_TOKEN = re.compile(r"(?<![a-z2-7])([a-z2-7]{7})[a-z2-7]{16}(?![a-z2-7])", re.IGNORECASE)
_SHORTEST_TOKEN = 7 + 16
_BARE = re.compile(r"[!#-<>-\[\]-~]+")
"""Values that need no quotes: printable ASCII without space, quote, equals sign and backslash."""

JOURNAL = "/run/systemd/journal/socket"
"""Where the journal takes entries with fields."""

_FIELD = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_PRIORITY = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
_ESCAPES = {chr(code): f"\\x{code:02x}" for code in (*range(0x20), 0x7F)} | {
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    '"': '\\"',
    "\\": "\\\\",
}
_UNPRINTABLE = re.compile(r"[^ !#-\[\]-~]")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How to log: `format`, `level` and `addresses` are each one of the words in FORMATS, LEVELS, ADDRESSES."""

    format: str = "line"
    level: str = "info"
    addresses: str = "plain"


class Sink:
    """Writes lines to a stream by a thread of its own, so that nobody waits for a reader. `dropped` counts the lines that found no room."""

    def __init__(self, stream: IO[str], note: Callable[[int], str]) -> None:
        """Write to `stream`; `note` makes the line that tells how many lines were dropped before it."""
        self.dropped = 0
        self._told = 0
        self._note = note
        write = _writer(stream)
        self._write = _to_journal(write) if _is_journal(stream) else _to_stream(write)
        self._lines: deque[str] = deque()
        # Two counts, each changed by one thread alone.
        self._put = self._taken = 0
        self._wake = threading.Event()
        # Waits as sleep() does, which raises where the system's clock is not to be trusted; this thread must not end.
        self._never = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Have a line written, or count it as dropped. Never blocks."""
        if len(self._lines) >= _MOST_LINES or self._put - self._taken > _MOST_WAITING:
            self.dropped += 1
            return
        self._put += len(line)
        self._lines.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def close(self, timeout: float = 1.0) -> None:
        """Wait until everything is written, at most `timeout` seconds: a stuck reader does not keep the daemon from ending."""
        atexit.unregister(self.close)
        self._closing = True
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._closing or self._lines:
            self._wake.wait()
            if not self._closing:
                # Each waking takes the interpreter from whoever works: under load lines are gathered.
                self._never.wait(_GATHERED_FOR)
            self._wake.clear()
            while self._lines:
                self._write_some()

    def _write_some(self) -> None:
        lines = [self._lines.popleft() for _ in range(min(len(self._lines), _MOST_AT_ONCE))]
        self._taken += sum(map(len, lines))
        if self.dropped > self._told:
            dropped, self._told = self.dropped - self._told, self.dropped
            lines.insert(0, self._note(dropped))
        # A reader that went away (EPIPE) is as good as one that does not read; there is nobody to tell.
        with contextlib.suppress(OSError, ValueError):
            self._write(lines)


def setup(settings: LogSettings, stream: IO[str], ring: KeyRing | None = None) -> Sink:
    """Send all log lines to `stream`. May be called again with other settings: close the former sink then, and get loggers anew.

    Hashes of addresses are keyed by the oldest key of `ring`, so that they outlive a rotation; without a ring, by a key that nobody has.
    Close the sink at the end; a process that forgets waits for it at exit.
    """
    journal = _is_journal(stream)
    # Imported late: it takes longer than all else that a short command like `bounced check` does.
    import structlog  # noqa: PLC0415

    render = _Render(json_lines=settings.format == "json", journal=journal)
    sink = Sink(stream, lambda count: render(None, "warning", {"event": "log.dropped", "level": "warning", "lines": count}))
    atexit.register(sink.close)
    hiding = [_Hide(ring)] if settings.addresses == "hashed" else []
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.format_exc_info, *hiding, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.level.upper()]),
        logger_factory=lambda *_: _Out(sink),
        # Else every line would make a logger first, at a third of its cost.
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Library()], level=logging.WARNING, force=True)
    # It logs a traceback for each odd mail on which one of its detectors fails; last_resort expects that.
    logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)
    return sink


class _Out:
    """What structlog calls with a rendered line."""

    def __init__(self, sink: Sink) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = self.exception = sink.put


class _Library(logging.Handler):
    """Takes the libraries' lines over, warnings and worse, a few a minute."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._minute = -1
        self._lines = 0
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Log a library's record as an event of ours: its text is a value, never the event's name."""
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._lines = minute, 0
        self._lines += 1
        if self._lines > _LIBRARY_LINES:
            self._left_out += 1
            return
        words: dict[str, Any] = {"library": record.name, "said": _said(record)}
        if record.exc_info:
            words["exc_info"] = record.exc_info
        if self._left_out:
            words["left_out_before"], self._left_out = self._left_out, 0
        import structlog  # noqa: PLC0415 - see setup

        log = structlog.get_logger()
        (log.error if record.levelno >= logging.ERROR else log.warning)("library.said", **words)


def _said(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001  arguments that do not fit, or do not print: a log line breaks nobody's work
        return record.msg if isinstance(record.msg, str) else type(record.msg).__name__


class _Hide:
    """Replaces addresses by a keyed hash: the same address gives the same hash, and nobody without the key can try addresses."""

    def __init__(self, ring: KeyRing | None) -> None:
        self._key = hmac.digest(ring.keys[-1].secret, b"bounced log addresses 1", "sha256") if ring else secrets.token_bytes(32)

    def __call__(self, _: object, __: str, event: Line) -> Line:
        for name in _ADDRESS_FIELDS & event.keys():
            if event[name] is not None:
                digest = hmac.digest(self._key, str(event[name]).encode("utf-8", "surrogatepass"), "sha256")
                event[name] = "#" + base64.b32encode(digest[:10]).decode("ascii").lower()
        return event


def _tamed(value: object) -> _Scalar:
    """Leave scalars only, no text without end, and no whole token: who reads a log could replay it."""
    return value if value is None or isinstance(value, (int, float)) else _cut(str(value))


def _cut(text: str) -> str:
    if len(text) < _SHORTEST_TOKEN:
        return text
    # A token that the cut would halve is recognized first.
    kept = _TOKEN.sub(r"\1...", text[: _MOST_CHARS + 64])[:_MOST_CHARS]
    return kept if len(text) <= _MOST_CHARS else f"{kept}...({len(text)} characters)"


def _now() -> str:
    now = time.time_ns()
    return f"{_second(now // 10**9)}.{now // 10**6 % 1000:03d}Z"


@lru_cache(maxsize=1)
def _second(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


@dataclass(frozen=True, slots=True)
class _Render:
    """Makes the line. For the journal a priority stands before it (sd-daemon(3)), and what the journal knows by itself is left out."""

    json_lines: bool
    journal: bool

    def __call__(self, _: object, __: str, event: Line) -> str:
        if self.json_lines:
            tamed = {name: _tamed(value) for name, value in event.items()}
            # DEL is the one control character that JSON does not escape.
            line = json.dumps({"time": _now(), **tamed}).replace("\x7f", "\\u007f")
        else:
            words = _words(event, _HEAD)
            name = _escaped(_cut(str(event["event"])))
            line = " ".join((name, *words) if self.journal else (_now(), event["level"], name, *words))
        return _entry(event, line) if self.journal else line


def _entry(event: Line, line: str) -> str:
    """Return an entry for the journal: the line, and each value as a field of its own (systemd.journal-fields(7)).

    All is printable ASCII, so no value can begin another field. Before a name that the journal may not have, the field is left out.
    """
    known, priority = message_id(_cut(str(event["event"]))), _PRIORITY[event["level"]]
    head = f"MESSAGE={line}\nPRIORITY={priority}\nSYSLOG_IDENTIFIER=bounced\nMESSAGE_ID={known}"
    return head + "".join(_fields(event, _NO_FIELD))


@lru_cache(256)
def message_id(event: str) -> str:
    """Return the id by which the journal knows all lines of one event: `journalctl MESSAGE_ID=...`."""
    return hashlib.sha256(f"bounced {event}".encode("ascii", "backslashreplace")).hexdigest()[:32]


def _word(name: str, value: _Scalar) -> str:
    match value:
        case None:
            return f"{name}=-"
        case bool():
            return f"{name}={str(value).lower()}"
        case str() if name in _ADDRESS_FIELDS and not value.startswith("#"):
            value = f"<{value}>"
        case _:
            value = str(value)
    return f"{name}={value}" if _BARE.fullmatch(value) else f'{name}="{_escaped(value)}"'


def _field(name: str, value: _Scalar) -> str:
    name = f"BOUNCED_{name.upper()}"
    plain = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f"\n{name}={_escaped(plain)}" if _FIELD.fullmatch(name) else ""


def _recalled(spell: Callable[[str, _Scalar], str]) -> Callable[[Line, frozenset[str]], list[str]]:
    """Tame the values of a line, and remember how short ones are spelled: most of them were in the line before."""
    known = lru_cache(maxsize=1024, typed=True)(spell)

    def words(event: Line, leave_out: frozenset[str]) -> list[str]:
        return [
            known(name, value)
            if (type(value) is str and len(value) < _SHORTEST_TOKEN) or type(value) in _TAME
            else spell(name, _tamed(value))
            for name, value in event.items()
            if name not in leave_out
        ]

    return words


_words = _recalled(_word)
_fields = _recalled(_field)


def _escaped(text: str) -> str:
    return _UNPRINTABLE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    return _ESCAPES.get(char) or (f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")


def _writer(stream: IO[str]) -> Callable[[str], object]:
    """Write past the stream's buffer where it has a descriptor: a thread stuck inside the buffer's lock would stop the exit."""
    try:
        descriptor = stream.fileno()
    except (io.UnsupportedOperation, AttributeError):
        return stream.write
    return lambda text: _write_all(descriptor, text.encode("ascii"))


def _to_stream(write: Callable[[str], object]) -> Callable[[Sequence[str]], object]:
    return lambda lines: write("\n".join(lines) + "\n")


def _to_journal(write: Callable[[str], object]) -> Callable[[Sequence[str]], object]:
    """Give entries to the journal by its own protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/); what it does not take, as a line."""

    def give(entries: Sequence[str]) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
            for entry in entries:
                try:
                    journal.sendto(f"{entry}\n".encode("ascii"), JOURNAL)
                except OSError:
                    message, _, fields = entry.partition("\n")
                    priority = re.search(r"^PRIORITY=(.)$", fields, re.MULTILINE)
                    write(f"<{priority[1] if priority else 6}>{message.removeprefix('MESSAGE=')}\n")

    return give


def _write_all(descriptor: int, octets: bytes) -> None:
    while octets:
        try:
            octets = octets[os.write(descriptor, octets) :]
        except BlockingIOError:
            # Whoever shares the stream with us made it non-blocking.
            writable = select.poll()
            writable.register(descriptor, select.POLLOUT)
            writable.poll()


def _is_journal(stream: IO[str]) -> bool:
    """Tell whether the journal reads this very stream: JOURNAL_STREAM names it by device and inode (systemd.exec(5))."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, io.UnsupportedOperation, AttributeError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
