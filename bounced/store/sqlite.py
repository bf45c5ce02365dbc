"""The store in one SQLite file (https://www.sqlite.org/wal.html), for one machine.

For: acknowledging nothing that is not on disk, at a price per batch and not per event. Never: two connections that write or checkpoint
(SQLite 3.7.0 to 3.51.2 can lose pages then), a lookup through a thread, a word to the caller before COMMIT has returned.

One thread, aiosqlite's, owns the writing connection. What is asked while a transaction is being synced waits, goes into the next one
together, and is answered together after it. Lookups read at once on a connection of their own that cannot write.
"""

import asyncio
import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, Self, TypeVar, cast

import aiosqlite

from bounced.address import AddressKey, is_drill
from bounced.fault import OperatorFault, OwnFault
from bounced.incident import Act, Incident, Ruling
from bounced.policy import Policy
from bounced.record import AnyEvent
from bounced.store import NoSuchIncident, Recorded, StoreFault, Tally, copies, files, incidents, ledger, lists, scrub, tables
from bounced.store.reader import Lookups, fault_of
from bounced.store.rows import event_row, naming
from bounced.takeover import Taken

MAX_WAITING = 10_000
"""More calls than this do not wait: they get a StoreFault, and the peer comes back later. Memory stays bounded while the disk hangs."""

MAX_BATCH = 500
"""Calls in one transaction. Twice as many gain a few percent and make everybody wait longer."""

CHECKPOINT_AFTER = 1000
"""Calls between two checkpoints: about as many pages to copy, since each touches one page of standings that no other does."""

LOG_LIMIT = 40 << 20
"""Octets of the write-ahead log that a reader may hold fast before calls are refused; with what comes between checkpoints, 64 MiB."""

_FRAME = 4096 + 24
_T = TypeVar("_T")
_Job = Callable[[sqlite3.Connection], object] | ledger.Entry
"""What is to be done in a transaction: an event to record, or any other work."""

# The transaction failed but the connection is sound: no room, or a lock of somebody else's.
_PASSING = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM}


class Kept(Protocol):
    """Mail that is kept as it came."""

    async def forget(self, names: Callable[[bytes], bool]) -> None:
        """Remove each message of which `names` is true. Raises OSError, OwnFault."""
        ...


