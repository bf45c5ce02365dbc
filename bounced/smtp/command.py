"""Commands as an SMTP client writes them (RFC 5321 section 4.1; RFC 6531, 6152 and 1870 for the parameters).

For: reading the paths and parameters of MAIL and RCPT from hostile text. Never: judging whom an address concerns; changing an address.

Nothing here raises anything but CommandError, and no text that passes holds a control character or a lone surrogate.
"""

import ipaddress
import re
from dataclasses import dataclass

from bounced.address import AddressError, Mailbox
from bounced.fault import PeerFault
from bounced.status import Reply, StatusCode

MAX_PATH = 320
"""Octets of a path, more than RFC 5321 section 4.5.3.1.3 asks for: a reverse-path is only noted, and too short a limit loses a bounce."""

# Possessive, so that no text makes it try twice. The route is RFC 5321's A-d-l; quotes may hold anything printable.
_PATH = re.compile(r'<(?P<route>@[^<>":\s]*+:)?+(?P<mailbox>(?:[^<>"\s]|"(?:[^"\\]|\\.)*+")*+)>(?P<rest>.*)')
_USUAL_RECIPIENT = re.compile(rb"TO:<([A-Za-z0-9+=._-]{1,128}@[A-Za-z0-9.-]{1,128})>")  # the same, for what nearly every client says
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?")
_XTEXT = re.compile(rb"\+([0-9A-Fa-f]{2})")  # RFC 3461 section 4
_SIZE = re.compile(r"[0-9]{1,20}")


class CommandError(PeerFault):
    """The client's command is refused with `reply`, which is our text alone."""

    def __init__(self, code: int, status: str, text: str) -> None:
        """Make the reply: its code, the enhanced status as text, and our words."""
        super().__init__(text)
        self.reply = Reply(code, StatusCode.parse(status), text)


@dataclass(frozen=True, slots=True)
class Mail:
    """A MAIL command. `reverse_path` is None for the null one, `size` the declared octets or 0, `utf8` whether SMTPUTF8 stood there."""

    reverse_path: str | None
    size: int = 0
    utf8: bool = False


_NULL = Mail(None)


@dataclass(frozen=True, slots=True)
class Forwarded:
    """Whom our own mail server got a mail from: its IP address and the name it gave; None where that is not known."""

    client: str | None = None
    helo: str | None = None


def text_of(argument: bytes) -> str:
    """Return a command's argument as text. Raises CommandError where it is none, or where it holds a control character."""
    try:
        text = argument.decode()
    except UnicodeDecodeError:
        raise CommandError(501, "5.5.2", "octets that are not text") from None
    if not text.isprintable():
        raise CommandError(501, "5.5.2", "control characters are not taken")
    return text


def read_mail(argument: bytes, *, extended: bool) -> Mail:
    """Read what stands after MAIL; `extended` tells whether the client said EHLO or LHLO. Raises CommandError."""
    if argument == b"FROM:<>":
        return _NULL
    _, mailbox, rest = _path(argument, "FROM:", 501)
    size, utf8 = 0, False
    for keyword, value in _parameters(rest, extended=extended):
        match keyword, value:
            case "SIZE", str() if _SIZE.fullmatch(value):
                size = int(value)
            case "BODY", str() if value.upper() in {"7BIT", "8BITMIME"}:
                pass
            case "SMTPUTF8", None:
                utf8 = True
            case "SIZE" | "BODY" | "SMTPUTF8", _:
                raise CommandError(501, "5.5.4", "the parameter's value is malformed")
            case _:
                raise CommandError(555, "5.5.4", "a parameter that was not offered")
    _check_alphabet(mailbox, utf8=utf8)
    return Mail(mailbox or None, size, utf8)


def read_recipient(argument: bytes, *, extended: bool, utf8: bool) -> str:
    """Read what stands after RCPT, and return the forward-path; `utf8` as MAIL said it. Raises CommandError."""
    if usual := _USUAL_RECIPIENT.fullmatch(argument):
        return usual[1].decode("ascii")
    route, mailbox, rest = _path(argument, "TO:", 553)
    if _parameters(rest, extended=extended):
        raise CommandError(555, "5.5.4", "a parameter that was not offered")
    if route or not mailbox:
        # A route asks us to relay; a returned mail has none, since its recipient is the reverse-path that we wrote.
        raise CommandError(553, "5.1.3", "the address is no mailbox")
    _check_alphabet(mailbox, utf8=utf8)
    return _unquoted(mailbox) if mailbox.startswith('"') else mailbox


def read_xforward(argument: bytes, before: Forwarded) -> Forwarded:
    """Read what stands after XFORWARD, over what an earlier one said (postfix.org/XFORWARD_README.html). Raises CommandError."""
    client, helo = before.client, before.helo
    for word in text_of(argument).split():
        name, equals, value = word.partition("=")
        if not equals:
            raise CommandError(501, "5.5.4", "expected NAME=value")
        known = None if value.upper() in {"", "[UNAVAILABLE]", "[TEMPUNAVAIL]"} else text_of(_XTEXT.sub(_octet, value.encode()))
        match name.upper():
            case "ADDR":
                client = known and _ip_address(known)
            case "HELO":
                helo = known and known[:255]
            case _:
                pass  # what we did not ask for
    return Forwarded(client, helo)


def _octet(found: re.Match[bytes]) -> bytes:
    return bytes.fromhex(found[1].decode())


def _ip_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text[5:] if text[:5].upper() == "IPV6:" else text))
    except ValueError:
        raise CommandError(501, "5.5.4", "ADDR is no IP address") from None


def _path(argument: bytes, keyword: str, code: int) -> tuple[str | None, str, str]:
    """Return the source route, the mailbox and what stands after the path."""
    text = text_of(argument)
    if text[: len(keyword)].upper() != keyword:
        raise CommandError(501, "5.5.4", f"expected {keyword}<address>")
    found = _PATH.fullmatch(text[len(keyword) :].lstrip(" "))
    if not found:
        raise CommandError(code, "5.1.3" if code == 553 else "5.1.7", "the address is no path")
    mailbox = found["mailbox"]
    if len(mailbox.encode()) > MAX_PATH:
        raise CommandError(code, "5.1.3" if code == 553 else "5.1.7", "the address is too long")
    return found["route"], mailbox, found["rest"]


def _parameters(rest: str, *, extended: bool) -> list[tuple[str, str | None]]:
    if not rest.strip(" "):
        return []
    if not extended or not rest.startswith(" "):
        raise CommandError(555 if not extended else 501, "5.5.4", "nothing was expected after the address")
    found = [_PARAMETER.fullmatch(word) for word in rest.split()]
    parameters = [(word[1].upper(), word[2]) for word in found if word]
    if len(parameters) < len(found):
        raise CommandError(501, "5.5.4", "a parameter is malformed")
    return parameters


def _check_alphabet(mailbox: str, *, utf8: bool) -> None:
    if not utf8 and not mailbox.isascii():
        raise CommandError(553, "5.6.7", "an address outside ASCII needs SMTPUTF8")


def _unquoted(mailbox: str) -> str:
    """Return the mailbox without quotes that it does not need: both spellings are one mailbox (RFC 5321 section 4.1.2)."""
    try:
        return str(Mailbox.parse(mailbox))
    except AddressError:
        raise CommandError(553, "5.1.3", "the address is no mailbox") from None
