"""What strangers try with bounces, at the counts that they would: replays, names of others, answers that are none, floods, late copies.

Full counts with BOUNCED_ACCEPTANCE=1, otherwise reduced. Each runs through the whole of intake, from the return path to the store.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from bounced import alarm
from bounced.address import AddressKey
from bounced.consult import Consult
from bounced.incident import Incident, Kind
from bounced.intake import LocalMailbox
from bounced.maildir import Maildir
from bounced.policy import Policy
from bounced.record import Bounced, Cause, Released
from bounced.returnpath import Claims, Refusal
from bounced.scope import DEFAULT_SCOPE, EVERYWHERE, Scope
from bounced.store import Tally
from bounced.store.memory import MemoryStore
from bounced.trust import FeedbackMailbox, Trust
from tests.system.mail import DELAYED, DELIVERED, MAILBOX_FULL, NO_SUCH_USER, Failure, complaint, report, vacation
from tests.test_intake import JOE, NEWS, NOW, House, dsn, envelope, recipient

STRANGERS = [f"stranger{number}@example.org" for number in range(100)]


@pytest.fixture
def house(tmp_path: Path) -> House:
    """An intake over an empty store."""
    return House(tmp_path, trust=Trust(feedback=frozenset({"fbl"})))


async def bring(house: House, forward_path: str, content: bytes, client: str = "192.0.2.7") -> None:
    """Let one returned mail in, from some client."""
    claims = house.admit(forward_path, client)
    assert isinstance(claims, Claims)
    await house.intake.accept(envelope(forward_path, client), claims, content)


def known(house: House) -> set[str]:
    """All addresses of which the store knows anything."""
    return {key for key, _ in house.store.standings(None, 1_000_000)}


async def test_a_replayed_token_counts_once(house: House, full_counts: bool) -> None:
    """100,000 bounces (reduced: 2,000) on one token, with other words and from other places, leave the state of the first."""
    chance, path = random.Random(2), house.signed()
    await bring(house, path, report(JOE, MAILBOX_FULL))
    after_first = house.store.look_up(AddressKey(JOE)), house.store.history(AddressKey(JOE))
    times = 100_000 if full_counts else 2_000
    for number in range(times):
        failure = replace(MAILBOX_FULL, reply=f"552 5.2.2 mailbox full {chance.random()}")
        await bring(house, path, report(JOE, failure), f"198.51.{number % 250}.{number // 250 % 250}")
    assert (house.store.look_up(AddressKey(JOE)), house.store.history(AddressKey(JOE))) == after_first
    assert after_first[0].standing(EVERYWHERE).strikes == 1
    assert house.cause() is None
    assert sum(house.store.tallies().values()) == times


async def test_five_tokens_do_block(house: House) -> None:
    """Control: five mails that come back so are five strikes."""
    for number in range(5):
        await bring(house, house.signed(at=NOW - 60 - number), report(JOE, MAILBOX_FULL))
    assert house.cause() is Cause.SOFT


def naming_strangers(house: House) -> Iterator[bytes]:
    """Reports that come to Joe's token and name a hundred others, in every place where a report names somebody."""
    dead = "550 5.1.1 User unknown"
    yield dsn(*(recipient(stranger, "5.1.1", dead) for stranger in STRANGERS))
    yield dsn(*(f"Original-Recipient: rfc822; {stranger}\n{recipient(JOE, '5.1.1', dead)}" for stranger in STRANGERS))
    for stranger in STRANGERS:
        yield report(stranger, NO_SUCH_USER)
        yield dsn(f"Original-Recipient: rfc822; {stranger}\n" + recipient(stranger, "5.1.1", dead))
        token = house.signed(stranger)
        yield dsn(recipient(JOE, "5.1.1", f"550 5.1.1 {token} unknown"))
        yield report(JOE, Failure("5.1.1", f"550 5.1.1 <{stranger}>: {token}"), sender=token)
        nested = report(stranger, NO_SUCH_USER).replace(b"=_part", b"=_inner")
        yield report(JOE, MAILBOX_FULL).replace(b"From: news@sender.example\r\n", b"From: news@sender.example\r\n\r\n" + nested, 1)


