"""The sockets at which mailers ask.

For: many connections, each fed fairly, each answered in the order it asked. Never: a wire format (the codecs know it) or a decision
(consult makes it). Whatever goes wrong in here is answered "temporary failure" in the protocol's words, or not at all; never "clear".

A connection costs little and owes much: it reads 4 KiB at a time and answers that before it reads on, it does not read while an answer
waits or while its peer does not take the answers, and it ends when it has asked nothing whole within the idle deadline.
"""

import asyncio
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import assert_never, cast

import structlog

from bounced import metrics
from bounced.consult import Consult
from bounced.query import Answer, Answers, Aside, Check, CheckMany, Clear, Codec, Garbled, Question, Sign, Suppressed, Trouble
from bounced.query.line import CLEAR_LINE, Line, reply_lines
from bounced.query.milter import Milter
from bounced.query.policy_delegation import PolicyDelegation
from bounced.query.socketmap import NOT_FOUND, MapCheck, Socketmap
from bounced.scope import Scope

TIMED = 16
"""The time of one in so many readings is measured: to measure each would take a third of what it measures."""

_COMMA = ord(",")
_READ = 4096
_LEAST_READ = 512
_AT_ONCE = 4
"""Connections that have more to be read go on in their order, so many in a turn of the loop."""
_MOST_UNSENT = 16384
_BACKLOG = 1024
_MOST_REPLIES = 16_384
_LONGEST_KEPT = 320
_NO_REPLIES: dict[bytes, bytes] = {}
RESULTS: dict[type[Suppressed | Clear | Trouble], str] = {Suppressed: "suppressed", Clear: "clear", Trouble: "trouble"}
"""How metrics call each answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuerySettings:
    """Bounds of the query sockets.

    `max_connections` over all of them; one more is closed at once. `idle_seconds` is how long a connection may stay without a whole
    question, or without taking its answers; longer than Postfix keeps an idle one (300), so that it is not closed under a question.
    `milter_signs` tells whether the milter signs return paths.
    """

    max_connections: int = 1000
    idle_seconds: float = 600.0
    milter_signs: bool = False


class Replies:
    """What was answered, octets for octets, as long as it is true: until the next commit, whoever makes it, or another configuration.

    Only what cannot change with the time alone is kept. A reply that is found costs a quarter of one that is made.
    """

    def __init__(self, version: Callable[[], object | None]) -> None:
        """Begin with none; `version` changes with the truth, and is None where that cannot be told."""
        self._version = version
        self._of: object | None = None
        self._replies: dict[str, dict[bytes, bytes]] = {}

    def current(self, kind: str) -> dict[bytes, bytes]:
        """Return the true replies of a kind of request. To be asked for anew after every pause."""
        version = self._version()
        if version is None or version != self._of:
            self._replies.clear()
            self._of = version
        return self._replies.get(kind, _NO_REPLIES)

    def keep(self, kind: str, replies: Mapping[bytes, bytes]) -> None:
        """Keep replies that were made since `current` was asked: a commit between makes them forgotten the sooner."""
        if self._of is None or not replies:
            return
        kept = self._replies.setdefault(kind, {})
        if len(kept) >= _MOST_REPLIES:
            for request in list(islice(kept, _MOST_REPLIES // 4)):
                del kept[request]  # the oldest
        kept.update(replies)


class QueryDoor:
    """Serves the wire protocols on sockets that somebody else has bound."""

    def __init__(self, consult: Consult, settings: QuerySettings) -> None:
        """Put the parts together; nothing listens yet."""
        self.consult = consult
        self.settings = settings
        self.log = structlog.get_logger("listen")
        # Every read is taken out of it before the next one begins, so that all connections share it.
        self.scratch = memoryview(bytearray(_READ))
        self.replies = Replies(consult.version)
        self._codecs: dict[str, Callable[[], Codec]] = {
            "socketmap": lambda: Socketmap(consult.domain),
            "policy": PolicyDelegation,
            "line": Line,
            "milter": lambda: Milter(consult.domain, signs=settings.milter_signs),
        }
        for protocol in self._codecs:
            for result in RESULTS.values():
                metrics.LOOKUPS.count((protocol, result), 0)
        self.reads = 0
        self.share = _READ
        """Octets that the next one may read."""
        self._queue: deque[_Connection] = deque()
        self._servers: list[asyncio.AbstractServer] = []
        self._connections: set[_Connection] = set()
        self._emptied = asyncio.Event()

    async def listen(self, sock: socket.socket, protocol: str) -> None:
        """Serve `protocol` (socketmap, policy, line, milter) on a bound socket; the door owns it from now on. Raises KeyError, OSError."""
        codec = self._codecs[protocol]
        loop = asyncio.get_running_loop()

        def connection() -> _Connection:
            return _Connection(self, codec(), protocol)

        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            server = await loop.create_server(connection, sock=sock, backlog=_BACKLOG)
        elif sys.version_info >= (3, 13):
            # Else the path would be removed at the end (gh-111246), and it is systemd's or the binder's.
            server = await loop.create_unix_server(connection, sock=sock, backlog=_BACKLOG, cleanup_socket=False)
        else:
            server = await loop.create_unix_server(connection, sock=sock, backlog=_BACKLOG)
        self._servers.append(server)

    async def drain(self, seconds: float) -> None:
        """Listen no more, answer what was asked already, and end every connection; after `seconds` without its answers."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for connection in tuple(self._connections):
            connection.finish()
        try:
            async with asyncio.timeout(seconds):
                while self._connections:
                    self._emptied.clear()
                    await self._emptied.wait()
        except TimeoutError:
            self.log.warning("query.cut", connections=len(self._connections))
            for connection in tuple(self._connections):
                connection.abort()

    def admit(self, connection: "_Connection") -> bool:
        """Count a connection in; False where there are too many."""
        if len(self._connections) >= self.settings.max_connections:
            self.log.warning("query.too-many", connections=len(self._connections))
            return False
        self._connections.add(connection)
        return True

    @property
    def busy(self) -> bool:
        """Tell whether more connections wait for their turn than go on in one."""
        return len(self._queue) > _AT_ONCE

    def queue(self, connection: "_Connection") -> None:
        """Let a connection read on when those before it have."""
        self._queue.append(connection)
        if len(self._queue) == 1:
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        for _ in range(min(_AT_ONCE, len(self._queue))):
            self._queue[0].next_turn()
            self._queue.popleft()
        if self._queue:
            asyncio.get_running_loop().call_soon(self._turn)

    def forget(self, connection: "_Connection") -> None:
        """Count a connection out."""
        self._connections.discard(connection)
        if not self._connections:
            self._emptied.set()


