"""The command `bounced`.

For: people and shell scripts: starting the daemon, asking it, explaining mail. Never: touching the database; what a command wants of a
running daemon it asks on its HTTP socket. Exit codes are those of sysexits(3); `check` adds 0 clear and 1 suppressed.
"""

import http.client
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlencode

import click

from bounced import __version__, config
from bounced.fault import Fault, OperatorFault, OwnFault, PeerFault
from bounced.keyfile import load_or_make, rotate

EX_USAGE, EX_DATA, EX_NO_INPUT, EX_UNAVAILABLE, EX_TRY_LATER, EX_CONFIG = 64, 65, 66, 69, 75, 78

DEFAULT_CONFIG = "/etc/bounced/bounced.toml"
"""Read where neither -C nor the environment variable BOUNCED_CONFIG names another."""

_SECONDS = 10.0
"""How long a command waits for the daemon's answer."""

Answer = dict[str, Any]
"""A JSON object, as the daemon's HTTP socket answers."""


class Unreachable(OwnFault):
    """No daemon answers on its HTTP socket."""


class Refused(PeerFault):
    """The daemon says that what was asked is wrong."""


def main() -> NoReturn:
    """Run the command, and turn every fault into one line on standard error and an exit code."""
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


_scope = click.option("--scope", metavar="STREAM", help="The stream of mail; without it: default.")
_as_json = click.option("--json", "json_", is_flag=True, help="Print one JSON object.")
_reason = click.option("--reason", default="not given", metavar="TEXT", help="Why; kept with the event and shown by `why`.")
_only_scope = click.option("--scope", metavar="STREAM", help="Only for this stream; without it: everywhere.")


@cli.command()
@click.pass_obj
def serve(config_file: Path) -> None:
    """Run the daemon in the foreground, until SIGTERM."""
    _serve(config_file, lambda _: None)


@cli.command("try")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path("var"))
@click.option("--port", default=2525, show_default=True, help="Port on 127.0.0.1 for bounces.")
def try_(directory: Path, port: int) -> None:
    """Try it out: run a daemon for bounces.example.net on loopback, with everything it keeps below DIRECTORY."""
    file = directory / "bounced.toml"
    if not file.exists():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.write_text(TRY_CONFIG.format(port=port))
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
            "In another terminal, sign a return path, send a bounce to it, and ask:",
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


def _serve(config_file: Path, ready: Callable[[Sequence[str]], None]) -> None:
    # Imported late: the other commands start in a third of the time without the daemon's libraries.
    import uvloop  # noqa: PLC0415

    from bounced.daemon import serve as serve_for_ever  # noqa: PLC0415

    uvloop.run(serve_for_ever(config_file, ready))


@cli.command()
@click.argument("address")
@_scope
@click.pass_obj
def sign(config_file: Path, address: str, scope: str | None) -> None:
    """Print a signed return path for one mail to ADDRESS."""
    click.echo(_ask(config_file, "POST", "/v1/sign", _given(address=address, scope=scope))["return_path"])


@cli.command()
@click.argument("local_part")
@_as_json
@click.pass_obj
def verify(config_file: Path, local_part: str, json_: bool) -> None:
    """Tell what a return path (or its LOCAL_PART) proves. Exit code 1 if nothing."""
    answer = _ask(config_file, "POST", "/v1/verify", {"local_part": local_part.rpartition("@")[0] or local_part})
    if json_:
        click.echo(json.dumps(answer))
    elif "refused" in answer:
        click.echo(f"proves nothing: {answer['refused']}")
    else:
        click.echo(f"genuine: a mail to {answer['recipient']}, stream {answer['scope']}, signed {_when(answer['signed_at'])}")
    sys.exit(1 if "refused" in answer else 0)


@cli.command()
@click.argument("address")
@_scope
@_as_json
@click.pass_obj
def check(config_file: Path, address: str, scope: str | None, json_: bool) -> None:
    """Tell whether ADDRESS may be mailed: exit code 0 clear, 1 suppressed, 64 and above: could not tell."""
    answer = _ask(config_file, "GET", "/v1/check", _given(address=address, scope=scope))
    if json_:
        click.echo(json.dumps(answer))
    else:
        click.echo(f"suppressed: {answer['text']}" if answer["suppressed"] else "clear")
    sys.exit(1 if answer["suppressed"] else 0)


