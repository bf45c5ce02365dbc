"""Who is forgotten is in no file of ours any more: not in the database, its log, the log of events, kept mail, nor in what is exported."""

import gzip
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.system.daemon import Daemon, alive
from tests.system.mail import MAILBOX_FULL, NO_SUCH_USER, Session, complaint, report, vacation

MARK = "marked.for.erasure"
_LONG = f"{MARK}.{'x' * 40}@receiver.example"
"""Too long for a return path that names it."""


def traces(home: Path) -> list[str]:
    """Name the files below a directory in which the marked ones are found, unpacked where they are compressed; in any case."""
    found = []
    for file in sorted(path for path in home.rglob("*") if path.is_file()):
        octets = file.read_bytes()
        if MARK.encode() in (gzip.decompress(octets) if file.suffix == ".gz" else octets).lower():
            found.append(file.relative_to(home).parts[0])
    return sorted(set(found))


def export(daemon: Daemon, forms: Sequence[str]) -> None:
    """Write the list in some forms."""
    for form in forms:
        daemon.tell("export", str(daemon.home / f"list.{form}"), "--format", form)


def forgotten(*module: str, persons: int, forms: Sequence[str], figure: Callable[[str], None]) -> list[str]:
    """Let marked persons be spoken of wherever one can be, forget them, and return what still names one."""
    settings = {"log": {"addresses": "hashed"}, "smtp": {"min_free": "0B"}}
    with alive(*module, settings=settings) as daemon:
        daemon.stop()
        config = daemon.home / "bounced.toml"
        config.write_text(config.read_text().replace("[kept]\n", f'[kept]\narchive = "{daemon.home / "archive"}"\n'))
        daemon.start()
        marked = [f"{MARK}.{number}@receiver.example" for number in range(persons)] + [_LONG]
        for place, one in enumerate(marked):
            bring(daemon, one, f"other{place}@receiver.example")
        export(daemon, forms)
        before = traces(daemon.home)
        assert set(before) >= {"bounced.db-wal", "archive", "unread", *(f"list.{form}" for form in forms)}, before
        for one in marked:
            daemon.tell("forget", one)
        export(daemon, forms)
        assert all(daemon.run("check", one).returncode == 1 for one in (marked[0], _LONG, "other0@receiver.example"))
        left = traces(daemon.home)
        daemon.stop()
        left += traces(daemon.home)
        assert gzip.decompress(next((daemon.home / "archive").iterdir()).read_bytes()).count(b"\nFrom MAILER-DAEMON ") >= persons
        figure(f"{len(marked)} persons forgotten, {4 * len(marked)} mails of them; named before in {' '.join(before)}; after in {left}")
        return left


def bring(daemon: Daemon, marked: str, other: str) -> None:
    """Bring mail of one who is marked, and of another that names him."""
    now = int(time.time())
    with Session(daemon.smtp) as session:
        for at, content in (
            (now - 3, report(marked, MAILBOX_FULL)),
            (now - 2, vacation(marked)),
            (now - 1, complaint(marked)),
            (now, f"From: x\r\nSubject: what is this?\r\n\r\nWords of {marked.upper()} that no reader understands.\r\n".encode()),
        ):
            return_path = daemon.tell("sign", marked) if len(marked) > 50 else daemon.sign(marked, at)
            assert session.bring(return_path, content)[0] == 250
        words = report(other, NO_SUCH_USER).replace(b"5.1.1", f"5.1.1 <{marked}> forwards to <{other}>:".encode(), 1)
        assert session.bring(daemon.sign(other, now), words)[0] == 250
        assert session.bring(daemon.sign(other, now - 1), report(other, NO_SUCH_USER))[0] == 250


def test_no_file_names_who_is_forgotten(full_counts: bool, figure: Callable[[str], None]) -> None:
    """Blocked, complained, on holiday, not understood, spoken of by others: after `forget` no file names them, and they stay suppressed."""
    forms = ("access", "cdb", "jsonl", "csv", "exim-lsearch") if full_counts else ("cdb",)
    assert forgotten(persons=100 if full_counts else 1, forms=forms, figure=figure) == []


def test_kept_mail_that_stays_is_found_out(figure: Callable[[str], None]) -> None:
    """Control: where mail that is kept is not looked at, unread mail and the archive still name them."""
    assert set(forgotten("tests.system.faulty", "keep_their_mail", persons=1, forms=(), figure=figure)) == {"archive", "unread"}
