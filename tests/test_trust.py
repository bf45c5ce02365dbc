"""Mail without a seal that an operator chose to trust: whom it concerns, and how little it may do against what is signed."""

import ipaddress
from pathlib import Path

import pytest

from bounced.address import AddressKey
from bounced.policy import Policy, fold
from bounced.record import AnyEvent, Bounced, Cause, Complained, Delivered, Noticed, Released
from bounced.returnpath import Refusal
from bounced.scope import DEFAULT_SCOPE, EVERYWHERE
from bounced.trust import UNDATED, ClassicVerp, FeedbackMailbox, Trust
from tests.system.mail import complaint
from tests.test_intake import DAY, DEAD, FULL, JOE, NOW, House, dsn, envelope, recipient

TRUST = Trust(verp=("bounce+", "list-"), feedback=frozenset({"fbl"}), networks=(ipaddress.ip_network("203.0.113.0/24"),))
VERP = "bounce+joe=example.org@bounces.example.net"


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path, trust=TRUST)


async def bring(house: House, forward_path: str, content: bytes, client: str = "192.0.2.7") -> list[AnyEvent]:
    """Take one mail that must be admitted; return the history of Joe after it."""
    admission = house.admit(forward_path, client)
    assert not isinstance(admission, Refusal)
    await house.intake.accept(envelope(forward_path, client), admission, content)
    return list(house.store.history(AddressKey(JOE)))


def with_path(content: bytes, path: str) -> bytes:
    """Return a feedback report that tells the envelope sender of the mail complained of."""
    return content.replace(b"Version: 1\r\n", b"Version: 1\r\nOriginal-Mail-From: <%s>\r\n" % path.encode())


@pytest.mark.parametrize(
    ("local_part", "recipient"),
    [
        ("bounce+joe=example.org", JOE),
        ("BOUNCE+Joe=Example.ORG", JOE),
        ("list-joe=example.org", JOE),
        ("bounce+a=b=example.org", "a=b@example.org"),
        ("bounce+joe", None),
        ("bounce+=example.org", None),
        ("bounce+joe=", None),
        ("other+joe=example.org", None),
        ("bounce+joe=exa mple", None),
    ],
)
def test_classic_verp_names_its_recipient(local_part: str, recipient: str | None) -> None:
    """A trusted prefix, a user, =, a host: whatever the case; anything else names nobody."""
    assert TRUST.admits(local_part) == (None if recipient is None else ClassicVerp(AddressKey(recipient)))


def test_nothing_is_trusted_that_nobody_asked_for(tmp_path: Path, house: House) -> None:
    """Without settings unsigned VERP and feedback mailboxes are refused; and a seal that does not hold is never read as classic VERP."""
    plain = House(tmp_path / "plain")
    assert plain.admit(VERP) is Refusal.FOREIGN
    assert plain.admit("fbl@bounces.example.net") is Refusal.FOREIGN

    assert isinstance(house.admit(VERP), ClassicVerp)
    assert isinstance(house.admit("FBL@bounces.example.net"), FeedbackMailbox)
    forged = House(tmp_path / "forged", trust=Trust(verp=("b+",)))
    local_part, _, domain = forged.signed().partition("@")
    assert forged.admit(f"{local_part}x@{domain}") is Refusal.FORGED


async def test_unsigned_verp_counts_and_is_marked(house: House) -> None:
    """A bounce at unsigned VERP blocks as any other, and its event says that no seal proves it."""
    (event,) = await bring(house, VERP, DEAD)

    assert isinstance(event, Bounced)
    assert event.unsigned == "verp"
    assert house.cause() is Cause.HARD


async def test_copies_of_one_unsigned_bounce_count_once(house: House) -> None:
    """The same report five times is one strike; five reports are five."""
    for _ in range(5):
        await bring(house, VERP, FULL)
    assert house.cause() is None
    assert house.store.look_up(AddressKey(JOE)).standing(EVERYWHERE).strikes == 1

    for day in range(4):
        await bring(house, VERP, FULL.replace(b"552 5.2.2 Mailbox full", b"552 5.2.2 Mailbox full on day %d" % day))
    assert house.cause() is Cause.SOFT