@cli.command()
@click.argument("address")
@_as_json
@click.pass_obj
def why(config_file: Path, address: str, json_: bool) -> None:
    """Show what is known of ADDRESS: how it stands, every event with its words, and what lifts a block."""
    answer = _ask(config_file, "GET", "/v1/why", {"address": address})
    click.echo(json.dumps(answer) if json_ else "\n".join(_why_lines(answer)))


def _why_lines(answer: Answer) -> Iterator[str]:
    blocks = [standing for standing in answer["standings"] if standing["cause"]]
    yield f"{_plain(answer['address'])}: {'suppressed' if answer['suppressed'] else 'clear'}"
    for standing in answer["standings"]:
        where = "everywhere" if standing["scope"] == "*" else f"in stream {standing['scope']}"
        if standing["cause"]:
            until = f", until {_when(standing['until'])}" if standing["until"] else ""
            yield f"  blocked {where} since {_when(standing['since'])}{until}: {standing['cause']} ({standing['category']})"
        for incident in standing["held"]:
            yield f"  a verdict is held by incident {incident}: it blocks nobody until it is confirmed"
        if standing["strikes"]:
            yield f"  {standing['strikes']} soft bounce{'s' if standing['strikes'] > 1 else ''} in a row"
        if standing["released_at"]:
            yield f"  released {where} {_when(standing['released_at'])}: mail signed before counts no more"
    for event in answer["events"]:
        yield f"  {_when(event['at'])}  {' '.join(_event_words(event))}"
    if blocks:
        yield "  to lift it: bounced release ADDRESS --reason TEXT"
    elif not answer["events"]:
        yield "  nothing has happened to it"


def _event_words(event: Answer) -> Iterator[str]:
    yield f"{event['kind']:9}"
    if event["scope"] not in ("*", "default"):
        yield f"[{event['scope']}]"
    if outcome := event.get("outcome"):
        yield f"{outcome['disposition']} {outcome['category']}"
        yield f"({' '.join(filter(None, (outcome.get('status'), 'rule ' + outcome['rule'], 'read by ' + event['reader'])))})"
        if outcome.get("diagnostic"):
            yield f'"{_plain(outcome["diagnostic"])}"'
    for name in ("what", "feedback_type", "by", "reason", "final_recipient"):
        if event.get(name):
            yield f"{name.replace('_', ' ')}: {_plain(event[name])}"
    if event.get("client"):
        yield f"from {event['client']}"
    if event.get("signed_at"):
        yield f"for mail signed {_when(event['signed_at'])}"


@cli.command()
@click.argument("address")
@_only_scope
@_reason
@click.pass_obj
def block(config_file: Path, address: str, scope: str | None, reason: str) -> None:
    """Put ADDRESS on the list by hand."""
    _ask(config_file, "POST", "/v1/block", _given(address=address, scope=scope, reason=reason))
    click.echo(f"blocked: {_plain(address)}")


@cli.command()
@click.argument("address")
@_only_scope
@_reason
@click.pass_obj
def release(config_file: Path, address: str, scope: str | None, reason: str) -> None:
    """Take ADDRESS off the list; bounces of mail sent before count no more."""
    _ask(config_file, "POST", "/v1/release", _given(address=address, scope=scope, reason=reason))
    click.echo(f"released: {_plain(address)}")


@cli.command()
@click.argument("address")
@_scope
@click.pass_obj
def delivered(config_file: Path, address: str, scope: str | None) -> None:
    """Tell that a mail to ADDRESS arrived: a run of soft bounces ends."""
    _ask(config_file, "POST", "/v1/delivered", _given(address=address, scope=scope))
    click.echo(f"noted: {_plain(address)}")