async def test_a_token_speaks_of_its_recipient_alone(house: House) -> None:
    """Whomever a report names, in fields, text, a second token or a report within: of a hundred strangers none is ever known."""
    for number, content in enumerate(naming_strangers(house)):
        await bring(house, house.signed(at=NOW - 60 - number), content)
    assert known(house) == {JOE}


async def test_a_stranger_with_a_token_of_his_own_is_known(house: House) -> None:
    """Control: the same report on the stranger's own token is his."""
    await bring(house, house.signed(STRANGERS[0]), report(STRANGERS[0], NO_SUCH_USER))
    assert known(house) == {STRANGERS[0]}


async def test_a_forwarded_mail_is_its_recipients(house: House) -> None:
    """Where Joe's mail goes on to somebody else and fails there, Joe has the bounce, and the other one is evidence and never a record."""
    await bring(house, house.signed(), report("joes-other@elsewhere.example", NO_SUCH_USER))
    assert known(house) == {JOE}
    (event,) = house.store.history(AddressKey(JOE))
    assert isinstance(event, Bounced)
    assert event.final_recipient == "joes-other@elsewhere.example"


def read_receipt(address: str) -> bytes:
    """Return a message disposition notification (RFC 8098)."""
    return (
        f"From: {address}\r\nSubject: Read: News\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=disposition-notification; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nYour message was displayed.\r\n"
        f"--b\r\nContent-Type: message/disposition-notification\r\n\r\nFinal-Recipient: rfc822; {address}\r\n"
        "Disposition: manual-action/MDN-sent-manually; displayed\r\n\r\n--b--\r\n"
    ).encode()


def answer(address: str, subject: str, words: str, *fields: str) -> bytes:
    """Return a mail that somebody, or some program, wrote to the return path."""
    lines = (f"From: {address}", "To: news@sender.example", f"Subject: {subject}", *fields)
    return ("\r\n".join(lines) + f"\r\n\r\n{words}\r\n").encode()


_AUTO = "Auto-Submitted: auto-replied"
_AWAY = [
    "Out of office",
    "Abwesenheitsnotiz",
    "R\u00e9ponse automatique",
    "Fuera de la oficina",
    "Automatische Antwort",
    "Risposta automatica",
    "Auto",
    "Holiday",
]
_WORDS = [
    "I am away until Monday. In urgent cases call 550 5110.",
    "Ich bin nicht im Haus. Mein Postfach ist voll.",
    "This mailbox is no longer monitored by me, please write to my colleague.",
    "The user unknown to you thanks for the mail.",
]
_LISTS = ["List-Id: <friends.lists.example>", "Precedence: list", "List-Post: <mailto:friends@lists.example>"]


def no_bounces() -> Iterator[bytes]:
    """More than three hundred mails that come to return paths and say nothing against an address."""
    for action in ("delayed", "relayed", "expanded", "delivered"):
        for status in ("2.0.0", "4.4.1", "4.2.2", "4.7.1", "5.1.1", "5.2.2"):
            for reply in ("250 2.0.0 OK", "451 4.7.1 Greylisted", "550 5.1.1 User unknown", "552 5.2.2 Mailbox full"):
                yield report(JOE, Failure(status, reply, action=action))
    for words in _WORDS:
        for subject in _AWAY:
            for field in (_AUTO, "X-Autoreply: yes", "Precedence: bulk\r\nAuto-Submitted: auto-generated", "X-Autorespond: on"):
                yield answer(JOE, f"{subject}: News", words, field)
        for subject in ("Please confirm your message", "Challenge: are you human?", "[verify] Re: News"):
            for field in (_AUTO, "X-Challenge: yes", "Precedence: junk"):
                yield answer(JOE, subject, f"{words} Reply to prove that you are a person.", field)
        for field in _LISTS:
            for subject in (
                "[friends] Lunch",
                "Re: [friends] Mail delivery failed yesterday",
                "Digest 12",
                "Undeliverable mail, what now?",
            ):
                yield answer("friends@lists.example", subject, words, field)
    yield read_receipt(JOE)
    yield vacation(JOE)
    yield report(JOE, DELAYED)
    yield report(JOE, DELIVERED)


