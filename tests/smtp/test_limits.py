"""What one client may take: connections, commands, errors, time, and the end of it all."""

import asyncio
import socket
from typing import Any

import pytest
from structlog.testing import capture_logs

from bounced.smtp.sources import SourceLimits
from tests.smtp.talk import BOUNCE, DOMAIN, END, Client, House, at_once, on_asyncio, pass_time, until


async def greeting(address: Any, source: str) -> tuple[Client, str]:
    """Connect from a source; return the client and the first reply."""
    client = await Client.connect(address, source)
    return client, await client.reply()


async def test_a_source_has_its_share_of_connections_and_no_more(house: House, full_counts: bool) -> None:
    """The connection over a source's limit is told 421; from every other source all are served meanwhile, and a place given up is free."""
    address = await house.open()
    greedy = [await greeting(address, "127.0.0.2") for _ in range(55)]
    assert [reply[:3] for _, reply in greedy] == ["220"] * 50 + ["421"] * 5

    others = 1000 if full_counts else 100
    for number in range(others):
        async with await Client.greeted(address, f"127.0.1.{1 + number % 100}") as client:
            assert (await client.mail(house.signed(f"user{number}@example.org"))).startswith("250 ")
    assert len(house.intake.envelopes) == others

    for client, _ in greedy:
        await client.close()
    await until(lambda: not house.doors[0]._sessions.open())
    client, reply = await greeting(address, "127.0.0.2")
    assert reply.startswith("220 ")
    await client.close()


async def test_without_the_limit_all_are_served(house: House) -> None:
    """With a higher limit the same 55 connections are greeted: it is the limit that the test above sees."""
    address = await house.open(sources=SourceLimits(per_source=100))
    greedy = [await greeting(address, "127.0.0.2") for _ in range(55)]
    assert {reply[:3] for _, reply in greedy} == {"220"}
    await at_once(*(client.close() for client, _ in greedy))


@on_asyncio
async def test_a_source_has_its_share_of_new_connections_a_minute(house: House) -> None:
    """The 301st new connection of a source within a minute is told 421, and the next minute has its own count."""
    address = await house.open()
    replies = []
    for _ in range(302):
        client, reply = await greeting(address, "127.0.0.2")
        replies.append(reply[:9])
        await client.close()
        await asyncio.sleep(0)
    assert replies.count("421 4.7.0") == 2

    await pass_time(61)
    client, reply = await greeting(address, "127.0.0.2")
    assert reply.startswith("220 ")
    await client.close()


async def test_when_all_places_are_taken_one_is_told_so(house: House) -> None:
    """Over the limit for all, a client is told to come again; nobody waits without an answer."""
    address = await house.open(sources=SourceLimits(connections=10))
    clients = [await greeting(address, f"127.0.0.{2 + number}") for number in range(11)]
    assert [reply[:9] for _, reply in clients[10:]] == ["421 4.3.2"]
    await at_once(*(client.close() for client, _ in clients))


@pytest.mark.parametrize("line", [b"XYZZY", b"", b"NOOP " + b"x" * 3000, b"MAIL FROM:<", b"RCPT TO:<x@y>", b"EXPN x", b"EHLO \x00"])
async def test_twenty_errors_end_the_session(house: House, line: bytes) -> None:
    """Unknown, empty, overlong and misplaced commands count, and the twentieth is followed by 421."""
    address = await house.open()
    async with await Client.greeted(address) as client:
        replies = [await client.say(line) for _ in range(20)]
        assert {reply[0] for reply in replies} == {"5"}
        assert (await client.rest()).startswith("421 4.7.0 too many errors")


async def test_twenty_refused_recipients_end_the_session(house: House) -> None:
    """Refused recipients are errors; after a committed mail the count begins anew."""
    address = await house.open()
    async with await Client.greeted(address) as client:
        for _ in range(2):
            await client.say(b"MAIL FROM:<>")
            for _ in range(19):
                assert (await client.say(b"RCPT TO:<x@%s>" % DOMAIN.encode())).startswith("550 ")
            await client.say(b"RSET")
            assert (await client.mail(house.signed())).startswith("250 ")
        await client.say(b"MAIL FROM:<>")
        for _ in range(20):
            await client.say(b"RCPT TO:<x@%s>" % DOMAIN.encode())
        assert (await client.rest()).startswith("421 4.7.0")


@pytest.mark.parametrize("line", [b"NOOP", b"RSET", b"VRFY x", b"EHLO x", b"MAIL FROM:<>\r\nRSET"])
async def test_a_hundred_commands_without_a_mail_end_the_session(house: House, line: bytes) -> None:
    """Nobody keeps a connection by commands that lead nowhere."""
    address = await house.open()
    async with await Client.greeted(address) as client:
        for _ in range(99):
            client.send(line + b"\r\n")
            for _ in line.split(b"\r\n"):
                assert (await client.reply()).startswith("250") or line.startswith(b"VRFY")
        assert "421 4.7.0" in await client.rest()


