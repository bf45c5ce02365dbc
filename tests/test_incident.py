"""Incidents: many bounces are one thing, opened once, counted, closed."""

import random

import pytest
from msgspec import structs

from bounced.address import AddressKey
from bounced.incident import (
    MAX_DOMAINS,
    MAX_SAMPLE,
    QUIET,
    Incident,
    Kind,
    accepted,
    advice,
    is_flood,
    joined,
    opened,
    refusal_subject,
    refused,
    settled,
)
from bounced.outcome import Blocker, Category, Disposition, Outcome
from bounced.record import Bounced
from bounced.scope import Scope

NOON = 1_750_000_000
LIST = Blocker(name="Example list", ours="192.0.2.1", delisting="https://list.example/remove")


def refusal(number: int = 0, blocker: Blocker | None = LIST, text: str = "554 5.7.1 192.0.2.1 is listed") -> Bounced:
    """Make a bounce in which somebody refuses us."""
    outcome = Outcome(disposition=Disposition.BLOCKED, category=Category.BLOCKED_IP, rule="r", diagnostic=text, blocker=blocker)
    key = AddressKey(f"ada@d{number}.example")
    return Bounced(at=NOON + number, key=key, scope=Scope("news"), token=f"t{number}", signed_at=NOON, outcome=outcome, reader="r")


def test_refusals_become_one() -> None:
    """A hundred refusals of one address of ours by one list are one incident: count, first words, domains, where to ask for removal."""
    incident: Incident | None = None
    for number in range(100):
        incident = refused(incident, refusal(number, text=f"text {number} " + "x" * 1000))
    assert incident is not None
    assert (incident.kind, incident.subject, incident.count) == (Kind.REFUSED, "Example list 192.0.2.1", 100)
    assert incident.sample.startswith("text 0 ")
    assert len(incident.sample) == MAX_SAMPLE
    assert incident.domains == tuple(f"d{number}.example" for number in range(MAX_DOMAINS))
    assert (incident.ours, incident.delisting) == ("192.0.2.1", "https://list.example/remove")
    assert (incident.opened_at, incident.last_at, incident.closed_at) == (NOON, NOON + 99, None)


def test_a_bounce_without_blocker_is_none() -> None:
    """A refusal by a filter without a name is of one incident for its category; a full mailbox refuses nothing of ours."""
    assert refusal_subject(refusal(blocker=None)) == "no list named, blocked-ip"
    incident = refused(None, refusal(blocker=None))
    assert incident is not None
    assert (incident.ours, incident.delisting, incident.count) == (None, None, 1)
    full = structs.replace(refusal(blocker=None).outcome, disposition=Disposition.SOFT, category=Category.MAILBOX_FULL)
    assert refused(None, structs.replace(refusal(), outcome=full)) is None


def test_subjects_tell_what_of_ours() -> None:
    """The same list that refuses two of our addresses is two subjects; without an address its name alone is."""
    assert refusal_subject(refusal(blocker=structs.replace(LIST, ours="192.0.2.2"))) != refusal_subject(refusal())
    assert refusal_subject(refusal(blocker=Blocker(name="google"))) == "google"


def test_the_first_known_address_of_removal_stays() -> None:
    """Where only a later text tells where to ask, that is kept, and not replaced."""
    incident = refused(None, refusal(blocker=structs.replace(LIST, delisting=None)))
    incident = refused(incident, refusal())
    incident = refused(incident, refusal(blocker=structs.replace(LIST, delisting="https://evil.example")))
    assert incident is not None
    assert incident.delisting == LIST.delisting


def test_ids_are_stable_and_differ() -> None:
    """An id is made of kind, day and the rest; equal things have equal ids, whatever the subject's letters."""
    assert opened(Kind.OUTAGE, "google", NOON) == opened(Kind.OUTAGE, "google", NOON)
    ids = {opened(kind, subject, at).id for kind in Kind for subject in ("google", "\udc80\0") for at in (NOON, NOON + 1)}
    assert len(ids) == 16
    assert opened(Kind.OUTAGE, "google", NOON).id.startswith("outage-20250615-")


