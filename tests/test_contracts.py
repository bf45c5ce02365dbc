"""The import contracts: the tree keeps them, and each planted violation breaks one."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of a tree."""
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([program, "--no-cache", "--no-logo"], cwd=tree, capture_output=True, text=True, timeout=60)


def copied(tree: Path) -> Path:
    """Copy the package and its contracts; what a contract names and the package lacks is added: empty modules, allowed imports."""
    shutil.copytree(ROOT / "bounced", tree / "bounced", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]:
        named = [*contract.get("source_modules", ()), *contract.get("forbidden_modules", ())]
        layers = re.findall(r"\w+", " ".join(contract.get("layers", ())))
        for name in {*(name for name in named if name.startswith("bounced.")), *(f"bounced.{layer}" for layer in layers)}:
            plant(tree, name, "")
        for importer, _, imported in (ignored.partition(" -> ") for ignored in contract.get("ignore_imports", ())):
            plant(tree, importer, f"import {imported}")
    return tree


def plant(tree: Path, module: str, line: str) -> None:
    """Add a line to a module, which is made if there is none."""
    home = tree.joinpath(*module.split("."))
    path = home / "__init__.py" if home.is_dir() else home.with_suffix(".py")
    with path.open("a") as file:
        file.write(f"\n{line}\n")


def test_the_tree_keeps_its_contracts() -> None:
    """Every contract is kept by the package as it stands."""
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 broken." in result.stdout


def test_a_copy_keeps_its_contracts(tmp_path: Path) -> None:
    """A copy in which nothing is planted keeps every contract, so what breaks below is the plant."""
    result = lint(copied(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr


PLANTS = {
    "a clock in policy": ("bounced.policy", "import time", "time"),
    "randomness in the return path": ("bounced.returnpath", "import random", "random"),
    "asyncio in report": ("bounced.report.mime", "import asyncio", "asyncio"),
    "a socket in a codec": ("bounced.query.socketmap", "import socket", "socket"),
    "structlog in record": ("bounced.record", "import structlog", "structlog"),
    "logging in outcome": ("bounced.outcome.judge", "import logging", "logging"),
    "report knows outcome": ("bounced.report.reader", "import bounced.outcome", "bounced.outcome"),
    "outcome knows store": ("bounced.outcome.judge", "import bounced.store", "bounced.store"),
    "policy knows store": ("bounced.policy", "from bounced.store import Store", "bounced.store"),
    "address knows policy": ("bounced.address", "import bounced.policy", "bounced.policy"),
    "a codec knows store": ("bounced.query.line", "import bounced.store", "bounced.store"),
    "store knows intake": ("bounced.store.sqlite", "import bounced.intake", "bounced.intake"),
    "intake knows smtp": ("bounced.intake", "import bounced.smtp.door", "bounced.smtp.door"),
    "consult knows listen": ("bounced.consult", "import bounced.listen", "bounced.listen"),
    "one door knows another": ("bounced.smtp.door", "import bounced.listen", "bounced.listen"),
    "http knows smtp": ("bounced.http", "from bounced.smtp import door", "bounced.smtp.door"),
    "a door knows the configuration": ("bounced.smtp.door", "import bounced.config", "bounced.config"),
    "a door knows the daemon": ("bounced.listen", "import bounced.daemon", "bounced.daemon"),
    "a socket in the words of SMTP": ("bounced.smtp.command", "import socket", "socket"),
    "a codec knows aiosqlite": ("bounced.query.line", "import aiosqlite", "aiosqlite"),
    "another store knows aiosqlite": ("bounced.store.memory", "import aiosqlite", "aiosqlite"),
    "listen knows aiosmtpd": ("bounced.listen", "from aiosmtpd.smtp import SMTP", "aiosmtpd"),
    "the reader knows flufl": ("bounced.report.reader", "from flufl.bounce import scan_message", "flufl"),
    "what answers questions knows the rules": ("bounced.consult", "import bounced.outcome.ruleset", "bounced.outcome.ruleset"),
    "an import inside a function": ("bounced.policy", "def late():\n    import time", "time"),
}


@pytest.mark.parametrize(("module", "line", "imported"), PLANTS.values(), ids=PLANTS.keys())
def test_a_violation_breaks_a_contract(module: str, line: str, imported: str, tmp_path: Path) -> None:
    """A planted import that the house forbids breaks a contract, which names it."""
    tree = copied(tmp_path)
    plant(tree, module, line)
    result = lint(tree)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "BROKEN" in result.stdout
    assert re.search(rf"{re.escape(module)} ->\s+{re.escape(imported)}\b", result.stdout), result.stdout


def test_a_module_without_a_place_breaks_a_contract(tmp_path: Path) -> None:
    """A new module that no layer names breaks the contract of the layers."""
    tree = copied(tmp_path)
    plant(tree, "bounced.stray", "x = 1")
    result = lint(tree)
    assert result.returncode == 1
    assert "stray" in result.stdout


def loads(module: str, library: str) -> bool:
    """Tell whether importing a module loads a library."""
    command = [sys.executable, "-c", f"import sys, {module}; print({library!r} in sys.modules)"]
    return subprocess.run(command, capture_output=True, check=True).stdout == b"True\n"


def test_no_command_loads_rich_before_it_runs() -> None:
    """The daemon is started by the command line: what a command loads at its top, the daemon carries for ever."""
    # structlog takes up rich where it is loaded, with 8 MiB of tracebacks in colour.
    assert not loads("bounced.cli", "rich")
    assert loads("rich.progress", "rich")


def test_no_daemon_loads_http_before_it_has_such_a_door() -> None:
    """Who takes bounces, and is asked for no metrics, does not carry the libraries of HTTP."""
    for library in ("starlette", "uvicorn"):
        assert not loads("bounced.daemon.taking", library)
        assert loads("bounced.http", library)
