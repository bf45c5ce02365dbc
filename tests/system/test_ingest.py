"""Bounces that lie in files, taken in by the command `ingest`."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.daemon import PROJECT, Daemon, alive
from tests.system.mail import MAILBOX_FULL, NO_SUCH_USER, Session, report


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One running daemon; each test uses addresses of its own."""
    with alive() as one:
        yield one


def returned(daemon: Daemon, recipient: str, age: int = 3600, content: bytes | None = None) -> bytes:
    """Return a bounce as a mail server delivers it into a file: the envelope in its first lines, line feeds alone."""
    path = daemon.sign(recipient, int(time.time()) - age)
    envelope = f"Return-Path: <>\nX-Original-To: {path}\nDelivered-To: bounces@sender.example\n".encode()
    return envelope + (content or report(recipient, NO_SUCH_USER)).replace(b"\r\n", b"\n")


def mbox(contents: list[bytes]) -> bytes:
    return b"".join(b"From MAILER-DAEMON Mon Sep 21 12:00:00 2026\n" + content + b"\n\n" for content in contents)


def suppressed(daemon: Daemon, *recipients: str) -> list[bool]:
    return [daemon.run("check", recipient).returncode == 1 for recipient in recipients]


def test_a_maildir_is_taken_in_and_left_as_it_is(daemon: Daemon, tmp_path: Path) -> None:
    """Every bounce of a Maildir counts, read mail and new; what is still being delivered is left out, and no file is touched."""
    dead = [f"maildir{number}@example.org" for number in range(5)]
    for part in ("new", "cur", "tmp"):
        (tmp_path / part).mkdir()
    for number, recipient in enumerate(dead):
        (tmp_path / ("cur" if number % 2 else "new") / f"{number}.M1.host").write_bytes(returned(daemon, recipient))
    (tmp_path / "tmp" / "9.M1.host").write_bytes(returned(daemon, "unfinished@example.org"))
    before = sorted(str(file) for file in tmp_path.rglob("*"))

    assert daemon.tell("ingest", str(tmp_path)) == "5 taken"

    assert suppressed(daemon, *dead, "unfinished@example.org") == [True] * 5 + [False]
    assert sorted(str(file) for file in tmp_path.rglob("*")) == before


def test_twice_is_once(daemon: Daemon, tmp_path: Path) -> None:
    """An mbox that is taken in twice counts once: of each mail one event is kept, and four soft bounces do not become five."""
    letters = [returned(daemon, "soft@example.org", age, report("soft@example.org", MAILBOX_FULL)) for age in (400, 300, 200, 100)]
    (tmp_path / "mbox").write_bytes(mbox(letters))

    for _ in range(2):
        assert daemon.tell("ingest", str(tmp_path / "mbox")) == "4 taken"

    assert len(daemon.events("soft@example.org")) == 4
    assert suppressed(daemon, "soft@example.org") == [False]


def test_what_is_done_can_be_noted_and_skipped(daemon: Daemon, tmp_path: Path) -> None:
    """With --resume, what was taken before is not even sent again; what has come since is."""
    place, journal = tmp_path / "mbox", str(tmp_path / "journal")
    letters = [returned(daemon, f"resumed{number}@example.org") for number in range(3)]
    place.write_bytes(mbox(letters[:2]))
    assert daemon.tell("ingest", "--resume", journal, str(place)) == "2 taken"

    place.write_bytes(mbox(letters))

    assert daemon.tell("ingest", "--resume", journal, str(place)) == "1 taken, 2 done before"
    assert suppressed(daemon, "resumed2@example.org") == [True]


def test_what_is_not_ours_is_told_by_name(daemon: Daemon, tmp_path: Path) -> None:
    """Mail to nobody here and mail with a forged or expired return path is named with the reason, and the rest is taken."""
    (tmp_path / "1.eml").write_bytes(b"From: a@example.org\nTo: b@example.org\nSubject: hello\n\nHello.\n")
    (tmp_path / "2.eml").write_bytes(returned(daemon, "forged@example.org").replace(b"X-Original-To: b+", b"X-Original-To: b+z"))
    (tmp_path / "3.eml").write_bytes(returned(daemon, "late@example.org", 40 * 86400))
    (tmp_path / "4.eml").write_bytes(returned(daemon, "dead@example.org"))

    done = daemon.run("ingest", str(tmp_path), "--json")

    assert done.returncode == 0
    assert json.loads(done.stdout) == {"taken": 1, "refused": 2, "not_ours": 1, "not_readable": 0, "done_before": 0}
    assert "1.eml: it names no recipient at a return-path domain" in done.stderr
    assert "3.eml: 550 5.1.1 this return path has expired" in done.stderr
    assert suppressed(daemon, "forged@example.org", "late@example.org", "dead@example.org") == [False, False, True]


