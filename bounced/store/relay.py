"""The store of a process that does not write: it reads the SQLite file itself, and has the writing process write, over a local socket.

For: `bounced serve --role query`, whose lookups go on while the writer is busy, is started again or is dead; what must be written meanwhile
gets a StoreFault. Never: a write of its own, or an answer from a file that is not the one at the path any more.

A request is one line of JSON, {"id": 1, "call": "intern", "words": [...]}; its answer another one with the same id, and with `gave`,
`fault` or `missing` (NoSuchIncident). JSON in ASCII carries what strangers write without loss. bounced/relay.py is the other end.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bounced.address import AddressKey
from bounced.fault import OperatorFault
from bounced.incident import Incident, Ruling
from bounced.record import AnyEvent
from bounced.store import NoSuchIncident, Recorded, Store, StoreFault, Tally, files
from bounced.store.reader import Lookups
from bounced.store.rows import EventRow, event_of, event_row, pack, token_of
from bounced.takeover import Taken

MOST_OCTETS = 1 << 20
"""Octets of one line; a ruling on a thousand addresses is not told by name, and a reason is short."""

_SECONDS = 10.0
"""How long an answer is waited for; a writer that hangs must not keep a signing for ever."""

_LONG_SECONDS = 600.0
"""The same for what goes through everything: to forget, to hold, to rule."""

_LOOK_SECONDS = 1.0
_T = TypeVar("_T")


class RelayedStore(Lookups):
    """See the contract in bounced/store/__init__.py."""

    def __init__(self, path: Path, writer: Path) -> None:
        """Read the database at `path`, once it is there; have written by the process that listens at `writer`."""
        self._identity: tuple[int, int, bool] | None = None
        self._writer = _Writer(writer)
        super().__init__(path)

    async def keep_open(self) -> None:
        """Look whether the file at the path is the one that is open, and open the one that is there. Does not return."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._connection is None or _identity(self._path) != self._identity:
                self.let_go()
                self._open()

    async def record(self, event: AnyEvent) -> Recorded:
        """Add an event and step its record. Raises StoreFault."""
        return await self._ask(Recorded, "record", event_row(event)._replace(token=token_of(event)))

    async def take_over(self, blocks: Sequence[Taken], *, at: int, by: str, source: str) -> int:
        """Add the blocks of another list; return how many changed anything. Raises StoreFault."""
        return await self._ask(int, "take_over", list(blocks), at, by, source, seconds=_LONG_SECONDS)

    async def intern(self, opaque_id: str, key: AddressKey) -> None:
        """Make sure that `recipient_of(opaque_id)` answers `key`. Raises StoreFault, also if the id means somebody else."""
        # Known to us is known to everybody: what is read here is committed.
        if self._connection is None or self.recipient_of(opaque_id) != key:
            await self._ask(type(None), "intern", opaque_id, key)

    async def count(self, tallies: Mapping[Tally, int]) -> None:
        """Add to the tallies of what was refused. Raises StoreFault."""
        await self._ask(type(None), "count", list(tallies.items()))

    async def settle(self, now: int) -> Sequence[Incident]:
        """Let the time pass: close incidents that are over, open a flood of backscatter. Raises StoreFault."""
        return await self._ask(tuple[Incident, ...], "settle", now)

    async def hold(self, provider: str, since: int, *, at: int, by: str, reason: str) -> Incident:
        """Make an incident, by hand, of the hard verdicts of a provider that were recorded from `since` on. Raises StoreFault."""
        return await self._ask(Incident, "hold", provider, since, at, by, reason, seconds=_LONG_SECONDS)

    async def forget(self, key: AddressKey) -> None:
        """Erase an address. Raises StoreFault."""
        await self._ask(type(None), "forget", key, seconds=_LONG_SECONDS)

    async def rule(self, incident: str, ruling: Ruling, *, at: int, by: str, reason: str) -> int:
        """Let all that an incident holds count, or undo all that it did. Raises NoSuchIncident, StoreFault."""
        return await self._ask(int, "rule", incident, ruling, at, by, reason, seconds=_LONG_SECONDS)

    async def backup(self) -> Path:
        """Return a copy of the database. Raises StoreFault."""
        # Not made by us: whoever does not write must hold the whole database fast while he copies it, and the log grows meanwhile.
        return Path(await self._ask(str, "backup", seconds=_LONG_SECONDS))

    async def close(self) -> None:
        """Hear what was asked, then let go of everything. Later calls raise StoreFault."""
        await self._writer.close()
        self.let_go()

    async def _ask(self, gives: type[_T], call: str, *words: object, seconds: float = _SECONDS) -> _T:
        return msgspec.convert(await self._writer.ask(call, words, seconds), gives)

    def _open(self) -> None:
        """Open what is at the path; where that fails, every question gets the reason for it."""
        self._identity = _identity(self._path)
        try:
            self._connection = files.open_reader(self._path)
        except (OperatorFault, StoreFault) as fault:
            self._closed_because = str(fault)