async def test_what_a_signed_mail_contradicts_does_not_block(house: House) -> None:
    """Where it is known that a later mail arrived, an unsigned bounce changes nothing; a signed one still does."""
    await house.store.record(Delivered(at=NOW - DAY, key=AddressKey(JOE), scope=DEFAULT_SCOPE, by="mailer"))

    await bring(house, VERP, DEAD)
    assert house.cause() is None

    await house.bounce(DEAD)
    assert house.cause() is Cause.HARD


async def test_a_success_lifts_what_only_unsigned_mail_blocked(house: House) -> None:
    """A delivery that is told after an unsigned block lifts it; once a signed bounce proves the death, none does."""
    delivery = Delivered(at=NOW + DAY, key=AddressKey(JOE), scope=DEFAULT_SCOPE, by="mailer")
    await bring(house, VERP, DEAD)
    assert house.cause() is Cause.HARD
    history = list(house.store.history(AddressKey(JOE)))

    assert fold(AddressKey(JOE), [*history, delivery], Policy()).block(DEFAULT_SCOPE, NOW + DAY) is None

    await house.bounce(DEAD)
    history = list(house.store.history(AddressKey(JOE)))
    assert fold(AddressKey(JOE), [*history, delivery], Policy()).block(DEFAULT_SCOPE, NOW + DAY) is not None


async def test_an_unsigned_report_of_delivery_takes_nothing_back(house: House) -> None:
    """Anybody could write it, and it would end a run of soft bounces: it is noted and changes nothing."""
    for age in range(1, 5):
        await house.bounce(FULL, house.signed(at=NOW - age * 60))

    events = await bring(house, VERP, dsn(recipient(JOE, "2.0.0", "250 OK", action="delivered")))

    assert isinstance(events[-1], Noticed)
    await house.bounce(FULL, house.signed(at=NOW))
    assert house.cause() is Cause.SOFT


async def test_a_release_outlives_late_unsigned_bounces(house: House) -> None:
    """A mail without date may be as old as any on its way, so what comes within six days of a release does not block again."""
    await bring(house, VERP, DEAD)
    await house.store.record(Released(at=NOW - UNDATED, key=AddressKey(JOE), scope=EVERYWHERE, by="uid 0", reason="he lives"))
    assert house.cause() is None

    await bring(house, VERP, DEAD.replace(b"User unknown", b"User unknown, he says"))
    assert house.cause() is None


async def test_a_feedback_report_is_known_by_the_seal_in_it(house: House) -> None:
    """A report at the feedback mailbox concerns whom the signed return path of the mail names, whoever else it names itself."""
    path = house.signed()

    (event,) = await bring(house, "fbl@bounces.example.net", with_path(complaint("victim@example.net"), path))

    assert isinstance(event, Complained)
    assert event.unsigned is None
    assert house.cause() is Cause.COMPLAINT
    assert house.cause("victim@example.net") is None


async def test_a_report_without_a_seal_counts_only_from_trusted_networks(house: House) -> None:
    """Without a genuine return path in it, a report is kept for a person; from a trusted network, whom it names complained."""
    for content in (complaint(JOE), with_path(complaint(JOE), "b+zzzzzzzzzzzzzzzzzzzzzzz+joe=example.org@bounces.example.net")):
        assert await bring(house, "fbl@bounces.example.net", content) == []
    assert len(list((house.kept / "unread" / "new").iterdir())) == 2

    (event,) = await bring(house, "fbl@bounces.example.net", complaint(JOE), client="203.0.113.9")

    assert isinstance(event, Complained)
    assert event.unsigned == "feedback"
    assert house.cause() is Cause.COMPLAINT


async def test_what_is_no_report_is_kept_for_a_person(house: House) -> None:
    """A letter, or a bounce, at the feedback mailbox changes nobody and is kept, also from a trusted network."""
    for content in (b"From: a@example.net\r\nSubject: hello\r\n\r\nHello.\r\n", DEAD):
        assert await bring(house, "fbl@bounces.example.net", content, client="203.0.113.9") == []
    assert len(list((house.kept / "unread" / "new").iterdir())) == 2
