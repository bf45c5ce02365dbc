"""STARTTLS (RFC 3207)."""

import asyncio
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.smtp.talk import BOUNCE, HOST, Client, House, on_asyncio, pass_time, until


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of its own, in one file."""
    return make_certificate(tmp_path_factory.mktemp("tls"), HOST)


def make_certificate(place: Path, name: str) -> Path:
    """Make a self-signed certificate."""
    path = place / f"{name}.pem"
    request = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}")
    names = ("-addext", f"subjectAltName=DNS:{name}", "-keyout", place / "key.pem", "-out", place / "cert.pem")
    subprocess.run([*request, *names], check=True, capture_output=True)
    path.write_bytes((place / "key.pem").read_bytes() + (place / "cert.pem").read_bytes())
    return path


@pytest.fixture
def context(certificate: Path, need_program: Callable[[str], str]) -> ssl.SSLContext:
    """The door's side of TLS."""
    need_program("openssl")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


async def secured(client: Client, certificate: Path, name: str = HOST) -> None:
    """Shake hands, and check the certificate."""
    assert (await client.say(b"STARTTLS")).startswith("220 ")
    await client.writer.start_tls(ssl.create_default_context(cafile=str(certificate)), server_hostname=name, ssl_handshake_timeout=10)


async def test_a_bounce_over_tls(house: House, context: ssl.SSLContext, certificate: Path) -> None:
    """STARTTLS is offered, works, and is not offered again; the session begins anew after it."""
    address = await house.open(tls=context)
    async with await Client.connect(address) as client:
        await client.reply()
        assert "250 STARTTLS\r\n" in await client.say(b"EHLO x")
        await client.say(b"MAIL FROM:<>")
        await secured(client, certificate)
        assert (await client.say(b"MAIL FROM:<>")).startswith("503 ")
        offers = await client.say(b"EHLO x")
        assert "STARTTLS" not in offers
        assert "AUTH" not in offers
        assert (await client.say(b"STARTTLS")).startswith("503 ")
        assert (await client.mail(house.signed())).startswith("250 ")
        assert (await client.mail(house.signed("ann@example.org"), BOUNCE * 1000)).startswith("250 ")

    assert len(house.history()) == 1


@pytest.mark.parametrize("octets", [b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<%s>\r\n", b"\x16\x03\x01", b"X"])
async def test_nothing_in_clear_text_is_executed_after_starttls(
    house: House, context: ssl.SSLContext, octets: bytes, full_counts: bool
) -> None:
    """What came in one packet with STARTTLS is refused, and what comes instead of a handshake is not read as commands."""
    address = await house.open(tls=context)
    signed = house.signed().encode()
    tail = octets % signed if b"%s" in octets else octets
    for number in range(300 if full_counts else 10):
        async with await Client.greeted(address, f"127.0.{1 + number % 200}.1") as client:
            client.send(b"STARTTLS\r\n" + tail)
            assert (await client.rest()).startswith("554 5.5.0")
        async with await Client.greeted(address, f"127.0.{1 + number % 200}.2") as client:
            assert (await client.say(b"STARTTLS")).startswith("220 ")
            client.send(tail + b"\r\n" * 100)
            client.writer.write_eof()
            await client._reader.read()

    assert house.intake.asked == []


async def test_the_same_commands_within_tls_are_executed(house: House, context: ssl.SSLContext, certificate: Path) -> None:
    """Said inside TLS, the commands of the test above do reach intake: it sees what is executed."""
    address = await house.open(tls=context)
    async with await Client.greeted(address) as client:
        await secured(client, certificate)
        await client.say(b"EHLO x")
        client.send(b"MAIL FROM:<>\r\nRCPT TO:<%s>\r\n" % house.signed().encode())
        assert [(await client.reply())[:3] for _ in range(2)] == ["250", "250"]

    assert house.intake.asked == [house.signed()]


@on_asyncio
async def test_a_silent_handshake_is_cut(house: House, context: ssl.SSLContext) -> None:
    """A client that asks for TLS and then says nothing is cut after 30 seconds, and its place is free."""
    address = await house.open(tls=context)
    async with await Client.greeted(address) as client:
        assert (await client.say(b"STARTTLS")).startswith("220 ")
        for _ in range(3):
            await asyncio.sleep(0)
        await pass_time(31)
        assert await client._reader.read() == b""
    await until(lambda: not house.doors[0]._sessions.open())


async def test_a_new_certificate_is_used_from_then_on(house: House, context: ssl.SSLContext, certificate: Path, tmp_path: Path) -> None:
    """A certificate loaded into the context while the door is open is what the next client sees."""
    address = await house.open(tls=context)
    async with await Client.greeted(address) as client:
        await secured(client, certificate)
        fresh = make_certificate(tmp_path, "fresh.example.net")
        context.load_cert_chain(fresh)
        async with await Client.greeted(address) as other:
            await secured(other, fresh, "fresh.example.net")
            assert (await other.say(b"EHLO x")).startswith("250-")
        assert (await client.say(b"EHLO x")).startswith("250-")


async def test_drain_with_tls(house: House, context: ssl.SSLContext, certificate: Path) -> None:
    """At the end a client inside TLS is told so there, and one in its handshake is cut."""
    address = await house.open(tls=context)
    client, shaking = await Client.greeted(address), await Client.greeted(address)
    await secured(client, certificate)
    assert (await shaking.say(b"STARTTLS")).startswith("220 ")
    drained = asyncio.create_task(house.doors[0].drain(30))
    assert (await client.rest()).startswith("421 4.3.2")
    await client.close()
    await drained
    await shaking.close()
