"""The command `bounced`.

For: people and shell scripts: starting the daemon, asking it, explaining mail. Never: writing to the database; what a command wants of a
running daemon it asks on its HTTP socket. Exit codes are those of sysexits(3); `check` adds 0 clear and 1 suppressed.
"""

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

import click

from bounced import __version__
from bounced.cli import addresses, exporting, keeping, overview, reading, running
from bounced.cli.base import EX_CONFIG, EX_DATA, EX_TRY_LATER, EX_UNAVAILABLE, EX_USAGE, Unreachable
from bounced.cli.browsing import browse
from bounced.cli.doctoring import doctor
from bounced.cli.following import follow
from bounced.cli.importing import import_
from bounced.cli.ingesting import ingest
from bounced.cli.replaying import replay_
from bounced.fault import Fault, OperatorFault, PeerFault

DEFAULT_CONFIG = "/etc/bounced/bounced.toml"
"""Read where neither -C nor the environment variable BOUNCED_CONFIG names another."""


def main() -> NoReturn:
    """Run the command, and turn every fault into one line on standard error and an exit code."""
    if isinstance(sys.stdout, TextIOWrapper):
        # What strangers wrote may be more than a terminal's alphabet.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        # Without standalone mode click returns the code of ctx.exit() instead of raising it.
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(EX_USAGE)
    except BrokenPipeError:
        # The reader left (`| head`); the interpreter's last flush must not complain of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Fault as fault:
        click.echo(f"bounced: {fault}", err=True)
        if isinstance(fault, OperatorFault):
            click.echo(f"  {fault.hint}", err=True)
        sys.exit(_exit_code(fault))


def _exit_code(fault: Fault) -> int:
    match fault:
        case OperatorFault():
            return EX_CONFIG
        case Unreachable():
            return EX_UNAVAILABLE
        case PeerFault():
            return EX_DATA
        case _:
            return EX_TRY_LATER


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-C", "config_file", metavar="FILE", envvar="BOUNCED_CONFIG", default=DEFAULT_CONFIG, show_default=True, help="Configuration."
)
@click.version_option(__version__, message="bounced %(version)s")
@click.pass_context
def cli(context: click.Context, config_file: str) -> None:
    """Take bounces, find out who bounced and why, and tell every mailer whom not to mail."""
    context.obj = Path(config_file)


for _command in (
    *(running.serve, running.try_, running.rotate_key, running.config_),
    *(addresses.check, addresses.why, addresses.list_, exporting.export, addresses.sign, addresses.verify),
    *(addresses.block, addresses.release, addresses.delivered, addresses.forget),
    *(overview.stats, overview.backscatter, overview.incidents, reading.explain_, reading.unmatched),
    *(browse, ingest, follow, import_, replay_, doctor, keeping.backup, keeping.restore),
):
    cli.add_command(_command)
