"""The stores under test: every class of bounced.store whose name ends in Store, found, not listed."""

import importlib
import inspect
import pkgutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

import bounced.store
from bounced.policy import Policy
from bounced.relay import RelayDoor
from bounced.store import Store
from bounced.store.memory import MemoryStore
from bounced.store.relay import RelayedStore
from bounced.store.sqlite import SqliteStore

Opener = Callable[[Path], Awaitable[Store]]


def found() -> dict[str, type]:
    """Return the store classes of the package, by name."""
    modules = [importlib.import_module(f"bounced.store.{module.name}") for module in pkgutil.iter_modules(bounced.store.__path__)]
    return {
        name: value
        for module in modules
        for name, value in inspect.getmembers(module, inspect.isclass)
        if name.endswith("Store") and value.__module__ == module.__name__
    }


async def _memory(directory: Path) -> Store:
    return MemoryStore(Policy())


async def _sqlite(directory: Path) -> Store:
    return await SqliteStore.open(directory / "bounced.db", Policy())


class _Relayed(RelayedStore):
    """With the process that writes beside it, which ends with it."""

    door: RelayDoor
    written: SqliteStore

    async def close(self) -> None:
        await super().close()
        await self.door.drain(5)
        await self.written.close()


async def _relayed(directory: Path) -> Store:
    written = await SqliteStore.open(directory / "bounced.db", Policy())
    door = RelayDoor(written)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(directory / "writer.sock"))
    await door.listen(sock)
    relayed = _Relayed(directory / "bounced.db", directory / "writer.sock")
    relayed.door, relayed.written = door, written
    return relayed


OPENERS: dict[str, Opener] = {"MemoryStore": _memory, "SqliteStore": _sqlite, "RelayedStore": _relayed}
"""How each store is opened in an empty directory. A store that is found and not here fails the suite."""


@pytest.fixture(params=sorted(found()))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Every store in turn, empty, and closed after the test."""
    opened = await OPENERS[request.param](tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite_store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """An empty SQLite store at tmp_path/bounced.db."""
    opened = await SqliteStore.open(tmp_path / "bounced.db", Policy())
    yield opened
    await opened.close()
