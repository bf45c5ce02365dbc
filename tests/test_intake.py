"""One bounce from envelope to commit."""

from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from bounced import alarm
from bounced.address import AddressKey, address_key
from bounced.envelope import Envelope
from bounced.fault import OwnFault
from bounced.intake import NO_TRUST, Admission, Intake, LocalMailbox
from bounced.maildir import Maildir
from bounced.outcome.ruleset import RuleSet
from bounced.policy import Policy
from bounced.provenance import Ours
from bounced.record import AnyEvent, Bounced, Cause, Complained, Delivered, Noticed
from bounced.returnpath import Claims, KeyRing, Refusal, ReturnPath
from bounced.scope import DEFAULT_SCOPE, EVERYWHERE, Scope
from bounced.store import Recorded, StoreFault, Tally
from bounced.store.memory import MemoryStore
from bounced.trust import Trust

NOW = 1_790_000_000
DAY = 86_400
JOE = "joe@example.org"
NEWS = Scope("news")

DSN = b"""\
From: MAILER-DAEMON@mx.example.org
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

Your message could not be delivered.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.org

%s
--b--
"""


def recipient(address: str, status: str, text: str, action: str = "failed") -> str:
    return f"Final-Recipient: rfc822; {address}\nAction: {action}\nStatus: {status}\nDiagnostic-Code: smtp; {text}\n"


def dsn(*recipients: str) -> bytes:
    return DSN % "\n".join(recipients).encode()


DEAD = dsn(recipient(JOE, "5.1.1", "550 5.1.1 User unknown"))
FULL = dsn(recipient(JOE, "5.2.2", "552 5.2.2 Mailbox full"))
SPAM = dsn(recipient(JOE, "5.7.1", "554 5.7.1 Message rejected as spam"))


class House:
    """An intake over a memory store, with a clock that stands still."""

    def __init__(self, tmp_path: Path, store: MemoryStore | None = None, trust: Trust = NO_TRUST) -> None:
        self.store = store or MemoryStore(Policy())
        self.return_path = ReturnPath(ring=KeyRing(()).rotated(b"k" * 32), scopes=(DEFAULT_SCOPE, NEWS))
        self.kept = tmp_path
        self.intake = Intake(
            domains=("bounces.example.net", "old.example.net"),
            return_path=self.return_path,
            rules=RuleSet.builtin(),
            store=self.store,
            postmaster=Maildir(tmp_path / "postmaster", 1 << 20),
            unread=Maildir(tmp_path / "unread", 1 << 20),
            trust=trust,
            clock=lambda: NOW,
            ours=Ours(hosts=frozenset({"mail.example.net", "9.9.9.9"})),
        )

    def signed(self, address: str = JOE, scope: Scope = DEFAULT_SCOPE, *, at: int = NOW - 60) -> str:
        return self.return_path.sign(address_key(address), scope, at).local_part + "@bounces.example.net"

    def admit(self, forward_path: str, client: str = "192.0.2.7") -> Admission:
        return self.intake.admit(envelope(forward_path, client))

    async def bounce(self, content: bytes, forward_path: str | None = None) -> list[AnyEvent]:
        """Take one returned mail; return the history of Joe after it."""
        forward_path = forward_path or self.signed()
        claims = self.admit(forward_path)
        assert isinstance(claims, Claims)
        await self.intake.accept(envelope(forward_path), claims, content)
        return list(self.store.history(AddressKey(JOE)))

    def cause(self, address: str = JOE, scope: Scope = DEFAULT_SCOPE) -> Cause | None:
        block = self.store.look_up(AddressKey(address)).block(scope, NOW)
        return block.cause if block else None


def envelope(forward_path: str, client: str = "192.0.2.7") -> Envelope:
    return Envelope(reverse_path=None, forward_path=forward_path, client=client, helo="mx.example.org", received_at=NOW)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_genuine_return_path_is_admitted_at_every_domain_in_every_case(house: House) -> None:
    """What we signed is admitted at each of our domains, however a relay folded its letters."""
    local_part = house.signed().partition("@")[0]

    for forward_path in (f"{local_part}@bounces.example.net", f"{local_part}@OLD.example.net", f"{local_part.upper()}@Bounces.Example.Net"):
        admitted = house.admit(forward_path)
        assert isinstance(admitted, Claims)
        assert admitted.recipient == JOE


def test_before_the_clock_is_set_nothing_is_refused(house: House) -> None:
    """A machine without a battery begins in 1970, where no seal can be verified: our own fault, until the time is known."""
    early = replace(envelope(house.signed()), received_at=86_400)
    with pytest.raises(OwnFault, match="clock"):
        house.intake.admit(early)
    assert house.intake.admit(replace(early, forward_path="postmaster")) == LocalMailbox("postmaster")


