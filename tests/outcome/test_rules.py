"""The rows test themselves: every example is won by its row, every phrase says its row's category when it stands alone."""

import pytest

from bounced.outcome import Category
from bounced.outcome.causes import causes
from bounced.outcome.judge import weigh
from bounced.outcome.rows import Rule
from bounced.outcome.ruleset import RuleSet
from tests.outcome.cases import RULES, recipient, told_by_conditions


def shadowed(rules: RuleSet) -> list[str]:
    """Name the rows that do not win their own example, and by whom they are shadowed."""
    found = []
    for rule in rules.rows.rules:
        outcome = weigh(recipient(rule.example, mta=rule.example_mta), None, rules).outcome
        if outcome.rule != rule.id:
            found.append(f"{rule.file}: {rule.id} is shadowed by {outcome.rule} ({outcome.evidence})")
    return found


@pytest.mark.parametrize("rule", RULES.rows.rules, ids=lambda rule: rule.id)
def test_row_wins_its_example(rule: Rule) -> None:
    """The example of a row is judged by that row, with its category and disposition."""
    outcome = weigh(recipient(rule.example, mta=rule.example_mta), None, RULES).outcome
    assert (outcome.rule, outcome.category) == (rule.id, rule.category)
    softened = rule.disposition == "hard" and not rule.firm and rule.example.startswith("4")
    assert outcome.disposition == ("soft" if softened else rule.disposition)


@pytest.mark.parametrize("rule", [rule for rule in RULES.rows.rules if rule.phrases], ids=lambda rule: rule.id)
def test_every_phrase_says_its_category(rule: Rule) -> None:
    """Each phrase of a row, alone and with the codes that the row asks for, is judged with the row's category."""
    wrong = {}
    for phrase in rule.phrases:
        outcome = weigh(told_by_conditions(rule, phrase, RULES), None, RULES).outcome
        if outcome.category != rule.category:
            wrong[phrase] = f"{outcome.category} by {outcome.rule} for {outcome.evidence}"
    assert not wrong


def test_shadowed_row_is_named() -> None:
    """Negative control: a planted row that another one always beats is found, by its name."""
    rules = RuleSet.parse(
        {
            "a.toml": '[[rule]]\nid = "loud"\ncategory = "policy"\nphrases = ["go away from here"]\nexample = "550 go away from here"\n',
            "b.toml": '[[rule]]\nid = "quiet"\ncategory = "virus"\nphrases = ["go away"]\nexample = "550 please go away from here"\n',
        }
    )
    assert shadowed(rules) == ["b.toml: quiet is shadowed by loud (go away from here)"]
    assert shadowed(RULES) == []


def test_every_category_of_failures_has_rows() -> None:
    """No category is a dead word: each can be reached by some row, those of feedback and success excepted."""
    reached = {rule.category for rule in RULES.rows.rules}
    assert set(Category) - reached == {Category.COMPLAINT, Category.AUTO_REPLY, Category.DELIVERED}


def test_every_category_is_explained() -> None:
    """Each category has a meaning and an advice, each a sentence."""
    assert list(causes()) == [category for category in causes() if category in Category]
    assert set(causes()) == set(Category)
    assert all(cause.meaning.endswith(".") and cause.advice.endswith(".") for cause in causes().values())


def test_hard_needs_words_or_an_exact_status() -> None:
    """No row calls an address dead for a reply code alone, or for a family of statuses."""
    bare = [rule for rule in RULES.rows.rules if rule.disposition == "hard" and not rule.phrases]
    assert all(rule.statuses and not any("*" in status for status in rule.statuses) for rule in bare)
