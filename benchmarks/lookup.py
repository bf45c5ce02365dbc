"""Lookups on the sockets against redis and Postfix's own tables, in the same run: `python -m benchmarks.lookup [--rounds N] [--seconds S]`.

For: goal numbers as JSON lines, each a ratio against its peer, medians of rotated rounds, with the noise (half the range between the
quartiles, over the median). Served by `bounced serve --role query` as it is run. Never: a number without its peer, or one of replies that
are kept where another would be asked for: `again` asks for 5,000 addresses by turns, which the daemon answers from what it keeps until the
next commit; `first` for 35,000 others, so that it makes each answer. Needs redis-server in the PATH; root and Postfix for the line about
its tables, redis-py for the one about client libraries; what is missing is said. `--large` compares ten million addresses with a thousand.

The asking is done in Python on the same two cores: at 50 connections it, and not redis, is what limits redis. So beside the rate each line
tells how much CPU the server took for an answer.
"""

import argparse
import asyncio
import itertools
import json
import os
import select
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from benchmarks.rounds import cpu_of
from bounced.address import AddressKey
from bounced.client import Client
from bounced.policy import Policy
from bounced.record import Blocked
from bounced.scope import EVERYWHERE
from bounced.store.sqlite import SqliteStore
from tests.system.bounces import Mint
from tests.system.daemon import Daemon
from tests.system.load import Load
from tests.system.postfix import Postfix

BATCH = 100
ASKED = 5_000
"""Different addresses of either kind that are asked for again and again."""
MANY = 40_000
"""With those: addresses of which none is asked for again before the daemon has let go of its answer."""
PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Target:
    """What is asked: a path, requests without end, the octets at which an answer ends, and how many of them an answer has."""

    path: str
    requests: Iterator[bytes]
    end: bytes
    ends: int = 1
    reconnects: bool = False
    begins: bytes = b""
    before: int = 0
    """So many requests are asked before the time is taken, so that the daemon has their answers."""


def address(number: int) -> str:
    """On the list."""
    return f"person.{number}@example{number % 100}.org"


def stranger(number: int) -> str:
    """Not on the list, and as long."""
    return f"nobody.{number}@example{number % 100}.org"


async def fill(database: Path, addresses: int) -> None:
    """Put the first addresses on the list, by the store's own way."""
    store = await SqliteStore.open(database, Policy())
    for begin in range(0, addresses, 500):
        numbers = range(begin, min(begin + 500, addresses))
        await asyncio.gather(*(store.record(_blocked(number)) for number in numbers))
    await store.close()


def _blocked(number: int) -> Blocked:
    return Blocked(at=1_790_000_000, key=AddressKey(address(number)), scope=EVERYWHERE, by="benchmark", reason="x")


def grow(database: Path, addresses: int) -> None:
    """Add addresses behind those that are there, as rows like theirs: ten million by the store's own way take an hour."""
    with closing(sqlite3.connect(database)) as connection, connection:
        ((first,),) = connection.execute("SELECT count(*) FROM standing").fetchall()
        ((row),) = connection.execute("SELECT * FROM standing LIMIT 1").fetchall()
        columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(standing)").fetchall()]
        place = columns.index("address")
        keys = sorted(address(number) for number in range(first, addresses))
        insert = f"INSERT INTO standing VALUES ({', '.join('?' * len(columns))})"
        connection.executemany(insert, ((*row[:place], key, *row[place + 1 :]) for key in keys))


@contextmanager
def together(pids: Collection[int]) -> Iterator[None]:
    """Keep who asks and who answers on one core: else a question takes thrice as long wherever the kernel puts them on two, by chance."""
    before = {pid: os.sched_getaffinity(pid) for pid in (0, *pids)}
    for pid, cores in before.items():
        os.sched_setaffinity(pid, {min(cores)})
    try:
        yield
    finally:
        for pid, cores in before.items():
            os.sched_setaffinity(pid, cores)


@contextmanager
def daemon(home: Path) -> Iterator[int]:
    """`bounced serve --role query` on what lies in `home`; gives its process id."""
    process = Daemon(home).as_role("query")
    if not (home / "keys").exists():
        process.tell("rotate-key")
    process.start()
    try:
        # The addresses come into memory, a few at a time.
        settle(process.pid)
        yield process.pid
    finally:
        process.kill()


