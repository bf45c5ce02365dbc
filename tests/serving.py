"""A daemon's query door in a process of its own, for tests that stop, kill or fork: `python -m tests.serving PATH`."""

import asyncio
import sys
from pathlib import Path

from bounced.listen import QueryDoor, QuerySettings
from tests.asking import bound, consult_over, with_dead


async def main(path: Path) -> None:
    """Serve socketmap on `path`, say so, and go on until killed."""
    door = QueryDoor(await with_dead(consult_over()), QuerySettings())
    await door.listen(bound(path), "socketmap")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