@pytest.mark.parametrize(
    ("forward_path", "refusal"),
    [
        ("joe@bounces.example.net", Refusal.FOREIGN),
        ("{local_part}@elsewhere.example", Refusal.FOREIGN),
        ("{local_part}%bounces.example.net@elsewhere.example", Refusal.FOREIGN),
        ("{local_part}", Refusal.FOREIGN),
        ("", Refusal.FOREIGN),
        ("{local_part}x@bounces.example.net", Refusal.FORGED),
    ],
)
def test_what_we_did_not_sign_is_refused_and_counted(house: House, forward_path: str, refusal: Refusal) -> None:
    """A foreign or forged forward-path is refused, and the refusal is counted under the client's network."""
    local_part = house.signed().partition("@")[0]

    assert house.admit(forward_path.format(local_part=local_part)) is refusal


async def test_refusals_are_counted_by_day_kind_and_network(house: House) -> None:
    """Counts gather in memory, a network is one source, and a flush stores them once."""
    for client in ("192.0.2.7", "192.0.2.200", "2001:db8::1", "local"):
        house.admit("joe@bounces.example.net", client)
    house.admit(house.signed(at=NOW - 31 * DAY))
    assert house.store.tallies() == {}

    await house.intake.flush()
    await house.intake.flush()

    day = "2026-09-21"
    assert house.store.tallies() == {
        Tally(day, "foreign", "192.0.2.0/24"): 2,
        Tally(day, "foreign", "2001:db8::/64"): 1,
        Tally(day, "foreign", "local"): 1,
        Tally(day, "expired", "192.0.2.0/24"): 1,
    }


async def test_counts_wait_where_the_store_cannot_take_them(house: House) -> None:
    """A flush that fails loses no count: the next one stores them."""
    house.admit("joe@bounces.example.net")
    await house.store.close()
    with pytest.raises(StoreFault):
        await house.intake.flush()
    house.store._closed = False

    await house.intake.flush()

    assert sum(house.store.tallies().values()) == 1


