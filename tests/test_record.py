"""Records: what is known of an address, and which standing keeps mail of a stream from it."""

import pytest

from bounced.address import AddressKey
from bounced.record import AddressRecord, Cause, Standing
from bounced.scope import EVERYWHERE, Scope

KEY = AddressKey("ada@example.net")
NEWS, RECEIPTS = Scope("news"), Scope("receipts")
DEAD = Standing(scope=EVERYWHERE, cause=Cause.HARD, category="no-such-user", since=7)
STRUCK = Standing(scope=EVERYWHERE, strikes=4)
ANNOYED = Standing(scope=NEWS, cause=Cause.COMPLAINT, category="complaint", since=9)


def test_untouched() -> None:
    """An address of which nothing is known is clear in every stream."""
    record = AddressRecord(key=KEY)
    assert record.standing(NEWS) == Standing(scope=NEWS)
    assert record.block(NEWS) is None
    assert record.block(EVERYWHERE) is None


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
    assert AddressRecord(key=KEY, standings=standings).block(scope) is block
