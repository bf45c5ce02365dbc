"""The parts of the system tests: a place to work in, a daemon in it, and what this machine must have."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.conftest import lacking
from tests.system.daemon import Daemon, alive
from tests.system.room import MAILERS

collect_ignore = [] if os.environ.get("BOUNCED_ACCEPTANCE") == "1" else ["test_machine.py"]
"""What builds the package and boots a machine takes minutes: it is no test that skips, but one of `make acceptance`."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests measured: rounds, acknowledged, missing."""
    reports = (one for kind in ("passed", "failed") for one in terminalreporter.stats.get(kind, ()))
    figures = [str(value) for one in reports for name, value in one.user_properties if name == "figure"]
    if figures:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(figures))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this directory as a system test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def as_root() -> None:
    """Skip where we are not root: Postfix, mounts and strace need it."""
    if os.geteuid() != 0:
        lacking("root")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that Postfix' own user may enter, with a path short enough for unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="bounced-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Take a line of what was measured, for the end of the run."""
    return lambda line: record_property("figure", line)


@pytest.fixture(scope="module")
def need_postfix(as_root: None) -> None:
    """Skip where Postfix is not installed."""
    if shutil.which("postconf", path="/usr/sbin") is None:
        lacking("the program postfix")


@pytest.fixture(scope="session")
def need_mailer(as_root: None) -> Callable[[str], Path]:
    """Give where a mail server is unpacked, or skip with its name."""

    def find(name: str) -> Path:
        if not (MAILERS / name).is_dir():
            lacking(f"{name} in {MAILERS} (.ci/mailers unpacks it)")
        return MAILERS / name

    return find


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A daemon on an empty store."""
    with alive() as one:
        yield one


@pytest.fixture
def rounds() -> Callable[[int, int], int]:
    """Give how often a test repeats: the reduced count, or the full one with BOUNCED_ACCEPTANCE=1."""
    full = os.environ.get("BOUNCED_ACCEPTANCE") == "1"
    return lambda reduced, whole: whole if full else reduced


_SERIAL = count(1)


@pytest.fixture
def name() -> Callable[[str], str]:
    """Make recipients whom no other story uses; how the remote server treats them is told by how the name begins."""
    return lambda beginning: f"{beginning}{next(_SERIAL)}@receiver.example"
