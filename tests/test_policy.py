"""The policy: every transition, and that five in a row means five in a row, whatever happens in between."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from bounced.address import AddressKey
from bounced.outcome import Category, Disposition, Outcome
from bounced.outcome.causes import causes
from bounced.policy import (
    DAY,
    LONG_KNOWN,
    MOST_SENT,
    PERMANENT,
    RECENT,
    TRIAL,
    Effect,
    Policy,
    Treatment,
    adds,
    awaits_success,
    established,
    fold,
    step,
)
from bounced.record import (
    OPT_OUT,
    AddressRecord,
    AnyEvent,
    Blocked,
    Bounced,
    Cause,
    Complained,
    Confirmed,
    Delivered,
    Hold,
    Noticed,
    Released,
    Reverted,
    Sent,
    Standing,
)
from bounced.scope import EVERYWHERE, Scope

KEY = AddressKey("ada@example.net")
NEWS, RECEIPTS = Scope("news"), Scope("receipts")
POLICY = Policy()
PLAYED = Policy(silence=20)
"""What a ledger adds up by."""
NOTHING = AddressRecord(key=KEY)
CATEGORIES = {
    Disposition.HARD: Category.NO_SUCH_USER,
    Disposition.SOFT: Category.MAILBOX_FULL,
    Disposition.BLOCKED: Category.BLOCKED_IP,
    Disposition.NONE: Category.UNDETERMINED,
}


def bounced(
    disposition: Disposition, at: int = 100, *, signed_at: int = 50, scope: Scope = NEWS, token: str = "t", held: str | None = None
) -> Bounced:
    """Make a bounce."""
    outcome = Outcome(disposition=disposition, category=CATEGORIES[disposition], rule="test")
    return Bounced(at=at, key=KEY, scope=scope, token=token, signed_at=signed_at, outcome=outcome, reader="test", held=held)


def complained(at: int = 100, *, signed_at: int = 50, scope: Scope = NEWS, token: str = "t") -> Complained:
    """Make a complaint."""
    return Complained(at=at, key=KEY, scope=scope, token=token, signed_at=signed_at, feedback_type="abuse")


def noticed(at: int = 100, *, signed_at: int = 50, token: str = "t") -> Noticed:
    """Make a notice."""
    return Noticed(at=at, key=KEY, scope=NEWS, token=token, signed_at=signed_at, what="delayed", reader="test")


def delivered(at: int = 100, *, scope: Scope = NEWS, token: str | None = None, signed_at: int | None = None) -> Delivered:
    """Make a success, told by a mailer, or by a report of the mail signed at `signed_at`."""
    return Delivered(at=at, key=KEY, scope=scope, by="mailer", token=token, signed_at=signed_at)


def sent(at: int, *, scope: Scope = NEWS, token: str = "t") -> Sent:
    """Make a signing."""
    return Sent(at=at, key=KEY, scope=scope, token=token)


def confirmed(at: int = 100, incident: str = "A") -> Confirmed:
    """Make a person's word that an incident is true."""
    return Confirmed(at=at, key=KEY, scope=EVERYWHERE, incident=incident, by="admin", reason="they are gone")


def reverted(at: int = 100, incident: str = "A") -> Reverted:
    """Make a person's word that an incident is false."""
    return Reverted(at=at, key=KEY, scope=EVERYWHERE, incident=incident, by="admin", reason="Gmail was ill")


def released(at: int, scope: Scope = EVERYWHERE) -> Released:
    """Make a release."""
    return Released(at=at, key=KEY, scope=scope, by="admin", reason="works again")


def blocked(at: int, scope: Scope = EVERYWHERE) -> Blocked:
    """Make a manual block."""
    return Blocked(at=at, key=KEY, scope=scope, by="admin", reason="asked by phone")


def total(*events: AnyEvent, policy: Policy = POLICY, record: AddressRecord | None = None) -> AddressRecord:
    """Add events up, to a record if there is one."""
    if record is None:
        return fold(KEY, events, policy)
    for event in events:
        record = step(record, event, policy)
    return record


def soft(signed_at: int, at: int | None = None) -> Bounced:
    """Make a soft bounce of the mail signed at a time."""
    return bounced(Disposition.SOFT, at if at is not None else signed_at + 10, signed_at=signed_at, token=f"s{signed_at}")


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
SOFT_BLOCK = everywhere(cause=Cause.SOFT, category="mailbox-full", since=100, struck=(50,) * 5)
HARD_BLOCK = everywhere(cause=Cause.HARD, category="no-such-user", since=100)
COMPLAINT_BLOCK = in_news(cause=Cause.COMPLAINT, category="complaint", since=100)
MANUAL_BLOCK = everywhere(cause=Cause.MANUAL, category="manual", since=100)

