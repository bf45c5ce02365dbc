"""What the commands share: exit codes, options, words for a terminal, and the question to the daemon.

For: the modules of this package. Never: a command.
"""

import http.client
import ipaddress
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlencode

import click

from bounced import config
from bounced.fault import OperatorFault, OwnFault, PeerFault
from bounced.settings import Config

EX_USAGE, EX_DATA, EX_NO_INPUT, EX_UNAVAILABLE, EX_TRY_LATER, EX_CONFIG = 64, 65, 66, 69, 75, 78

_SECONDS = 10.0
"""How long a command waits for the daemon's answer."""

LONG_SECONDS = 600.0
"""How long it waits where the daemon has to go through much."""

Answer = dict[str, Any]
"""A JSON object, as the daemon's HTTP socket answers."""


class Unreachable(OwnFault):
    """No daemon answers on its HTTP socket."""


class Refused(PeerFault):
    """The daemon says that what was asked is wrong."""


stream = click.option("--scope", metavar="STREAM", help="The stream of mail; without it: default.")
as_json = click.option("--json", "json_", is_flag=True, help="Print one JSON object.")
NO_REASON = "not given"
reason_ = click.option("--reason", default=NO_REASON, metavar="TEXT", help="Why; kept with the event and shown by `why`.")
only_stream = click.option("--scope", metavar="STREAM", help="Only for this stream; without it: everywhere.")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(config_file: Path, method: str, path: str, words: Mapping[str, object], seconds: float = _SECONDS) -> Answer:
    """Ask the daemon, and wait so long for its answer. Raises Unreachable, Refused, OwnFault, OperatorFault."""
    with _asking(config_file, seconds) as connection:
        if method == "GET":
            connection.request("GET", f"{path}?{urlencode(words)}")
        else:
            connection.request("POST", path, json.dumps(words), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    _refuse_fault(response.status, answer)
    return dict(answer)


def octets(config_file: Path, path: str) -> Iterator[bytes]:
    """Ask the daemon for a file, and give it piece by piece. Raises what `ask` raises."""
    with _asking(config_file, LONG_SECONDS) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status != 200:
            _refuse_fault(response.status, json.loads(response.read()))
        while piece := response.read(1 << 18):
            yield piece


@contextmanager
def _asking(config_file: Path, seconds: float) -> Iterator[_UnixConnection]:
    """Give a connection to the daemon; what breaks on it is told as Unreachable, with what to do."""
    place = config.load(config_file).query.http
    if place is None:
        raise OperatorFault("query.http is empty: commands cannot reach the daemon", f"set query.http in {config_file}")
    connection = _UnixConnection(place, seconds)
    try:
        yield connection
    except PermissionError as error:
        raise Unreachable(
            f"may not ask on {place}\n  Ask as root, or join the socket's group; who is in it may also block and release."
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise Unreachable(
            f"no daemon answers on {place}: {why}\n  Does one run with {config_file}? See `systemctl status bounced`."
        ) from error
    finally:
        connection.close()


def _refuse_fault(status: int, answer: Answer) -> None:
    """Raise what the daemon says instead of an answer."""
    if status >= 500:
        raise OwnFault(plain(answer.get("detail", "the daemon could not do it")))
    if status >= 400:
        hint = f"\n  {plain(answer['hint'])}" if answer.get("hint") else ""
        raise Refused(plain(answer.get("detail", "the daemon refused it")) + hint)


def mail_places(settings: Config) -> tuple[Path | None, tuple[str, int] | None]:
    """Return where this machine takes mail: the socket for LMTP, and host and port for SMTP; None where it does not."""
    beside = settings.query.http and settings.query.http.parent / "lmtp.sock"  # where systemd's units put it
    lmtp = settings.lmtp.socket or (beside if beside and beside.is_socket() else None)
    for host, port in settings.smtp.listen:
        anywhere = ipaddress.ip_address(host).is_unspecified
        return lmtp, (("::1" if ":" in host else "127.0.0.1") if anywhere else host, port)
    return lmtp, None


def pages(config_file: Path, path: str, words: Mapping[str, str]) -> Iterator[Answer]:
    """Ask for one page after the other, until the last. Raises what `ask` raises."""
    after: dict[str, str] = {}
    while True:
        answer = ask(config_file, "GET", path, {**words, **after})
        yield answer
        if answer["next"] is None:
            return
        after = {"after": answer["next"]}


def given(**words: str | None) -> dict[str, str]:
    """Return the words that were given."""
    return {name: word for name, word in words.items() if word}


def when(at: int) -> str:
    """Return a time for people, in UTC."""
    # strftime writes the year 1, which lists have for "unknown", without its zeros.
    return f"{datetime.fromtimestamp(at, UTC).replace(tzinfo=None).isoformat(' ', 'seconds')}Z"


def plain(text: str) -> str:
    """Make strangers' words safe for a terminal: what is not printable is shown as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def fresh(path: Path) -> BinaryIO:
    """Open a new file to write, which we alone may read; what is there goes, and no link is followed. Raises OSError.

    For drafts: whoever may write to the directory could have laid a link there, or a file of his own.
    """
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def reason_of(standing: Answer) -> str:
    """Say why something is blocked: the cause, and the category where it says more."""
    cause, category = standing["cause"], standing["category"]
    return str(cause) if cause == category else f"{cause} ({category})"


def event_words(event: Answer) -> Iterator[str]:
    """Say what happened in an event, but when; safe for a terminal."""
    yield f"{event['kind']:9}"
    if event["scope"] not in ("*", "default"):
        yield f"[{event['scope']}]"
    if outcome := event.get("outcome"):
        yield f"{outcome['disposition']} {outcome['category']}"
        yield f"({' '.join(filter(None, (outcome.get('status'), 'rule ' + outcome['rule'], 'read by ' + event['reader'])))})"
        if outcome.get("diagnostic"):
            yield f'"{plain(outcome["diagnostic"])}"'
    if event.get("source"):
        yield f"{event['cause']} {event['category']} since {when(event['since'])}, from {plain(event['source'])}"
    for name in ("what", "feedback_type", "by", "reason", "final_recipient"):
        if event.get(name):
            yield f"{name.replace('_', ' ')}: {plain(event[name])}"
    if event.get("client"):
        yield f"from {event['client']}"
    if event.get("unsigned"):
        yield f"unsigned: taken as {event['unsigned']}, which you trust"
    elif event.get("signed_at"):
        yield f"for mail signed {when(event['signed_at'])}"