def test_a_pipe_gives_the_recipient_itself(daemon: Daemon, tmp_path: Path) -> None:
    """A message on standard input may name its envelope's recipient by --recipient, as a mail server's pipe does."""
    path = daemon.sign("piped@example.org", int(time.time()) - 60)
    letter = tmp_path / "letter"
    letter.write_bytes(report("piped@example.org", NO_SUCH_USER))

    assert daemon.tell("ingest", "--recipient", path, str(letter)) == "1 taken"
    assert suppressed(daemon, "piped@example.org") == [True]


def test_without_a_daemon_nothing_is_taken_and_it_says_so(tmp_path: Path) -> None:
    """Where no daemon answers, the exit code is 69, nothing counts as done, and the message says what to do."""
    with alive() as daemon:
        letter = tmp_path / "letter"
        letter.write_bytes(returned(daemon, "kept@example.org"))
        daemon.kill()

        done = daemon.run("ingest", "--resume", str(tmp_path / "journal"), str(letter))

        assert done.returncode == 69
        assert "0 taken; then no more: no daemon answers" in done.stderr
        assert (tmp_path / "journal").read_text() == ""


def test_what_cannot_be_read_or_written_is_named(daemon: Daemon, tmp_path: Path) -> None:
    """A file that is not there is exit code 66, a place where nothing can be noted 78: one line each, and nothing is taken."""
    (tmp_path / "mail").write_bytes(b"Subject: x\n\n")
    for asked, code, told in (
        ((tmp_path / "nowhere",), 66, f"cannot read {tmp_path}/nowhere: No such file"),
        (("--resume", tmp_path / "nowhere" / "done", tmp_path / "mail"), 78, f"cannot write {tmp_path}/nowhere/done: No such file"),
    ):
        done = daemon.run("ingest", *map(str, asked))
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith(f"bounced: {told}")


def test_a_disk_that_fills_while_it_is_noted_is_named(daemon: Daemon, tmp_path: Path, need_program: Callable[[str], str]) -> None:
    """Where no more can be noted, it is one line and exit code 78; what was taken is, and taken again it counts no more."""
    (tmp_path / "mbox").write_bytes(mbox([returned(daemon, f"unnoted{number}@example.org") for number in range(9)]))
    command = daemon.command("ingest", "--resume", str(tmp_path / "done"), str(tmp_path / "mbox"))
    # The kernel lets the file grow to so many octets, and no further.
    done = subprocess.run([need_program("prlimit"), "--fsize=100", *command], capture_output=True, text=True, check=False, cwd=PROJECT)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith(f"bounced: cannot write {tmp_path}/done: File too large\n")
    assert suppressed(daemon, "unnoted0@example.org") == [True]


def test_a_bounce_larger_than_any_is_taken_by_its_beginning(tmp_path: Path) -> None:
    """What the daemon would cut off a mail that came by SMTP is not sent, so that none is refused for its size."""
    with alive(settings={"smtp": {"max_message": "64KiB"}}) as daemon:
        (tmp_path / "large").write_bytes(returned(daemon, "large@example.org") + b".\n" * 100_000)
        assert daemon.tell("ingest", str(tmp_path / "large")) == "1 taken"
        assert suppressed(daemon, "large@example.org") == [True]


def test_kept_mail_is_read_again() -> None:
    """What no reader understood stays until one does, and the archive is read again without counting twice."""
    with alive(settings={"kept": {"archive": "archive"}}) as daemon, Session(daemon.smtp) as session:
        path = daemon.sign("again@example.org", int(time.time()) - 60)
        assert session.bring(path, report("again@example.org", MAILBOX_FULL))[0] == 250
        unclear = daemon.sign("unclear@example.org", int(time.time()) - 60)
        assert session.bring(unclear, b"From: someone@example.org\r\nSubject: hm\r\n\r\nQwertz.\r\n")[0] == 250
        unread = next((daemon.home / "unread" / "new").iterdir())

        assert daemon.tell("ingest", "--again") == "2 taken, 1 not readable"
        assert len(daemon.events("again@example.org")) == 1
        assert unread.exists()

        # As if a reader had been added that knows this kind.
        unread.write_bytes(f"Delivered-To: {unclear}\n".encode() + report("unclear@example.org", NO_SUCH_USER))
        assert daemon.tell("ingest", "--again") == "3 taken"
        assert not unread.exists()
        assert suppressed(daemon, "unclear@example.org") == [True]
