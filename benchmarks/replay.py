"""How long `bounced replay` takes over a large history, and how much memory: `python -m benchmarks.replay [EVENTS]`.

Five events an address, as soft and hard bounces, delays and deliveries come; every address in the order of time, mixed with the others.
"""

import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from bounced.address import AddressKey
from bounced.outcome import Category, Disposition, Outcome
from bounced.policy import Policy
from bounced.record import AnyEvent, Bounced, Delivered, Noticed
from bounced.scope import DEFAULT_SCOPE
from bounced.store import files, ledger
from bounced.store.rows import event_row

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_BEGIN = 1_750_000_000
_AT_ONCE = 100


def event(number: int, addresses: int, chance: random.Random) -> AnyEvent:
    """Make the event of this number."""
    at = _BEGIN + number * 10
    key = AddressKey(f"user{chance.randrange(addresses)}@receiver{number % 997}.example")
    token = "".join(_ALPHABET[number >> 5 * place & 31] for place in range(22, -1, -1))
    share = chance.random()
    if share < 0.1:
        return Delivered(at=at, key=key, scope=DEFAULT_SCOPE, by="mailer")
    if share < 0.2:
        return Noticed(at=at, key=key, scope=DEFAULT_SCOPE, token=token, signed_at=at - 60, what="delayed", reader="rfc3464")
    category, disposition = (Category.MAILBOX_FULL, Disposition.SOFT) if share < 0.8 else (Category.NO_SUCH_USER, Disposition.HARD)
    outcome = Outcome(
        disposition=disposition, category=category, rule="example", evidence="mailbox", status="5.2.2", diagnostic="552 5.2.2 full " * 6
    )
    return Bounced(
        at=at, key=key, scope=DEFAULT_SCOPE, token=token, signed_at=at - 60, outcome=outcome, reader="rfc3464", client="192.0.2.1"
    )


def build(path: Path, events: int) -> None:
    """Record as many events, in large transactions without a sync: only what is read afterwards counts."""
    chance = random.Random(1)
    policy = Policy(outage_guard=False)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        files.migrate(connection)
        connection.execute("BEGIN")
        for first in range(0, events, _AT_ONCE):
            some = [event(number, max(1, events // 5 // 997), chance) for number in range(first, min(first + _AT_ONCE, events))]
            ledger.record(connection, [(one, event_row(one)) for one in some], policy)
        connection.execute("COMMIT")


def main() -> None:
    """Build, replay, tell."""
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        build(home / "bounced.db", events)
        (home / "now.toml").write_text('[return_path]\ndomains = ["b.example"]\n[store]\ndatabase = "bounced.db"\n')
        (home / "then.toml").write_text('[return_path]\ndomains = ["b.example"]\n[policy]\nsoft_limit = 3\n')
        started = time.monotonic()
        command = [sys.executable, "-m", "bounced", "-C", str(home / "now.toml"), "replay", "--policy", str(home / "then.toml"), "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        took = time.monotonic() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(done.stdout.splitlines()[-1])
        print(f"{events} events: {took:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of CPU, {used.ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    main()
