"""The categories: what each does by itself, what it means, what to do about it; read from rules/causes.toml.

For: default dispositions, `explain`, and docs/CAUSES.md. Never: the decision about one bounce.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from bounced.outcome import Category, Disposition


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What is known about a category, whatever rule found it."""

    category: Category
    disposition: Disposition
    meaning: str
    advice: str


@cache
def causes() -> Mapping[Category, Cause]:
    """Return all categories in the order in which they are explained."""
    table = tomllib.loads(resources.files("bounced.outcome").joinpath("rules/causes.toml").read_text("utf-8"))
    return {
        Category(name): Cause(
            category=Category(name), disposition=Disposition(row["disposition"]), meaning=row["meaning"], advice=row["advice"]
        )
        for name, row in table.items()
    }


_EFFECTS = {
    Disposition.HARD: "The recipient is blocked at once, until somebody releases it.",
    Disposition.SOFT: "Mail goes on; five in a row, without a success between, block the recipient.",
    Disposition.BLOCKED: "The recipient is not touched; the operator is told.",
    Disposition.NONE: "The notice itself counts for nothing.",
}


def causes_page() -> str:
    """Return docs/CAUSES.md."""
    lines = ["# Why mail comes back", "", "Made from `bounced/outcome/rules/causes.toml`: change it there.", ""]
    for disposition, effect in _EFFECTS.items():
        lines += [f"## {disposition}", "", effect, "", "| category | meaning | what you can do |", "|---|---|---|"]
        lines += [
            f"| `{cause.category}` | {cause.meaning} | {cause.advice} |" for cause in causes().values() if cause.disposition is disposition
        ]
        lines.append("")
    lines += [
        "A permanent category becomes soft where the report itself says that the failure was temporary (a 4xx reply, a 4.x.x status).",
        "A complaint blocks the recipient in the stream that it is about. `Action: delayed` counts for nothing, whatever the cause.",
    ]
    return "\n".join(lines) + "\n"
