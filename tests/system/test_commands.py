"""The command `bounced` as people and scripts call it: output, errors, exit codes."""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bounced import __version__
from tests.system.daemon import DOMAIN, PROJECT, Daemon, alive
from tests.system.mail import MAILBOX_FULL, Failure, Session, bring, report
from tests.system.waiting import until


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One running daemon; each test uses addresses of its own."""
    with alive() as one:
        yield one


def test_check_answers_by_its_exit_code(daemon: Daemon) -> None:
    """Exit code 0 means clear, 1 suppressed, and 64 or more that it could not tell, with the reason on standard error."""
    assert (daemon.run("check", "a@example.org").returncode, daemon.run("check", "a@example.org").stdout) == (0, "clear\n")

    daemon.tell("block", "a@example.org", "--reason", "he asked")
    suppressed = daemon.run("check", "A@EXAMPLE.org")
    assert suppressed.returncode == 1
    assert suppressed.stdout.startswith("suppressed: recipient is on the suppression list (manual, ")

    for arguments in (["check", "no address"], ["check", "a@example.org", "--scope", "undeclared"]):
        unsure = daemon.run(*arguments)
        assert unsure.returncode >= 64
        assert unsure.stderr.startswith("bounced: ")
        assert unsure.stdout == ""


def test_check_speaks_json(daemon: Daemon) -> None:
    """With --json the answer is one JSON object, clear or not, and the exit code is the same."""
    daemon.tell("block", "b@example.org")

    answer = daemon.run("check", "b@example.org", "--json")

    assert answer.returncode == 1
    assert json.loads(answer.stdout)["suppressed"] is True


def test_why_tells_the_story_and_how_to_end_it(daemon: Daemon) -> None:
    """`why` shows the verdict, who blocked when and why, and the command that lifts it; after the release it shows that too."""
    assert "nothing has happened to it" in daemon.tell("why", "c@example.org")
    daemon.tell("block", "c@example.org", "--reason", "he moved")
    blocked = daemon.tell("why", "c@example.org")
    assert "c@example.org: suppressed" in blocked
    assert "reason: he moved" in blocked
    assert "to lift it: bounced release" in blocked

    daemon.tell("release", "c@example.org", "--reason", "he is back")

    released = daemon.tell("why", "c@example.org")
    assert "c@example.org: clear" in released
    assert "reason: he is back" in released


def test_a_block_in_one_stream_leaves_the_others(daemon: Daemon) -> None:
    """`block --scope` suppresses in that stream only, and a release of that stream lifts it."""
    daemon.tell("block", "d@example.org", "--scope", "news")
    assert daemon.run("check", "d@example.org", "--scope", "news").returncode == 1
    assert daemon.run("check", "d@example.org").returncode == 0

    daemon.tell("release", "d@example.org", "--scope", "news")
    assert daemon.run("check", "d@example.org", "--scope", "news").returncode == 0


def test_sign_and_verify_are_inverse(daemon: Daemon) -> None:
    """What `sign` prints `verify` proves, with recipient and stream; what nobody signed proves nothing, exit code 1."""
    signed = daemon.tell("sign", "e@example.org", "--scope", "news")

    assert "genuine: a mail to e@example.org, stream news" in daemon.tell("verify", signed)
    forged = daemon.run("verify", signed.replace("+e=", "+f="))
    assert (forged.returncode, forged.stdout) == (1, "proves nothing: forged\n")
    assert json.loads(daemon.run("verify", "b", "--json").stdout) == {"refused": "foreign"}


def test_explain_needs_no_daemon_and_takes_files_directories_and_a_pipe(tmp_path: Path) -> None:
    """`explain` names each message as it was given, or as it lies below a directory, and what is no file is said, exit code 66."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "mail").write_bytes(b"From: joe@example.org\nSubject: hello\n\nhello\n")
    idle = Daemon(tmp_path)

    line = json.loads(idle.tell("explain", "--json", str(tmp_path / "below")))
    assert (line["id"], line["kind"], line["recipients"]) == ("mail", "not-a-bounce", [])
    assert str(tmp_path / "below" / "mail") in idle.tell("explain", str(tmp_path / "below" / "mail"))
    assert idle.run("explain", str(tmp_path / "nothing")).returncode == 66


