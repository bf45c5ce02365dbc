"""MAIL and RCPT from hostile text."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounced.smtp.command import CommandError, Forwarded, Mail, read_mail, read_recipient, read_xforward, text_of


@pytest.mark.parametrize(
    ("argument", "mail"),
    [
        (b"FROM:<>", Mail(None)),
        (b"from: <>", Mail(None)),
        (b"FROM:<> SIZE=12345", Mail(None, 12345)),
        (b"FROM:<joe@example.org> BODY=8bitmime size=1 SMTPUTF8", Mail("joe@example.org", 1, True)),
        (b"FROM:<MAILER-DAEMON>", Mail("MAILER-DAEMON")),
        (b"FROM:<@relay.example,@b.example:joe@example.org>", Mail("joe@example.org")),
        (b'FROM:<"a b>\\"c"@example.org>', Mail('"a b>\\"c"@example.org')),
        ("FROM:<mähl@example.org> SMTPUTF8".encode(), Mail("mähl@example.org", 0, True)),
    ],
)
def test_a_sender_is_read(argument: bytes, mail: Mail) -> None:
    """Null and other reverse-paths are taken in every spelling that harms nobody."""
    assert read_mail(argument, extended=True) == mail


@pytest.mark.parametrize(
    ("argument", "code", "status"),
    [
        (b"", 501, "5.5.4"),
        (b"FROM:", 501, "5.1.7"),
        (b"FROM:<", 501, "5.1.7"),
        (b"FROM:>", 501, "5.1.7"),
        (b"FROM:joe@example.org", 501, "5.1.7"),
        (b"FROM:<a<b@c>", 501, "5.1.7"),
        (b'FROM:<"a@b>', 501, "5.1.7"),
        (b"FROM:<" + b"a" * 330 + b"@b>", 501, "5.1.7"),
        (b"FROM:<a\0b@c>", 501, "5.5.2"),
        (b"FROM:<a\rb@c>", 501, "5.5.2"),
        (b"FROM:<a\x1b[31m@c>", 501, "5.5.2"),
        (b"FROM:<a\xff@c>", 501, "5.5.2"),
        (b"FROM:<a\xed\xb3\xbf@c> SMTPUTF8", 501, "5.5.2"),
        ("FROM:<a\x85@c> SMTPUTF8".encode(), 501, "5.5.2"),
        ("FROM:<mähl@example.org>".encode(), 553, "5.6.7"),
        (b"FROM:<>SIZE=1", 501, "5.5.4"),
        (b"FROM:<> SIZE=", 501, "5.5.4"),
        (b"FROM:<> SIZE", 501, "5.5.4"),
        (b"FROM:<> SIZE=-1", 501, "5.5.4"),
        (b"FROM:<> SIZE=" + b"9" * 21, 501, "5.5.4"),
        (b"FROM:<> BODY=BINARYMIME", 501, "5.5.4"),
        (b"FROM:<> SMTPUTF8=1", 501, "5.5.4"),
        (b"FROM:<> =", 501, "5.5.4"),
        (b"FROM:<> RET=FULL", 555, "5.5.4"),
    ],
)
def test_a_malformed_sender_is_refused(argument: bytes, code: int, status: str) -> None:
    """What is no MAIL command is refused with the code that RFC 5321 or RFC 5248 has for it."""
    with pytest.raises(CommandError) as caught:
        read_mail(argument, extended=True)
    assert (caught.value.reply.code, str(caught.value.reply.status)) == (code, status)


@pytest.mark.parametrize(
    ("argument", "path"),
    [
        (b"TO:<b+x+joe=example.org@bounces.example.net>", "b+x+joe=example.org@bounces.example.net"),
        (b"to: <joe@example.org>", "joe@example.org"),
        (b"TO:<postmaster>", "postmaster"),
        (b'TO:<"b+x+joe=example.org"@bounces.example.net>', "b+x+joe=example.org@bounces.example.net"),
        (b'TO:<"a b"@example.org>', '"a b"@example.org'),
        (b"TO:<joe%elsewhere.example@example.org>", "joe%elsewhere.example@example.org"),
    ],
)
def test_a_recipient_is_read(argument: bytes, path: str) -> None:
    """A forward-path is taken as it is written, without quotes that it does not need."""
    assert read_recipient(argument, extended=True, utf8=False) == path


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        (b"", 501),
        (b"TO:<", 553),
        (b"TO:<>", 553),
        (b"TO:joe@example.org", 553),
        (b"TO:<@relay.example:joe@example.org>", 553),
        (b'TO:<"">', 553),
        (b'TO:<"a"b"@c>', 553),
        (b"TO:<joe@example.org> NOTIFY=NEVER", 555),
        (b"TO:<joe@example.org> SIZE=1", 555),
        (b"TO:<joe@example.org> ==", 501),
        ("TO:<mähl@example.org>".encode(), 553),
    ],
)
def test_a_malformed_recipient_is_refused(argument: bytes, code: int) -> None:
    """What is no RCPT command, a source route among it, is refused and raises nothing else."""
    with pytest.raises(CommandError) as caught:
        read_recipient(argument, extended=True, utf8=False)
    assert caught.value.reply.code == code


def test_without_ehlo_there_are_no_parameters() -> None:
    """A client that said HELO was offered nothing."""
    for read in (lambda: read_mail(b"FROM:<> SIZE=1", extended=False), lambda: read_recipient(b"TO:<a@b> X=1", extended=False, utf8=False)):
        with pytest.raises(CommandError) as caught:
            read()
        assert caught.value.reply.code == 555


_PIECES = st.sampled_from(
    [b"<", b">", b"@", b'"', b"\\", b":", b",", b" ", b"a", b".", b"=", b"\0", b"\r", b"\x1b", b"\xff", b"\xed\xb3\xbf", "ä".encode()]
)


@pytest.mark.parametrize(
    ("argument", "forwarded"),
    [
        (b"NAME=mx.example.org ADDR=192.0.2.25 PROTO=ESMTP", Forwarded("192.0.2.25", None)),
        (b"addr=IPv6:2001:DB8:0::25", Forwarded("2001:db8::25", None)),
        (b"ADDR=2001:db8::25 HELO=mx.example.org", Forwarded("2001:db8::25", "mx.example.org")),
        (b"HELO=mx+2Eexample+20org", Forwarded("198.51.100.1", "mx.example org")),
        (b"ADDR=[UNAVAILABLE] HELO=[TEMPUNAVAIL]", Forwarded(None, None)),
        (b"ADDR=[unavailable]", Forwarded(None, None)),
        (b"ADDR=", Forwarded(None, None)),
        (b"", Forwarded("198.51.100.1", None)),
        (b"SOURCE=REMOTE IDENT=4ABC PORT=25", Forwarded("198.51.100.1", None)),
    ],
)
def test_whom_a_mail_came_from_is_read(argument: bytes, forwarded: Forwarded) -> None:
    """XFORWARD tells address and name as Postfix writes them; what it does not know is nothing, what it does not say stays."""
    assert read_xforward(argument, Forwarded("198.51.100.1", None)) == forwarded


@pytest.mark.parametrize(
    "argument", [b"ADDR", b"ADDR=mx.example.org", b"ADDR=192.0.2.256", b"HELO=a+0Ab", b"HELO=+FF", b"HELO=a\x01", b"\xff=1"]
)
def test_a_wrong_xforward_is_refused(argument: bytes) -> None:
    """An address that is none, and hidden control characters, are not taken over."""
    with pytest.raises(CommandError):
        read_xforward(argument, Forwarded())


@given(
    st.sampled_from([b"FROM:<", b"TO:<", b"FROM:", b"TO:", b""]),
    st.lists(_PIECES, max_size=12).map(b"".join) | st.binary(max_size=40),
    st.booleans(),
)
def test_nothing_else_is_raised_and_nothing_hostile_passes(keyword: bytes, text: bytes, extended: bool) -> None:
    """On any octets the readers return printable text or raise CommandError, whose reply is one line of ASCII."""
    for read in (
        lambda: text_of(keyword + text),
        lambda: read_mail(keyword + text, extended=extended).reverse_path or "",
        lambda: read_recipient(keyword + text, extended=extended, utf8=True),
    ):
        passed = outcome(read)
        assert passed.isprintable()
        passed.encode()


def outcome(read: Callable[[], str]) -> str:
    """Return what was read, or else the reply, which is one line of ASCII."""
    try:
        return read()
    except CommandError as error:
        return str(error.reply).encode("ascii").decode()


def test_a_long_hostile_path_costs_little() -> None:
    """Paths that make a careless expression try everything twice are read in one go."""
    for text in (
        b"FROM:<" + b'"' * 2000,
        b"FROM:<" + b'""' * 1000,
        b'FROM:<"' + b"\\" * 2000,
        b"FROM:<@" + b"a," * 1000,
        b"FROM:<> " + b"a=" * 1000,
    ):
        with pytest.raises(CommandError):
            read_mail(text, extended=True)
