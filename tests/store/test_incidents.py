"""What lies beyond one address, asked of every store: outages are held, ruled on as a whole and exactly; incidents open once and close."""

import asyncio
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from bounced.address import AddressKey
from bounced.incident import MORE, MOST_REFUSED, QUIET, Kind, Ruling
from bounced.outcome import Blocker, Disposition
from bounced.policy import Policy, fold
from bounced.record import AnyEvent, Bounced, Cause, Confirmed, Reverted
from bounced.scope import EVERYWHERE
from bounced.store import NoSuchIncident, Store, StoreFault, Tally, incidents
from bounced.store.sqlite import SqliteStore
from tests.store.events import ANNA, BERT, NEWS, NOON, blocked, bounced, complained, delivered, noticed

DAY = 86_400
HOUR = 3_600


def user(number: int) -> AddressKey:
    """Return an address."""
    return AddressKey(f"user{number}@gmail.com")


def dead(mail: int, key: AddressKey, at: int = NOON, provider: str = "google") -> Bounced:
    """Return a hard bounce."""
    return replace(
        bounced(mail, Disposition.HARD, key, at),
        provider=provider,
        outcome=replace(bounced(mail, Disposition.HARD).outcome, blocker=None),
    )


async def known(store: Store, numbers: range) -> None:
    """Let the guard know the provider for long, and the addresses as living."""
    await store.record(replace(noticed(1_000_000, AddressKey("old@gmail.com"), NOON - 15 * DAY), provider="google"))
    for number in numbers:
        await store.record(delivered(user(number), NOON - DAY))


