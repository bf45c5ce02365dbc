"""No 250 leaves the house before the disk has what it acknowledges: seen at the system calls."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.bounces import Mint
from tests.system.daemon import alive
from tests.system.load import Load
from tests.system.tracing import Call, calls, traced

_WATCHED = ("-y", "-s", "65536", "-e", "trace=fdatasync,fsync,read,recvfrom,recvmsg,write,writev,sendto,sendmsg")


def acknowledgements(seen: list[Call]) -> tuple[int, int]:
    """Count the replies 250 to DATA, and those among them that left before a sync of the log that began after the mail was whole."""
    whole: dict[str, int] = {}
    syncs = [call for call in seen if call.name in {"fdatasync", "fsync"} and call.file.endswith("-wal>") and call.text.endswith("= 0")]
    total = early = 0
    for call in sorted(seen, key=lambda one: one.began if one.name.startswith(("write", "send")) else one.ended):
        if call.name.startswith(("read", "recv")) and r"\r\n.\r\n" in call.text:
            whole[call.file] = call.ended
        elif call.name.startswith(("write", "send")) and call.file in whole:
            assert '"250 ' in call.text, call.text
            came = whole.pop(call.file)
            total += 1
            early += not any(came < sync.began and sync.ended < call.began for sync in syncs)
    return total, early


def watch(count: int, output: Path, *module: str) -> tuple[int, int]:
    """Let four clients bring `count` bounces to a watched daemon; return the acknowledgements in all and the early ones."""
    with alive(*module) as daemon:
        load = Load(daemon.smtp, Mint(daemon), clients=4)
        with traced(daemon.pid, output, *_WATCHED):
            load.start()
            try:
                load.wait_for(count)
            finally:
                load.stop()
        assert not load.refused
    return acknowledgements(calls(output))


@pytest.fixture
def output(tmp_path: Path, as_root: None, need_program: Callable[[str], str]) -> Path:
    """Where strace writes."""
    need_program("strace")
    return tmp_path / "strace"


def test_no_250_leaves_before_the_sync_that_covers_it(
    output: Path, rounds: Callable[[int, int], int], figure: Callable[[str], None]
) -> None:
    """Between the end of a mail and its 250 lies a whole fdatasync of the write-ahead log."""
    count = rounds(300, 10_000)
    total, early = watch(count, output)
    figure(f"order: {total} acknowledged, {early} before their fdatasync")
    assert total >= count
    assert early == 0


def test_a_250_before_the_sync_is_found_out(output: Path, figure: Callable[[str], None]) -> None:
    """Control: of a daemon that answers before COMMIT, most replies leave too early."""
    total, early = watch(300, output, "tests.system.faulty", "answer_before_commit")
    figure(f"order, answering before the commit: {total} acknowledged, {early} before their fdatasync")
    assert early > total / 2
