"""The socket at which the process that writes takes what other processes of ours have to have written.

For: `bounced serve --role query`, which only reads (bounced/store/relay.py is its end, and says what the lines mean). Never: strangers. The
socket is for the daemon's own user alone: who reaches it may write anything into the store.
"""

import asyncio
import contextlib
import json
import socket
import sys
from typing import Any

import msgspec
import structlog

from bounced.store import NoSuchIncident, Store, StoreFault
from bounced.store.relay import MOST_OCTETS, perform
from bounced.store.rows import RowError

_MOST_CONNECTIONS = 16
_MOST_AT_ONCE = 1000


class RelayDoor:
    """Has written, in the order of their coming, what is asked for on a socket that somebody else has bound."""

    def __init__(self, store: Store) -> None:
        """Put the parts together; nothing listens yet."""
        self._store = store
        self._log = structlog.get_logger("relay")
        self._servers: list[asyncio.AbstractServer] = []
        self._connections: set[asyncio.StreamWriter] = set()
        self._calls: set[asyncio.Task[None]] = set()

    async def listen(self, sock: socket.socket) -> None:
        """Serve on a bound unix socket; the door owns it from now on. Raises OSError."""
        sock.setblocking(False)
        # Else the path would be removed at the end (gh-111246), and it is systemd's or the binder's.
        keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        self._servers.append(await asyncio.start_unix_server(self._serve, sock=sock, limit=MOST_OCTETS, **keep))

    async def drain(self, seconds: float) -> None:
        """Listen no more, and finish what was asked, for so long."""
        for server in self._servers:
            server.close()
        if self._calls:
            await asyncio.wait(self._calls, timeout=seconds)
        for connection in tuple(self._connections):
            connection.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            if len(self._connections) <= _MOST_CONNECTIONS:
                await self._hear(reader, writer)
        except (OSError, ValueError) as error:
            self._log.warning("relay.cut", why=type(error).__name__)
        finally:
            self._connections.discard(writer)
            writer.transport.abort()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            asked = json.loads(line)
            # A task of its own: calls that wait for one fsync share it, and one that was begun is finished, whoever goes.
            call = asyncio.create_task(self._perform(writer, asked["id"], asked["call"], asked["words"]))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
            if len(self._calls) >= _MOST_AT_ONCE:
                await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)

    async def _perform(self, writer: asyncio.StreamWriter, number: int, call: str, words: list[Any]) -> None:
        answer: dict[str, object] = {"id": number}
        try:
            answer["gave"] = msgspec.to_builtins(await perform(self._store, call, words))
        except NoSuchIncident as error:
            answer["missing"] = str(error)
        except StoreFault as fault:
            answer["fault"] = str(fault)
        except (RowError, ValueError, TypeError, KeyError) as error:
            self._log.error("relay.garbled", call=call, why=type(error).__name__)
            answer["fault"] = "the process that writes does not understand; do both run the same version?"
        with contextlib.suppress(OSError):
            writer.write(json.dumps(answer).encode("ascii") + b"\n")
            await writer.drain()