async def test_what_is_no_bounce_is_no_strike(house: House) -> None:
    """Hundreds of notices, answers, challenges, receipts and posts, each on a token of its own, are no strike and no block."""
    many = list(no_bounces())
    assert len(many) >= 300
    for number, content in enumerate(many):
        await bring(house, house.signed(at=NOW - 60 - number), content)
        standing = house.store.look_up(AddressKey(JOE)).standing(EVERYWHERE)
        assert (standing.strikes, standing.cause) == (0, None), content.decode()


async def test_a_flood_of_backscatter_is_one_alarm(house: House, full_counts: bool) -> None:
    """50,000 bounces of forged mail (reduced: 5,000) are refused before their content, change nobody, and are told once."""
    chance = random.Random(7)
    for number in range(50_000 if full_counts else 5_000):
        seal = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz234567", k=23))
        path = f"b+{seal}+{number}=example.org@bounces.example.net" if number % 2 else f"info{number}@bounces.example.net"
        assert house.admit(path, f"203.0.{number % 200}.9") in {Refusal.FORGED, Refusal.UNKNOWN_KEY, Refusal.FOREIGN}
        if number % 1_000 == 999:
            await house.intake.flush()
    turned = [incident for minute in range(30) for incident in await house.store.settle(NOW + 60 * minute)]
    assert [(incident.kind, incident.closed_at) for incident in turned] == [(Kind.BACKSCATTER, None)]
    assert known(house) == set()


async def test_a_usual_day_is_no_alarm(house: House) -> None:
    """Control: some hundred refusals, as every day brings them, open nothing."""
    await house.store.count({Tally("2026-09-21", "forged", "203.0.113.0/24"): 400})
    assert await house.store.settle(NOW) == ()


def returned(sender: str, *received: str, feedback: bool = False) -> bytes:
    """Return a report, a bounce or a complaint, of a mail with these Received lines and this envelope sender."""
    trace = "".join(f"Received: {line}; Mon, 21 Sep 2026 10:00:00 +0000\r\n" for line in received)
    path = f"Return-Path: <{sender}>\r\n" if sender else ""
    content = complaint("ann@example.org") if feedback else report("ann@example.org", NO_SUCH_USER)
    start = b"From: <news@sender.example>" if feedback else b"From: news@sender.example"
    assert start in content
    return content.replace(start, path.encode() + trace.encode() + start, 1)


HERE = "from laptop (dsl.example.com [8.8.4.4]) by mail.example.net (Postfix) with ESMTPSA id 4X"
THERE = "from mail.example.net (mail.example.net [9.9.9.9]) by mx.example.org with ESMTPS id 5Y"
ELSEWHERE = "from mail.example.net (dsl.example.com [8.8.4.4]) by mx.example.org with ESMTP id 6Z"


async def keep(house: House, content: bytes, clients: Sequence[str], mailbox: str = "postmaster") -> list[Incident]:
    """Let reports come in for people, one by each client; return what was told then and in the next minutes."""
    for client in clients:
        envelope_ = envelope(f"{mailbox}@bounces.example.net", client)
        admission = house.intake.admit(envelope_)
        assert isinstance(admission, LocalMailbox | FeedbackMailbox)
        await house.intake.accept(envelope_, admission, content)
    await house.intake.flush()
    return [incident for minute in range(5) for incident in await house.store.settle(NOW + 60 * minute)]


NETWORKS = [f"9.9.{number}.9" for number in range(40)]


