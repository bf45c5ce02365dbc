"""A mailer that asks by socketmap, as Postfix does, on a connection that it keeps.

For: tests that ask often. Never: the product's codec; the bytes are those of Postfix socketmap_table(5), written down here once more.

    python -m tests.system.ask SOCKET

asks about somebody who is not suppressed until its input ends, and prints how many seconds each answer took.
"""

import select
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from tests.system.waiting import PATIENCE


class TemporaryTroubleError(Exception):
    """The answer was "I cannot tell now"."""


class Mailer:
    """One connection to a socketmap socket."""

    def __init__(self, path: Path, name: str = "access") -> None:
        """Connect; the map `name` is asked."""
        self._name = name
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(path))
        self._stream = self._socket.makefile("rb")

    def suppressed(self, recipient: str) -> bool:
        """Ask about one recipient. Raises TemporaryTroubleError, ConnectionError."""
        request = f"{self._name} {recipient}".encode()
        self._socket.sendall(b"%d:%b," % (len(request), request))
        return self._answer()

    def missing(self, recipients: Iterable[str]) -> list[str]:
        """Return those of `recipients` that are not suppressed."""
        return [recipient for recipient in recipients if not self.suppressed(recipient)]

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self) -> bool:
        length = b""
        while not length.endswith(b":"):
            octet = self._stream.read(1)
            if not octet:
                raise ConnectionError("the daemon hung up")
            length += octet
        answer = self._stream.read(int(length[:-1]))
        if self._stream.read(1) != b",":
            raise ConnectionError("the daemon hung up in the middle of an answer")
        word = answer.partition(b" ")[0]
        if word in {b"TEMP", b"TIMEOUT", b"PERM"}:
            raise TemporaryTroubleError(answer.decode())
        assert word in {b"OK", b"NOTFOUND"}, answer
        return word == b"OK"


def main() -> None:
    waited = []
    with Mailer(Path(sys.argv[1])) as mailer:
        sys.stdout.write("asking\n")
        sys.stdout.flush()
        while not select.select([sys.stdin], [], [], 0)[0]:
            began = time.perf_counter()
            assert not mailer.suppressed("joe@example.org")
            waited.append(time.perf_counter() - began)
    sys.stdout.writelines(f"{seconds:.6f}\n" for seconds in waited)


if __name__ == "__main__":
    main()
