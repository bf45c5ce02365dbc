"""The milter protocol, packet by packet as Postfix 3.7 and sendmail 8.17 write and read it."""

from collections.abc import Sequence

import pytest

from bounced.query import Answer, Check, Clear, Garbled, Question, Sign, SignedPath, Suppressed, Trouble
from bounced.query.milter import MAX_REMOVED, Milter
from bounced.scope import DEFAULT_SCOPE, Scope
from tests.query.wires import DOMAIN, packet

NEGOTIATION = packet(b"O\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff")
SMTP = packet(b"C[127.0.0.1]\x004\x99\x28127.0.0.1\x00")
PICKUP = packet(b"Clocalhost\x004\x00\x00127.0.0.1\x00")
CONTINUE = packet(b"c")
NO = Suppressed("no")
PATH = SignedPath("b+seal+joe=x@bounces.example.net")


def said(codec: Milter, octets: bytes, *answers: Answer) -> bytes:
    """Feed octets and return what the codec says when recipients and signings are answered so."""
    left, out = list(answers), b""
    for question in codec.feed(octets):
        answer = _garbled(question) or (left.pop(0) if isinstance(question, Check | Sign) else Clear())
        out += codec.render(question, answer)
    assert not left
    return out


def _garbled(question: Question) -> Trouble | None:
    return Trouble(question.reason) if isinstance(question, Garbled) else None


def begun(*, connection: bytes = SMTP, signs: bool = False, sender: bytes = b"<us@example.net>") -> Milter:
    """A codec that has heard the beginning of a mail."""
    codec = Milter(DOMAIN, signs=signs)
    said(codec, NEGOTIATION + connection + packet(b"M" + sender + b"\0"))
    return codec


def finished(codec: Milter, recipients: Sequence[tuple[bytes, Answer]], *end: Answer) -> bytes:
    """Name recipients one by one, as servers do, and return what is said at the end of the mail."""
    for argument, answer in recipients:
        said(codec, packet(b"R%b\0" % argument), answer)
    return said(codec, packet(b"E"), *end)


@pytest.mark.parametrize(
    ("offered", "signs", "chosen"),
    [
        # Version, actions, and what is not to be sent. libmilter's own servers refuse an answer that asks for more than they offer.
        ((6, 0x1FF, 0x1FFFFF), True, (6, 0x48, 0x372)),
        ((6, 0x1FF, 0x1FFFFF), False, (6, 0x08, 0x372)),
        ((2, 0x3F, 0x7F), True, (2, 0x08, 0x72)),
        ((9, 0xFFFFFFFF, 0xFFFFFFFF), True, (6, 0x48, 0x372)),
    ],
)
def test_only_what_is_needed_is_negotiated(offered: tuple[int, ...], signs: bool, chosen: tuple[int, ...]) -> None:
    """The right to remove a recipient, and to change the sender where signing is on; neither HELO, headers nor body are wanted."""
    answer = packet(b"O" + b"".join(number.to_bytes(4, "big") for number in chosen))
    assert said(Milter(DOMAIN, signs=signs), packet(b"O" + b"".join(number.to_bytes(4, "big") for number in offered))) == answer


def test_a_session_of_postfix() -> None:
    """A whole session, octet by octet as smtpd(8) said it: two mails, one recipient refused with code and text."""
    codec = Milter(DOMAIN, signs=False)
    assert said(codec, NEGOTIATION)[4:5] == b"O"
    macros = b"DCj\0mail.sender.example\0{daemon_name}\0mail.sender.example\0{daemon_addr}\x00127.129.181.240\0v\0Postfix 3.7.11\0"
    assert said(codec, packet(macros) + SMTP) == CONTINUE
    assert said(codec, packet(b"DH")) == b""
    assert said(codec, packet(b"DM{mail_addr}\0us@example.net\0") + packet(b"M<us@example.net>\0SIZE=100\0")) == CONTINUE
    asked = codec.feed(packet(b"DR{rcpt_addr}\0joe@remote.test\0") + packet(b"R<joe@remote.test>\0"))
    assert [(type(one).__mro__[1], one.recipient, one.scope) for one in asked if isinstance(one, Check)] == [
        (Check, "joe@remote.test", DEFAULT_SCOPE)
    ]
    assert codec.render(asked[0], NO) == packet(b"y550 5.7.1 no\0")
    assert said(codec, packet(b"R<ann@remote.test>\0"), Clear()) == CONTINUE
    assert said(codec, packet(b"DTi\x00896A520CAC2\0") + packet(b"DEi\x00896A520CAC2\0") + packet(b"E")) == CONTINUE
    assert said(codec, packet(b"A")) == b""
    assert said(codec, packet(b"M<>\0") + packet(b"R<ann@remote.test>\0"), Trouble("later")) == CONTINUE + packet(b"y451 4.3.0 later\0")
    assert said(codec, packet(b"A") + packet(b"Q")) == b""


