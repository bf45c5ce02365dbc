"""`bounced doctor` against a real daemon: the fire drill finds all well, leaves nothing, and finds what is broken."""

import json
import sqlite3
from contextlib import closing
from typing import Any

from bounced.doctor.samples import samples
from bounced.outcome.ruleset import RuleSet
from tests.system.daemon import DOMAIN, Daemon, alive
from tests.system.mail import NO_SUCH_USER, bring, report
from tests.test_doctor import GOOD, name_server


def held(daemon: Daemon, *words: str) -> tuple[int, dict[str, Any]]:
    """Ask the doctor; return the exit code, and by check what it found."""
    done = daemon.run("doctor", "--json", *words)
    assert done.stdout, done.stderr
    return done.returncode, {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}


def of_the_drill(found: dict[str, Any]) -> dict[str, str]:
    return {check: finding["level"] for check, finding in found.items() if check.startswith("drill")}


def rows(daemon: Daemon) -> dict[str, list[Any]]:
    """Return all that the database holds, but for the counts of what was refused, and the number of an event that was forgotten."""
    with closing(sqlite3.connect(f"file:{daemon.database}?mode=ro", uri=True)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'tally'")]
        held = {name: sorted(map(repr, connection.execute(f"SELECT * FROM {name}"))) for name in tables}
    return held | {"event": [event for event in held["event"] if "'forgotten', ''" not in event]}


def test_a_drill_finds_all_well_and_leaves_nothing(daemon: Daemon) -> None:
    """Each category is taken, judged and answered as configured, on every socket; afterwards the database holds what it held before."""
    joe = daemon.tell("sign", "joe@example.org")
    assert bring(daemon.smtp, joe, [report("joe@example.org", NO_SUCH_USER)])[0][0] == 250
    before = rows(daemon)

    _, found = held(daemon, "--fire-drill", "--no-dns")

    drill = of_the_drill(found)
    assert set(drill.values()) == {"ok"}, found
    others = ("forged", "in a row", "socketmap", "policy", "line", "release", "forgets")
    assert set(drill) == {f"drill {name}" for name in (*samples(RuleSet.builtin()), *others)}
    assert rows(daemon) == before
    assert before["event"]
    assert "0  open incidents" in daemon.tell("stats")
    assert "drill" not in daemon.tell("why", "joe@example.org")


def test_a_drill_notices_what_is_broken(daemon: Daemon) -> None:
    """Control: a policy that the daemon does not run by, and a socket at which nobody answers, are failures that say what to do."""
    text = (daemon.home / "bounced.toml").read_text()
    (daemon.home / "bounced.toml").write_text(text + '\n[category]\nno-such-user = { action = "tell" }\n')
    daemon.door("policy").unlink()

    code, found = held(daemon, "--fire-drill", "--no-dns")

    assert code == 2
    assert found["drill no-such-user"]["level"] == found["drill policy"]["level"] == "failure"
    assert "restart" in found["drill no-such-user"]["do"]
    assert found["drill line"]["level"] == found["drill socketmap"]["level"] == found["drill forgets"]["level"] == "ok"


def test_a_daemon_that_is_down_is_a_failure(daemon: Daemon) -> None:
    """Without the daemon the machine is still looked at, and the exit code is 2."""
    daemon.stop()

    code, found = held(daemon, "--fire-drill")

    assert code == 2
    assert found["daemon"]["level"] == "failure"
    assert found["keys"]["level"] == "ok"


def test_the_mx_is_proved_by_a_signed_return_path() -> None:
    """Whoever listens at the MX is offered a signed and a forged return path: only this daemon takes the one and refuses the other."""
    from bounced.doctor.names import probe_with

    with alive() as daemon, alive() as other:
        genuine = daemon.tell("sign", "joe@example.org")
        forged = genuine[:10] + ("b" if genuine[10] == "a" else "a") + genuine[11:]
        probe = probe_with(genuine, forged)

        assert probe(*daemon.smtp) is None
        assert "a signed return path is refused: 550" in str(probe(*other.smtp))
        assert "a forged return path is accepted" in str(probe_with(genuine, genuine)(*daemon.smtp))


def test_names_are_asked_at_the_server_given(daemon: Daemon) -> None:
    """`--nameserver` is asked about every return-path domain; an MX that is not this machine is a failure."""
    zone = {(key[0].replace("bounces.example.net", DOMAIN), key[1]): records for key, records in GOOD.items()}
    zone["_dmarc.sender.example", "TXT"] = ('"v=DMARC1; p=reject"',)
    with name_server(zone) as address:
        code, found = held(daemon, "--nameserver", address)

    assert code == 2
    assert {found[f"{check} {DOMAIN}"]["level"] for check in ("mx", "spf", "dmarc")} == {"ok"}
    assert found["port 25 127.0.0.1"]["level"] == "failure"
