"""Who has no genuine return path for a mail changes nothing, and who has one changes its recipient once: over real SMTP.

Each test has a control: a daemon that believes any seal, or counts every copy, must be found out.
"""

import contextlib
import json
import re
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.system.ask import Mailer
from tests.system.bounces import Mint
from tests.system.daemon import DOMAIN, Daemon, alive
from tests.system.mail import MAILBOX_FULL, NO_SUCH_USER, Failure, Session, bring, report

VICTIM = "victim@receiver.example"
_DAY = 86400


def strange_paths(daemon: Daemon) -> Mapping[str, str]:
    """Return return paths that prove nothing, by what they are counted as."""
    now = int(time.time())
    genuine = daemon.sign(VICTIM, now)
    seal_end = len("b+") + 23
    other = "a" if genuine[seal_end - 1] != "a" else "b"
    return {
        "forged": genuine[: seal_end - 1] + other + genuine[seal_end:],
        "expired": daemon.sign(VICTIM, now - 31 * _DAY),
        "foreign": f"newsletter@{DOMAIN}",
    }


def counted(daemon: Daemon) -> Mapping[str, int]:
    """Return how often what was refused or repeated, over all days and sources; a restart brings the counts to the store."""
    daemon.stop()
    daemon.start()
    counts: dict[str, int] = {}
    for tally in json.loads(daemon.tell("backscatter", "--json"))["tallies"]:
        counts[tally["what"]] = counts.get(tally["what"], 0) + tally["count"]
    return counts


@pytest.mark.parametrize("door", ["smtp", "lmtp"])
def test_a_strange_return_path_is_refused_at_rcpt_counted_and_changes_nothing(daemon: Daemon, door: str) -> None:
    """Forged, expired, foreign: 550 before any content, a count for the operator, no event for the victim."""
    address = daemon.smtp if door == "smtp" else daemon.door("lmtp")
    paths = strange_paths(daemon)
    for return_path in paths.values():
        for _ in range(3):
            with Session(address) as session:
                code, text = session.rcpt(return_path)
            assert (code, text[:6]) == (550, "5.1.1 ")
    assert daemon.run("check", VICTIM).returncode == 0
    assert daemon.events(VICTIM) == []
    assert counted(daemon) == dict.fromkeys(paths, 3)


def test_a_daemon_whose_clock_is_behind_sends_no_bounce_away(daemon: Daemon) -> None:
    """A seal of ours from the future proves that a clock of ours is wrong: 451, told once, counted; no 550 that loses the bounce."""
    for days in (2, 9, 90):
        with Session(daemon.smtp) as session:
            code, text = session.rcpt(daemon.sign(VICTIM, int(time.time()) + days * _DAY))
        assert (code, text[:6]) == (451, "4.3.0 ")
    assert daemon.events(VICTIM) == []
    assert counted(daemon) == {"future": 3}
    assert daemon.log().count("mail.from_the_future") == 1


def test_a_daemon_that_believes_any_seal_is_found_out() -> None:
    """Control: without the comparison of seals a forger blocks whom he likes."""
    with alive("tests.system.faulty", "believe_any_seal") as daemon:
        assert bring(daemon.smtp, strange_paths(daemon)["forged"], [report(VICTIM, NO_SUCH_USER)])[0][0] == 250
        assert daemon.run("check", VICTIM).returncode == 1


def test_another_domains_mail_is_not_taken(daemon: Daemon) -> None:
    """The daemon is no relay: a recipient of another domain is refused, in every spelling of an old trick."""
    with Session(daemon.smtp) as session:
        for recipient in (
            "friend@elsewhere.example",
            f"friend%elsewhere.example@{DOMAIN}",
            f"elsewhere.example!friend@{DOMAIN}",
            f"@{DOMAIN}:friend@elsewhere.example",
            f'"friend@elsewhere.example"@{DOMAIN}',
        ):
            assert session.rcpt(recipient)[0] // 100 == 5, recipient