def test_unmatched_shows_what_no_rule_knew(tmp_path: Path) -> None:
    """A bounce with unknown words is shown with its group, mail that is no report is counted where it lies; files can be asked too."""
    bounce = b"From: MAILER-DAEMON@x.example.org\nSubject: Undelivered Mail Returned to Sender\n\n<e@example.org>: Frobnicated entirely\n"
    with alive() as daemon:
        assert "a rule matched every text" in daemon.tell("unmatched")
        session = Session(daemon.smtp)
        for who, content in (("e@example.org", bounce), ("f@example.org", b"From: f@example.org\nSubject: hello\n\nhello\n")):
            assert session.bring(daemon.tell("sign", who).strip(), content)[0] == 250
        session.close()

        shown = daemon.tell("unmatched")
        (group,) = json.loads(daemon.tell("unmatched", "--json"))["groups"]
    assert "<*@example.org>: Frobnicated entirely" in shown
    assert "mail in which no report was found: 1, in " in shown
    assert group["count"] == 1

    for name in ("one", "two"):
        (tmp_path / name).write_bytes(bounce)
    answer = json.loads(Daemon(tmp_path).tell("unmatched", "--json", str(tmp_path / "one"), str(tmp_path / "two")))
    assert answer == {"groups": [{"count": 2, "sample": group["sample"]}]}


def test_without_a_daemon_commands_say_so(tmp_path: Path) -> None:
    """A command that finds no daemon says which socket it asked, exit code 69: never "clear"."""
    asked = Daemon(tmp_path).run("check", "a@example.org")

    assert asked.returncode == 69
    assert "no daemon answers on" in asked.stderr
    assert asked.stdout == ""


def test_a_wrong_configuration_ends_every_command_with_78(tmp_path: Path) -> None:
    """A configuration that cannot be read stops commands and the daemon alike, with the place, the problem and the next step."""
    broken = Daemon(tmp_path)
    (tmp_path / "bounced.toml").write_text("[return_path]\ndomain = []\n")

    for command in (["check", "a@example.org"], ["serve"], ["config", "check"]):
        done = broken.run(*command)
        assert done.returncode == 78
        assert "did you mean return_path.domains?" in done.stderr
        assert "Traceback" not in done.stderr


def test_files_are_utf_8_whatever_the_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the locale knows ASCII alone, rules of the operator's and lists of others are read and written as everywhere."""
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    rule = "[[rule]]\nid = 'ours'\ncategory = 'mailbox-full'\nphrases = ['受信箱が一杯だ']\nexample = '552 受信箱が一杯だ'\n"
    (tmp_path / "own.toml").write_text(rule, encoding="utf-8")
    (tmp_path / "list").write_text("ann@example.org\nMüller\n", encoding="utf-8")
    with alive(settings={"rules": {"directory": str(tmp_path)}}) as daemon:
        daemon.tell("config", "check")
        daemon.tell("import", str(tmp_path / "list"), "--rejects", str(tmp_path / "rejects"))
        failure = Failure("5.2.2", "552 5.2.2 受信箱が一杯だ")
        bring(daemon.smtp, daemon.sign("ann@example.org", int(time.time())), [report("ann@example.org", failure)])
        assert "受信箱" in daemon.tell("why", "ann@example.org")
        # A terminal of Western Europe.
        monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
        assert "\\u53d7" in daemon.tell("why", "ann@example.org")
    assert "Müller" in (tmp_path / "rejects").read_text(encoding="utf-8")


def test_the_configuration_can_be_checked_and_shown(tmp_path: Path) -> None:
    """`config check` says good, `config show -n` what differs from the defaults, `config reference` every setting."""
    idle = Daemon(tmp_path)

    assert idle.tell("config", "check").endswith("good")
    changed = idle.tell("config", "show", "-n")
    assert "store.database = " in changed
    assert "policy.soft_limit" not in changed
    assert "policy.soft_limit = 5" in idle.tell("config", "show")
    assert "#soft_limit = 5" in idle.tell("config", "reference")


def test_a_lost_key_file_is_said_and_not_replaced(tmp_path: Path) -> None:
    """With a database but no keys the daemon does not start: a new key would refuse every bounce on its way."""
    one = Daemon(tmp_path)
    one.start()
    one.stop()
    (tmp_path / "keys").unlink()

    refused = one.run("serve")

    assert refused.returncode == 78
    assert "key file" in refused.stderr
    assert "key " in one.tell("rotate-key")
    one.start()
    assert one.stop() == 0


def test_a_rotated_key_is_taken_at_hup_and_the_old_one_still_verifies(tmp_path: Path) -> None:
    """After a rotation and HUP new return paths are signed with the new key, and those signed before are still genuine."""
    one = Daemon(tmp_path)
    one.start()
    old = one.tell("sign", "joe@example.org")
    one.tell("rotate-key")
    one.signal(signal.SIGHUP)

    until(lambda: "daemon.reloaded" in one.log(), "the reload")
    assert "genuine" in one.tell("verify", old)
    assert one.tell("sign", "joe@example.org").split("+")[1][5] != old.split("+")[1][5]
    assert one.stop() == 0


