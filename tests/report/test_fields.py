"""Field syntax: addresses in their forms, replies in theirs, text made fit to keep."""

import re

import pytest

from bounced.report import Action, compose, fields, last_resort
from bounced.report.dialects import domino, exchange
from bounced.report.mime import scan
from bounced.report.prose import letter
from bounced.status import Reply, StatusCode
from tests.report import samples
from tests.report.seeds import EVERY

_BLIND = [
    compose._DELAY_SUBJECT, compose._DELAY, compose._GAVE_UP, last_resort._SUBJECT, last_resort._BODY, last_resort._MACHINE,
    exchange._SIGN, domino._SECTION,
]  # fmt: skip
_LETTERS = [letter(scan(content)) for content in (*EVERY.values(), *samples.BOUNCES.values())]


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("rfc822; gone@there.example", "gone@there.example"),
        ("RFC822;<gone@there.example>", "gone@there.example"),
        ("gone@there.example", "gone@there.example"),
        ("rfc822; Gone Person <gone@there.example> (moved)", "gone@there.example"),
        ("rfc822; gone@there.example (unknown user)", "gone@there.example"),
        ("utf-8; \\x{7528}\\x{6237}@there.example", "用户@there.example"),
        ("utf-8; 用户@例え.example", "用户@例え.example"),
        ('rfc822; "a b"@there.example', '"a b"@there.example'),
        ("rfc822; <@relay.example:gone@there.example>", "gone@there.example"),
        ("rfc822; gone@[192.0.2.1]", "gone@[192.0.2.1]"),
        ("rfc822; a..b.@docomo.example", "a..b.@docomo.example"),
        ("utf-8; \\x{0}\\x{D800}x@there.example", "x@there.example"),
        ("rfc822; gone", None),
        ("", None),
        ("rfc822;@relay.example,@b.example:joe@x.example", "joe@x.example"),
        ("x400; /C=jp/", None),
        ("<<<<@@@@>>>>", None),
    ],
)
def test_addresses(value: str, address: str | None) -> None:
    """A recipient field gives the address without type, brackets, names, comments and escapes."""
    assert fields.address(value) == address


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("550 5.1.1 User unknown", Reply(550, StatusCode(5, 1, 1), "User unknown")),
        ("550-5.7.26 No. 550-5.7.26 See the policy 550 5.7.26 of yours", Reply(550, StatusCode(5, 7, 26), "No. See the policy of yours")),
        ("host mx[192.0.2.1] said: 452 4.2.2 full", Reply(452, StatusCode(4, 2, 2), "full")),
        ("after RCPT TO: 550 No such user", Reply(550, None, "No such user")),
        ("smtp; 554 554 5.7.0 Header error", Reply(554, StatusCode(5, 7, 0), "Header error")),
        ("connect to mx port 587 failed, then 421 try again", Reply(421, None, "try again")),
        ("user unknown (#5.1.1)", None),
        ("Could not deliver for the last 432000 seconds", None),
        ("at 192.0.2.550 and 5.5.5.5", None),
        ("reason: 550 (#5.1.1) gone", Reply(550, StatusCode(5, 1, 1), "gone")),
        ("", None),
    ],
)  # fmt: skip
def test_replies(text: str, reply: Reply | None) -> None:
    """The reply is found wherever it stands; ports, addresses and durations are none."""
    assert fields.find_reply(text) == reply


@pytest.mark.parametrize("word", ["port", "line", "for", "last", "after", "than", "about", "to"])
def test_a_number_after_such_a_word_is_no_reply(word: str) -> None:
    """What counts, measures or names is no reply; the same number after other words is one."""
    assert fields.find_reply(f"it was {word} 450 miles away") is None
    assert fields.find_reply("it was 450 miles away") == Reply(450, None, "miles away")


@pytest.mark.parametrize("lead", [":", "<", "[", "(", '"', "'", "|", ";", " said", " was", " reason", " code", " error", " with", " -"])
def test_the_reply_that_a_word_announces_goes_before_others(lead: str) -> None:
    """Of two numbers the one that follows what announces a reply is the reply."""
    assert fields.find_reply(f"we saw 450 things{lead} 550 no such user") == Reply(550, None, "no such user")