class _Connection(asyncio.BufferedProtocol):
    """One connection: at most one batch of questions is waiting, and at most one task answers them."""

    _transport: asyncio.Transport
    _timer: asyncio.TimerHandle

    def __init__(self, door: QueryDoor, codec: Codec, protocol: str) -> None:
        self._door = door
        self._codec = codec
        self._protocol = protocol
        self._socketmap = codec if isinstance(codec, Socketmap) else None
        self._loop = asyncio.get_running_loop()
        self._questions: deque[Question] = deque()
        self._task: asyncio.Task[None] | None = None
        self._finished = False  # its last answer is sent
        self._eof = False  # nothing more is to be asked
        self._unsent = False  # the peer does not take its answers
        self._queued = False  # it reads on in its turn
        self._had_turn = False
        self._progress = self._loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_MOST_UNSENT)
        self._timer = self._loop.call_later(self._door.settings.idle_seconds, self._idle)
        if not self._door.admit(self):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._timer.cancel()
        self._questions.clear()
        self._door.forget(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        door = self._door
        # Who asks only now, while others wait, may be one of hundreds who do so in this turn.
        door.share = _READ if self._had_turn or not door.busy else _LEAST_READ
        self._had_turn = False
        return door.scratch[: door.share]

    def buffer_updated(self, nbytes: int) -> None:
        door = self._door
        began = perf_counter() if door.reads % TIMED == 0 else None
        octets = bytes(door.scratch[:nbytes])
        if nbytes == door.share:
            # There is more, and uvloop would read up to 32 times before it turns to another connection.
            self._queued = True
            self._transport.pause_reading()
            door.queue(self)
        codec = self._socketmap
        if codec is not None and not self._finished and self._task is None and (replies := self._replies(codec, octets)) is not None:
            self._send(replies)
            if self._questions:
                self._answer()
        elif questions := self._codec.feed(octets):
            self._questions.extend(questions)
            self._answer()
        else:
            return
        door.reads += 1
        if began is not None:
            metrics.LOOKUP_SECONDS.observe(perf_counter() - began)

    def eof_received(self) -> bool:
        """Answer what was asked before the peer shut down its half; Exim does so right after its question."""
        self.finish()
        return True

    def pause_writing(self) -> None:
        self._unsent = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._unsent = False
        self._progress = self._loop.time()
        if self._task is None:
            self._go_on()

    def finish(self) -> None:
        """End the connection after the answers to what was asked."""
        self._eof = True
        if self._task is None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection now; a signing that has begun goes on, its answer is lost."""
        self._transport.abort()

    def _replies(self, codec: Socketmap, octets: bytes) -> bytes | None:
        """Return the replies to whole requests as most are: those that were made since the last commit, and those that are made now.

        None where there is anything else; then nothing of it is answered.
        """
        kept = self._door.replies.current(self._protocol)
        if not codec.begun and (only := kept.get(octets[:-1])) is not None and octets[-1] == _COMMA:
            metrics.LOOKUPS.count((self._protocol, "clear" if only is NOT_FOUND else "suppressed"))
            return only
        *requests, rest = (codec.begun + octets).split(b",")
        replies = list(map(kept.get, requests))
        missing = [place for place, reply in enumerate(replies) if reply is None]
        # Each begins where a whole one ended: what a comma within a key makes of one is not as long as it says.
        questions = [codec.usual(requests[place]) for place in missing]
        if not requests or not all(questions):
            return None
        codec.begun = b""
        self._questions.extend(codec.feed(rest))
        trouble, lasting = 0, {}
        for place, question in zip(missing, cast("list[MapCheck]", questions), strict=True):
            answer, lasts = self._check(question)
            replies[place] = reply = codec.render(question, answer)
            trouble += type(answer) is Trouble
            if lasts and len(requests[place]) <= _LONGEST_KEPT:
                lasting[requests[place]] = reply
        self._door.replies.keep(self._protocol, lasting)
        self._count(len(replies), replies.count(NOT_FOUND), trouble)
        return b"".join(cast("list[bytes]", replies))

    def _count(self, answers: int, clear: int, trouble: int) -> None:
        for result, times in (("clear", clear), ("trouble", trouble), ("suppressed", answers - clear - trouble)):
            if times:
                metrics.LOOKUPS.count((self._protocol, result), times)

    def _answer(self) -> None:
        """Answer the questions that need no waiting, in order; at one that does, stop reading until its task is done."""
        rendered: list[bytes] = []
        questions, render, closes = self._questions, self._codec.render, self._codec.closes
        while questions and not self._finished:
            question = questions.popleft()
            if isinstance(question, Sign):
                self._transport.pause_reading()
                self._task = self._loop.create_task(self._sign(question))
                break
            if isinstance(question, Check):
                answer = self._check(question)[0]
                metrics.LOOKUPS.count((self._protocol, RESULTS[type(answer)]))
                rendered.append(render(question, answer))
            elif isinstance(question, CheckMany):
                rendered.append(self._check_many(question))
            else:
                rendered.append(render(question, self._aside(question)))
            self._finished = closes(question)
        if rendered:
            self._send(rendered[0] if len(rendered) == 1 else b"".join(rendered))

    async def _sign(self, question: Sign) -> None:
        """Answer a question that may have to wait for the store, then those behind it."""
        try:
            answer = await self._door.consult.sign(question)
        except Exception as error:  # noqa: BLE001 - see _bug
            answer = self._bug(error)
        self._task = None
        if self._transport.is_closing():
            return
        self._finished = self._codec.closes(question)
        self._send(self._codec.render(question, answer))
        self._answer()
        if self._task is None:
            self._go_on()

    def _check(self, question: Check) -> tuple[Suppressed | Clear | Trouble, bool]:
        try:
            return self._door.consult.check_lasting(question)
        except Exception as error:  # noqa: BLE001 - see _bug
            return self._bug(error), False

    def _check_many(self, question: CheckMany) -> bytes:
        """Return the replies to many, those that were made since the last commit and those that are made now."""
        kind = f"checks_{question.scope}"
        lines = question.lines.split(b"\n")[:-1]
        replies = list(map(self._door.replies.current(kind).get, lines))
        trouble = 0
        if not all(replies):
            missing = [place for place, reply in enumerate(replies) if reply is None]
            made = self._made(kind, [lines[place] for place in missing], question.scope)
            trouble = sum(reply.startswith(b"trouble") for reply in made)
            for place, reply in zip(missing, made, strict=True):
                replies[place] = reply
        self._count(len(replies), replies.count(CLEAR_LINE), trouble)
        return b"".join(cast("list[bytes]", replies))

    def _made(self, kind: str, lines: Sequence[bytes], scope: Scope) -> Sequence[bytes]:
        question = CheckMany(b"\n".join((*lines, b"")), scope)
        try:
            answers = self._door.consult.check_many(question)
        except Exception as error:  # noqa: BLE001 - see _bug
            every = range(len(lines))
            answers = Answers(len(lines), dict.fromkeys(every, self._bug(error)), every)
        replies = reply_lines(answers)
        lasting = dict(zip(lines, replies, strict=True))
        for line in [lines[place] for place in answers.passing] + [line for line in lines if len(line) > _LONGEST_KEPT]:
            lasting.pop(line, None)
        self._door.replies.keep(kind, lasting)
        return replies

    def _aside(self, question: Aside | Garbled) -> Answer:
        match question:
            case Aside():
                return Clear()
            case Garbled(reason=reason):
                self._door.log.warning("query.garbled", protocol=self._protocol, why=reason)
                return Trouble(reason)
            case _:
                assert_never(question)

    def _bug(self, error: Exception) -> Trouble:
        """Answer for an error that nobody foresaw. An end without an answer would do harm: Exim takes it for an empty one."""
        self._door.log.error("query.bug", protocol=self._protocol, exc_info=error)
        return Trouble("an internal error")

    def _send(self, octets: bytes) -> None:
        self._progress = self._loop.time()
        self._transport.write(octets)
        if self._finished:
            self._transport.close()

    def next_turn(self) -> None:
        """Read on."""
        self._queued, self._had_turn = False, True
        if self._task is None and not self._transport.is_closing():
            self._go_on()

    def _go_on(self) -> None:
        """Read on, unless the connection is to end, the peer has to read first, or others are before it."""
        if self._eof:
            self._transport.close()
        elif not self._unsent and not self._queued:
            self._transport.resume_reading()

    def _idle(self) -> None:
        """End the connection if nothing whole was asked or taken since the deadline began; else look again when it will be over."""
        left = self._progress + self._door.settings.idle_seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._idle)
        else:
            self._transport.abort()
