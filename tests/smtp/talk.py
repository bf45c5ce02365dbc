"""Both ends of a conversation: a house whose doors listen on loopback, and a client that says what it likes."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self

import pytest
from aiosmtpd.smtp import SMTP

from bounced.address import address_key
from bounced.envelope import Envelope
from bounced.intake import Admission, Intake, LocalMailbox
from bounced.maildir import Maildir
from bounced.outcome.ruleset import RuleSet
from bounced.policy import Policy
from bounced.provenance import Ours
from bounced.record import AnyEvent
from bounced.returnpath import Claims, KeyRing, ReturnPath
from bounced.scope import DEFAULT_SCOPE
from bounced.smtp.door import SmtpDoor, SmtpSettings
from bounced.store.memory import MemoryStore

NOW = 1_790_000_000
DOMAIN = "bounces.example.net"
HOST = "mx.example.net"

BOUNCE = (
    b"From: MAILER-DAEMON@mx.example.org\r\n"
    b"Subject: Undelivered Mail Returned to Sender\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n'
    b"\r\n"
    b"--b\r\n"
    b"Content-Type: message/delivery-status\r\n"
    b"\r\n"
    b"Reporting-MTA: dns; mx.example.org\r\n"
    b"\r\n"
    b"Final-Recipient: rfc822; joe@example.org\r\n"
    b"Action: failed\r\n"
    b"Status: 5.1.1\r\n"
    b"Diagnostic-Code: smtp; 550 5.1.1 User unknown\r\n"
    b"\r\n"
    b"--b--\r\n"
)

END = b".\r\n"

on_asyncio = pytest.mark.asyncio(loop_factories=["asyncio"])
"""For tests about time: only this loop's clock can be put forward."""


class SteeredLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock a test may put forward; timers that have become due fire at once."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


async def pass_time(seconds: float) -> None:
    """Put the loop's clock forward, and let what became due happen."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteeredLoop)
    loop.ahead += seconds
    for _ in range(5):
        await asyncio.sleep(0)


async def until(happened: Callable[[], object]) -> None:
    """Let the loop run until something has happened; ten seconds are for ever."""
    async with asyncio.timeout(10):
        while not happened():  # noqa: ASYNC110  # what happens is in the door, which tells nobody
            await asyncio.sleep(0)


class ObservedIntake(Intake):
    """The real intake, but that a test may hold up or break either step, and sees what was taken."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.asked: list[str] = []
        self.contents: list[bytes] = []
        self.envelopes: list[Envelope] = []
        self.admit_fault: BaseException | None = None
        self.accept_fault: BaseException | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_gate = asyncio.Event()

    def admit(self, envelope: Envelope) -> Admission:
        self.asked.append(envelope.forward_path)
        if self.admit_fault is not None:
            raise self.admit_fault
        return super().admit(envelope)

    async def accept(self, envelope: Envelope, admission: Claims | LocalMailbox, content: bytes) -> None:
        self.at_gate.set()
        await self.gate.wait()
        if self.accept_fault is not None:
            raise self.accept_fault
        await super().accept(envelope, admission, content)
        self.contents.append(content)
        self.envelopes.append(envelope)


