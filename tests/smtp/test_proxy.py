"""The PROXY protocol: read in pieces, from haproxy itself, and believed from nobody else."""

import asyncio
import socket
import struct
import subprocess
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounced.smtp.proxy import Header, ProxyError, read
from bounced.smtp.sources import SourceLimits
from tests.smtp.talk import Client, House, on_asyncio, pass_time

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
TRUSTED = (ip_network("127.0.7.0/24"),)
PROXY = "127.0.7.1"


def version_2(family: int, addresses: bytes, command: int = 0x21) -> bytes:
    """Write a header of version 2."""
    return SIGNATURE + struct.pack(">BBH", command, family, len(addresses)) + addresses


IPV4 = socket.inet_aton("192.0.2.25") + socket.inet_aton("198.51.100.1") + struct.pack(">HH", 4711, 25)
IPV6 = socket.inet_pton(socket.AF_INET6, "2001:db8::25") + socket.inet_pton(socket.AF_INET6, "::1") + struct.pack(">HH", 4711, 25)
IPV4_AS_IPV6 = bytes(10) + b"\xff\xff" + socket.inet_aton("192.0.2.25") + IPV6[16:]
EXTRA = b"\x04\x00\x03abc"  # what a proxy may add: type, length, value

HEADERS = {
    b"PROXY TCP4 192.0.2.25 198.51.100.1 4711 25\r\n": "192.0.2.25",
    b"PROXY TCP6 2001:DB8:0::25 ::1 4711 25\r\n": "2001:db8::25",
    # A proxy that listens on one socket for both families (haproxy: bind :::25 v4v6).
    b"PROXY TCP6 ::ffff:192.0.2.25 ::ffff:198.51.100.1 4711 25\r\n": "192.0.2.25",
    version_2(0x21, IPV4_AS_IPV6): "192.0.2.25",
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n": None,
    version_2(0x11, IPV4): "192.0.2.25",
    version_2(0x21, IPV6): "2001:db8::25",
    version_2(0x11, IPV4 + EXTRA): "192.0.2.25",
    version_2(0x00, b"", command=0x20): None,
    version_2(0x11, IPV4, command=0x20): None,
    version_2(0x31, bytes(216)): None,
}
NO_HEADERS = [
    b"EHLO x\r\n", b"PROXY\r\n", b"PROXY TCP4\r\n",
    b"proxy TCP4 192.0.2.25 198.51.100.1 4711 25\r\n", b"PROXY  TCP4 192.0.2.25 198.51.100.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.25 198.51.100.1 4711\r\n", b"PROXY TCP5 192.0.2.25 198.51.100.1 4711 25\r\n",
    b"PROXY TCP4 2001:db8::25 ::1 4711 25\r\n", b"PROXY TCP4 192.0.2.256 198.51.100.1 4711 25\r\n",
    b"PROXY TCP4 192.0.2.25 198.51.100.1 4711 65536\r\n", b"PROXY TCP4 192.0.2.25 198.51.100.1 4711 -1\r\n",
    b"PROXY TCP6 " + b"0" * 120 + b"\r\n", version_2(0x11, IPV4[:11]), version_2(0x11, IPV4, command=0x11), version_2(0x21, IPV4),
    version_2(0x11, bytes(5000)), SIGNATURE[:5] + b"x" * 20,
]  # fmt: skip


@pytest.mark.parametrize("octets", HEADERS)
def test_a_header_tells_the_client_however_it_is_cut(octets: bytes) -> None:
    """Each form is read to its end, is not whole before, and what follows is not touched."""
    assert read(octets) == Header(HEADERS[octets], len(octets))
    assert read(octets + b"EHLO x\r\n" * 100) == Header(HEADERS[octets], len(octets))
    assert [read(octets[:cut]) for cut in range(len(octets))] == [None] * len(octets)


@pytest.mark.parametrize("octets", NO_HEADERS)
def test_what_is_no_header_is_told_so(octets: bytes) -> None:
    """Octets that cannot become a header raise, and are not waited for."""
    with pytest.raises(ProxyError):
        read(octets)


@given(st.binary(max_size=200), st.sampled_from([b"", SIGNATURE, b"PROXY ", b"PROXY TCP4 ", SIGNATURE + b"\x21\x11"]))
def test_any_octets_give_a_header_or_an_error(octets: bytes, beginning: bytes) -> None:
    """Nothing but a header, None or ProxyError comes of any octets."""
    try:
        found = read(beginning + octets)
    except ProxyError:
        return
    assert found is None or 0 < found.length <= len(beginning + octets)


