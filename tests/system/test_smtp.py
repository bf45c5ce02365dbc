"""The listener of the whole daemon: its certificate, and what it does in a flood and at the end."""

import asyncio
import re
import resource
import signal
import smtplib
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bounced.cli.base import octets
from tests.system.ask import Mailer
from tests.system.bounces import Mint
from tests.system.daemon import DOMAIN, Daemon, alive
from tests.system.mail import Session
from tests.system.waiting import PATIENCE, until


def make_certificate(place: Path, name: str, days: int = 90) -> tuple[Path, Path]:
    """Make a key and a certificate of its own."""
    certificate, key = place / "mx.pem", place / "mx.key"
    request = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(days), "-subj", f"/CN={name}")
    names = ("-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", certificate)
    subprocess.run([*request, *names], check=True, capture_output=True)
    return certificate, key


def shown_to(address: tuple[str, int], certificate: Path, name: str) -> bool:
    """Tell whether STARTTLS shows this certificate."""
    with smtplib.SMTP(*address, timeout=PATIENCE) as client:
        client.ehlo()
        if not client.has_extn("starttls"):
            return False
        context = ssl.create_default_context(cafile=str(certificate))
        client._host = name  # type: ignore[attr-defined]  # the name to check
        try:
            client.starttls(context=context)
        except ssl.SSLCertVerificationError:
            return False
        return client.ehlo()[0] == 250


def test_a_renewed_certificate_is_taken_at_hup_and_a_bad_one_is_not(tmp_path: Path, need_program: Callable[[str], str]) -> None:
    """HUP reads the certificate anew; where it is wrong one line says so and the old one stays; its end is told each time."""
    need_program("openssl")
    certificate, key = make_certificate(tmp_path, "one.example.net")
    daemon = Daemon(tmp_path, settings={"smtp": {"tls_certificate": "mx.pem", "tls_key": "mx.key"}})
    daemon.start()
    assert shown_to(daemon.smtp, certificate, "one.example.net")
    assert daemon.log().count("smtp.certificate names=one.example.net") == 1
    assert "good\nsmtp.tls_certificate: for one.example.net, expires on " in daemon.tell("config", "check")

    old = (tmp_path / "old.pem").resolve()
    old.write_bytes(certificate.read_bytes())
    key.write_text("no key")
    daemon.signal(signal.SIGHUP)
    until(lambda: "daemon.kept_old" in daemon.log(), "the refusal of the reload", shown=daemon.log)
    assert shown_to(daemon.smtp, old, "one.example.net")
    checked = daemon.run("config", "check")
    assert (checked.returncode, f"cannot use {certificate} with the key in {key}" in checked.stderr) == (78, True)

    make_certificate(tmp_path, "two.example.net", days=3)
    daemon.signal(signal.SIGHUP)
    until(lambda: "daemon.reloaded" in daemon.log(), "the reload", shown=daemon.log)
    assert shown_to(daemon.smtp, certificate, "two.example.net")
    assert "smtp.certificate_expires" in daemon.log()
    told = b"".join(octets(daemon.home / "bounced.toml", "/metrics"))
    (ends,) = re.findall(rb"^bounced_certificate_ends_timestamp_seconds (\S+)$", told, re.MULTILINE)
    assert 2 * 86400 < float(ends) - time.time() <= 3 * 86400
    assert daemon.log().count("daemon.kept_old") == 1
    assert daemon.stop() == 0


def test_tls_can_be_turned_on_without_a_restart(tmp_path: Path, need_program: Callable[[str], str]) -> None:
    """A daemon without a certificate offers no STARTTLS, and with one given before HUP it does."""
    need_program("openssl")
    daemon = Daemon(tmp_path)
    daemon.start()
    certificate, _ = make_certificate(tmp_path, "one.example.net")
    assert not shown_to(daemon.smtp, certificate, "one.example.net")

    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "tls.toml").write_text('smtp.tls_certificate = "mx.pem"\nsmtp.tls_key = "mx.key"\n')
    daemon.signal(signal.SIGHUP)
    until(lambda: "daemon.reloaded" in daemon.log(), "the reload", shown=daemon.log)
    assert shown_to(daemon.smtp, certificate, "one.example.net")
    assert "restart_for=-" in daemon.log() or 'restart_for=""' in daemon.log()
    assert daemon.stop() == 0


class Crowd:
    """Many raw connections to one daemon, each from an address of its own choice."""

    def __init__(self, address: tuple[str, int]) -> None:
        """Nobody is connected yet."""
        self._address = address
        self._clients: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 12_000)), hard))

    async def come(self, number: int, net: int) -> None:
        """Connect so many more, fifty from each address; what the daemon says is not read."""
        for index in range(number):
            source = f"127.{net}.{index // 50 % 250}.{1 + index // 12_500}"
            self._clients.append(await asyncio.open_connection(*self._address, local_addr=(source, 0)))

    async def said(self) -> list[bytes]:
        """Return the first line that each has been told; b"" where the connection was cut."""
        return [await _line(reader) for reader, _ in self._clients]

    async def rest(self) -> list[bytes]:
        """Return all that each is still told until the end of its connection."""
        return [await reader.read() for reader, _ in self._clients]

    async def tell(self, octets: bytes, replies: int) -> None:
        """Say something to the daemon on each connection, and read so many lines."""
        for _, writer in self._clients:
            writer.write(octets)
        for reader, _ in self._clients:
            for _ in range(replies):
                assert (await reader.readline())[:1] in b"23"

    async def leave(self) -> None:
        """Hang up."""
        for _, writer in self._clients:
            writer.transport.abort()
        self._clients.clear()
        await asyncio.sleep(0)  # the loop closes them at its next turn


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ConnectionError:
        return b""


