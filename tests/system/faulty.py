"""`bounced` with one fault planted: what the tests of the guarantees must catch, or they would prove nothing.

For: negative controls, run as `python -m tests.system.faulty FAULT -C FILE serve`. Never: a setting of the product; each fault is put in
here, from outside.
"""

import asyncio
import hmac
import socket
import sqlite3
import sys
import time
from pathlib import Path
from types import ModuleType

from bounced import cli, listen, policy, returnpath
from bounced.address import Mailbox
from bounced.archive import Archive
from bounced.consult import Consult
from bounced.daemon import asking, taking
from bounced.maildir import Maildir
from bounced.query import Check, Clear, Suppressed, Trouble
from bounced.record import AnyEvent
from bounced.store import Recorded, files, ledger
from bounced.store.sqlite import SqliteStore


class HastyStore(SqliteStore):
    """Answers before COMMIT."""

    async def record(self, event: AnyEvent) -> Recorded:
        """Begin to record, and say at once that it is done."""
        _unfinished.add(task := asyncio.create_task(super().record(event)))
        task.add_done_callback(_unfinished.discard)
        before = self.look_up(event.key)
        return Recorded(before, before, fresh=True)


_unfinished: set[asyncio.Task[Recorded]] = set()


def answer_before_commit() -> None:
    """Break promise 1: the 250 leaves while the commit is still to come."""
    _replace(taking, "SqliteStore", HastyStore)


def commit_without_sync() -> None:
    """Break promise 1 as synchronous=NORMAL does: a commit is in the page cache, not on disk."""
    connect = files.connect_writer

    def connect_unsynced(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    _replace(files, "connect_writer", connect_unsynced)


def believe_any_seal() -> None:
    """Break promise 3: the seal of a return path is not compared."""

    class _Hmac:
        digest = staticmethod(hmac.digest)
        new = staticmethod(hmac.new)
        compare_digest = staticmethod(lambda _given, _right: True)

    _replace(returnpath, "hmac", _Hmac)


def count_every_copy() -> None:
    """Break promise 3: a copy of a bounce counts like another mail's."""
    _replace(ledger, "adds", lambda _event, _earlier: True)


def _replace(module: ModuleType | type, name: str, fault: object) -> None:
    assert hasattr(module, name), f"{module.__name__} has no {name} any more: this control needs another place for its fault"
    setattr(module, name, fault)


def call_home() -> None:
    """Break promise 5: a connection is opened for each bounce."""

    class Talkative(SqliteStore):
        async def record(self, event: AnyEvent) -> Recorded:
            with socket.socket() as caller:
                caller.connect_ex(("127.0.0.1", 9))
            return await super().record(event)

    _replace(taking, "SqliteStore", Talkative)


def clear_in_trouble() -> None:
    """Break promise 4: what cannot be read is called clear."""

    class Careless(Consult):
        def check_lasting(self, question: Check) -> tuple[Suppressed | Clear | Trouble, bool]:
            answer, lasts = super().check_lasting(question)
            return (Clear() if isinstance(answer, Trouble) else answer), lasts

    _replace(asking, "Consult", Careless)


def believe_any_clock() -> None:
    """Break what clock.py is for: time is what the system shows, whatever it shows."""
    for part in (asking, taking):
        _replace(part, "CLOCK", time.time)


def lose_releases() -> None:
    """Break promise 6: a release is written down, and undoes nothing."""
    _replace(policy, "_released", lambda record, _standing, _at: record)


def read_the_deaf() -> None:
    """Break the bound of the query sockets: whoever takes no answers goes on being read."""
    for name in ("pause_writing", "resume_writing"):
        _replace(listen._Connection, name, lambda _self: None)


def write_twice() -> None:
    """Break the rule of one writing connection: a second one lies open."""
    connect = files.connect_writer
    others = []

    def connect_twice(path: Path) -> sqlite3.Connection:
        others.append(connect(path))
        return connect(path)

    _replace(files, "connect_writer", connect_twice)


def fold_unicode() -> None:
    """Break what an address key is for: all of Unicode is lowered, and not the letters of ASCII alone."""
    parse = Mailbox.parse
    _replace(Mailbox, "parse", staticmethod(lambda text: parse(text.lower())))


def keep_their_mail() -> None:
    """Break the erasure: mail that is kept as it came is not looked at."""

    async def forget(*_: object) -> None:
        pass

    for kept in (Maildir, Archive):
        _replace(kept, "forget", forget)


FAULTS = {
    fault.__name__: fault
    for fault in (
        answer_before_commit,
        commit_without_sync,
        believe_any_seal,
        count_every_copy,
        clear_in_trouble,
        call_home,
        lose_releases,
        believe_any_clock,
        read_the_deaf,
        write_twice,
        fold_unicode,
        keep_their_mail,
    )
}


if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    cli.main()
