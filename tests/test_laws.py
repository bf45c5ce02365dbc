"""The laws of the house: size, docstrings, names, types, RFC references, regular expressions.

Each law reads the sources of a tree and names its violations; each is shown to notice a planted one.
"""

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.regexes import hangs

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES_OF_A_FUNCTION = 60
MOST_LINES_OF_A_FILE = 500

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def sources(tree: Path, top: str) -> list[Path]:
    """Give the Python files under one directory of the tree."""
    return sorted(path for path in (tree / top).rglob("*.py") if "__pycache__" not in path.parts)


@cache
def parsed(path: Path) -> ast.Module:
    """Read one file."""
    return ast.parse(path.read_text(), str(path))


def functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Give all functions and methods, at any depth."""
    return (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def place(tree: Path, path: Path, node: ast.AST | int | None = None) -> str:
    """Say where something is."""
    line = node if isinstance(node, int) else getattr(node, "lineno", 1)
    return f"{path.relative_to(tree)}:{line}"


def functions_fit_a_screen(tree: Path) -> list[str]:
    """No function of the package is longer than 60 lines, its docstring not counted."""
    found = []
    for path in sources(tree, "bounced"):
        for function in functions(parsed(path)):
            lines = (function.end_lineno or 0) - function.lineno + 1
            if ast.get_docstring(function) is not None:
                lines -= (function.body[0].end_lineno or 0) - function.body[0].lineno + 1
            if lines > MOST_LINES_OF_A_FUNCTION:
                found.append(f"{place(tree, path, function)} {function.name} has {lines} lines")
    return found


def files_are_short(tree: Path) -> list[str]:
    """No file of the package is longer than 500 lines."""
    lengths = {path: len(path.read_text().splitlines()) for path in sources(tree, "bounced")}
    return [f"{place(tree, path)} has {lines} lines" for path, lines in lengths.items() if lines > MOST_LINES_OF_A_FILE]


def modules_say_what_they_are_for(tree: Path) -> list[str]:
    """Every file of the package opens with a docstring; a module's says what it is for and what it never does."""
    found = []
    for path in sources(tree, "bounced"):
        docstring = ast.get_docstring(parsed(path)) or ""
        wanted = () if path.name in ("__init__.py", "__main__.py") else ("For: ", "Never: ")
        if not docstring or not all(word in docstring for word in wanted):
            found.append(f"{place(tree, path)} does not say what it is for and what it never does")
    return found