@pytest.mark.parametrize("command", [b"Hmx.example.net\0", b"Lsubject\0x\0", b"N", b"Btext", b"T", b"UXYZZY\0"])
def test_what_an_older_server_sends_all_the_same_goes_on(command: bytes) -> None:
    """HELO, headers, body and unknown commands are no business of ours."""
    assert said(begun(), packet(command)) == CONTINUE


@pytest.mark.parametrize(
    ("argument", "recipient"),
    [
        (b"<joe@remote.test>\0NOTIFY=NEVER", "joe@remote.test"),
        (b"joe@remote.test", "joe@remote.test"),
        (b'<"a b"@remote.test>', '"a b"@remote.test'),
        (b"<@a.test,@b.test:joe@remote.test>", "joe@remote.test"),
        (b"<postmaster>", "postmaster"),
        (b"", ""),
    ],
)
def test_the_recipient_is_read_as_the_server_writes_him(argument: bytes, recipient: str) -> None:
    """With and without brackets, parameters and a source route."""
    (question,) = begun().feed(packet(b"R" + argument + b"\0"))
    assert isinstance(question, Check)
    assert question.recipient == recipient


def test_the_daemons_name_is_the_stream() -> None:
    """bounced_news names the stream news, for the whole connection; another name is the default stream."""
    codec = begun()
    for macros, scope in (
        (b"{daemon_name}\0bounced_news\0", Scope("news")),
        (b"i\0x\0", Scope("news")),
        (b"{daemon_name}\0MTA\0", DEFAULT_SCOPE),
    ):
        (question,) = codec.feed(packet(b"DR" + macros) + packet(b"R<joe@remote.test>\0"))
        assert isinstance(question, Check)
        assert question.scope == scope


@pytest.mark.parametrize(
    ("connection", "recipient", "refused"),
    [
        (SMTP, b"<joe@x>", True),
        (SMTP, b"joe@x", True),  # A client that leaves the brackets out.
        (PICKUP, b"<joe@x>", True),  # A client whose port Postfix could not tell.
        (PICKUP, b"joe@x", False),
        (packet(b"Clocalhost\0U"), b"<joe@x>", True),
        (b"", b"joe@x", True),
    ],
)
def test_only_what_surely_came_by_sendmail_is_not_refused(connection: bytes, recipient: bytes, refused: bool) -> None:
    """A recipient is removed in silence only if the mail comes from the port 0 and he has no brackets, as pickup(8) writes it."""
    assert (said(begun(connection=connection), packet(b"R%b\0" % recipient), NO) != CONTINUE) is refused


def test_suppressed_recipients_of_sendmail_are_removed() -> None:
    """Where Postfix cannot refuse, they go from the envelope at the end, and the others stay."""
    codec = begun(connection=PICKUP)
    assert finished(codec, [(b"a@x", NO), (b"b@x", Clear()), (b"c@x", NO)]) == packet(b"-a@x\0") + packet(b"-c@x\0") + CONTINUE
    assert finished(codec, [(b"b@x", Clear())]) == CONTINUE


def test_a_mail_to_nobody_else_is_discarded() -> None:
    """Where all are suppressed, nothing is left to send."""
    assert finished(begun(connection=PICKUP), [(b"a@x", NO), (b"c@x", NO)]) == packet(b"d")


def test_a_mail_that_was_given_up_leaves_nothing_behind() -> None:
    """After an abort, or a new sender, the recipients of the mail before are forgotten."""
    for between in (packet(b"A"), packet(b"Mus@example.net\0")):
        codec = begun(connection=PICKUP)
        said(codec, packet(b"Ra@x\0"), NO)
        said(codec, between)
        assert finished(codec, [(b"b@x", Clear())]) == CONTINUE


def test_we_cannot_tell_is_told_on_both_ways() -> None:
    """A temporary failure: an SMTP client tries again, and Postfix keeps what came by sendmail(1)."""
    for connection in (SMTP, PICKUP):
        assert said(begun(connection=connection), packet(b"Ra@x\0"), Trouble("later")) == packet(b"y451 4.3.0 later\0")