def wait(path: Path) -> None:
    while not path.exists():
        time.sleep(0.05)
    time.sleep(0.2)


def settle(pid: int) -> None:
    """Wait until a process rests."""
    used, quiet = -1.0, 0
    while quiet < 3:
        quiet = quiet + 1 if cpu_of(pid) - used <= 0.02 else 0
        used = cpu_of(pid)
        time.sleep(1)


@contextmanager
def redis(directory: Path, addresses: int) -> Iterator[int]:
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("needs redis-server")
    options = ["--port", "0", "--unixsocket", str(directory / "redis"), "--save", "", "--dir", str(directory)]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as process:
        try:
            wait(directory / "redis")
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(directory / "redis"))
                for number in range(addresses):
                    connection.sendall(command("SET", address(number), "hard no-such-user"))
                    connection.recv(100)
            yield process.pid
        finally:
            process.terminate()


def command(*words: str) -> bytes:
    """A redis command (RESP)."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in words)


def netstring(text: str) -> bytes:
    return b"%d:%b," % (len(text), text.encode())


def prepare(target: Target) -> None:
    """Ask what is to be asked again."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(target.path)
        connection.sendall(target.begins)
        for request in itertools.islice(target.requests, target.before):
            connection.sendall(request)
            heard = 0
            while heard < target.ends:
                heard += connection.recv(65536).count(target.end)


def one(target: Target, seconds: float) -> list[float]:
    """Ask on one connection, one after the other; return each question's time in microseconds."""
    took, end, requests = [], time.perf_counter() + seconds, target.requests
    connection: socket.socket | None = None
    while time.perf_counter() < end:
        request = next(requests)
        begun = time.perf_counter()
        if connection is None:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(target.path)
        connection.sendall(request)
        answer = connection.recv(65536)
        while not whole(target, answer):
            answer += (more := connection.recv(65536))
            if not more:
                break
        if target.reconnects:
            connection.close()
            connection = None
        took.append((time.perf_counter() - begun) * 1e6)
    return took


def whole(target: Target, answer: bytes) -> bool:
    return not target.reconnects and answer.endswith(target.end) and (target.ends == 1 or answer.count(target.end) >= target.ends)


def many(target: Target, connections: int, seconds: float, pid: int) -> tuple[float, float]:
    """Keep so many connections busy, each with one request at a time; return answers a second, and the server's CPU in us for each."""
    sockets: dict[int, socket.socket] = {}
    poll, requests = select.epoll(), target.requests

    def connect() -> None:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(target.path)
        sockets[connection.fileno()] = connection
        poll.register(connection.fileno(), select.EPOLLIN)
        connection.send(next(requests))

    for _ in range(connections):
        connect()
    heard = dict.fromkeys(sockets, 0)
    answers, begun, used = 0, time.perf_counter(), cpu_of(pid)
    while (now := time.perf_counter()) < begun + seconds:
        for descriptor, _ in poll.poll(1):
            connection = sockets[descriptor]
            octets = connection.recv(65536)
            if target.reconnects:
                if not octets:
                    poll.unregister(descriptor)
                    sockets.pop(descriptor).close()
                    answers += 1
                    connect()
                continue
            heard[descriptor] += octets.count(target.end)
            if heard[descriptor] >= target.ends:
                heard[descriptor] = 0
                answers += 1
                connection.send(next(requests))
    used = cpu_of(pid) - used
    for connection in sockets.values():
        connection.close()
    poll.close()
    return answers / (now - begun), used / answers * 1e6


def called(ask: Callable[[str], object], keys: Iterator[str], seconds: float) -> float:
    """Call a client library for so long; return the median in microseconds."""
    took, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        key = next(keys)
        begun = time.perf_counter()
        ask(key)
        took.append((time.perf_counter() - begun) * 1e6)
    return statistics.median(took)


def report(what: str, unit: str, peer: str, values: list[float], peers: list[float], *, goal: str) -> None:
    quartiles = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    median = statistics.median(values)
    ratio = statistics.median([value / other for value, other in zip(values, peers, strict=True)])
    line = {
        "what": what,
        unit: round(median, 1),
        "peer": peer,
        f"peer_{unit}": round(statistics.median(peers), 1),
        "ratio": round(ratio, 2),
        "noise": round((quartiles[2] - quartiles[0]) / 2 / median, 3),
        "goal": goal,
    }
    print(json.dumps(line), flush=True)