async def test_a_flood_of_sources_is_counted_under_one_name(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory and the store's rows are bounded, whatever number of networks is refused on a day, and no refusal is left out."""
    monkeypatch.setattr("bounced.counts.MOST_SOURCES", 100)

    for number in range(1000):
        house.admit("joe@bounces.example.net", f"10.{number // 256}.{number % 256}.1")
        if number % 50 == 0:
            await house.intake.flush()
    await house.intake.flush()

    assert len(house.store.tallies()) == 101
    assert sum(house.store.tallies().values()) == 1000


async def test_a_hard_bounce_blocks_the_recipient_of_the_token(house: House) -> None:
    """User unknown, at a genuine return path, suppresses that recipient at once; the event tells status, words, rule and client."""
    (event,) = await house.bounce(DEAD)

    assert house.cause() is Cause.HARD
    assert isinstance(event, Bounced)
    assert event.outcome.category == "no-such-user"
    assert event.outcome.status == "5.1.1"
    assert "User unknown" in event.outcome.diagnostic
    assert (event.client, event.at, event.signed_at, event.final_recipient) == ("192.0.2.7", NOW, NOW - 60, None)


async def test_five_full_mailboxes_block_and_four_do_not(house: House) -> None:
    """Soft bounces of five mails in a row suppress; copies of one bounce are one."""
    for number in range(4):
        for _ in range(3):
            await house.bounce(FULL, house.signed(at=NOW - 100 + number))
    assert house.cause() is None

    await house.bounce(FULL, house.signed(at=NOW - 50))
    assert house.cause() is Cause.SOFT


async def test_a_spam_filters_refusal_never_blocks(house: House) -> None:
    """Twenty mails refused as spam leave the recipient clear."""
    for number in range(20):
        await house.bounce(SPAM, house.signed(at=NOW - 100 + number))

    assert house.cause() is None


async def test_only_the_recipient_of_the_token_changes(house: House) -> None:
    """A report that names a hundred others, dead, changes none of them; without the token's recipient in it, nobody."""
    strangers = [f"victim{number}@example.com" for number in range(100)]
    named = [recipient(stranger, "5.1.1", "550 5.1.1 User unknown") for stranger in strangers]

    (first,) = await house.bounce(dsn(*named))
    assert isinstance(first, Noticed)
    assert first.what == "unattributed"
    assert house.cause() is None
    await house.bounce(dsn(*named, recipient(JOE.upper(), "5.1.1", "550 5.1.1 User unknown")), house.signed(at=NOW - 5))

    assert house.cause() is Cause.HARD
    assert all(house.cause(stranger) is None and not house.store.history(AddressKey(stranger)) for stranger in strangers)


async def test_a_forwarders_target_is_evidence_never_a_key(house: House) -> None:
    """A single recipient with another name is recorded on the token's recipient as whom the report names."""
    (event,) = await house.bounce(dsn(recipient("joe.new@example.com", "5.1.1", "550 5.1.1 User unknown")))

    assert isinstance(event, Bounced)
    assert event.final_recipient == "joe.new@example.com"
    assert house.cause() is Cause.HARD
    assert house.cause("joe.new@example.com") is None


async def test_delays_and_answers_change_nothing(house: House) -> None:
    """A delay notice and a vacation notice are noted and are no strikes; a report of delivery ends a run of them."""
    vacation = b"From: joe@example.org\nSubject: Out of office\nAuto-Submitted: auto-replied\n\nI am away.\n"
    await house.bounce(FULL, house.signed(at=NOW - 9))
    await house.bounce(dsn(recipient(JOE, "4.4.1", "connection timed out", "delayed")), house.signed(at=NOW - 8))
    await house.bounce(vacation, house.signed(at=NOW - 7))
    assert house.store.look_up(AddressKey(JOE)).standing(EVERYWHERE).strikes == 1

    events = await house.bounce(dsn(recipient(JOE, "2.0.0", "250 2.0.0 Ok", "delivered")), house.signed(at=NOW - 6))

    assert house.store.look_up(AddressKey(JOE)).standing(EVERYWHERE).strikes == 0
    assert [type(event) for event in events] == [Bounced, Noticed, Noticed, Delivered]
    assert [event.what for event in events if isinstance(event, Noticed)] == ["delayed", "auto-reply"]


ARF = b"""\
From: feedback@isp.example
Subject: FW: news
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="b"

--b
Content-Type: text/plain

This is a report.

--b
Content-Type: message/feedback-report

Feedback-Type: %s
User-Agent: isp/1.0
Version: 1

--b
Content-Type: message/rfc822

From: news@example.net
To: joe@example.org
Subject: news

hello
--b--
"""


async def test_a_complaint_blocks_in_its_stream(house: House) -> None:
    """An abuse report suppresses in the stream of the mail it answers, and in no other; an authentication report nobody."""
    await house.bounce(ARF % b"auth-failure", house.signed(scope=NEWS, at=NOW - 9))
    assert house.cause(scope=NEWS) is None

    events = await house.bounce(ARF % b"abuse", house.signed(scope=NEWS, at=NOW - 8))

    assert isinstance(events[-1], Complained)
    assert house.cause(scope=NEWS) is Cause.COMPLAINT
    assert house.cause(scope=DEFAULT_SCOPE) is None


async def test_what_nobody_can_read_is_taken_noted_and_kept(house: House) -> None:
    """Unreadable content at a genuine return path is committed as a notice, changes nobody, and stays for a person to read."""
    junk = b"\xff\x00 no report at all"

    (event,) = await house.bounce(junk)

    assert isinstance(event, Noticed)
    assert event.what == "unrecognized"
    assert house.cause() is None
    (file,) = (house.kept / "unread" / "new").iterdir()
    assert file.read_bytes().endswith(junk)


async def test_what_nobody_can_read_is_kept_once_for_each_mail(house: House) -> None:
    """Whoever sends junk to one return path again and again is told 250, and neither fills the disk nor pushes out what others sent."""
    for number in range(20):
        await house.bounce(b"junk %d" % number)

    (file,) = (house.kept / "unread" / "new").iterdir()
    assert file.read_bytes().endswith(b"junk 0")


async def test_mail_for_people_is_kept_and_not_judged(house: House) -> None:
    """Mail to postmaster, with and without domain, and to abuse goes to the Maildir with its envelope, even if it is a bounce."""
    for forward_path in ("postmaster", "PostMaster@bounces.example.net", "abuse@old.example.net"):
        admitted = house.admit(forward_path)
        assert isinstance(admitted, LocalMailbox)
        await house.intake.accept(envelope(forward_path), admitted, DEAD)

    kept = [file.read_bytes() for file in (house.kept / "postmaster" / "new").iterdir()]
    assert len(kept) == 3
    assert all(b"Return-Path: <>\n" in content and content.endswith(DEAD) for content in kept)
    assert house.cause() is None


async def test_no_trace_field_can_be_forged(house: House) -> None:
    """Control characters of an envelope cannot begin another header in kept mail."""
    forged = Envelope(reverse_path="a\r\nX-Evil: 1", forward_path="postmaster", client="local", helo="", received_at=NOW)

    await house.intake.accept(forged, LocalMailbox("postmaster"), b"hello")

    (file,) = (house.kept / "postmaster" / "new").iterdir()
    assert file.read_bytes().startswith(b"Return-Path: <a??X-Evil: 1>\n")


class FullStore(MemoryStore):
    """A store that cannot commit."""

    async def record(self, event: AnyEvent) -> Recorded:
        raise StoreFault("database or disk is full")


async def test_what_cannot_be_committed_is_our_fault_and_not_logged_as_done(tmp_path: Path) -> None:
    """When the commit fails, accept raises OwnFault (the client gets 4xx), and no line says that the bounce was recorded."""
    house = House(tmp_path, FullStore(Policy()))
    with capture_logs() as lines, pytest.raises(OwnFault):
        await house.bounce(DEAD)

    assert lines == []


async def test_the_log_tells_a_bounce_in_one_line_without_its_token(house: House) -> None:
    """One line a bounce, named by its event, with what decided; who reads it cannot replay the token."""
    forward_path = house.signed()
    with capture_logs() as lines:
        await house.bounce(DEAD, forward_path)

    (line,) = lines
    assert line["event"] == "bounce.bounced"
    assert {
        "rcpt": JOE,
        "disposition": "hard",
        "category": "no-such-user",
        "status": "5.1.1",
        "suppressed": True,
        "fresh": True,
    }.items() <= line.items()
    seal = forward_path.split("+")[1]
    assert line["mail"] == seal[:7]
    assert seal not in str(line)


async def test_a_mailed_unsubscribe_blocks_in_its_stream(house: House) -> None:
    """Who answers our List-Unsubscribe by mail, at the return path of a mail to him, gets no more of that stream."""
    answer = b"From: joe@example.org\nTo: b@bounces.example.net\nSubject: unsubscribe\n\n"
    events = await house.bounce(answer, house.signed(scope=NEWS))

    assert [(type(event), getattr(event, "feedback_type", "")) for event in events] == [(Complained, "opt-out")]
    assert (house.cause(scope=NEWS), house.cause()) == (Cause.COMPLAINT, None)


async def test_events_name_the_provider(house: House) -> None:
    """A bounce and a notice are counted to who keeps the mailbox or refused, by one name."""
    gmail = "joe@gmail.com"
    for number, status in enumerate(("5.1.1", "4.4.1")):
        claims = house.admit(house.signed(gmail, at=NOW - number))
        assert isinstance(claims, Claims)
        content = dsn(recipient(gmail, status, "no", "failed" if number == 0 else "delayed"))
        await house.intake.accept(envelope(house.signed(gmail, at=NOW - number)), claims, content)
    bounce, notice = house.store.history(AddressKey(gmail))

    assert isinstance(bounce, Bounced)
    assert isinstance(notice, Noticed)
    assert (bounce.provider, notice.provider) == ("google", "google")


async def test_an_outage_is_told_once(house: House) -> None:
    """When established addresses of one provider die in numbers it is told once, by an event of the log, and none of them is blocked."""
    old = Noticed(
        at=NOW - 20 * DAY, key=AddressKey("x@gmail.com"), scope=NEWS, token="x", signed_at=0, what="", reader="", provider="google"
    )
    await house.store.record(old)
    people = [f"user{number}@gmail.com" for number in range(60)]
    for person in people:
        await house.store.record(Delivered(at=NOW - DAY, key=AddressKey(person), scope=NEWS, by="mailer"))
    with capture_logs() as lines:
        for person in people:
            forward_path = house.signed(person)
            claims = house.admit(forward_path)
            assert isinstance(claims, Claims)
            await house.intake.accept(envelope(forward_path), claims, dsn(recipient(person, "5.1.1", "550-5.1.1 does not exist - gsmtp")))

    (opened,) = [line for line in lines if line["event"] == "incident.opened"]
    assert (opened["log_level"], opened["kind"], opened["subject"]) == ("warning", "outage", "google")
    assert [house.cause(person) for person in people] == [None] * 60
    assert [line["held"] for line in lines if "held" in line][-1] == opened["id"]

    with capture_logs() as lines:
        alarm.tell(await house.store.settle(NOW + 3 * 3600))
    assert [(line["event"], line["id"], line["count"]) for line in lines] == [("incident.closed", opened["id"], 60)]
