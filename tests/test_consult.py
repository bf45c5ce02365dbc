"""One question from the socket to the answer."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bounced.address import AddressError, AddressKey, Mailbox, address_key
from bounced.consult import Consult
from bounced.maildir import Maildir
from bounced.outcome import Category, Disposition, Outcome
from bounced.policy import Policy
from bounced.query import Aside, Check, CheckMany, Clear, Garbled, Sign, SignedPath, Suppressed, Trouble
from bounced.record import AddressRecord, AnyEvent, Bounced, Cause, Sent
from bounced.returnpath import Claims, KeyRing, ReturnPath
from bounced.scope import DEFAULT_SCOPE, EVERYWHERE, Scope
from bounced.store import Recorded, Store, StoreFault
from bounced.store.memory import MemoryStore
from bounced.store.sqlite import SqliteStore

NOW = 1_790_000_000
NEWS = Scope("news")
JOE = AddressKey("joe@example.org")


class BrokenStore(MemoryStore):
    """A store whose every answer is a fault."""

    def look_up(self, key: AddressKey) -> AddressRecord:
        raise StoreFault("the disk is gone")

    def recipient_of(self, opaque_id: str) -> AddressKey | None:
        raise StoreFault("the disk is gone")

    async def intern(self, opaque_id: str, key: AddressKey) -> None:
        raise StoreFault("the disk is gone")


def consult(store: Store | None = None, now: float = NOW + 0.9) -> Consult:
    return_path = ReturnPath(ring=KeyRing(()).rotated(b"k" * 32), scopes=(DEFAULT_SCOPE, NEWS))
    unread = Maildir(Path("nowhere"), quota=1)
    store = store or MemoryStore(Policy())
    return Consult(domain="bounces.example.net", return_path=return_path, store=store, unread=unread, clock=lambda: now)


async def hard(store: Store, address: str) -> None:
    outcome = Outcome(disposition=Disposition.HARD, category=Category.NO_SUCH_USER, rule="r")
    event = Bounced(
        at=NOW,
        key=address_key(address),
        scope=NEWS,
        token="t" * 23,
        signed_at=NOW - 1,
        outcome=outcome,
        reader="rfc3464",
        client="192.0.2.1",
    )
    await store.record(event)


async def test_a_dead_address_is_suppressed_in_every_stream_and_every_spelling() -> None:
    """After a hard bounce in one stream a check in another says suppressed, whatever the case of the address, and why and since when."""
    store = MemoryStore(Policy())
    await hard(store, "joe@example.org")

    for spelling in ("joe@example.org", "JOE@Example.ORG", '"joe"@example.org'):
        assert consult(store).check(Check(spelling, DEFAULT_SCOPE)) == Suppressed(
            "recipient is on the suppression list (hard, no-such-user, 2026-09-21)"
        )
    assert consult(store).check(Check("jo@example.org", DEFAULT_SCOPE)) == Clear()


@pytest.mark.parametrize("local_part", ["john smith", 'john "jr" smith', "a@b", "john\\smith", "john,smith"])
async def test_a_mailbox_without_its_quotes_is_the_same(local_part: str) -> None:
    """Postfix and Exim ask for the local part as it is inside, without quotes and escapes: it is neither another mailbox nor none."""
    key = Mailbox(local_part, "example.org").key
    store = MemoryStore(Policy())
    await hard(store, key)

    for written in (f"{local_part}@example.org", f"{local_part.upper()}@Example.ORG", key):
        assert isinstance(consult(store).check(Check(written, DEFAULT_SCOPE)), Suppressed), written
        assert isinstance(await consult(store).sign(Sign(written, DEFAULT_SCOPE)), SignedPath), written


def test_what_is_no_address_is_clear() -> None:
    """A text that is no mailbox cannot be on the list; whether to mail it is the mailer's question."""
    assert consult().check(Check("no address", DEFAULT_SCOPE)) == Clear()


_LOCAL_PARTS = st.sampled_from(
    ["joe", "JOE", '"joe"', "joe.", "j@e", "o'neil", "jo smith", "", "jo\udc80", "jös", "stranger", "#joe", "a" * 400]
)
_DOMAINS = st.sampled_from(["example.org", "Example.ORG", "example.org.", "bücher.example", "", "x,y", "example.org\r", "b@example.org"])