class _Writer:
    """The connection to the process that writes. It is made when it is needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._connecting = asyncio.Lock()
        self._connection: asyncio.StreamWriter | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._closed = False

    async def ask(self, call: str, words: Sequence[object], seconds: float) -> object:
        """Have `call` done; return what it gave, in JSON's terms. Raises StoreFault, NoSuchIncident."""
        if self._closed:
            raise StoreFault("the store is closed")
        number = next(self._numbers)
        answered = self._waiting[number] = asyncio.get_running_loop().create_future()
        request = json.dumps({"id": number, "call": call, "words": msgspec.to_builtins(words)})
        try:
            async with asyncio.timeout(seconds):
                connection = await self._connected()
                connection.write(request.encode("ascii") + b"\n")
                await connection.drain()
                answer: dict[str, Any] = await answered
        except (OSError, TimeoutError) as error:
            why = "does not answer" if isinstance(error, TimeoutError) else f"cannot be reached: {error.strerror or error}"
            raise StoreFault(f"the process that writes (bounced.service) {why}") from None
        finally:
            del self._waiting[number]
        if "missing" in answer:
            raise NoSuchIncident(answer["missing"])
        if "fault" in answer:
            raise StoreFault(answer["fault"])
        return answer.get("gave")

    async def close(self) -> None:
        """Take no more calls; end the connection when those that were made are answered."""
        self._closed = True
        if self._waiting:
            await asyncio.wait(self._waiting.values(), timeout=_SECONDS)
        if self._hearing is not None:
            self._hearing.cancel()
        self._drop()

    async def _connected(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._connection is None:
                reader, self._connection = await asyncio.open_unix_connection(self._path, limit=MOST_OCTETS)
                self._hearing = asyncio.create_task(self._hear(reader), name="answers of the writer")
            return self._connection

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                answer = json.loads(line)
                if (waiting := self._waiting.get(answer["id"])) is not None and not waiting.done():
                    waiting.set_result(answer)
        self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.transport.abort()
            self._connection = None
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result({"fault": "the process that writes went away, and may have done it or not"})


async def perform(store: Store, call: str, words: Sequence[Any]) -> object:
    """Do what a RelayedStore asked, on the store that writes. Raises what the call raises, and ValueError, TypeError for nonsense."""
    match call, words:
        case "record", [row]:
            event = EventRow(*row)
            return await store.record(event_of(event._replace(token=pack(event.token) if isinstance(event.token, str) else None)))
        case "take_over", [blocks, at, by, source]:
            return await store.take_over(msgspec.convert(blocks, list[Taken]), at=at, by=by, source=source)
        case "intern", [opaque_id, key]:
            await store.intern(opaque_id, key)
            return None
        case "count", [pairs]:
            await store.count({msgspec.convert(tally, Tally): times for tally, times in pairs})
            return None
        case "settle", [now]:
            return await store.settle(now)
        case "hold", [provider, since, at, by, reason]:
            return await store.hold(provider, since, at=at, by=by, reason=reason)
        case "backup", []:
            return str(await store.backup())
        case "forget", [key]:
            await store.forget(key)
            return None
        case "rule", [incident, ruling, at, by, reason]:
            return await store.rule(incident, Ruling(ruling), at=at, by=by, reason=reason)
        case _:
            raise ValueError("there is no such call")


def _identity(path: Path) -> tuple[int, int, bool] | None:
    """Tell one file from another, and one that is found damaged from itself before."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, files.written_state(path) is files.State.DAMAGED
