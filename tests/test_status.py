"""Enhanced status codes and SMTP replies: what is a code, and what only looks like one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounced.status import Reply, StatusCode


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("5.1.1", StatusCode(5, 1, 1)),
        (" 4.2.2 ", StatusCode(4, 2, 2)),
        ("2.0.0", StatusCode(2, 0, 0)),
        ("5.1.1 (bad destination mailbox address)", StatusCode(5, 1, 1)),
        ("5.7.1:", StatusCode(5, 7, 1)),
        ("5.1.1.", StatusCode(5, 1, 1)),
        ("5.000.000", StatusCode(5, 0, 0)),
        ("5.7.999", StatusCode(5, 7, 999)),
        ("", None),
        ("5", None),
        ("5.1", None),
        ("3.1.1", None),
        ("55.1.1", None),
        ("5.1.1000", None),
        ("5.1.1.9", None),
        ("5.1000.1", None),
        ("code 5.1.1", None),
        ("٥.١.١", None),
        ("5.١.١", None),
        ("5.1.²", None),
    ],
)
def test_parse(text: str, code: StatusCode | None) -> None:
    """A status field is read from its start, with or without a comment; what only begins like a code is none."""
    assert StatusCode.parse(text) == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("550 5.1.1 <user@example.net>: no such user", "5.1.1"),
        ("550-5.1.1 The email account", "5.1.1"),
        ("smtp;550 #5.1.0 Address rejected", "5.1.0"),
        ("(#5.7.1)", "5.7.1"),
        ("rejected: 5.7.1.", "5.7.1"),
        ("5.7.1... Access denied", "5.7.1"),
        ("did not pass5.7.26 the checks", "5.7.26"),
        ("[192.5.1.1] said 4.4.1", "4.4.1"),
        ("host 5.1.1.9 said: 550 5.7.1", "5.7.1"),
        ("10.4.5.1.1", None),
        ("MTA v4.6.1", None),
        ("Postfix-V2.5.1", None),
        ("postfix 2.10.1000", None),
        ("2026-11-22", None),
        ("5.1", None),
        ("", None),
    ],
)
def test_find(text: str, code: str | None) -> None:
    """The first code that stands alone is found; parts of IP addresses, longer numbers and versions are not codes."""
    found = StatusCode.find(text)
    assert (str(found) if found else None) == code


@pytest.mark.parametrize(("code", "permanent"), [("5.1.1", True), ("4.1.1", False), ("2.1.5", False)])
def test_permanent(code: str, permanent: bool) -> None:
    """Only class 5 is permanent."""
    found = StatusCode.parse(code)
    assert found is not None
    assert found.permanent is permanent


@given(st.sampled_from([2, 4, 5]), st.integers(0, 999), st.integers(0, 999))
def test_round_trip(klass: int, subject: int, detail: int) -> None:
    """What a code prints is read, and found in a text, as the same code."""
    code = StatusCode(klass, subject, detail)
    assert StatusCode.parse(str(code)) == code
    assert StatusCode.find(f"host said: 550 {code} no") == code


@given(st.text(st.characters()))
def test_total(text: str) -> None:
    """No text makes reading or finding raise, and what is read from the start is also found."""
    code = StatusCode.parse(text)
    found = StatusCode.find(text)
    assert code is None or found == code
    assert found is None or found.klass in (2, 4, 5)


def test_codes_sort() -> None:
    """Codes sort by class, subject and detail as numbers."""
    codes = [StatusCode(5, 1, 10), StatusCode(5, 1, 9), StatusCode(4, 9, 9)]
    assert sorted(codes) == [StatusCode(4, 9, 9), StatusCode(5, 1, 9), StatusCode(5, 1, 10)]


@pytest.mark.parametrize(
    ("reply", "printed"),
    [
        (Reply(550, StatusCode(5, 1, 1), "no such user"), "550 5.1.1 no such user"),
        (Reply(550, None, "no such user"), "550 no such user"),
        (Reply(421, StatusCode(4, 0, 0), ""), "421 4.0.0"),
        (Reply(421, None, ""), "421"),
    ],
)
def test_reply_prints(reply: Reply, printed: str) -> None:
    """A reply prints as the server gave it, without gaps for what it lacks."""
    assert str(reply) == printed
