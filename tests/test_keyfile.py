"""The file of the key ring: made once, secret, whole at any moment."""

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from bounced.fault import OperatorFault
from bounced.keyfile import load_or_make, rotate
from bounced.returnpath import KeyRing


def test_first_start_makes_a_key(tmp_path: Path) -> None:
    """The first start makes a ring of one key that only its owner may read; later starts read the same."""
    before = os.umask(0)
    try:
        ring = load_or_make(tmp_path / "keys")
    finally:
        os.umask(before)
    assert len(ring.keys) == 1
    assert len(ring.keys[0].secret) == 32
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o600
    assert load_or_make(tmp_path / "keys") == ring
    assert [file.name for file in tmp_path.iterdir()] == ["keys"]


def test_keys_differ(tmp_path: Path) -> None:
    """Two installations have different keys."""
    assert load_or_make(tmp_path / "one") != load_or_make(tmp_path / "two")


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o666, 0o777])
def test_open_file_is_refused(mode: int, tmp_path: Path) -> None:
    """A file that the world can read, or anybody else can write, is not used."""
    load_or_make(tmp_path / "keys")
    (tmp_path / "keys").chmod(mode)
    for use in (load_or_make, rotate):
        with pytest.raises(OperatorFault, match="others can read or write") as caught:
            use(tmp_path / "keys")
        assert "chmod 0600" in caught.value.hint


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o440])
def test_file_for_owner_and_group_is_taken(mode: int, tmp_path: Path) -> None:
    """A file that a group may read, as packages install it, is used."""
    ring = load_or_make(tmp_path / "keys")
    (tmp_path / "keys").chmod(mode)
    assert load_or_make(tmp_path / "keys") == ring


def test_rotation_keeps_the_old_keys(tmp_path: Path) -> None:
    """Rotation puts a new key in front, keeps the others, the permissions and the owner, and is what the next start reads."""
    old = load_or_make(tmp_path / "keys")
    (tmp_path / "keys").chmod(0o640)
    if os.geteuid() == 0:
        os.chown(tmp_path / "keys", 12, 34)
    owner = (tmp_path / "keys").stat()
    new = rotate(tmp_path / "keys")
    assert new.keys[1:] == old.keys
    assert new.keys[0].secret != old.keys[0].secret
    assert load_or_make(tmp_path / "keys") == new
    found = (tmp_path / "keys").stat()
    assert (found.st_mode, found.st_uid, found.st_gid) == (owner.st_mode, owner.st_uid, owner.st_gid)
    assert [file.name for file in tmp_path.iterdir()] == ["keys"]


def test_rotation_needs_a_file(tmp_path: Path) -> None:
    """Rotation makes no ring where there is none: a wrong path would go unnoticed."""
    with pytest.raises(OperatorFault, match="there is no key file"):
        rotate(tmp_path / "keys")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"\n# nothing\n", b"a short\n", b"\xff\xfe", b"a " + b"A" * 43 + b"=\na " + b"B" * 43 + b"=\n"])
def test_damaged_file_is_told_and_kept(content: bytes, tmp_path: Path) -> None:
    """A damaged file is never replaced by a new key, and none of it is shown."""
    (tmp_path / "keys").write_bytes(content)
    (tmp_path / "keys").chmod(0o600)
    for use in (load_or_make, rotate):
        with pytest.raises(OperatorFault, match="is damaged") as caught:
            use(tmp_path / "keys")
        assert "AAAA" not in str(caught.value)
    assert (tmp_path / "keys").read_bytes() == content


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    """A FIFO, a directory or a missing directory in the file's place is told, and does not stop the start for ever."""
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "directory").mkdir()
    for path in (tmp_path / "fifo", tmp_path / "directory", tmp_path / "missing" / "keys"):
        with pytest.raises(OperatorFault, match="key file"):
            load_or_make(path)


def test_symbolic_link_stays(tmp_path: Path) -> None:
    """A ring behind a symbolic link is rotated where it is."""
    (tmp_path / "safe").mkdir()
    old = load_or_make(tmp_path / "safe" / "keys")
    (tmp_path / "link").symlink_to(tmp_path / "safe" / "keys")
    assert rotate(tmp_path / "link").keys[1:] == old.keys
    assert (tmp_path / "link").is_symlink()


def test_interrupted_write_leaves_the_old_ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails before the new file is in place, the old ring is still there and no draft remains."""
    old = load_or_make(tmp_path / "keys")

    def failing(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OperatorFault, match="Input/output error"):
        rotate(tmp_path / "keys")
    monkeypatch.undo()
    assert load_or_make(tmp_path / "keys") == old
    assert [file.name for file in tmp_path.iterdir()] == ["keys"]


def test_file_is_on_disk_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is synchronized before the rename, the directory after it."""
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def watched_fsync(descriptor: int) -> None:
        steps.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else f"file of {os.fstat(descriptor).st_size > 40}")
        fsync(descriptor)

    def watched_rename(path: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    load_or_make(tmp_path / "keys")
    assert steps == ["file of True", "rename", "directory"]


def _first_start(path: Path, answers: "multiprocessing.SimpleQueue[str]") -> None:
    answers.put(load_or_make(path).render())


def _rotation(path: Path, answers: "multiprocessing.SimpleQueue[str]") -> None:
    answers.put(rotate(path).render())


def test_simultaneous_starts_agree(tmp_path: Path) -> None:
    """Processes that start at once all have the same ring; those that rotate at once lose none of their keys."""
    context = multiprocessing.get_context("fork")
    for work in (_first_start, _rotation):
        answers: multiprocessing.SimpleQueue[str] = context.SimpleQueue()
        processes = [context.Process(target=work, args=(tmp_path / "keys", answers)) for _ in range(8)]
        for process in processes:
            process.start()
        rings = [KeyRing.parse(answers.get()) for _ in processes]
        for process in processes:
            process.join()
        if work is _first_start:
            assert len(set(rings)) == 1
        else:
            assert max(len(ring.keys) for ring in rings) == 9
            assert len(load_or_make(tmp_path / "keys").keys) == 9
