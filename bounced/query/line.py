"""One line asks, the answer ends with the connection: for Exim's ${readsocket}, and for every language that can open a socket.

For: `check ADDRESS` and `sign ADDRESS`, with a stream of mail after an underscore where it is not the default one (`check_news ADDRESS`).
Never: sockets, a look-up, or a decision.

The answer is one line without its end, since Exim would keep a newline and write it into the SMTP command that it makes of a signed
return path. Its first word is what a recipe can match: `suppressed REASON`, `clear` or `trouble REASON`; a signed return path stands alone.
An empty answer is none: the daemon died while it was asked, and only a recipe that demands `clear` is safe then.
"""

from collections.abc import Sequence
from typing import assert_never

from bounced.query import Answer, Check, Clear, Garbled, Question, Sign, SignedPath, Suppressed, Trouble
from bounced.scope import DEFAULT_SCOPE, Scope

MAX_REQUEST = 4096
"""Octets of the line with its end."""


class Line:
    """One connection's side of the protocol: what comes after the first line is not read."""

    def __init__(self) -> None:
        """Begin with nothing heard."""
        self._kept = bytearray()
        self._asked = False

    def feed(self, octets: bytes) -> Sequence[Question]:
        """Take the next octets of the connection."""
        if self._asked:
            return ()
        searched = len(self._kept)
        self._kept += octets[:MAX_REQUEST]
        end = self._kept.find(b"\n", searched)
        if end < 0 and len(self._kept) < MAX_REQUEST:
            return ()
        self._asked = True
        line = bytes(self._kept[:end])
        self._kept.clear()
        if not 0 <= end < MAX_REQUEST:
            return (Garbled(f"the line is longer than {MAX_REQUEST} octets"),)
        return (_question(line),)

    def render(self, question: Question, answer: Answer) -> bytes:  # noqa: ARG002 - every codec renders so
        """Return the octets of the answer to `question`."""
        match answer:
            case Suppressed(text=text):
                return f"suppressed {text}".encode("ascii", "replace")
            case Clear():
                return b"clear"
            case SignedPath(return_path=return_path):
                return return_path.encode("ascii", "replace")
            case Trouble(reason=reason):
                return f"trouble {reason}".encode("ascii", "replace")
            case _:
                assert_never(answer)

    def closes(self, question: Question) -> bool:  # noqa: ARG002 - every codec tells so
        """Tell whether the connection is closed after the answer to `question`: always."""
        return True


def _question(line: bytes) -> Question:
    request, _, address = line.decode("utf-8", "surrogateescape").removesuffix("\r").partition(" ")
    verb, _, scope_name = request.partition("_")
    if not address or b"\0" in line:
        return Garbled("the line is not a verb, a space and an address")
    # A stream that no configuration declares is not refused here: whoever answers knows them.
    scope = Scope(scope_name) if scope_name else DEFAULT_SCOPE
    match verb:
        case "check":
            return Check(address, scope)
        case "sign":
            return Sign(address, scope)
        case _:
            return Garbled("the verb is neither check nor sign")