def test_joining_counts_several() -> None:
    """Several bounces can be counted at once, and an earlier one does not set the clock back."""
    incident = joined(joined(opened(Kind.BACKSCATTER, "example.net", NOON), NOON + 9, times=7), NOON + 1)
    assert (incident.count, incident.last_at, incident.domains, incident.sample) == (8, NOON + 9, (), "")


def deliveries(incident: Incident, limit: int) -> tuple[Incident, int]:
    """Let mail be delivered until the incident closes, `limit` times at most; return it, and how many it took."""
    for number in range(limit):
        if incident.closed_at is not None:
            return incident, number
        incident = accepted(incident, incident.last_at + 1 + number, "d0.example")
    return incident, limit


def refusals(incident: Incident | None, number: int) -> Incident:
    """Let mail be refused so many times more."""
    for _ in range(number):
        incident = refused(incident, refusal())
    assert incident is not None
    return incident


@pytest.mark.parametrize(("refusals_", "takes"), [(1, 427), (7, 67), (20, 28), (1_000, 8)])
def test_deliveries_in_a_row_close_a_refusal(refusals_: int, takes: int) -> None:
    """One delivery closes nothing; the more was refused, and nothing taken between, the fewer in a row say that it is over."""
    incident, took = deliveries(refusals(None, refusals_), 1_000)
    assert (took, incident.closed_at) == (takes, NOON + takes)


def test_a_refusal_of_some_mail_goes_on(full_counts: bool) -> None:
    """Where three of four mails are taken and the fourth refused, in any order, the incident stays open; a refusal begins the row anew."""
    chance, closed = random.Random(5), 0
    for _ in range(2_000 if full_counts else 200):
        incident = refusals(None, 20)
        for _ in range(200):
            incident = refusals(incident, 1) if chance.random() < 0.25 else accepted(incident, NOON + 5, "d0.example")
            if incident.closed_at is not None:
                closed += 1
                break
    assert closed <= (2_000 if full_counts else 200) // 20
    assert refusals(deliveries(refusals(None, 20), 27)[0], 1).accepted_in_row == 0


def test_only_what_concerns_it_closes_a_refusal() -> None:
    """Control: deliveries to other domains, before the last refusal, and to what is no refusal, count nothing."""
    incident = refused(None, refusal())
    assert incident is not None
    assert accepted(incident, NOON + 5, "d0.example").accepted_in_row == 1
    assert accepted(incident, NOON + 5, "d1.example") == incident
    assert accepted(incident, NOON, "d0.example") == incident
    other = structs.replace(incident, kind=Kind.COMPROMISED)
    assert accepted(other, NOON + 5, "d0.example") == other
    closed = structs.replace(incident, closed_at=NOON)
    assert accepted(closed, NOON + 5, "d0.example") == closed


@pytest.mark.parametrize("kind", Kind)
def test_quiet_closes(kind: Kind) -> None:
    """A day without another closes an incident, once; an outage is its guard's."""
    incident = joined(opened(kind, "x", NOON), NOON + 60)
    assert settled(incident, NOON + QUIET) == incident
    later = settled(incident, NOON + 60 + QUIET)
    assert later.closed_at == (None if kind is Kind.OUTAGE else NOON + 60 + QUIET)
    assert settled(later, NOON + 9 * QUIET).closed_at == later.closed_at


@pytest.mark.parametrize(
    ("today", "earlier", "flood"),
    [(999, [], False), (1_000, [], True), (50_000, [300, 4_000, 20], True), (50_000, [6_000], False), (1_000, [100, 90], True)],
)
def test_floods(today: int, earlier: list[int], flood: bool) -> None:
    """A flood is the least number on a day, and ten times the worst day before."""
    assert is_flood(today, earlier, 1_000) is flood


def test_advice_is_for_forgery_and_abuse() -> None:
    """Forged return paths and stolen accounts come with advice; outages and refusals speak for themselves."""
    assert [kind for kind in Kind if advice(kind)] == [Kind.BACKSCATTER, Kind.COMPROMISED]
