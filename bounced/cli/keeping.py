"""The commands that keep the database safe: backup, restore.

For: whoever operates the daemon. Never: a copy that was not read as a whole before it is called good.
"""

import os
from contextlib import suppress
from pathlib import Path

import click

from bounced import config
from bounced.cli.base import fresh, octets
from bounced.fault import OperatorFault


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.pass_obj
def backup(config_file: Path, file: Path) -> None:
    """Write a copy of the database to FILE, while the daemon goes on. All that it had acknowledged is in it."""
    from bounced.store.copies import verify  # noqa: PLC0415 - see running._serve
    from bounced.store.files import sync_directory  # noqa: PLC0415

    draft = file.with_name(f"{file.name}.part")
    try:
        with fresh(draft) as copy:
            copy.writelines(octets(config_file, "/v1/backup"))
            copy.flush()
            os.fsync(copy.fileno())
        verify(draft)
        draft.replace(file)
        sync_directory(file)
    except OSError as error:
        raise OperatorFault(f"cannot write {file}: {error.strerror}", "choose another place for it") from None
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()
    click.echo(f"{file}: {file.stat().st_size >> 10} KiB, read as a whole and sound")
    click.echo(f"keep the keys with it: {config.load(config_file).return_path.key_file}")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def restore(config_file: Path, file: Path) -> None:
    """Put a backup in the place of the database. The daemon must be stopped; the old database is kept beside it."""
    from bounced.store.copies import restore as put_in_place  # noqa: PLC0415 - see running._serve

    settings = config.load(config_file)
    try:
        old = put_in_place(file, settings.store.database)
    except OSError as error:
        raise OperatorFault(f"cannot restore {settings.store.database}: {error.strerror}", "run it as root, on a disk with room") from None
    click.echo(f"{settings.store.database}: restored from {file}")
    if old is not None:
        click.echo(f"the old database is {old}; what came after the backup is known there alone")
    if not settings.return_path.key_file.exists():
        click.echo(f"restore the keys too before you start: {settings.return_path.key_file}", err=True)
