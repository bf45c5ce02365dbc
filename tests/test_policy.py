"""The policy: every transition, and that five in a row means five in a row, whatever happens in between."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bounced.address import AddressKey
from bounced.outcome import Category, Disposition, Outcome
from bounced.policy import Policy, adds, reach, step
from bounced.record import AddressRecord, AnyEvent, Blocked, Bounced, Cause, Complained, Delivered, Noticed, Released, Standing
from bounced.scope import EVERYWHERE, Scope

KEY = AddressKey("ada@example.net")
NEWS, RECEIPTS = Scope("news"), Scope("receipts")
POLICY = Policy()
NOTHING = AddressRecord(key=KEY)
CATEGORIES = {
    Disposition.HARD: Category.NO_SUCH_USER,
    Disposition.SOFT: Category.MAILBOX_FULL,
    Disposition.BLOCKED: Category.BLOCKED_IP,
    Disposition.NONE: Category.UNDETERMINED,
}


def bounced(disposition: Disposition, at: int = 100, *, signed_at: int = 50, scope: Scope = NEWS, token: str = "t") -> Bounced:
    """Make a bounce."""
    outcome = Outcome(disposition=disposition, category=CATEGORIES[disposition], rule="test")
    return Bounced(at=at, key=KEY, scope=scope, token=token, signed_at=signed_at, outcome=outcome, reader="test")


def complained(at: int = 100, *, signed_at: int = 50, scope: Scope = NEWS, token: str = "t") -> Complained:
    """Make a complaint."""
    return Complained(at=at, key=KEY, scope=scope, token=token, signed_at=signed_at, feedback_type="abuse")


def noticed(at: int = 100, *, token: str = "t") -> Noticed:
    """Make a notice."""
    return Noticed(at=at, key=KEY, scope=NEWS, token=token, signed_at=50, what="delayed", reader="test")


def delivered(at: int = 100, *, scope: Scope = NEWS, token: str | None = None) -> Delivered:
    """Make a success."""
    return Delivered(at=at, key=KEY, scope=scope, by="mailer", token=token)


def released(at: int, scope: Scope = EVERYWHERE) -> Released:
    """Make a release."""
    return Released(at=at, key=KEY, scope=scope, by="admin", reason="works again")


def blocked(at: int, scope: Scope = EVERYWHERE) -> Blocked:
    """Make a manual block."""
    return Blocked(at=at, key=KEY, scope=scope, by="admin", reason="asked by phone")


def fold(*events: AnyEvent, policy: Policy = POLICY, record: AddressRecord = NOTHING) -> AddressRecord:
    """Add events up."""
    return reduce(lambda before, event: step(before, event, policy), events, record)


SOFT = bounced(Disposition.SOFT)
HARD = bounced(Disposition.HARD)
REFUSED = bounced(Disposition.BLOCKED)
UNDETERMINED = bounced(Disposition.NONE)


# --- every transition


def everywhere(**fields: object) -> Standing:
    """Make a standing everywhere."""
    return Standing(scope=EVERYWHERE, **fields)


def in_news(**fields: object) -> Standing:
    """Make a standing in the news stream."""
    return Standing(scope=NEWS, **fields)


FIVE_SOFT = (SOFT,) * 5
SOFT_BLOCK = everywhere(cause=Cause.SOFT, category="mailbox-full", since=100, strikes=5)
HARD_BLOCK = everywhere(cause=Cause.HARD, category="no-such-user", since=100)
COMPLAINT_BLOCK = in_news(cause=Cause.COMPLAINT, category="complaint", since=100)
MANUAL_BLOCK = everywhere(cause=Cause.MANUAL, category="manual", since=100)

TRANSITIONS: dict[str, tuple[Sequence[AnyEvent], tuple[Standing, ...]]] = {
    "hard blocks at once": ([HARD], (HARD_BLOCK,)),
    "four soft do not block": ([SOFT] * 4, (everywhere(strikes=4),)),
    "five soft block": (FIVE_SOFT, (SOFT_BLOCK,)),
    "a sixth soft changes only the count": ([*FIVE_SOFT, bounced(Disposition.SOFT, 200)], (replace(SOFT_BLOCK, strikes=6),)),
    "a success ends the run": ([*FIVE_SOFT[1:], delivered(), SOFT], (everywhere(strikes=1),)),
    "a success of a clear address leaves nothing": ([delivered()], ()),
    "a success after one strike leaves nothing": ([SOFT, delivered()], ()),
    "a success releases nobody": ([HARD, delivered()], (HARD_BLOCK,)),
    "a success ends the count of a soft block, not the block": ([*FIVE_SOFT, delivered()], (replace(SOFT_BLOCK, strikes=0),)),
    "a refusal of ours changes nothing": ([REFUSED], ()),
    "a refusal of ours is no strike and no success": ([*FIVE_SOFT[1:], REFUSED], (everywhere(strikes=4),)),
    "an undetermined bounce changes nothing": ([SOFT, UNDETERMINED], (everywhere(strikes=1),)),
    "a notice changes nothing": ([SOFT, noticed()], (everywhere(strikes=1),)),
    "a complaint blocks its stream": ([complained()], (COMPLAINT_BLOCK,)),
    "a second complaint changes nothing": ([complained(), complained(200)], (COMPLAINT_BLOCK,)),
    "hard replaces soft, and keeps since": (
        [*FIVE_SOFT, bounced(Disposition.HARD, 200)],
        (replace(SOFT_BLOCK, cause=Cause.HARD, category="no-such-user"),),
    ),
    "a second hard bounce changes nothing": (
        [HARD, replace(HARD, at=200, outcome=replace(HARD.outcome, category=Category.INACTIVE))],
        (HARD_BLOCK,),
    ),
    "soft does not replace hard": ([HARD, *FIVE_SOFT], (replace(HARD_BLOCK, strikes=5),)),
    "a person's word replaces hard": ([HARD, blocked(200)], (replace(HARD_BLOCK, cause=Cause.MANUAL, category="manual"),)),
    "hard does not replace a person's word": ([blocked(100), bounced(Disposition.HARD, 200)], (MANUAL_BLOCK,)),
    "a person blocks one stream": ([blocked(100, NEWS)], (in_news(cause=Cause.MANUAL, category="manual", since=100),)),
    "a complaint does not replace a person's word": (
        [blocked(100, NEWS), complained(200)],
        (in_news(cause=Cause.MANUAL, category="manual", since=100),),
    ),
    "a release clears everything everywhere": ([HARD, complained(), SOFT, released(200)], (everywhere(released_at=200),)),
    "a release in one stream clears that one": ([HARD, complained(), released(200, NEWS)], (HARD_BLOCK, in_news(released_at=200))),
    "a release ends the run": ([*FIVE_SOFT[1:], released(40), SOFT], (everywhere(strikes=1, released_at=40),)),
    "mail signed at the release counts no more": ([released(50), HARD], (everywhere(released_at=50),)),
    "mail signed after the release counts": ([released(49), HARD], (replace(HARD_BLOCK, released_at=49),)),
    "a complaint about mail before the release counts no more": ([released(50), complained()], (everywhere(released_at=50),)),
    "a stream's release covers that stream's mail": ([released(50, NEWS), HARD, complained()], (in_news(released_at=50),)),
    "a stream's release covers no other stream's mail": (
        [released(50, RECEIPTS), HARD],
        (HARD_BLOCK, Standing(scope=RECEIPTS, released_at=50)),
    ),
    "a person may block again after a release": ([released(50), blocked(100)], (replace(MANUAL_BLOCK, released_at=50),)),
    "a clock set back takes no release back": ([released(90), released(40), HARD], (everywhere(released_at=90),)),
    "a clock set back takes no stream's release back": ([released(90, NEWS), released(40), complained()], (everywhere(released_at=90),)),
    "a clock set back takes no release of one stream back": ([released(90, NEWS), released(40, NEWS)], (in_news(released_at=90),)),
}


@pytest.mark.parametrize(("events", "standings"), TRANSITIONS.values(), ids=TRANSITIONS.keys())
def test_transition(events: Sequence[AnyEvent], standings: tuple[Standing, ...]) -> None:
    """Each transition leaves exactly the standings that it is said to leave."""
    assert fold(*events) == AddressRecord(key=KEY, standings=standings)


def test_standings_are_sorted() -> None:
    """Standings lie sorted by scope, whatever came first, so that equal histories make equal records."""
    record = fold(complained(scope=RECEIPTS), complained(scope=NEWS), HARD)
    assert [standing.scope for standing in record.standings] == [EVERYWHERE, NEWS, RECEIPTS]


@pytest.mark.parametrize(("limit", "strikes"), [(1, 1), (3, 3), (5, 5), (9, 9)])
def test_limit(limit: int, strikes: int) -> None:
    """The soft bounce that reaches the operator's limit blocks, and the one before it does not."""
    policy = Policy(soft_limit=limit)
    assert fold(*[SOFT] * (strikes - 1), policy=policy).block(NEWS) is None
    assert fold(*[SOFT] * strikes, policy=policy).block(NEWS) is not None


