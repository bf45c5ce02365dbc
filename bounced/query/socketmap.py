"""The socketmap protocol of Postfix and sendmail: netstrings, many questions on one connection.

For: Postfix socketmap_table(5), sendmail's socket maps, and our own client library. Never: sockets, a look-up, or a decision.

A request is the netstring of `MAP KEY`, an answer that of `OK VALUE`, `NOTFOUND ` or `TEMP REASON`. The maps, each with a stream of mail
after an underscore where it is not the default one (`access_news`): sendmail cuts the name of a map at every other mark, and would take
the rest of the name for a part of the key:

    access     an address; the value is an access(5) action          550 5.7.1 recipient is on ...
    transport  an address; the value is a transport(5) entry         error:5.7.1 recipient is on ...
    bounced    an address; the value is one word, for sendmail       suppressed
    sign       an address; the value is its signed return path       b+...+user=host@bounces.example.net
    verpsign   `b+user=host@DOMAIN`, as Postfix makes it of XVERP    b+...+user=host@bounces.example.net

Whatever is wrong is TEMP, a map that we don't have too: sendmail takes PERM for "not found", and would mail on.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import assert_never

from bounced.address import AddressError, Mailbox
from bounced.query import Answer, Answers, Aside, Check, Clear, Garbled, Question, Sign, SignedPath, Suppressed, Trouble
from bounced.scope import DEFAULT_SCOPE, Scope

MAX_REQUEST = 4096
"""Octets of one request, its length and comma among them."""

NOT_FOUND = b"9:NOTFOUND ,"
"""The reply that means clear."""

# What nearly every request is, in one go, without the comma at its end: no other in it, and no blank but the one before the key.
_USUAL = re.compile(rb"([1-9][0-9]{0,2}):(access|transport|bounced)(?:_([a-z0-9](?:[a-z0-9.-]{0,30}[a-z0-9])?))? ([!-+\--~]+@[!-+\--~]+)")
_LENGTH = re.compile(rb"(0|[1-9][0-9]{0,3}):")
_LENGTH_BEGUN = re.compile(rb"(?:0|[1-9][0-9]{0,3})?")
_VERP = re.compile(r"b\+(.+)=([^=]+)", re.IGNORECASE)
_SEALED = re.compile(r"[a-z2-7]{23}\+.+", re.IGNORECASE)


class MapCheck(Check, frozen=True):
    """A check whose answer is the value of the map `name`."""

    name: str


class Socketmap:
    """One connection's side of the protocol. Return paths are signed for XVERP senders of `domain` alone."""

    def __init__(self, domain: str) -> None:
        """Begin with nothing heard; `domain` is in lower case."""
        self._domain = domain
        self._broken = False
        self.begun = b""
        """What was heard of a request that is not whole."""

    def feed(self, octets: bytes) -> Sequence[Question]:
        """Take the next octets of the connection."""
        if self._broken:
            return ()
        questions: list[Question] = []
        heard, at = self.begun + octets if self.begun else octets, 0
        while at < len(heard) and (found := self._next(heard, at)) is not None:
            question, at = found
            questions.append(question)
            if isinstance(question, Garbled):
                self._broken, at = True, len(heard)
        self.begun = heard[at:]
        return questions

    def render(self, question: Question, answer: Answer) -> bytes:
        """Return the octets of the answer to `question`."""
        match answer:
            case Clear():
                return NOT_FOUND
            case Suppressed(text=text):
                name = question.name if isinstance(question, MapCheck) else "access"
                return _suppressed(name, text)
            case SignedPath(return_path=return_path):
                return _netstring(f"OK {return_path}")
            case Trouble(reason=reason):
                return _netstring(f"TEMP {reason}")
            case Answers():
                return _netstring("TEMP nobody asked about many")
            case _:
                assert_never(answer)

    def closes(self, question: Question) -> bool:
        """Tell whether the connection is closed after the answer to `question`."""
        return isinstance(question, Garbled)

    def usual(self, request: bytes) -> MapCheck | None:
        """Read a request without the comma at its end; None for one that is not whole, or not as most are, which `feed` reads."""
        found = _USUAL.fullmatch(request)
        return None if found is None else _read_usual(found)

    def _next(self, heard: bytes, at: int) -> tuple[Question, int] | None:
        """Read the netstring at `at`; return it with the place of the next one, or None while it is incomplete."""
        found = _USUAL.match(heard, at)
        if found is not None and heard[found.end() : found.end() + 1] == b"," and (usual := _read_usual(found)) is not None:
            return usual, found.end() + 1
        length = _LENGTH.match(heard, at)
        if length is None:
            return None if _LENGTH_BEGUN.fullmatch(heard, at) else (Garbled("the request is no netstring"), at)
        begin = length.end()
        end = begin + int(length[1])
        if end + 1 - at > MAX_REQUEST:
            return Garbled(f"the request is longer than {MAX_REQUEST} octets"), at
        if end >= len(heard):
            return None
        if heard[end] != ord(","):
            return Garbled("the request is no netstring"), at
        return self._question(heard[begin:end]), end + 1

    def _question(self, request: bytes) -> Question:
        name, space, key = request.decode("utf-8", "surrogateescape").partition(" ")
        if not space or b"\0" in request:
            return Garbled("the request is not the name of a map, a space and a key")
        kind, _, scope_name = name.partition("_")
        # A stream that no configuration declares is not refused here: whoever answers knows them.
        scope = Scope(scope_name) if scope_name else DEFAULT_SCOPE
        match kind:
            case "access" | "transport" | "bounced":
                # Postfix asks a transport map for `*` too; an address has an @.
                return MapCheck(key, scope, kind) if "@" in key else Aside()
            case "sign":
                return Sign(key, scope)
            case "verpsign":
                recipient = self._verp_recipient(key)
                return Aside() if recipient is None else Sign(recipient, scope)
            case _:
                return Garbled("there is no such map")

    def _verp_recipient(self, key: str) -> str | None:
        """Read `b+user=host@domain`. Postfix asks for every address of a mail: None for what is no VERP of ours, or signed already."""
        try:
            verp = Mailbox.parse(key)
            found = _VERP.fullmatch(verp.local_part)
            if not found or verp.domain != self._domain or _SEALED.fullmatch(found[1]):
                return None
            return Mailbox.parse(str(Mailbox(found[1], found[2]))).key
        except AddressError:
            return None


def _read_usual(found: re.Match[bytes]) -> MapCheck | None:
    length, name, scope_name, key = found.groups()
    if found.end() - found.start(2) != int(length):
        return None
    return MapCheck(key.decode(), Scope(scope_name.decode()) if scope_name else DEFAULT_SCOPE, _NAMES[name])


_NAMES = {b"access": "access", b"transport": "transport", b"bounced": "bounced"}
_VALUES = {"access": "550 5.7.1 {}", "transport": "error:5.7.1 {}", "bounced": "suppressed"}


@lru_cache(maxsize=4096)
def _suppressed(name: str, text: str) -> bytes:
    """Return the reply, one object for all that are alike."""
    return _netstring(f"OK {_VALUES[name].format(text)}")


def _netstring(text: str) -> bytes:
    octets = text.encode("ascii", "replace")
    return b"%d:%b," % (len(octets), octets)
