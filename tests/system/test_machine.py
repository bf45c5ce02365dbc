"""The package and its units under a real systemd, on a freshly installed Debian: the walk of docs/OPERATING.md, and what is behind it.

Collected by `make acceptance` alone (see conftest): it builds the package, boots a machine, and takes minutes.
"""

import re
import shutil
import subprocess
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from bounced.client import Client, TemporaryFailure
from bounced.log import message_id
from tests.conftest import lacking
from tests.system.daemon import PROJECT
from tests.system.machine import Machine, debian
from tests.system.waiting import until

WALK = (PROJECT / "docs" / "OPERATING.md").read_text()
DEAD = "dead@example.org"
_PATIENCE = 1500.0
"""Seconds for fifty restarts, on a machine that does other things."""


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
    for program in ("systemd-nspawn", "nsenter", "dpkg-deb", "lintian", "debootstrap", "mkfs.ext4", "fsfreeze", "losetup"):
        if shutil.which(program, path="/usr/sbin:/usr/bin") is None:
            lacking(f"the program {program}")
    place = tmp_path_factory.mktemp("package")
    first, newer = built(place, "0.9.1"), built(place, "0.9.2")
    with Machine(debian()) as one:
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
        until(lambda unit=unit: machine.run(f"systemctl is-active {unit}").stdout == "active\n", "the end of the reload")  # type: ignore[misc]
        told = machine.tell(f"systemctl show -p ActiveState -p User -p NRestarts {unit}")
        assert set(told.splitlines()) == {"ActiveState=active", "User=bounced", "NRestarts=0"}
        (exposure,) = re.findall(r"level for \S+: ([0-9.]+)", machine.tell(f"systemd-analyze security --no-pager {unit} || true"))
        assert float(exposure) <= 0.5


def test_a_bad_configuration_keeps_the_old_daemon(machine: Machine) -> None:
    """A reload by a wrong file changes nothing and says so; an upgrade would not restart into it."""
    machine.tell("printf '[smtp]\\nlisten = 7\\n' > /etc/bounced/conf.d/zz.toml; systemctl reload bounced; sleep 1")
    assert "daemon.kept_old" in machine.journal()
    machine.tell("systemctl is-active bounced bounced-query; rm /etc/bounced/conf.d/zz.toml")


def restarts(machine: Machine, unit: str) -> str:
    return machine.tell(f"systemctl show -p NRestarts --value {unit}")


def started_again(machine: Machine, unit: str, before: str) -> bool:
    return restarts(machine, unit) != before and machine.run(f"systemctl is-active {unit}").stdout.strip() == "active"


WATCHDOG = 3


def watched(machine: Machine) -> None:
    """Let both have a watchdog of some seconds."""
    for unit in ("bounced", "bounced-query"):
        drop_in = f"/run/systemd/system/{unit}.service.d"
        machine.tell(f"mkdir -p {drop_in}; printf '[Service]\nWatchdogSec={WATCHDOG}\n' > {drop_in}/watchdog.conf")
    machine.tell("systemctl daemon-reload; systemctl restart bounced bounced-query")


def test_a_process_that_hangs_is_killed_and_started_again(machine: Machine, figure: Callable[[str], None]) -> None:
    """The watchdog kills each process when it stands still, and it serves again."""
    watched(machine)
    for unit in ("bounced", "bounced-query"):
        before = restarts(machine, unit)
        machine.tell(f"systemctl kill --signal=STOP --kill-who=main {unit}")
        began = time.monotonic()
        until(partial(started_again, machine, unit, before), f"{unit} to be started again")
        figure(f"{unit} stopped, watchdog of {WATCHDOG} s: serves again after {time.monotonic() - began:.1f} s")
    until(lambda: machine.run(f"bounced check {DEAD}").returncode == 1, "answers")


def starved(machine: Machine, since: str) -> bool:
    return "Watchdog timeout" in machine.tell(f"journalctl --no-pager -q --since={since} _PID=1")


