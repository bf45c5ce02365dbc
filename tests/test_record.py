"""Records: what is known of an address, and which standing keeps mail of a stream from it."""

import pytest
from msgspec.structs import replace

from bounced.address import AddressKey
from bounced.record import AddressRecord, Cause, Standing
from bounced.scope import EVERYWHERE, Scope

KEY = AddressKey("ada@example.net")
NEWS, RECEIPTS = Scope("news"), Scope("receipts")
DEAD = Standing(scope=EVERYWHERE, cause=Cause.HARD, category="no-such-user", since=7)
STRUCK = Standing(scope=EVERYWHERE, struck=(1, 2, 3, 4))
ANNOYED = Standing(scope=NEWS, cause=Cause.COMPLAINT, category="complaint", since=9)


def test_untouched() -> None:
    """An address of which nothing is known is clear in every stream."""
    record = AddressRecord(key=KEY)
    assert record.standing(NEWS) == Standing(scope=NEWS)
    assert record.block(NEWS, 9) is None
    assert record.block(EVERYWHERE, 9) is None


def test_standing_is_of_exactly_one_scope() -> None:
    """A standing is looked up by its own scope, never by that of all."""
    record = AddressRecord(key=KEY, standings=(DEAD, ANNOYED))
    assert record.standing(EVERYWHERE) is DEAD
    assert record.standing(NEWS) is ANNOYED
    assert record.standing(RECEIPTS) == Standing(scope=RECEIPTS)


@pytest.mark.parametrize(
    ("standings", "scope", "block"),
    [
        ((DEAD,), NEWS, DEAD),
        ((DEAD, ANNOYED), NEWS, DEAD),
        ((STRUCK, ANNOYED), NEWS, ANNOYED),
        ((STRUCK, ANNOYED), RECEIPTS, None),
        ((STRUCK,), NEWS, None),
        ((ANNOYED,), EVERYWHERE, None),
    ],
)
def test_block(standings: tuple[Standing, ...], scope: Scope, block: Standing | None) -> None:
    """A stream is blocked by what holds everywhere or by its own standing, never by strikes or by another stream's."""
    assert AddressRecord(key=KEY, standings=standings).block(scope, 9) is block


@pytest.mark.parametrize(
    ("standing", "blocking"),
    [
        (DEAD, range(1, 40)),
        (replace(DEAD, until=20), range(1, 20)),
        (replace(DEAD, until=30, rests_until=25), range(25, 30)),
        (STRUCK, range(0)),
        (replace(STRUCK, until=20), range(0)),
    ],
    ids=["for good", "until it ends", "a trial mail is under way", "clear", "clear for good"],
)
def test_when_it_blocks(standing: Standing, blocking: range) -> None:
    """A block holds until its end, and lets a trial mail pass before it goes on."""
    assert [now for now in range(1, 40) if standing.blocks(now)] == list(blocking)


def test_strikes_are_counted() -> None:
    """The strikes are as many as the mails that struck."""
    assert (STRUCK.strikes, DEAD.strikes) == (4, 0)