@pytest.mark.parametrize(
    ("event", "scope"),
    [
        (HARD, EVERYWHERE),
        (noticed(), EVERYWHERE),
        (delivered(), EVERYWHERE),
        (complained(), NEWS),
        (blocked(1, NEWS), NEWS),
        (blocked(1), EVERYWHERE),
        (released(1, NEWS), NEWS),
        (released(1), EVERYWHERE),
    ],
)
def test_reach(event: AnyEvent, scope: Scope) -> None:
    """What tells of the address concerns every stream; what a person says or complains of concerns the stream named."""
    assert reach(event) == scope


# --- one mail counts once


RISING = [noticed(), REFUSED, SOFT, HARD]


def test_worse_news_supersedes() -> None:
    """A worse fate of the same mail adds to what was told, the same or a better one does not."""
    for place, event in enumerate(RISING):
        assert adds(event, [])
        assert adds(event, RISING[:place])
        assert not any(adds(better, [event]) for better in RISING[: place + 1])
    assert not adds(UNDETERMINED, [noticed()])
    assert not adds(noticed(), [UNDETERMINED])


@pytest.mark.parametrize("event", [complained(), delivered(token="t")])
def test_matters_of_their_own(event: AnyEvent) -> None:
    """A complaint or a report of delivery adds to whatever bounces its mail made, once, and takes nothing from them."""
    assert adds(event, RISING)
    assert not adds(event, [*RISING, event])
    assert all(adds(bounce, [event]) for bounce in RISING)
    assert adds(complained(), [delivered(token="t")])
    assert adds(delivered(token="t"), [complained()])


