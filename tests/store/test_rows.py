"""Rows: what is written reads back the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bounced.address import AddressKey
from bounced.guard import Watch
from bounced.incident import Kind, joined, opened
from bounced.outcome import Category, Disposition
from bounced.record import AnyEvent, Cause, Hold, Standing
from bounced.returnpath import KeyRing, ReturnPath
from bounced.scope import EVERYWHERE
from bounced.store.rows import (
    EventRow,
    RowError,
    StandingRow,
    _any_detail,
    _usual_detail,
    event_of,
    event_row,
    incident_detail,
    incident_of,
    naming,
    pack,
    standing_of,
    standing_row,
    unpack,
    watch_numbers,
    watch_of,
)
from tests.store.events import ANNA, NEWS, NOON, blocked, bounced, complained, confirmed, delivered, noticed, released, reverted, seal, sent

ONE_OF_EACH: list[AnyEvent] = [
    *(bounced(1), complained(1), noticed(1), delivered(), blocked(), released(), sent(1), confirmed(), reverted()),
    *(replace(bounced(1), provider="google", held="outage-20250615-aaaaa"), replace(delivered(), token=seal(1), signed_at=NOON)),
]


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: type(event).__name__)
def test_events_read_back_the_same(event: AnyEvent) -> None:
    """Every kind of event survives, with NUL and lone surrogates in its text."""
    assert event_of(event_row(event)) == event


@given(
    said=st.lists(st.text() | st.text(alphabet='",:nul{}\\signed_at\x00\x7f\n'), min_size=4, max_size=4),
    absent=st.lists(st.booleans(), min_size=2),
)
def test_the_short_way_to_a_row_writes_the_same(said: list[str], absent: list[bool]) -> None:
    """Whatever strangers say, a bounce is written as it is by the way that takes every event, or is left to that."""
    diagnostic, reader, provider, person = said
    event = replace(
        bounced(1),
        outcome=replace(bounced(1).outcome, diagnostic=diagnostic, blocker=None if absent[0] else bounced(1).outcome.blocker),
        reader=reader,
        provider=None if absent[1] else provider,
        final_recipient=person,
    )
    assert _usual_detail(event) in {_any_detail(event), None}
    plain = replace(event, reader="rfc3464", final_recipient=None, provider=None, outcome=replace(event.outcome, diagnostic="550 \n no"))
    assert _usual_detail(plain) == _any_detail(plain)


def test_what_was_written_before_a_field_was_added_reads_with_its_default() -> None:
    """A row without an optional field reads as an event with the default, and one with a field that is no more is read without it."""
    row = event_row(bounced(1))
    assert event_of(row._replace(detail=row.detail.replace('"client":"192.0.2.9"', '"formerly":1'))).client == ""  # type: ignore[union-attr]


@pytest.mark.parametrize("row", [EventRow(1, "eaten", "a@b", "*", None, "{}"), EventRow(1, "bounced", "a@b", "*", None, "[")])
def test_an_unreadable_row_is_named(row: EventRow) -> None:
    """A kind of event that we do not know, or a text that is no JSON, raises RowError."""
    with pytest.raises(RowError):
        event_of(row)


@pytest.mark.parametrize("cause", [None, *Cause])
@pytest.mark.parametrize("category", [None, "manual", "a word of tomorrow", *(category.value for category in Category)])
def test_standings_read_back_the_same(cause: Cause | None, category: str | None) -> None:
    """Every cause and every word survives, those without a number among them."""
    standing = Standing(scope=NEWS, cause=cause, category=category, since=1, struck=(1, 2), released_at=3)
    full = replace(
        standing, until=9, times=2, rests_until=8, incident="i", sent=(3, 4), held=(Hold(incident="i", category="c", signed_at=1),),
        unsigned=True,
    )  # fmt: skip
    untouched = Standing(scope=NEWS)
    told = {field for field in Standing.__struct_fields__ if getattr(full, field) != getattr(untouched, field)}
    assert told | {"scope", "cause", "category"} == set(Standing.__struct_fields__)
    for one in (Standing(scope=NEWS), standing, full):
        assert standing_of(standing_row(one)) == one


def test_the_numbers_of_the_words_stay() -> None:
    """A number that is on somebody's disk never changes its meaning."""
    numbered = [standing_of(StandingRow(EVERYWHERE, "h", number, 1, None, None)).category for number in range(14)]
    assert numbered == [
        *("no-such-user", "no-such-domain", "inactive", "moved", "not-accepting", "mailbox-full", "message-too-large", "rate-limited"),
        *("network", "expired", "mail-loop", "system-error", "complaint", "manual"),
    ]


