"""The operator's own rules, where the configuration names their directory."""

from dataclasses import replace
from pathlib import Path

import pytest

from bounced.config import load
from bounced.daemon.files import rules_of
from bounced.fault import OperatorFault
from bounced.settings import Config

RULE = '[[rule]]\nid = "ours"\ncategory = "policy"\nphrases = ["frobnicated"]\nexample = "550 frobnicated"\n'


def configured(home: Path, directory: Path | None) -> Config:
    """Return a configuration with this directory of rules."""
    file = home / "bounced.toml"
    file.write_text('[return_path]\ndomains = ["b.example"]\n')
    config = load(file)
    return replace(config, rules=replace(config.rules, directory=directory))


def test_the_operators_rules_lie_over_ours(tmp_path: Path) -> None:
    """Every *.toml of the directory is read; without a directory ours are alone."""
    own = tmp_path / "rules"
    own.mkdir()
    (own / "ours.toml").write_text(RULE)
    (own / "README").write_text("not TOML")
    alone, over = rules_of(configured(tmp_path, None)), rules_of(configured(tmp_path, own))
    assert len(over.rows.rules) == len(alone.rows.rules) + 1
    assert over.by_phrase["frobnicated"][0].own


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A misspelt directory is an error with its name, and never no rules in silence."""
    for wrong in (tmp_path / "nowhere", tmp_path / "bounced.toml"):
        with pytest.raises(OperatorFault, match=wrong.name) as told:
            rules_of(configured(tmp_path, wrong))
        assert "rules.directory" in told.value.hint
