"""The real middle over the memory store, and sockets to serve it on: what the tests of the query doors share."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bounced.consult import Consult
from bounced.http import HttpDoor
from bounced.listen import QueryDoor, QuerySettings
from bounced.maildir import Maildir
from bounced.policy import Policy
from bounced.returnpath import Key, KeyRing, ReturnPath
from bounced.scope import DEFAULT_SCOPE, EVERYWHERE, Scope
from bounced.store import Store
from bounced.store.memory import MemoryStore

DOMAIN = "bounces.example.net"
NEWS = Scope("news")
NOW = 1_795_000_000
DEAD = "dead@remote.test"
LIVE = "live@remote.test"


def return_path() -> ReturnPath:
    """A signer with a fixed key, for the streams `default` and `news`."""
    return ReturnPath(ring=KeyRing((Key("a", b"k" * 32),)), scopes=(DEFAULT_SCOPE, NEWS))


def consult_over(store: Store | None = None, unread: Path = Path("nowhere")) -> Consult:
    """The real Consult, with a clock that stands still; `unread` is a Maildir that need not be there."""
    maildir = Maildir(unread, quota=1 << 20)
    return Consult(domain=DOMAIN, return_path=return_path(), store=store or MemoryStore(Policy()), unread=maildir, clock=lambda: NOW)


async def with_dead(consult: Consult) -> Consult:
    """Put DEAD on the list."""
    await consult.block(DEAD, EVERYWHERE, by="test", reason="to be found")
    return consult


def bound(path: Path) -> socket.socket:
    """A bound unix socket, as the daemon's binder or systemd makes it."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    return sock


@asynccontextmanager
async def query_door(consult: Consult, path: Path, protocol: str, settings: QuerySettings | None = None) -> AsyncIterator[QueryDoor]:
    """Serve one protocol on `path`."""
    door = QueryDoor(consult, settings or QuerySettings())
    await door.listen(bound(path), protocol)
    try:
        yield door
    finally:
        await door.drain(5)


@asynccontextmanager
async def http_door(consult: Consult, path: Path) -> AsyncIterator[HttpDoor]:
    """Serve HTTP on `path`."""
    door = HttpDoor(consult)
    await door.listen(bound(path))
    try:
        yield door
    finally:
        await door.drain(5)


async def asked(path: Path, octets: bytes) -> bytes:
    """Write `octets`, then read to the end of the connection."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(octets)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def ask_for_text(path: Path, target: str) -> tuple[int, str]:
    """Get `target` over HTTP on a unix socket; return the status and the body."""
    answer = await asked(path, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()
