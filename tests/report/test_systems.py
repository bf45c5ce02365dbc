"""Letters of mail systems of all ages: what each is, whom it names, what it means."""

import tomllib
from pathlib import Path

import pytest

from bounced.outcome.judge import judge
from bounced.outcome.ruleset import RuleSet
from bounced.report import Action, AutomaticReply, DeliveryReport, Report
from bounced.report.reader import read

RULES = RuleSet.builtin()
LETTERS = {row["id"]: row for row in tomllib.loads((Path(__file__).parent / "systems.toml").read_text("utf-8"))["letter"]}


def kind(report: Report) -> str:
    """Name what was read, in the words of the file."""
    match report:
        case DeliveryReport():
            actions = {status.action for status in report.recipients}
            return "delayed" if actions == {Action.DELAYED} else "dsn" if Action.FAILED in actions else "success"
        case AutomaticReply():
            return report.automation
        case _:
            return "not-a-bounce"


@pytest.mark.parametrize("name", LETTERS)
def test_letters(name: str) -> None:
    """Each letter is of its kind, names one recipient, and means for it what a careful reader says."""
    row = LETTERS[name]
    report = read(str(row["text"]).lstrip("\n").encode())
    assert kind(report) == row["kind"]
    if "means" in row:
        assert isinstance(report, DeliveryReport)
        outcomes = [judge(status, report.reporting_mta, RULES) for status in report.recipients]
        assert [status.address for status in report.recipients] == ["joe.bloggs@example.net"]
        assert [[outcome.disposition, outcome.category] for outcome in outcomes] == [row["means"]]


def test_letters_control() -> None:
    """Negative control: with the words of its reason taken out, a letter means something else."""
    text = str(LETTERS["intermail-quota"]["text"]).lstrip("\n")
    report = read(text.replace("quota exceeded", "answer").replace("exceeded their mailbox size limit", "answered").encode())
    assert isinstance(report, DeliveryReport)
    assert judge(report.recipients[0], None, RULES).category != "mailbox-full"