def test_what_is_removed_is_bounded() -> None:
    """A mail with more than a mebibyte of suppressed recipients waits; it is not let through."""
    codec = begun(connection=PICKUP)
    name = b"x" * 10_000 + b"@x"
    said(codec, packet(b"R%b\0" % name) * (MAX_REMOVED // len(name)), *[NO] * (MAX_REMOVED // len(name)))
    assert said(codec, packet(b"R%b\0" % name), NO) == packet(b"y451 4.3.0 too many recipients are on the suppression list\0")


def test_a_mail_to_one_recipient_is_signed() -> None:
    """The sender becomes the signed path where he is of our domain and a single recipient is left, refused and removed ones not counted."""
    sender = b"<news@bounces.example.net>"
    signed = packet(b"e<b+seal+joe=x@bounces.example.net>\0") + CONTINUE
    assert finished(begun(signs=True, sender=sender), [(b"<joe@x>", Clear())], PATH) == signed
    assert finished(begun(signs=True, sender=sender), [(b"<ann@x>", NO), (b"<joe@x>", Clear())], PATH) == signed
    submitted = begun(signs=True, sender=b"news@BOUNCES.example.net", connection=PICKUP)
    assert finished(submitted, [(b"ann@x", NO), (b"joe@x", Clear())], PATH) == packet(b"-ann@x\0") + signed


def test_the_question_of_a_signing_is_whose_and_of_which_stream() -> None:
    """What is asked names the recipient and the stream of the connection."""
    codec = begun(signs=True, sender=b"<news@bounces.example.net>")
    said(codec, packet(b"DR{daemon_name}\0bounced_news\0") + packet(b"R<joe@x>\0"), Clear())
    (question,) = codec.feed(packet(b"E"))
    assert isinstance(question, Sign)
    assert (question.recipient, question.scope) == ("joe@x", Scope("news"))
    assert codec.render(question, Trouble("later")) == packet(b"y451 4.3.0 later\0")


@pytest.mark.parametrize(
    ("sender", "recipients", "signs"),
    [
        (b"<news@bounces.example.net>", [b"<joe@x>"], False),
        (b"<news@bounces.example.net>", [b"<joe@x>", b"<ann@x>"], True),
        (b"<news@bounces.example.net>", [], True),
        (b"<>", [b"<joe@x>"], True),
        (b"<us@example.net>", [b"<joe@x>"], True),
        (b"<bounces.example.net>", [b"<joe@x>"], True),
        (b"<b+" + b"a" * 23 + b"+joe=x@bounces.example.net>", [b"<joe@x>"], True),
    ],
)
def test_every_other_mail_keeps_its_sender(sender: bytes, recipients: list[bytes], signs: bool) -> None:
    """Where signing is off, with several recipients, for bounces, foreign senders, and what is signed already."""
    assert finished(begun(signs=signs, sender=sender), [(one, Clear()) for one in recipients]) == CONTINUE


def test_a_server_that_cannot_change_the_sender_is_not_asked_to() -> None:
    """Version 2 knows no change of the sender: the mail goes on unsigned."""
    codec = Milter(DOMAIN, signs=True)
    said(codec, packet(b"O\0\0\0\x02\0\0\0\x3f\0\0\0\x7f") + SMTP + packet(b"M<news@bounces.example.net>\0"))
    assert finished(codec, [(b"<joe@x>", Clear())]) == CONTINUE


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (packet(b"M<x@y>\0"), "the mail server began without saying what it can do"),
        (packet(b"O\0\0\0\x06"), "what the mail server can do is not told in three numbers"),
        (NEGOTIATION + packet(b"Z"), "the packet is no command of the milter protocol"),
        (NEGOTIATION + b"\0\0\0\0", "the packet is empty or longer than 16384 octets"),
        (NEGOTIATION + b"\0\0\x40\0", "the packet is empty or longer than 16384 octets"),
        (NEGOTIATION + packet(b"R<a@x>\0") + packet(b"E"), "the mail server does not wait for the answers"),
    ],
)
def test_broken_sessions(octets: bytes, reason: str) -> None:
    """What is no session of the protocol is told so, and ends."""
    codec = Milter(DOMAIN, signs=True)
    *_, last = codec.feed(octets)
    assert last == Garbled(reason)
    assert codec.closes(last)
    assert codec.feed(NEGOTIATION) == ()


def test_a_server_without_removal_is_told_to_wait() -> None:
    """Who lets nobody be removed, and cannot refuse, gets a temporary failure: never the mail to the suppressed."""
    codec = Milter(DOMAIN, signs=False)
    said(codec, packet(b"O\0\0\0\x06\0\0\0\0\0\0\0\0") + PICKUP + packet(b"Mus@example.net\0"))
    assert finished(codec, [(b"a@x", NO), (b"b@x", Clear())]) == packet(b"y451 4.3.0 the mail server lets nobody remove a recipient\0")


def test_percent_signs_are_doubled() -> None:
    """A sendmail takes the reply for a format of printf(3), and Postfix undoes the doubling."""
    assert said(begun(), packet(b"R<a@x>\0"), Suppressed("100 % sure")) == packet(b"y550 5.7.1 100 %% sure\0")


def test_macros_that_are_none_are_passed_over() -> None:
    """Odd words, none at all, and names without a value change nothing."""
    for macros in (b"D", b"DR", b"DR{daemon_name}", b"DR{daemon_name}\0", b"D\0\0\0\0", b"DRi\0x\0{daemon_name}"):
        assert said(begun(), packet(macros) + packet(b"R<a@x>\0"), Clear()) == CONTINUE