def targets(directory: Path) -> dict[str, Target]:
    socketmap, line, policy, http = (str(directory / f"{name}.sock") for name in ("socketmap", "line", "policy", "http"))
    store = str(directory / "redis")
    known, unknown = ([kind(number) for number in range(MANY)] for kind in (address, stranger))

    def maps(addresses: Sequence[str]) -> list[bytes]:
        return [netstring(f"access {one}") for one in addresses]

    mixed = [[known[n] if n % 20 == 0 else unknown[n] for n in range(begin, begin + BATCH)] for begin in range(0, MANY, BATCH)]
    listed = [known[begin : begin + BATCH] for begin in range(0, MANY, BATCH)]

    def checks(batches: Sequence[Sequence[str]]) -> list[bytes]:
        return ["".join(f"{one}\n" for one in batch).encode() for batch in batches]

    pages = [f"GET /v1/check?address={one} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for one in unknown]
    found: dict[str, Target] = {}
    few, pages_of_few = slice(ASKED), slice(ASKED // BATCH)
    others, pages_of_others = slice(ASKED, MANY), slice(ASKED // BATCH, MANY // BATCH)
    for when, singles, batches, before in (("again", few, pages_of_few, 1), ("first", others, pages_of_others, 0)):
        single, batch = before * ASKED, before * ASKED // BATCH
        found |= {
            f"socketmap, clear, {when}": Target(socketmap, cycle(maps(unknown[singles])), b",", before=single),
            f"socketmap, suppressed, {when}": Target(socketmap, cycle(maps(known[singles])), b"),", before=single),
            f"checks, 5 % suppressed, {when}": Target(line, cycle(checks(mixed[batches])), b"\n", BATCH, begins=b"checks\n", before=batch),
            f"checks, all suppressed, {when}": Target(line, cycle(checks(listed[batches])), b"\n", BATCH, begins=b"checks\n", before=batch),
            f"socketmap pipelined, 5 % suppressed, {when}": Target(
                socketmap, cycle([b"".join(maps(each)) for each in mixed[batches]]), b",", BATCH + 2 * 5, before=batch
            ),
        }
    return found | {
        "redis, there": Target(store, cycle([command("GET", one) for one in known[:ASKED]]), b"\r\n", 2),
        "redis, not there": Target(store, cycle([command("GET", one) for one in unknown[:ASKED]]), b"\r\n", 1),
        "policy, clear": Target(policy, cycle([POLICY % one.encode() for one in unknown]), b"\n\n"),
        "line, clear": Target(line, cycle([f"check {one}\n".encode() for one in unknown]), b"", reconnects=True),
        "http, clear": Target(http, cycle(pages), b"}"),
        "redis MGET": Target(store, cycle([command("MGET", *batch) for batch in listed[: ASKED // BATCH]]), b"\r\n", 2 * BATCH + 1),
        "redis MGET, 5 % there": Target(
            store, cycle([command("MGET", *batch) for batch in mixed[: ASKED // BATCH]]), b"\r\n", BATCH + 5 + 1
        ),
    }


POLICY = (
    b"request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address=192.0.2.1\nclient_name=mx.example.org\n"
    b"helo_name=mx.example.org\nsender=a@example.org\nrecipient=%b\nrecipient_count=0\nqueue_id=\ninstance=1.2.3\nsize=0\n\n"
)
_PEERS = {
    "socketmap, clear, again": ("redis, not there", "<= 1.2", ">= 0.6"),
    "socketmap, clear, first": ("redis, not there", "<= 1.2", ">= 0.6"),
    "socketmap, suppressed, again": ("redis, there", "<= 1.2", ">= 0.6"),
    "socketmap, suppressed, first": ("redis, there", "<= 1.2", ">= 0.6"),
    "policy, clear": ("redis, not there", "none", "none"),
    "line, clear": ("redis, not there", "none", "none"),
    "http, clear": ("redis, not there", "none", "none"),
}
_BATCHES = {
    f"{what}, {when}": peer
    for when in ("again", "first")
    for what, peer in (
        ("checks, 5 % suppressed", "redis MGET, 5 % there"),
        ("checks, all suppressed", "redis MGET"),
        ("socketmap pipelined, 5 % suppressed", "redis MGET, 5 % there"),
    )
}


def measure(directory: Path, rounds: int, seconds: float, pids: dict[str, int]) -> None:
    asked = targets(directory)
    names = list(asked)
    alone: dict[str, list[float]] = {name: [] for name in names}
    rate: dict[str, list[float]] = {name: [] for name in names}
    used: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            prepare(asked[name])
            if "checks" in name:
                alone[name].append(statistics.median(streamed(asked[name], seconds)))
                continue
            with together(pids.values()):
                alone[name].append(statistics.median(one(asked[name], seconds)))
            if name in _PEERS or name in [peer for peer, *_ in _PEERS.values()]:
                answers, microseconds = many(asked[name], 50, seconds, pids["redis" if "redis" in name else "query"])
                rate[name].append(answers)
                used[name].append(microseconds)
    for name, (peer, latency, throughput) in _PEERS.items():
        report(f"{name}, 1 connection", "us_p50", f"redis GET, {peer[7:]}", alone[name], alone[peer], goal=latency)
        report(f"{name}, 50 connections", "per_second", f"redis GET, {peer[7:]}", rate[name], rate[peer], goal=throughput)
        report(f"{name}, 50 connections", "cpu_us", f"redis GET, {peer[7:]}", used[name], used[peer], goal="none")
    for name, peer in _BATCHES.items():
        ours, theirs = ([1e6 * BATCH / took for took in alone[each]] for each in (name, peer))
        report(f"{name}, batch of {BATCH}, 1 connection", "per_second", peer, ours, theirs, goal=">= 1.3")


def streamed(target: Target, seconds: float) -> list[float]:
    """Ask for batch after batch on a connection that was told `checks`."""
    took, end, requests = [], time.perf_counter() + seconds, target.requests
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(target.path)
        connection.sendall(target.begins)
        while time.perf_counter() < end:
            begun = time.perf_counter()
            connection.sendall(next(requests))
            heard = 0
            while heard < target.ends:
                heard += connection.recv(65536).count(target.end)
            took.append((time.perf_counter() - begun) * 1e6)
    return took


def libraries(directory: Path, rounds: int, seconds: float) -> None:
    try:
        import redis as redis_py  # noqa: PLC0415 - only this line needs it
    except ImportError:
        print(json.dumps({"what": "client library", "skipped": "redis-py is not installed"}))
        return
    peer, ours = redis_py.Redis(unix_socket_path=str(directory / "redis")), Client(str(directory / "socketmap.sock"), deadline=10)
    for what, kind, numbers in (
        ("clear, again", stranger, range(ASKED)),
        ("suppressed, again", address, range(ASKED)),
        ("clear, first", stranger, range(ASKED, MANY)),
        ("suppressed, first", address, range(ASKED, MANY)),
    ):
        keys = cycle([kind(number) for number in numbers])
        if "again" in what:
            for key in itertools.islice(keys, ASKED):
                ours.may_send(key)
        pairs = [(called(ours.may_send, keys, seconds), called(peer.get, keys, seconds)) for _ in range(rounds)]
        speeds = [[1e6 / took for took in side] for side in zip(*pairs, strict=True)]
        report(f"client library, {what}", "per_second", "redis-py GET", *speeds, goal=">= 2")


def tables(directory: Path, rounds: int) -> None:
    """Ask `postmap -q` for ten thousand keys: of our map, and of a table of Postfix's own through its proxymap."""
    if os.geteuid() != 0 or shutil.which("postmap") is None:
        print(json.dumps({"what": "postmap -q", "skipped": "needs root and Postfix"}))
        return
    home = directory / "postfix"
    home.mkdir(mode=0o755)
    kind = "cdb" if "cdb" in subprocess.run(["postconf", "-m"], capture_output=True, text=True, check=True).stdout.split() else "hash"
    table = home / "access"
    table.write_text("".join(f"{address(number)} 550 5.7.1 suppressed\n" for number in range(ASKED)))
    subprocess.run(["postmap", f"{kind}:{table}"], check=True)
    postfix = Postfix(home, doors={"in": {}}, settings={"proxy_read_maps": f"proxy:{kind}:{table}"})
    postfix.start()
    keys = "".join(f"{one(number)}\n" for number in range(ASKED) for one in (address, stranger)).encode()
    try:
        places = (f"socketmap:unix:{directory}/socketmap.sock:access", f"proxy:{kind}:{table}")
        pairs = [[_asked(home, place, keys) for place in places] for _ in range(rounds)]
        report("postmap -q of our socketmap", "us", f"proxymap({kind})", *map(list, zip(*pairs, strict=True)), goal="<= 1.3")
    finally:
        postfix.stop()


def _asked(home: Path, place: str, keys: bytes) -> float:
    begun = time.perf_counter()
    done = subprocess.run(["postmap", "-c", str(home / "etc"), "-q", "-", place], input=keys, capture_output=True, check=False)
    took = time.perf_counter() - begun
    assert done.stdout.count(b"\n") == ASKED, done.stderr.decode()
    return took / (2 * ASKED) * 1e6


def large(directory: Path, most: int, rounds: int, seconds: float) -> None:
    """Ask one daemon that knows a thousand addresses, and one that knows so many, by turns."""
    places = {}
    for name, addresses in (("small", 1_000), ("large", most)):
        places[name] = directory / name
        places[name].mkdir()
        asyncio.run(fill(places[name] / "bounced.db", 1_000))
        if addresses > 1_000:
            grow(places[name] / "bounced.db", addresses)
    with daemon(places["small"]), daemon(places["large"]) as pid:
        print(json.dumps({"what": f"memory with {most:,} addresses", "rss_mib": rss(pid)}), flush=True)
        for what, kind in (("clear", stranger), ("suppressed", lambda number: address(number * 7919 % most))):
            pairs = []
            for _ in range(rounds):
                pair = []
                for name in ("large", "small"):
                    numbers = range(ASKED) if name == "large" or kind is stranger else range(1_000)
                    keys = [kind(number) if name == "large" or kind is stranger else address(number) for number in numbers]
                    # Nothing of this protocol's replies is kept: each answer is made.
                    target = Target(str(places[name] / "policy.sock"), cycle([POLICY % key.encode() for key in keys]), b"\n\n")
                    pair.append(statistics.median(one(target, seconds)))
                pairs.append(pair)
            report(f"policy, {what}, {most:,} addresses", "us_p50", "1,000 addresses", *map(list, zip(*pairs, strict=True)), goal="<= 1.5")


def rss(pid: int) -> int:
    (line,) = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS")]
    return int(line.split()[1]) >> 10


def busy(seconds: float) -> None:
    """Ask while the other role takes bounces as fast as it can; beside it the same while it rests."""
    with tempfile.TemporaryDirectory() as name:
        installation = Daemon(Path(name))
        smtp, query = installation.as_role("smtp"), installation.as_role("query")
        smtp.start()
        query.start()
        target = Target(str(query.door("socketmap")), cycle([netstring(f"access {stranger(number)}") for number in range(MANY)]), b",")
        try:
            calm = one(target, seconds)
            pid = os.fork()
            if pid == 0:
                os.nice(5)  # who brings the bounces is not what is measured
                Load(smtp.smtp, Mint(smtp)).start()
                threading.Event().wait()
            time.sleep(2)
            used, begun = cpu_of(smtp.pid), time.perf_counter()
            loud = one(target, seconds)
            share = (cpu_of(smtp.pid) - used) / (time.perf_counter() - begun)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        finally:
            smtp.kill()
            query.kill()
    for what, took in (("while intake rests", calm), ("while intake runs", loud)):
        cuts = statistics.quantiles(took, n=100)
        line = {"what": f"socketmap, clear, {what}", "us_p50": round(cuts[49], 1), "us_p99": round(cuts[98], 1)}
        print(json.dumps(line | ({"intake_cpu": round(share, 2), "goal": "p99 <= 1000"} if took is loud else {})), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--addresses", type=int, default=MANY)
    parser.add_argument(
        "--large",
        type=int,
        nargs="?",
        const=10_000_000,
        help="so many addresses (ten million) against a thousand, and nothing else; minutes, 2 GB",
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        if given.large:
            large(directory, given.large, given.rounds, given.seconds)
            return
        asyncio.run(fill(directory / "bounced.db", 1_000))
        grow(directory / "bounced.db", given.addresses)
        with daemon(directory) as query, redis(directory, given.addresses) as peer:
            measure(directory, given.rounds, given.seconds, {"query": query, "redis": peer})
            with together([query, peer]):
                libraries(directory, given.rounds, given.seconds)
            tables(directory, given.rounds)
            busy(5 * given.seconds)


if __name__ == "__main__":
    main()
