"""What a letter says to people: where the copy begins, what is said of each address, whom it names."""

import pytest

from bounced.report import prose
from bounced.report.mime import scan

_TEXT = "It could not be delivered.\n\n"
_MARK = "--- Below this line is a copy of the message.\n\n"
_LONG = "Whatever the reason was, it is told at length here. " * 20


def test_the_copy_begins_at_its_mark() -> None:
    """A mark cuts where header lines follow within the next lines, where nothing follows, and near the end of the letter."""
    for after in (_MARK + "From: news@ours.example\n\n" + _LONG, _MARK + "few words", "--- Original message ---\n-----\n" + " " * 500):
        assert prose.copy_start(_TEXT + after) == len(_TEXT)


def test_a_mark_amid_an_explanation_is_none() -> None:
    """Where much text without a header line follows, or a header line far below alone, the words of a mark are part of the letter."""
    for after in (_LONG, _LONG * 6 + "\nFrom: news@ours.example\n"):
        text = _TEXT + _MARK + after
        assert prose.copy_start(text) == len(text)


def test_a_letter_that_begins_with_a_rule_is_no_copy() -> None:
    """A first line of dashes that looks like a mark does not make the whole letter a copy; the next mark does."""
    head = "----- original message -----\nSubject: x\n\n"
    assert prose.copy_start(head + _TEXT) == len(head + _TEXT)
    assert prose.copy_start(head + _TEXT + _MARK) == len(head + _TEXT)


@pytest.mark.parametrize(("plain", "whole"), [("It failed because the mailbox of the recipient is full.", False), ("Failed.", True)])
def test_html_is_read_where_the_plain_text_says_nothing(plain: str, whole: bool) -> None:
    """The HTML copy of a text is left aside, unless the text is a few characters."""
    content = f"Content-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/plain\n\n{plain}\n"
    content += "--b\nContent-Type: text/html\n\n<p>No such <b>user</b></p>\n--b--\n"
    note = prose.note(scan(content.encode()))
    assert plain in note
    assert ("No such user" in " ".join(note.split())) == whole


def test_each_address_gets_what_is_said_of_it() -> None:
    """What follows an address is said of it up to the next one, or to an empty line after a reason."""
    text = "<one@x.example>\n550 5.1.1 no such user here\n\nA word to all.\n<two@y.example>:\n  mailbox is full\n  over quota\n"
    told = prose.explanations(text, ["one@x.example", "Two@y.example", "three@z.example"])
    assert told == {
        "one@x.example": "<one@x.example> 550 5.1.1 no such user here",
        "two@y.example": "<two@y.example>: mailbox is full over quota",
    }


def test_one_address_gets_the_paragraphs_that_tell_a_reason() -> None:
    """The paragraph that names it and those with codes make its explanation; greetings and advice are left out."""
    text = "Hello!\n\nI'm sorry to say that.\n\n<one@x.example>\n\nremote host said: 550 5.1.1 gone\n\nFor further assistance, ask.\n"
    assert prose.explanation_for_one(text, "ONE@x.example") == "<one@x.example> remote host said: 550 5.1.1 gone"


def test_without_codes_the_next_paragraphs_tell_the_reason() -> None:
    """Where nothing has a code, what follows the address explains it, without chatter."""
    text = "one@x.example\n\nIt does not live here.\n\nThis message was created automatically.\n\nPlease look it up.\n"
    assert prose.explanation_for_one(text, "one@x.example") == "one@x.example It does not live here. Please look it up."


def test_addresses_that_a_letter_only_mentions_are_no_candidates() -> None:
    """Who sent, who helps and who is to be written to is not who failed; the same address twice is one."""
    text = "mail from sender@x.example\nPlease contact help@x.example: they know.\n<gone@y.example>: unknown\n<Gone@y.example>: unknown\n"
    assert prose.candidates(text) == ["gone@y.example"]
    assert prose.candidates("to whom it may concern") == []


def test_only_the_words_before_it_in_its_line_tell_that_an_address_is_none() -> None:
    """The line before, and words far ahead in the same line, say nothing of an address."""
    assert prose.candidates("For assistance\nrecipient gone@y.example\n") == ["gone@y.example"]
    assert prose.candidates("For assistance write " + "x " * 60 + "to recipient gone@y.example") == ["gone@y.example"]
    assert prose.candidates("For assistance of the recipient help@y.example") == []


def test_no_more_candidates_than_the_limit() -> None:
    """The list of candidates is bounded."""
    text = "\n".join(f"<a{number}@x.example>: unknown" for number in range(30))
    assert len(prose.candidates(text)) == 30
    assert prose.candidates(text, 7) == [f"a{number}@x.example" for number in range(7)]


def test_a_note_ends_before_the_copy() -> None:
    """What the returned mail says is no part of the note, unless the whole is asked for."""
    message = scan(b"From: MAILER-DAEMON@x.example\n\nNo such user.\n\n----- Original message -----\n\nFrom: news@ours.example\n\nHello\n")
    assert prose.note(message).strip() == "No such user."
    assert "Hello" in prose.note(message, cut=False)


def test_likenesses_of_a_copy_are_bounded() -> None:
    """A header line in a report's own list ends nothing; behind many likenesses of the mark of a copy none is looked for any more."""
    listed, copy = "  Return-path: <b@ours.example>\n", "----- Original message -----\nFrom: news@ours.example\nTo: joe@example.net\n"
    filler = "Joe is gone.\n" * 600
    assert prose.copy_start(f"Sorry.\n{listed * 3}{filler}{copy}") == len(f"Sorry.\n{listed * 3}{filler}")
    assert prose.copy_start(f"Sorry.\n{listed * 50}{filler}{copy}") == len(f"Sorry.\n{listed * 50}{filler}{copy}")
