"""What taking a bounce costs, read, judged and on disk, against Postfix taking the same mail into its queue, in the same run.

    python -m benchmarks.intake [--messages N] [--rounds N] [--sessions N]

The daemon runs as its operator runs it. Postfix (smtpd and cleanup; the mail stays in its hold queue, so that nothing is delivered) fsyncs
each mail before its 250, as the daemon does; smtp-sink and aiosmtpd discard theirs, and are measured without the slow disk alone. Every
message is another bounce of 4 KB. Prints JSON lines: wall time and CPU of all server processes, in microseconds a message, with 50
sessions, a command at a time, pipelined, and in TLS with a connection for each message; then the first two once more with every fsync
slowed by 8 ms, by a library that is built and preloaded.
Rounds rotate; medians are printed with their spread (interquartile range over median). Needs root, Postfix, openssl and gcc.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import uvloop

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

from benchmarks.listener import Server, Session  # noqa: E402
from benchmarks.rounds import cpu_of, in_turn, tell  # noqa: E402
from bounced.address import address_key  # noqa: E402
from bounced.returnpath import ReturnPath  # noqa: E402
from bounced.scope import DEFAULT_SCOPE  # noqa: E402
from tests.system.daemon import DOMAIN, Daemon  # noqa: E402
from tests.system.mail import Failure, report  # noqa: E402
from tests.system.postfix import Postfix  # noqa: E402

_SLOW = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
static int slowly(const char *name, int fd) {
    usleep(8000);
    return ((int (*)(int)) dlsym(RTLD_NEXT, name))(fd);
}
int fsync(int fd) { return slowly("fsync", fd); }
int fdatasync(int fd) { return slowly("fdatasync", fd); }
"""

_FAILURES = (
    ("5.1.1", "550 5.1.1 <{}>: Recipient address rejected: User unknown in virtual mailbox table"),
    ("5.1.1", "550-5.1.1 The email account {} that you tried to reach does not exist."),
    ("5.2.2", "552 5.2.2 <{}>: mailbox is over quota"),
    ("4.2.2", "452 4.2.2 {} mailbox full, try again later"),
    ("5.7.1", "554 5.7.1 message for {} rejected as spam"),
    ("5.7.1", "550 5.7.1 Service unavailable; client host blocked using zen.spamhaus.org; {}"),
    ("4.4.1", "connect to mx of {}: Connection timed out"),
)
_MODES = ("a command at a time", "pipelined")
_IN_TLS = "a connection in TLS for each message"
_SERIAL = itertools.count(1)