class _Writer:
    """The writing connection, its thread, and the queue before it."""

    def __init__(self, path: Path, claim: files.Claim, policy: Policy) -> None:
        self._path = path
        self._policy = policy
        self._claim = claim
        self._waiting: list[tuple[_Job, asyncio.Future[object]]] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._sound = True
        self._damaged = False
        self.in_order = False
        """Whether it ended in order: all that was committed is in the database, and nothing in the log."""
        self._since_checkpoint = 0
        self._log_held = False
        self._copying = asyncio.Lock()
        self._copy: copies.Copy | None = None
        self._copies = itertools.count()

    async def start(self) -> None:
        """Open the database and begin to serve. Raises OperatorFault, StoreFault."""
        await self._connect(partial(files.open_claimed, self._path, self._claim))
        self._task = asyncio.create_task(self._serve(), name="store writer")

    def submit(self, job: _Job) -> asyncio.Future[object]:
        """Queue `job` for the next transaction. The future is done when the job is durable, or holds a StoreFault.

        Cancelling the future takes nothing back: what was submitted will be committed.
        """
        if self._closing:
            raise StoreFault("the store is closed")
        if self._damaged:
            raise StoreFault("the database is damaged")
        if len(self._waiting) >= MAX_WAITING:
            raise StoreFault("too many calls wait for the store")
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        self._wake.set()
        return future

    def distrust(self) -> None:
        """Write no more: the file is damaged, and the next start shall know. Raises OSError."""
        self._damaged = True
        self._claim.write(files.State.DAMAGED)

    def count(self, calls: int) -> None:
        """Count work that was more than one call: the next checkpoint is due the sooner."""
        self._since_checkpoint += calls

    async def empty_log(self) -> None:
        """Copy the log into the database and cut it to nothing. Raises StoreFault if some other program reads and does not end."""
        if not await self._run(self._emptied):
            raise StoreFault("the write-ahead log cannot be emptied now: some other program reads the database")

    async def copied(self) -> Path:
        """Return a copy of the database, which is its caller's from then on. One is made at a time. Raises StoreFault."""
        async with self._copying:
            if self._closing or self._damaged or not self._sound:
                raise StoreFault("the store cannot be copied now")
            self._copy = copies.Copy(self._connection, self._path, files.beside(self._path, f"{files.COPY}{next(self._copies) % 10}"))
            try:
                return await asyncio.to_thread(self._copy.made)
            except sqlite3.Error as error:
                raise fault_of(error) from None
            except OSError as error:
                raise StoreFault(f"no copy can be made beside {self._path}: {error.strerror}") from None
            finally:
                self._copy = None

    async def close(self) -> None:
        """Commit what waits, then let go of the file."""
        self._closing = True
        self._wake.set()
        # Whoever gives up waiting for the end must not cut it short.
        await asyncio.shield(self._task)

    async def _serve(self) -> None:
        batch: list[tuple[_Job, asyncio.Future[object]]] = []
        try:
            while await self._called():
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                _answer(batch, await self._commit([job for job, _ in batch]))
                if self._sound and self._since_checkpoint >= CHECKPOINT_AFTER:
                    # The replies leave while this runs.
                    await self._run(self._checkpoint)
                if not self._sound:
                    _refuse(self._waiting, "the store waits for the disk")
                    self._waiting = []
        finally:
            self._closing = True
            _refuse(batch + self._waiting, "the store is closed")
            await self._let_go()

    async def _called(self) -> bool:
        """Wait until there is something to do; False means that it was the last."""
        while not self._waiting and not self._closing:
            self._wake.clear()
            await self._wake.wait()
        return bool(self._waiting)

    async def _commit(self, jobs: list[_Job]) -> Sequence[object]:
        try:
            if not self._sound:
                await self._reopen()
            return await self._run(partial(self._transact, jobs))
        except StoreFault as fault:
            return [fault] * len(jobs)

    async def _connect(self, connect: Callable[[], sqlite3.Connection]) -> None:
        failed: list[Exception] = []

        def connector() -> sqlite3.Connection:
            try:
                self._connection = connect()
            except Exception as error:  # noqa: BLE001 - raised again below
                # aiosqlite does not wait for its thread when a connector raises, and the thread may outlive the loop.
                failed.append(error)
                return sqlite3.connect(":memory:")
            return self._connection

        self._thread = await aiosqlite.Connection(connector, iter_chunk_size=1)
        if failed:
            await self._thread.close()
            raise failed[0]

    async def _run(self, work: Callable[[], _T]) -> _T:
        """Run `work` in the thread of the connection."""
        # aiosqlite's public methods take a thread hop a statement, which costs ten times the transaction. The one that runs a function of
        # ours in one hop has a private name; tests/store/test_sqlite.py fails on the day it goes.
        result: _T = await self._thread._execute(work)  # type: ignore[no-untyped-call]
        return result

    async def _reopen(self) -> None:
        """Come back from an error of the disk: what an old connection believes of its pages may be wrong. Raises StoreFault."""
        await self._end_copy()
        with contextlib.suppress(sqlite3.Error):
            await self._thread.close()
        try:
            await self._connect(partial(files.reopen_claimed, self._path))
        except sqlite3.Error as error:
            raise fault_of(error) from None
        except OperatorFault as fault:
            raise StoreFault(str(fault)) from None
        self._sound = True

    def _transact(self, jobs: Sequence[_Job]) -> Sequence[object]:
        """Do `jobs` in one transaction; return what each gave, or its StoreFault.

        A job that fails takes the transaction with it, and each is done again alone: a savepoint a job would cost every good batch a
        copy of each page it touches, for the sake of a case that no stranger can bring about.
        """
        try:
            if self._log_held:
                self._checkpoint()
            if self._log_held or not self._sound:
                return [StoreFault("the write-ahead log is full: some other program reads the database and does not end")] * len(jobs)
            self._connection.execute("BEGIN IMMEDIATE")
            results = self._results(jobs)
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is answered as ours, and the thread lives on
            self._roll_back()
            if self._is_common(error) or len(jobs) == 1:
                return [fault_of(error)] * len(jobs)
            return [self._transact([job])[0] for job in jobs]
        self._since_checkpoint += len(jobs)
        return results

    def _results(self, jobs: Sequence[_Job]) -> Sequence[object]:
        """Do jobs in their order, and events that stand together at once."""
        results: list[object] = []
        entries: list[ledger.Entry] = []
        for job in jobs:
            if isinstance(job, tuple):
                entries.append(job)
                continue
            if entries:
                results += ledger.record(self._connection, entries, self._policy)
                entries = []
            results.append(job(self._connection))
        return [*results, *ledger.record(self._connection, entries, self._policy)] if entries else results

    def _is_common(self, error: Exception) -> bool:
        """Tell whether `error` would meet every job alike, and remember if the connection is to be trusted no more."""
        if not isinstance(error, sqlite3.OperationalError) and type(error) is not sqlite3.DatabaseError:
            return isinstance(error, MemoryError)
        self._sound = self._sound and error.sqlite_errorcode & 0xFF in _PASSING
        return True

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._sound = False

    def _checkpoint(self) -> None:
        """Copy the log into the database, and cut it if a reader made it long."""
        try:
            _, frames, _ = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if frames * _FRAME > LOG_LIMIT:
                _, frames, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            self._is_common(error)
        else:
            self._log_held = frames * _FRAME > LOG_LIMIT
            self._since_checkpoint = 0

    def _emptied(self) -> bool:
        try:
            held, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            self._is_common(error)
            raise fault_of(error) from None
        return not held

    async def _end_copy(self) -> None:
        """Wait until nobody copies from the connection any more."""
        if self._copy is not None:
            self._copy.give_up()
            async with self._copying:
                pass

    async def _let_go(self) -> None:
        await self._end_copy()
        try:
            if self._sound and not self._damaged:
                await self._run(self._finish)
        except sqlite3.Error:
            pass  # the log stays, and the next start reads it
        finally:
            with contextlib.suppress(sqlite3.Error):
                await self._thread.close()

    def _finish(self) -> None:
        held, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self.in_order = not held


