"""The socketmap protocol, octet by octet as Postfix and sendmail write and read it."""

import pytest

from bounced.query import Aside, Check, Clear, Garbled, Question, Sign, SignedPath, Suppressed, Trouble
from bounced.query.socketmap import MAX_REQUEST, MapCheck, Socketmap
from bounced.scope import DEFAULT_SCOPE, Scope
from tests.query.wires import DOMAIN, netstring

TEXT = "recipient is on the suppression list (hard, no-such-user, 2026-11-22)"


def asked(request: bytes) -> Question:
    """The one question of a request."""
    (question,) = Socketmap(DOMAIN).feed(netstring(request))
    return question


def answered(request: bytes, answer: Suppressed | Clear | SignedPath | Trouble) -> bytes:
    """The octets that answer a request."""
    codec = Socketmap(DOMAIN)
    (question,) = codec.feed(netstring(request))
    return codec.render(question, answer)


def test_postfix_access_lookup() -> None:
    """The access map's value is an access(5) action."""
    codec = Socketmap(DOMAIN)
    (question,) = codec.feed(b"23:access dead@remote.test,")
    assert question == MapCheck("dead@remote.test", DEFAULT_SCOPE, "access")
    assert codec.render(question, Suppressed(TEXT)) == netstring(b"OK 550 5.7.1 " + TEXT.encode())
    assert codec.render(question, Clear()) == b"9:NOTFOUND ,"
    assert codec.render(question, Trouble("later")) == b"10:TEMP later,"
    assert not codec.closes(question)


def test_transport_map_value_is_an_error_transport() -> None:
    """The transport map's value sends the mail to error(8), whose next hop is the status and the text."""
    assert answered(b"transport dead@remote.test", Suppressed(TEXT)) == netstring(b"OK error:5.7.1 " + TEXT.encode())


def test_sendmail_map_value_is_one_word() -> None:
    """A sendmail ruleset takes a value apart at blanks and parentheses, so it gets none."""
    assert answered(b"bounced dead@remote.test", Suppressed(TEXT)) == b"13:OK suppressed,"


@pytest.mark.parametrize("key", ["*", "postmaster", ""])
def test_keys_without_domain_are_none_of_ours(key: str) -> None:
    """Postfix asks a transport map for `*` and bare names too: not found, without a look-up."""
    assert asked(f"transport {key}".encode()) == Aside()
    assert answered(f"transport {key}".encode(), Clear()) == b"9:NOTFOUND ,"


def test_a_stream_stands_after_an_underscore() -> None:
    """`access_news` asks for the stream news, `access` and `access_` for the default one; a stream's name may hold dots."""
    assert asked(b"access_news joe@x.test") == MapCheck("joe@x.test", Scope("news"), "access")
    assert asked(b"access_ joe@x.test") == MapCheck("joe@x.test", DEFAULT_SCOPE, "access")
    assert asked(b"sign_a.b joe@x.test") == Sign("joe@x.test", Scope("a.b"))


@pytest.mark.parametrize(
    ("key", "recipient"),
    [
        ("b+live=remote.test@bounces.example.net", "live@remote.test"),
        ("B+Live=Remote.TEST@Bounces.Example.NET", "live@remote.test"),
        ("b+joe+tag=remote.test@bounces.example.net", "joe+tag@remote.test"),
        ("b+a=b=remote.test@bounces.example.net", "a=b@remote.test"),
        ('"b+a b=remote.test"@bounces.example.net', '"a b"@remote.test'),
    ],
)
def test_a_verp_sender_is_signed(key: str, recipient: str) -> None:
    """What Postfix makes of XVERP names its recipient, plus signs and equals signs of the local part left alone."""
    assert asked(f"verpsign_news {key}".encode()) == Sign(recipient, Scope("news"))


@pytest.mark.parametrize(
    "key",
    [
        "joe@example.org",
        "b+live=remote.test@elsewhere.example",
        "b@bounces.example.net",
        "b+live@bounces.example.net",
        "c+live=remote.test@bounces.example.net",
        "b+=remote.test@bounces.example.net",
        "b+live=@bounces.example.net",
        "b+live=two words@bounces.example.net",
        "b+qfc7eaxfus3i4mp7vy66xtd+dead=remote.test@bounces.example.net",
        "B+QFC7EAXFUS3I4MP7VY66XTD+xwux4j7xex55gzdz=x@bounces.example.net",
        "*",
    ],
)
def test_other_addresses_are_not_signed(key: str) -> None:
    """A generic map is asked for every address of a mail: what is no VERP of ours, or is signed already, is left as it is."""
    assert asked(f"verpsign {key}".encode()) == Aside()


def test_a_signed_path_is_the_value() -> None:
    """Both signing maps answer with the return path alone."""
    expected = b"31:OK b+seal+live=remote.test@b.ex,"
    assert answered(b"verpsign b+live=remote.test@bounces.example.net", SignedPath("b+seal+live=remote.test@b.ex")) == expected
    assert answered(b"sign live@remote.test", SignedPath("b+seal+live=remote.test@b.ex")) == expected


def test_a_key_may_hold_blanks_and_any_octets() -> None:
    """Only the first blank ends the map's name; octets that are no UTF-8 come through as lone surrogates."""
    assert asked(b'access "a b"@x.test') == MapCheck('"a b"@x.test', DEFAULT_SCOPE, "access")
    assert asked(b"access \xff@x.test") == MapCheck("\udcff@x.test", DEFAULT_SCOPE, "access")


def test_an_unknown_map_is_temporary() -> None:
    """To sendmail PERM means "not found", and it would mail on, so a mistaken map name is TEMP."""
    assert answered(b"acess dead@remote.test", Trouble("there is no such map")) == b"25:TEMP there is no such map,"
    assert isinstance(asked(b"acess dead@remote.test"), Garbled)


def test_a_check_of_another_kind_is_rendered_as_access() -> None:
    """A plain Check, as other codecs make it, is answered as the access map does."""
    assert Socketmap(DOMAIN).render(Check("x@y", DEFAULT_SCOPE), Suppressed("no")) == b"15:OK 550 5.7.1 no,"


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"x", "the request is no netstring"),
        (b":", "the request is no netstring"),
        (b"01:", "the request is no netstring"),
        (b"12345", "the request is no netstring"),
        (b"3:abcd", "the request is no netstring"),
        (b"4092:", f"the request is longer than {MAX_REQUEST} octets"),
        (b"3:abc,", "the request is not the name of a map, a space and a key"),
        (b"11:access \0@x.,", "the request is not the name of a map, a space and a key"),
    ],
)
def test_broken_netstrings(octets: bytes, reason: str) -> None:
    """A connection that has lost its framing is told why, and is not read on."""
    codec = Socketmap(DOMAIN)
    assert list(codec.feed(octets)) == [Garbled(reason)]
    assert codec.feed(netstring(b"access joe@x.test")) == ()


def test_a_good_question_before_a_bad_one_is_asked() -> None:
    """What came whole before the framing broke is still asked."""
    first, second = Socketmap(DOMAIN).feed(netstring(b"access joe@x.test") + b"junk")
    assert isinstance(first, Check)
    assert isinstance(second, Garbled)


def test_a_request_may_come_in_pieces() -> None:
    """Nothing is asked before the comma has come; then a garbled question alone ends the connection."""
    codec = Socketmap(DOMAIN)
    assert [len(codec.feed(piece)) for piece in (b"1", b"7:", b"access joe@", b"x.test", b",17:acc")] == [0, 0, 0, 0, 1]
    assert codec.closes(Garbled("x"))
