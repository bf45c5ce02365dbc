"""Commands that run the daemon and keep its files: serve, try, rotate-key, config.

For: whoever operates it. Never: a question to a running daemon.
"""

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click

from bounced import config
from bounced.keyfile import load_or_make, rotate


@click.command()
@click.option("--role", type=click.Choice(["all", "smtp", "query"]), default="all", show_default=True, help="What this process does.")
@click.pass_obj
def serve(config_file: Path, role: str) -> None:
    """Run the daemon in the foreground, until SIGTERM.

    One process does it all; or two share the work: `smtp` takes bounces and writes, `query` answers mailers and commands, also while the
    other one is busy, started again or dead.
    """
    _serve(config_file, lambda _: None, role)


@click.command("try")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path("var"))
@click.option("--port", type=click.IntRange(1, 65535), help="Port on 127.0.0.1 for bounces; without it the last one, at first 2525.")
def try_(directory: Path, port: int | None) -> None:
    """Try it out, on loopback. Runs a daemon for bounces.example.net and keeps everything below DIRECTORY."""
    file = directory / "bounced.toml"
    if not file.exists():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_text(TRY_CONFIG.format(port=port or 2525))
    elif port:
        file.write_text(re.sub(r'"127\.0\.0\.1:\d+"', f'"127.0.0.1:{port}"', file.read_text()))
    _serve(file, lambda places: click.echo(_try_words(file, places)))


TRY_CONFIG = """\
# Made by `bounced try`: everything on loopback and below this directory. The sockets' names are relative to this file.
[return_path]
domains = ["bounces.example.net"]
key_file = "keys"

[smtp]
listen = ["127.0.0.1:{port}"]

[lmtp]
socket = "lmtp.sock"

[query]
socketmap = "socketmap.sock"
policy = "policy.sock"
line = "line.sock"
milter = "milter.sock"
http = "http.sock"

[store]
database = "bounced.db"

[kept]
postmaster = "postmaster"
unread = "unread"
"""


def _try_words(file: Path, places: Sequence[str]) -> str:
    command = f"{_program()} -C {file}"
    smtp = next((place.removeprefix("smtp ") for place in places if place.startswith("smtp ")), "127.0.0.1:2525")
    return "\n".join(
        (
            "bounced listens:",
            *(f"  {place}" for place in places),
            "In another terminal, in this directory, sign a return path, send a bounce to it, and ask:",
            f"  {command} sign joe@example.org",
            f'  python3 config/try/send_bounce.py {smtp} "$({command} sign joe@example.org)"',
            f'  {command} check joe@example.org; echo "exit code $? (1 is suppressed)"',
            f"  {command} why joe@example.org",
            f"  {command} release joe@example.org --reason 'only a try'",
            "Stop with Ctrl-C.",
        )
    )


def _program() -> str:
    """Return how this program was called, as it can be typed again."""
    called = Path(sys.argv[0])
    if called.name != "bounced":
        return f"{sys.executable} -m bounced"
    return os.path.relpath(called) if called.is_relative_to(Path.cwd()) else str(called)


def _serve(config_file: Path, ready: Callable[[Sequence[str]], None], role: str = "all") -> None:
    # Imported late: the other commands start in a third of the time without the daemon's libraries.
    import uvloop  # noqa: PLC0415

    if role != "query":
        # The rules first: what was needed only to read them, 6 MiB, is free again for all that follows.
        from bounced.outcome.ruleset import RuleSet  # noqa: PLC0415

        RuleSet.builtin()
    # structlog loads rich where it finds it, for tracebacks in colour, which no log of ours has: 5 MiB of the daemon's 43.
    with _hidden("rich"):
        import structlog  # noqa: F401, PLC0415

    from bounced.daemon import Role  # noqa: PLC0415
    from bounced.daemon.serving import serve as serve_for_ever  # noqa: PLC0415

    uvloop.run(serve_for_ever(config_file, ready, Role(role)))


@contextlib.contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Let nobody within find a module that is not loaded yet."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # as importlib documents it
    try:
        yield
    finally:
        del sys.modules[module]


@click.command("rotate-key")
@click.pass_obj
def rotate_key(config_file: Path) -> None:
    """Make a new key. It signs from the next reload (HUP) on; the old ones still verify. Makes the key file where it is missing."""
    file = config.load(config_file).return_path.key_file
    ring = rotate(file) if file.exists() else load_or_make(file)
    click.echo(f"key {ring.keys[0].id} signs, {len(ring.keys)} verify; reload the daemon to use it")


@click.group("config")
def config_() -> None:
    """Check and show the configuration."""


@config_.command("check")
@click.pass_obj
def config_check(config_file: Path) -> None:
    """Say what is wrong with the configuration. Exit code 78 if anything is."""
    from bounced.daemon.files import certificate_of, rules_of  # noqa: PLC0415 - see _serve

    found = config.load(config_file)
    rules_of(found)
    certificate = certificate_of(found)
    click.echo(f"{config_file}: good")
    if certificate:
        left = certificate.days_left(time.time())
        until = f"expires on {certificate.expires}, in {left} days" if left >= 0 else f"expired on {certificate.expires}"
        click.echo(f"smtp.tls_certificate: for {' '.join(certificate.names) or 'no name'}, {until}")


@config_.command("show")
@click.option("-n", "only_changed", is_flag=True, help="Only what differs from the defaults.")
@click.pass_obj
def config_show(config_file: Path, only_changed: bool) -> None:
    """Print every setting as it is in force."""
    click.echo(config.show(config.load(config_file), only_changed), nl=False)


@config_.command("reference")
def config_reference() -> None:
    """Print the annotated sample configuration."""
    click.echo(config.reference(), nl=False)