def bounces(signer: ReturnPath, count: int) -> list[tuple[bytes, bytes]]:
    """Return so many return paths, each with its bounce as mail data: of as many recipients, at five hundred providers."""
    found = []
    for number in itertools.islice(_SERIAL, count):
        recipient = f"user{number}@receiver{number % 500}.example"
        status, text = _FAILURES[number % len(_FAILURES)]
        content = report(recipient, Failure(status, text.format(recipient)))
        filler = b"This is the news of the day, as it was sent, and as it comes back with the report.\r\n"
        content = content.replace(b"Good news.\r\n", filler * ((4096 - len(content)) // len(filler)))
        signed = signer.sign(address_key(recipient), DEFAULT_SCOPE, int(time.time()) - 3600)
        found.append((signed.local_part.encode(), content + b".\r\n"))
    return found


# The servers


@contextlib.contextmanager
def preloaded(library: Path | None) -> Iterator[None]:
    """Let what is started within load a library first."""
    if library:
        os.environ["LD_PRELOAD"] = str(library)
    try:
        yield
    finally:
        os.environ.pop("LD_PRELOAD", None)


class Bounced:
    """The daemon."""

    name = "bounced"

    def __init__(self, home: Path, library: Path | None, certificate: Path) -> None:
        # As it comes, but for the certificate.
        self._daemon = Daemon(home, settings={"kept": {"archive": ""}, "smtp": {"tls_certificate": str(certificate)}})
        with preloaded(library):
            self._daemon.start()
        self.address = self._daemon.smtp
        self.signer = self._daemon.signer()

    def cpu(self) -> float:
        return cpu_of(self._daemon.pid)

    def stop(self) -> None:
        self._daemon.stop()


class Queueing:
    """Postfix, which takes mail into its queue and leaves it there."""

    name = "postfix"

    def __init__(self, home: Path, library: Path | None, certificate: Path) -> None:
        home.chmod(0o755)
        settings = {
            "relay_domains": DOMAIN,
            "relay_recipient_maps": "",
            "smtpd_sender_restrictions": "check_sender_access static:HOLD, permit",
            "smtpd_client_connection_count_limit": "0",
            "smtpd_tls_security_level": "may",
            "smtpd_tls_cert_file": str(certificate),
            "import_environment": "MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C LD_PRELOAD",
        }
        self._postfix = Postfix(home, doors={"in": {}}, settings=settings)
        with (home / "etc" / "master.cf").open("a") as master:
            master.write("tlsmgr unix - - n 1000? 1 tlsmgr\n")
        with preloaded(library):
            self._postfix.start()
        self.address = self._postfix._addresses["in"]

    def cpu(self) -> float:
        """Count every process of the session that the master leads, and those that it has seen end."""
        assert self._postfix._master
        master = self._postfix._master.pid
        ended = sum(map(int, _stat(master)[13:15])) / os.sysconf("SC_CLK_TCK")
        everybody = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
        return ended + sum(cpu_of(pid) for pid in everybody if _session_of(pid) == master)

    def stop(self) -> None:
        self._postfix.stop()


class Discarding:
    """One of the peers that keep nothing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._server = Server(name)
        self.address = ("127.0.0.1", self._server.port)
        self.cpu = self._server.cpu
        self.stop = self._server.stop


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _session_of(pid: int) -> int:
    try:
        return int(_stat(pid)[3])
    except OSError:
        return -1


def certified(place: Path) -> Path:
    """Make a key and a certificate, in one file."""
    path, only = place / "mx.pem", place / "certificate.pem"
    request = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=mx.example.net")
    subprocess.run([*request, "-keyout", path, "-out", only], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + only.read_bytes())
    return path


def built(place: Path) -> Path:
    """Build the library that slows each fsync by 8 ms."""
    source = place / "slow.c"
    source.write_text(_SLOW)
    library = place / "slow.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    library.chmod(0o755)
    return library


# The client


async def send(address: tuple[str, int], mode: str, mails: list[tuple[bytes, bytes]], sessions: int) -> None:
    """Bring all mails over so many sessions at a time."""
    loop = asyncio.get_running_loop()
    finished = []
    for number in range(sessions):
        steps = steps_of(mode, mails[number::sessions])
        done = loop.create_future()
        source = f"127.77.{number}.1"  # one source may have only so many connections
        await loop.create_connection(partial(Session, steps, done), *address, local_addr=(source, 0))
        finished.append(done)
    await asyncio.gather(*finished)


async def send_in_tls(address: tuple[str, int], mails: list[tuple[bytes, bytes]], sessions: int) -> None:
    """Bring each mail over a connection of its own, in TLS."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    async def worker(number: int) -> None:
        for mail in mails[number::sessions]:
            reader, writer = await asyncio.open_connection(*address, local_addr=(f"127.78.{number}.1", 0))
            await _replied(reader)
            for octets, _ in ((b"EHLO mx.receiver.example\r\n", 1), (b"STARTTLS\r\n", 1)):
                writer.write(octets)
                await _replied(reader)
            await writer.start_tls(context)
            for octets, _ in steps_of(_MODES[0], [mail]):
                writer.write(octets)
                await _replied(reader)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    await asyncio.gather(*map(worker, range(sessions)))


async def _replied(reader: asyncio.StreamReader) -> None:
    line = b"250-"
    while line[3:4] == b"-":
        line = await reader.readline()
    assert line[:1] in (b"2", b"3"), line


def steps_of(mode: str, mails: list[tuple[bytes, bytes]]) -> list[tuple[bytes, int]]:
    """Return what a session sends, and how many replies it waits for after each part."""
    groups = [(b"MAIL FROM:<>\r\n", b"RCPT TO:<%s@%s>\r\n" % (local_part, DOMAIN.encode()), b"DATA\r\n") for local_part, _ in mails]
    if mode == "pipelined":
        steps = [(b"EHLO mx.receiver.example\r\n", 1), (b"".join(groups[0]), 3)]
        steps += [(content + b"".join(group), 4) for (_, content), group in zip(mails[:-1], groups[1:], strict=True)]
        return [*steps, (mails[-1][1], 1), (b"QUIT\r\n", 1)]
    one_by_one = [(line, 1) for (_, content), group in zip(mails, groups, strict=True) for line in (*group, content)]
    return [(b"EHLO mx.receiver.example\r\n", 1), *one_by_one, (b"QUIT\r\n", 1)]


def measure(
    library: Path | None, certificate: Path, discarding: list[str], *, messages: int, rounds: int, sessions: int
) -> dict[tuple[str, str, str], list[float]]:
    """Return microseconds a message of wall time and of CPU by mode and server, a figure a round."""
    found: dict[tuple[str, str, str], list[float]] = {}
    # Not /tmp, which may be in memory.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as ours, tempfile.TemporaryDirectory(dir="/var/tmp") as theirs:
        bounced = Bounced(Path(ours), library, certificate)
        servers = [bounced, Queueing(Path(theirs), library, certificate), *map(Discarding, discarding)]
        try:
            for counts, server in in_turn(servers, rounds):
                # Hands are shaken where both sides are whole, and once is enough to know what it costs.
                for mode in _MODES if library or isinstance(server, Discarding) else (*_MODES, _IN_TLS):
                    mails = bounces(bounced.signer, messages)
                    cpu, began = server.cpu(), time.perf_counter()
                    if mode == _IN_TLS:
                        uvloop.run(send_in_tls(server.address, mails, sessions))
                    else:
                        uvloop.run(send(server.address, mode, mails, sessions))
                    wall, used = time.perf_counter() - began, server.cpu() - cpu
                    if counts:
                        found.setdefault((mode, "wall", server.name), []).append(wall / messages * 1e6)
                        found.setdefault((mode, "CPU", server.name), []).append(used / messages * 1e6)
        finally:
            for server in servers:
                server.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--sessions", type=int, default=50)
    asked = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("postconf", path="/usr/sbin"):
        sys.exit("needs root and Postfix")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        Path(place).chmod(0o755)
        slow, certificate = built(Path(place)), certified(Path(place))
        for fsync, library, discarding in (("as it is", None, ["smtp-sink", "aiosmtpd"]), ("8 ms slower", slow, [])):
            found = measure(library, certificate, discarding, messages=asked.messages, rounds=asked.rounds, sessions=asked.sessions)
            for mode, what, name in found:
                if name == "bounced":
                    continue
                line = {"benchmark": "intake", "mode": mode, "fsync": fsync, "what": f"{what} us a message"}
                tell(line, found[mode, what, "bounced"], name, found[mode, what, name], higher=True)


if __name__ == "__main__":
    main()