async def test_sixty_mails_an_hour_for_people(house: House) -> None:
    """A source's 61st mail for postmaster within an hour is put off; its bounces are not, nor are other sources."""
    address = await house.open()
    async with await Client.greeted(address, "127.0.0.2") as client:
        replies = [await client.mail("postmaster") for _ in range(61)]
        assert [reply[:3] for reply in replies] == ["250"] * 60 + ["450"]
        await client.say(b"RSET")
        assert (await client.mail(house.signed())).startswith("250 ")
    async with await Client.greeted(address, "127.0.0.3") as client:
        assert (await client.mail("postmaster")).startswith("250 ")


@on_asyncio
async def test_an_idle_session_ends_after_its_time(house: House) -> None:
    """After 60 seconds without a command a client is told 421; octets that are no whole command don't keep it."""
    address = await house.open()
    async with await Client.greeted(address) as client:
        await pass_time(59)
        assert (await client.say(b"NOOP")).startswith("250 ")
        for _ in range(5):
            await pass_time(12)
            client.send(b"X")
            await asyncio.sleep(0)
        await pass_time(1)
        assert (await client.rest()).startswith("421 4.4.2")


@on_asyncio
async def test_in_a_crowd_nobody_idles_for_long(house: House) -> None:
    """With over 80 % of the places taken, who has said nothing for ten seconds makes room; else one may say nothing for a minute."""
    address = await house.open(sources=SourceLimits(connections=10))
    clients = [await Client.greeted(address) for _ in range(8)]
    await pass_time(11)
    assert (await clients[0].say(b"NOOP")).startswith("250 ")

    clients.append(await Client.greeted(address))
    idlers = [asyncio.ensure_future(client.rest()) for client in clients[1:]]
    for _ in range(2):
        await pass_time(9)
        assert (await clients[0].say(b"NOOP")).startswith("250 ")
    await until(lambda: any(idler.done() for idler in idlers))
    await pass_time(60)
    assert all(reply.startswith("421 4.4.2") for reply in await asyncio.gather(*idlers))
    await at_once(*(client.close() for client in clients))


@on_asyncio
async def test_a_session_ends_after_ten_minutes(house: House) -> None:
    """A session that goes on and on is ended between its transactions, however busy it is."""
    address = await house.open()
    async with await Client.greeted(address) as client:
        for number in range(19):
            assert (await client.mail(house.signed(f"user{number}@example.org"))).startswith("250 ")
            await pass_time(30)
        await pass_time(30)
        assert (await client.rest()).startswith("421 4.7.0")


@on_asyncio
async def test_mail_data_that_drips_is_cut(house: House) -> None:
    """Mail data at under 500 octets a second ends with 421; at over that it may take its time."""
    address = await house.open()
    async with await Client.greeted(address) as fast, await Client.greeted(address) as slow:
        await fast.begin_data(house.signed())
        await slow.begin_data(house.signed())
        last_words = asyncio.create_task(slow.rest())
        sessions = house.doors[0]._sessions
        sent = 0
        for _ in range(20):
            fast.send(b"x" * 5100)
            sent += 5100
            if not last_words.done():
                slow.send(b"x" * 2500)
                sent += 2500
                await until(lambda sent=sent: sessions.held >= sent - 20)
            await pass_time(10)
            await until(lambda: last_words.done() or len(sessions.open()) == 2)
        fast.send(b"\r\n" + END)
        assert (await fast.reply()).startswith("250 ")
        assert (await last_words).startswith("421 4.4.2 mail data")


@on_asyncio
async def test_who_does_not_read_is_cut(house: House) -> None:
    """A client that never reads what it is told does not hold its place beyond the last words."""
    address = await house.open()
    client = await Client.greeted(address)
    client.writer.transport.pause_reading()
    await pass_time(61)
    await pass_time(11)
    assert house.doors[0]._sessions.open() == []
    await client.close()


async def test_who_does_not_read_is_not_read(house: House) -> None:
    """While a client leaves its replies unread its commands wait, so that replies don't fill our memory; then all are answered in order."""
    address = await house.open(max_junk=1_000_000)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(address)
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    client = Client(reader, writer)
    await client.reply()
    await client.say(b"EHLO x")
    writer.transport.pause_reading()
    [session] = house.doors[0]._sessions.open()
    for _ in range(300):
        client.send(b"NOOP\r\n" * 1000)
        await asyncio.sleep(0)
    await until(lambda: session._choked)
    writer.transport.resume_reading()
    assert {await client.reply() for _ in range(300_000)} == {"250 2.0.0 ok\r\n"}
    await client.close()


