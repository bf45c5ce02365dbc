"""The database file and what lies beside it: claimed, created, checked, migrated, opened.

For: refusing to serve from a file that is damaged, missing, newer than we are or somebody else's. Never: creating a database where one
had been; a suppression list that comes back empty mails the dead.

Beside `bounced.db` lies `bounced.db.state`: whoever holds its lock (flock) may write the database; that it says something means that the
database exists, and what it says is whether it was closed in order. Where it was not, the write-ahead log holds commits and must be there.
Where it was, it also says what the closed file looked like: a file that still looks so is served at once, and read for damage meanwhile
(bounced/store/scrub.py); any other is read as a whole first.
"""

import errno
import fcntl
import glob
import hashlib
import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path

from bounced.fault import OperatorFault
from bounced.store import StoreFault

SCHEMA = Path(__file__).parent / "schema"
"""The migrations, NNNN.sql, applied in the order of their numbers."""

WRITE_PATIENCE = 2.0
"""Seconds that a transaction waits for a foreign program's lock."""

READ_PATIENCE = 0.05
"""Seconds that a lookup waits for a lock; it blocks the event loop, and readers wait in rare moments only (WAL)."""

_STATE_OCTETS = 160
"""The length of the state file: whatever is written covers what was there."""

COPY = ".copying-"
"""How the name of a copy goes on after that of the database until somebody has it; a number follows."""

_APPLICATION_ID = 0x626E6364  # "bncd"
RESTORE = "restore the newest backup (bounced restore), or move the database and its .state file away to begin with an empty store"
"""What helps a database that cannot be used."""


class State(StrEnum):
    """What the state file says."""

    FRESH = ""
    OPEN = "open"
    CLOSED = "closed"
    DAMAGED = "damaged"
    """Damage was found while it was served."""
    RESTORING = "restoring"
    """A backup is being put in its place."""


class Claim:
    """The right to write one database, and the memory that it exists."""

    def __init__(self, path: Path) -> None:
        """Claim the database at `path` for this process. Raises OperatorFault if another one holds it."""
        self.on_trust = False
        """Whether the database was opened without reading it for damage, since it looks as it did when it was closed."""
        self._path = path
        self._file = beside(path, ".state")
        try:
            self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise OperatorFault(f"cannot open {self._file}: {error.strerror}", "check the directory, its owner and its mode") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._descriptor)
            raise OperatorFault(f"another process writes {path}", "stop the other daemon; one database has one writer") from None

    @property
    def state(self) -> State:
        """What was last written down. Raises OperatorFault for a text that is not ours."""
        try:
            return State(self._said()[0])
        except ValueError:
            raise OperatorFault(f"{self._file} is damaged", "write 'open' into it if the database beside it is sound") from None

    @property
    def unchanged(self) -> bool:
        """Whether the database is, to all appearances, the file that was closed in order, and nothing is in its log.

        To be asked only while nobody here has it open. Raises OSError.
        """
        log = beside(self._path, "-wal")
        return self._said() == (State.CLOSED, _looks(self._path)) and (not log.exists() or log.stat().st_size == 0)

    def write(self, state: State) -> None:
        """Write down `state`, and how the database looks if it is CLOSED, for all of us; on disk when this returns. Raises OSError."""
        # One short write in place: a rename would leave the lock on a file that nobody finds any more.
        text = f"{state.value} {_looks(self._path) if state is State.CLOSED else ''}"
        os.pwrite(self._descriptor, f"{text:<{_STATE_OCTETS - 1}}\n".encode("ascii"), 0)
        os.fsync(self._descriptor)
        sync_directory(self._file)

    def _said(self) -> tuple[str, str]:
        state, _, looks = os.pread(self._descriptor, _STATE_OCTETS, 0).decode("ascii", "replace").strip().partition(" ")
        return state, looks.strip()

    def release(self) -> None:
        """Let others claim it."""
        os.close(self._descriptor)


def _looks(path: Path) -> str:
    """Return what tells a database from every other file, and from itself after a change: size, time of change, inode, its first page.

    Who closes a file lets go of all locks that his process has on it (fcntl(2)), those of SQLite too: no connection may be open here, or
    another program would take the database for its own, and delete the log.
    """
    with path.open("rb") as stream:
        first_page = stream.read(4096)
        status = os.fstat(stream.fileno())
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ino} {hashlib.sha256(first_page).hexdigest()}"