async def test_the_client_is_who_the_proxy_says(house: House) -> None:
    """Behind a proxy the greeting comes after the header, and the envelope names the client, not the proxy."""
    address = await house.open(proxy_from=TRUSTED)
    for number, (octets, client) in enumerate(HEADERS.items()):
        async with await Client.connect(address, PROXY) as proxied:
            for octet in octets:
                proxied.send(bytes([octet]))
                await asyncio.sleep(0)
            assert (await proxied.reply()).startswith("220 ")
            await proxied.say(b"EHLO x")
            assert (await proxied.mail(house.signed(f"user{number}@example.org"))).startswith("250 ")
        assert house.intake.envelopes[-1].client == (client or PROXY)


async def test_nobody_else_is_believed(house: House, full_counts: bool) -> None:
    """A header from elsewhere is a client that speaks too early or knows no SMTP; who goes on after it is still himself."""
    address = await house.open(proxy_from=TRUSTED, sources=SourceLimits(rate=1_000_000))
    forged = [octets for octets, client in HEADERS.items() if client]
    for number in range(10_000 if full_counts else 200):
        source, octets = f"127.0.{8 + number % 40}.2", forged[number % len(forged)]
        async with await Client.connect(address, source) as client:
            if number % 2:
                assert (await client.reply()).startswith("220 ")
            client.send(octets)
            if number % 2 and octets.startswith(b"PROXY"):
                assert (await client.reply()).startswith("500 ")
                await client.say(b"EHLO x")
                assert (await client.mail(house.signed(f"user{number}@example.org"))).startswith("250 ")
                assert house.intake.envelopes[-1].client == source
            else:
                client.writer.write_eof()
                assert (await client.rest())[:3] in {"554", "220", "500"}
    assert house.intake.envelopes
    assert {envelope.client[:6] for envelope in house.intake.envelopes} == {"127.0."}


@pytest.mark.parametrize("octets", NO_HEADERS)
async def test_a_proxy_must_begin_with_a_header(house: House, octets: bytes) -> None:
    """From the networks of proxies a connection without a header is told so and closed: it would count as the proxy's own."""
    address = await house.open(proxy_from=TRUSTED)
    async with await Client.connect(address, PROXY) as client:
        client.send(octets)
        assert (await client.rest()).startswith("421 4.3.2 from this network a PROXY header")
    assert house.doors[0]._sessions.open() == []


@on_asyncio
async def test_a_header_that_does_not_come(house: House) -> None:
    """A proxy that says nothing for ten seconds gives its place up."""
    address = await house.open(proxy_from=TRUSTED)
    async with await Client.connect(address, PROXY) as client:
        client.send(b"PROXY TCP4 ")
        for _ in range(3):
            await asyncio.sleep(0)
        await pass_time(11)
        assert (await client.rest()).startswith("421 4.3.2")


async def test_what_came_with_the_header_came_too_early(house: House) -> None:
    """Commands before the greeting are refused behind a proxy as everywhere."""
    address = await house.open(proxy_from=TRUSTED)
    async with await Client.connect(address, PROXY) as client:
        client.send(version_2(0x11, IPV4) + b"EHLO x\r\n")
        assert (await client.rest()).startswith("554 5.5.0")


async def test_limits_go_by_the_client_behind_the_proxy(house: House) -> None:
    """One client's connections through a proxy are limited, another's through the same one are not."""
    address = await house.open(proxy_from=TRUSTED, sources=SourceLimits(per_source=2))
    clients = [await Client.connect(address, PROXY) for _ in range(4)]
    for client, name in zip(clients, [b"192.0.2.1", b"192.0.2.1", b"192.0.2.1", b"192.0.2.2"], strict=True):
        client.send(b"PROXY TCP4 %s 198.51.100.1 4711 25\r\n" % name)
    assert [(await client.reply())[:3] for client in clients] == ["220", "220", "421", "220"]
    for client in clients:
        await client.close()
    await house.doors[0].drain(5)
    assert house.doors[0]._sessions.sources.total == 0


HAPROXY = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend mx
    bind {front}
    default_backend bounced
backend bounced
    source {proxy}
    server bounced 127.0.0.1:{port} {send}
"""


@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.parametrize("send", ["send-proxy", "send-proxy-v2"])
async def test_with_haproxy_itself(house: House, tmp_path: Path, send: str, need_program: Callable[[str], str]) -> None:
    """A real haproxy hands a connection over, and the client's address is the one at haproxy's door."""
    program = need_program("haproxy")
    address = await house.open(proxy_from=TRUSTED)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "haproxy.cfg").write_text(HAPROXY.format(front=f"127.0.0.1:{port}", proxy=PROXY, port=address[1], send=send))
    process = await asyncio.create_subprocess_exec(program, "-db", "-f", str(tmp_path / "haproxy.cfg"), stderr=subprocess.DEVNULL)
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    client = await Client.connect(("127.0.0.1", port), "127.0.9.9")
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
                else:
                    break
        async with client:
            assert (await client.reply()).startswith("220 ")
            await client.say(b"EHLO x")
            assert (await client.mail(house.signed())).startswith("250 ")
        assert house.intake.envelopes[-1].client == "127.0.9.9"
    finally:
        process.kill()
        await process.wait()
