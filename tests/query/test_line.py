"""The one-line protocol, as Exim's ${readsocket} uses it."""

import pytest

from bounced.query import Answers, Check, CheckMany, Clear, Garbled, Sign, SignedPath, Suppressed, Trouble
from bounced.query.line import MAX_REQUEST, Line
from bounced.scope import DEFAULT_SCOPE, Scope


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_check_and_sign(end: bytes) -> None:
    """A verb, a blank, an address; with a stream after an underscore where it is not the default one."""
    assert list(Line().feed(b"check dead@remote.test" + end)) == [Check("dead@remote.test", DEFAULT_SCOPE)]
    assert list(Line().feed(b"check_news dead@remote.test" + end)) == [Check("dead@remote.test", Scope("news"))]
    assert list(Line().feed(b'sign_news "a b"@remote.test' + end)) == [Sign('"a b"@remote.test', Scope("news"))]


def test_answers_have_no_line_end() -> None:
    """Exim keeps a trailing newline, and one in a return path would break its SMTP; the connection's end is the answer's."""
    codec = Line()
    (question,) = codec.feed(b"check dead@remote.test\n")
    assert codec.render(question, Suppressed("no")) == b"suppressed no"
    assert codec.render(question, Clear()) == b"clear"
    assert codec.render(question, Trouble("later")) == b"trouble later"
    assert codec.render(question, SignedPath("b+x+joe=x@y")) == b"b+x+joe=x@y"
    assert codec.closes(question)


def test_only_the_first_line_is_read() -> None:
    """One connection, one question."""
    codec = Line()
    assert len(codec.feed(b"check a@x\ncheck b@x\n")) == 1
    assert codec.feed(b"check c@x\n") == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\n", "the line is not a verb, a space and an address"),
        (b"check\n", "the line is not a verb, a space and an address"),
        (b"check \n", "the line is not a verb, a space and an address"),
        (b"check \0@x\n", "the line is not a verb, a space and an address"),
        (b"verify a@x\n", "the verb is none of check, checks and sign"),
        (b"x" * MAX_REQUEST, f"the line is longer than {MAX_REQUEST} octets"),
        (b"check " + b"x" * MAX_REQUEST + b"\n", f"the line is longer than {MAX_REQUEST} octets"),
    ],
)
def test_broken_lines(line: bytes, reason: str) -> None:
    """What is no question is told so."""
    assert list(Line().feed(line)) == [Garbled(reason)]


def test_a_line_may_come_in_pieces() -> None:
    """Nothing is asked before the line's end has come."""
    codec = Line()
    assert [len(codec.feed(piece)) for piece in (b"che", b"ck a@", b"x", b"\n")] == [0, 0, 0, 1]


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_checks_takes_addresses_line_by_line(size: int) -> None:
    """After `checks` every line is an address, however the octets come; the connection stays open, and each answer is a line."""
    codec, octets = Line(), b"checks_news\r\na@x.test\nb@x.test\r\n\nc@x.test\nd@x"
    questions = [question for at in range(0, len(octets), size) for question in codec.feed(octets[at : at + size])]
    assert all(isinstance(question, CheckMany) and question.scope == "news" and not codec.closes(question) for question in questions)
    lines = b"".join(question.lines for question in questions if isinstance(question, CheckMany))
    assert lines == b"a@x.test\nb@x.test\r\n\nc@x.test\n"
    answers = Answers(4, {1: Suppressed("no"), 2: Trouble("later")})
    assert codec.render(questions[0], answers) == b"clear\nsuppressed no\ntrouble later\nclear\n"


def test_checks_hoards_nothing() -> None:
    """Of an address without end no more than the bound is kept; those before it are answered."""
    codec = Line()
    assert codec.feed(b"checks\n") == []
    first, second = codec.feed(b"a@x.test\n" + b"x" * MAX_REQUEST)
    assert first == CheckMany(b"a@x.test\n", DEFAULT_SCOPE)
    assert second == Garbled(f"the line is longer than {MAX_REQUEST} octets")
    assert codec.closes(second)
    assert codec.feed(b"more\n") == ()
