"""Scopes: one spelling of a stream's name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounced.scope import DEFAULT_SCOPE, EVERYWHERE, ScopeError, parse_scope


@pytest.mark.parametrize("text", ["a", "7", "news", "news.weekly", "a-b.c-d", "x" * 32, DEFAULT_SCOPE])
def test_scope(text: str) -> None:
    """A name of lower-case letters, digits, hyphens and dots is a scope, spelled as it was."""
    assert parse_scope(text) == text


@pytest.mark.parametrize(
    "text", ["", "News", "a b", "-a", "a-", ".a", "a.", "-", "x" * 33, "a_b", "naïve", "a\n", "a\0", "\udc80", "٧", "a/b", EVERYWHERE]
)
def test_no_scope(text: str) -> None:
    """Everything else is refused, the scope of all scopes among it, and the error does not repeat the text."""
    with pytest.raises(ScopeError) as caught:
        parse_scope(text)
    assert str(caught.value).startswith("a scope is 1 to 32")


@given(st.text(st.characters()))
def test_total(text: str) -> None:
    """Any text is a scope as it stands or ScopeError."""
    try:
        assert parse_scope(text) == text
    except ScopeError:
        return
    assert text.isascii()
    assert text == text.lower()
    assert 1 <= len(text) <= 32