def beside(path: Path, suffix: str) -> Path:
    """Return the file that belongs to the database at `path`."""
    return path.with_name(path.name + suffix)


def sync_directory(path: Path) -> None:
    """Put the directory entry of `path` on disk. Raises OSError."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_claimed(path: Path, claim: Claim) -> sqlite3.Connection:
    """Open the claimed database for writing: create it if it never was, check and migrate it if it was.

    Raises OperatorFault; StoreFault for what may pass, such as a full disk.
    """
    state = claim.state
    if state is State.RESTORING:
        raise OperatorFault(f"{path} is half restored", "run `bounced restore` again")
    if state is State.DAMAGED:
        raise OperatorFault(f"{path} was found damaged while it was served", f"{RESTORE}; 'open' in the .state file has it checked again")
    with told_as_faults(path):
        if not path.exists():
            if state is not State.FRESH:
                raise OperatorFault(f"{path} is missing, and it had been there", RESTORE)
            _create(path)
        # What a crash left of copies.
        for copy in path.parent.glob(f"{glob.escape(path.name)}{COPY}[0-9]*"):
            copy.unlink()
        _refuse_outer_damage(path, state)
        claim.on_trust = claim.unchanged
        # Held while the writing connection may fail: closed as the last one it would copy the log into the file and delete it.
        with closing(connect_reader(path)) as reader:
            refuse_strangers(reader, path)
            if not claim.on_trust:
                check(reader, path)
            connection = connect_writer(path)
            try:
                _enter(connection, path)
                claim.write(State.OPEN)
            except BaseException:
                connection.close()
                raise
    return connection


_PASSING = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM}
_FORBIDDEN = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_ALLOW = "check the directory and the files in it, their owner and mode, and whether the file system can be written"


@contextmanager
def told_as_faults(path: Path) -> Iterator[None]:
    """Tell what SQLite and the system raise as one line for the operator. Raises StoreFault where it may pass, else OperatorFault."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise StoreFault(f"there is no room on the disk to open {path}") from None
        problem = f"{path} cannot be used: {sqlite_words(error)}"
        if code in _PASSING:
            raise StoreFault(problem) from None
        raise OperatorFault(problem, _ALLOW if code in _FORBIDDEN else RESTORE) from None
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreFault(f"there is no room on the disk to open {path}") from None
        raise OperatorFault(f"cannot open {path}: {error.strerror}", _ALLOW) from None


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the database for reading, in a process that does not write it, whether or not one does.

    Raises OperatorFault, StoreFault.
    """
    with told_as_faults(path):
        if not path.exists():
            raise OperatorFault(f"{path} is not there", "it is made by the process that writes, at its first start")
        state = written_state(path)
        if state is State.DAMAGED:
            raise OperatorFault(f"{path} was found damaged while it was served", RESTORE)
        _refuse_outer_damage(path, state)
        connection = connect_reader(path)
        try:
            refuse_strangers(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def written_state(path: Path) -> State:
    """Return what the state file says to one that has no claim; a word that is not ours is for the writer to complain of."""
    try:
        return State(beside(path, ".state").read_text("ascii").strip().partition(" ")[0])
    except (OSError, ValueError):
        return State.FRESH


def reopen_claimed(path: Path) -> sqlite3.Connection:
    """Open the claimed database again after an error of the disk. Raises OperatorFault if it is damaged, sqlite3.Error."""
    connection = connect_writer(path)
    try:
        check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open the one connection that writes. Raises sqlite3.Error."""
    # A copy is made from it in another thread (copies.py): SQLite itself lets one at a time in.
    connection = _connect(path, "rw", WRITE_PATIENCE, check_same_thread=False)
    try:
        for pragma in (
            "synchronous = FULL",  # the promise of DATA: NORMAL loses the whole log at a power cut
            "secure_delete = ON",  # what is to be forgotten is overwritten
            "wal_autocheckpoint = 0",  # or a checkpoint would run inside COMMIT, and the reply wait for it
            f"journal_size_limit = {16 << 20}",
            "temp_store = MEMORY",  # no new file when descriptors run out
        ):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open a connection that can only read. Raises sqlite3.Error."""
    connection = _connect(path, "ro", READ_PATIENCE)
    try:
        connection.execute("PRAGMA temp_store = MEMORY")
        # Opens the log too. Until then a writing connection that is closed takes itself for the last one, and deletes the log.
        connection.execute("PRAGMA schema_version").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Read the whole database for damage. Raises OperatorFault, sqlite3.Error."""
    ((verdict,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
    if verdict != "ok":
        raise OperatorFault(f"{path} is damaged", RESTORE)


def migrate(connection: sqlite3.Connection, directory: Path | None = None) -> None:
    """Bring the schema up to date with SCHEMA, or with what is in `directory`, each step in a transaction with its number.

    Raises sqlite3.Error.
    """
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    for number, file in sorted(_migrations(directory or SCHEMA).items()):
        if number <= version:
            continue
        # Written as one script, since executescript commits what was begun outside of it.
        script = f"BEGIN IMMEDIATE;\n{file.read_text('utf-8')}\nPRAGMA user_version = {number};\nCOMMIT;"
        try:
            connection.executescript(script)
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _connect(path: Path, mode: str, patience: float, *, check_same_thread: bool = True) -> sqlite3.Connection:
    where = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(where, uri=True, isolation_level=None, timeout=patience, check_same_thread=check_same_thread)


def _create(path: Path) -> None:
    """Create an empty database under another name, and rename it when it is whole: whatever lies at `path` was once complete."""
    draft = beside(path, ".new")
    draft.unlink(missing_ok=True)
    # SQLite gives the mode of the database to its log and index.
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))
    connection = connect_writer(draft)
    try:
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        migrate(connection)
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
    draft.rename(path)
    sync_directory(path)


