"""A backup taken under load has every bounce that was acknowledged before, and a daemon that is started on it knows them."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.ask import Mailer
from tests.system.bounces import Mint
from tests.system.daemon import Daemon, DaemonRefusedError
from tests.system.load import Load
from tests.system.test_durability import integrity


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Daemon]:
    """Another installation, which is not started yet."""
    one = Daemon(tmp_path)
    yield one
    one.kill()


def copied_under_load(daemon: Daemon, copy: Callable[[], None]) -> list[str]:
    """Copy while bounces come; return what had been acknowledged when the copying began."""
    load = Load(daemon.smtp, Mint(daemon), clients=8)
    load.start()
    try:
        load.wait_for(100)
        before = list(load.acknowledged)
        copy()
        load.wait_for(len(load.acknowledged) + 50)
    finally:
        load.stop()
    assert not load.refused, load.refused[:3]
    return before


def known_after_restore(other: Daemon, backup: Path, keys: Path, recipients: list[str]) -> int:
    """Restore in another installation, start it, and count whom it knows of `recipients`."""
    shutil.copy(keys, other.home / "keys")
    other.tell("restore", str(backup))
    other.start()
    with Mailer(other.door("socketmap")) as mailer:
        missing = len(mailer.missing(recipients))
    assert other.stop() == 0
    assert integrity(other.database) == "ok"
    return len(recipients) - missing


def test_a_backup_under_load_has_all_that_was_acknowledged(
    daemon: Daemon, other: Daemon, tmp_path: Path, rounds: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    """What was acknowledged before the backup began is known to the daemon on the restored copy, and its file is sound."""
    acknowledged = 0
    for number in range(rounds(2, 20)):
        backup = tmp_path / f"{number}.backup"
        before = copied_under_load(daemon, lambda backup=backup: daemon.tell("backup", str(backup)))  # type: ignore[misc]
        assert known_after_restore(other, backup, daemon.home / "keys", before) == len(before)
        acknowledged += len(before)
    figure(f"restored backups: {rounds(2, 20)}, {acknowledged} acknowledged before, 0 missing")


def test_a_copy_of_the_file_alone_is_found_out(daemon: Daemon, other: Daemon, tmp_path: Path) -> None:
    """Control: who copies the database file under load misses what stands in the log."""
    copy = tmp_path / "copy"
    before = copied_under_load(daemon, lambda: shutil.copy(daemon.database, copy))
    assert known_after_restore(other, copy, daemon.home / "keys", before) < len(before)


def test_a_backup_is_private_and_names_the_keys(daemon: Daemon, tmp_path: Path) -> None:
    """The copy is readable by whoever asked for it alone, leaves nothing beside it or beside the database, and the keys are named."""
    backup = tmp_path / "backup"
    backup.write_text("yesterday's")

    said = daemon.tell("backup", str(backup))

    assert str(daemon.home / "keys") in said
    assert backup.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["backup"]
    assert not list(daemon.home.glob("*.copying*"))


def test_a_backup_into_a_directory_of_strangers_follows_no_link(daemon: Daemon, tmp_path: Path) -> None:
    """What somebody has laid where the draft goes is neither written through nor kept as it is, with permissions of his."""
    victim, backup = tmp_path / "victim", tmp_path / "backup"
    victim.write_text("precious")
    (tmp_path / "backup.part").symlink_to(victim)

    daemon.tell("backup", str(backup))

    assert victim.read_text() == "precious"
    assert not backup.is_symlink()
    assert backup.stat().st_mode & 0o777 == 0o600


def test_a_backup_that_cannot_be_taken_leaves_the_last_one(daemon: Daemon, tmp_path: Path) -> None:
    """Without a daemon, exit code 69 and yesterday's backup is as it was."""
    backup = tmp_path / "backup"
    backup.write_text("yesterday's")
    daemon.stop()

    assert daemon.run("backup", str(backup)).returncode == 69
    assert backup.read_text() == "yesterday's"
    assert [file.name for file in tmp_path.iterdir()] == ["backup"]


def test_a_restore_needs_a_stopped_daemon_and_a_sound_backup(daemon: Daemon, tmp_path: Path) -> None:
    """While the daemon runs, and from a file that is damaged or something else, nothing is restored: exit code 78, and all is as it was."""
    daemon.tell("block", "joe@remote.example", "--reason", "to be found again")
    backup, damaged, text = tmp_path / "backup", tmp_path / "damaged", tmp_path / "text"
    daemon.tell("backup", str(backup))
    octets = backup.read_bytes()
    damaged.write_bytes(octets[: len(octets) // 2] + b"\xa5" * 8192 + octets[len(octets) // 2 + 8192 :])
    text.write_text("no database")

    assert "another process writes" in daemon.run("restore", str(backup)).stderr
    daemon.stop()
    assert [daemon.run("restore", str(file)).returncode for file in (damaged, text)] == [78, 78]

    daemon.start()
    assert daemon.run("check", "joe@remote.example").returncode == 1


def test_the_old_database_is_kept_beside_the_restored_one(daemon: Daemon, tmp_path: Path) -> None:
    """What came after the backup is gone from the list, and still there in the old database with its log, also after a crash."""
    backup = tmp_path / "backup"
    daemon.tell("backup", str(backup))
    daemon.tell("block", "joe@remote.example", "--reason", "after the backup")
    daemon.kill()

    old = daemon.home / "bounced.db.old"
    assert str(old) in daemon.tell("restore", str(backup))
    daemon.start()

    assert daemon.run("check", "joe@remote.example").returncode == 0
    daemon.stop()
    daemon.tell("restore", str(old))
    daemon.start()
    assert daemon.run("check", "joe@remote.example").returncode == 1


def test_a_restore_that_was_cut_short_is_not_served(daemon: Daemon, tmp_path: Path) -> None:
    """Killed before the backup is in its place, a restore leaves nothing that starts; run again, it ends well."""
    backup = tmp_path / "backup"
    daemon.tell("backup", str(backup))
    daemon.stop()
    (daemon.home / "bounced.db.state").write_text("restoring")
    daemon.database.unlink()

    with pytest.raises(DaemonRefusedError, match="half restored"):
        daemon.start()
    daemon.tell("restore", str(backup))
    daemon.start()
