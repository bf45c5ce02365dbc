"""Bad days of a postmaster, told through real SMTP and the commands: what goes wrong, what he sees, what he says, and what is then.

A provider that knows nobody for an hour; a blocklist; somebody who forges our name; a person who wants to be forgotten; a policy that is to
be tried out. The past of a daemon, of weeks, is written into its store before it starts.
"""

import asyncio
import itertools
import json
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from bounced.address import AddressKey
from bounced.outcome import Category, Disposition, Outcome
from bounced.policy import Policy
from bounced.record import AnyEvent, Bounced, Delivered, Noticed, Sent
from bounced.scope import DEFAULT_SCOPE
from bounced.store.sqlite import SqliteStore
from tests.system.ask import Mailer
from tests.system.daemon import DOMAIN, Daemon, alive
from tests.system.mail import MAILBOX_FULL, NO_SUCH_USER, Failure, Session, bring, report
from tests.system.waiting import until

DAY = 86_400
GMAIL_KNOWS_NOBODY = Failure("5.1.1", "550-5.1.1 The email account that you tried to reach does not exist. Please try - gsmtp")
ON_A_LIST = Failure(
    "5.7.1", "554 5.7.1 Client host [192.0.2.25] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/192.0.2.25"
)


@contextmanager
def with_past(events: Sequence[AnyEvent]) -> Iterator[Daemon]:
    """Give a daemon that has seen these events in its time."""
    with alive() as daemon:
        assert daemon.stop() == 0

        async def write() -> None:
            store = await SqliteStore.open(daemon.database, Policy())
            for begin in range(0, len(events), 5_000):
                await asyncio.gather(*(store.record(event) for event in events[begin : begin + 5_000]))
            await store.close()

        asyncio.run(write())
        daemon.start()
        yield daemon


def reader(number: int) -> str:
    """Return a reader of ours at Gmail."""
    return f"reader{number}@gmail.com"


def good_days(readers: range, now: int) -> list[AnyEvent]:
    """Return weeks in which mail to these readers arrived, and now and then somebody at Gmail was away."""
    away = Noticed(
        at=now - 20 * DAY, key=AddressKey("away@gmail.com"), scope=DEFAULT_SCOPE, token="a" * 23, signed_at=now - 20 * DAY, what="reply",
        reader="automatic", provider="google",
    )  # fmt: skip
    arrived = [Delivered(at=now - DAY, key=AddressKey(reader(number)), scope=DEFAULT_SCOPE, by="mailer") for number in readers]
    return [away, *arrived]


def soft(key: str, mail: int, at: int) -> Bounced:
    """Return a full mailbox of the past."""
    outcome = Outcome(disposition=Disposition.SOFT, category=Category.MAILBOX_FULL, rule="example")
    token = "b" * 22 + "abcdefgh"[mail]
    return Bounced(at=at, key=AddressKey(key), scope=DEFAULT_SCOPE, token=token, signed_at=at - 60, outcome=outcome, reader="rfc3464")


def dead(key: str, at: int) -> Bounced:
    """Return a death of the past."""
    outcome = Outcome(disposition=Disposition.HARD, category=Category.NO_SUCH_USER, rule="example")
    return replace(soft(key, 0, at), outcome=outcome, provider="google")


def missing(daemon: Daemon, addresses: Sequence[str]) -> list[str]:
    """Return those of the addresses that a mailer may mail."""
    with Mailer(daemon.door("socketmap")) as mailer:
        return mailer.missing(addresses)


def come_back(daemon: Daemon, recipients: Sequence[str], failure: Failure) -> None:
    """Let a mail to each of the recipients come back, by some clients at once."""
    signer, now = daemon.signer(), int(time.time())

    def bring_some(some: Sequence[str]) -> set[int]:
        with Session(daemon.smtp) as session:
            paths = [f"{signer.sign(AddressKey(one), DEFAULT_SCOPE, now - 60).local_part}@{DOMAIN}" for one in some]
            return {session.bring(path, report(one, failure))[0] for one, path in zip(some, paths, strict=True)}

    clients = min(8, len(recipients))
    with ThreadPoolExecutor(clients) as pool:
        codes = set().union(*pool.map(bring_some, [recipients[number::clients] for number in range(clients)]))
    assert codes == {250}


def opened(daemon: Daemon) -> list[str]:
    """Return the lines of the log that tell of a new incident."""
    return [line for line in daemon.log().splitlines() if "incident.opened" in line]


def identity(daemon: Daemon) -> str:
    """Return the id of the only incident."""
    (incident,) = json.loads(daemon.tell("incidents", "--json"))["incidents"]
    return str(incident["id"])