def _refuse_outer_damage(path: Path, state: State) -> None:
    """Refuse what SQLite would not notice: it takes an empty file for an empty database, and drops a log that it cannot read."""
    mode, size = path.stat().st_mode, path.stat().st_size
    if size == 0:
        raise OperatorFault(f"{path} has no content", RESTORE)
    if mode & 0o007:
        path.chmod(mode & 0o770)
    log = beside(path, "-wal")
    if not log.exists():
        if state is State.OPEN:
            hint = "restore it or a backup; if another program closed the database in order, write 'closed' into the .state file"
            raise OperatorFault(f"{log} is missing, and the last commits were in it", hint)
        return
    octets = _head(log)
    if _is_log(octets) or not octets:
        return
    # A crash in the first moments after an orderly start can leave a header half written; nothing had been acknowledged then.
    if state is State.OPEN or (len(octets) == _LOG_HEAD.size and any(octets)):
        raise OperatorFault(f"{log} is damaged, and the last commits were in it", RESTORE)


# https://www.sqlite.org/fileformat2.html#the_write_ahead_log: magic, version, page size, checkpoint, two salts, two checksums.
_LOG_HEAD = struct.Struct(">8L")


def _head(log: Path) -> bytes:
    with log.open("rb") as stream:
        return stream.read(_LOG_HEAD.size)


def _is_log(octets: bytes) -> bool:
    if len(octets) < _LOG_HEAD.size:
        return False
    magic = _LOG_HEAD.unpack(octets)[0]
    if magic not in {0x377F0682, 0x377F0683}:
        return False
    words = struct.unpack(">6L" if magic & 1 else "<6L", octets[:24])
    first = second = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return (first, second) == struct.unpack(">2L", octets[24:])


def refuse_strangers(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that is not ours, or newer than we are. Raises OperatorFault, sqlite3.Error."""
    if connection.execute("PRAGMA application_id").fetchall() != [(_APPLICATION_ID,)]:
        raise OperatorFault(f"{path} is no database of bounced", "check the path in the configuration")
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    newest = max(_migrations(SCHEMA))
    if version > newest:
        raise OperatorFault(
            f"{path} has schema {version}, and this version knows {newest}",
            "run the newer version that wrote it, or restore the backup made before the upgrade",
        )


def _enter(connection: sqlite3.Connection, path: Path) -> None:
    """Migrate, and leave a log with a commit in it, so that a missing or headless log is a lost one."""
    if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
        raise OperatorFault(f"{path} cannot have a write-ahead log", "put it on a local file system")
    migrate(connection)
    # What a crash left in the log goes into the database now: a daemon that dies young again and again would never come to it.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    connection.executescript(f"BEGIN IMMEDIATE; PRAGMA user_version = {version}; COMMIT;")
    sync_directory(path)


def _migrations(directory: Path) -> dict[int, Path]:
    return {int(file.stem): file for file in directory.glob("[0-9]*.sql")}


def sqlite_words(error: sqlite3.Error) -> str:
    """Return the name that SQLite has for `error`; its message may hold text of ours or a stranger's."""
    return getattr(error, "sqlite_errorname", None) or type(error).__name__