async def test_an_overlong_command_is_one_error_however_it_comes(house: House) -> None:
    """A command line that goes on and on is dropped as it comes and refused once, when it ends."""
    address = await house.open()
    async with await Client.greeted(address) as client:
        [session] = house.doors[0]._sessions.open()
        client.send(b"NOOP ")
        for _ in range(50):
            client.send(b"x" * 3000)
            await client.writer.drain()
            await until(lambda: session._overlong)
            assert len(session._inbox) <= 4096
        assert (await client.say(b"")).startswith("500 5.5.2")
        assert (await client.say(b"NOOP")).startswith("250 ")


async def test_large_mail_makes_room_for_bounces(house: House) -> None:
    """Where all memory for mail data is taken, a large mail is put off, and bounces of the usual size are still taken."""
    address = await house.open(max_held=300_000)
    clients = [await Client.greeted(address) for _ in range(3)]
    for number, client in enumerate(clients):
        await client.begin_data(house.signed(f"user{number}@example.org"))
        client.send(b"x" * 200_000 + b"\r\n")
        await client.writer.drain()
    async with await Client.greeted(address) as small:
        assert (await small.mail(house.signed())).startswith("250 ")
    for client in clients:
        client.send(END)
    replies = [await client.reply() for client in clients]
    await at_once(*(client.close() for client in clients))

    assert "452 4.3.1" in {reply[:9] for reply in replies}
    assert "250 2.0.0" in {reply[:9] for reply in replies}
    await house.doors[0].drain(5)
    assert house.doors[0]._sessions.held == 0


async def test_drain_lets_mail_finish(house: House) -> None:
    """At the end idle clients are told 421, mail data and commits finish with their replies, and nobody new is let in."""
    address = await house.open()
    idle = await at_once(*(Client.greeted(address, f"127.0.0.{2 + n % 10}") for n in range(100)))
    in_data = await at_once(*(Client.greeted(address, f"127.0.1.{2 + n % 10}") for n in range(20)))
    for number, client in enumerate(in_data):
        await client.begin_data(house.signed(f"user{number}@example.org"))
    house.intake.gate.clear()
    in_data[0].send(BOUNCE + END)
    await house.intake.at_gate.wait()

    drained = asyncio.create_task(house.doors[0].drain(30))
    replies = await at_once(*(client.rest() for client in idle))
    assert all(reply.startswith("421 4.3.2") for reply in replies)
    assert not drained.done()
    with pytest.raises(OSError):
        await Client.connect(address)
    for client in in_data[1:]:
        client.send(BOUNCE + END)
    house.intake.gate.set()
    assert all(reply.startswith("250 2.0.0 committed\r\n421 4.3.2") for reply in await at_once(*(client.rest() for client in in_data)))
    await drained

    assert len(house.intake.envelopes) == 20
    await at_once(*(client.close() for client in [*idle, *in_data]))


@on_asyncio
async def test_drain_does_not_wait_for_ever(house: House) -> None:
    """A client that does not finish its mail data is cut at the end of the time given, without a 250."""
    address = await house.open()
    client = await Client.greeted(address)
    await client.begin_data(house.signed())
    client.send(BOUNCE)

    with capture_logs() as logs:
        drained = asyncio.create_task(house.doors[0].drain(30))
        await asyncio.sleep(0)
        await pass_time(31)
        await drained

    assert await client.rest() == ""
    assert [line["event"] for line in logs] == ["smtp.cut"]
    await client.close()


@on_asyncio
async def test_a_flood_is_a_line_a_minute(house: House) -> None:
    """Sessions that we end are summed up in the log, not told one by one."""
    address = await house.open()
    with capture_logs() as logs:
        for _ in range(30):
            async with await Client.connect(address) as client:
                await client.reply()
                client.send(b"GET / HTTP/1.0\r\n")
                await client.rest()
        await pass_time(61)

    assert [(line["event"], line["no_smtp"]) for line in logs] == [("smtp.turned_away", 30)]


async def test_a_unix_socket_keeps_its_path(house: House) -> None:
    """A socket that the service manager owns is still there after the door has closed, for the next start."""
    address = await house.open(lmtp=True, unix=True)
    await house.doors[0].drain(1)
    assert (house.path / "s").is_socket()
    assert address == str(house.path / "s")


async def test_small_replies_leave_at_once(house: House) -> None:
    """TCP_NODELAY is set even on a socket that does not know its protocol number, as one from systemd."""
    address = await house.open()
    async with await Client.greeted(address):
        [session] = house.doors[0]._sessions.open()
        assert session._wire is not None
        assert session._wire.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