def test_late_permanent_failure_supersedes_its_own_strike() -> None:
    """A mail that was delayed, then soft, then hard blocks once it is hard."""
    record = NOTHING
    told: list[AnyEvent] = []
    for event in [noticed(1), bounced(Disposition.SOFT, 2), bounced(Disposition.SOFT, 3), bounced(Disposition.HARD, 4)]:
        if adds(event, told):
            record = step(record, event, POLICY)
            told.append(event)
    assert record.standings == (everywhere(cause=Cause.HARD, category="no-such-user", since=4, strikes=1),)
    assert len(told) == 3


@dataclass
class Ledger:
    """Adds events as a store does: what the same token told before is looked at first."""

    adds: Callable[[AnyEvent, Iterable[AnyEvent]], bool] = adds
    record: AddressRecord = NOTHING
    told: defaultdict[str, list[AnyEvent]] = field(default_factory=lambda: defaultdict(list))

    def add(self, event: AnyEvent) -> None:
        """Add one event."""
        token = getattr(event, "token", None)
        if token is not None:
            if not self.adds(event, self.told[token]):
                return
            self.told[token].append(event)
        self.record = step(self.record, event, POLICY)


def replay_one_soft_mail(ledger: Ledger, times: int) -> None:
    """Bring the soft bounce of one mail many times, at other times and from other clients."""
    for number in range(times):
        ledger.add(replace(bounced(Disposition.SOFT, 100 + number), client=f"192.0.2.{number % 256}"))


def test_replay_adds_nothing(full_counts: bool) -> None:
    """One mail's soft bounce brought 100,000 times (reduced: 1,000) leaves the state that the first left."""
    ledger = Ledger()
    replay_one_soft_mail(ledger, 1)
    after_one = ledger.record
    replay_one_soft_mail(ledger, 100_000 if full_counts else 1_000)
    assert ledger.record == after_one == AddressRecord(key=KEY, standings=(everywhere(strikes=1),))


def test_replay_check_notices_copies() -> None:
    """Control: where copies are counted, five of one mail block."""
    ledger = Ledger(adds=lambda event, earlier: True)
    replay_one_soft_mail(ledger, 5)
    assert ledger.record.block(NEWS) is not None


def test_replayed_delivery_forgives_once() -> None:
    """A report of delivery ends the run when it comes first, and copies of it forgive no later strike."""
    ledger = Ledger()
    for event in [bounced(Disposition.SOFT, token="a"), delivered(token="a"), bounced(Disposition.SOFT, token="b"), delivered(token="a")]:
        ledger.add(event)
    assert ledger.record.standing(EVERYWHERE).strikes == 1


