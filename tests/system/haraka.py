"""A private Haraka: the real program from npm, with the plugin of config/mailers/haraka and one of ours that tells it the way.

For: tests in which real mail is refused, signed, sent and bounced by Haraka. Never: DNS, or a changed bounce; what comes back is its own.
"""

import json
import shutil
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tests.system.daemon import DOMAIN
from tests.system.dropin import DROPINS, dropin
from tests.system.room import MAILERS
from tests.system.waiting import free_address, listens, until

_PACKAGE = MAILERS / "haraka/node_modules/Haraka"
_WAY = """\
exports.hook_connect = (next, connection) => {{ connection.relaying = true; next() }}
exports.hook_get_mx = (next, hmail, domain) => next(OK, domain === {domain} ? {bounced} : {remote})
"""


class Haraka:
    """One Haraka below `home`, the daemon's; mail goes to `remote`, and return paths of ours to `bounced`."""

    def __init__(self, home: Path, *, fail_closed: bool, remote: tuple[str, int], bounced: tuple[str, int]) -> None:
        """Write the configuration; nothing runs yet."""
        self.address = free_address()
        self._home = home / "haraka"
        self._log = home / "haraka.log"
        self._process: subprocess.Popen[bytes] | None = None
        exchanges = {
            name: json.dumps({"exchange": host, "port": port}) for name, (host, port) in (("remote", remote), ("bounced", bounced))
        }
        # As `haraka -i` does: the defaults, then ours over them.
        shutil.copytree(_PACKAGE / "config", self._home / "config")
        self._write(
            {
                "config/smtp.ini": "listen={}:{}\nnodes=0\n".format(*self.address),
                "config/me": "mail.sender.example\n",
                "config/host_list": "mail.sender.example\n",
                "config/plugins": "bounced\nway\n",
                "config/outbound.ini": "always_split=true\nenable_tls=false\nlocal_mx_ok=true\ntemp_fail_intervals=5s*9\n",
                "config/bounced.ini": dropin("haraka/bounced.ini", home).replace("fail_closed=false", f"fail_closed={fail_closed}".lower()),
                "plugins/bounced.js": (DROPINS / "haraka/bounced.js").read_text(),
                "plugins/way.js": _WAY.format(domain=json.dumps(DOMAIN), **exchanges),
            }
        )

    def start(self) -> None:
        """Start it; returns when it listens."""
        command = ["setpriv", "--pdeathsig", "KILL", "node", str(_PACKAGE / "bin/haraka"), "-c", str(self._home)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(partial(self._listens), "Haraka to listen", shown=self.log)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        """Return what it logged."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"Haraka ended by itself ({self._process.returncode}):\n{self.log()}"
        return listens(self.address)

    def _write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self._home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
