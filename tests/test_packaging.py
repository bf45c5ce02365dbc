"""What is packaged: the manual pages say all that there is, and are written as man and mandoc want them; scripts are shell."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from bounced.cli import cli
from bounced.config import settings
from tests.test_docs import commands

ROOT = Path(__file__).resolve().parents[1]
PACKAGING = ROOT / "packaging"
PAGES = ("man1/bounced.1", "man5/bounced.toml.5", "man7/bounced-protocols.7")


@pytest.fixture(scope="module")
def man(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manual pages, made."""
    place = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, PACKAGING / "manpages.py", place], check=True, timeout=60)
    return place


def shown(page: Path, mandoc: str) -> str:
    """Return a page as a reader with a very wide terminal sees it."""
    ran = subprocess.run([mandoc, "-T", "ascii", "-O", "width=900", page], capture_output=True, text=True, timeout=60, check=True)
    return re.sub(r".\x08", "", ran.stdout)


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_written_well(page: str, man: Path, need_program: Callable[[str], str]) -> None:
    """Neither man nor mandoc has anything to say against a page."""
    ran = subprocess.run([need_program("man"), "--warnings", "-Tutf8", "-l", man / page], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    lint = subprocess.run([need_program("mandoc"), "-T", "lint", "-W", "warning", man / page], capture_output=True, text=True, timeout=60)
    assert lint.stdout == ""


def test_lint_notices_a_broken_page(man: Path, tmp_path: Path, need_program: Callable[[str], str]) -> None:
    """Control: an unknown request is reported."""
    (tmp_path / "x.1").write_text((man / PAGES[0]).read_text() + ".XX\n")
    lint = subprocess.run(
        [need_program("mandoc"), "-T", "lint", "-W", "warning", tmp_path / "x.1"], capture_output=True, text=True, timeout=60
    )
    assert "XX" in lint.stdout


def test_pages_say_all_that_there_is(man: Path, need_program: Callable[[str], str]) -> None:
    """bounced(1) has each command with its options, bounced.toml(5) each setting, bounced-protocols(7) each protocol."""
    of_commands, of_settings, of_protocols = (shown(man / page, need_program("mandoc")) for page in PAGES)
    for name, command in commands(cli):
        assert re.search(rf"^ +{name.removeprefix('bounced ')}(?: |$)", of_commands, re.MULTILINE), name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.opts[0] in of_commands
    for path, setting in settings().items():
        assert f"{path} (" in of_settings
        assert " ".join(setting.says.split()) in " ".join(of_settings.split())
    for word in ("socketmap", "policy.sock", "TEMP REASON", "milter"):
        assert word in of_protocols


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm", "build"])
def test_scripts_are_shell(script: str) -> None:
    """The shell can read each script, and each stops at the first error."""
    text = (PACKAGING / script).read_text()
    shell = "bash" if text.startswith("#!/usr/bin/env bash") else "sh"
    subprocess.run([shell, "-n", PACKAGING / script], check=True, timeout=10)
    assert re.search(r"^set -e", text, re.MULTILINE)


def test_completion_knows_the_commands() -> None:
    """The completion that is installed for bash asks the program itself, which offers every command."""
    environment = {**os.environ, "_BOUNCED_COMPLETE": "bash_complete", "COMP_WORDS": "bounced ", "COMP_CWORD": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", "from bounced.cli import cli; cli(prog_name='bounced')"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert {line.partition(",")[2] for line in ran.stdout.splitlines()} == set(cli.commands)