async def outage(store: Store, numbers: range, at: int = NOON) -> str:
    """Let an outage come over known addresses, two a second; return its incident."""
    await known(store, numbers)
    for number in numbers:
        await store.record(dead(number, user(number), at + number // 2))
    (incident,) = [one for one in store.incidents() if one.kind is Kind.OUTAGE]
    return incident.id


def clear(store: Store, numbers: range, at: int = NOON + 9 * DAY) -> list[int]:
    """Return the numbers of the addresses that are not blocked."""
    return [number for number in numbers if store.look_up(user(number)).block(NEWS, at) is None]


async def test_an_outage_is_held_from_its_beginning(store: Store) -> None:
    """When the guard opens it holds what comes, and what had blocked since the outage began; it is told once, and counted."""
    await known(store, range(60))
    answers = [await store.record(dead(number, user(number), NOON + number)) for number in range(60)]
    turned = [answer.turned for answer in answers if answer.turned]
    assert [[(one.kind, one.subject, one.closed_at) for one in some] for some in turned] == [[(Kind.OUTAGE, "google", None)]]
    (incident,) = store.incidents()
    first = next(place for place, answer in enumerate(answers) if answer.held)
    assert 30 <= first + 1 <= 40
    assert all(answer.after.block(NEWS, NOON) for answer in answers[:first])
    assert {answer.held for answer in answers[first:]} == {incident.id}
    assert clear(store, range(60)) == list(range(60))
    assert (incident.count, incident.domains, incident.sample) == (
        60,
        ("gmail.com",),
        dead(0, ANNA).outcome.diagnostic,
    )
    assert list(store.held_by(incident.id)) == sorted(user(number) for number in range(60))
    assert list(store.held_by(incident.id, user(1), 2)) == [user(20), user(21)]


async def test_a_record_stays_the_fold_of_its_history(store: Store) -> None:
    """Held, confirmed and reverted, each record is what its history adds up to, and the history tells who said so and why."""
    incident = await outage(store, range(50))

    def folded() -> bool:
        return all(store.look_up(user(number)) == fold(user(number), store.history(user(number)), Policy()) for number in range(50))

    assert folded()
    assert all(isinstance(event, Bounced) and event.held == incident for event in (store.history(user(number))[-1] for number in range(50)))
    assert await store.rule(incident, Ruling.CONFIRMED, at=NOON + HOUR, by="olga", reason="they are gone") == 50
    assert folded()
    assert clear(store, range(50)) == []
    assert await store.rule(incident, Ruling.REVERTED, at=NOON + 2 * HOUR, by="olga", reason="they are not") == 50
    assert folded()
    assert clear(store, range(50)) == list(range(50))
    said = [(type(event), event.reason, event.by) for event in store.history(user(7)) if isinstance(event, Confirmed | Reverted)]
    assert said == [(Confirmed, "they are gone", "olga"), (Reverted, "they are not", "olga")]
    (ruled,) = store.incidents()
    assert (ruled.ruling, ruled.ruled_at, ruled.by, ruled.reason) == (Ruling.REVERTED, NOON + 2 * HOUR, "olga", "they are not")


async def test_a_revert_touches_no_genuine_block(store: Store) -> None:
    """What blocked before the outage, beside it and after it stays blocked, as it was."""
    await known(store, range(0))
    before, beside, after, person, angry = (user(1_000 + number) for number in range(5))
    for mail, key, at in ((5_000, before, NOON - 5 * HOUR), (5_001, angry, NOON - 4 * HOUR)):
        await store.record(dead(mail, key, at) if key is before else complained(mail, key, at))
    incident = await outage(store, range(50))
    await store.record(dead(5_002, beside, NOON + 60, "example.com"))
    await store.record(dead(5_003, angry, NOON + 61))
    await store.record(dead(5_004, person, NOON + 62))
    await store.record(blocked(person, EVERYWHERE, NOON + 63))
    assert [one.closed_at for one in await store.settle(NOON + 3 * HOUR)] == [NOON + 3 * HOUR]
    await store.record(dead(5_005, after, NOON + 4 * HOUR))
    await store.record(dead(5_006, user(3), NOON + 4 * HOUR))
    keys = (before, beside, after, person, angry, user(3))

    def blocks() -> list[tuple[object, ...]]:
        found = (store.look_up(key).block(NEWS, NOON + DAY) for key in keys)
        return [(one.scope, one.cause, one.category, one.since) for one in found if one]

    was = blocks()
    assert len(was) == len(keys)
    assert await store.rule(incident, Ruling.REVERTED, at=NOON + 5 * HOUR, by="olga", reason="") == 52
    assert blocks() == was
    assert clear(store, range(50)) == [number for number in range(50) if number != 3]


async def test_a_ruling_said_again_changes_nothing(store: Store) -> None:
    """A second confirmation or revert reaches nobody, and an address that proved alive meanwhile is not blocked by a late one."""
    incident = await outage(store, range(50))
    await store.record(delivered(user(7), NOON + HOUR))
    assert await store.rule(incident, Ruling.CONFIRMED, at=NOON + 2 * HOUR, by="olga", reason="") == 49
    assert await store.rule(incident, Ruling.CONFIRMED, at=NOON + 3 * HOUR, by="olga", reason="") == 0
    assert clear(store, range(50)) == [7]
    assert await store.rule(incident, Ruling.REVERTED, at=NOON + 4 * HOUR, by="olga", reason="") == 49
    assert await store.rule(incident, Ruling.REVERTED, at=NOON + 5 * HOUR, by="olga", reason="") == 0


async def test_who_confirms_closes_the_guard(store: Store) -> None:
    """After an open outage was confirmed, its provider's hard bounces block again."""
    incident = await outage(store, range(50))
    await store.rule(incident, Ruling.CONFIRMED, at=NOON + 60, by="olga", reason="a purge")
    assert store.incidents()[0].closed_at == NOON + 60
    answer = await store.record(dead(6_000, user(2_000), NOON + 61))
    assert (answer.held, answer.after.block(NEWS, NOON + 61) is not None) == (None, True)


async def test_no_such_incident(store: Store) -> None:
    """Ruling on what is not there raises, and changes nothing."""
    with pytest.raises(NoSuchIncident):
        await store.rule("outage-20260101-aaaaa", Ruling.REVERTED, at=NOON, by="olga", reason="")
    assert store.incidents() == []
    assert store.held_by("outage-20260101-aaaaa") == []


async def test_unknown_addresses_open_no_guard(store: Store) -> None:
    """Control: the same flood of addresses of which nothing is known blocks them all."""
    await known(store, range(0))
    for number in range(200):
        await store.record(dead(number, user(number)))
    assert store.incidents() == []
    assert clear(store, range(200)) == []


async def test_an_outage_closes_by_the_next_bounce(store: Store) -> None:
    """Where nobody lets the time pass, the first bounce after a calm hour tells that it is over, and counts."""
    await outage(store, range(50))
    answer = await store.record(dead(7_000, user(3_000), NOON + 3 * HOUR))
    assert [(one.kind, one.closed_at) for one in answer.turned] == [(Kind.OUTAGE, NOON + 3 * HOUR)]
    assert answer.after.block(NEWS, NOON + 3 * HOUR) is not None
    assert await store.settle(NOON + 4 * HOUR) == ()


async def test_a_person_may_hold_by_hand(store: Store) -> None:
    """Hard verdicts of one provider from some time on become an incident afterwards, no others, and it is ruled like any other."""
    await store.record(dead(1, user(1), NOON - 3 * HOUR))
    for number in range(2, 6):
        await store.record(dead(number, user(number), NOON + number))
    await store.record(dead(9, user(9), NOON, "example.com"))
    await store.record(bounced(10, Disposition.SOFT, user(4), NOON + 9))
    incident = await store.hold("google", NOON, at=NOON + HOUR, by="olga", reason="a bad hour")
    assert (incident.kind, incident.subject, incident.count, incident.closed_at) == (Kind.OUTAGE, "google", 4, NOON + HOUR)
    assert clear(store, range(1, 10)) == [2, 3, 4, 5, 6, 7, 8]
    assert store.look_up(user(4)).standing(EVERYWHERE).strikes == 1
    assert await store.rule(incident.id, Ruling.CONFIRMED, at=NOON + DAY, by="olga", reason="") == 4
    assert clear(store, range(1, 10)) == [6, 7, 8]
    for misspelt in ("gooogle", "example.com"):
        assert (await store.hold(misspelt, NOON + HOUR, at=NOON + HOUR, by="olga", reason="")).count == 0
    assert [one.id for one in store.incidents() if one.kind is Kind.OUTAGE] == [incident.id]


async def test_who_holds_by_hand_keeps_no_bounce_waiting(sqlite_store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many verdicts are held, others commit between the parts, and each record stays the fold of its history."""
    monkeypatch.setattr(incidents, "LOOKED_AT_ONCE", 3)
    for number in range(20):
        await sqlite_store.record(dead(number, user(number % 7), NOON + number, "google" if number % 4 else "example.com"))
    holding = asyncio.create_task(sqlite_store.hold("google", NOON + 2, at=NOON + HOUR, by="olga", reason="a bad hour"))
    between = 0
    while not holding.done():
        await sqlite_store.record(dead(1_000 + between, user(0), NOON + HOUR + 1 + between))
        between += 1
    assert between > 3
    assert (await holding).count == 14
    assert [one.count for one in sqlite_store.incidents() if one.kind is Kind.OUTAGE] == [14]
    for number in range(7):
        assert sqlite_store.look_up(user(number)) == fold(user(number), sqlite_store.history(user(number)), Policy())


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let portions be small."""
    monkeypatch.setattr(incidents, "LOOKED_AT_ONCE", 7)


@pytest.mark.usefixtures("few_at_once")
async def test_what_came_before_an_outage_is_held_in_portions(store: Store) -> None:
    """A guard that opens holds the newest at once, the rest as time passes, and nothing twice; the incident tells how far it is."""
    incident = await outage(store, range(30))
    assert [one.count for one in store.incidents()] == [8]
    assert clear(store, range(30)) == list(range(22, 30))
    assert await store.settle(NOON + 60) == ()
    assert [(one.id, one.count, one.backlog) for one in store.incidents()] == [(incident, 30, None)]
    assert clear(store, range(30)) == list(range(30))
    assert [store.look_up(user(number)) for number in range(30)] == [
        fold(user(number), store.history(user(number)), Policy()) for number in range(30)
    ]


@pytest.mark.usefixtures("few_at_once")
async def test_a_ruling_reaches_what_was_yet_to_be_held(store: Store) -> None:
    """A revert that comes before all was looked at waits for the rest, and an address that is forgotten meanwhile stays so."""
    incident = await outage(store, range(30))
    await store.forget(user(3))
    assert await store.rule(incident, Ruling.REVERTED, at=NOON + 60, by="olga", reason="") == 29
    assert clear(store, range(30)) == list(range(30))
    assert store.look_up(user(3)).known_since is None


@pytest.mark.usefixtures("few_at_once")
async def test_an_outage_that_closes_leaves_nothing_behind(store: Store) -> None:
    """Where nobody let the time pass until a bounce tells that the outage is over, all that belongs to it is held first."""
    incident = await outage(store, range(30))
    await store.record(dead(7_000, user(3_000), NOON + 3 * HOUR))
    (closed,) = store.incidents()
    assert (closed.id, closed.closed_at, closed.count, closed.backlog) == (incident, NOON + 3 * HOUR, 30, None)
    assert clear(store, range(30)) == list(range(30))


_HOLD_AND_DIE = """
import asyncio, os, signal, sys
from pathlib import Path
from bounced.policy import Policy
from bounced.store import incidents
from bounced.store.sqlite import SqliteStore
incidents.LOOKED_AT_ONCE, deadly = 7, int(sys.argv[2])
look_back, looks = incidents.looked_back, []
def counted(*asked, **named):
    outage = look_back(*asked, **named)
    looks.append(outage)
    if len(looks) == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return outage
incidents.looked_back = counted
async def settle():
    store = await SqliteStore.open(Path(sys.argv[1]), Policy())
    await store.settle(1_750_000_060)
asyncio.run(settle())
"""


async def held_after_a_kill(place: Path, deadly: int) -> list[int]:
    """Open an outage, kill who holds its backlog before the commit of a portion, and return who is clear once the next start is over."""
    path = place / "bounced.db"
    store = await SqliteStore.open(path, Policy())
    incident = await outage(store, range(30))
    await store.close()
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", _HOLD_AND_DIE, str(path), str(deadly))
    assert await child.wait() == -signal.SIGKILL
    store = await SqliteStore.open(path, Policy())
    (found,) = store.incidents()
    assert found.count == len(store.held_by(incident)) == len(clear(store, range(30))) == 1 + 7 * deadly
    await store.settle(NOON + 90)
    held = clear(store, range(30))
    assert [one.count for one in store.incidents()] == [len(held)]
    await store.close()
    return held


@pytest.mark.parametrize("deadly", [1, 2, 3])
@pytest.mark.usefixtures("few_at_once")
async def test_what_a_kill_cut_short_is_held_by_the_next_start(tmp_path: Path, deadly: int) -> None:
    """Killed within any portion, what was committed of the earlier ones is whole, and the rest is held once by whoever starts next."""
    assert await held_after_a_kill(tmp_path, deadly) == list(range(30))


@pytest.mark.usefixtures("few_at_once")
async def test_a_start_that_forgets_the_rest_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: where nobody remembers what is yet to be held, addresses stay blocked after the kill."""
    monkeypatch.setattr(incidents, "unfinished", lambda _: None)
    assert await held_after_a_kill(tmp_path, 2) == list(range(15, 30))


async def test_strangers_open_only_so_many_incidents(store: Store) -> None:
    """A text may name any list: of many that are named at once the last are one incident; neither alarms nor open ones have no end."""
    refusal = bounced(1, Disposition.BLOCKED)
    turned = []
    for mail in range(MOST_REFUSED + 40):
        outcome = replace(refusal.outcome, blocker=Blocker(name=f"list{mail}.example", ours="192.0.2.1"))
        turned += (await store.record(replace(bounced(mail, Disposition.BLOCKED, at=NOON + mail), outcome=outcome))).turned
    incidents_ = {one.subject: one.count for one in store.incidents()}
    assert len(turned) == len(incidents_) == MOST_REFUSED + 1
    assert incidents_[MORE] == 40
    assert (await store.record(replace(bounced(900, Disposition.BLOCKED, at=NOON + 900), outcome=outcome))).turned == ()
    again = replace(refusal.outcome, blocker=Blocker(name="list3.example", ours="192.0.2.1"))
    await store.record(replace(bounced(901, Disposition.BLOCKED, at=NOON + 901), outcome=again))
    assert [one.count for one in store.incidents() if one.subject in {MORE, "list3.example 192.0.2.1"}] in ([41, 2], [2, 41])


async def test_refusals_are_one_incident_until_mail_is_accepted(store: Store) -> None:
    """A list that refuses us is told once, counted, and closed when a domain that it kept us from takes mail again; then it opens anew."""
    answers = [await store.record(bounced(mail, Disposition.BLOCKED, at=NOON + mail)) for mail in range(20)]
    assert [len(answer.turned) for answer in answers] == [1] + [0] * 19
    (incident,) = store.incidents()
    assert (incident.kind, incident.count, incident.ours, incident.domains) == (Kind.REFUSED, 20, "192.0.2.1", ("example.org",))
    assert (await store.record(delivered(user(1), NOON + 50))).turned == ()
    assert [(await store.record(delivered(BERT, NOON + 30 + number))).turned for number in range(27)] == [()] * 27
    closed = (await store.record(delivered(BERT, NOON + 60))).turned
    assert [(one.id, one.closed_at) for one in closed] == [(incident.id, NOON + 60)]
    assert len((await store.record(bounced(99, Disposition.BLOCKED, at=NOON + 70))).turned) == 1
    assert [one.closed_at for one in store.incidents()] == [None, NOON + 60]
    assert [one.closed_at for one in await store.settle(NOON + 70 + QUIET)] == [NOON + 70 + QUIET]


async def test_backscatter_is_one_incident(store: Store) -> None:
    """A flood of bounces without token is told once a flood, not on a usual day, and closes after a quiet day."""
    await store.count({Tally("2025-06-10", "foreign", ""): 40, Tally("2025-06-15", "foreign", "192.0.2.0/24"): 900})
    assert await store.settle(NOON) == ()
    await store.count({Tally("2025-06-15", "forged", "198.51.100.0/24"): 49_000, Tally("2025-06-15", "replayed", ""): 7})
    (opened,) = await store.settle(NOON + 60)
    assert (opened.kind, opened.count) == (Kind.BACKSCATTER, 49_900)
    assert await store.settle(NOON + 120) == ()
    await store.count({Tally("2025-06-16", "unknown-key", ""): 20_000})
    assert await store.settle(NOON + DAY) == ()
    assert [one.count for one in store.incidents()] == [69_900]
    (closed,) = await store.settle(NOON + 2 * DAY)
    assert (closed.id, closed.closed_at) == (opened.id, NOON + 2 * DAY)


async def test_old_tallies_go(store: Store) -> None:
    """What is older than five weeks goes, five hundred at a time; what is younger stays."""
    old = {Tally("2025-05-10", "forged", f"198.51.{number}.0/24"): 1 for number in range(200)}
    old |= {Tally("2025-04-01", "foreign", f"198.51.{number}.0/24"): 1 for number in range(500)}
    young = {Tally(day, "forged", "192.0.2.0/24"): 2 for day in ("2025-05-11", "2025-06-15")}
    await store.count(old | young)
    left = []
    for second in range(3):
        await store.settle(NOON + second)
        left.append(len(store.tallies()))
    assert left == [202, 2, 2]
    assert store.tallies() == young


async def test_a_long_flood_is_counted_from_its_first_day(store: Store) -> None:
    """While a flood goes on for two months it stays one incident, and what its count is made of is kept."""
    days = [(NOON + number * DAY, datetime.fromtimestamp(NOON + number * DAY, UTC).date().isoformat()) for number in range(60)]
    turned = []
    for at, day in days:
        await store.count({Tally(day, "forged", ""): 2_000})
        turned += await store.settle(at)
    (incident,) = store.incidents()
    assert ([one.id for one in turned], incident.closed_at, incident.count) == ([incident.id], None, 120_000)


def day(before: int) -> str:
    """Return the day so many days before."""
    return datetime.fromtimestamp(NOON - before * DAY, UTC).date().isoformat()


async def test_a_flood_of_unannounced_mail_is_one_incident(store: Store) -> None:
    """Twenty reports on a day of mail that left here without a token are told once; nineteen are not, nor less than ten times the usual."""
    await store.count({Tally(day(0), "unannounced", "9.9.9.0/24"): 19})
    assert await store.settle(NOON) == ()
    await store.count({Tally(day(0), "unannounced", "local"): 1})
    (opened,) = await store.settle(NOON + 60)
    assert (opened.kind, opened.subject, opened.count) == (Kind.COMPROMISED, "unsigned mail", 20)
    await store.count({Tally(day(0), "unannounced", "local"): 500})
    assert await store.settle(NOON + 120) == ()
    assert [one.closed_at for one in await store.settle(NOON + 2 * DAY)] == [NOON + 2 * DAY]
    await store.count({Tally(day(-3), "unannounced", "local"): 5_199})
    assert await store.settle(NOON + 3 * DAY) == ()
    await store.count({Tally(day(-3), "unannounced", "local"): 1})
    assert len(await store.settle(NOON + 3 * DAY + 60)) == 1


@pytest.mark.parametrize(
    ("known", "usual", "today", "told"),
    [
        (35, 100, 1_000, 1),
        (28, 90, 1_000, 1),
        (27, 90, 9_000, 0),
        (35, 100, 999, 0),
        (35, 2, 999, 0),
        (35, 5_000, 49_999, 0),
        (0, 0, 9_000, 0),
    ],
)
async def test_far_more_bounces_of_signed_mail_than_ever(store: Store, known: int, usual: int, today: int, told: int) -> None:
    """A thousand, and ten times the worst day of five weeks, is told, of who is known for four; and less, or of others, is not."""
    await store.count({Tally(day(before), "genuine", ""): usual for before in range(1, known + 1)} | {Tally(day(0), "genuine", ""): today})
    turned = [incident for minute in range(3) for incident in await store.settle(NOON + 60 * minute)]
    assert [(one.kind, one.subject) for one in turned] == [(Kind.COMPROMISED, "signed mail")] * told


async def test_a_monthly_mailing_is_usual(store: Store) -> None:
    """Where the mailing of last month brought as many bounces, this month's is no alarm."""
    await store.count({Tally(day(before), "genuine", ""): 20_000 if before % 31 == 0 else 5 for before in range(36)})
    assert await store.settle(NOON) == ()


async def test_a_closed_store_says_so_here_too(store: Store) -> None:
    """After closing, what concerns incidents raises StoreFault."""
    await store.close()
    for read in (store.incidents, lambda: store.held_by("x")):
        with pytest.raises(StoreFault):
            read()
    for write in (
        store.settle(NOON),
        store.hold("google", NOON, at=NOON, by="olga", reason=""),
        store.rule("x", Ruling.REVERTED, at=NOON, by="", reason=""),
    ):
        with pytest.raises(StoreFault):
            await write


async def test_a_large_revert_is_whole(sqlite_store: SqliteStore, full_counts: bool) -> None:
    """An outage of 20,000 addresses (reduced: 1,500) is reverted to the last one, in parts, and nobody else is reached."""
    many = range(20_000 if full_counts else 1_500)
    incident = await outage(sqlite_store, many)
    event: AnyEvent = dead(900_000, ANNA, NOON + DAY, "example.com")
    await sqlite_store.record(event)
    assert await sqlite_store.rule(incident, Ruling.REVERTED, at=NOON + 2 * DAY, by="olga", reason="") == len(many)
    assert clear(sqlite_store, many) == list(many)
    block = sqlite_store.look_up(ANNA).block(NEWS, NOON + 3 * DAY)
    assert block is not None
    assert block.cause is Cause.HARD
