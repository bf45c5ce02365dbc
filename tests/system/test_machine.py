"""The package and its units under a real systemd: the administrator's walk of docs/OPERATING.md, and what he never sees.

Collected by `make acceptance` alone (see conftest): it builds the package, boots a machine, and takes minutes.
"""

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from bounced.client import Client, TemporaryFailure
from bounced.log import message_id
from tests.conftest import lacking
from tests.system.daemon import PROJECT
from tests.system.machine import Machine
from tests.system.waiting import until

WALK = (PROJECT / "docs" / "OPERATING.md").read_text()
DEAD = "dead@example.org"


def blocks(mark: str) -> list[str]:
    """Return the blocks of the walk that are marked so."""
    return re.findall(rf"^```sh {mark}\n(.*?)^```", WALK, re.DOTALL | re.MULTILINE)


def built(place: Path, version: str) -> Path:
    """Build the package under a version."""
    subprocess.run(["packaging/build"], cwd=PROJECT, check=True, timeout=900, env={**_environment(), "VERSION": version})
    (package,) = (PROJECT / "dist").glob(f"bounced_{version}_*.deb")
    return Path(shutil.move(package, place))


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}


@pytest.fixture(scope="module")
def machine(as_root: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with the package, and a newer one, in the directory of root."""
    for program in ("systemd-nspawn", "nsenter", "dpkg-deb", "lintian", "postconf"):
        if shutil.which(program, path="/usr/sbin:/usr/bin") is None:
            lacking(f"the program {program}")
    place = tmp_path_factory.mktemp("package")
    first, newer = built(place, "0.9.1"), built(place, "0.9.2")
    with Machine() as one:
        (one.root / "root" / "newer").mkdir(parents=True, exist_ok=True)
        shutil.copy(first, one.root / "root")
        shutil.copy(newer, one.root / "root" / "newer")
        one.package = first
        yield one


def test_lintian_says_nothing(machine: Machine) -> None:
    """Lintian has neither errors nor warnings that are not overridden with a reason."""
    said = subprocess.run(["lintian", machine.package], capture_output=True, text=True, timeout=600)
    assert said.stdout == ""


def test_the_walk(machine: Machine) -> None:
    """Every line of the walk succeeds, from the installation to the keys, with the real Postfix on port 25."""
    install, *rest = blocks("walk")
    machine.tell(install)
    assert machine.run("systemctl is-active bounced bounced-smtp.socket").stdout.split() == ["inactive", "inactive"]
    assert machine.run("bounced config check").returncode == 78
    for block in rest:
        machine.tell(block)
    assert len(rest) >= 8


def test_units_are_confined_and_alive(machine: Machine) -> None:
    """Both run under their own user, exposed to at most 0.5 of 10 as systemd sees them run."""
    for unit in ("bounced", "bounced-query"):
        told = machine.tell(f"systemctl show -p ActiveState -p User -p NRestarts {unit}")
        assert set(told.splitlines()) == {"ActiveState=active", "User=bounced", "NRestarts=0"}
        (exposure,) = re.findall(r"level for \S+: ([0-9.]+)", machine.tell(f"systemd-analyze security --no-pager {unit} || true"))
        assert float(exposure) <= 0.5


class Asking:
    """A mailer that asks without end: how many answers were right, wrong, or none after one retry, and the longest wait."""

    def __init__(self, machine: Machine) -> None:
        self._client = Client(str(machine.inside("/run/bounced/socketmap.sock")), deadline=10)
        self._stop = threading.Event()
        self.right = self.wrong = self.unanswered = 0
        self.worst = 0.0
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _ask(self) -> None:
        while not self._stop.wait(0.005):
            began = time.monotonic()
            for again in (False, True):
                try:
                    right = not self._client.may_send(DEAD)
                except TemporaryFailure:
                    self.unanswered += again
                    continue
                self.right += right
                self.wrong += not right
                break
            self.worst = max(self.worst, time.monotonic() - began)


def test_restarts_and_kills_under_questions(machine: Machine) -> None:
    """While both are restarted, killed and upgraded, every question is answered rightly, after one retry at most; sockets stay."""
    machine.tell(f"bounced block {DEAD} --reason test")
    with Asking(machine) as asking:
        for _ in range(10):
            machine.tell("systemctl restart bounced bounced-query")
        for _ in range(10):
            machine.tell("systemctl kill --signal=KILL bounced bounced-query; sleep 0.5; systemctl start bounced bounced-query")
        machine.tell(blocks("upgrade")[0])
        until(lambda: asking.right > 500, "some hundred answers")
    assert (asking.wrong, asking.unanswered) == (0, 0), (asking.right, asking.worst)
    assert "0.9.2" in machine.tell("dpkg-query -W bounced")
    machine.tell("systemctl stop bounced bounced-query; test -S /run/bounced/socketmap.sock; test -S /run/bounced/lmtp.sock")
    machine.tell("systemctl start bounced bounced-query")


def test_a_bad_configuration_keeps_the_old_daemon(machine: Machine) -> None:
    """A reload by a wrong file changes nothing and says so; an upgrade would not restart into it."""
    machine.tell("printf '[smtp]\\nlisten = 7\\n' > /etc/bounced/conf.d/zz.toml; systemctl reload bounced; sleep 1")
    assert "daemon.kept_old" in machine.journal()
    machine.tell("systemctl is-active bounced bounced-query; rm /etc/bounced/conf.d/zz.toml")


def restarts(machine: Machine, unit: str) -> str:
    return machine.tell(f"systemctl show -p NRestarts --value {unit}")


def started_again(machine: Machine, unit: str, before: str) -> bool:
    return restarts(machine, unit) != before and machine.run(f"systemctl is-active {unit}").stdout.strip() == "active"


def test_a_process_that_hangs_is_killed_and_started_again(machine: Machine) -> None:
    """The watchdog kills each process when it stands still, and it serves again."""
    for unit in ("bounced", "bounced-query"):
        drop_in = f"/run/systemd/system/{unit}.service.d"
        machine.tell(f"mkdir -p {drop_in}; printf '[Service]\nWatchdogSec=3\n' > {drop_in}/watchdog.conf")
    machine.tell("systemctl daemon-reload; systemctl restart bounced bounced-query")
    for unit in ("bounced", "bounced-query"):
        before = restarts(machine, unit)
        machine.tell(f"systemctl kill --signal=STOP --kill-who=main {unit}")
        until(partial(started_again, machine, unit, before), f"{unit} to be started again")
    until(lambda: machine.run(f"bounced check {DEAD}").returncode == 1, "answers")


def test_the_journal_has_fields(machine: Machine) -> None:
    """What happened to an address is found by its own field, and each event by its id."""
    machine.tell('python3 /usr/share/doc/bounced/examples/send_bounce.py 127.0.0.1:25 "$(bounced sign ada@example.org)"')
    look = "journalctl --no-pager -q -o cat BOUNCED_RCPT=ada@example.org BOUNCED_EVENT=bounce.bounced"
    until(lambda: "category=no-such-user" in machine.run(look).stdout, "the line in the journal")
    assert "bounce.bounced" in machine.tell(f"journalctl --no-pager -q -o cat MESSAGE_ID={message_id('bounce.bounced')}")


def test_a_journal_that_does_not_read_stops_nobody(machine: Machine) -> None:
    """While journald stands still, bounces are taken and questions answered."""
    machine.tell("systemctl kill --signal=STOP systemd-journald")
    try:
        for _ in range(30):
            machine.tell('python3 /usr/share/doc/bounced/examples/send_bounce.py 127.0.0.1:25 "$(bounced sign joe@example.org)"')
        assert machine.run(f"bounced check {DEAD}").returncode == 1
    finally:
        machine.tell("systemctl kill --signal=CONT systemd-journald")


def test_remove_keeps_and_purge_forgets(machine: Machine) -> None:
    """A removal keeps list and configuration, a purge takes both, and nothing of ours runs."""
    machine.tell("apt-get remove -y bounced; test -e /var/lib/bounced/bounced.db; test -e /etc/bounced/bounced.toml")
    machine.tell("rm -f /etc/bounced/conf.d/domain.toml")
    machine.tell(blocks("purge")[0])
    machine.tell("test ! -e /var/lib/bounced; test ! -e /etc/bounced/bounced.toml; test ! -e /usr/lib/bounced; test ! -e /run/bounced")
    assert "bounced" not in machine.tell("ps -eo comm=")
