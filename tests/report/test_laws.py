"""The laws of reading strangers' octets: the standard library's mail parser is kept out, but for the last resort's bounded copy."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_GUARDED = "bounced/report/last_resort.py"
"""The one module that may parse with the standard library."""
_WORDS = {"default", "getaddresses", "parseaddr", "get_params", "get_param", "get_filename", "get_content_charset", "headerregistry"}
"""Names of the standard library's mail package that are quadratic, or worse, in what a stranger sends."""


def uses(source: str, guarded: bool) -> Iterator[str]:
    """Name what a module takes of the standard library's mail package; `guarded` may parse, but nothing more."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                modules = {alias.name for alias in names}
            case ast.ImportFrom(module=str(module), names=names):
                modules = {module, *(f"{module}.{alias.name}" for alias in names)}
            case ast.Attribute(attr=word) if word in _WORDS and ("policy" in ast.unparse(node.value) or word != "default"):
                yield f"line {node.lineno}: {word}"
                continue
            case _:
                continue
        for name in sorted(modules):
            if name.partition(".")[0] == "email" and (not guarded or name != "email"):
                yield f"line {node.lineno}: {name}"


def test_the_package_keeps_out_of_the_standard_parser() -> None:
    """No module imports email, but the last resort, which uses none of its quadratic parts."""
    paths = sorted((ROOT / "bounced").rglob("*.py"))
    assert ROOT / _GUARDED in paths
    found = [
        f"{path.relative_to(ROOT)} {use}" for path in paths for use in uses(path.read_text(), path.relative_to(ROOT).as_posix() == _GUARDED)
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import email.policy",
        "from email import policy",
        "from email.utils import getaddresses",
        "import email\nemail.message_from_bytes(b'', policy=email.policy.default)",
        "import email\nm = email.message_from_bytes(b'')\nm.get_params()",
        "import email\nm = email.message_from_bytes(b'')\nm.get_filename()",
        "import email.utils as u\nu.getaddresses([])",
    ],
)
def test_planted_uses_are_noticed(source: str) -> None:
    """The law notices the dangerous parts even in the module that may parse."""
    assert list(uses(source, guarded=True))
    assert list(uses("import email", guarded=False))
    assert not list(uses("import email\nemail.message_from_bytes(b'')", guarded=True))