@settings(max_examples=25)
@pytest.mark.parametrize("forgotten", [False, True])
@given(asked=st.lists(st.builds("{}@{}".format, _LOCAL_PARTS, _DOMAINS) | st.just("no address"), max_size=8))
def test_many_are_answered_as_one_by_one(forgotten: bool, asked: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever stands in the lines, each gets the answer that it gets alone, in every stream, with and without somebody forgotten."""

    async def run(directory: Path) -> None:
        store = await SqliteStore.open(directory / "bounced.db", Policy())
        door = consult(store)
        for known in ("joe@example.org", "j@e@example.org", "joe.@example.org", "o'neil@example.org", "jös@example.org"):
            await hard(store, Mailbox(*known.rsplit("@", 1)).key)
        await store._read_known(store._connection)
        if forgotten:
            await door.forget("joe@example.org", by="test", reason="asked")
        octets = "".join(f"{one}\n" for one in asked).encode("utf-8", "surrogateescape")
        for scope in (NEWS, Scope("undeclared")):
            alone = [door.check(Check(one.removesuffix("\r"), scope)) for one in asked]
            answers = door.check_many(CheckMany(octets, scope))
            assert [answers.others.get(place, Clear()) for place in range(answers.count)] == alone
        await store.close()

    asyncio.run(run(tmp_path_factory.mktemp("store")))


async def test_trouble_is_never_clear() -> None:
    """A store that fails and a stream that is not declared are both answered "cannot tell", at asking as at signing."""
    broken = consult(BrokenStore(Policy()))
    long = "a" * 50 + "@example.org"

    answers = [
        broken.check(Check("joe@example.org", DEFAULT_SCOPE)),
        await broken.sign(Sign(long, DEFAULT_SCOPE)),
        consult().check(Check("joe@example.org", Scope("undeclared"))),
        await consult().sign(Sign("joe@example.org", Scope("undeclared"))),
        await consult().sign(Sign("no address", DEFAULT_SCOPE)),
    ]

    assert [type(answer) for answer in answers] == [Trouble] * 5
    assert not broken.healthy()
    assert consult().healthy()


async def test_before_the_clock_is_set_nothing_is_signed() -> None:
    """A return path of 1970 would be refused when its bounce comes: the mailer is told to come again."""
    assert isinstance(await consult(now=86_400).sign(Sign("joe@example.org", NEWS)), Trouble)


async def test_a_signed_path_proves_itself() -> None:
    """A signed path, short or opaque, verifies to its recipient and stream as soon as it was handed out."""
    asked = consult()
    for address in ("Joe@Example.org", "a" * 50 + "@example.org"):
        answer = await asked.sign(Sign(address, NEWS))
        assert isinstance(answer, SignedPath)
        local_part, _, domain = answer.return_path.partition("@")
        claims = asked.verify(local_part)

        assert domain == "bounces.example.net"
        assert len(local_part) <= 64
        assert isinstance(claims, Claims)
        assert (claims.recipient, claims.scope, claims.signed_at) == (address_key(address), NEWS, NOW)


async def test_each_kind_of_question_gets_its_answer() -> None:
    """Check and Sign are answered, an aside is let pass, and octets that are no request are trouble."""
    asked = consult()

    assert await asked.answer(Check("joe@example.org", DEFAULT_SCOPE)) == Clear()
    assert isinstance(await asked.answer(Sign("joe@example.org", DEFAULT_SCOPE)), SignedPath)
    assert await asked.answer(Aside()) == Clear()
    assert await asked.answer(Garbled("no netstring")) == Trouble("no netstring")


async def test_a_person_blocks_and_releases() -> None:
    """A block by hand suppresses at once, a release lifts it, and the history tells both with who and why."""
    asked = consult()
    await asked.block("joe@example.org", EVERYWHERE, by="root", reason="he asked")
    assert isinstance(asked.check(Check("joe@example.org", NEWS)), Suppressed)

    await asked.release("joe@example.org", by="root", reason="he asked again")

    record, events = asked.why("joe@example.org")
    assert asked.check(Check("joe@example.org", NEWS)) == Clear()
    assert record.block(NEWS, NOW) is None
    assert [(type(event).__name__, getattr(event, "reason", "")) for event in events] == [
        ("Blocked", "he asked"),
        ("Released", "he asked again"),
    ]


async def test_a_told_delivery_ends_a_run_of_strikes() -> None:
    """When a mailer tells that a mail arrived, the count of soft bounces in a row begins anew."""
    store = MemoryStore(Policy(soft_limit=2))
    asked = consult(store)
    soft = Outcome(disposition=Disposition.SOFT, category=Category.MAILBOX_FULL, rule="r")
    key = address_key("joe@example.org")

    def strike(token: str, signed_at: int) -> Bounced:
        return Bounced(at=NOW + 9, key=key, scope=NEWS, token=token * 23, signed_at=signed_at, outcome=soft, reader="r", client="")

    await store.record(strike("a", NOW - 1))
    await asked.delivered("joe@example.org", NEWS, by="mailer")
    await store.record(strike("b", NOW + 1))
    assert asked.check(Check("joe@example.org", NEWS)) == Clear()

    await store.record(strike("c", NOW + 2))
    assert asked.why("joe@example.org")[0].standing(EVERYWHERE).cause is Cause.SOFT


async def test_a_delivery_told_by_its_return_path_is_of_one_mail() -> None:
    """It takes back what was sent before that mail and came back soft, and not what was sent after it; told twice, it counts once."""
    store = MemoryStore(Policy())
    asked = consult(store)
    for signed_at, token in ((NOW - 90, "a"), (NOW - 30, "b"), (NOW - 20, "c")):
        await store.record(soft_bounce(token, signed_at))
    path = asked._return_path.sign(JOE, NEWS, NOW - 60).local_part
    assert (await asked.delivered(f"{path}@bounces.example.net", DEFAULT_SCOPE, by="mailer")).fresh
    assert store.look_up(JOE).standing(EVERYWHERE).struck == (NOW - 30, NOW - 20)
    assert not (await asked.delivered(f"{path.upper()}@bounces.example.net", DEFAULT_SCOPE, by="mailer")).fresh
    assert (store.history(JOE)[-1].scope, store.look_up(JOE).delivered_at) == (NEWS, NOW - 60)


@pytest.mark.parametrize("altered", ["b+{seal}x+{rest}", "b+{seal}+{rest}x", "bounces"])
async def test_a_delivery_by_a_false_return_path_is_refused(altered: str) -> None:
    """Control: a return path that proves nothing is no recipient either, and says so."""
    store = MemoryStore(Policy())
    asked = consult(store)
    _, seal, rest = asked._return_path.sign(JOE, NEWS, NOW - 60).local_part.split("+")
    with pytest.raises(AddressError, match=r"proves nothing: (foreign|forged)"):
        await asked.delivered(altered.format(seal=seal, rest=rest) + "@Bounces.example.net", NEWS, by="mailer")
    assert list(store.standings()) == []


@pytest.mark.parametrize("text", ["", "joe", "joe@", "\r\n@x"])
async def test_what_is_no_address_cannot_be_blocked(text: str) -> None:
    """Words about something that is no mailbox raise AddressError and change nothing."""
    with pytest.raises(ValueError):
        await consult().block(text, EVERYWHERE, by="root", reason="")


def soft_bounce(token: str, signed_at: int) -> Bounced:
    """Make a soft bounce of Joe's mail signed at a time."""
    outcome = Outcome(disposition=Disposition.SOFT, category=Category.MAILBOX_FULL, rule="r")
    return Bounced(
        at=NOW - 5, key=address_key("joe@example.org"), scope=NEWS, token=token * 23, signed_at=signed_at, outcome=outcome, reader="r"
    )


async def test_a_signing_for_an_address_with_strikes_is_remembered() -> None:
    """A path signed for an address with strikes is written down with its token; one for a clear address, or a mere question, is not."""
    store = MemoryStore(Policy())
    asked = consult(store)
    await store.record(soft_bounce("a", NOW - 90))

    answer = await asked.sign(Sign("Joe@example.org", NEWS))
    await asked.sign(Sign("ann@example.org", NEWS))
    asked.check(Check("joe@example.org", NEWS))
    await asked.drain()
    await asked.drain()

    assert isinstance(answer, SignedPath)
    events = store.history(address_key("joe@example.org"))
    assert [type(event) for event in events] == [Bounced, Sent]
    assert isinstance(events[1], Sent)
    assert (events[1].at, events[1].scope, events[1].token) == (NOW, NEWS, answer.return_path[2:25])
    assert store.history(address_key("ann@example.org")) == ()


async def test_many_signings_at_once_are_one_word() -> None:
    """While one signing is being written down for an address, others of it are not, and each is answered."""
    store = MemoryStore(Policy())
    asked = consult(store)
    await store.record(soft_bounce("a", NOW - 90))

    answers = await asyncio.gather(*(asked.sign(Sign("joe@example.org", scope)) for scope in (NEWS, DEFAULT_SCOPE) for _ in range(5)))
    await asked.drain()

    assert all(isinstance(answer, SignedPath) for answer in answers)
    assert len(store.history(address_key("joe@example.org"))) == 2


async def test_a_lost_word_costs_nobody_an_answer() -> None:
    """Where the store cannot tell or write that a mail is on its way, the path is signed all the same."""

    class FullStore(MemoryStore):
        async def record(self, event: AnyEvent) -> Recorded:
            if isinstance(event, Sent):
                raise StoreFault("the disk is full")
            return await super().record(event)

    full = FullStore(Policy())
    await full.record(soft_bounce("a", NOW - 90))
    asked = consult(full)

    assert isinstance(await asked.sign(Sign("joe@example.org", NEWS)), SignedPath)
    await asked.drain()
    assert isinstance(await consult(BrokenStore(Policy())).sign(Sign("joe@example.org", NEWS)), SignedPath)
    assert len(full.history(address_key("joe@example.org"))) == 1
