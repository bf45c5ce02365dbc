"""A private Exim: Debian's daemon in a room of its own, with a configuration made of the blocks that a postmaster pastes.

For: tests in which real mail is refused, signed, sent and bounced by Exim. Never: DNS, or a changed bounce; what comes back is Exim's own.
"""

from collections.abc import Mapping
from pathlib import Path

from tests.system.daemon import DOMAIN
from tests.system.room import Room
from tests.system.waiting import free_address

_USER = "Debian-exim"
_CONFIGURATION = """\
primary_hostname = mail.sender.example
domainlist local_domains = mail.sender.example
local_interfaces = {interfaces}
log_file_path = /var/spool/exim4/%slog
pid_file_path = /var/spool/exim4/pid
log_selector = +all
tls_advertise_hosts =
host_lookup =
keep_environment =
smtp_accept_max = 0
queue_run_in_order
acl_smtp_rcpt = ${{extract{{door$received_port}}{{{acls}}}}}

begin acl

{acl}
begin routers

back:
  driver = manualroute
  domains = {domain}
  transport = to_bounced
  route_list = * {bounced_host}
  self = send

{router}
out:
  driver = manualroute
  domains = !+local_domains
  transport = to_remote
  route_list = * {remote_host}
  self = send
{sign}

begin transports

to_bounced:
  driver = smtp
  port = {bounced_port}
  allow_localhost

to_remote:
  driver = smtp
  port = {remote_port}
  allow_localhost

begin retry

* * F,1h,1s
"""


class Exim:
    """One Exim below `home`.

    `acls` are the statements at RCPT by the name of a door that has them, `router` the first router (for all doors), `sign` the options of
    the router that sends mail out to `remote`. Return paths of ours go to `bounced`.
    """

    def __init__(
        self,
        home: Path,
        *,
        acls: Mapping[str, str],
        router: str = "",
        sign: str = "",
        remote: tuple[str, int],
        bounced: tuple[str, int],
    ) -> None:
        """Write the configuration; nothing runs yet."""
        self.doors = {door: free_address() for door in acls}
        configuration = _CONFIGURATION.format(
            interfaces=" : ".join(f"{host}.{port}" for host, port in self.doors.values()),
            acls=" ".join(f"door{port}=rcpt_{door}" for door, (_, port) in self.doors.items()),
            acl="".join(f"rcpt_{door}:\n{text}  accept hosts = 127.0.0.0/8\n\n" for door, text in acls.items()),
            domain=DOMAIN,
            router=router,
            sign=sign,
            bounced_host=bounced[0],
            bounced_port=bounced[1],
            remote_host=remote[0],
            remote_port=remote[1],
        )
        spool = {"exim4": (_USER, 0o750), **{f"exim4/{name}": (_USER, 0o750) for name in ("input", "msglog", "db")}}
        self.room = Room(home, "exim", users=[_USER], etc={"exim4/exim4.conf": configuration}, spool=spool)

    def start(self) -> None:
        """Start the daemon with a queue run each second."""
        self.room.open("exim4", "-bdf", "-q1s", at=list(self.doors.values()))

    def drained(self) -> bool:
        """Tell whether the queue is empty: every mail and every bounce has reached its end."""
        counted = self.room.run("exim4", "-bpc")
        assert counted.returncode == 0, counted.stderr
        return counted.stdout.strip() == "0"

    def stop(self) -> None:
        """End it, with everything that it started."""
        self.room.close()

    def log(self) -> str:
        """Return what Exim logged."""
        kept = [log for name in ("mainlog", "paniclog") if (log := self.room.home / "spool" / "exim4" / name).exists()]
        return self.room.log() + "".join(f"--- {one.name}\n{one.read_text(errors='replace')}" for one in kept)