class House:
    """An intake over a memory store, and its doors."""

    def __init__(self, tmp_path: Path, intake: Callable[..., Intake] = ObservedIntake) -> None:
        self.path = tmp_path
        self.store = MemoryStore(Policy())
        self.return_path = ReturnPath(ring=KeyRing(()).rotated(b"k" * 32), scopes=(DEFAULT_SCOPE,))
        self.intake: Any = intake(
            domains=(DOMAIN,),
            return_path=self.return_path,
            rules=RuleSet.builtin(),
            store=self.store,
            postmaster=Maildir(tmp_path / "postmaster", 1 << 24),
            unread=Maildir(tmp_path / "unread", 1 << 24),
            clock=lambda: NOW,
            ours=Ours(hosts=frozenset()),
        )
        self.doors: list[SmtpDoor] = []
        self._stock: list[asyncio.Server] = []

    def signed(self, address: str = "joe@example.org", at: int = NOW - 60) -> str:
        """Sign a return path."""
        return f"{self.return_path.sign(address_key(address), DEFAULT_SCOPE, at).local_part}@{DOMAIN}"

    def history(self, address: str = "joe@example.org") -> list[AnyEvent]:
        """What the store keeps of an address."""
        return list(self.store.history(address_key(address)))

    def kept(self, mailbox: str = "postmaster") -> list[bytes]:
        """The mails in one of the Maildirs."""
        return [file.read_bytes() for file in (self.path / mailbox / "new").glob("*")]

    async def open(self, *, lmtp: bool = False, unix: bool = False, **settings: Any) -> Any:
        """Open a door with these settings; return the address that it listens at."""
        door = SmtpDoor(self.intake, SmtpSettings(hostname=HOST, **settings), lambda: NOW)
        self.doors.append(door)
        if unix:
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(str(self.path / "s"))
        else:
            # As systemd hands it over: without a protocol number.
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        await door.listen(sock, lmtp=lmtp)
        return sock.getsockname()

    async def open_stock(self, handler: Any, **options: Any) -> Any:
        """Open a door of aiosmtpd as it comes, for a control that must lose; return its address."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SMTP(handler, hostname=HOST, loop=loop, **options), "127.0.0.1", 0)
        self._stock.append(server)
        return server.sockets[0].getsockname()

    async def close(self) -> None:
        """Close all doors."""
        self.intake.gate.set()
        for door in self.doors:
            await door.drain(5)
        for server in self._stock:
            server.close()


class Client:
    """A client at its most literal: octets out, replies in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, address: Any, source: str | None = None) -> Self:
        """Connect, from another loopback address if so wanted; nothing is read."""
        if isinstance(address, str):
            return cls(*await asyncio.open_unix_connection(address))
        return cls(*await asyncio.open_connection(*address, local_addr=(source, 0) if source else None))

    @classmethod
    async def greeted(cls, address: Any, source: str | None = None, hello: bytes = b"EHLO mx.example.org") -> Self:
        """Connect and say hello."""
        client = await cls.connect(address, source)
        assert (await client.reply()).startswith("220 ")
        assert (await client.say(hello)).startswith("250")
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def send(self, octets: bytes) -> None:
        """Send octets as they are."""
        self.writer.write(octets)

    async def reply(self) -> str:
        """Read one reply, all its lines; "" where the connection has ended."""
        lines = []
        try:
            while True:
                line = (await self._reader.readline()).decode("ascii")
                lines.append(line)
                if line[3:4] != "-":
                    return "".join(lines)
        except ConnectionError:
            return "".join(lines)

    async def say(self, line: bytes) -> str:
        """Send a command line; return the reply."""
        self.send(line + b"\r\n")
        return await self.reply()

    async def rest(self) -> str:
        """Read all that still comes, until the connection ends."""
        try:
            return (await self._reader.read()).decode("ascii")
        except ConnectionError:
            return ""

    async def mail(self, recipient: str, content: bytes = BOUNCE, sender: bytes = b"") -> str:
        """Send one mail in groups, as PIPELINING allows; return the last reply: to DATA where that was refused, else to the mail data."""
        self.send(b"MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n" % (sender, recipient.encode()))
        replies = [await self.reply() for _ in range(3)]
        if not replies[-1].startswith("354"):
            return replies[1]
        self.send(content + END)
        return await self.reply()

    async def begin_data(self, recipient: str) -> None:
        """Go as far as mail data."""
        self.send(b"MAIL FROM:<>\r\nRCPT TO:<%s>\r\nDATA\r\n" % recipient.encode())
        assert [(await self.reply())[:3] for _ in range(3)] == ["250", "250", "354"]

    async def close(self) -> None:
        """Hang up."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass


async def at_once(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run some things at the same time."""
    return list(await asyncio.gather(*work))
