"""Whatever goes wrong inside is a 451 with a fixed text, and a commit that has begun goes on whatever the client does."""

import asyncio
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bounced.envelope import Envelope
from bounced.intake import LocalMailbox
from bounced.returnpath import Claims
from bounced.store import StoreFault
from tests.smtp.talk import BOUNCE, END, Client, House, ObservedIntake, at_once, on_asyncio, pass_time, until

OUR_FAULT = "451 4.3.0 our fault, please try again later\r\n"

FAULTS: list[BaseException] = [
    RuntimeError("550 5.1.1 User unknown\r\n250 ok"),
    ValueError("\udcff Grüße \x1b[31m"),
    UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"),
    RecursionError(),
    MemoryError(),
    KeyError("x"),
    TimeoutError(),
    ConnectionResetError("not the client's"),
    OSError(28, "No space left on device"),
    StoreFault("the disk is full"),
]


@pytest.mark.parametrize("where", ["admit", "accept"])
async def test_every_fault_of_ours_is_a_451(house: House, where: str, full_counts: bool) -> None:
    """No exception in intake reaches the client: each is 451 4.3.0, the session goes on, and the next mail is taken."""
    address = await house.open(max_errors=1, max_junk=10_000_000)
    rounds = 1000 if full_counts else 5

    with capture_logs():
        async with await Client.greeted(address) as client:
            for _ in range(rounds):
                for fault in FAULTS:
                    setattr(house.intake, f"{where}_fault", fault)
                    assert await client.mail(house.signed()) == OUR_FAULT
                    assert (await client.say(b"RSET")).startswith("250 ")
            setattr(house.intake, f"{where}_fault", None)
            assert (await client.mail(house.signed())).startswith("250 ")


async def test_a_session_logs_its_faults_once(house: House) -> None:
    """A fault that every mail meets is one line a session, and the exception's text is no event name."""
    address = await house.open()
    house.intake.accept_fault = RuntimeError("hostile\ntext")

    with capture_logs() as logs:
        async with await Client.greeted(address) as client:
            for _ in range(5):
                await client.mail(house.signed())

    assert [(line["event"], line["problem"]) for line in logs if line["log_level"] == "error"] == [("smtp.fault", "RuntimeError")]


class _Failing:
    """A handler for aiosmtpd that fails as intake may."""

    async def handle_DATA(self, *_: Any) -> str:  # noqa: N802  # aiosmtpd's name
        raise RuntimeError("oops\r\n250 taken")


@on_asyncio
async def test_aiosmtpd_as_it_comes_answers_500_to_a_fault(house: House) -> None:
    """The same fault at aiosmtpd's own door is permanent, and its text injects a reply: why no exception reaches it."""
    address = await house.open_stock(_Failing())

    async with await Client.greeted(address) as client:
        assert (await client.mail("joe@example.org")).startswith("500 ")
        assert await client.reply() == "250 taken\r\n"


async def test_nothing_is_promised_before_the_commit(house: House) -> None:
    """The 250 after mail data comes when intake has returned, and not before."""
    assert await recorded_at_the_reply(house) == 1


async def test_a_hasty_reply_would_be_noticed(tmp_path: Path) -> None:
    """Where intake returns before it has committed, the test above sees a 250 for what is not in the store."""
    house = House(tmp_path, _HastyIntake)
    try:
        assert await recorded_at_the_reply(house) == 0
    finally:
        await house.close()


class _HastyIntake(ObservedIntake):
    async def accept(self, envelope: Envelope, admission: Claims | LocalMailbox, content: bytes) -> None:
        self.later = asyncio.create_task(super().accept(envelope, admission, content))
        await asyncio.sleep(0)


async def recorded_at_the_reply(house: House) -> int:
    """Send a bounce, hold up the commit until the door has had every chance to reply; return what the store held at the reply."""
    address = await house.open()
    house.intake.gate.clear()
    async with await Client.greeted(address) as client:
        await client.begin_data(house.signed())
        client.send(BOUNCE + END)
        reply = asyncio.create_task(client.reply())
        await house.intake.at_gate.wait()
        for _ in range(20):
            await asyncio.sleep(0)
            os.sched_yield()
        if reply.done():
            return len(house.history())
        house.intake.gate.set()
        assert (await reply).startswith("250 ")
        return len(house.history())


