"""HTTP on a unix socket, asked as any client would: every operation, every mistake, every fault."""

import asyncio
import http.client
import json
import os
import pwd
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from bounced.address import AddressKey
from bounced.consult import Consult
from bounced.http import OPERATIONS, HttpDoor, openapi
from bounced.maildir import Maildir
from bounced.outcome import Category, Disposition, Outcome
from bounced.outcome.judge import UNMATCHED
from bounced.policy import Policy
from bounced.query import Check, Suppressed
from bounced.record import AddressRecord, Bounced
from bounced.returnpath import KeyRing
from bounced.scope import DEFAULT_SCOPE, EVERYWHERE
from bounced.store import Tally
from bounced.store.memory import MemoryStore
from bounced.store.sqlite import SqliteStore
from tests.asking import DEAD, LIVE, NEWS, NOW, bound, consult_over, http_door, return_path, with_dead

LONG = "a-local-part-that-does-not-fit-into-a-return-path-" + "x" * 20 + "@remote.test"
ME = f"uid {os.getuid()} ({pwd.getpwuid(os.getuid()).pw_name})"

Reply = tuple[int, Any]


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self.path))


def _ask(path: Path, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
    connection = _Connection(path)
    try:
        connection.request(method, target, body, dict(headers))
        response = connection.getresponse()
        assert response.headers["Content-Type"] == ("application/json" if response.status < 400 else "application/problem+json")
        text = response.read()
        assert text.isascii()
        return response.status, json.loads(text) if text else None
    finally:
        connection.close()


class Asker:
    """A client of the door."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def get(self, target: str) -> Reply:
        return await asyncio.to_thread(_ask, self.path, "GET", target, None, {})

    async def post(self, target: str, headers: Mapping[str, str] | None = None, **words: object) -> Reply:
        return await self.raw(target, json.dumps(words).encode(), headers)

    async def raw(self, target: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        return await asyncio.to_thread(_ask, self.path, "POST", target, body, headers or {})


@pytest.fixture
def store() -> MemoryStore:
    """An empty store."""
    return MemoryStore(Policy())


@pytest.fixture
def consult(store: MemoryStore) -> Consult:
    """The middle over the store."""
    return consult_over(store)


@pytest.fixture
async def ask(consult: Consult, tmp_path: Path) -> AsyncIterator[Asker]:
    """A client of a door that serves."""
    async with http_door(consult, tmp_path / "s"):
        yield Asker(tmp_path / "s")


async def test_check_clear(ask: Asker) -> None:
    """A clear address is said to be clear, by its key."""
    assert await ask.get("/v1/check?address=Live@Remote.TEST") == (
        200,
        {
            "address": LIVE,
            "scope": "default",
            "suppressed": False,
            "cause": None,
            "category": None,
            "since": None,
            "text": None,
        },
    )


async def test_block_check_release(ask: Asker) -> None:
    """What is blocked is suppressed, with cause and text, until it is released."""
    assert await ask.post("/v1/block", address="Dead@remote.test", reason="asked us to") == (200, {"address": DEAD, "suppressed": True})
    status, verdict = await ask.get("/v1/check?address=dead@remote.test&scope=news")
    assert status == 200
    assert verdict == {
        "address": DEAD,
        "scope": "news",
        "suppressed": True,
        "cause": "manual",
        "category": "manual",
        "since": NOW,
        "text": "recipient is on the suppression list (manual, manual, 2026-11-18)",
    }
    assert await ask.post("/v1/release", address=DEAD, reason="a mistake") == (200, {"address": DEAD, "suppressed": False})
    assert (await ask.get("/v1/check?address=dead@remote.test"))[1]["suppressed"] is False


async def test_a_block_of_one_stream(ask: Asker) -> None:
    """A block of one stream leaves the others clear."""
    await ask.post("/v1/block", address=DEAD, scope="news", reason="no more news")
    assert (await ask.get(f"/v1/check?address={DEAD}&scope=news"))[1]["suppressed"] is True
    assert (await ask.get(f"/v1/check?address={DEAD}"))[1]["suppressed"] is False


async def test_why_tells_the_whole_story(ask: Asker, store: MemoryStore) -> None:
    """The story has how the address stands and every event with its words; of a token, only what proves nothing."""
    outcome = Outcome(
        disposition=Disposition.HARD, category=Category.NO_SUCH_USER, rule="smtp-511", diagnostic="550 no\x1b[2J", status="5.1.1"
    )
    await store.record(
        Bounced(
            at=NOW,
            key=AddressKey(DEAD),
            scope=DEFAULT_SCOPE,
            token="abcdefghijklmnopqrstuvw",
            signed_at=NOW - 60,
            outcome=outcome,
            reader="delivery_status",
            client="192.0.2.1",
        )
    )
    await ask.post("/v1/release", address=DEAD, reason="they came back")
    status, story = await ask.get(f"/v1/why?address={DEAD}")
    assert status == 200
    assert (story["address"], story["suppressed"]) == (DEAD, False)
    clear = {"cause": None, "category": None, "since": None, "until": None, "strikes": 0, "held": [], "incident": None}
    assert story["standings"] == [{"scope": "*", **clear, "released_at": NOW}]
    bounced, released = story["events"]
    assert bounced == {
        "kind": "bounced",
        "at": NOW,
        "scope": "default",
        "mail": "abcdefg",
        "signed_at": NOW - 60,
        "outcome": {
            "disposition": "hard",
            "category": "no-such-user",
            "rule": "smtp-511",
            "evidence": "",
            "diagnostic": "550 no\x1b[2J",
            "status": "5.1.1",
            "blocker": None,
        },
        "reader": "delivery_status",
        "client": "192.0.2.1",
    }
    assert released == {"kind": "released", "at": NOW, "scope": "*", "by": ME, "reason": "they came back"}


async def test_sign_and_verify(ask: Asker) -> None:
    """A signed return path proves its recipient, also where it does not fit and the store must know it."""
    for address in (LIVE, LONG):
        status, signed = await ask.post("/v1/sign", address=address, scope="news")
        assert status == 200
        local_part, _, domain = signed["return_path"].rpartition("@")
        assert domain == "bounces.example.net"
        proof = {"recipient": address, "scope": "news", "signed_at": NOW}
        assert await ask.post("/v1/verify", local_part=local_part) == (200, proof)
    assert await ask.post("/v1/verify", local_part="joe") == (200, {"refused": "foreign"})


async def test_delivered_ends_a_run(ask: Asker, store: MemoryStore) -> None:
    """What a mailer tells is an event of the address, with who told it."""
    assert await ask.post("/v1/delivered", address=LIVE) == (200, {"address": LIVE, "suppressed": False})
    (event,) = store.history(AddressKey(LIVE))
    assert getattr(event, "by", None) == ME


async def test_nobody_can_write_another_name(ask: Asker, store: MemoryStore) -> None:
    """Who told is what the kernel says; no header changes it."""
    await ask.post("/v1/delivered", {"X-Forwarded-For": "192.0.2.66", "Forwarded": "for=x", "X-Real-IP": "x"}, address=LIVE)
    (event,) = store.history(AddressKey(LIVE))
    assert getattr(event, "by", None) == ME


async def test_a_tcp_peer_is_named_by_its_address(consult: Consult, store: MemoryStore) -> None:
    """Where the socket is none of unix, the kernel knows no user: the address stands for it."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    door = HttpDoor(consult)
    await door.listen(sock)
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    body = json.dumps({"address": LIVE}).encode()
    writer.write(b"POST /v1/delivered HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()
    await door.drain(5)
    (event,) = store.history(AddressKey(LIVE))
    assert getattr(event, "by", None) == "address 127.0.0.1"


async def test_health_and_stats(ask: Asker, store: MemoryStore) -> None:
    """The probe says whether the list can be read; the tallies come newest day first, with advice; the overview counts."""
    assert (await ask.get("/v1/health"))[0] == 200
    await store.count(
        {Tally(day="2026-11-20", what="forged", source="192.0.2.0/24"): 2, Tally(day="2026-11-21", what="expired", source=""): 1}
    )
    status, answer = await ask.get("/v1/backscatter")
    assert status == 200
    assert answer["tallies"] == [
        {"day": "2026-11-21", "what": "expired", "source": "", "count": 1},
        {"day": "2026-11-20", "what": "forged", "source": "192.0.2.0/24", "count": 2},
    ]
    assert "SPF" in answer["advice"]["backscatter"]
    await ask.post("/v1/block", address=DEAD, reason="asked us to")
    assert await ask.get("/v1/stats") == (
        200,
        {"addresses": 1, "blocks": {"manual": 1}, "categories": {}, "blockers": {}, "open_incidents": 0},
    )


async def test_unmatched_texts_and_unread_mail(store: MemoryStore, tmp_path: Path) -> None:
    """Texts that no rule matched come as groups without their recipients, and with them where the mail lies that nobody could read."""
    outcome = Outcome(disposition=Disposition.SOFT, category=Category.UNDETERMINED, rule=UNMATCHED, diagnostic="550 <a@b.test> frobnicated")
    event = Bounced(at=7, key=AddressKey("a@b.test"), scope=NEWS, token="x" * 23, signed_at=1, outcome=outcome, reader="rfc3464")
    await store.record(event)
    await Maildir(tmp_path / "unread", quota=1 << 20).keep(b"what?")
    async with http_door(consult_over(store, tmp_path / "unread"), tmp_path / "s"):
        status, answer = await Asker(tmp_path / "s").get("/v1/unmatched")

    assert status == 200
    assert answer == {
        "groups": [{"count": 1, "first": 7, "last": 7, "sample": "550 <*@b.test> frobnicated"}],
        "unread": {"directory": str(tmp_path / "unread"), "messages": 1},
    }


async def test_the_list_comes_in_pages(ask: Asker, store: MemoryStore, consult: Consult) -> None:
    """Page after page gives every block once, also where a page has none; a cause, a category or a stream narrows it."""
    for number in range(1_100):
        await consult.delivered(f"user{number:04}@remote.test", DEFAULT_SCOPE, by="test")
    for number in (3, 700, 1_099):
        await consult.block(f"user{number:04}@remote.test", EVERYWHERE, by="test", reason="to be found")
    await consult.block("user0700@remote.test", DEFAULT_SCOPE, by="test", reason="to be found")

    async def listed(words: str) -> list[list[str]]:
        pages, after = [], ""
        while True:
            status, page = await ask.get(f"/v1/list?{words}{after}")
            assert status == 200
            pages.append([block["address"] for block in page["blocks"]])
            if page["next"] is None:
                return pages
            after = f"&after={page['next'].replace(' ', '%20')}"

    assert await listed("") == [["user0003@remote.test"], ["user0700@remote.test"] * 2, ["user1099@remote.test"]]
    assert [*chain(*await listed("scope=default"))] == ["user0700@remote.test"]
    assert [*chain(*await listed("scope=*&cause=manual"))] == ["user0003@remote.test", "user0700@remote.test", "user1099@remote.test"]
    assert [*chain(*await listed("cause=hard"))] == []
    assert (await ask.get("/v1/list?scope=undeclared"))[0] == 400


async def test_an_incident_is_held_shown_and_ruled(ask: Asker, store: MemoryStore) -> None:
    """What a person holds is clear, what he confirms is blocked, what he reverts is clear; who did it and why is told."""
    outcome = Outcome(disposition=Disposition.HARD, category=Category.NO_SUCH_USER, rule="example")
    words = {"token": "a" * 23, "signed_at": NOW - 60, "reader": "rfc3464", "provider": "google"}
    await store.record(Bounced(at=NOW, key=AddressKey(DEAD), scope=DEFAULT_SCOPE, outcome=outcome, **words))
    assert (await ask.get(f"/v1/check?address={DEAD}"))[1]["suppressed"] is True

    status, answer = await ask.post("/v1/hold", provider="google", since=NOW - 60, reason="a bad day")
    (incident,) = answer["incidents"]
    identity = incident["id"]
    assert (status, incident["count"], incident["subject"]) == (200, 1, "google")
    assert (await ask.get(f"/v1/check?address={DEAD}"))[1]["suppressed"] is False
    assert (await ask.get(f"/v1/why?address={DEAD}"))[1]["standings"][0]["held"] == [identity]

    assert await ask.post("/v1/confirm", id=identity, reason="they say so") == (200, {"id": identity, "changed": 1})
    assert (await ask.get(f"/v1/check?address={DEAD}"))[1]["suppressed"] is True
    assert await ask.post("/v1/revert", id=identity, reason="they do not") == (200, {"id": identity, "changed": 1})
    assert (await ask.get(f"/v1/check?address={DEAD}"))[1]["suppressed"] is False

    shown = (await ask.get(f"/v1/incident?id={identity}"))[1]
    assert (shown["addresses"], shown["next"]) == ([DEAD], None)
    assert [(act["what"], act["reason"]) for act in shown["incident"]["acts"]] == [
        ("held", "a bad day"),
        ("confirmed", "they say so"),
        ("reverted", "they do not"),
    ]
    assert [one["id"] for one in (await ask.get("/v1/incidents"))[1]["incidents"]] == [identity]
    assert (await ask.get("/v1/incident?id=none"))[0] == 400
    assert (await ask.post("/v1/revert", id="none", reason="x"))[0] == 400


async def test_who_refuses_us_holds_no_verdicts(ask: Asker, store: MemoryStore) -> None:
    """An incident of another kind can be neither confirmed nor reverted, and that leaves no act on it."""
    today = datetime.fromtimestamp(NOW, UTC).date().isoformat()
    await store.count({Tally(day=today, what="forged", source=""): 2_000})
    (incident,) = await store.settle(NOW)
    status, answer = await ask.post("/v1/confirm", id=incident.id, reason="x")
    assert (status, answer["detail"]) == (400, "this incident holds no verdicts")
    assert store.incidents() == [incident]


async def test_a_forgotten_address_stays_suppressed(ask: Asker, store: MemoryStore) -> None:
    """After forgetting, nothing names the address; it is suppressed all the same, in any case, after a rotation, until it is released."""
    await ask.post("/v1/block", address=DEAD, reason="dead@remote.test asked us to")
    await ask.post("/v1/block", address=LIVE, scope="news", reason="no news")
    assert await ask.post("/v1/forget", address="Dead@remote.TEST", reason="dead@remote.test wants it") == (
        200,
        {"address": DEAD, "suppressed": True},
    )
    assert "dead" not in repr([store.standings(), *(store.history(key) for key, _ in store.standings())])
    assert (await ask.get(f"/v1/check?address={DEAD}&scope=news"))[1]["suppressed"] is True
    assert (await ask.get("/v1/check?address=other@remote.test"))[1]["suppressed"] is False
    (story,) = (await ask.get(f"/v1/why?address={DEAD}"))[1]["events"]
    assert story["reason"] == "forgotten: [forgotten] wants it; it was manual, manual"
    (first, *_) = (await ask.get("/v1/list"))[1]["blocks"]
    assert first["address"].startswith("#")

    assert await ask.post("/v1/release", address=DEAD, reason="a new owner") == (200, {"address": DEAD, "suppressed": False})
    assert (await ask.get(f"/v1/check?address={DEAD}"))[1]["suppressed"] is False
    assert await ask.post("/v1/forget", address="nobody@remote.test", reason="x") == (
        200,
        {"address": "nobody@remote.test", "suppressed": False},
    )


async def test_a_forgotten_address_outlives_a_rotation(store: MemoryStore) -> None:
    """After new keys, and in a daemon that has just started, a forgotten address is suppressed still; without the old key it is not."""
    consult = consult_over(store)
    await consult.block(DEAD, EVERYWHERE, by="test", reason="to be found")
    await consult.forget(DEAD, by="test", reason="she wants it")
    ring = return_path().ring
    rotated = ring.rotated(b"n" * 32)
    for keys, suppressed in ((rotated, True), (KeyRing(rotated.keys[:1]), False)):
        later = consult_over(store)
        later.use(replace(return_path(), ring=keys))
        assert isinstance(later.check(Check(DEAD, DEFAULT_SCOPE)), Suppressed) == suppressed


@pytest.mark.parametrize(
    "target",
    [
        "/v1/check",
        "/v1/check?address=",
        "/v1/check?address=joe",
        "/v1/check?address=joe%00@x.test",
        "/v1/check?address=%0d%0ajoe@x.test",
        "/v1/check?address=joe@x.test&scope=receipts",
        "/v1/check?address=joe@x.test&scope=*",
        "/v1/check?address=joe@x.test&scope=",
        "/v1/check?address=joe@x.test&adress=joe@y.test",
        "/v1/check?address=joe@x.test&address=dead@x.test",
        "/v1/why?address=joe",
        "/v1/health?x=1",
    ],
)
async def test_bad_questions(ask: Asker, target: str) -> None:
    """What cannot be meant so is 400 with one sentence, and never an answer to something else."""
    status, problem = await ask.get(target)
    assert status == 400
    assert problem["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"joe@x.test"',
        b"{}",
        b'{"address": 1}',
        b'{"address": "joe"}',
        b'{"address": "joe@x.test"}',
        b'{"address": "joe@x.test", "reason": ""}',
        b'{"address": "joe@x.test", "reason": "two\\nlines"}',
        b'{"address": "joe@x.test", "reason": "x", "scope": "receipts"}',
        b'{"address": "joe@x.test", "reason": "x", "by": "root"}',
        b'{"address": "joe@x.test", "reason": "\\ud800"}',
        b'{"address": "\xff@x.test", "reason": "x"}',
        b"[" * 60_000,
    ],
)
async def test_bad_bodies_change_nothing(ask: Asker, store: MemoryStore, body: bytes) -> None:
    """A body that is not what the operation takes is 400, and nothing is stored."""
    status, problem = await ask.raw("/v1/block", body)
    assert status == 400
    assert problem["detail"]
    assert not store.history(AddressKey("joe@x.test"))


async def test_wrong_paths_methods_and_sizes(ask: Asker) -> None:
    """404, 405 and 413 say so in JSON too."""
    assert (await ask.get("/v1/nothing"))[0] == 404
    assert (await ask.get("/"))[0] == 404
    assert (await ask.get("/v1/sign"))[0] == 405
    assert (await ask.post("/v1/check"))[0] == 405
    assert (await ask.raw("/v1/sign", b" " * 65_537))[0] == 413
    assert (await ask.raw("/v1/sign", b" " * 65_500 + b'{"address": "joe@x.test"}'))[0] == 200


async def test_a_broken_store_is_503(ask: Asker, store: MemoryStore) -> None:
    """Where the store fails, every operation that needs it says "later", and none says "clear"."""
    await store.close()
    for target in (f"/v1/check?address={LIVE}", f"/v1/why?address={LIVE}", "/v1/health", "/v1/stats"):
        status, problem = await ask.get(target)
        assert (status, list(problem)) == (503, ["title", "status", "detail", "hint"])
    opaque = return_path().sign(AddressKey(LONG), DEFAULT_SCOPE, NOW).local_part
    for path, words in (
        ("/v1/sign", {"address": LONG}),
        ("/v1/verify", {"local_part": opaque}),
        ("/v1/block", {"address": LIVE, "reason": "x"}),
        ("/v1/release", {"address": LIVE, "reason": "x"}),
        ("/v1/delivered", {"address": LIVE}),
    ):
        assert (await ask.post(path, **words))[0] == 503


class Buggy(MemoryStore):
    """A store with an error that nobody foresaw."""

    def look_up(self, key: AddressKey) -> AddressRecord:
        raise RuntimeError(f"a bug that shows {key}")


async def test_a_bug_is_503(tmp_path: Path) -> None:
    """An unforeseen error is "later" too, and shows nothing of itself."""
    async with http_door(consult_over(Buggy(Policy())), tmp_path / "s"):
        status, problem = await Asker(tmp_path / "s").get(f"/v1/check?address={LIVE}")
    assert status == 503
    assert "shows" not in json.dumps(problem)


async def test_released_between_two_looks(consult: Consult, store: MemoryStore, ask: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address released by another process while it is checked is clear, not an error."""
    await consult.block(DEAD, EVERYWHERE, by="test", reason="to be found")
    looks = iter([store.blocking(AddressKey(DEAD)), ()])
    monkeypatch.setattr(store, "blocking", lambda key: next(looks))
    assert (await ask.get(f"/v1/check?address={DEAD}"))[1]["suppressed"] is False


async def test_drain_waits_for_an_answer(tmp_path: Path) -> None:
    """At the end what was asked is answered, the listener is gone, and its path stays."""

    class Gated(MemoryStore):
        gate = asyncio.Event()
        asked = asyncio.Event()

        async def intern(self, opaque_id: str, key: AddressKey) -> None:
            self.asked.set()
            await self.gate.wait()
            await super().intern(opaque_id, key)

    store = Gated(Policy())
    door = HttpDoor(consult_over(store))
    sock = bound(tmp_path / "s")
    await door.listen(sock)
    waiting = asyncio.create_task(Asker(tmp_path / "s").post("/v1/sign", address=LONG))
    await store.asked.wait()
    draining = asyncio.create_task(door.drain(30))
    while sock.fileno() >= 0:  # noqa: ASYNC110 - a socket tells nobody that it was closed
        await asyncio.sleep(0)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_unix_connection(tmp_path / "s")
    assert not draining.done()
    store.gate.set()
    assert (await waiting)[0] == 200
    await draining
    assert (tmp_path / "s").is_socket()


async def test_signal_handlers_are_left_alone(consult: Consult, tmp_path: Path) -> None:
    """The signals belong to the daemon: serving changes none of their handlers."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with http_door(consult, tmp_path / "s"):
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_a_socket_that_cannot_listen(consult: Consult, tmp_path: Path) -> None:
    """A socket that is no listener's is an error at the start."""
    sock = bound(tmp_path / "s")
    sock.close()
    with pytest.raises(OSError, match="descriptor"):
        await HttpDoor(consult).listen(sock)


async def test_every_route_is_described(ask: Asker) -> None:
    """The OpenAPI document names every operation with its method, and every reference in it leads somewhere."""
    status, document = await ask.get("/v1/openapi.json")
    assert status == 200
    assert document == json.loads(json.dumps(openapi()))
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(each.method, each.path) for each in OPERATIONS} | {("GET", "/v1/backup"), ("GET", "/v1/openapi.json")}
    references = set(_references(document))
    assert references
    assert references <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


def _references(node: object) -> list[str]:
    match node:
        case dict():
            return [node["$ref"]] if "$ref" in node else [found for value in node.values() for found in _references(value)]
        case list():
            return [found for value in node for found in _references(value)]
        case _:
            return []


async def test_every_described_route_answers(ask: Asker) -> None:
    """What the document describes is there: no described path is 404 or 405."""
    for path, methods in openapi()["paths"].items():
        for method in methods:
            status, _ = await (ask.get(path) if method == "get" else ask.post(path))
            # What is in memory has no backup.
            assert status in (200, 503 if path == "/v1/backup" else 400), path


async def test_many_are_checked_and_signed_at_once(ask: Asker, consult: Consult) -> None:
    """One request asks about many addresses, each answered as it is alone; one that is none is named, and nothing is done."""
    await with_dead(consult)
    status, answer = await ask.post("/v1/check-many", addresses=[DEAD, LIVE, DEAD], scope="news")
    assert (status, [one["suppressed"] for one in answer["answers"]]) == (200, [True, False, True])
    assert answer["answers"][1] == (await ask.get(f"/v1/check?address={LIVE}&scope=news"))[1]
    status, answer = await ask.post("/v1/sign-many", addresses=[LIVE, LONG])
    assert (status, len(answer["return_paths"])) == (200, 2)
    assert "+live=remote.test@" in answer["return_paths"][0]
    for path in ("/v1/check-many", "/v1/sign-many"):
        status, problem = await ask.post(path, addresses=[LIVE, "nobody"])
        assert (status, problem["detail"].partition(":")[0]) == (400, "addresses[1]")
        assert (await ask.post(path, addresses=["a@b.test"] * 1001))[0] == 400
        assert (await ask.post(path, addresses=[LIVE], scope="receipts"))[0] == 400


async def test_events_are_told_once_and_in_order(ask: Asker, consult: Consult) -> None:
    """Who asks with the last answer's `next` gets every event once, with its address; "end" is where the newest ends."""
    await with_dead(consult)
    status, first = await ask.get("/v1/events")
    assert (status, [(event["kind"], event["address"], event["by"]) for event in first["events"]]) == (200, [("blocked", DEAD, "test")])
    assert (await ask.get("/v1/events?after=end")) == (200, {"events": [], "next": first["next"]})
    await consult.delivered(LIVE, DEFAULT_SCOPE, by="mailer")
    await consult.block(LIVE, EVERYWHERE, by="olga", reason="asked by phone")
    status, second = await ask.get(f"/v1/events?after={first['next']}")
    assert [(event["kind"], event["address"]) for event in second["events"]] == [("delivered", LIVE), ("blocked", LIVE)]
    assert second["next"] == second["events"][-1]["id"]
    for target in ("/v1/events?after=x", "/v1/events?after=-1", "/v1/events?wait=61", "/v1/events?wait=x"):
        assert (await ask.get(target))[0] == 400


async def test_what_is_forgotten_moves_no_event(ask: Asker, consult: Consult) -> None:
    """After the newest event was forgotten, what comes next is told to who had read so far."""
    await consult.block(LIVE, EVERYWHERE, by="olga", reason="asked by phone")
    _, read = await ask.get("/v1/events")
    await consult.forget(LIVE, by="olga", reason="asked by law")
    await consult.block("next@remote.test", EVERYWHERE, by="olga", reason="asked by phone")
    _, more = await ask.get(f"/v1/events?after={read['next']}")
    assert [event["address"] for event in more["events"]][-1] == "next@remote.test"
    assert LIVE not in json.dumps(more)


async def test_who_waits_for_events_is_told_when_one_comes(ask: Asker, consult: Consult) -> None:
    """A question with `wait` is answered as soon as something happens, not before."""
    waiting = asyncio.create_task(ask.get("/v1/events?after=end&wait=60"))
    done, _ = await asyncio.wait([waiting], timeout=0.6)
    assert not done
    await consult.delivered(LIVE, DEFAULT_SCOPE, by="mailer")
    _, told = await waiting
    assert [event["kind"] for event in told["events"]] == ["delivered"]


async def test_problems_are_those_of_rfc_9457(ask: Asker) -> None:
    """A mistake is told with the title and the number of its status, in one sentence, and with what to do."""
    assert await ask.get("/v1/check?address=joe@x.test&scope=receipts") == (
        400,
        {
            "title": "Bad Request",
            "status": 400,
            "detail": "this scope is not declared in the configuration",
            "hint": "Declare it in return_path.scopes of the configuration, or name one that stands there.",
        },
    )
    assert (await ask.get("/openapi.json")) == (await ask.get("/v1/openapi.json"))


async def test_copies_that_nobody_reads_do_not_fill_the_disk(tmp_path: Path) -> None:
    """Each copy of the database lies on the disk until it was read: while two do, a third is 503, until a reader of theirs goes."""
    store = await SqliteStore.open(tmp_path / "bounced.db", Policy())
    consult = consult_over(store)
    await asyncio.gather(*(consult.block(f"user{number}@remote.test", EVERYWHERE, by="me", reason="x" * 5_000) for number in range(600)))
    async with http_door(consult, tmp_path / "http"):

        async def begun() -> tuple[bytes, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_unix_connection(tmp_path / "http", limit=64)
            writer.write(b"GET /v1/backup HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return (await reader.readline())[9:12], writer

        readers = [await begun() for _ in range(3)]
        assert [status for status, _ in readers] == [b"200", b"200", b"503"]
        readers[0][1].transport.abort()
        status = b"503"
        while status == b"503":
            status, writer = await begun()
            readers.append((status, writer))
        for _, writer in readers:
            writer.transport.abort()
    await store.close()