@cli.command()
@_as_json
@click.pass_obj
def stats(config_file: Path, json_: bool) -> None:
    """Show what was refused or repeated, by day and source."""
    answer = _ask(config_file, "GET", "/v1/stats", {})
    if json_:
        click.echo(json.dumps(answer))
        return
    for row in answer["tallies"]:
        click.echo(f"{row['day']}  {row['what']:12} {row['count']:>9}  {_plain(row['source'])}")
    if not answer["tallies"]:
        click.echo("nothing was refused")


@cli.command("explain")
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR|-...")
@click.option("--json", "json_", is_flag=True, help="One JSON object a message and line.")
@click.pass_obj
def explain_(config_file: Path, paths: Sequence[str], json_: bool) -> None:
    """Tell what every stage makes of messages; with a directory, of all files below it. Changes nothing."""
    from bounced.daemon import rules_of  # noqa: PLC0415 - see _serve
    from bounced.explain import as_json, as_text, explain  # noqa: PLC0415
    from bounced.outcome.ruleset import RuleSet  # noqa: PLC0415

    rules = rules_of(config.load(config_file)) if config_file.exists() else RuleSet.builtin()
    for name, content in _messages(paths):
        explanation = explain(content, rules)
        click.echo(json.dumps(as_json(explanation, name), ensure_ascii=True) if json_ else f"{_plain(name)}\n{as_text(explanation)}")


def _messages(paths: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Give each message with its name: as given for a file, as below DIR for what a directory holds."""
    for given in paths:
        if given == "-":
            yield given, sys.stdin.buffer.read()
            continue
        root = Path(given)
        try:
            if root.is_dir():
                files = sorted(path for path in root.rglob("*") if path.is_file())
                yield from ((path.relative_to(root).as_posix(), path.read_bytes()) for path in files)
            else:
                yield given, root.read_bytes()
        except OSError as error:
            click.echo(f"bounced: cannot read {_plain(given)}: {error.strerror}", err=True)
            sys.exit(EX_NO_INPUT)


@cli.command("rotate-key")
@click.pass_obj
def rotate_key(config_file: Path) -> None:
    """Make a new key that signs from the next reload (HUP) on; the old ones still verify. Makes the key file where it is missing."""
    file = config.load(config_file).return_path.key_file
    ring = rotate(file) if file.exists() else load_or_make(file)
    click.echo(f"key {ring.keys[0].id} signs, {len(ring.keys)} verify; reload the daemon to use it")


@cli.group("config")
def config_() -> None:
    """Check and show the configuration."""


@config_.command("check")
@click.pass_obj
def config_check(config_file: Path) -> None:
    """Read the configuration and say what is wrong with it; exit code 78 if anything is."""
    from bounced.daemon import rules_of  # noqa: PLC0415 - see _serve

    rules_of(config.load(config_file))
    click.echo(f"{config_file}: good")


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


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(str(self._path))


def _ask(config_file: Path, method: str, path: str, words: dict[str, str]) -> Answer:
    """Ask the daemon. Raises Unreachable, Refused, OwnFault, OperatorFault."""
    place = config.load(config_file).query.http
    if place is None:
        raise OperatorFault("query.http is empty: commands cannot reach the daemon", f"set query.http in {config_file}")
    connection = _UnixConnection(place)
    try:
        if method == "GET":
            connection.request("GET", f"{path}?{urlencode(words)}")
        else:
            connection.request("POST", path, json.dumps(words), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except PermissionError as error:
        raise Unreachable(f"may not ask on {place}: join the socket's group, or ask as root") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(f"no daemon answers on {place}: {getattr(error, 'strerror', None) or type(error).__name__}") from error
    finally:
        connection.close()
    if response.status >= 500:
        raise OwnFault(_plain(answer.get("error", "the daemon could not do it")))
    if response.status >= 400:
        raise Refused(_plain(answer.get("error", "the daemon refused it")))
    return dict(answer)


def _given(**words: str | None) -> dict[str, str]:
    return {name: word for name, word in words.items() if word}


def _when(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _plain(text: str) -> str:
    """Make strangers' words safe for a terminal: what is not printable is shown as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
