"""What the SMTP door costs, against aiosmtpd as it comes and Postfix's smtp-sink, which discards too, in the same run.

    python -m benchmarks.listener [--messages N] [--rounds N] [--sessions N]

Prints JSON lines: server CPU in microseconds per message of 4 KB, for one message a connection, many, and many pipelined. The door is
measured with an intake that takes all and keeps nothing, as its peers do, and once more with the real check of signed return paths. CPU is
what the kernel counted for the server process; rounds rotate, medians are printed with their spread (interquartile range over median).
"""

import argparse
import asyncio
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import uvloop
from aiosmtpd.smtp import SMTP

from benchmarks.rounds import cpu_of, in_turn, tell
from bounced.address import address_key
from bounced.envelope import Envelope
from bounced.intake import Intake
from bounced.returnpath import Claims, KeyRing, ReturnPath
from bounced.scope import DEFAULT_SCOPE
from bounced.smtp.door import SmtpDoor, SmtpSettings
from bounced.smtp.sources import SourceLimits

_ROOT = Path(__file__).resolve().parents[1]
_RETURN_PATH = ReturnPath(ring=KeyRing(()).rotated(b"k" * 32), scopes=(DEFAULT_SCOPE,))
_HEADER = b"From: MAILER-DAEMON@mx.example.org\r\nSubject: Undelivered Mail Returned to Sender\r\nMIME-Version: 1.0\r\n\r\n"
_LINE = b"This line stands for the text of a bounce, which is as long as lines of mail are.\r\n"
_CONTENT = _HEADER + _LINE * ((4096 - len(_HEADER)) // len(_LINE)) + b".\r\n"
_MODES = ("one a connection", "many", "pipelined")


# The servers: each runs in a process of its own and prints its port


class _NoStore:
    def recipient_of(self, _opaque_id: str) -> None:
        return None


class _VerifyingIntake(Intake):
    async def accept(self, *_: Any) -> None:
        return


class _DiscardingIntake(_VerifyingIntake):
    _CLAIMS = Claims(recipient=address_key("joe@example.org"), scope=DEFAULT_SCOPE, signed_at=0, token="x")

    def admit(self, envelope: Envelope) -> Claims:  # noqa: ARG002
        return self._CLAIMS


async def serve_door(kind: type[Intake]) -> None:
    """Serve by the door, with an intake that keeps nothing."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    parts: dict[str, Any] = dict.fromkeys(("rules", "postmaster", "unread", "ours"))
    store: Any = _NoStore()
    intake = kind(domains=("bounces.example.net",), return_path=_RETURN_PATH, clock=time.time, store=store, **parts)
    limits = SourceLimits(per_source=10_000, rate=1_000_000_000)
    door = SmtpDoor(intake, SmtpSettings(hostname="mx.example.net", sources=limits), time.time)
    sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    sock.setblocking(False)
    await door.listen(sock)
    print(sock.getsockname()[1], flush=True)
    await asyncio.Event().wait()


async def serve_stock() -> None:
    """Serve by aiosmtpd as it comes, with a handler that keeps nothing."""
    logging.getLogger("mail.log").setLevel(logging.ERROR)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(object(), hostname="mx.example.net", loop=loop), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


class Server:
    """One server process."""

    def __init__(self, name: str) -> None:
        self.name = name
        if name == "smtp-sink":
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
            program = shutil.which("smtp-sink", path="/usr/sbin:/usr/local/sbin:/usr/bin")
            assert program
            user = ["-u", "nobody"] if os.geteuid() == 0 else []
            self._process = subprocess.Popen([program, *user, f"inet:127.0.0.1:{self.port}", "1024"])
            time.sleep(0.5)
        else:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.listener", "--serve", name], stdout=subprocess.PIPE, cwd=_ROOT
            )
            assert self._process.stdout
            self.port = int(self._process.stdout.readline())

    def cpu(self) -> float:
        """Seconds of CPU that the process has used."""
        return cpu_of(self._process.pid)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


# The client


class Session(asyncio.Protocol):
    """Sends `messages` messages over one connection: steps of octets, and how many reply lines end each."""

    def __init__(self, steps: list[tuple[bytes, int]], done: "asyncio.Future[None]") -> None:
        self._steps = iter(steps)
        self._awaited = 1
        self._done = done

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, octets: bytes) -> None:
        for line in octets.splitlines():
            assert line[0] in b"23", line
            self._awaited -= line[3:4] != b"-"
        if self._awaited == 0:
            step = next(self._steps, None)
            if step is None:
                self._transport.close()
                return
            octets, self._awaited = step
            self._transport.write(octets)

    def connection_lost(self, _error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


def steps_of(mode: str, messages: int) -> list[tuple[bytes, int]]:
    """Return what a session sends, and how many replies it waits for after each part."""
    recipient = _RETURN_PATH.sign(address_key("joe@example.org"), DEFAULT_SCOPE, int(time.time())).local_part.encode()
    group = [b"MAIL FROM:<>\r\n", b"RCPT TO:<%s@bounces.example.net>\r\n" % recipient, b"DATA\r\n"]
    if mode == "pipelined":
        whole = b"".join(group)
        return [(b"EHLO x\r\n", 1), (whole, 3), *[(_CONTENT + whole, 4)] * (messages - 1), (_CONTENT, 1)]
    one = [*((line, 1) for line in group), (_CONTENT, 1)]
    return [(b"EHLO x\r\n", 1), *one * messages, (b"QUIT\r\n", 1)]


async def send(port: int, mode: str, messages: int, sessions: int) -> None:
    """Send messages over so many sessions at a time."""
    loop = asyncio.get_running_loop()
    each = 1 if mode == "one a connection" else messages // sessions
    steps = steps_of(mode, each)

    async def worker(share: int) -> None:
        for _ in range(share):
            done = loop.create_future()
            await loop.create_connection(partial(Session, steps, done), "127.0.0.1", port)
            await done

    await asyncio.gather(*(worker(messages // sessions // each) for _ in range(sessions)))


def measure(names: list[str], messages: int, rounds: int, sessions: int) -> dict[tuple[str, str], list[float]]:
    """Return microseconds of server CPU per message, a figure a round."""
    servers = [Server(name) for name in names]
    found: dict[tuple[str, str], list[float]] = {}
    try:
        for counts, server in in_turn(servers, rounds):
            for mode in _MODES:
                count = messages // 5 if server.name == "aiosmtpd" else messages
                count -= count % sessions
                before = server.cpu()
                uvloop.run(send(server.port, mode, count, sessions))
                if counts:
                    found.setdefault((mode, server.name), []).append((server.cpu() - before) / count * 1e6)
    finally:
        for server in servers:
            server.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--serve")
    asked = parser.parse_args()
    serving: dict[str, Callable[[], Any]] = {
        "door": lambda: serve_door(_DiscardingIntake),
        "door, verifying": lambda: serve_door(_VerifyingIntake),
        "aiosmtpd": serve_stock,
    }
    if asked.serve:
        uvloop.run(serving[asked.serve]())
        return
    peers = ["aiosmtpd", *(["smtp-sink"] if shutil.which("smtp-sink", path="/usr/sbin:/usr/local/sbin:/usr/bin") else [])]
    found = measure(["door", "door, verifying", *peers], asked.messages, asked.rounds, asked.sessions)
    for mode in _MODES:
        for ours in ("door", "door, verifying"):
            for peer in peers:
                line = {"benchmark": "listener", "mode": mode, "what": f"{ours}: server CPU us a message"}
                tell(line, found[mode, ours], peer, found[mode, peer])


if __name__ == "__main__":
    main()
