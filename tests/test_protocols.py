"""docs/PROTOCOLS.md against the program: what the page promises to a mailer is what the codecs say."""

import re
from pathlib import Path

from bounced.http import OPERATIONS
from bounced.listen import QuerySettings
from bounced.query import Check, Clear, Garbled, Question, Suppressed, Trouble, line, milter, policy_delegation, socketmap
from bounced.scope import DEFAULT_SCOPE
from tests.query.wires import DOMAIN, WIRES, netstring

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "PROTOCOLS.md").read_text()


def test_every_map_is_on_the_page() -> None:
    """Each map of the page is known to the codec, and a map that the page lacks is not."""
    table = PAGE[PAGE.index("| map | key |") :].split("\n\n")[0]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert len(named) == 5
    for name in (*named, "nothing"):
        (question,) = socketmap.Socketmap(DOMAIN).feed(netstring(f"{name} joe@example.org".encode()))
        assert isinstance(question, Garbled) == (name == "nothing")


def test_the_answers_of_the_page_are_the_answers() -> None:
    """The table of answers quotes each protocol's own octets."""
    for answer in (Suppressed("TEXT"), Clear(), Trouble("REASON")):
        for wire in WIRES:
            rendered = wire.codec().render(_check(), answer).decode()
            words = re.sub(r"^\d+:|^\0{3}[\0-\x7f]|,$|\n\n$|\0$", "", rendered)
            assert f"`{words}`" in PAGE, words


def _check() -> Question:
    return Check("joe@example.org", DEFAULT_SCOPE)


def test_the_netstrings_of_the_page_are_right() -> None:
    """Who copies a netstring from the page copies its right length."""
    shown = re.findall(r"^    (\d+):(.*),$", PAGE, re.MULTILINE)
    assert len(shown) == 2
    assert all(int(length) == len(text) for length, text in shown)


def test_the_limits_of_the_page_are_the_limits() -> None:
    """The numbers of the page are those of the program."""
    settings = QuerySettings()
    assert f"{settings.max_connections:,} connections" in PAGE
    assert settings.idle_seconds == 600
    assert "for ten minutes" in PAGE
    assert line.MAX_REQUEST == socketmap.MAX_REQUEST == 4096
    assert milter.MAX_REQUEST == policy_delegation.MAX_REQUEST
    assert f"{line.MAX_REQUEST:,} octets (policy and milter: {policy_delegation.MAX_REQUEST:,}; an HTTP body: 65,536)" in PAGE


def test_every_operation_is_on_the_page() -> None:
    """Each HTTP operation stands in the table, with every word that it takes."""
    for operation in OPERATIONS:
        row = re.search(rf"^\| `{operation.method} {operation.path}` \|(.*)\|(.*)\|$", PAGE, re.MULTILINE)
        assert row, operation.path
        assert all(f"`{name}`" in row[1] for name in operation.asked.__struct_fields__), operation.path
        assert all(f"`{name}`" in row[2] for name in operation.answered.__struct_fields__), operation.path