def test_a_replayed_bounce_counts_once(daemon: Daemon) -> None:
    """Twenty copies of a soft bounce, from many sessions, are one strike; the copies are counted as such."""
    assert replay(daemon) == (1, 0)
    assert counted(daemon) == {"replayed": 19, "genuine": 1}


def test_a_daemon_that_counts_every_copy_is_found_out() -> None:
    """Control: without the rule that a mail counts once, the copies block the recipient."""
    with alive("tests.system.faulty", "count_every_copy") as daemon:
        assert replay(daemon) == (20, 1)


def replay(daemon: Daemon) -> tuple[int, int]:
    """Bring one bounce twenty times; return how many events it left, and what `check` says."""
    return_path = daemon.sign(VICTIM, int(time.time()))
    for _ in range(20):
        assert bring(daemon.smtp, return_path, [report(VICTIM, MAILBOX_FULL)])[0][0] == 250
    return len(daemon.events(VICTIM)), daemon.run("check", VICTIM).returncode


def test_the_content_brings_nobody_else_into_it(daemon: Daemon) -> None:
    """A report that names a hundred others, behind the return path of one mail, concerns that mail's recipient at most."""
    strangers = [f"stranger{number}@receiver.example" for number in range(100)]
    one = report(strangers[0], NO_SUCH_USER)
    block = one[one.index(b"Final-Recipient") : one.index(b"--=_part\r\nContent-Type: message/rfc822")]
    blocks = b"".join(block.replace(strangers[0].encode(), stranger.encode()) for stranger in strangers)
    return_path = daemon.sign(VICTIM, int(time.time()))
    assert bring(daemon.smtp, return_path, [one.replace(block, blocks)])[0][0] == 250
    assert all(daemon.events(stranger) == [] for stranger in strangers[:3])
    with Mailer(daemon.door("socketmap")) as mailer:
        assert mailer.missing(strangers) == strangers


HOSTILE = [
    "'; DROP TABLE events; --", "=cmd|' /C calc'!A0", "+1+1", "@SUM(A1)", "\ttab", "<script>alert(1)</script>", "%s%n{0}", "\U0001f600",
    "\x1b[31mred\x1b[0m", "\x9b31m", "\u202egnp.exe", "a\r\n250 2.0.0 ok", 'a\n{"event": "bounce.bounced"}', "\x00nul", "\x07bell", "\x7f",
    "x" * (1 << 20),
]  # fmt: skip
"""What a server, or somebody who writes its reports for it, may put into a diagnostic text."""


def schema(database: Path) -> list[tuple[str, ...]]:
    """Return the schema of a database, as SQLite keeps it."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name").fetchall()


def test_hostile_diagnostics_do_nothing_and_show_nothing_raw(full_counts: bool, figure: Callable[[str], None]) -> None:
    """Whatever a diagnostic holds, the schema stays, each log line is one JSON object of ASCII, and no command prints controls."""
    count = 10_000 if full_counts else 100
    with alive(settings={"log": {"format": "json"}}) as daemon:
        daemon.stop()
        before = schema(daemon.database)
        daemon.start()
        mint = Mint(daemon)
        asked = []
        for number in range(count):
            if number % 100 == 0:
                session = Session(daemon.smtp)
            # The longest one now and then: it is a megabyte.
            hostile = HOSTILE[number % (len(HOSTILE) - 1)] if number % 500 else HOSTILE[-1]
            recipient, return_path, _ = mint()
            assert session.bring(return_path, report(recipient, Failure("5.1.1", f"550 5.1.1 {hostile}")))[0] == 250
            asked += [recipient] if number in {8, 9, 10} else []
            if number % 100 == 99:
                session.close()
        shown = "".join(daemon.tell("why", recipient) for recipient in asked)
        shown += daemon.tell("list") + daemon.tell("incidents") + daemon.tell("stats")
        daemon.stop()
        assert schema(daemon.database) == before
        lines = daemon.log().splitlines()
    events = [json.loads(line) for line in lines]
    figure(f"{count} hostile diagnostics: schema as before, {len(events)} log lines, each one JSON object of printable ASCII")
    assert sum(event["event"].startswith("bounce.") for event in events) == count
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", shown)