def test_clean_text() -> None:
    """Text comes on one line, without control and direction characters, bounded."""
    assert fields.clean(" a\r\n\tb\x00c\u202ed\ud800 ") == "a bcd"
    assert len(fields.clean("x" * 10_000)) == fields.DIAGNOSTIC_LIMIT


def test_octal_escapes() -> None:
    """Exim's octal octets are decoded as UTF-8, else as Latin-1; other backslashes stay."""
    assert fields.unescaped("bo\\303\\256te") == "boîte"
    assert fields.unescaped("bo\\356te") == "boîte"
    assert fields.unescaped("C:\\new\\9") == "C:\\new\\9"


def test_xtext() -> None:
    """Each +XX of an original recipient stands for one octet, if all of it is xtext."""
    assert fields.original("rfc822;a+2Bb+3Dc@x.example", None) == "a+b=c@x.example"
    assert fields.original("rfc822;a+b+2Bc@x.example", None) == "a+b+2Bc@x.example"
    assert fields.original("rfc822;", "a@x.example") is None


@pytest.mark.parametrize(
    ("value", "action"),
    [("failed", Action.FAILED), ("Delayed (will retry)", Action.DELAYED), ("relayed;", Action.RELAYED), ("", None)],
)  # fmt: skip
def test_actions(value: str, action: Action | None) -> None:
    """The word decides, in any case, whatever follows it."""
    assert fields.action(value) == action


def test_unfolded_lines_continue() -> None:
    """A line that begins no field of a report belongs to the one before, folded or not, unless every name counts."""
    block = "Status: 5.1.1\nDiagnostic-Code: smtp; 550 first\n second\n550-Reason: third\nX-More: yes\n"
    assert dict(fields.pairs(block)) == {
        "status": "5.1.1",
        "diagnostic-code": "smtp; 550 first second 550-Reason: third",
        "x-more": "yes",
    }
    assert dict(fields.pairs("Feedback-Type: abuse\nVersion: 1", every=True)) == {"feedback-type": "abuse", "version": "1"}
    assert list(fields.pairs("")) == []


def test_addresses_in_prose() -> None:
    """Addresses come in order, each once, without the punctuation of the sentence."""
    assert fields.found_addresses("To a@x.example, (b@y.example). And a@x.example! mailto:c@z.example me@localhost") == [
        "a@x.example",
        "b@y.example",
        "c@z.example",
    ]
    assert fields.found_addresses("a@x.example " * 3 + "b@y.example", limit=1) == ["a@x.example"]
    assert fields.found_addresses("none") == []


def test_addresses_hide_nothing() -> None:
    """No address holds a control, a direction mark or a surrogate: a field's value is read without them, in prose they end it."""
    for hidden in "\x00\x1b\x7f\x9b\u200b\u202e\ufeff\udc80":
        assert fields.address(f"rfc822; us{hidden}er@exam{hidden}ple.org") == "user@example.org"
        assert fields.address(f'rfc822; "a{hidden}b"@example.org') == '"ab"@example.org'
        assert fields.found_addresses(f"to a{hidden}user@example.org{hidden}x, x@y{hidden}z") == ["user@example.org"]


def test_a_field_that_is_folded_with_an_empty_line_in_it() -> None:
    """What is folded, and what begins no field, continues the field before; an empty line within a block ends nothing."""
    block = "Status: 5.1.1\nDiagnostic-Code: smtp; 550\n\n folded\nunfolded: words\nAction: failed"
    assert list(fields.pairs(block)) == [
        ("status", "5.1.1"),
        ("diagnostic-code", "smtp; 550  folded unfolded: words"),
        ("action", "failed"),
    ]


@pytest.mark.parametrize("pattern", _BLIND, ids=lambda pattern: pattern.pattern.strip()[:12])
def test_blind_finds_what_its_pattern_finds(pattern: re.Pattern[str]) -> None:
    """Whether case-blind words stand in a text is told alike by the quick way, in capitals too; each stands in some."""
    stands = fields.blind(pattern)
    texts = [form(text) for one in _LETTERS for text in (one.sender, one.subject, one.whole) for form in (str, str.upper)]
    told = [stands(text) for text in texts]
    assert told == [pattern.search(text) is not None for text in texts]
    assert any(told)
    assert not all(told)
