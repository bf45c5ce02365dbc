"""A private OpenSMTPD: Debian's program in a room of its own, with the filter, the table program and the blocks that a postmaster pastes.

For: tests in which real mail is refused by OpenSMTPD, and sent by it. Never: DNS.
"""

import os
import shutil
from pathlib import Path

from tests.system.dropin import DROPINS
from tests.system.room import MAILERS, Room
from tests.system.sender import letter
from tests.system.waiting import free_address

_CONFIGURATION = """\
{block}
listen on {host} port {port} {filtered}
action "out" relay host "smtp://{remote_host}:{remote_port}" helo "mail.sender.example"
match from any for any action "out"
"""


class OpenSmtpd:
    """One OpenSMTPD below `home`, of a release as .ci/mailers calls it; `block` is what a postmaster pasted, all mail goes to `remote`."""

    def __init__(self, home: Path, block: str, *, remote: tuple[str, int], release: str = "opensmtpd") -> None:
        """Write the configuration; nothing runs yet."""
        self.address = free_address()
        host, port = self.address
        filtered = "filter bounced" if block.startswith("filter ") else ""
        configuration = _CONFIGURATION.format(
            block=block, host=host, port=port, filtered=filtered, remote_host=remote[0], remote_port=remote[1]
        )
        self.room = Room(home, release, users=["opensmtpd", "opensmtpq"], etc={"smtpd.conf": configuration, "aliases": ""})
        self.room.write("usr/local/libexec/filter-bounced", (DROPINS / "opensmtpd/filter-bounced").read_text(), 0o755)
        self.room.write("usr/libexec/opensmtpd/table-bounced", (DROPINS / "opensmtpd/table-bounced").read_text(), 0o755)
        # What the package does when it is installed: sendmail(1) is a name of smtpctl(8), and wants to be setgid.
        smtpctl = self.room.home / "usr/sbin/smtpctl"
        smtpctl.parent.mkdir()
        shutil.copy(MAILERS / release / "usr/sbin/smtpctl", smtpctl)
        os.chown(smtpctl, 0, self.room.ids["opensmtpq"])
        smtpctl.chmod(0o2755)

    def start(self) -> None:
        """Start it."""
        self.room.open("smtpd", "-d", "-F", at=[self.address])

    def submit(self, sender: str, *recipients: str) -> int:
        """Hand a small mail to sendmail(1), as a script on the machine does; return its exit code."""
        return self.room.run("sendmail", "-f", sender, *recipients, given=letter(*recipients)).returncode