def test_a_process_whose_disk_hangs_is_killed_and_started_again(machine: Machine, figure: Callable[[str], None]) -> None:
    """While the file system of the database is frozen the watchdog aborts who writes to it; when the disk is back, so is the daemon."""
    watched(machine)
    image = machine.home / "state.img"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    machine.tell("systemctl stop bounced bounced-query; mv /var/lib/bounced /var/lib/before; mkdir /var/lib/bounced")
    machine.mount(image, "/var/lib/bounced")
    machine.tell("cp -a /var/lib/before/. /var/lib/bounced/; chown --reference=/var/lib/before /var/lib/bounced")
    machine.tell("systemctl start bounced bounced-query")
    before, since, frozen = restarts(machine, "bounced"), machine.tell("date +@%s.%N"), machine.inside("/var/lib/bounced")
    subprocess.run(["fsfreeze", "--freeze", frozen], check=True)
    try:
        began = time.monotonic()
        until(lambda: starved(machine, since), "the watchdog")
        figure(f"disk frozen, watchdog of {WATCHDOG} s: aborted after {time.monotonic() - began:.1f} s")
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", frozen], check=True)
    began = time.monotonic()
    until(partial(started_again, machine, "bounced", before), "bounced to be started again")
    figure(f"disk thawed: serves again after {time.monotonic() - began:.1f} s")
    until(lambda: machine.run(f"bounced check {DEAD}").returncode == 1, "answers")
    machine.tell("bounced block other@example.org --reason test")
    machine.tell(
        "systemctl stop bounced bounced-query; cp -a /var/lib/bounced/. /var/lib/before/; umount /var/lib/bounced; "
        "rmdir /var/lib/bounced; mv /var/lib/before /var/lib/bounced; systemctl start bounced bounced-query"
    )


def test_the_journal_has_fields(machine: Machine) -> None:
    """What happened to an address is found by its own field, and each event by its id."""
    machine.tell('python3 /usr/share/doc/bounced/examples/send_bounce.py 127.0.0.1:25 "$(bounced sign ada@example.org)"')
    look = "journalctl --no-pager -q -o cat BOUNCED_RCPT=ada@example.org BOUNCED_EVENT=bounce.bounced"
    until(lambda: "category=no-such-user" in machine.run(look).stdout, "the line in the journal")
    assert "bounce.bounced" in machine.tell(f"journalctl --no-pager -q -o cat MESSAGE_ID={message_id('bounce.bounced')}")


def test_mail_that_arrived_is_told_by_the_unit_that_follows_the_log(machine: Machine) -> None:
    """The unit of docs/PROTOCOLS.md tells of a mail that Postfix delivered to whom it was signed for, also after a kill of the daemon."""
    page = (PROJECT / "docs" / "PROTOCOLS.md").read_text()
    (block,) = re.findall(r"`/etc/systemd/system/bounced-follow[.]service`:\n\n((?: {4}.*\n)+)", page)
    machine.tell(f"cat > /etc/systemd/system/bounced-follow.service <<'END'\n{textwrap.dedent(block)}END")
    machine.tell("systemctl daemon-reload; systemctl enable --now bounced-follow")
    look = "journalctl --no-pager -q -o cat -u bounced-follow"
    for person in ("root@localhost", "nobody@localhost"):
        machine.tell(f"bounced block {person} --reason test")
        # Of one to somebody else than it was signed for nothing is told.
        machine.tell(f'printf "Subject: news\n\nGood news.\n" | sendmail -f "$(bounced sign other@localhost)" {person}')
        machine.tell(f'printf "Subject: news\n\nGood news.\n" | sendmail -f "$(bounced sign {person})" {person}')
        until(lambda person=person: f"noted: {person}" in machine.run(look).stdout, "the word of the mail")  # type: ignore[misc]
        assert machine.run(look).stdout.count(f"noted: {person}") == 1
        assert "delivered" in machine.tell(f"bounced why {person}")
        machine.tell("systemctl kill --signal=KILL --kill-who=main bounced bounced-query")
        until(lambda: machine.run(f"bounced check {DEAD}").returncode == 1, "answers")
    assert restarts(machine, "bounced-follow") == "0"
    machine.tell("systemctl disable --now bounced-follow; rm /etc/systemd/system/bounced-follow.service")


