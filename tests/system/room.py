"""A room for a mail server that cannot be installed here, since Debian lets only one be: its files lie where it looks for them.

For: Exim, OpenSMTPD and sendmail beside the Postfix of this machine, each in namespaces of its own for mounts, processes and the host's
name, where the package's /usr and /etc lie over the machine's (overlayfs), with the users it wants, no DNS, and the daemon's sockets in
/run/bounced. Never: the machine's own files, which stay as they are; a process that outlives its test. The network is the machine's:
everything listens on loopback addresses of its own. Needs root.
"""

import grp
import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

from tests.system.waiting import PATIENCE, listens, until

MAILERS = Path(os.environ.get("BOUNCED_MAILERS", "/var/cache/bounced-mailers"))
"""Where .ci/mailers unpacks them."""

SOCKET_GROUP = "mail"
"""A group that every Debian has, and that owns the daemon's sockets. In a room it is called bounced-query, and the users are members."""

_FIRST_ID = 64_600
_WALLS = """\
set -e
mount -t overlay overlay -o "lowerdir=$2/usr:$1/usr:/usr" /usr
mount -t overlay overlay -o "lowerdir=$2/etc:$1/etc:/etc" /etc
mount --bind "$2/spool" /var/spool
mount --bind "$2/run" /run
mount --bind "$2/.." /run/bounced
[ ! -d "$1/var/lib" ] || mount -t overlay overlay -o "lowerdir=$1/var/lib:/var/lib" /var/lib
hostname mail.sender.example
shift 2
"$@" &
wait
"""


class Room:
    """A room below `home`, the daemon's, for the mail server that is unpacked as `mailer`.

    `users` are those that it wants to find, each with a group of the same name; `etc` are its files below /etc, `spool` the directories
    below /var/spool, each with its owner and its mode.
    """

    def __init__(
        self,
        home: Path,
        mailer: str,
        *,
        users: Sequence[str],
        etc: Mapping[str, str],
        spool: Mapping[str, tuple[str, int]] = MappingProxyType({}),
    ) -> None:
        """Lay out the files; nothing runs yet."""
        self._package = MAILERS / mailer
        self.home = home / mailer
        self._log = self.home / "room.log"
        self._first: subprocess.Popen[bytes] | None = None
        for directory in ("etc", "usr", "spool", "run/bounced"):
            (self.home / directory).mkdir(parents=True)
        self.ids = ids = {user: _FIRST_ID + number for number, user in enumerate(users)}
        people = "".join(f"{user}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n" for user, number in ids.items())
        own = "".join(f"{user}:x:{number}:\n" for user, number in ids.items())
        asking = f"bounced-query:x:{grp.getgrnam(SOCKET_GROUP).gr_gid}:{','.join(users)}\n"
        self.write("etc/passwd", Path("/etc/passwd").read_text() + people)
        self.write("etc/group", asking + Path("/etc/group").read_text() + own)
        self.write("etc/hosts", "127.0.0.1 localhost mail.sender.example\n")
        self.write("etc/resolv.conf", "")
        for name, text in etc.items():
            self.write(f"etc/{name}", text)
        for name, (owner, mode) in spool.items():
            directory = self.home / "spool" / name
            directory.mkdir(parents=True)
            os.chown(directory, ids.get(owner, 0), ids.get(owner, 0))
            directory.chmod(mode)

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Put a file below /etc or /usr of the room, before it opens."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def open(self, *command: str, at: Sequence[tuple[str, int]]) -> None:
        """Start the server in the room, as root; returns when it listens at these addresses."""
        first = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        walls = ["sh", "-c", _WALLS, "sh", str(self._package), str(self.home)]
        with self._log.open("ab") as log:
            self._first = subprocess.Popen(
                [*first, *walls, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        for address in at:
            until(partial(self._listens, address), f"{command[0]} to listen at {address}", shown=self.log)

    def close(self) -> None:
        """End the room and every process in it."""
        first, self._first = self._first, None
        if first is not None:
            first.kill()
            first.wait()

    def run(self, *command: str, given: str = "", user: str = "root") -> subprocess.CompletedProcess[str]:
        """Run a program in the room, as somebody there."""
        # unshare's only child is the first process in there.
        assert self._first is not None
        (inside,) = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text().split()
        enter = ["nsenter", "--target", inside, "--mount", "--pid", "setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        return subprocess.run([*enter, *command], input=given, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)

    def log(self) -> str:
        """Return what was said on standard output and error."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _listens(self, address: tuple[str, int]) -> bool:
        assert self._first is not None
        assert self._first.poll() is None, f"the room closed by itself ({self._first.returncode}):\n{self.log()}"
        return listens(address)