def public_names_are_documented(tree: Path) -> list[str]:
    """Every public function, class and method of the package has a docstring."""

    def undocumented(path: Path, body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            if isinstance(node, Definition) and not node.name.startswith("_"):
                if not ast.get_docstring(node) and not overloads(node):
                    yield f"{place(tree, path, node)} {node.name} has no docstring"
                if isinstance(node, ast.ClassDef):
                    yield from undocumented(path, node.body)

    return [one for path in sources(tree, "bounced") for one in undocumented(path, parsed(path).body)]


def overloads(node: Definition) -> bool:
    """Tell whether a definition only types another one, or sets a property that its getter documents."""
    names = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    return bool(names & {"overload", "setter"})


def behaviours_are_stated(tree: Path) -> list[str]:
    """Every test has a docstring of one sentence."""
    found = []
    for path in sources(tree, "tests"):
        for function in functions(parsed(path)):
            docstring = ast.get_docstring(function) or ""
            if function.name.startswith("test_") and (not docstring.endswith((".", "?", "!")) or "\n\n" in docstring):
                found.append(f"{place(tree, path, function)} {function.name} does not state its behaviour in a sentence")
    return found


def pure_modules(tree: Path) -> list[Path]:
    """Give the files of the pure half, as the import contract lists them."""
    contracts = tomllib.loads((tree / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    pure = next(contract for contract in contracts if contract["id"] == "pure")
    homes = [tree.joinpath(*name.split(".")) for name in pure["source_modules"]]
    return [path for path in sources(tree, "bounced") if any(home in path.parents or home == path.with_suffix("") for home in homes)]


def pure_half_is_typed(tree: Path) -> list[str]:
    """No module of the pure half says Any."""
    return [
        f"{place(tree, path, node)} says Any"
        for path in pure_modules(tree)
        for node in ast.walk(parsed(path))
        if (isinstance(node, ast.Name) and node.id == "Any")
        or (isinstance(node, ast.Attribute) and node.attr == "Any")
        or (isinstance(node, ast.alias) and node.name == "Any")
    ]


# What the import contract does not list; outcome reads its own rows through importlib.resources.
WORLD = {"builtins", "ctypes", "fcntl", "io", "mmap", "pathlib", "pickle", "secrets", "shelve", "shutil", "tempfile", "uuid"}
WORLD |= {"concurrent", "http", "multiprocessing", "select", "selectors", "signal", "smtplib", "socketserver"}
DEEDS = {"open", "print", "input", "eval", "exec", "__import__", "import_module", "now", "today", "utcnow", "write_text", "write_bytes"}


def pure_half_touches_nothing(tree: Path) -> list[str]:
    """No module of the pure half imports a way to the world that the contract forgot, asks a clock, opens, prints or evaluates."""
    found = []
    for path in pure_modules(tree):
        for node in ast.walk(parsed(path)):
            match node:
                case ast.Import(names=names):
                    words = {alias.name.partition(".")[0] for alias in names} & WORLD
                case ast.ImportFrom(module=str(module)):
                    words = {module.partition(".")[0]} & WORLD
                case ast.Call(func=function):
                    words = {ast.unparse(function).rpartition(".")[2]} & DEEDS
                case _:
                    continue
            found += [f"{place(tree, path, node)} uses {word}" for word in words]
    return found


RFC = re.compile(r"(?<![\w/-])RFCs?(?![A-Za-z])(?P<rest>.{0,40})", re.DOTALL | re.IGNORECASE)
RFC_NUMBER = re.compile(r" [1-9]\d{2,3}\b(?!\.\d)")
RFC_WRONG_SECTION = re.compile(r"[ ,:]*(?:§|sec\b|sect\b|sec\.|section\b|appendix\b|chapter\b|\d+\.\d)", re.IGNORECASE)
RFC_SECTION = re.compile(r"(?:'s)? (?:sections? \d{1,2}(?:\.\d{1,2})*\b|appendix [A-Z](?:\.\d{1,2})*\b)")


def rfc_references_are_well_formed(tree: Path) -> list[str]:
    """Where docstrings and comments name an RFC it is `RFC 5321`, and its section `RFC 5321 section 4.5.3.1`."""
    found = []
    for path in sources(tree, "bounced"):
        for line, text in prose(path):
            for mention in RFC.finditer(text):
                rest = " ".join(mention["rest"].split()).join((" " * mention["rest"][:1].isspace(), ""))
                number = RFC_NUMBER.match(rest)
                section = rest[number.end() :] if number else ""
                if mention[0][:4] != "RFC " or not number or (RFC_WRONG_SECTION.match(section) and not RFC_SECTION.match(section)):
                    found.append(f"{place(tree, path, line)} RFC{rest!r} is no well-formed reference")
    return found


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Give the docstrings and runs of comments of a file, with their lines: what we say, not what strangers said."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value.replace("\n", " ")
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


EMPTY_WORDS = {"data", "info", "manager", "helper", "helpers", "util", "utils"}
TERMS = {("mail", "data")}
"""Terms of RFC 5321 (section 2.3.9) that hold such a word."""


def names_say_something(tree: Path) -> list[str]:
    """No module, package or class is named data, info, manager, helper or utils, alone or with other words."""

    def empty(name: str) -> bool:
        words = tuple(word.lower() for part in name.split("_") for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", part))
        return bool(EMPTY_WORDS.intersection(words)) and words not in TERMS

    files = sources(tree, "bounced")
    names = {place(tree, path): path.stem for path in files} | {
        f"{place(tree, path)} {path.parent.name}": path.parent.name for path in files
    }
    names |= {
        f"{place(tree, path, node)}": node.name for path in files for node in ast.walk(parsed(path)) if isinstance(node, ast.ClassDef)
    }
    return [f"{where} is named {name}" for where, name in names.items() if empty(name)]


CALLS = {"compile", "match", "fullmatch", "search", "split", "sub", "subn", "findall", "finditer"}
IN_LOWER_CASE = "in_lower_case"
"""A pattern that ignores case and is shown elsewhere, with its letters in lower case (fields.blind): its loops are the same."""
OPERATORS_TEXT = {"config.py", "settings.py"}
"""What reads only what the operator wrote may put patterns together from its own words."""


def patterns_cannot_hang(tree: Path) -> list[str]:
    """No regular expression of the package has a loop in a loop that can cut one text in many ways; the source shows each."""
    found = []
    for path in sources(tree, "bounced"):
        constants = module_constants(parsed(path))
        for call in (node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)):
            function = call.func
            if not (isinstance(function, ast.Attribute) and function.attr in CALLS and ast.unparse(function.value) == "re"):
                continue
            flags = next(
                (ast.unparse(one) for one in [*call.args[1:], *(word.value for word in call.keywords)] if "re." in ast.unparse(one)), "0"
            )
            try:
                pattern = evaluated(call.args[0], constants)
            except NameError:
                if path.name not in OPERATORS_TEXT and ast.unparse(call.args[0]) != IN_LOWER_CASE:
                    found.append(f"{place(tree, path, call)} makes a pattern that the source does not show")
                continue
            if isinstance(pattern, str | bytes) and hangs(pattern, re.DOTALL if "DOTALL" in flags else 0):
                found.append(f"{place(tree, path, call)} {pattern!r} has a loop in a loop")
    return found


def evaluated(node: ast.expr, constants: dict[str, object]) -> object:
    """Give the value of an expression over constants; NameError for anything else."""
    return eval(compile(ast.Expression(node), "law", "eval"), {"re": re}, constants)


def module_constants(module: ast.Module) -> dict[str, object]:
    """Give the module's names whose values are made of literals."""
    constants: dict[str, object] = {}
    for node in module.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                constants[node.targets[0].id] = evaluated(node.value, constants)
            except (NameError, TypeError, AttributeError, LookupError, ValueError):
                continue
    return constants


LAWS: dict[Callable[[Path], list[str]], list[tuple[str, str]]] = {
    functions_fit_a_screen: [
        ("bounced/long.py", "def long():\n" + "    x = 1\n" * 60),
        ("bounced/long.py", "class A:\n    async def long(self):\n        '''Say\n        it.'''\n" + "        x = 1\n" * 60),
    ],
    files_are_short: [("bounced/report/long.py", "x = 1\n" * 501)],
    modules_say_what_they_are_for: [
        ("bounced/mute.py", "x = 1\n"),
        ("bounced/vague.py", '"""Something. For: nothing."""\n'),
        ("bounced/report/__init__.py", "x = 1\n"),
    ],
    public_names_are_documented: [
        ("bounced/bare.py", "def bare():\n    pass\n"),
        ("bounced/bare.py", "class Bare:\n    pass\n"),
        ("bounced/bare.py", "class Bare:\n    '''A thing.'''\n    async def run(self):\n        pass\n"),
    ],
    behaviours_are_stated: [
        ("tests/test_bare.py", "def test_bare():\n    assert True\n"),
        ("tests/deep/test_bare.py", "class TestBare:\n    async def test_bare(self):\n        '''no sentence'''\n"),
        ("tests/test_bare.py", "def test_bare():\n    '''One.\n\n    And more.'''\n"),
    ],
    pure_half_is_typed: [
        ("bounced/policy.py", "from typing import Any\n"),
        ("bounced/report/reader.py", "import typing\nx: typing.Any = 1\n"),
    ],
    pure_half_touches_nothing: [
        ("bounced/policy.py", "from datetime import UTC, datetime\nx = datetime.now(UTC)\n"),
        ("bounced/report/reader.py", "import pathlib\n"),
        ("bounced/query/line.py", "from multiprocessing.pool import Pool\n"),
        ("bounced/outcome/judge.py", "def f(p):\n    return open(p)\n"),
    ],
    rfc_references_are_well_formed: [
        ("bounced/cites.py", f'"""Reads mail ({reference})."""\n')
        for reference in (
            "RFC5321",
            "rfc 5321",
            "RFC-5321",
            "RFC 5321, section 4.2",
            "RFC 5321 Section 4.2",
            "RFC 5321 4.2",
            "RFC 5321 §4.2",
            "RFC 5321 sec. 4",
            "RFC 5321 section four",
            "RFC 53",
            "RFC 5321.4.2",
        )
    ]
    + [("bounced/cites.py", "x = 1  # as in RFC5321\n")],
    names_say_something: [
        ("bounced/utils.py", "x = 1\n"),
        ("bounced/mail_info.py", "x = 1\n"),
        ("bounced/helpers/__init__.py", "x = 1\n"),
        ("bounced/good.py", "class BounceManager:\n    pass\n"),
        ("bounced/good.py", "class SMTPData:\n    pass\n"),
    ],
    patterns_cannot_hang: [
        ("bounced/slow.py", "import re\n_SLOW = re.compile(r'(a+)+b')\n"),
        ("bounced/slow.py", "import re\n_A = r'\\w+'\n_SLOW = re.compile(rf'(?:{_A} ?)*x', re.IGNORECASE)\n"),
        ("bounced/slow.py", "import re\ndef f(t):\n    return re.sub(rb'(?:a*b*)*', b'', t)\n"),
        ("bounced/slow.py", "import re\ndef f(t, word):\n    return re.search(word, t)\n"),
    ],
}

CLEAN = {
    "pyproject.toml": (ROOT / "pyproject.toml").read_text(),
    "bounced/__init__.py": '"""A tree that keeps every law."""\n',
    "bounced/clean.py": '''"""Keeps every law (RFC 5321 sections 4.1 and 4.2, RFC 3464, 6533; RFC 5321's appendix C; RFC 2119 says must).

For: the control of the control. Never: anything else (RFC 5321 section
4.5.3.1).
"""

import re

_WORD = r"[a-z]+"
_LIST = re.compile(rf"(?:{_WORD},)*{_WORD}")


def read(text: str) -> bool:
    """Tell whether it is a list."""
    return _LIST.fullmatch(text) is not None
''',
    "bounced/mail_data.py": '"""Named by a term.\n\nFor: control. Never: else.\n"""\n\n\nclass MailData:\n    """The mail data."""\n',
    "tests/test_clean.py": 'def test_clean():\n    """It is clean."""\n',
}


def grow(tree: Path, files: dict[str, str]) -> Path:
    """Write a tree."""
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    return tree


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law_holds(law: Callable[[Path], list[str]]) -> None:
    """The project keeps the law."""
    assert law(ROOT) == []


@pytest.mark.parametrize(
    ("law", "plant"), [(law, plant) for law, plants in LAWS.items() for plant in plants], ids=lambda one: getattr(one, "__name__", None)
)
def test_law_notices(law: Callable[[Path], list[str]], plant: tuple[str, str], tmp_path: Path) -> None:
    """A tree that keeps every law passes, and the same tree with one planted violation does not."""
    assert law(grow(tmp_path / "clean", CLEAN)) == []
    found = law(grow(tmp_path / "planted", CLEAN | dict([plant])))
    assert found
    assert all(plant[0] in one for one in found)


def test_laws_read_the_whole_project() -> None:
    """The laws see every module of the package, and the pure half is not empty."""
    names = {path.relative_to(ROOT).as_posix() for path in sources(ROOT, "bounced")}
    assert {"bounced/policy.py", "bounced/report/__init__.py", "bounced/store/sqlite.py"} <= names
    pure = {path.relative_to(ROOT).as_posix() for path in pure_modules(ROOT)}
    assert {"bounced/policy.py", "bounced/report/__init__.py", "bounced/outcome/__init__.py"} <= pure
    assert not any(name.startswith("bounced/store/") for name in pure)


@pytest.mark.parametrize(
    ("pattern", "verdict"),
    [
        (r"(a+)+", True),
        (r"(?:a*)*b", True),
        (r"(?:\w+\s?)*", True),
        (r"(?:[a-z]+|,)*", True),
        (r"((a|b+)c?)+", True),
        (r"(?=(a+)+b)", True),
        (r"(?:a+?)*", True),
        (r"(a{1,5000}){1,5000}", True),
        (r"(?:K+k)*", True),
        (r"(?s)(?:.+\n)*", True),
        (rb"(?:[^;]+;?)*", True),
        (r"(x)?(?(1)(a+)+|b)", True),
        (r"(?:.+\n)*", False),
        (r"(?:x+,)*x", False),
        (r"(?:\.[a-z]+)*", False),
        (r"(?:\r?\n[ \t]+[^\r\n]*)*", False),
        (r"(?:\S+\s)*", False),
        (r"(?:(?:a+)(?:b){2})*", False),
        (r"(?:a{1,3})*", False),
        (r'(?:[^"\\]|\\.)*', False),
        (r"(?:a++b?)*+", False),
        (r"(?>a+)+", False),
    ],
)
def test_what_hangs(pattern: str | bytes, verdict: bool) -> None:
    """A loop in a loop hangs unless each turn must pass a character that no inner loop takes, or never goes back."""
    assert hangs(pattern) is verdict
