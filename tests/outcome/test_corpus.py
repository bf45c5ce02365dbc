"""The corpus beside the project, read and judged whole, scored by its own scorer."""

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from bounced.explain import as_json, explain
from bounced.outcome.ruleset import RuleSet

RULES = RuleSet.builtin()


def score(shared: Path, predictions: list[dict[str, object]], directory: Path) -> Mapping[str, Mapping[str, int]]:
    """Run the scorer of the corpus over predictions; return its counts by set."""
    corpus = shared / "corpus"
    told, counted = directory / "predictions.jsonl", directory / "score.json"
    told.write_text("".join(json.dumps(one) + "\n" for one in predictions), "utf-8")
    command = [sys.executable, corpus / "score.py", corpus / "labels.jsonl", told, "--json", counted]
    subprocess.run(command, check=True, capture_output=True)
    counts: Mapping[str, Mapping[str, int]] = json.loads(counted.read_text("utf-8"))
    return counts


def predictions(shared: Path) -> list[dict[str, object]]:
    """Explain every labelled message; once for all tests."""
    return json.loads(_predictions(shared))  # type: ignore[no-any-return]


@cache
def _predictions(shared: Path) -> str:
    with (shared / "corpus" / "labels.jsonl").open(encoding="utf-8") as lines:
        labels = [json.loads(line) for line in lines]
    return json.dumps([as_json(explain((shared / "corpus" / label["file"]).read_bytes(), RULES), label["id"]) for label in labels])


def share(counts: list[Mapping[str, int]], right: str, of: str) -> float:
    """Add up two counts over sets and divide them, in percent."""
    return 100 * sum(one.get(right, 0) for one in counts) / sum(one.get(of, 0) for one in counts)


@pytest.fixture
def counted(shared: Path, tmp_path: Path) -> tuple[list[Mapping[str, int]], list[Mapping[str, int]]]:
    """Counts of the sets from elsewhere, and of our own lab's."""
    counts = score(shared, predictions(shared), tmp_path)
    lab = [one for name, one in counts.items() if name.startswith("real-")]
    return [one for name, one in counts.items() if name != "TOTAL" and not name.startswith("real-")], lab


def test_corpus(counted: tuple[list[Mapping[str, int]], list[Mapping[str, int]]]) -> None:
    """No good subscriber is lost, hardly a dead address is missed, and what is refused, full or gone is told apart."""
    elsewhere, lab = counted
    assert [share(part, "false-hard", "messages") for part in (elsewhere, lab)] == [0, 0]
    assert share(elsewhere, "disp ok", "disp n") >= 99.7
    assert share(elsewhere, "cat ok", "cat n") >= 99
    assert sum(one.get("missed-hard", 0) for one in elsewhere) == 0
    # In the lab the label is what truly happened; where the report does not tell it ("retry timeout exceeded"), nobody can read it.
    assert share(lab, "disp ok", "disp n") >= 98.7
    assert share(lab, "cat ok", "cat n") >= 94


def test_corpus_control(shared: Path, tmp_path: Path) -> None:
    """Negative control: with every failure called hard, as by its class alone, the scorer counts the lost subscribers."""
    spoiled = predictions(shared)
    for one in spoiled:
        for recipient in one["recipients"]:  # type: ignore[attr-defined]
            recipient["disposition"] = "hard"
    assert score(shared, spoiled, tmp_path)["TOTAL"]["false-hard"] > 100
