"""A private sendmail: Debian's program in a room of its own, with a configuration made of the blocks that a postmaster pastes.

For: tests in which real mail is refused, signed, sent and bounced by sendmail. Never: DNS, or a changed bounce; what comes back is its own.
"""

from pathlib import Path

from tests.system.daemon import DOMAIN
from tests.system.room import Room
from tests.system.sender import letter
from tests.system.waiting import free_address

_PROGRAM = "/usr/libexec/sendmail/sendmail"
_CONFIGURATION = """\
include(`/usr/share/sendmail/cf/m4/cf.m4')
OSTYPE(`linux')
define(`confDOMAIN_NAME', `mail.sender.example')
define(`confTO_IDENT', `0s')
define(`confTO_HOSTSTATUS', `0s')
define(`confMIN_QUEUE_AGE', `0s')
define(`confDONT_PROBE_INTERFACES', `True')
undefine(`ALIAS_FILE')
undefine(`STATUS_FILE')
FEATURE(`no_default_msa')
FEATURE(`nocanonify')
FEATURE(`accept_unresolvable_domains')
FEATURE(`promiscuous_relay')
DAEMON_OPTIONS(`Name=MTA, Addr={host}, Port={port}')
DAEMON_OPTIONS(`Name=bounced_news, Addr={news_host}, Port={news_port}')
define(`SMART_HOST', `[{remote_host}]')
define(`RELAY_MAILER_ARGS', `TCP $h {remote_port}')
{block}
MAILER(`smtp')
MAILER_DEFINITIONS
Mback, P=[IPC], F=mDFMuXa, S=EnvFromSMTP/HdrFromSMTP, R=MasqSMTP, E=\\r\\n, L=2040, T=DNS/RFC822/SMTP, A=TCP $h {bounced_port}
LOCAL_RULE_0
R$* < @ {domain} . > $*	$#back $@ [{bounced_host}] $: $1 < @ {domain} . > $2
"""
_SUBMISSION = """\
include(`/usr/share/sendmail/cf/m4/cf.m4')
OSTYPE(`linux')
define(`confDOMAIN_NAME', `mail.sender.example')
define(`confTO_IDENT', `0s')
define(`RELAY_MAILER_ARGS', `TCP $h {port}')
FEATURE(`msp', `[{host}]')
"""


class Sendmail:
    """One sendmail below `home`; `block` is what a postmaster pasted, mail goes to `remote`, and return paths of ours to `bounced`."""

    def __init__(self, home: Path, block: str, *, remote: tuple[str, int], bounced: tuple[str, int]) -> None:
        """Write the configuration; nothing runs yet."""
        self.address = free_address()
        self.news_address = free_address()
        configuration = _CONFIGURATION.format(
            host=self.address[0],
            port=self.address[1],
            news_host=self.news_address[0],
            news_port=self.news_address[1],
            remote_host=remote[0],
            remote_port=remote[1],
            bounced_host=bounced[0],
            bounced_port=bounced[1],
            domain=DOMAIN,
            block=block,
        )
        submission = _SUBMISSION.format(host=self.address[0], port=self.address[1])
        etc = {"mail/sendmail.mc": configuration, "mail/submit.mc": submission, "mail/service.switch": "hosts files\naliases files\n"}
        self.room = Room(
            home, "sendmail", users=["smmta", "smmsp"], etc=etc, spool={"mqueue": ("root", 0o700), "clientmqueue": ("smmsp", 0o770)}
        )

    def stop(self) -> None:
        """End it, with everything that it started."""
        self.room.close()

    def log(self) -> str:
        """Return what it logged."""
        return self.room.log()

    def start(self) -> None:
        """Make sendmail.cf, then start the daemon, with a queue run each second."""
        made = "m4 /etc/mail/sendmail.mc > /run/sendmail.cf && m4 /etc/mail/submit.mc > /run/submit.cf"
        script = f"{made} && exec {_PROGRAM} -C /run/sendmail.cf -bD -q1s"
        self.room.open("sh", "-c", script, at=[self.address, self.news_address])

    def submit(self, sender: str, *recipients: str) -> int:
        """Hand a small mail to sendmail(1), as a script on the machine does; return its exit code."""
        return self.room.run(_PROGRAM, "-C", "/run/submit.cf", "-f", sender, *recipients, given=letter(*recipients)).returncode

    def drained(self) -> bool:
        """Tell whether the queue is empty: every mail and every bounce has reached its end."""
        return not any((self.room.home / "spool" / "mqueue").iterdir())
