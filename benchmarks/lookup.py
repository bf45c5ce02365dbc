"""Lookups on the sockets against redis, in the same run: `python benchmarks/lookup.py [--rounds N] [--seconds S] [--addresses N]`.

For: goal numbers as JSON lines, each a ratio against its peer, medians of rotated rounds, with the noise (half the range between the
quartiles, over the median). Never: a number without its peer. Needs redis-server in the PATH; the line about client libraries redis-py.
"""

import argparse
import asyncio
import json
import os
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bounced.client import Client
from bounced.consult import Consult
from bounced.http import HttpDoor
from bounced.listen import QueryDoor, QuerySettings
from bounced.maildir import Maildir
from bounced.policy import Policy
from bounced.returnpath import Key, KeyRing, ReturnPath
from bounced.scope import DEFAULT_SCOPE, EVERYWHERE
from bounced.store.sqlite import SqliteStore

BATCH = 100


@dataclass(frozen=True)
class Target:
    """What is asked: a path, a request, the octets at which its answer ends, and how many of them a request has."""

    name: str
    path: str
    request: bytes
    end: bytes
    ends: int = 1
    reconnects: bool = False


def address(number: int) -> str:
    return f"person.{number}@example{number % 100}.org"


async def serve(directory: Path, addresses: int) -> None:
    """The daemon's query role: the real store, the real doors."""
    store = await SqliteStore.open(directory / "bounced.db", Policy())
    return_path = ReturnPath(ring=KeyRing((Key("a", b"k" * 32),)), scopes=(DEFAULT_SCOPE,))
    consult = Consult(
        domain="bounces.example.net", return_path=return_path, store=store, unread=Maildir(directory / "unread", 1), clock=time.time
    )
    for begin in range(0, addresses, 500):
        block = [consult.block(address(number), EVERYWHERE, by="benchmark", reason="x") for number in range(begin, begin + 500)]
        await asyncio.gather(*block)
    door, http = QueryDoor(consult, QuerySettings()), HttpDoor(consult)
    for name in ("socketmap", "line", "policy"):
        await door.listen(bound(directory / name), name)
    await http.listen(bound(directory / "http"))
    (directory / "ready").touch()
    await asyncio.Event().wait()


def bound(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    return sock


@contextmanager
def daemon(directory: Path, addresses: int) -> Iterator[None]:
    pid = os.fork()
    if pid == 0:
        # The log of half a million blocks is not what is measured.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        uvloop.run(serve(directory, addresses))
        os._exit(0)
    try:
        while not (directory / "ready").exists():
            time.sleep(0.05)
        yield
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


@contextmanager
def redis(directory: Path, addresses: int) -> Iterator[None]:
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("needs redis-server")
    options = ["--port", "0", "--unixsocket", str(directory / "redis"), "--save", "", "--dir", str(directory)]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as process:
        try:
            while not (directory / "redis").exists():
                time.sleep(0.05)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(directory / "redis"))
                for number in range(addresses):
                    connection.sendall(command("SET", address(number), "hard no-such-user"))
                    connection.recv(100)
            yield
        finally:
            process.terminate()


def command(*words: str) -> bytes:
    """A redis command (RESP)."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in words)


def netstring(text: str) -> bytes:
    return b"%d:%b," % (len(text), text.encode())


def one(target: Target, seconds: float) -> list[float]:
    """Ask on one connection, one after the other; return each question's time in microseconds."""
    took, end = [], time.perf_counter() + seconds
    connection: socket.socket | None = None
    while time.perf_counter() < end:
        begun = time.perf_counter()
        if connection is None:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(target.path)
        connection.sendall(target.request)
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


def many(target: Target, connections: int, seconds: float) -> float:
    """Keep so many connections busy, each with one request at a time; return answers a second."""
    sockets: dict[int, socket.socket] = {}
    poll = select.epoll()

    def connect() -> None:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(target.path)
        sockets[connection.fileno()] = connection
        poll.register(connection.fileno(), select.EPOLLIN)
        connection.send(target.request)

    for _ in range(connections):
        connect()
    heard = dict.fromkeys(sockets, 0)
    answers, begun = 0, time.perf_counter()
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
                answers += target.ends
                connection.send(target.request)
    for connection in sockets.values():
        connection.close()
    poll.close()
    return answers / (now - begun)


def called(ask: Callable[[], object], seconds: float) -> float:
    """Call a client library for so long; return the median in microseconds."""
    took, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        begun = time.perf_counter()
        ask()
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
    known, http = address(1234), f"GET /v1/check?address={address(1234)} HTTP/1.1\r\nHost: x\r\n\r\n"
    batch = [address(number * 7) for number in range(BATCH)]
    return {
        "redis": Target("redis GET", str(directory / "redis"), command("GET", known), b"\r\n", 2),
        "socketmap": Target("socketmap", str(directory / "socketmap"), netstring(f"access {known}"), b"),"),
        "line": Target("line", str(directory / "line"), f"check {known}\n".encode(), b"", reconnects=True),
        "http": Target("http", str(directory / "http"), http.encode(), b"}"),
        "mget": Target("redis MGET", str(directory / "redis"), command("MGET", *batch), b"\r\n", 2 * BATCH + 1),
        "batch": Target(
            "socketmap batch", str(directory / "socketmap"), b"".join(netstring(f"access {one}") for one in batch), b"),", BATCH
        ),
    }


def measure(directory: Path, rounds: int, seconds: float) -> None:
    asked = targets(directory)
    names = ["redis", "socketmap", "line", "http", "mget", "batch"]
    alone: dict[str, list[float]] = {name: [] for name in names}
    rate: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            alone[name].append(statistics.median(one(asked[name], seconds)))
            if name not in ("mget", "batch"):
                rate[name].append(many(asked[name], 50, seconds) / asked[name].ends)
    goals = {"socketmap": ("<= 1.2", ">= 0.6"), "line": ("none", "none"), "http": ("none", "none")}
    for name, (latency, throughput) in goals.items():
        report(f"{name}, 1 connection", "us_p50", "redis GET", alone[name], alone["redis"], goal=latency)
        report(f"{name}, 50 connections", "per_second", "redis GET", rate[name], rate["redis"], goal=throughput)
    per_second = {name: [1e6 * BATCH / took for took in alone[name]] for name in ("mget", "batch")}
    report(f"batch of {BATCH}, 1 connection", "per_second", "redis MGET", per_second["batch"], per_second["mget"], goal=">= 1.3")
    libraries(directory, rounds, seconds)


def libraries(directory: Path, rounds: int, seconds: float) -> None:
    try:
        import redis as redis_py  # noqa: PLC0415 - only this line needs it
    except ImportError:
        print(json.dumps({"what": "client library", "skipped": "redis-py is not installed"}))
        return
    peer, ours = redis_py.Redis(unix_socket_path=str(directory / "redis")), Client(str(directory / "socketmap"), deadline=10)
    pairs = [
        (called(lambda: ours.may_send(address(1234)), seconds), called(lambda: peer.get(address(1234)), seconds)) for _ in range(rounds)
    ]
    speeds = [[1e6 / took for took in side] for side in zip(*pairs, strict=True)]
    report("client library", "per_second", "redis-py GET", *speeds, goal=">= 2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--addresses", type=int, default=10_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with daemon(directory, given.addresses), redis(directory, given.addresses):
            measure(directory, given.rounds, given.seconds)


if __name__ == "__main__":
    main()
