"""A private Postfix: the real programs of the package, with a configuration, a queue and a log of their own, on their own loopback address.

For: tests in which real mail is sent, refused and bounced by a real MTA. Never: the Postfix of the machine, DNS, or a changed bounce
template; what comes back is what Postfix sends. Needs root, since Postfix drops privileges by itself.
"""

import json
import os
import shutil
import signal
import smtplib
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

from tests.system.sender import connect, letter, send
from tests.system.waiting import free_address, listens, until

_PROGRAMS = "/usr/lib/postfix/sbin"
_MAIN = {
    "compatibility_level": "3.6",
    "command_directory": "/usr/sbin",
    "daemon_directory": _PROGRAMS,
    "myhostname": "mail.sender.example",
    "mydestination": "",
    "mynetworks": "127.0.0.0/8",
    "inet_protocols": "ipv4",
    "inet_interfaces": "loopback-only",
    "alias_maps": "",
    "alias_database": "",
    "local_recipient_maps": "",
    "smtp_dns_support_level": "disabled",
    "smtpd_peername_lookup": "no",
    "smtpd_relay_restrictions": "permit_mynetworks, reject",
    # A deferred bounce is tried again at once; nothing else of the queue's ways is changed.
    "minimal_backoff_time": "1s",
    "maximal_backoff_time": "1s",
    "queue_run_delay": "1s",
    "transport_retry_time": "1s",
    "service_throttle_time": "1s",
}
_MASTER = """\
pickup    unix  n - {chroot} 1 1 pickup
cleanup   unix  n - {chroot} - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - {chroot} - - trivial-rewrite
bounce    unix  - - {chroot} - 0 bounce
defer     unix  - - {chroot} - 0 bounce
trace     unix  - - {chroot} - 0 bounce
proxymap  unix  - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp      unix  - - {chroot} - - smtp
lmtp      unix  - - {chroot} - - lmtp
relay     unix  - - {chroot} - - smtp
showq     unix  n - {chroot} - - showq
error     unix  - - {chroot} - - error
retry     unix  - - {chroot} - - error
anvil     unix  - - {chroot} - 1 anvil
scache    unix  - - {chroot} - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""
_QUEUE_DIRECTORIES = {  # As `postfix set-permissions` makes them: mode, and the group where it is not postfix's own.
    **dict.fromkeys(("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"), 0o700),
    "maildrop": 0o730,
    "public": 0o2710,
}


class Postfix:
    """One instance below `home`, which every user of the machine must be able to enter.

    `doors` are the SMTP listeners by name, each with its own parameters (`smtpd -o`); `settings` are parameters for main.cf.
    `transports` are further SMTP clients by name, LMTP where they are called so, each with its own parameters too. With `chroot`, all
    services that Debian runs in the queue directory run there.
    """

    def __init__(
        self,
        home: Path,
        *,
        doors: Mapping[str, Mapping[str, str]],
        settings: Mapping[str, str],
        transports: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        chroot: bool = False,
    ) -> None:
        """Lay out the directories and write the configuration; nothing runs yet."""
        self._etc = home / "etc"
        self.queue_directory = home / "queue"
        self._log = home / "postfix.log"
        self._master: subprocess.Popen[bytes] | None = None
        self._addresses = {door: free_address() for door in doors}
        self._lay_out(home / "data")
        paths = {
            "queue_directory": self.queue_directory,
            "data_directory": home / "data",
            "maillog_file": self._log,
            "maillog_file_prefixes": home,
        }
        self._write("main.cf", "".join(f"{name} = {value}\n" for name, value in {**_MAIN, **paths, **settings}.items()))
        rows = [_MASTER.format(chroot="y" if chroot else "n")]
        for door, options in doors.items():
            host, port = self._addresses[door]
            rows.append(f"{host}:{port} inet n - {'y' if chroot else 'n'} - - smtpd\n")
            rows.extend(f"  -o {{ {name} = {value} }}\n" for name, value in {"syslog_name": f"postfix/{door}", **options}.items())
        for transport, options in transports.items():
            rows.append(f"{transport} unix - - {'y' if chroot else 'n'} - - {'lmtp' if 'lmtp' in transport else 'smtp'}\n")
            rows.extend(f"  -o {{ {name} = {value} }}\n" for name, value in options.items())
        self._write("master.cf", "".join(rows))

    def start(self) -> None:
        """Start the master in a session of its own; returns when every door listens."""
        # The kernel ends the master if the test's process dies: nothing is left behind.
        command = ["setpriv", "--pdeathsig", "TERM", f"{_PROGRAMS}/master", "-c", str(self._etc), "-d"]
        with self._log.open("ab") as log:
            self._master = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        for door, address in self._addresses.items():
            until(partial(self._listens, address), f"Postfix to listen at {door}", shown=self.log)

    def reload(self) -> None:
        """Make the master read its configuration again."""
        assert self._master is not None
        self._master.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """End the master and everything that it started, whatever state it is in."""
        master, self._master = self._master, None
        if master is None:
            return
        master.terminate()
        try:
            master.wait(10)
        except subprocess.TimeoutExpired:
            master.kill()
            master.wait()
        try:  # It is the leader of a session of its own, so this group holds its children only.
            os.killpg(master.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def connect(self, door: str, source: str = "") -> smtplib.SMTP:
        """Open an SMTP session at a door, from another loopback address if so wanted."""
        return connect(self._addresses[door], source)

    def send(self, door: str, sender: str, *recipients: str) -> None:
        """Send a small mail; raises the smtplib exception that carries Postfix's reply if it takes none of the recipients."""
        send(self._addresses[door], sender, *recipients)

    def rcpt(self, door: str, recipient: str, sender: str = "news@sender.example") -> tuple[int, str]:
        """Ask a door whether it takes a recipient, and go away again."""
        with self.connect(door) as session:
            session.ehlo_or_helo_if_needed()
            code, text = session.mail(sender)
            if code == 250:
                code, text = session.rcpt(recipient)
            return code, text.decode()

    def submit(self, sender: str, *recipients: str) -> None:
        """Hand a small mail to sendmail(1), as a script on the machine does."""
        command = ["/usr/sbin/sendmail", "-C", str(self._etc), "-f", sender, *recipients]
        done = subprocess.run(command, input=letter(*recipients), text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr + self.log()

    def queue(self) -> Sequence[Mapping[str, object]]:
        """Return what is in the queue, a mail each, as postqueue tells it."""
        listed = subprocess.run(["/usr/sbin/postqueue", "-c", self._etc, "-j"], capture_output=True, check=False)
        assert listed.returncode == 0, listed.stderr.decode() + self.log()
        return [json.loads(line) for line in listed.stdout.splitlines()]

    def drained(self) -> bool:
        """Tell whether the queue is empty: every mail and every bounce has reached its end."""
        return not self.queue()

    def log(self) -> str:
        """Return what Postfix logged."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def _listens(self, address: tuple[str, int]) -> bool:
        assert self._master is not None
        assert self._master.poll() is None, f"Postfix ended by itself ({self._master.returncode}):\n{self.log()}"
        return listens(address)

    def _write(self, name: str, text: str) -> None:
        (self._etc / name).write_text(text)

    def _lay_out(self, data: Path) -> None:
        self._etc.mkdir(mode=0o755)
        self.queue_directory.mkdir(mode=0o755)
        (self.queue_directory / "pid").mkdir(mode=0o755)
        data.mkdir(mode=0o700)
        shutil.chown(data, "postfix", "postfix")
        for name, mode in _QUEUE_DIRECTORIES.items():
            directory = self.queue_directory / name
            directory.mkdir()
            shutil.chown(directory, "postfix", "postfix" if mode == 0o700 else "postdrop")
            directory.chmod(mode)
