"""What the reader may not use on strangers' octets, and patterns that cannot hang."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import bounced.report
from tests.regexes import hangs

_FORBIDDEN = {"getaddresses", "parseaddr", "get_params", "get_filename", "get_param", "default", "SMTP", "BytesParser", "decode_header"}


def _modules() -> list[ModuleType]:
    found = pkgutil.walk_packages(bounced.report.__path__, "bounced.report.")
    return [importlib.import_module(module.name) for module in found]


def _offences(name: str, source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in _FORBIDDEN:
            yield f"{name}:{node.lineno} {node.attr}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | ({node.module or ""} if isinstance(node, ast.ImportFrom) else set())
            if any(one.partition(".")[0] == "email" for one in names) and not name.endswith("last_resort"):
                yield f"{name}:{node.lineno} email"


@pytest.mark.parametrize("module", _modules(), ids=lambda module: module.__name__)
def test_no_part_of_the_stdlib_that_a_stranger_can_stall(module: ModuleType) -> None:
    """The email package is imported by last_resort alone, and none of its slow readers is called anywhere."""
    assert list(_offences(module.__name__, Path(str(module.__file__)).read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("module", _modules(), ids=lambda module: module.__name__)
def test_no_pattern_can_hang(module: ModuleType) -> None:
    """No compiled pattern of a module has a loop in a loop that can cut one text in many ways."""
    patterns = [value for value in vars(module).values() if isinstance(value, re.Pattern)]
    assert [
        pattern.pattern for pattern in patterns if hangs(pattern.pattern, pattern.flags & (re.DOTALL | re.VERBOSE | re.IGNORECASE))
    ] == []


def test_the_lint_sees_what_it_forbids() -> None:
    """Control: the forbidden is noticed where it is planted."""
    planted = "import email.policy\nfrom email.utils import getaddresses\nx = email.utils.getaddresses(y)\nz = email.policy.default\n"
    assert len(list(_offences("planted", planted))) == 4
    assert hangs("(?:a+)+b")