@pytest.mark.parametrize(
    ("content", "mailbox"),
    [
        (returned("joe@example.net", HERE), "postmaster"),
        (returned("joe@example.net", THERE, HERE), "abuse"),
        (returned("", HERE), "postmaster"),
        (returned("joe@example.net", THERE, HERE, feedback=True), "fbl"),
        (returned(f"b+{'a' * 23}+ann=example.org@bounces.example.net", HERE), "FBL"),
    ],
)
async def test_mail_that_left_here_unannounced_is_one_alarm(house: House, content: bytes, mailbox: str) -> None:
    """Twenty reports of mail that went through our servers without a token, from many networks: told once, with advice, changing nobody."""
    (incident,) = await keep(house, content, NETWORKS, mailbox)
    assert (incident.kind, incident.subject, incident.count) == (Kind.COMPROMISED, "unsigned mail", 40)
    with capture_logs() as lines:
        alarm.tell([incident])
    assert [(line["event"], "credentials" in str(line["advice"])) for line in lines] == [("incident.opened", True)]
    assert known(house) == set()


async def test_one_network_alone_raises_no_alarm(house: House) -> None:
    """A hundred such reports from three networks of the Internet are fifteen; a server of ours may bring what many sent."""
    assert await keep(house, returned("joe@example.net", HERE), [f"9.9.{number % 3}.{number}" for number in range(100)]) == []
    assert [incident.count for incident in await keep(house, returned("joe@example.net", HERE), ["local"] * 5)] == [20]


def innocent(house: House) -> Iterator[bytes]:
    """Reports from which nobody may conclude that an account was stolen."""
    yield returned("joe@example.net", ELSEWHERE)
    yield returned("joe@example.net", ELSEWHERE, HERE)
    yield returned(house.signed(), HERE)
    yield returned(house.signed(at=NOW - 40 * 86_400), THERE, HERE)
    yield returned("", THERE, HERE, feedback=True)
    yield report("ann@example.org", NO_SUCH_USER)
    yield answer("ann@example.org", "Hello", HERE)


async def test_what_is_forged_or_announced_is_no_alarm(house: House) -> None:
    """Control: mail from elsewhere with lines like ours below, mail with a token, a complaint without return path, a letter: no alarm."""
    for content in innocent(house):
        assert await keep(house, content, NETWORKS) == []


async def test_far_more_bounces_of_signed_mail_than_ever_are_one_alarm(house: House) -> None:
    """A thousand mails that come back on a day, each on a token of its own, after weeks of a few, are told once; replays count nothing."""
    days = [datetime.fromtimestamp(NOW - 86_400 * before, UTC).date().isoformat() for before in range(1, 36)]
    await house.store.count({Tally(day, "genuine", ""): 40 for day in days})
    for number in range(999):
        await bring(house, house.signed(f"user{number}@example.org"), report(f"user{number}@example.org", NO_SUCH_USER))
        if number < 300:
            await bring(house, house.signed(f"user{number}@example.org"), report(f"user{number}@example.org", NO_SUCH_USER))
    await house.intake.flush()
    assert await house.store.settle(NOW) == ()
    await bring(house, house.signed(), report(JOE, NO_SUCH_USER))
    await house.intake.flush()
    turned = [incident for minute in range(30) for incident in await house.store.settle(NOW + 60 * minute)]
    assert [(incident.kind, incident.subject, incident.count) for incident in turned] == [(Kind.COMPROMISED, "signed mail", 1_000)]


async def test_after_a_release_late_copies_never_block(house: House, full_counts: bool) -> None:
    """Of 1,000 mails sent before the release (reduced: 200) each comes back as dead, twice, and as a complaint: nothing blocks again."""
    mails = range(1_000 if full_counts else 200)
    paths = [house.signed(scope=scope, at=NOW - 60 - number) for number in mails for scope in (DEFAULT_SCOPE, NEWS)]
    await bring(house, paths[0], report(JOE, NO_SUCH_USER))
    assert house.cause() is Cause.HARD
    await house.store.record(released())
    for path in paths:
        for content in (report(JOE, MAILBOX_FULL), report(JOE, NO_SUCH_USER), report(JOE, NO_SUCH_USER), complaint(JOE)):
            await bring(house, path, content)
    assert [house.cause(scope=scope) for scope in (DEFAULT_SCOPE, NEWS)] == [None, None]