def test_the_day_on_which_gmail_knew_nobody(rounds: Callable[[int, int], int], figure: Callable[[str], None]) -> None:
    """Readers who live (20,000; reduced: 300) are said to be dead: it is told once, nobody is lost, and the truly dead stay blocked."""
    many = rounds(300, 20_000)
    readers = [reader(number) for number in range(many)]
    past = good_days(range(many), int(time.time()))
    past.append(dead("dead-before@gmail.com", int(time.time()) - 5 * DAY))
    with with_past(past) as daemon:
        come_back(daemon, readers, GMAIL_KNOWS_NOBODY)
        come_back(daemon, ["dead-beside@receiver.example"], NO_SUCH_USER)

        (alarm,) = opened(daemon)
        assert "subject=google" in alarm
        before = daemon.log().partition("incident.opened")[0].count("bounce.bounced rcpt=<reader")
        figure(f"the guard opened at bounce {before} of {many}")
        assert before <= 200
        assert missing(daemon, readers) == readers
        truly_dead = ["dead-before@gmail.com", "dead-beside@receiver.example"]
        assert missing(daemon, truly_dead) == []
        which = identity(daemon)
        assert which in daemon.tell("why", readers[0])
        assert daemon.tell("incidents", "show", which).count("reader") >= many

        daemon.tell("incidents", "confirm", which, "--reason", "they say that it is true", patience=120)
        assert missing(daemon, readers) == []
        begun = time.monotonic()
        daemon.tell("incidents", "revert", which, "--reason", "they say that it was their fault", patience=120)
        figure(f"{many} addresses reverted in {time.monotonic() - begun:.1f} s")
        assert missing(daemon, readers) == readers
        assert missing(daemon, truly_dead) == []
        told = daemon.tell("incidents", "show", which)
        assert re.search(r"confirmed by uid .*they say that it is true.*\n.*reverted by uid .*they say that it was their fault", told)


def test_a_day_on_which_strangers_are_dead_is_no_outage() -> None:
    """Control: the same flood about addresses of which nobody knows anything blocks them all."""
    strangers = [reader(number) for number in range(300)]
    with with_past(good_days(range(0), int(time.time()))) as daemon:
        come_back(daemon, strangers, GMAIL_KNOWS_NOBODY)
        assert missing(daemon, strangers) == []
        assert opened(daemon) == []


