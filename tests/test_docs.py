"""The documents: what they must name, and that what they point to exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bounced.cli import cli

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "README.ja.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(group: click.Group, before: str = "bounced") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{before} {name}")
        else:
            yield f"{before} {name}", command


def undocumented(text: str) -> list[str]:
    """Return the commands and options of the program that `text` does not name, each option in the line of its command."""
    missing = []
    for name, command in commands(cli):
        line = next((line for line in text.splitlines() if line.startswith((f"| `{name} ", f"| `{name}`"))), None)
        if line is None:
            missing.append(name)
            continue
        options = [option for parameter in command.params if isinstance(parameter, click.Option) for option in parameter.opts]
        missing += [f"{name} {option}" for option in options if f"{option} " not in line and f"{option}]" not in line]
    return missing


def test_every_command_and_option_is_documented() -> None:
    """docs/COMMANDS.md has a row for each command that names each of its options."""
    assert undocumented((ROOT / "docs" / "COMMANDS.md").read_text()) == []


def test_an_undocumented_command_is_noticed() -> None:
    """The check fails for a text that lacks a command, and for one that lacks an option."""
    text = (ROOT / "docs" / "COMMANDS.md").read_text()

    assert undocumented(text.replace("| `bounced why ", "| `bounced wherefore ")) == ["bounced why"]
    assert undocumented(text.replace("[-n]", "")) == ["bounced config show -n"]


def cut(group: click.Group) -> list[str]:
    """Return the commands of which a list of commands, 80 columns wide, shows no whole sentence."""
    lines = group.get_help(click.Context(group, terminal_width=80)).splitlines()
    return [line.split()[0] for line in lines if line.startswith("  ") and line.endswith("...")]


def test_lists_of_commands_show_whole_sentences() -> None:
    """The first sentence of every command fits into the line that `--help` has for it."""
    groups = [cli, *(command for command in cli.commands.values() if isinstance(command, click.Group))]

    assert [cut(group) for group in groups] == [[]] * len(groups)


def test_a_sentence_that_is_cut_is_noticed() -> None:
    """The check fails for a command whose first sentence is too long."""
    wordy = click.Command("wordy", help="Tell " + "very " * 20 + "much.")

    assert cut(click.Group("all", commands=[wordy])) == ["wordy"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link of a document leads to a file of the project."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text())
    broken = [link for link in links if "://" not in link and not (document.parent / link).exists()]

    assert broken == []


def test_no_document_names_a_place_of_one_machine() -> None:
    """Documents speak of the project alone: no path below a developer's directories."""
    found = [path.name for path in DOCUMENTS if re.search(r"/(?:root|work|home/\w+)/", path.read_text())]

    assert found == []


def fenced(text: str) -> list[str]:
    """Return the fenced blocks of a document, with their marks."""
    return re.findall(r"^ *```(\S.*?)^ *```$", text, re.DOTALL | re.MULTILINE)


def test_the_japanese_readme_says_the_same() -> None:
    """README.ja.md has the commands and blocks of README.md, letter by letter and in order, as many headings, rows, items and links."""
    english, japanese = ((ROOT / name).read_text() for name in ("README.md", "README.ja.md"))

    assert fenced(japanese) == fenced(english)
    assert len(fenced(english)) >= 5
    assert shape(japanese) == shape(english)
    links = [sorted(set(re.findall(r"\]\((docs/[^)]+)\)", text))) for text in (english, japanese)]
    assert links[0] == links[1]


def shape(text: str) -> list[str]:
    """Return what begins each heading, row of a table and item of a list."""
    return re.findall(r"^(?:#+|\||\d\.|-)(?= )", text, re.MULTILINE)


def test_another_command_in_japanese_is_noticed() -> None:
    """Control: a block that differs in one letter is not the same."""
    text = (ROOT / "README.ja.md").read_text()

    assert fenced(text.replace("make test ", "make tests ")) != fenced(text)
    assert shape(text.replace("\n| **", "\n**", 1)) != shape(text)


_CONTROL = re.compile(r"\| ([AD][\dAD, ]*) \| `([\w/]+\.py)::(\w+)` \| (?:`([\w/]*(?:\.py)?)(?:::(\w+))?`|the same) \| .+ \|")


def test_every_row_of_durability_and_abuse_names_its_control() -> None:
    """A1 to A15 and D1 to D14 stand in the table of controls, and each test that it names is there."""
    named = [found for line in (ROOT / "docs" / "ACCEPTANCE.md").read_text("utf-8").splitlines() if (found := _CONTROL.fullmatch(line))]
    rows = {row for found in named for row in found[1].split(", ")}
    assert rows == {f"A{number}" for number in range(1, 16)} | {f"D{number}" for number in range(1, 15)}
    tests = [(found[2], found[3]) for found in named] + [(found[4] or found[2], found[5]) for found in named if found[5]]
    assert [test for file, test in tests if f"def {test}(" not in (ROOT / "tests" / file).read_text("utf-8")] == []