async def test_mail_sent_after_the_release_may_block(house: House) -> None:
    """Control: what was signed later is judged like any other."""
    await house.store.record(structs.replace(released(), at=NOW - 3600))
    await bring(house, house.signed(at=NOW - 60), report(JOE, NO_SUCH_USER))
    assert house.cause() is Cause.HARD


async def forget(house: House) -> None:
    """Erase Joe, as the command does."""
    consult = Consult(
        domain="bounces.example.net",
        return_path=house.return_path,
        store=house.store,
        unread=Maildir(house.kept / "unread", 1 << 20),
        clock=lambda: NOW + 60,
    )
    await consult.forget(JOE, by="olga", reason="he wants it")


@pytest.mark.parametrize("scope", [EVERYWHERE, NEWS])
async def test_a_release_outlives_the_erasure(house: House, scope: Scope) -> None:
    """Dead, released, forgotten: a replay of the old token, and what comes back of other mail sent before, block and name nobody."""
    path = house.signed(scope=NEWS)
    await bring(house, path, complaint(JOE) if scope == NEWS else report(JOE, NO_SUCH_USER))
    await house.store.record(structs.replace(released(), scope=scope))
    await forget(house)
    for late in (path, house.signed(scope=NEWS, at=NOW - 90), house.signed(scope=NEWS, at=NOW)):
        for content in (report(JOE, MAILBOX_FULL), report(JOE, NO_SUCH_USER), complaint(JOE)) if scope == EVERYWHERE else (complaint(JOE),):
            await bring(house, late, content)
    assert house.cause(scope=NEWS) is None
    assert JOE not in known(house)
    await house.intake.flush()
    assert sum(times for tally, times in house.store.tallies().items() if tally.what == "replayed") == (9 if scope == EVERYWHERE else 3)


async def test_after_the_erasure_new_mail_is_judged(house: House) -> None:
    """Control: mail signed after the release is judged, also of a forgotten address; and an erasure without a release keeps no moment."""
    await house.store.record(structs.replace(released(), at=NOW - 3600))
    await forget(house)
    await bring(house, house.signed(at=NOW - 60), report(JOE, NO_SUCH_USER))
    assert house.cause() is Cause.HARD
    await forget(house)
    await bring(house, house.signed(at=NOW - 50), complaint(JOE))
    assert house.cause() is Cause.COMPLAINT


async def test_who_was_never_blocked_leaves_nothing_behind(house: House) -> None:
    """An erased address that was neither blocked nor released has no pseudonym."""
    await bring(house, house.signed(), report(JOE, MAILBOX_FULL))
    await forget(house)
    assert known(house) == set()


def released() -> Released:
    """Return a person's release."""
    return Released(at=NOW, key=AddressKey(JOE), scope=EVERYWHERE, by="olga", reason="she says it works")


async def test_complaints_obey_the_token(house: House) -> None:
    """A complaint that names others counts for the recipient of its token, once, in its stream, and nowhere without a token."""
    path = house.signed(scope=NEWS)
    for stranger in STRANGERS:
        await bring(house, path, complaint(stranger))
    assert known(house) == {JOE}
    assert (house.cause(scope=NEWS), house.cause()) == (Cause.COMPLAINT, None)
    assert len(house.store.history(AddressKey(JOE))) == 1
    assert house.admit("reports@bounces.example.net") is Refusal.FOREIGN


async def test_a_stream_may_pass_complaints(tmp_path: Path) -> None:
    """Where the operator lets a stream pass complaints, it goes on; a dead mailbox stops it all the same."""
    house = House(tmp_path, MemoryStore(Policy(pass_complaints=frozenset({NEWS}))))
    await bring(house, house.signed(scope=NEWS), complaint(JOE))
    assert house.cause(scope=NEWS) is None
    await bring(house, house.signed(scope=NEWS, at=NOW - 50), report(JOE, NO_SUCH_USER))
    assert house.cause(scope=NEWS) is Cause.HARD
