"""config/mailers: what a postmaster copies is what the pages show, and each file is run by a test."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAILERS = ROOT / "config" / "mailers"
FILES = sorted(path for path in MAILERS.rglob("*") if path.is_file() and path.suffix not in {".pyc", ".md"})
PAGE = (ROOT / "docs" / "PROTOCOLS.md").read_text()
LONGEST_SHOWN = 24
"""Lines: a longer file is a program, as is one that begins with #!, and the page only names it."""


def shown(text: str, page: str) -> bool:
    """Tell whether a page shows a text whole, as an indented block and nothing else in it."""
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", page, re.MULTILINE)
    return any(re.sub(r"^    ", "", block, flags=re.MULTILINE).strip("\n") == text.strip("\n") for block in blocks)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(MAILERS).as_posix())
def test_the_page_shows_the_file(path: Path) -> None:
    """Each file is named on the page, and shown whole where it is a block to paste."""
    text = path.read_text()
    assert f"`{path.relative_to(MAILERS)}`" in PAGE
    if len(text.splitlines()) <= LONGEST_SHOWN and not text.startswith("#!"):
        assert shown(text, PAGE), f"docs/PROTOCOLS.md shows another text than {path}"


def test_another_text_is_noticed() -> None:
    """Control: a block that differs in one mark, or goes on, is not the file."""
    assert shown("a = 1\nb\n", "Text:\n\n    a = 1\n    b\n\nText.\n")
    assert not shown("a = 1\nb\n", "Text:\n\n    a = 2\n    b\n\nText.\n")
    assert not shown("a = 1\nb\n", "Text:\n\n    a = 1\n    b\n    c\n\nText.\n")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(MAILERS).as_posix())
def test_a_test_runs_the_file(path: Path) -> None:
    """Some test takes each file by its name."""
    tests = "".join(one.read_text() for one in (ROOT / "tests").rglob("*.py") if one != Path(__file__))
    assert f'"{path.relative_to(MAILERS)}"' in tests