def test_a_journal_that_does_not_read_stops_nobody(machine: Machine) -> None:
    """While journald stands still, bounces are taken and questions answered."""
    machine.tell("systemctl kill --signal=STOP systemd-journald")
    try:
        for _ in range(30):
            machine.tell('python3 /usr/share/doc/bounced/examples/send_bounce.py 127.0.0.1:25 "$(bounced sign joe@example.org)"')
        assert machine.run(f"bounced check {DEAD}").returncode == 1
    finally:
        machine.tell("systemctl kill --signal=CONT systemd-journald")


class Asking:
    """A mailer that asks without end: how many answers were right, wrong, or none after one retry, and how long each took."""

    def __init__(self, machine: Machine) -> None:
        self._client = Client(str(machine.inside("/run/bounced/socketmap.sock")), deadline=10)
        self._stop = threading.Event()
        self.right = self.wrong = self.unanswered = 0
        self.waits: list[float] = []
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _ask(self) -> None:
        while not self._stop.wait(0.004):
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
            self.waits.append(time.monotonic() - began)


def test_restarts_and_kills_under_questions(machine: Machine, figure: Callable[[str], None]) -> None:
    """While both are restarted, killed and upgraded, every question is answered rightly, after one retry at most; sockets stay."""
    machine.tell(f"bounced block {DEAD} --reason test")
    for what, lines in {
        "50 restarts": "for n in $(seq 50); do systemctl restart bounced bounced-query; done",
        "50 kill -9": """
            for n in $(seq 50); do
                systemctl kill --signal=KILL --kill-who=main bounced bounced-query || true
                until systemctl is-active --quiet bounced && systemctl is-active --quiet bounced-query; do sleep 0.1; done
                sleep 1 # a question meets one kill, and not the next one too
            done""",
        "an upgrade": blocks("upgrade")[0],
    }.items():
        with Asking(machine) as asking:
            began = time.monotonic()
            machine.tell(lines, _PATIENCE)
            until(lambda asking=asking: asking.right > 500, "some hundred answers")  # type: ignore[misc]
            rate = len(asking.waits) / (time.monotonic() - began)
        counts = f"{asking.right} right, {asking.wrong} wrong, {asking.unanswered} unanswered"
        figure(f"{what}: {counts}, worst {max(asking.waits):.2f} s, {rate:.0f}/s")
        assert (asking.wrong, asking.unanswered) == (0, 0), what
    assert "0.9.2" in machine.tell("dpkg-query -W bounced")
    machine.tell("systemctl stop bounced bounced-query; test -S /run/bounced/socketmap.sock; test -S /run/bounced/lmtp.sock")
    machine.tell("systemctl start bounced bounced-query")


def test_remove_keeps_and_purge_forgets(machine: Machine) -> None:
    """A removal keeps list and configuration, a purge takes both, also from a file system of its own, and nothing of ours runs."""
    machine.tell("apt-get remove -y bounced; test -e /var/lib/bounced/bounced.db; test -e /etc/bounced/bounced.toml")
    machine.tell("rm -f /etc/bounced/conf.d/domain.toml")
    machine.tell("mkdir /var/lib/own; mv /var/lib/bounced/* /var/lib/own; mount --bind /var/lib/own /var/lib/bounced")
    machine.tell(blocks("purge")[0])
    machine.tell("umount /var/lib/bounced; rmdir /var/lib/own /var/lib/bounced")
    machine.tell("test ! -e /var/lib/bounced; test ! -e /etc/bounced/bounced.toml; test ! -e /usr/lib/bounced; test ! -e /run/bounced")
    assert "bounced" not in machine.tell("ps -eo comm=")