# --- released means released


def late_copies(count: int) -> list[AnyEvent]:
    """Make bounces and complaints, of all kinds, of mail signed before the release at 1,000."""
    kinds = [Disposition.HARD, Disposition.SOFT, Disposition.BLOCKED]
    bounces = [
        bounced(kinds[n % 3], 1_001 + n, signed_at=1_000 - n % 900, token=f"b{n}", scope=(NEWS, RECEIPTS)[n % 2]) for n in range(count)
    ]
    return [*bounces, *(complained(2_001 + n, signed_at=1_000 - n, token=f"c{n}") for n in range(100))]


def test_late_copies_never_block_again() -> None:
    """After a release 1,000 late bounces and 100 late complaints of mail signed before it change nothing."""
    record = fold(HARD, complained(), released(1_000))
    assert fold(*late_copies(1_000), record=record) == record


def test_late_copies_check_notices_a_lost_release() -> None:
    """Control: without the release the same late copies block."""
    assert fold(*late_copies(1)).block(NEWS) is not None


# --- any interleaving, against a model


@dataclass
class Model:
    """What a person would count on paper: the run, who said stop, which mail has already told what."""

    run: int = 0
    dead: bool = False
    banned: set[str] = field(default_factory=set)
    complaints: set[str] = field(default_factory=set)
    released: dict[str, int] = field(default_factory=dict)
    worst: dict[int, int] = field(default_factory=dict)
    said: set[tuple[str, int]] = field(default_factory=set)

    def counts(self, scope: str, signed_at: int) -> bool:
        """Tell whether mail of that second still counts."""
        return signed_at > max(self.released.get("*", -1), self.released.get(scope, -1))

    def bounce(self, severity: int, mail: int, scope: str, signed_at: int) -> None:
        """Count a bounce: 1 refused, 2 soft, 3 hard."""
        if severity <= self.worst.get(mail, 0):
            return
        self.worst[mail] = severity
        if self.counts(scope, signed_at):
            self.run += severity == 2
            self.dead |= severity == 3 or (severity == 2 and self.run >= 5)

    def complain(self, mail: int, scope: str, signed_at: int) -> None:
        """Count a complaint."""
        if ("complaint", mail) not in self.said and self.counts(scope, signed_at):
            self.complaints.add(scope)
        self.said.add(("complaint", mail))

    def deliver(self, mail: int | None) -> None:
        """Count a success, told by a mailer or by the report about one mail."""
        if mail is None or ("delivered", mail) not in self.said:
            self.run = 0
        if mail is not None:
            self.said.add(("delivered", mail))

    def release(self, scope: str, at: int) -> None:
        """Forget what is on the list."""
        if scope == "*":
            self.run, self.dead, self.released = 0, False, {"*": at}
            self.complaints.clear()
            self.banned.clear()
        else:
            self.complaints.discard(scope)
            self.banned.discard(scope)
            self.released[scope] = at

    def blocks(self, scope: str) -> bool:
        """Tell whether mail of a stream may not go."""
        return self.dead or bool({"*", scope} & self.banned) or scope in self.complaints


SCOPES = (NEWS, RECEIPTS)
SEVERITY = {Disposition.BLOCKED: 1, Disposition.SOFT: 2, Disposition.HARD: 3}
MAILS = st.integers(0, 11)
"""Mail n is of stream n % 2 and was signed at second 3 n: some before, some after each release."""
DEEDS = st.one_of(
    st.tuples(st.just("bounce"), MAILS, st.sampled_from([Disposition.SOFT] * 5 + [Disposition.BLOCKED, Disposition.HARD])),
    st.tuples(st.just("complain"), MAILS),
    st.tuples(st.just("deliver"), st.one_of(st.none(), MAILS)),
    st.tuples(st.just("release"), st.sampled_from([EVERYWHERE, *SCOPES])),
    st.tuples(st.just("ban"), st.sampled_from([EVERYWHERE, *SCOPES])),
    st.tuples(st.just("notice"), MAILS),
)


