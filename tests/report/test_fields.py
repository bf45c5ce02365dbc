"""The syntax inside reports: addresses, actions, replies, fields, and text made fit to keep."""

import pytest

from bounced.report import Action, fields
from bounced.status import Reply, StatusCode


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("rfc822; user@example.org", "user@example.org"),
        ("RFC822;user@example.org", "user@example.org"),
        ("rfc822 ;  <user@example.org>", "user@example.org"),
        ("user@example.org", "user@example.org"),
        ("rfc822; User Name <user@example.org>", "user@example.org"),
        ("rfc822; user@example.org (expanded from: alias)", "user@example.org"),
        ("rfc822; <user@example.org", "user@example.org"),
        ("rfc822; \n\tuser@example.org", "user@example.org"),
        ('rfc822; "odd <name>"@example.org', '"odd <name>"@example.org'),
        ('rfc822; "a b"@example.org', '"a b"@example.org'),
        ("rfc822; user@[192.0.2.1]", "user@[192.0.2.1]"),
        ("rfc822; @relay.example,@other.example:user@example.org", "user@example.org"),
        ("rfc822; user@example.org.", "user@example.org"),
        ("rfc822; 'user@example.org'", "user@example.org"),
        ("utf-8; Jörg@bücher.example", "Jörg@bücher.example"),
        (r"utf-8; J\x{F6}rg@example.org", "Jörg@example.org"),
        (r"utf-8; a\x{0}\x{D800}\x{110000}b@example.org", "ab@example.org"),
        ("X400; /C=US/A=X/", None),
        ("rfc822; local", None),
        ("rfc822;", None),
        ("", None),
        ("<>", None),
    ],
)
def test_addresses(value: str, expected: str | None) -> None:
    """The address comes out of every form in which recipient fields are met; None where there is none."""
    found = fields.address(value)
    assert found == expected or (found or "").strip("'") == expected


def test_addresses_hide_nothing() -> None:
    """No address holds a control, a direction mark or a surrogate: a field's value is read without them, in prose they end it."""
    for hidden in "\x00\x1b\x7f\x9b\u200b\u202e\ufeff\udc80":
        assert fields.address(f"rfc822; us{hidden}er@exam{hidden}ple.org") == "user@example.org"
        assert fields.address(f'rfc822; "a{hidden}b"@example.org') == '"ab"@example.org'
        assert fields.found_addresses(f"to a{hidden}user@example.org{hidden}x, x@y{hidden}z") == ["user@example.org"]


def test_an_address_is_read_from_a_bounded_piece() -> None:
    """What stands beyond the bound of a value is not looked at."""
    assert fields.address(" " * 3000 + "user@example.org") is None


def test_addresses_in_prose() -> None:
    """Addresses in a text are found in order, each once, without what prose hangs on them; a name without a dot is none."""
    text = "To <b@example.org>, 'a@example.org'. Again: b@example.org! mailto:c@example.org; root@localhost, d@[192.0.2.1]"
    assert fields.found_addresses(text) == ["b@example.org", "a@example.org", "c@example.org", "d@[192.0.2.1]"]
    assert fields.found_addresses(text, limit=2) == ["b@example.org", "a@example.org"]
    assert fields.found_addresses("nothing here") == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("failed", Action.FAILED),
        ("Failed (bad destination mailbox)", Action.FAILED),
        ("DELAYED;", Action.DELAYED),
        ("delivered", Action.DELIVERED),
        ("relayed", Action.RELAYED),
        ("expanded", Action.EXPANDED),
        ("failure", Action.FAILED),
        ("deferred", Action.DELAYED),
        ("whatever", None),
        ("", None),
    ],
)
def test_actions(value: str, expected: Action | None) -> None:
    """The word is read whatever its case and what follows it; words that other systems use stand for the standard's."""
    assert fields.action(value) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("550 5.1.1 User unknown", Reply(550, StatusCode(5, 1, 1), "User unknown")),
        ("smtp; 550-5.1.1 No such user 550 5.1.1 here", Reply(550, StatusCode(5, 1, 1), "No such user here")),
        ("host mx said: 451 Try later", Reply(451, None, "Try later")),
        ("said: 550", Reply(550, None, "")),
        ("550 #5.1.0 Address rejected", Reply(550, StatusCode(5, 1, 0), "Address rejected")),
        ("554: Blocked", Reply(554, None, "Blocked")),
        ("(554) no reply", None),
        ("192.0.2.550 is no reply", None),
        ("5501 is none, nor is a550 b", None),
        ("status 5.1.1 alone", None),
        ("", None),
    ],
)
def test_replies(text: str, expected: Reply | None) -> None:
    """A reply is found inside a line with its status; codes between the lines of one reply are dropped; other numbers are none."""
    assert fields.find_reply(text) == expected


def test_clean_text() -> None:
    """Text to keep is one line of printable characters, bounded: no control, no direction, no zero-width character."""
    assert fields.clean(" a\r\n\tb  c ") == "a b c"
    assert fields.clean("a\x00b\x1b[31mc\u202ed\u200be\ufefff\x9b") == "ab[31mcdef"
    assert fields.clean("x" * 5000) == "x" * fields.DIAGNOSTIC_LIMIT
    assert fields.clean("word " * 5, 9) == "word word"
    assert fields.clean("\ud800x") == "x"


def test_octets_that_exim_escapes() -> None:
    """Octal escapes are decoded from UTF-8, else from Latin-1; other backslashes stay."""
    assert fields.unescaped(r"bo\303\256te") == "boîte"
    assert fields.unescaped(r"bo\356te") == "boîte"
    assert fields.unescaped(r"C:\temp\9") == r"C:\temp\9"
    assert fields.unescaped("plain") == "plain"


def test_types_are_taken_off() -> None:
    """The type ahead of the semicolon goes, one at most; a value without type stays whole."""
    assert fields.without_type("dns; mx.example.org") == "mx.example.org"
    assert fields.without_type("smtp;550 a; b") == "550 a; b"
    assert fields.without_type("550 a; b") == "550 a; b"


def test_xtext() -> None:
    """+XX is decoded in upper case alone, as RFC 3461 section 4 writes it."""
    assert fields.without_xtext("user+2Btag+40x+zz+3d") == "user+tag@x+zz+3d"


def test_fields_of_a_block() -> None:
    """Fields come with names in lower case; folded lines, and lines that are no field, belong to the one before."""
    block = (
        "Final-Recipient: rfc822; a@b.example\nDiagnostic-Code: smtp; 550 no\n\tsuch user\nsee: https://x.example\nX-Own: y\nStatus:5.1.1"
    )
    assert list(fields.pairs(block)) == [
        ("final-recipient", "rfc822; a@b.example"),
        ("diagnostic-code", "smtp; 550 no such user see: https://x.example"),
        ("x-own", "y"),
        ("status", "5.1.1"),
    ]
    assert list(fields.pairs("no field\n more")) == []
    assert list(fields.pairs("")) == []


def test_every_field_of_a_block() -> None:
    """Where any name may begin a field, unknown names do."""
    assert list(fields.pairs("Version: 1\nSee: x", every=True)) == [("version", "1"), ("see", "x")]
    assert list(fields.pairs("Version: 1\nSee: x")) == [("version", "1 See: x")]