async def test_the_end_comes_soon_with_a_crowd_inside(figure: Callable[[str], None]) -> None:
    """At SIGTERM a thousand idle clients are told 421, fifty in mid-mail finish with a 250 that is kept, and the daemon ends in time."""
    with alive() as daemon:
        mint = Mint(daemon)
        mails = [mint() for _ in range(50)]
        idle, busy = Crowd(daemon.smtp), Crowd(daemon.smtp)
        await idle.come(1000, 1)
        await busy.come(50, 2)
        await idle.said()
        await busy.said()
        for (reader, writer), (_, return_path, _) in zip(busy._clients, mails, strict=True):
            writer.write(b"EHLO x\r\n")
            while (await reader.readline())[3:4] == b"-":
                pass
            writer.write(b"MAIL FROM:<>\r\nRCPT TO:<%s>\r\nDATA\r\n" % return_path.encode())
            assert [(await reader.readline())[:3] for _ in range(3)] == [b"250", b"250", b"354"]
        began = time.monotonic()
        daemon.signal(signal.SIGTERM)
        assert {octets[:9] for octets in await idle.rest()} == {b"421 4.3.2"}
        for (_, writer), (_, _, content) in zip(busy._clients, mails, strict=True):
            writer.write(content + b"\r\n.\r\n")
        assert {octets[:9] for octets in await busy.rest()} == {b"250 2.0.0"}
        await idle.leave()
        await busy.leave()
        assert await asyncio.to_thread(daemon.wait) == 0
        took = time.monotonic() - began
        daemon.start()
        with Mailer(daemon.door("socketmap")) as mailer:
            assert mailer.missing(recipient for recipient, _, _ in mails) == []
    figure(f"SIGTERM with 1,000 idle and 50 in DATA: ended after {took:.1f} s, 0 of 50 acknowledged missing")


async def test_a_flood_of_connections_takes_no_descriptor_from_lookups(figure: Callable[[str], None]) -> None:
    """With few descriptors and many times as many connections, lookups are answered, the log is not flooded, and then mail is taken."""
    with alive(descriptors=1024) as daemon:
        mint = Mint(daemon)
        flood = Crowd(daemon.smtp)
        before = daemon.log().count("\n")
        for net in range(1, 6):
            await flood.come(1000, net)
            with Mailer(daemon.door("socketmap")) as mailer:
                assert not await asyncio.to_thread(mailer.suppressed, "joe@example.org")
        lines = daemon.log().count("\n") - before
        said = [octets[:4] for octets in await flood.said()]
        await flood.leave()
        began = time.monotonic()
        _, return_path, content = mint()
        until(lambda: _brought(daemon, return_path, content), "a bounce to be taken", shown=daemon.log)
        took = time.monotonic() - began
    figure(f"5,000 connections on 1,024 descriptors: {said.count(b'220 ')} greeted, {lines} log lines, serving {took:.2f} s after")
    assert lines <= 10


def _brought(daemon: Daemon, return_path: str, content: bytes) -> bool:
    try:
        with Session(daemon.smtp) as session:
            return session.bring(return_path, content)[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


@pytest.mark.parametrize("roles", [("all",), ("smtp", "query")], ids=["one process", "as the units"])
async def test_a_flood_without_token_is_refused_while_lookups_go_on(
    roles: tuple[str, ...], full_counts: bool, figure: Callable[[str], None], tmp_path: Path
) -> None:
    """Recipients without a genuine token, on 200 connections at once, are all refused at RCPT; mailers are answered in time meanwhile."""
    each = 500 if full_counts else 25
    refused = 0

    async def pour(address: tuple[str, int], number: int) -> None:
        nonlocal refused
        left = each
        while left:
            reader, writer = await asyncio.open_connection(*address, local_addr=(f"127.3.{number}.{1 + left % 250}", 0))
            await reader.readline()
            writer.write(b"EHLO x\r\n")
            while (await reader.readline())[3:4] == b"-":
                pass
            group = min(left, 18)
            recipients = b"".join(b"RCPT TO:<b+%023d+user=example.org@%s>\r\n" % (left - n, DOMAIN.encode()) for n in range(group))
            writer.write(b"MAIL FROM:<>\r\n" + recipients)
            assert (await reader.readline())[:3] == b"250"
            for _ in range(group):
                assert (await reader.readline())[:9] == b"550 5.1.1"
                refused += 1
            left -= group
            writer.close()

    installation = Daemon(tmp_path)
    daemons = [installation.as_role(role) for role in roles]
    try:
        for daemon in daemons:
            daemon.start()
        # In a process of its own: here it would wait for those who pour.
        question = (sys.executable, "-m", "tests.system.ask", daemons[-1].door("socketmap"))
        asking = await asyncio.create_subprocess_exec(*question, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert asking.stdin
        assert asking.stdout
        assert await asking.stdout.readline() == b"asking\n"
        began = time.monotonic()
        await asyncio.gather(*(pour(daemons[0].smtp, number) for number in range(200)))
        took = time.monotonic() - began
        asking.stdin.close()
        told = await asking.stdout.read()
        assert await asking.wait() == 0
        assert [daemon.stop() for daemon in daemons] == [0] * len(roles)
    finally:
        for daemon in daemons:
            daemon.kill()
            sys.stdout.write(daemon.log())
    waited = sorted(map(float, told.split()))
    p99 = waited[len(waited) * 99 // 100] * 1000
    poured = f"{' and '.join(roles)}: {refused} recipients without token on 200 connections in {took:.1f} s: all refused"
    figure(f"{poured}; {len(waited)} lookups, p99 {p99:.1f} ms")
    assert refused == 200 * each