def test_a_bad_configuration_at_hup_changes_nothing(tmp_path: Path) -> None:
    """When the configuration cannot be read at HUP, one line says why, and the daemon goes on as it was."""
    one = Daemon(tmp_path)
    one.start()
    signed = one.tell("sign", "joe@example.org")
    good = (tmp_path / "bounced.toml").read_text()
    (tmp_path / "bounced.toml").write_text(good + "[no_such_section]\n")
    one.signal(signal.SIGHUP)

    until(lambda: "daemon.kept_old" in one.log(), "the refusal of the reload")
    assert "no such section" in one.log()
    (tmp_path / "bounced.toml").write_text(good)
    assert "genuine" in one.tell("verify", signed)
    assert one.stop() == 0


def test_a_try_takes_another_port_when_told_so(tmp_path: Path) -> None:
    """`try --port` is heeded also where the directory has a configuration already; without it the last port stays."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        first, second = (str(taken.getsockname()[1]) for taken in (one, other))
        for options, port in ((["--port", first], first), (["--port", second], second), ([], second)):
            command = [sys.executable, "-m", "bounced", "try", str(tmp_path / "var"), *options]
            ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert (ended.returncode, ended.stderr.splitlines()[0]) == (
                78,
                f"bounced: cannot listen at 127.0.0.1:{port}: Address already in use",
            )


def test_wrong_use_is_told_with_64(tmp_path: Path) -> None:
    """An unknown command or option ends with exit code 64 and the usage; help and version with 0."""
    idle = Daemon(tmp_path)

    assert idle.run("chekc", "a@example.org").returncode == 64
    assert idle.run("check").returncode == 64
    assert idle.tell("--version") == f"bounced {__version__}"
    assert "suppressed" in idle.tell("check", "--help")


def test_a_release_of_what_nothing_blocked_says_so(daemon: Daemon) -> None:
    """Who mistypes an address is told that nothing blocked it; who names the right one is not."""
    daemon.tell("block", "jim@example.org")
    assert daemon.tell("release", "jom@example.org") == "released: jom@example.org (nothing blocked it)"
    assert daemon.tell("release", "jim@example.org") == "released: jim@example.org"


def test_delivered_takes_a_return_path(daemon: Daemon) -> None:
    """The recipient is named whom the return path is of; a block that a delivery does not lift is told; a false path is refused."""
    daemon.tell("block", "k@example.org")
    assert daemon.tell("delivered", daemon.sign("k@example.org", int(time.time()))) == (
        "noted: k@example.org (it stays suppressed: `bounced why` tells what lifts it)"
    )
    assert daemon.tell("delivered", "l@example.org") == "noted: l@example.org"
    refused = daemon.run("delivered", f"b+{'a' * 23}+l=example.org@{DOMAIN}")
    assert (refused.returncode, "proves nothing" in refused.stderr) == (65, True)


def test_backscatter_sums_up_networks(daemon: Daemon) -> None:
    """A day's refusals of one sort are one line, however many networks they came from; JSON has each."""
    for number in range(40):
        bring(daemon.smtp, f"nobody{number}@{DOMAIN}", [b"Subject: x\r\n\r\nx\r\n"])
    until(lambda: "foreign" in daemon.tell("backscatter"), "the counts to be stored")
    (line,) = [line for line in daemon.tell("backscatter").splitlines() if "  foreign " in line]
    assert "networks, most from 127." in line
    tallies = json.loads(daemon.tell("backscatter", "--json"))["tallies"]
    assert sum(tally["count"] for tally in tallies if tally["what"] == "foreign") == 40


def test_a_replay_on_a_terminal_keeps_bar_and_lines_apart(daemon: Daemon, tmp_path: Path) -> None:
    """Where both go to one terminal, each change is a line of its own above the bar, and a pipe gets the same lines and no bar."""
    for number in range(5):
        bring(daemon.smtp, daemon.sign("m@example.org", int(time.time()) - number), [report("m@example.org", MAILBOX_FULL)])
    other = tmp_path / "other.toml"
    other.write_text('[return_path]\ndomains = ["x.example"]\n[policy]\nsoft_limit = 9\n')
    wanted = "freed    m@example.org  soft (mailbox-full)"
    assert wanted in daemon.tell("replay", "--policy", str(other)).splitlines()
    command = [sys.executable, "-m", "bounced", "-C", str(daemon.home / "bounced.toml"), "replay", "--policy", str(other)]
    ours, theirs = pty.openpty()
    subprocess.run(command, cwd=PROJECT, stdin=theirs, stdout=theirs, stderr=theirs, check=True, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # EIO is a terminal's end of file.
        while octets := os.read(ours, 65536):
            seen += octets
    os.close(ours)
    lines = [re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", line).strip() for line in re.split(rb"[\r\n]+", seen)]
    assert wanted.encode() in lines
    assert any(line.startswith(b"addresses ") for line in lines), lines
