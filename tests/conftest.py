"""What many tests share: where the corpus is, which programs there are, a clock that stands still.

A test that needs something this machine lacks skips and says what; with BOUNCED_REQUIRE_ALL=1 (as in CI) the same is a failure.
Tests that count run a reduced count; with BOUNCED_ACCEPTANCE=1 they run the full one.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

# No deadline: a slow machine is no failure. The full counts look further.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.register_profile("acceptance", deadline=None, max_examples=10_000)
hypothesis.settings.load_profile("acceptance" if os.environ.get("BOUNCED_ACCEPTANCE") == "1" else "suite")

_SHARED = Path(__file__).resolve().parents[2] / "shared"


def lacking(what: str) -> None:
    """Skip for want of `what`; fail instead where nothing may be missing."""
    if os.environ.get("BOUNCED_REQUIRE_ALL") == "1":
        pytest.fail(f"BOUNCED_REQUIRE_ALL=1, and missing: {what}")
    pytest.skip(f"needs {what}")


@pytest.fixture
def shared() -> Path:
    """The directory with the corpus and the tools, which is not part of the project."""
    if not (_SHARED / "corpus" / "labels.jsonl").is_file():
        lacking("the corpus beside the project (../shared)")
    return _SHARED


@pytest.fixture(scope="session")
def full_counts() -> bool:
    """Whether to run the full counts (BOUNCED_ACCEPTANCE=1): `rounds = 1_000_000 if full_counts else 10_000`."""
    return os.environ.get("BOUNCED_ACCEPTANCE") == "1"


@pytest.fixture
def need_program() -> Callable[[str], str]:
    """Give the path of a program of the system, or skip with its name."""

    def find(name: str) -> str:
        path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/lib/postfix/sbin")
        if path is None:
            lacking(f"the program {name}")
        assert path is not None
        return path

    return find


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where nothing may be missing, any skip fails the run, whoever made it."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("BOUNCED_REQUIRE_ALL") == "1" and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