def test_a_postmaster_holds_what_the_guard_let_pass() -> None:
    """Who hears of an outage only afterwards holds it by hand, and the addresses are clear at once."""
    few = [reader(number) for number in range(5)]
    with with_past(good_days(range(5), int(time.time()))) as daemon:
        come_back(daemon, few, GMAIL_KNOWS_NOBODY)
        assert missing(daemon, few) == []
        assert "google: 5 bounces" in daemon.tell("incidents", "hold", "google", "--since", "1h", "--reason", "they told us")
        assert missing(daemon, few) == few
        daemon.tell("incidents", "revert", identity(daemon))
        assert daemon.run("incidents", "revert", "outage-20200101-aaaaa").returncode == 65
        assert daemon.run("incidents", "hold", "google", "--since", "yesterday").returncode == 65
        misspelt = daemon.run("incidents", "hold", "gooogle")
        assert (misspelt.returncode, "gooogle called nobody dead since" in misspelt.stderr) == (65, True)
        assert "gooogle" not in daemon.tell("incidents")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One daemon for the days below; each has recipients of its own."""
    with alive() as one:
        yield one


def test_a_blocklist_is_told_once_with_its_page(daemon: Daemon) -> None:
    """A hundred refusals for our own address are one line of the log and one incident, with the page of the list; nobody is blocked."""
    readers = [f"reader{number}@listed{number % 7}.example" for number in range(100)]
    come_back(daemon, readers, ON_A_LIST)
    assert missing(daemon, readers) == readers
    (alarm,) = opened(daemon)
    assert "192.0.2.25" in alarm
    shown = daemon.tell("incidents", "show", identity(daemon))
    assert "spamhaus.org/query/ip/192.0.2.25" in shown
    assert "listed3.example" in shown
    assert "Spamhaus" in daemon.tell("stats")


def test_the_list_shows_who_is_blocked_and_why(daemon: Daemon) -> None:
    """`list` names each block with its cause, narrowed by cause, category and stream, as text and as JSON."""
    come_back(daemon, ["list-dead@receiver.example"], NO_SUCH_USER)
    daemon.tell("block", "list-asked@receiver.example", "--scope", "news", "--reason", "by telephone")
    assert "list-dead@receiver.example  hard (no-such-user) since " in daemon.tell("list", "--cause", "hard")
    assert "list-asked" not in daemon.tell("list", "--cause", "no-such-user")
    (block,) = [json.loads(line) for line in daemon.tell("list", "--scope", "news", "--json").splitlines()]
    assert (block["address"], block["cause"]) == ("list-asked@receiver.example", "manual")
    counts = json.loads(daemon.tell("stats", "--json"))
    assert counts["blocks"]["manual"] >= 1
    assert counts["categories"]["no-such-user"] >= 1


def traces(directory: Path, word: bytes) -> list[str]:
    """Name the files of the store that hold a word."""
    return sorted(file.name for file in directory.glob("bounced.db*") if word in file.read_bytes().lower())


def test_a_person_is_forgotten_and_stays_unmailed(daemon: Daemon) -> None:
    """After `forget` no file of the store has the address; mailers hear "suppressed" all the same, until it is released."""
    person = "forget.me@receiver.example"
    come_back(daemon, [person], NO_SUCH_USER)
    assert traces(daemon.home, b"forget.me")
    daemon.tell("forget", person, "--reason", "forget.me@receiver.example wrote to us")
    assert traces(daemon.home, b"forget.me") == []
    assert missing(daemon, [person]) == []
    assert "forgotten: [forgotten] wrote to us; it was hard, no-such-user" in daemon.tell("why", person)
    daemon.stop()
    daemon.start()
    assert missing(daemon, [person]) == []
    assert traces(daemon.home, b"forget.me") == []
    daemon.tell("release", person, "--reason", "he wants our letters again")
    assert missing(daemon, [person]) == [person]


def test_a_policy_is_tried_out_on_the_past(daemon: Daemon, tmp_path: Path) -> None:
    """`replay` names who would be blocked if three soft bounces were enough, and changes nothing; the daemon goes on meanwhile."""
    seconds = itertools.count(int(time.time()) - 3600)
    for _ in range(4):
        path = daemon.sign("replayed@receiver.example", next(seconds))
        assert bring(daemon.smtp, path, [report("replayed@receiver.example", MAILBOX_FULL)])[0][0] == 250
    (tmp_path / "stricter.toml").write_text(f'[return_path]\ndomains = ["{DOMAIN}"]\n[policy]\nsoft_limit = 3\n')
    told = daemon.tell("replay", "--policy", str(tmp_path / "stricter.toml"))
    assert "blocked  replayed@receiver.example  soft (mailbox-full)" in told
    assert re.search(r"^[0-9]+ events of [0-9]+ addresses: 1 blocks more, 0 less$", told, re.MULTILINE)
    *_, sums = (json.loads(line) for line in daemon.tell("replay", "--policy", str(tmp_path / "stricter.toml"), "--json").splitlines())
    assert (sums["blocked"], sums["freed"]) == (1, 0)
    assert missing(daemon, ["replayed@receiver.example"]) == ["replayed@receiver.example"]


def test_who_forges_our_name_is_told_once_with_advice() -> None:
    """A thousand bounces of mail that we never sent are refused, change nobody, and are one alarm with the advice what to publish."""
    with alive() as daemon:
        for sender in range(110):
            with Session(daemon.smtp) as session:
                for number in range(10):
                    reply = session.bring(f"b+{'a' * 23}+victim{sender}={number}.example@{DOMAIN}", b"")
                    assert reply[0] == 550
        until(lambda: opened(daemon), "the alarm", shown=daemon.log)
        assert len(opened(daemon)) == 1
        told = daemon.tell("backscatter")
        assert "strict SPF" in told
        assert "DMARC" in told
        assert re.search(r"forged +[0-9]+  from [0-9]+ networks, most from 127\.", told)
        assert daemon.tell("list") == ""


def test_a_stolen_account_is_told_once_with_advice() -> None:
    """Bounces of spam that left by our server are one alarm that says what to do, and block nobody; of spam that only says so, none."""
    left_here = (
        f"Received: from laptop (dsl.example.net [198.51.100.7]) by {socket.gethostname()} with ESMTPSA; Mon, 1 Jun 2026 10:00:00 +0000"
    )
    elsewhere = "Received: from dsl.example.net ([198.51.100.7]) by mx.receiver.example with ESMTP; Mon, 1 Jun 2026 10:00:01 +0000"
    spam = report("victim@receiver.example", NO_SUCH_USER)
    head = b"From: news@sender.example"

    def returned(*lines: str) -> bytes:
        return spam.replace(head, "".join(f"{line}\r\n" for line in lines).encode() + head, 1)

    with alive() as daemon:
        for content in (returned(elsewhere, left_here), returned(left_here)):
            assert opened(daemon) == []
            for _ in range(25):
                assert bring(daemon.smtp, f"postmaster@{DOMAIN}", [content])[0][0] == 250
        until(lambda: opened(daemon), "the alarm", 60, shown=daemon.log)
        (alarm,) = opened(daemon)
        assert "kind=compromised" in alarm
        shown = daemon.tell("incidents", "show", identity(daemon))
        assert "unsigned mail: 25 bounces" in shown
        assert "change that account's credentials" in shown
        assert "find the messages in the mail log" in shown
        assert daemon.tell("list") == ""


def test_silence_forgives() -> None:
    """Four soft bounces, then a mail of which nothing came back for days: that one arrived, and the next soft bounce is the first again."""
    now = int(time.time())
    forgiven, struck = "quiet@receiver.example", "loud@receiver.example"
    past: list[AnyEvent] = [soft(forgiven, mail, now - (20 - mail) * DAY) for mail in range(4)]
    past += [replace(soft(struck, mail, now - (20 - mail) * DAY), token="c" * 22 + "abcdefgh"[mail]) for mail in range(4)]
    past.append(Sent(at=now - 10 * DAY, key=AddressKey(forgiven), scope=DEFAULT_SCOPE, token="d" * 23))
    with with_past(past) as daemon:
        come_back(daemon, [forgiven, struck], MAILBOX_FULL)
        assert missing(daemon, [forgiven, struck]) == [forgiven]