def play(deeds: Iterable[tuple], ledger: Ledger) -> None:
    """Do each deed to the ledger and to the model, a second apart, and compare them after each."""
    model = Model()
    for at, deed in enumerate(deeds):
        match deed:
            case ("bounce", mail, disposition):
                scope = SCOPES[mail % 2]
                ledger.add(bounced(disposition, at, signed_at=3 * mail, scope=scope, token=f"m{mail}"))
                model.bounce(SEVERITY[disposition], mail, scope, 3 * mail)
            case ("complain", mail):
                scope = SCOPES[mail % 2]
                ledger.add(complained(at, signed_at=3 * mail, scope=scope, token=f"m{mail}"))
                model.complain(mail, scope, 3 * mail)
            case ("deliver", mail):
                ledger.add(delivered(at, token=None if mail is None else f"m{mail}"))
                model.deliver(mail)
            case ("release", scope):
                ledger.add(released(at, scope))
                model.release(scope, at)
            case ("ban", scope):
                ledger.add(blocked(at, scope))
                model.banned.add(scope)
            case ("notice", mail):
                ledger.add(noticed(at, token=f"m{mail}"))
        assert ledger.record.standing(EVERYWHERE).strikes == model.run
        assert [ledger.record.block(scope) is not None for scope in SCOPES] == [model.blocks(scope) for scope in SCOPES]


FIVE_COPIES = [("bounce", 1, Disposition.SOFT)] * 5


@given(st.lists(DEEDS, max_size=40))
@example([("bounce", mail, Disposition.SOFT) for mail in range(5)])
@example(FIVE_COPIES)
def test_five_in_a_row_exactly(deeds: list[tuple]) -> None:
    """Whatever strikes, successes, complaints, blocks and releases come, the count and the blocks are those of the model."""
    play(deeds, Ledger())


def test_model_notices_copies() -> None:
    """Control: where copies are counted, ledger and model part."""
    with pytest.raises(AssertionError):
        play(FIVE_COPIES, Ledger(adds=lambda event, earlier: True))


def test_model_notices_a_wrong_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with a limit of four, ledger and model part."""
    monkeypatch.setitem(globals(), "POLICY", Policy(soft_limit=4))
    with pytest.raises(AssertionError):
        play([("bounce", mail, Disposition.SOFT) for mail in range(5)], Ledger())


EVENTS = st.one_of(
    st.builds(bounced, st.sampled_from(Disposition), st.integers(0, 99), signed_at=st.integers(0, 99), scope=st.sampled_from(SCOPES)),
    st.builds(complained, st.integers(0, 99), signed_at=st.integers(0, 99), scope=st.sampled_from(SCOPES)),
    st.builds(delivered, st.integers(0, 99)),
    st.builds(released, st.integers(0, 99), st.sampled_from([EVERYWHERE, *SCOPES])),
    st.builds(blocked, st.integers(0, 99), st.sampled_from([EVERYWHERE, *SCOPES])),
)


@given(st.lists(EVENTS), st.sampled_from([Disposition.BLOCKED, Disposition.NONE]))
def test_our_own_fault_changes_nothing(events: list[AnyEvent], disposition: Disposition) -> None:
    """In whatever state, a refusal because of us and an undetermined bounce leave the record as it was."""
    record = fold(*events)
    assert step(record, bounced(disposition), POLICY) == record
    assert step(record, noticed(), POLICY) == record


@given(st.lists(EVENTS), st.one_of(st.builds(complained, scope=st.just(NEWS)), st.just(blocked(9, NEWS)), st.just(released(9, NEWS))))
def test_scopes_never_leak(events: list[AnyEvent], event: AnyEvent) -> None:
    """What happens in one stream changes no standing of another one, nor the one everywhere."""
    before = fold(*events)
    after = step(before, event, POLICY)
    assert [one for one in after.standings if one.scope != NEWS] == [one for one in before.standings if one.scope != NEWS]


@given(st.lists(EVENTS), st.integers(0, 99), st.lists(EVENTS))
def test_released_mail_never_blocks(before: list[AnyEvent], at: int, late: list[AnyEvent]) -> None:
    """After a release no bounce or complaint of mail signed up to then changes the record, also with jumping clocks."""
    record = fold(*before, released(at))
    assert [record.block(scope) for scope in SCOPES] == [None, None]
    old = [event for event in late if isinstance(event, Bounced | Complained) and event.signed_at <= at]
    assert fold(*old, record=record) == record


@given(st.lists(EVENTS))
def test_records_are_tidy(events: list[AnyEvent]) -> None:
    """A record holds one standing a scope, sorted, none of them untouched, and each block says why and since when."""
    standings = fold(*events).standings
    assert [one.scope for one in standings] == sorted({one.scope for one in standings})
    assert all(one != Standing(scope=one.scope) for one in standings)
    assert all((one.cause is None) == (one.category is None) == (one.since is None) for one in standings)
