"""The daemon as its operator runs it: a child process with a configuration file, sockets, a store and a log of its own.

For: tests of the whole. Never: a look inside; it is asked through its command line and its sockets alone.
"""

import copy
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from bounced.address import address_key
from bounced.returnpath import KeyRing, ReturnPath
from bounced.scope import DEFAULT_SCOPE, Scope
from tests.system.waiting import PATIENCE, free_address, until

DOMAIN = "bounces.sender.example"
PROJECT = Path(__file__).resolve().parents[2]
_SCOPES = ("default", "news")
_WITH_LISTEN_PID = ("sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh")


class DaemonRefusedError(AssertionError):
    """The daemon will not serve from what it finds: exit code 78."""


class Daemon:
    """`bounced serve` below `home`. It lives from `start` to `stop` or `kill`, again and again on the same store.

    `module` is run instead of `bounced` where a test needs a daemon with a planted fault (see tests.system.faulty); `database` is where
    the store lies, if that is not below `home`; `socket_group` is the group that may use its sockets; `handed_over` are listening sockets,
    by name, that it gets as from systemd; `doors` are sockets of its own, by name, that lie elsewhere than in `home`; `settings` are more
    settings, by section and name; `descriptors` is how many it may have open.
    """

    def __init__(
        self,
        home: Path,
        *,
        module: Sequence[str] = ("bounced",),
        database: Path | None = None,
        socket_group: str = "",
        handed_over: Mapping[str, socket.socket] = MappingProxyType({}),
        doors: Mapping[str, Path] = MappingProxyType({}),
        settings: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
        descriptors: int | None = None,
    ) -> None:
        """Write the configuration; nothing runs yet."""
        self.home = home
        self.smtp = free_address()
        self.database = database or home / "bounced.db"
        self._module = module
        self._limits = ["prlimit", f"--nofile={descriptors}"] if descriptors else []
        self._role = "all"
        self._socket_group = socket_group
        self._handed_over = handed_over
        self._doors = doors
        self._process: subprocess.Popen[bytes] | None = None
        self._log = home / "bounced.log"
        self._config = home / "bounced.toml"
        given = self._settings()
        self._config.write_text(
            _toml({section: {**given.get(section, {}), **settings.get(section, {})} for section in {**given, **settings}})
        )

    def as_role(self, role: str) -> "Daemon":
        """Return the same installation in another role: a process of its own, with its own log."""
        other = copy.copy(self)
        other._role = role
        other._process = None
        other._log = self.home / f"{role}.log"
        return other

    def door(self, name: str) -> Path:
        """Return the path of the socket of a query protocol, of `http` or of `lmtp`."""
        return self._doors.get(name, self.home / f"{name}.sock")

    @property
    def pid(self) -> int:
        """The running daemon's process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it; returns when it says READY=1 to its service manager, which is us."""
        at = self.home / f"notify-{self._role}.sock"
        at.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, self._log.open("ab") as log:
            manager.bind(str(at))
            at.chmod(0o666)
            manager.setblocking(False)
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._limits, *_WITH_LISTEN_PID, *self.command("serve", "--role", self._role)],
                cwd=PROJECT,
                env={**os.environ, "NOTIFY_SOCKET": str(at), **self._listen_environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=range(3, 3 + len(self._handed_over)),
                preexec_fn=self._put_sockets,  # noqa: PLW1509 - no thread of ours holds a lock that dup2 wants
            )
            until(lambda: self._is_ready(manager), "the daemon to be ready", shown=self.log)

    def stop(self) -> int:
        """Ask it to drain and end, as systemd does; returns its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(PATIENCE + 30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not end after SIGTERM:\n{self.log()}") from None

    def kill(self) -> None:
        """Kill with -9: it gets no chance to do anything more. Returns when it is gone; harmless where it is gone already."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait until it ends for a reason of the test's making; returns its exit code."""
        assert self._process is not None
        return self._process.wait(PATIENCE)

    def forget(self) -> None:
        """Remove the store's files, as an operator who begins anew."""
        for file in self.database.parent.glob(f"{self.database.name}*"):
            file.unlink()

    def run(self, *arguments: str, patience: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run a command of `bounced` as an operator does."""
        return subprocess.run(
            [sys.executable, "-m", "bounced", "-C", str(self._config), *arguments],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )

    def tell(self, *arguments: str, patience: float = PATIENCE) -> str:
        """Run a command that must succeed; returns what it printed."""
        done = self.run(*arguments, patience=patience)
        assert done.returncode == 0, f"bounced {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}{self.log()}"
        return done.stdout.strip()

    def events(self, address: str) -> list[Any]:
        """Return the events that `bounced why --json` tells of an address, as JSON."""
        events: list[Any] = json.loads(self.tell("why", address, "--json"))["events"]
        return events

    def signer(self, max_age: int = 30 * 86400) -> ReturnPath:
        """Return what signs with this installation's keys, for tests that need many return paths, or old ones."""
        ring = KeyRing.parse((self.home / "keys").read_text())
        return ReturnPath(ring=ring, scopes=tuple(map(Scope, _SCOPES)), max_age=max_age)

    def sign(self, recipient: str, at: int, scope: Scope = DEFAULT_SCOPE) -> str:
        """Return a return path signed at the time `at`, for a recipient that needs no opaque form."""
        signed = self.signer().sign(address_key(recipient), scope, at)
        assert signed.opaque_id is None
        return f"{signed.local_part}@{DOMAIN}"

    def log(self) -> str:
        """Return what it logged."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _is_ready(self, manager: socket.socket) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            code = self._process.returncode
            raise (DaemonRefusedError if code == 78 else AssertionError)(f"the daemon ended at its start, exit {code}:\n{self.log()}")
        try:
            return b"READY=1" in manager.recv(4096)
        except BlockingIOError:
            return False

    def _listen_environment(self) -> Mapping[str, str]:
        return {"LISTEN_FDS": str(len(self._handed_over)), "LISTEN_FDNAMES": ":".join(self._handed_over)} if self._handed_over else {}

    def _put_sockets(self) -> None:
        """In the child: put the sockets where sd_listen_fds(3) looks for them."""
        # First out of the way of one another.
        high = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, 100) for one in self._handed_over.values()]
        for number, descriptor in enumerate(high, 3):
            os.dup2(descriptor, number)

    def command(self, *arguments: str) -> list[str]:
        """Return how one of its commands is run."""
        return [sys.executable, "-m", *self._module, "-C", str(self._config), *arguments]

    def _settings(self) -> Mapping[str, Mapping[str, object]]:
        host, port = self.smtp
        return {
            "return_path": {"domains": [DOMAIN], "scopes": list(_SCOPES), "key_file": str(self.home / "keys")},
            "smtp": {"listen": [f"{host}:{port}"]},
            "lmtp": {"socket": str(self.door("lmtp"))},
            "query": {
                **{name: str(self.door(name)) for name in ("socketmap", "policy", "line", "milter", "http", "writer")},
                "socket_group": self._socket_group,
            },
            "store": {"database": str(self.database)},
            "kept": {name: str(self.home / name) for name in ("postmaster", "unread")},
        }


@contextmanager
def alive(
    *module: str,
    database: Path | None = None,
    settings: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
    descriptors: int | None = None,
) -> Iterator[Daemon]:
    """Give a daemon on an empty store, started; its log is shown if the test fails. `module` is run instead of `bounced`."""
    with TemporaryDirectory(prefix="bounced-") as home:
        daemon = Daemon(Path(home), module=module or ("bounced",), database=database, settings=settings, descriptors=descriptors)
        try:
            daemon.start()
            yield daemon
        finally:
            daemon.kill()
            sys.stdout.write(daemon.log())


def _toml(sections: Mapping[str, Mapping[str, object]]) -> str:
    # A JSON string, number or list of strings is written alike in TOML.
    return "".join(
        f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()) for section, keys in sections.items()
    )