async def test_a_250_for_several_recipients_means_all(house: House) -> None:
    """With several recipients, one that cannot be committed makes the one reply a 451; the rest may be recorded, and stay so."""
    address = await house.open()
    calls = []
    accept = house.intake.accept

    async def second_fails(envelope: Envelope, admission: Any, content: bytes) -> None:
        calls.append(envelope)
        if len(calls) == 2:
            raise StoreFault("the disk is full")
        await accept(envelope, admission, content)

    house.intake.accept = second_fails
    async with await Client.greeted(address) as client:
        await client.say(b"MAIL FROM:<gateway@example.org>")
        for name in ("ann", "joe", "sue"):
            await client.say(b"RCPT TO:<%s>" % house.signed(f"{name}@example.org").encode())
        await client.say(b"DATA")
        client.send(BOUNCE + END)
        with capture_logs():
            assert await client.reply() == OUR_FAULT

    assert [len(house.history(f"{name}@example.org")) for name in ("ann", "joe", "sue")] == [1, 0, 1]


@pytest.mark.parametrize("how", ["half", "close", "reset"])
async def test_a_commit_goes_on_when_the_client_hangs_up(house: House, how: str) -> None:
    """EOF and reset during the commit end the connection, never the commit; after EOF the 250 is attempted; sent again, it counts once."""
    address = await house.open()
    house.intake.gate.clear()
    client = await Client.greeted(address)
    await client.begin_data(house.signed())
    client.send(BOUNCE + END)
    await house.intake.at_gate.wait()
    [session] = house.doors[0]._sessions.open()

    match how:
        case "half":
            client.writer.write_eof()
        case "close":
            client.writer.close()
        case _:
            # Without lingering a socket is reset when it is closed.
            client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.writer.transport.abort()
    await until(lambda: session._wire is None if how == "reset" else session._eof)
    house.intake.gate.set()
    if how == "half":
        assert (await client.rest()).startswith("250 2.0.0")
    await house.doors[0].drain(5)

    assert len(house.history()) == 1
    async with await Client.greeted(await house.open()) as again:
        assert (await again.mail(house.signed())).startswith("250 ")
    assert len(house.history()) == 1
    await client.close()


class _Slow:
    """A handler for aiosmtpd that notes when its commit is over."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.fate = asyncio.get_running_loop().create_future()

    async def handle_DATA(self, *_: Any) -> str:  # noqa: N802  # aiosmtpd's name
        self.begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.fate.set_result("cancelled")
            raise
        return "250 ok"


@on_asyncio
async def test_aiosmtpd_as_it_comes_cancels_the_commit(house: House) -> None:
    """The same EOF at aiosmtpd's own door cancels the commit: why it is a task of its own here."""
    handler = _Slow()
    client = await Client.greeted(await house.open_stock(handler))
    await client.begin_data("joe@example.org")
    client.send(BOUNCE + END)
    await handler.begun.wait()
    client.writer.write_eof()

    assert await handler.fate == "cancelled"
    await client.close()


@on_asyncio
async def test_a_commit_outlives_every_deadline(house: House) -> None:
    """However long the disk takes, the client is answered after it: a time-out in between would make it send again."""
    address = await house.open()
    house.intake.gate.clear()
    async with await Client.greeted(address) as client:
        await client.begin_data(house.signed())
        client.send(BOUNCE + END)
        await house.intake.at_gate.wait()
        for _ in range(100):
            await pass_time(10)
        house.intake.gate.set()
        assert (await client.reply()).startswith("250 ")

    assert len(house.history()) == 1


async def test_what_comes_during_a_commit_waits_for_it(house: House) -> None:
    """A client that goes on while its mail is committed is not read meanwhile, and is answered in order after it."""
    address = await house.open(max_junk=10_000)
    async with await Client.greeted(address) as client:
        house.intake.gate.clear()
        await client.begin_data(house.signed())
        [session] = house.doors[0]._sessions.open()
        client.send(BOUNCE + END)
        await house.intake.at_gate.wait()
        client.send(b"NOOP\r\n" * 100)
        await until(lambda: session._held_back)
        client.send(b"VRFY x\r\n" * 1000)
        house.intake.gate.set()
        assert [(await client.reply())[:3] for _ in range(1101)] == ["250"] * 101 + ["252"] * 1000


async def test_many_sessions_are_committed_at_once(house: House) -> None:
    """Commits of different sessions don't wait for each other."""
    address = await house.open()
    house.intake.gate.clear()
    clients = await at_once(*(Client.greeted(address) for _ in range(20)))
    for number, client in enumerate(clients):
        await client.begin_data(house.signed(f"user{number}@example.org"))
        client.send(BOUNCE + END)
    await house.intake.at_gate.wait()
    house.intake.gate.set()

    assert [reply[:3] for reply in await at_once(*(client.reply() for client in clients))] == ["250"] * 20
    await at_once(*(client.close() for client in clients))
