"""The page that explains the categories is made of the same rows that the judge reads."""

from pathlib import Path

from bounced.outcome import Category
from bounced.outcome.causes import causes, causes_page


def test_page_is_up_to_date() -> None:
    """docs/CAUSES.md equals what the generator writes: `python -c "from bounced.outcome.causes import *; print(causes_page(), end='')"`."""
    page = Path(__file__).resolve().parents[2] / "docs" / "CAUSES.md"
    assert page.read_text("utf-8") == causes_page()


def test_page_names_every_category_once() -> None:
    """Each category has one line on the page."""
    page = causes_page()
    assert all(page.count(f"| `{category}` |") == 1 for category in Category)
    assert len(causes()) == len(Category)
