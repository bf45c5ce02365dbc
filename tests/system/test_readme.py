"""What the README says is what happens: its own lines are executed, on a clean clone.

For: the two commands of the first screen and the block for a second terminal. Never: lines of ours in their place.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import lacking
from tests.system.daemon import DOMAIN, PROJECT, Daemon
from tests.system.postfix import Postfix
from tests.system.refuser import Refuser
from tests.system.waiting import listens, until

README = (PROJECT / "README.md").read_text()
_INSTALLING = 300.0
"""Seconds for pip, which may have to fetch everything."""


def block(marked: str, containing: str = "") -> str:
    """Return the README's fenced block that is marked so, and holds these words."""
    # Fences open and close by turns: the even pieces are prose.
    fenced = re.split(r"^ *```", README, flags=re.MULTILINE)[1::2]
    found = [text for mark, _, text in (one.partition("\n") for one in fenced) if mark == marked and containing in text]
    assert len(found) == 1, f"{len(found)} blocks ```{marked} with {containing!r}"
    return found[0]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean clone of what is committed."""
    if not (PROJECT / ".git").exists():
        lacking("a git checkout")
    copy = tmp_path_factory.mktemp("clone") / "bounced"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(PROJECT), str(copy)], check=True, capture_output=True)
    return copy


@pytest.fixture(scope="module")
def the_port() -> Iterator[None]:
    """The README's port, for one run of these tests at a time on this machine."""
    with socket.socket(socket.AF_UNIX) as lock:
        until(lambda: _bound(lock, "\0bounced tests use port 2525"), "another run of these tests to end", _INSTALLING)
        if listens(("127.0.0.1", 2525)):
            lacking("port 2525 of 127.0.0.1 to be free")
        yield


def _bound(lock: socket.socket, abstract: str) -> bool:
    """Take a name that one process of the machine can have, and that goes with it (unix(7))."""
    try:
        lock.bind(abstract)
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def running(clone: Path, the_port: None) -> Iterator[Path]:
    """The clone with `make run` going; gives where its output goes."""
    first = block("sh", "make run").splitlines()[0].split("#")[0].strip()
    output = clone.parent / "output"
    # An operator's shell knows nothing of the environment that this test runs in.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VIRTUAL_ENV", "PYTHON", "MAKE", "BOUNCED"))}
    environment["PATH"] = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if not part.startswith(str(PROJECT)))
    with output.open("wb") as log:
        shell = subprocess.Popen(
            ["sh", "-c", first], cwd=clone, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        until(lambda: _is_up(shell, output), "`make run` to serve", _INSTALLING, output.read_text)
        yield output
    finally:
        _end(shell)


def main_cf() -> dict[str, str]:
    """Return the parameters of the README's block for Postfix' main.cf; a line that begins with a blank goes on (postconf(5))."""
    lines = re.sub(r"\n +", " ", textwrap.dedent(block("", "relay_domains"))).splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}


def _is_up(shell: subprocess.Popen[bytes], output: Path) -> bool:
    assert shell.poll() is None, f"`make run` ended:\n{output.read_text()}"
    return "Stop with Ctrl-C" in output.read_text()


def _end(shell: subprocess.Popen[bytes]) -> None:
    if shell.poll() is None:
        os.killpg(shell.pid, signal.SIGINT)  # Ctrl-C goes to the whole foreground group
    try:
        shell.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
        raise


def test_make_run_and_the_second_terminal(clone: Path, running: Path) -> None:
    """From a clean clone to a bounce that blocks, an explanation and a release, by the README's lines alone."""
    second = subprocess.run(["sh", "-c", block("sh try")], cwd=clone, capture_output=True, text=True, timeout=60, check=False)
    told = second.stdout
    assert second.returncode == 0, told + second.stderr + running.read_text()
    steps = ["suppressed: ", "exit code 1: suppressed", "blocked everywhere", "5.1.1", "released: joe@example.org", "exit code 0: clear"]
    places = [told.find(step) for step in steps]
    assert -1 not in places, f"{steps[places.index(-1)]!r} is missing in\n{told}{second.stderr}"
    assert places == sorted(places), told


def test_what_make_run_makes_is_ignored_by_git(clone: Path, running: Path) -> None:
    """Everything that a try leaves behind lies in ./var and .venv."""
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    assert status.stdout == ""


def test_the_readmes_configuration_is_one_that_serves_beside_postfix(tmp_path: Path) -> None:
    """The blocks for "five minutes to Postfix" leave port 25 to Postfix, and start the sockets that its main.cf block names."""
    config = tmp_path / "bounced.toml"
    config.write_text(textwrap.dedent(block("toml")))
    show = [sys.executable, "-m", "bounced", "-C", str(config), "config", "show"]
    settings = tomllib.loads(subprocess.run(show, cwd=PROJECT, capture_output=True, text=True, check=True).stdout)
    postfix, start = main_cf(), block("sh start")
    assert settings["smtp"]["listen"] == []
    assert "mask bounced-smtp.socket" in start
    # A socket of systemd must listen before the service does; the service wants those for questions by itself.
    assert 0 <= start.find("enable --now bounced-lmtp.socket") < start.find("enable --now bounced\n")
    assert f"lmtp:unix:{listens_at('lmtp')} " in postfix["transport_maps"]
    assert f"unix:{listens_at('policy')}," in postfix["smtpd_recipient_restrictions"]
    assert postfix["relay_domains"] == settings["return_path"]["domains"][0]


def listens_at(name: str) -> str:
    """Return where systemd listens for the daemon's socket of this name."""
    found = re.search(r"^ListenStream=(.+)$", (PROJECT / "systemd" / f"bounced-{name}.socket").read_text(), re.MULTILINE)
    assert found, name
    return found[1]


def test_the_readmes_main_cf_makes_a_real_postfix_refuse_the_dead(place: Path, need_postfix: None) -> None:
    """With the README's lines in main.cf, and only paths and domain moved, Postfix hands its bounce over and refuses the next mail."""
    daemon, remote = Daemon(place, socket_group="postfix"), Refuser()
    settings = {
        name: re.sub(r"/run/bounced/(\w+)\.sock", lambda found: str(daemon.door(found[1])), value).replace("bounces.example.net", DOMAIN)
        for name, value in main_cf().items()
    }
    host, port = remote.address
    postfix = Postfix(place, doors={"smtp": {}}, settings={**settings, "default_transport": f"smtp:[{host}]:{port}"})
    remote.start()
    try:
        daemon.start()
        postfix.start()
        postfix.send("smtp", daemon.tell("sign", "dead@receiver.example"), "dead@receiver.example")
        until(postfix.drained, "the bounce to be handed over", shown=postfix.log)
        assert postfix.rcpt("smtp", "dead@receiver.example")[0] == 550
        assert postfix.rcpt("smtp", "live@receiver.example")[0] == 250
    finally:
        postfix.stop()
        daemon.kill()
        remote.stop()
        sys.stdout.write(postfix.log() + daemon.log())