@pytest.mark.parametrize(
    "row",
    [
        StandingRow(EVERYWHERE, "x", 1, 1, None, None),
        StandingRow(EVERYWHERE, "h", 99, 1, None, None),
        StandingRow(EVERYWHERE, "h", 1, 1, None, "["),
    ],
)
def test_an_unreadable_standing_is_named(row: StandingRow) -> None:
    """A cause or a number that we do not know raises RowError."""
    with pytest.raises(RowError):
        standing_of(row)


@given(st.one_of(st.text(), st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=16, max_size=23)))
def test_packing_loses_nothing(text: str) -> None:
    """Any text can be unpacked again, so no two tokens become one."""
    assert unpack(pack(text)) == text


def test_packed_seals_sort_by_time() -> None:
    """A seal takes 15 octets, an opaque id 10, and the order stays: new tokens are neighbours on disk."""
    packed = [pack(seal(number)) for number in (0, 1, 33, 1 << 90, (1 << 115) - 1)]
    assert packed == sorted(packed, key=bytes)
    assert {len(token) for token in packed} == {15}
    assert len(pack("a" * 16)) == 10


@pytest.mark.parametrize("disposition", Disposition)
def test_every_disposition_is_kept(disposition: Disposition) -> None:
    """All dispositions survive."""
    assert event_of(event_row(bounced(1, disposition))) == bounced(1, disposition)


def test_incidents_read_back_the_same() -> None:
    """An incident survives, with strangers' text in it; one that we cannot read raises RowError."""
    for kind in Kind:
        incident = joined(opened(kind, "a \udc80 b", NOON), NOON + 1, domain="example.org", sample="\0 \udc80 \u2028", times=3)
        assert incident_of(incident_detail(incident)) == incident
    for unreadable in ("[", "{}", '{"id": 1}'):
        with pytest.raises(RowError):
            incident_of(unreadable)


def test_watches_read_back_the_same() -> None:
    """The guard's numbers survive; ones that we cannot read raise RowError."""
    for watch in (Watch(1, 2), Watch(1, 2, (3, 4, 5), (6, 7, 8), 9, 10, 11, 12, 13, 14)):
        assert watch_of(watch_numbers(watch)) == watch
    for unreadable in ("[", "[1,2]", '"x"'):
        with pytest.raises(RowError):
            watch_of(unreadable)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"Final-Recipient: rfc822; Anna.B@Example.ORG\n", True),
        (b"Delivered-To: b+aaaaaaaaaaaaaaaaaaaaaaa+anna.b=example.org@bounces.example.net\n", True),
        (b"\xff\xfe <anna.b@example.org>\x80", True),
        (b"To: joanna.b@example.org, anna.b@example.org.uk, anna.b@example.com, x-anna.b@example.org", False),
        (b"To: Anna B at example.org", False),
    ],
)
def test_mail_that_names_an_address(content: bytes, named: bool) -> None:
    """As it is written in mail and in a return path, in any case, beside any octets; nobody's whose name is longer."""
    assert naming(AddressKey("anna.b@example.org"))(content) is named


def test_mail_to_an_opaque_return_path_names_its_recipient() -> None:
    """A return path that does not name its recipient is known by its id."""
    key = AddressKey(f"{'long.' * 9}name@example.org")
    signed = ReturnPath(ring=KeyRing(()).rotated(b"k" * 32), scopes=(NEWS,)).sign(key, NEWS, NOON)
    assert signed.opaque_id is not None
    assert naming(key)(f"Delivered-To: {signed.local_part.upper()}@bounces.example.net\n".encode())
    assert not naming(ANNA)(f"Delivered-To: {signed.local_part}@bounces.example.net\n".encode())