def _answer(batch: Sequence[tuple[_Job, asyncio.Future[object]]], results: Sequence[object]) -> None:
    for (_, future), result in zip(batch, results, strict=True):
        if future.done():
            continue  # its caller was cancelled meanwhile
        if isinstance(result, StoreFault):
            future.set_exception(StoreFault(str(result)))
        else:
            future.set_result(result)


def _refuse(calls: Sequence[tuple[_Job, asyncio.Future[object]]], reason: str) -> None:
    _answer(calls, [StoreFault(reason)] * len(calls))


class SqliteStore(Lookups):
    """The store in one SQLite file. See the contract in bounced/store/__init__.py."""

    def __init__(self, path: Path, claim: files.Claim, writer: _Writer, policy: Policy, kept: Sequence[Kept] = ()) -> None:
        """Use `open` instead."""
        super().__init__(path)
        self._kept = kept
        self._claim = claim
        self._closed = False
        self._writer = writer
        self._policy = policy
        self._holds_pseudonyms: bool | None = None

    @classmethod
    async def open(cls, path: Path, policy: Policy, kept: Sequence[Kept] = ()) -> Self:
        """Open the database at `path`, or create it if it never was. Who is forgotten is forgotten in what is `kept` beside it too.

        Raises OperatorFault if it must not be served, StoreFault if it cannot be now.
        """
        claim = files.Claim(path)
        writer = _Writer(path, claim, policy)
        try:
            await writer.start()
        except BaseException:
            claim.release()
            raise
        try:
            return cls(path, claim, writer, policy, kept)
        except StoreFault as fault:
            await writer.close()
            claim.release()
            raise OperatorFault(f"cannot read {path}: {fault}", "check the owner and the mode of its directory") from None

    def any_forgotten(self) -> bool:
        """Tell whether there may be a pseudonym; False is certain: nobody else writes. Raises StoreFault."""
        self._refuse_if_closed()
        if self._holds_pseudonyms is None:
            self._holds_pseudonyms = super().any_forgotten()
        return self._holds_pseudonyms

    async def record(self, event: AnyEvent) -> Recorded:
        """Add an event and step its record, in one transaction. Returns when it is durable. Raises StoreFault."""
        if "@" not in event.key:
            self._holds_pseudonyms = True
        return cast("Recorded", await self._writer.submit((event, event_row(event))))

    async def probe(self) -> None:
        """Commit what changes nothing, by the writing thread, to the disk. Raises StoreFault."""
        await self._writer.submit(tables.touch)

    async def take_over(self, blocks: Sequence[Taken], *, at: int, by: str, source: str) -> int:
        """Add the blocks of another list, in one transaction; return how many changed anything. Raises StoreFault."""
        if not all("@" in key for block in blocks for key in block.keys):
            self._holds_pseudonyms = True
        changed = await self._done(partial(lists.take_over, blocks=blocks, policy=self._policy, at=at, by=by, source=source))
        # As many pages as so many calls of `record`: the log must not wait for a thousand such lists.
        self._writer.count(sum(len(block.keys) for block in blocks))
        return changed

    async def intern(self, opaque_id: str, key: AddressKey) -> None:
        """Make sure that `recipient_of(opaque_id)` answers `key`. Raises StoreFault, also if the id means somebody else."""
        known: object = self.recipient_of(opaque_id)
        if known is None:
            known = await self._writer.submit(lambda connection: tables.intern(connection, opaque_id, key))
        if known != key:
            raise StoreFault("an opaque id would mean two recipients")

    async def count(self, tallies: Mapping[Tally, int]) -> None:
        """Add to the tallies of what was refused. Raises StoreFault."""
        counted = dict(tallies)
        await self._writer.submit(lambda connection: tables.count(connection, counted))

    async def settle(self, now: int) -> Sequence[Incident]:
        """Let the time pass: close incidents that are over, open a flood of backscatter. Raises StoreFault."""
        while (outage := await self._shelved(incidents.unfinished)) is not None:
            await self._look_back(outage)
        return await self._shelved(lambda shelf: incidents.passed(shelf, now, self._policy))

    async def hold(self, provider: str, since: int, *, at: int, by: str, reason: str) -> Incident:
        """Make an incident, by hand, of the hard verdicts of a provider that were recorded from `since` on. Raises StoreFault."""
        act = Act(at=at, what="held", by=by, reason=reason)
        return await self._look_back(await self._shelved(lambda shelf: incidents.by_hand(shelf, provider, since, act)))

    async def forget(self, key: AddressKey) -> None:
        """Erase an address from the database, its log, and the mail that is kept beside it. Raises StoreFault."""
        await self._writer.submit(lambda connection: tables.forget(connection, key))
        if is_drill(key):
            return  # nobody's mail speaks of it, and it is no secret
        place: int | None = 0
        while place is not None:
            place = await self._done(partial(tables.forget_mentions, key=key, after=place))
        await self._writer.empty_log()
        try:
            for one in self._kept:
                await one.forget(naming(key))
        except (OSError, OwnFault) as error:
            raise StoreFault(f"not all of the mail that is kept could be searched: {error}") from None

    async def rule(self, incident: str, ruling: Ruling, *, at: int, by: str, reason: str) -> int:
        """Let all that an incident holds count, or undo all that it did. Raises NoSuchIncident, StoreFault."""
        held = await self._shelved(lambda shelf: shelf.incident(incident))
        if held is not None:
            await self._look_back(held)
        if await self._shelved(lambda shelf: incidents.ruled(shelf, incident, ruling, at=at, by=by, reason=reason)) is None:
            raise NoSuchIncident(incident)
        last: AddressKey | None = None
        total = 0
        while True:
            last, changed = await self._done(partial(tables.rule_some, identity=incident, ruling=ruling, after=last, policy=self._policy))
            self._writer.count(changed)
            total += changed
            if last is None:
                return total

    async def backup(self) -> Path:
        """Return a copy of the database as it is when the copying ends, while calls go on. Raises StoreFault."""
        return await self._writer.copied()

    async def scrub(self, pause: float) -> None:
        """Read the database for damage, if the start took it on trust, with `pause` seconds between pieces. Returns when all was read.

        Raises OperatorFault for damage: then no call is served any more, and the next start refuses. Raises StoreFault for the rest.
        """
        if not self._claim.on_trust:
            return
        pieces, more = scrub.pieces(self._path), True
        try:
            while more:
                more = await asyncio.to_thread(next, pieces, False) is None
                await asyncio.sleep(pause)
        except sqlite3.Error as error:
            raise fault_of(error) from None
        except OperatorFault:
            self.distrust()
            self._writer.distrust()
            raise

    async def _look_back(self, outage: Incident) -> Incident:
        """Hold all of an outage's backlog, in portions; return it as it is then."""
        while outage.backlog is not None:
            outage = await self._shelved(partial(incidents.looked_back, outage=outage, policy=self._policy))
            self._writer.count(incidents.LOOKED_AT_ONCE)
        return outage

    async def _shelved(self, work: Callable[[tables.Shelf], _T]) -> _T:
        """Do something about incidents in the next transaction."""
        return await self._done(lambda connection: work(tables.Shelf(connection)))

    async def _done(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do `work` in the next transaction; return what it gave once that is durable."""
        results: list[_T] = []

        def job(connection: sqlite3.Connection) -> None:
            results[:] = [work(connection)]

        await self._writer.submit(job)
        return results[0]

    async def close(self) -> None:
        """Commit what waits, then let go of the file. Later calls raise StoreFault."""
        try:
            await self._writer.close()
        finally:
            # Last: a writing connection that is closed as the last one deletes the log, though the state may say that it must be there.
            self.let_go()
        if not self._closed:
            self._closed = True
            # After all connections: see files.Claim.write.
            if self._writer.in_order:
                with contextlib.suppress(OSError):
                    self._claim.write(files.State.CLOSED)
            self._claim.release()
