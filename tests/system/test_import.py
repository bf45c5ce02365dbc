"""`bounced import` as somebody who moves in types it, against a daemon and without one."""

import csv
import json
from pathlib import Path

import pytest

from bounced.cli.base import Refused, ask
from tests.system.daemon import Daemon, alive

SES = """\
EmailAddress,Reason,LastUpdateTime
dead@example.org,BOUNCE,2020-04-10T21:03:05+00:00
angry@example.org,COMPLAINT,2021-01-02T03:04:05+00:00
=cmd|calc,BOUNCE,2020-04-10T21:03:05+00:00
odd@example.org,NOTHING,2020-04-10T21:03:05+00:00
"""


def written(daemon: Daemon, text: str, name: str = "ses.csv") -> str:
    (daemon.home / name).write_text(text)
    return str(daemon.home / name)


def test_a_list_is_taken_over_shown_and_undone(daemon: Daemon) -> None:
    """What is imported suppresses with cause, date and source; a release undoes it, and no second import blocks it again."""
    file = written(daemon, SES)
    rejects = daemon.home / "rejects.csv"

    assert "nothing was changed" in daemon.tell("import", file, "--dry-run")
    assert daemon.run("check", "dead@example.org").returncode == 0
    said = daemon.tell("import", file, "--rejects", str(rejects))

    assert "2  blocks read: 2 of ses" in said
    assert "2  addresses changed" in said
    assert "2  rows rejected" in said
    with rejects.open(newline="") as rows:
        assert [(row["line"], row["row"][:5]) for row in csv.DictReader(rows)] == [("4", "'=cmd"), ("5", "odd@e")]
    assert "(hard, undetermined, 2020-04-10)" in json.loads(daemon.run("check", "dead@example.org", "--json").stdout)["text"]
    assert "imported  hard undetermined since 2020-04-10 21:03:05Z, from ses, ses.csv" in daemon.tell("why", "dead@example.org")

    daemon.tell("release", "dead@example.org", "--reason", "she wrote")
    assert "0  addresses changed" in daemon.tell("import", file)
    assert daemon.run("check", "dead@example.org").returncode == 0
    assert daemon.run("check", "angry@example.org").returncode == 1
    assert "address.imported" in daemon.log()


def test_dates_without_end_are_shown_and_come_back(daemon: Daemon) -> None:
    """The first year, which lists have for unknown, is shown with its zeros and read again; what no calendar has is refused."""
    told = daemon.tell("import", written(daemon, "EmailAddress,Reason,LastUpdateTime\nold@example.org,BOUNCE,0001-01-01T00:00:00Z\n"))
    assert "1  addresses changed" in told
    assert "since 0001-01-01 00:00:00Z" in daemon.tell("why", "old@example.org")
    daemon.tell("export", str(daemon.home / "out.csv"), "--format", "csv")
    with alive() as other:
        other.tell("import", str(daemon.home / "out.csv"))
        assert "since 0001-01-01 00:00:00Z" in other.tell("why", "old@example.org")
    with pytest.raises(Refused, match=">= -62135596800"):
        ask(daemon.home / "bounced.toml", "POST", "/v1/import", {"source": "x", "blocks": [["a@b.example", "*", "hard", "x", -(10**15)]]})


def test_a_stream_of_its_own(daemon: Daemon) -> None:
    """With --scope the blocks are of one stream; one that is not declared is refused."""
    file = written(daemon, "left@example.org\n", "left.txt")
    daemon.tell("import", file, "--scope", "news", "--source", "old crm")

    assert daemon.run("check", "left@example.org").returncode == 0
    assert daemon.run("check", "left@example.org", "--scope", "news").returncode == 1
    assert "from old crm" in daemon.tell("why", "left@example.org")
    assert daemon.run("import", file, "--scope", "nosuch").returncode == 65


def test_offline_into_a_new_store(tmp_path: Path) -> None:
    """Without a daemon a large list goes into the store itself, in many transactions; while one runs it is refused."""
    with alive() as daemon:
        file = written(daemon, "".join(f"user{number:06}@example{number % 7}.org\n" for number in range(50_000)), "list.txt")
        refused = daemon.run("import", file, "--offline")
        assert refused.returncode == 78
        assert "another process writes" in refused.stderr

        assert daemon.stop() == 0
        assert "50000  addresses changed" in daemon.tell("import", file, "--offline")
        assert "0  addresses changed" in daemon.tell("import", file, "--offline")
        daemon.start()
        assert daemon.run("check", "user049999@example5.org").returncode == 1
        assert "50000  addresses known" in daemon.tell("stats")
        daemon.tell("release", "user049999@example5.org")
        assert daemon.run("check", "user049999@example5.org").returncode == 0


def test_a_run_that_was_cut_short_is_run_again(daemon: Daemon) -> None:
    """After a kill in the midst the daemon holds whole transactions of the list, and a second run brings the rest."""
    addresses = [f"user{number:05}@example.org" for number in range(7_000)]
    file = written(daemon, "\n".join(addresses[:3_000]), "list.txt")
    daemon.tell("import", file)
    daemon.kill()
    written(daemon, "\n".join(addresses), "list.txt")
    assert daemon.run("import", file).returncode == 69
    daemon.start()

    assert "4000  addresses changed" in daemon.tell("import", file)


def test_what_cannot_be_read_is_said(daemon: Daemon) -> None:
    """A file that is missing and one that is neither JSON nor CSV give one line and the exit codes of sysexits(3)."""
    assert daemon.run("import", str(daemon.home / "nowhere.csv")).returncode == 66
    broken = daemon.run("import", written(daemon, '{"items": [', "broken.json"))
    assert broken.returncode == 65
    assert "neither JSON" in broken.stderr


def test_what_is_exported_can_be_imported(daemon: Daemon) -> None:
    """An export, as CSV and as lines of JSON, gives the same list to another daemon: address, stream, cause, category, since when."""
    daemon.tell("import", written(daemon, SES))
    daemon.tell("block", "=sum@example.org", "--reason", "a formula to a spreadsheet")
    daemon.tell("block", "left@example.org", "--scope", "news", "--reason", "she wrote")
    ours = [json.loads(line) for line in daemon.tell("list", "--json").splitlines()]
    assert len(ours) == 4
    for form in ("csv", "jsonl"):
        file = str(daemon.home / f"list.{form}")
        daemon.tell("export", file, "--format", form)
        with alive() as other:
            assert "4  addresses changed" in other.tell("import", file)
            assert [json.loads(line) for line in other.tell("list", "--json").splitlines()] == ours
