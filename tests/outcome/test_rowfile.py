"""Reading rows: every mistake of a file is told at once, with file, row and field."""

from pathlib import Path

import pytest

from bounced.outcome.judge import weigh
from bounced.outcome.rows import RuleError
from bounced.outcome.ruleset import RuleSet
from tests.outcome.cases import RULES, recipient

GOOD = '[[rule]]\nid = "good"\ncategory = "policy"\nphrases = ["frobnicated"]\nexample = "550 frobnicated"\n'


def problems(**files: str) -> tuple[str, ...]:
    """Read the files and return what was found wrong."""
    with pytest.raises(RuleError) as caught:
        RuleSet.parse({f"{name}.toml": text for name, text in files.items()})
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def rule(**fields: str) -> str:
    """Write a row that is right but for `fields`; an empty value leaves the field out."""
    row = {"id": '"r"', "category": '"policy"', "phrases": '["frobnicated"]', "example": '"550 frobnicated"'} | fields
    return "[[rule]]\n" + "".join(f"{key} = {value}\n" for key, value in row.items() if value)


def test_good_file_is_read() -> None:
    """A file without mistakes gives its rows; the control for all that follows."""
    rules = RuleSet.parse({"a.toml": GOOD})
    assert [(row.id, row.file, row.phrases) for row in rules.rows.rules] == [("good", "a.toml", ("frobnicated",))]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (rule(id=""), "a.toml: rule #1: id is missing or no text"),
        (rule(id="7"), "a.toml: rule #1: id is missing or no text"),
        (rule(colour='"red"'), "a.toml: rule r: colour is no field of a rule"),
        (rule(disposition='"mild"'), "a.toml: rule r: disposition is none of hard, soft, blocked, none"),
        (rule(disposition="7"), "a.toml: rule r: disposition is no text"),
        (rule(status='"5.1"'), "a.toml: rule r: status is no status: write 5.1.1, x.1.1 or 5.7.*"),
        (rule(status='["5.1.1", "2.0.0"]'), "a.toml: rule r: status is no status: write 5.1.1, x.1.1 or 5.7.*"),
        (rule(reply="250"), "a.toml: rule r: reply is no reply: write 550 or 5xx"),
        (rule(reply='"5x"'), "a.toml: rule r: reply is no reply: write 550 or 5xx"),
        (rule(phrases="[]"), "a.toml: rule r: phrases status and reply are all empty: it would never apply"),
        (rule(phrases='"word"', reply="550"), "a.toml: rule r: phrases is no list of texts"),
        (rule(phrases="[1]", reply="550"), "a.toml: rule r: phrases is no list of texts"),
        (rule(phrases='["!!"]', status='"5.1.1"'), "a.toml: rule r: phrases holds a phrase without a word, or with * at an end"),
        (rule(phrases='["word *"]', status='"5.1.1"'), "a.toml: rule r: phrases holds a phrase without a word, or with * at an end"),
        (rule(phrases='["Boîte", "BOITE"]'), "a.toml: rule r: phrases holds a phrase twice"),
        (rule(provider='"nobody"'), "a.toml: rule r: provider is the id of no [[provider]]"),
        (rule(weak='"yes"'), "a.toml: rule r: weak is neither true nor false"),
        (rule(example=""), "a.toml: rule r: example is missing: a row without one cannot be tested"),
        (rule() + rule(), "a.toml: rule r: id is taken by another row"),
        ('[[provider]]\nid = "p"\n', "a.toml: provider p: hosts domains and marks are all empty: it would never be found"),
        ('[[blocklist]]\nname = "b"\n', "a.toml: blocklist b: marks is empty: it would never be found"),
        ('[[ruel]]\nid = "x"\n', "a.toml: ruel: only [[rule]], [[provider]] and [[blocklist]] are known"),
        ("[rule]\nid = 1\n", "a.toml: rule: only [[rule]], [[provider]] and [[blocklist]] are known"),
    ],
)
def test_each_mistake_is_told(text: str, told: str) -> None:
    """One mistake gives one line that names file, row and field."""
    assert problems(a=text) == (told,)


def test_unknown_category_is_told_with_the_known_ones() -> None:
    """A category that does not exist is answered with those that do."""
    (told,) = problems(a=rule(category='"dead"'))
    assert told.startswith("a.toml: rule r: category is none of no-such-user, no-such-domain")


def test_broken_toml_is_told() -> None:
    """A file that is not TOML is told with the parser's words; other files are still checked."""
    first, second = problems(a="[[rule", b=rule(reply="9"))
    assert first.startswith("a.toml: not TOML: ")
    assert second.startswith("b.toml: rule r: reply")


def test_all_mistakes_at_once() -> None:
    """All mistakes of all files come together."""
    assert len(problems(a=rule(reply="9", weak="1", example=""), b=GOOD, c=rule(id='"good"', status='"9"'))) == 5


def test_same_id_in_two_files_is_told() -> None:
    """Two files of one directory cannot both define a row."""
    assert problems(a=GOOD, b=GOOD) == ("b.toml: rule good: id is taken by another row",)


def test_own_rows_may_name_our_providers() -> None:
    """An operator's rule may be for a provider that we know, or for one of his own."""
    mine = '[[provider]]\nid = "relay"\nhosts = ["relay.example"]\n'
    rules = RULES.with_rules({"a.toml": rule(provider='"google"'), "b.toml": mine + rule(id='"s"', provider='"relay"')})
    assert rules.provider_of_host("mx1.relay.example") == "relay"
    with pytest.raises(RuleError, match="provider is the id of no"):
        RULES.with_rules({"a.toml": rule(provider='"relay"')})


def test_provider_by_the_longest_end() -> None:
    """A host belongs to the provider of the longest known end of its name; an unknown one to nobody."""
    assert RULES.provider_of_host("mx.yahoo.co.jp") == "yahoo-japan"
    assert RULES.provider_of_host("GMAIL-SMTP-IN.L.GOOGLE.COM.") == "google"
    assert RULES.provider_of_host("notgoogle.com") is None
    assert RULES.provider_of_host("") is None
    assert RULES.provider_of_domain("gmail.com") == "google"


def test_documented_rows_are_read_and_win() -> None:
    """The rows that docs/RULES.md shows are good rows, and each wins its example over ours."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "RULES.md").read_text("utf-8")
    rules = RULES.with_rules({"own.toml": page.partition("```toml\n")[2].partition("```")[0]})
    own = [row for row in rules.rows.rules if row.own]
    assert [row.id for row in own] == ["acme-closed", "acme-busy"]
    for row in own:
        assert weigh(recipient(row.example, mta=row.example_mta), None, rules).outcome.rule == row.id
