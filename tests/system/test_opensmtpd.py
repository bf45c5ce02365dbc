"""OpenSMTPD asks by the filter of config/mailers/opensmtpd, and by the table program: the real daemon, and ours stopped and hung."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.daemon import Daemon
from tests.system.dropin import DROPINS, dropin
from tests.system.opensmtpd import OpenSmtpd
from tests.system.refuser import Refuser
from tests.system.room import SOCKET_GROUP
from tests.system.sender import SENDER, refusal, send
from tests.system.waiting import PATIENCE, until

DEAD, LIVE = "gone@receiver.example", "live@receiver.example"


def the_living_alone_get_their_mail(opensmtpd: OpenSmtpd, remote: Refuser) -> None:
    """A mail by SMTP and one by sendmail(1) arrive; sendmail(1) refuses one to the blocked."""
    send(opensmtpd.address, SENDER, LIVE)
    assert opensmtpd.submit("script@sender.example", LIVE) == 0
    assert opensmtpd.submit("script@sender.example", DEAD) == 70
    taken = [(SENDER, LIVE), ("script@sender.example", LIVE)]
    until(lambda: sorted(remote.taken) == taken, "the two mails", shown=opensmtpd.room.log)


@pytest.mark.parametrize(
    ("release", "block", "fault"),
    [
        ("opensmtpd", "opensmtpd/filter-open.conf", ""),
        ("opensmtpd7", "opensmtpd/filter-closed.conf", "451 4.3.0 suppression list not available"),
    ],
)
def test_the_filter_refuses_and_fails_as_it_says(
    release: str, block: str, fault: str, place: Path, need_mailer: Callable[[str], Path]
) -> None:
    """The blocked are refused by SMTP and by sendmail(1) in our words, the others get their mail; then ours is hung, and down."""
    need_mailer(release)
    home = place / f"{release}-{Path(block).stem}"
    home.mkdir(mode=0o755)
    daemon, remote = Daemon(home, socket_group=SOCKET_GROUP), Refuser()
    opensmtpd = OpenSmtpd(home, dropin(block), remote=remote.address, release=release)
    remote.start()
    try:
        daemon.start()
        opensmtpd.start()
        daemon.tell("block", DEAD, "--reason", "a test")
        assert refusal(opensmtpd.address, DEAD).startswith("550 5.7.1 recipient is on the suppression list (manual, manual, ")
        the_living_alone_get_their_mail(opensmtpd, remote)

        daemon.signal(signal.SIGSTOP)
        assert refusal(opensmtpd.address, LIVE) == fault
        daemon.kill()
        assert refusal(opensmtpd.address, LIVE) == fault
        assert (opensmtpd.submit("script@sender.example", LIVE) == 0) is (fault == "")
        daemon.start()
        assert refusal(opensmtpd.address, DEAD).startswith("550 5.7.1 ")
    finally:
        opensmtpd.room.close()
        daemon.kill()
        remote.stop()
        sys.stdout.write(opensmtpd.room.log() + daemon.log())


def test_the_table_refuses_and_fails_closed(place: Path, need_mailer: Callable[[str], Path]) -> None:
    """OpenSMTPD 7 refuses the blocked by SMTP and by sendmail(1), the others get their mail; ours hung or down, it says 451 to all."""
    need_mailer("opensmtpd7")
    home = place / "table"
    home.mkdir(mode=0o755)
    daemon, remote = Daemon(home, socket_group=SOCKET_GROUP), Refuser()
    opensmtpd = OpenSmtpd(home, dropin("opensmtpd/table-closed.conf"), remote=remote.address, release="opensmtpd7")
    remote.start()
    try:
        daemon.start()
        opensmtpd.start()
        daemon.tell("block", DEAD, "--reason", "a test")
        assert refusal(opensmtpd.address, DEAD).startswith("550 Invalid recipient")
        the_living_alone_get_their_mail(opensmtpd, remote)
        daemon.signal(signal.SIGSTOP)
        assert refusal(opensmtpd.address, LIVE).startswith("451 ")
        daemon.kill()
        assert refusal(opensmtpd.address, LIVE).startswith("451 ")
        assert opensmtpd.submit("script@sender.example", LIVE) != 0
        daemon.start()
        assert refusal(opensmtpd.address, LIVE) == ""
        # Its ruleset.c leaves the errno of the last fault where a rule matches, and lka_session.c reads it: 451 until a restart.
        assert refusal(opensmtpd.address, DEAD).startswith(("550 Invalid recipient", "451 "))
    finally:
        opensmtpd.room.close()
        daemon.kill()
        remote.stop()
        sys.stdout.write(opensmtpd.room.log() + daemon.log())


def spoken(program: str, arguments: list[str], said: str) -> list[str]:
    """Say lines to one of OpenSMTPD's helpers as smtpd does, and return the lines of its answer."""
    command = [sys.executable, DROPINS / program, *arguments]
    done = subprocess.run(command, input=said, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


HANDSHAKE = "config|smtpd-version|7.6.0\nconfig|ready\n"


def _table(operation: str, *rest: str) -> str:
    return "|".join(("table", "0.1", "1719760800.123456", "suppressed", operation, *rest)) + "\n"


def test_the_table_program_answers_as_smtpd_asks(daemon: Daemon) -> None:
    """The lines of smtpd-tables(7), protocol 0.1: found, not found, and an error that is neither, also where smtpd has never asked so."""
    daemon.tell("block", DEAD, "--reason", "a test")
    door = [str(daemon.door("line"))]
    said = (
        HANDSHAKE
        + _table("check", "mailaddr", "1", DEAD)
        + _table("check", "mailaddr", "2", LIVE)
        + _table("check", "mailaddr", "3", "a|b@x")
    )
    said += _table("update", "4") + _table("lookup", "alias", "5", "joe") + _table("fetch", "source", "6")
    assert spoken("opensmtpd/table-bounced", door, said) == [
        "register|mailaddr",
        "register|ready",
        "check-result|1|found",
        "check-result|2|not-found",
        "check-result|3|not-found",
        "update-result|4|ok",
        "lookup-result|5|error|only check is offered",
        "fetch-result|6|error|only check is offered",
    ]
    daemon.kill()
    assert spoken("opensmtpd/table-bounced", door, HANDSHAKE + _table("check", "mailaddr", "1", LIVE))[2:] == [
        "check-result|1|error|suppression list not available"
    ]


@pytest.mark.parametrize("options", [[], ["--closed"]])
def test_the_filter_obeys_a_daemon_that_cannot_tell(options: list[str], daemon: Daemon) -> None:
    """A stream that is not declared is a temporary failure, whether the filter fails open or closed; a stream of ours is asked for."""
    daemon.tell("block", DEAD, "--scope", "news", "--reason", "a test")
    said = HANDSHAKE + f"filter|0.7|1719760800.123456|smtp-in|rcpt-to|7641df9771b4ed00|1ef1c203cc576e5d|{DEAD}\n"
    results = []
    for stream in ("nothing", "news", "default"):
        *registered, answer = spoken("opensmtpd/filter-bounced", [*options, "--stream", stream, str(daemon.door("line"))], said)
        assert registered == ["register|filter|smtp-in|rcpt-to", "register|ready"]
        results.append(answer.removeprefix("filter-result|7641df9771b4ed00|1ef1c203cc576e5d|")[:16])
    assert results == ["reject|451 4.3.0", "reject|550 5.7.1", "proceed"]


def test_a_hung_daemon_holds_no_other_session(daemon: Daemon) -> None:
    """Many recipients at once wait for one limit of time together, not one after the other."""
    daemon.signal(signal.SIGSTOP)
    lines = "".join(f"filter|0.7|1719760800.123456|smtp-in|rcpt-to|{number:016x}|{number:016x}|{LIVE}\n" for number in range(30))
    answers = spoken("opensmtpd/filter-bounced", [str(daemon.door("line"))], HANDSHAKE + lines)[2:]
    assert sorted(answers) == [f"filter-result|{number:016x}|{number:016x}|proceed" for number in range(30)]
    daemon.signal(signal.SIGCONT)