TRANSITIONS: dict[str, tuple[Sequence[AnyEvent], tuple[Standing, ...]]] = {
    "hard blocks at once": ([HARD], (HARD_BLOCK,)),
    "four soft do not block": ([SOFT] * 4, (everywhere(struck=(50,) * 4),)),
    "five soft block": (FIVE_SOFT, (SOFT_BLOCK,)),
    "a sixth soft changes only the count": ([*FIVE_SOFT, bounced(Disposition.SOFT, 200)], (replace(SOFT_BLOCK, struck=(50,) * 6),)),
    "a success ends the run": ([*FIVE_SOFT[1:], delivered(), soft(150)], (everywhere(struck=(150,)),)),
    "strikes of mail sent before a success count no more": ([SOFT, delivered(), soft(99, 200), soft(100, 200)], ()),
    "a report of delivery tells of its own mail": (
        [soft(50), soft(60), delivered(90, token="x", signed_at=50)],
        (everywhere(struck=(60,)),),
    ),
    "strikes lie in the order of sending": ([soft(60), soft(50), soft(70)], (everywhere(struck=(50, 60, 70)),)),
    "a success of a clear address leaves nothing": ([delivered()], ()),
    "a success after one strike leaves nothing": ([SOFT, delivered()], ()),
    "a success releases nobody": ([HARD, delivered()], (HARD_BLOCK,)),
    "a success ends the count of a soft block, not the block": ([*FIVE_SOFT, delivered()], (replace(SOFT_BLOCK, struck=()),)),
    "a refusal of ours changes nothing": ([REFUSED], ()),
    "a refusal of ours is no strike and no success": ([*FIVE_SOFT[1:], REFUSED], (everywhere(struck=(50,) * 4),)),
    "an undetermined bounce changes nothing": ([SOFT, UNDETERMINED], (everywhere(struck=(50,)),)),
    "a notice changes nothing": ([SOFT, noticed()], (everywhere(struck=(50,)),)),
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
    "soft does not replace hard": ([HARD, *FIVE_SOFT], (replace(HARD_BLOCK, struck=(50,) * 5),)),
    "a person's word replaces hard": ([HARD, blocked(200)], (replace(HARD_BLOCK, cause=Cause.MANUAL, category="manual"),)),
    "hard does not replace a person's word": ([blocked(100), bounced(Disposition.HARD, 200)], (MANUAL_BLOCK,)),
    "a person blocks one stream": ([blocked(100, NEWS)], (in_news(cause=Cause.MANUAL, category="manual", since=100),)),
    "a complaint does not replace a person's word": (
        [blocked(100, NEWS), complained(200)],
        (in_news(cause=Cause.MANUAL, category="manual", since=100),),
    ),
    "a release clears everything everywhere": ([HARD, complained(), SOFT, released(200)], (everywhere(released_at=200),)),
    "a release in one stream clears that one": ([HARD, complained(), released(200, NEWS)], (HARD_BLOCK, in_news(released_at=200))),
    "a release ends the run": ([*FIVE_SOFT[1:], released(40), SOFT], (everywhere(struck=(50,), released_at=40),)),
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
    assert total(*events).standings == standings


def test_standings_are_sorted() -> None:
    """Standings lie sorted by scope, whatever came first, so that equal histories make equal records."""
    record = total(complained(scope=RECEIPTS), complained(scope=NEWS), HARD)
    assert [standing.scope for standing in record.standings] == [EVERYWHERE, NEWS, RECEIPTS]


@pytest.mark.parametrize(("limit", "strikes"), [(1, 1), (3, 3), (5, 5), (9, 9)])
def test_limit(limit: int, strikes: int) -> None:
    """The soft bounce that reaches the operator's limit blocks, and the one before it does not."""
    policy = Policy(soft_limit=limit)
    assert total(*[SOFT] * (strikes - 1), policy=policy).block(NEWS, 300) is None
    assert total(*[SOFT] * strikes, policy=policy).block(NEWS, 300) is not None


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


@pytest.mark.parametrize("event", [complained(), delivered(token="t"), sent(50)])
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
    assert record.standings == (everywhere(cause=Cause.HARD, category="no-such-user", since=4, struck=(50,)),)
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
        self.record = step(self.record, event, PLAYED)


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
    assert ledger.record == after_one == AddressRecord(key=KEY, standings=(everywhere(struck=(50,)),), known_since=100)


def test_replay_check_notices_copies() -> None:
    """Control: where copies are counted, five of one mail block."""
    ledger = Ledger(adds=lambda event, earlier: True)
    replay_one_soft_mail(ledger, 5)
    assert ledger.record.block(NEWS, 300) is not None


def test_replayed_delivery_forgives_once() -> None:
    """A report of delivery ends the run when it comes first, and copies of it forgive no later strike."""
    ledger = Ledger()
    first, second = bounced(Disposition.SOFT, token="a"), bounced(Disposition.SOFT, token="b", signed_at=51)
    for event in [first, delivered(token="a", signed_at=50), second, delivered(300, token="a", signed_at=99)]:
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
    record = total(HARD, complained(), released(1_000))
    assert total(*late_copies(1_000), record=record) == record


def test_late_copies_check_notices_a_lost_release() -> None:
    """Control: without the release the same late copies block."""
    assert total(*late_copies(1)).block(NEWS, 300) is not None


# --- any interleaving, against a model

SILENCE = 20
"""Seconds, in the interleavings: some mails ripen, some do not."""


@dataclass
class Model:
    """What a person would write on paper who knows in which order the mails were sent: the fate of each, who said stop, what was told."""

    fates: dict[int, str] = field(default_factory=dict)
    delivered_at: int = -1
    dead: bool = False
    banned: set[str] = field(default_factory=set)
    complaints: set[str] = field(default_factory=set)
    released: dict[str, int] = field(default_factory=dict)
    worst: dict[int, int] = field(default_factory=dict)
    said: set[tuple[str, int]] = field(default_factory=set)

    @property
    def run(self) -> int:
        """The soft bounces after the last success, in the order of sending."""
        return sum(fate == "soft" and 3 * mail > self.delivered_at for mail, fate in self.fates.items())

    def counts(self, scope: str, mail: int) -> bool:
        """Tell whether what comes of a mail still counts."""
        return 3 * mail > max(self.released.get("*", -1), self.released.get(scope, -1))

    def hear(self, mail: int, at: int) -> None:
        """Something comes back of a mail: it is not silent. Let the time pass for those that are."""
        if self.fates.get(mail) == "under way":
            del self.fates[mail]
        self.wait(at)

    def wait(self, at: int) -> None:
        """Take the mails as delivered that were silent for long."""
        for mail, fate in self.fates.items():
            if fate == "under way" and 3 * mail + SILENCE <= at:
                self.deliver(3 * mail)
        self.fates = {mail: fate for mail, fate in self.fates.items() if 3 * mail > self.delivered_at}

    def deliver(self, sent_at: int) -> None:
        """Mail of that time arrived."""
        self.delivered_at = max(self.delivered_at, sent_at)

    def sign(self, mail: int) -> None:
        """A mail is sent while there are strikes; one that was sent before the first of them tells nothing."""
        if mail not in self.fates and any(
            fate == "soft" and first < mail and 3 * first > self.delivered_at for first, fate in self.fates.items()
        ):
            self.fates[mail] = "under way"

    def bounce(self, severity: int, mail: int, scope: str) -> None:
        """Count a bounce: 1 refused, 2 soft, 3 hard."""
        if not self.counts(scope, mail):
            return
        if severity == 2 and 3 * mail > self.delivered_at:
            self.fates[mail] = "soft"
            self.dead |= self.run >= 5
        self.dead |= severity == 3

    def release(self, scope: str, at: int) -> None:
        """Forget what was."""
        if scope == "*":
            latest = max([at, *self.released.values()])
            self.dead, self.banned, self.complaints, self.released = False, set(), set(), {"*": latest}
            self.fates = {}
        else:
            self.released[scope] = max(at, self.released.get(scope, -1))
            self.banned.discard(scope)
            self.complaints.discard(scope)

    def blocks(self, scope: str) -> bool:
        """Tell whether mail of a stream is kept back."""
        return self.dead or bool({"*", scope} & self.banned) or scope in self.complaints


SCOPES = (NEWS, RECEIPTS)
SEVERITY = {Disposition.BLOCKED: 1, Disposition.SOFT: 2, Disposition.HARD: 3}
MAILS = st.integers(0, 11)
"""Mail n is of stream n % 2 and was signed at second 3 n: some before, some after each release and success."""
DEEDS = st.one_of(
    st.tuples(st.just("bounce"), MAILS, st.sampled_from([Disposition.SOFT] * 8 + [Disposition.BLOCKED, Disposition.HARD])),
    st.tuples(st.just("bounce"), MAILS, st.just(Disposition.SOFT)),
    st.tuples(st.just("sign"), MAILS),
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
                scope, severity = SCOPES[mail % 2], SEVERITY[disposition]
                ledger.add(bounced(disposition, at, signed_at=3 * mail, scope=scope, token=f"m{mail}"))
                if severity > model.worst.get(mail, -1):
                    model.worst[mail] = severity
                    model.hear(mail, at)
                    model.bounce(severity, mail, scope)
            case ("notice", mail):
                ledger.add(noticed(at, signed_at=3 * mail, token=f"m{mail}"))
                if mail not in model.worst:
                    model.worst[mail] = 0
                    model.hear(mail, at)
            case (("complain" | "deliver" | "sign") as word, int(mail)) if (word, mail) in model.said:
                ledger.add({"complain": complained, "deliver": delivered, "sign": sent}[word](at, token=f"m{mail}"))
            case ("complain", mail):
                scope = SCOPES[mail % 2]
                ledger.add(complained(at, signed_at=3 * mail, scope=scope, token=f"m{mail}"))
                model.said.add(("complain", mail))
                model.hear(mail, at)
                if model.counts(scope, mail):
                    model.complaints.add(scope)
            case ("deliver", mail):
                token, signed_at = (None, None) if mail is None else (f"m{mail}", 3 * mail)
                ledger.add(delivered(at, token=token, signed_at=signed_at))
                model.said.add(("deliver", mail))
                model.wait(at)
                model.deliver(at if mail is None else 3 * mail)
            case ("sign", mail):
                ledger.add(sent(3 * mail, token=f"m{mail}", scope=SCOPES[mail % 2]))
                model.said.add(("sign", mail))
                model.wait(3 * mail)
                if mail not in model.worst:
                    model.sign(mail)
            case ("release", scope):
                ledger.add(released(at, scope))
                model.wait(at)
                model.release(scope, at)
            case ("ban", scope):
                ledger.add(blocked(at, scope))
                model.wait(at)
                model.banned.add(scope)
        assert ledger.record.standing(EVERYWHERE).strikes == model.run
        assert [ledger.record.block(scope, at) is not None for scope in SCOPES] == [model.blocks(scope) for scope in SCOPES]


FIVE_COPIES = [("bounce", 1, Disposition.SOFT)] * 5
FIVE_MAILS = [("bounce", mail, Disposition.SOFT) for mail in range(1, 6)]


@given(st.lists(DEEDS, max_size=60))
@example(FIVE_MAILS)
@example(FIVE_COPIES)
@example([*FIVE_MAILS[:4], ("sign", 7), *[("notice", 11)] * 50, ("ban", NEWS), FIVE_MAILS[4]])
@example([("bounce", 9, Disposition.SOFT), ("deliver", 7), *FIVE_MAILS])
def test_five_in_a_row_exactly(deeds: list[tuple]) -> None:
    """Whatever strikes, successes, silences, complaints, blocks and releases come, count and blocks are those of the order of sending."""
    play([deed for deed in deeds if deed[0] != "sign" or deed[1] not in heard_before(deeds, deed)], Ledger())


def heard_before(deeds: list[tuple], sign: tuple) -> set[int]:
    """Return the mails of which something came back before they were signed: that cannot be."""
    earlier = deeds[: next(place for place, deed in enumerate(deeds) if deed is sign)]
    return {deed[1] for deed in earlier if deed[0] in ("bounce", "notice", "complain", "deliver")}


def test_model_notices_copies() -> None:
    """Control: where copies are counted, ledger and model part."""
    with pytest.raises(AssertionError):
        play(FIVE_COPIES, Ledger(adds=lambda event, earlier: True))


@pytest.mark.parametrize(
    ("policy", "deeds"),
    [
        (Policy(soft_limit=4, silence=SILENCE), FIVE_MAILS),
        (Policy(silence=6 * DAY), [FIVE_MAILS[0], ("sign", 2), *[("ban", NEWS)] * 30]),
        (Policy(silence=1), [FIVE_MAILS[0], ("sign", 2), *[("ban", NEWS)] * 12]),
    ],
    ids=["a limit of four", "no silence", "impatience"],
)
def test_model_notices_another_policy(policy: Policy, deeds: list[tuple], monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with another limit, and where silence never or too soon is a success, ledger and model part."""
    play(deeds, Ledger())
    monkeypatch.setitem(globals(), "PLAYED", policy)
    with pytest.raises(AssertionError):
        play(deeds, Ledger())


EVENTS = st.one_of(
    st.builds(bounced, st.sampled_from(Disposition), st.integers(0, 99), signed_at=st.integers(0, 99), scope=st.sampled_from(SCOPES)),
    st.builds(complained, st.integers(0, 99), signed_at=st.integers(0, 99), scope=st.sampled_from(SCOPES)),
    st.builds(bounced, st.just(Disposition.HARD), st.integers(0, 99), signed_at=st.integers(0, 99), held=st.sampled_from("AB")),
    st.builds(delivered, st.integers(0, 99)),
    st.builds(sent, st.integers(0, 99), scope=st.sampled_from(SCOPES)),
    st.builds(confirmed, st.integers(0, 99), st.sampled_from("AB")),
    st.builds(reverted, st.integers(0, 99), st.sampled_from("AB")),
    st.builds(released, st.integers(0, 99), st.sampled_from([EVERYWHERE, *SCOPES])),
    st.builds(blocked, st.integers(0, 99), st.sampled_from([EVERYWHERE, *SCOPES])),
)


def unsent(record: AddressRecord) -> list[Standing]:
    """Return the standings without what is under way: of that mail something came back, whatever it was."""
    return [one for one in (replace(standing, sent=()) for standing in record.standings) if one != Standing(scope=one.scope)]


@given(st.lists(EVENTS), st.sampled_from([Disposition.BLOCKED, Disposition.NONE]))
def test_our_own_fault_changes_nothing(events: list[AnyEvent], disposition: Disposition) -> None:
    """In whatever state, a refusal because of us and an undetermined bounce leave the record as it was."""
    record = total(*events)
    assert unsent(step(record, bounced(disposition), POLICY)) == unsent(record)
    assert unsent(step(record, noticed(), POLICY)) == unsent(record)


@given(st.lists(EVENTS), st.one_of(st.builds(complained, scope=st.just(NEWS)), st.just(blocked(9, NEWS)), st.just(released(9, NEWS))))
def test_scopes_never_leak(events: list[AnyEvent], event: AnyEvent) -> None:
    """What happens in one stream changes no standing of another one, nor the one everywhere."""
    before = total(*events)
    after = step(before, event, POLICY)
    assert [one for one in unsent(after) if one.scope != NEWS] == [one for one in unsent(before) if one.scope != NEWS]


@given(st.lists(EVENTS), st.integers(0, 99), st.lists(EVENTS))
def test_released_mail_never_blocks(before: list[AnyEvent], at: int, late: list[AnyEvent]) -> None:
    """After a release no bounce or complaint of mail signed up to then changes the record, also with jumping clocks."""
    record = total(*before, released(at))
    assert [record.block(scope, 300) for scope in SCOPES] == [None, None]
    old = [event for event in late if isinstance(event, Bounced | Complained) and event.signed_at <= at]
    assert total(*old, record=record) == record


@given(st.lists(EVENTS))
def test_records_are_tidy(events: list[AnyEvent]) -> None:
    """A record holds one standing a scope, sorted, none of them untouched, and each block says why and since when."""
    standings = total(*events).standings
    assert [one.scope for one in standings] == sorted({one.scope for one in standings})
    assert all(one != Standing(scope=one.scope) for one in standings)
    assert all((one.cause is None) == (one.category is None) == (one.since is None) for one in standings)


@given(st.lists(EVENTS), st.integers())
def test_replay_equals_the_record(events: list[AnyEvent], cut: int) -> None:
    """A record that is kept and stepped event by event, however long it lay in between, is the fold of the history."""
    place = cut % (len(events) + 1)
    assert total(*events[place:], record=fold(KEY, events[:place], POLICY)) == fold(KEY, events, POLICY)


# --- expiry and settings by category

FULL = Category.MAILBOX_FULL
SHORT = Policy(silence=1_000, categories={FULL: Treatment(action=Effect.STRIKE, threshold=2, expiry=10_000, growth=3)})


def block_of(*events: AnyEvent, now: int, policy: Policy = SHORT) -> bool:
    """Tell whether mail of the news stream is kept back at a time."""
    return total(*events, policy=policy).block(NEWS, now) is not None


def test_a_block_expires_and_grows() -> None:
    """A block ends by itself; the next bounce blocks again at once, and each time for three times as long."""
    events: list[AnyEvent] = [soft(50, 60), soft(100, 110)]
    assert block_of(*events, now=10_109)
    assert not block_of(*events, now=10_110)
    events.append(soft(20_000, 20_010))
    assert block_of(*events, now=50_009)
    assert not block_of(*events, now=50_010)
    events.append(soft(60_000, 60_010))
    standing = total(*events, policy=SHORT).standing(EVERYWHERE)
    assert (standing.since, standing.until, standing.times) == (60_010, 150_010, 2)


def test_a_block_never_lasts_longer_than_ten_years() -> None:
    """However often it grew, an expiring block ends."""
    policy = Policy(categories={FULL: Treatment(action=Effect.BLOCK, expiry=DAY, growth=1e6)})
    record = total(*(soft(at, at + 1) for at in range(0, 30_000 * DAY, 4_000 * DAY)), policy=policy)
    standing = record.standing(EVERYWHERE)
    assert standing.since is not None
    assert standing.until == standing.since + 3_650 * DAY
    assert standing.times == 7


def test_one_trial_mail_passes() -> None:
    """After the end of a block the first mail that is signed has an hour to leave, and then the block waits for what comes of it."""
    events = [soft(50, 60), soft(100, 110), sent(20_000)]
    assert not block_of(*events, now=20_000 + TRIAL - 1)
    later = dataclasses.replace(SHORT, silence=9_000)
    assert block_of(*events, now=20_000 + TRIAL, policy=later)
    assert block_of(*events, now=28_999, policy=later)
    assert not block_of(*events, now=29_000, policy=later)


def test_a_trial_that_bounces_blocks_for_longer() -> None:
    """A trial mail that bounces blocks again, for longer, though the block had not yet gone on."""
    standing = total(soft(50, 60), soft(100, 110), sent(20_000), soft(20_000, 20_010), policy=SHORT).standing(EVERYWHERE)
    assert (standing.since, standing.until, standing.times, standing.rests_until, standing.sent) == (20_010, 50_010, 1, None, ())


@pytest.mark.parametrize(
    "success",
    [delivered(20_500), delivered(20_500, token="x", signed_at=20_000), blocked(21_000, RECEIPTS), noticed(21_500, signed_at=1)],
    ids=["told", "reported", "silence, at a block elsewhere", "silence, at a notice"],
)
def test_a_trial_that_arrives_ends_the_block(success: AnyEvent) -> None:
    """A trial mail that arrived, told or by silence, ends the block for good, its strikes and its growth."""
    record = total(soft(50, 60), soft(100, 110), soft(20_000, 20_010), sent(60_000), policy=SHORT)
    assert record.standing(EVERYWHERE).times == 1
    later = replace(success, at=success.at + 40_000)
    if isinstance(later, Delivered) and later.signed_at:
        later = replace(later, signed_at=60_000)
    assert total(later, record=record, policy=SHORT).standing(EVERYWHERE) == everywhere()


def test_an_ended_block_ends_by_a_told_success() -> None:
    """Mail that is told as delivered after the end of a block ends it without a trial; mail from before its end does not."""
    record = total(soft(50, 60), soft(100, 110), policy=SHORT)
    assert total(delivered(10_110), record=record, policy=SHORT).standing(EVERYWHERE) == everywhere()
    assert total(delivered(10_109), record=record, policy=SHORT).standing(EVERYWHERE).cause is Cause.SOFT


def test_a_complaint_may_expire_in_its_stream() -> None:
    """An expiring complaint has its trial in its own stream."""
    policy = Policy(silence=1_000, categories={Category.COMPLAINT: Treatment(action=Effect.BLOCK, expiry=10_000)})
    record = total(complained(), sent(20_000), policy=policy)
    assert record.standing(NEWS).rests_until == 20_000 + TRIAL
    assert total(noticed(21_000), record=record, policy=policy).standings == ()
    assert total(sent(20_000, scope=RECEIPTS), record=total(complained(), policy=policy), policy=policy).standing(NEWS).rests_until is None


@pytest.mark.parametrize(
    ("disposition", "category", "treatment", "effect"),
    [
        (Disposition.HARD, Category.NO_SUCH_USER, None, Effect.BLOCK),
        (Disposition.SOFT, Category.NO_SUCH_USER, None, Effect.STRIKE),
        (Disposition.BLOCKED, Category.BLOCKED_IP, None, Effect.TELL),
        (Disposition.NONE, Category.UNDETERMINED, None, Effect.IGNORE),
        (Disposition.HARD, Category.INACTIVE, Effect.STRIKE, Effect.STRIKE),
        (Disposition.HARD, Category.MOVED, Effect.IGNORE, Effect.IGNORE),
        (Disposition.SOFT, Category.MAILBOX_FULL, Effect.BLOCK, Effect.BLOCK),
        (Disposition.SOFT, Category.NO_SUCH_USER, Effect.BLOCK, Effect.STRIKE),
        (Disposition.BLOCKED, Category.POLICY, Effect.STRIKE, Effect.STRIKE),
        (Disposition.NONE, Category.MAILBOX_FULL, Effect.BLOCK, Effect.IGNORE),
    ],
)
def test_treatments(disposition: Disposition, category: Category, treatment: Effect | None, effect: Effect) -> None:
    """Each category does what its disposition says, or what the operator says; what is temporary or only a notice never becomes a death."""
    policy = Policy(soft_limit=7, categories={category: Treatment(action=treatment, threshold=2)} if treatment else {})
    found = policy.treatment(Outcome(disposition=disposition, category=category, rule="r"))
    assert found.action is effect
    if treatment is None or treatment is not effect:
        assert found.threshold == 7 or effect is Effect.IGNORE


def test_permanent_categories_are_those_of_the_rules() -> None:
    """What policy takes for a death by nature is what the table of causes says."""
    assert {cause.category for cause in causes().values() if cause.disposition is Disposition.HARD} == PERMANENT


def test_thresholds_by_category() -> None:
    """The category of the bounce that comes decides how many in a row are too many, whatever those before it were."""
    policy = Policy(soft_limit=3, categories={FULL: Treatment(action=Effect.STRIKE, threshold=30)})
    other = replace(soft(99).outcome, category=Category.NETWORK)
    record = total(*(soft(at) for at in range(29)), policy=policy)
    assert record.block(NEWS, 300) is None
    assert record.standing(EVERYWHERE).strikes == 29
    assert total(soft(29), record=record, policy=policy).block(NEWS, 300) is not None
    assert total(replace(soft(29), outcome=other), record=record, policy=policy).block(NEWS, 300) is not None


def test_one_mail_is_one_strike_also_where_deaths_strike() -> None:
    """A mail that comes back refused, then soft, then dead is one strike where the operator lets all three strike."""
    strike = Treatment(action=Effect.STRIKE, threshold=2)
    policy = Policy(soft_limit=2, categories={Category.NO_SUCH_USER: strike, Category.BLOCKED_IP: strike})
    worse = [bounced(disposition) for disposition in (Disposition.BLOCKED, Disposition.SOFT, Disposition.HARD)]
    assert all(adds(event, worse[:number]) for number, event in enumerate(worse))

    record = total(*worse, policy=policy)

    assert record.standing(EVERYWHERE).struck == (50,)
    assert record.block(NEWS, 300) is None
    assert total(bounced(Disposition.HARD, signed_at=51, token="u"), record=record, policy=policy).block(NEWS, 300) is not None


def test_many_strikes_are_not_kept_for_ever() -> None:
    """Of strikes that block nobody any more the newest twenty are kept."""
    assert total(*(soft(at) for at in range(100))).standing(EVERYWHERE).struck == tuple(range(80, 100))


def test_an_ignored_category_changes_nothing() -> None:
    """A category that is to be ignored or only told neither blocks nor strikes, and a held verdict of such a one holds nothing."""
    for effect in (Effect.IGNORE, Effect.TELL):
        policy = Policy(categories={Category.NO_SUCH_USER: Treatment(action=effect)})
        assert total(HARD, replace(HARD, held="A"), policy=policy).standings == ()


def test_streams_may_pass_complaints() -> None:
    """A stream that passes complaints goes on after one, other streams do not, and a dead mailbox stops it all the same."""
    policy = Policy(pass_complaints=frozenset({RECEIPTS}))
    record = total(complained(scope=RECEIPTS), complained(scope=NEWS), policy=policy)
    assert record.block(RECEIPTS, 300) is None
    assert record.block(NEWS, 300) is not None
    assert total(HARD, record=record, policy=policy).block(RECEIPTS, 300) is not None


def test_complaints_may_be_told_only() -> None:
    """Where complaints are to be told only, none blocks."""
    assert total(complained(), policy=Policy(categories={Category.COMPLAINT: Treatment(action=Effect.TELL)})).standings == ()


def test_a_mailed_unsubscribe_is_a_complaint_of_its_own_name() -> None:
    """Who unsubscribed by mail is blocked in that stream, and the reason is told apart from a report of spam."""
    assert total(replace(complained(), feedback_type=OPT_OUT)).standing(NEWS).category == "opt-out"


# --- silence


def test_silence_is_a_success() -> None:
    """A mail signed after a strike, of which nothing came back for six days, takes the strike back; a question alone never does."""
    events = [*(soft(at) for at in range(50, 54)), sent(60)]
    assert total(*events, soft(70, 60 + 6 * DAY - 1)).standing(EVERYWHERE).strikes == 5
    late = total(*events, soft(70, 60 + 6 * DAY))
    assert (late.standing(EVERYWHERE).struck, late.delivered_at, late.block(NEWS, 7 * DAY)) == ((70,), 60, None)


@pytest.mark.parametrize(
    "answer", [noticed(70, signed_at=60), bounced(Disposition.BLOCKED, 70, signed_at=60), complained(70, signed_at=60)]
)
def test_what_was_answered_is_not_silent(answer: AnyEvent) -> None:
    """Whatever came back of a mail, even a delay or a refusal, its silence afterwards says nothing."""
    record = total(soft(50), sent(60), answer, soft(70, 9 * DAY))
    assert record.standing(EVERYWHERE).struck == (50, 70)


def test_only_mail_after_a_strike_is_remembered() -> None:
    """Mail of clear addresses and from before the first strike is not remembered, and of the rest twenty at a time."""
    assert total(sent(60)).standings == ()
    assert total(soft(60), sent(60), sent(50)).standing(EVERYWHERE).sent == ()
    assert total(soft(50), *(sent(at) for at in range(60, 100))).standing(EVERYWHERE).sent == tuple(range(60, 60 + MOST_SENT))


@pytest.mark.parametrize(
    ("events", "now", "awaits"),
    [
        ([], 100, False),
        ([HARD], 100, False),
        ([soft(50)], 100, True),
        ([soft(50), *(sent(at) for at in range(60, 80))], 100, False),
        ([soft(50, 60), soft(100, 110), delivered(105)], 200, False),
        ([soft(50, 60), soft(100, 110)], 10_110, True),
    ],
)
def test_awaits_success(events: list[AnyEvent], now: int, awaits: bool) -> None:
    """A signing is worth remembering where there are strikes or an ended block, until enough are remembered."""
    assert awaits_success(total(*events, policy=SHORT), NEWS, now) is awaits


@pytest.mark.parametrize(
    ("events", "at", "lives"),
    [
        ([], 0, False),
        ([delivered(100)], 100 + RECENT, True),
        ([delivered(100)], 101 + RECENT, False),
        ([noticed(100)], 100 + LONG_KNOWN, True),
        ([noticed(100)], 99 + LONG_KNOWN, False),
        ([soft(90, 100)], 100 + LONG_KNOWN, False),
        ([soft(90, 100), delivered(200)], 100 + LONG_KNOWN, True),
        ([HARD, delivered(200)], 300, False),
        ([complained(), delivered(200)], 300, True),
    ],
)
def test_established(events: list[AnyEvent], at: int, lives: bool) -> None:
    """An address is established if mail arrived in the last 90 days, or if it is known for 30 and clear; never while it is blocked."""
    assert established(total(*events), at) is lives


# --- what incidents hold

HELD = bounced(Disposition.HARD, held="A")
HOLD = Hold(incident="A", category="no-such-user", signed_at=50)


@pytest.mark.parametrize(
    ("events", "standings"),
    [
        ([HELD], (everywhere(held=(HOLD,)),)),
        (
            [HELD, confirmed(200)],
            (everywhere(cause=Cause.HARD, category="no-such-user", since=200, incident="A", held=(replace(HOLD, confirmed_at=200),)),),
        ),
        ([HELD, confirmed(200, "B")], (everywhere(held=(HOLD,)),)),
        ([HELD, reverted(200)], ()),
        ([HELD, reverted(200, "B")], (everywhere(held=(HOLD,)),)),
        ([HELD, confirmed(200), reverted(300)], ()),
        (
            [HELD, confirmed(200), reverted(300, "B")],
            (everywhere(cause=Cause.HARD, category="no-such-user", since=200, incident="A", held=(replace(HOLD, confirmed_at=200),)),),
        ),
        ([HARD, HELD, confirmed(200), reverted(300)], (HARD_BLOCK,)),
        ([HELD, bounced(Disposition.HARD, 150), reverted(300)], (everywhere(cause=Cause.HARD, category="no-such-user", since=150),)),
        ([HELD, confirmed(120), bounced(Disposition.HARD, 150), reverted(300)], (replace(HARD_BLOCK, since=150),)),
        ([HELD, confirmed(120), blocked(150), reverted(300)], (replace(MANUAL_BLOCK, since=150),)),
        ([HELD, confirmed(200), delivered(250), reverted(300)], ()),
        ([HELD, replace(HELD, held="B"), confirmed(200), reverted(300)], (everywhere(held=(replace(HOLD, incident="B"),)),)),
        (
            [HELD, replace(HELD, held="B"), confirmed(200), confirmed(220, "B"), delivered(250), reverted(300)],
            (
                everywhere(
                    cause=Cause.HARD,
                    category="no-such-user",
                    since=220,
                    incident="B",
                    held=(replace(HOLD, incident="B", confirmed_at=220),),
                ),
            ),
        ),
        ([HELD, delivered(50), confirmed(200)], ()),
        (
            [HELD, delivered(49), confirmed(200)],
            (everywhere(cause=Cause.HARD, category="no-such-user", since=200, incident="A", held=(replace(HOLD, confirmed_at=200),)),),
        ),
        ([released(50), HELD], (everywhere(released_at=50),)),
        ([HELD, released(150), confirmed(200)], (everywhere(released_at=150),)),
        ([HELD, replace(HELD, held="B"), reverted(200, "A")], (everywhere(held=(replace(HOLD, incident="B"),)),)),
    ],
)
def test_held_verdicts(events: list[AnyEvent], standings: tuple[Standing, ...]) -> None:
    """A held verdict blocks nobody until a person confirms it; reverted, it leaves what others proved, before and after."""
    assert total(*events).standings == standings


@given(st.lists(EVENTS), st.integers(0, 99))
def test_reverting_undoes_exactly(events: list[AnyEvent], at: int) -> None:
    """After a revert an address stands as if the incident had never been, confirmed or not, and its verdicts mere notices."""
    mine = [event for event in events if not isinstance(event, Reverted) or event.incident != "A"]
    without: list[AnyEvent] = []
    for event in mine:
        if isinstance(event, Bounced) and event.held == "A":
            without.append(noticed(event.at, signed_at=event.signed_at))
        elif isinstance(event, Confirmed) and event.incident == "A":
            without.append(noticed(event.at, signed_at=-1))
        else:
            without.append(event)
    assert total(*mine, reverted(at)).standings == total(*without).standings


def test_reverting_is_checked() -> None:
    """Control: a revert that cleared the address would undo a genuine block."""
    assert total(HARD, HELD, released(300)).standings != total(HARD).standings
