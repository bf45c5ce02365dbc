"""The SMTP tests run on both event loops that the daemon may have; those about time run on one whose clock can be put forward."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop

from tests.smtp.talk import House, SteeredLoop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, object]:
    """Name the loops; a test without a mark runs on each."""
    return {"asyncio": SteeredLoop, "uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """An intake over a memory store, with as many doors as a test opens; all are closed after it."""
    house = House(tmp_path)
    yield house
    await house.close()
