"""What hostile clients can make the door hold, of memory and of descriptors: measured in a process of its own."""

import asyncio
import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.smtp.talk import Client, on_asyncio

MIB = 1 << 20
LIMIT = 1 * MIB

DOOR = """
import asyncio, sys, tempfile
from pathlib import Path
from bounced.smtp.sources import SourceLimits
from tests.smtp.talk import House

async def serve():
    with tempfile.TemporaryDirectory() as place:
        house = House(Path(place))
        address = await house.open(max_message=%d, sources=SourceLimits(per_source=1000))
        print(address[1], house.signed(), flush=True)
        await asyncio.Event().wait()

asyncio.run(serve())
"""

FEW_FILES = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))\n" + DOOR

STOCK = """
import asyncio
from aiosmtpd.smtp import SMTP

class Silent: pass

async def serve():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Silent(), hostname="x", data_size_limit=%d, loop=loop), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], "joe@example.org", flush=True)
    await asyncio.Event().wait()

asyncio.run(serve())
"""


class Served:
    """A door in another process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, recipient: str) -> None:
        self.address = ("127.0.0.1", port)
        self.recipient = recipient
        self._pid = process.pid
        self._before = self.peak()

    def peak(self) -> int:
        """The most octets that have been resident."""
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{self._pid}/status").read_text())
        assert found
        return int(found[1]) * 1024

    def grown(self) -> int:
        """Octets resident at most, beyond those at the start."""
        return self.peak() - self._before


@contextlib.asynccontextmanager
async def served(program: str) -> AsyncIterator[Served]:
    """Run a door until the end of the block."""
    root = Path(__file__).parents[2]
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program % LIMIT),
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
        )
        try:
            assert process.stdout is not None
            port, recipient = (await process.stdout.readline()).split()
            yield Served(process, int(port), recipient.decode())
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
            process._transport.close()  # type: ignore[attr-defined]  # or the pipe is closed at no certain time
        errors.seek(0)
        assert errors.read() == b""


async def pour(door: Served, piece: bytes, octets: int) -> int:
    """Send mail data that does not end, until `octets` are sent or the door cuts the connection; return how many were sent."""
    client = await Client.greeted(door.address)
    await client.begin_data(door.recipient)
    sent = 0
    try:
        while sent < octets and not client._reader.at_eof():
            client.send(piece)
            await client.writer.drain()
            sent += len(piece)
    except ConnectionError:
        pass
    await client.close()
    return sent


PIECES = {"no line end": b"x" * 65536, "lines": (b"x" * 76 + b"\r\n") * 800, "short lines": b"\r\n" * 32768, "dots": b"\r\n.." * 16384}


@on_asyncio
@pytest.mark.parametrize("piece", PIECES)
async def test_endless_mail_data_is_not_held(piece: str, full_counts: bool) -> None:
    """Mail data without an end grows the process by the message limit and 8 MiB at most, and is cut after twice the limit."""
    octets = 1024 * MIB if full_counts else 48 * MIB
    async with served(DOOR) as door:
        assert await pour(door, PIECES[piece], octets) < 24 * MIB  # what the kernel's buffers take of it is no part of ours
        assert door.grown() <= LIMIT + 8 * MIB


@on_asyncio
async def test_a_hundred_such_clients_are_not_held(full_counts: bool) -> None:
    """A hundred clients at once with mail data at the limit, that stay: the whole process stays under 256 MiB."""
    async with served(DOOR) as door:
        clients = await asyncio.gather(*(Client.greeted(door.address) for _ in range(100)))
        for client in clients:
            await client.begin_data(door.recipient)
        await asyncio.gather(*(fill(client, LIMIT * 2 - 65536) for client in clients))
        assert door.peak() <= 256 * MIB
        await asyncio.gather(*(client.close() for client in clients))


async def fill(client: Client, octets: int) -> None:
    """Send so much mail data and no end."""
    for _ in range(octets // 65536):
        client.send(b"x" * 65536)
        await client.writer.drain()


@on_asyncio
async def test_aiosmtpd_as_it_comes_holds_it_all() -> None:
    """The same octets make aiosmtpd's own door grow with what is sent, whatever its limit: the measure shows it."""
    async with served(STOCK) as door:
        await pour(door, PIECES["no line end"], 48 * MIB)
        assert door.grown() > LIMIT + 8 * MIB


def test_a_mail_at_the_limit_is_held_once() -> None:
    """Content is handed to intake without a second copy."""
    # VmHWM, not ru_maxrss: that begins with the peak of whoever started the process, and would hide a second copy.
    program = (
        "from pathlib import Path\nfrom bounced.smtp.mail_data import MailData\nmail = MailData(200 << 20)\n"
        "def peak(): return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
        "for _ in range(1600): mail.feed(b'x' * 131072)\nmail.feed(b'\\r\\n.\\r\\n')\n"
        "before = peak()\ncontent = mail.content()\nprint(len(content), peak() - before)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    octets, grown = map(int, run.stdout.split())
    assert octets == 200 << 20
    assert grown < 50 << 10


@on_asyncio
async def test_descriptors_do_not_run_out() -> None:
    """With few descriptors the door stops greeting before they are used up, says so, logs no traceback, and serves as soon as it can."""
    async with served(FEW_FILES) as door:
        clients = [await Client.connect(door.address, f"127.0.0.{2 + number % 50}") for number in range(400)]
        replies = [await client.reply() for client in clients]
        assert {reply[:9] for reply in replies if not reply.startswith("220 ")} == {"421 4.3.2"}
        assert replies.count("220 mx.example.net ESMTP\r\n") == 150
        await asyncio.gather(*(client.close() for client in clients))
        async with await Client.greeted(door.address) as client:
            assert (await client.mail(door.recipient)).startswith("250 ")


@on_asyncio
async def test_idle_clients_do_not_keep_others_out(full_counts: bool) -> None:
    """While many sources hold many idle connections every honest client is served, and an idle connection costs little memory."""
    idle = 5000 if full_counts else 300
    if full_counts:
        resource.setrlimit(resource.RLIMIT_NOFILE, (12_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    async with served(DOOR) as door:
        clients = [await Client.greeted(door.address, f"127.0.{number % 200}.2") for number in range(idle)]
        assert door.grown() / idle <= 20 * 1024
        for number in range(30):
            async with await Client.greeted(door.address, f"127.1.0.{1 + number}") as honest:
                assert (await honest.mail(door.recipient)).startswith("250 ")
        await asyncio.gather(*(client.close() for client in clients))
