"""One line asks, the answer ends with the connection: for Exim's ${readsocket}, and for every language that can open a socket.

For: `check ADDRESS` and `sign ADDRESS`, with a stream of mail after an underscore where it is not the default one (`check_news ADDRESS`);
and `checks`, after which every line is an address. Never: sockets, a look-up, or a decision.

The answer is one line without its end, since Exim would keep a newline and write it into the SMTP command that it makes of a signed
return path. Its first word is what a recipe can match: `suppressed REASON`, `clear` or `trouble REASON`; a signed return path stands alone.
An empty answer is none: the daemon died while it was asked, and only a recipe that demands `clear` is safe then.

After `checks` each answer is a line with its end, in the order of the addresses, and the connection stays open: whoever counts fewer
answers than addresses knows that the daemon died.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import assert_never

from bounced.query import Answer, Answers, Check, CheckMany, Clear, Garbled, Question, Sign, SignedPath, Suppressed, Trouble
from bounced.scope import DEFAULT_SCOPE, Scope

CLEAR_LINE = b"clear\n"
"""The reply that means clear, among many."""

MAX_REQUEST = 4096
"""Octets of the line with its end."""


class Line:
    """One connection's side of the protocol: what comes after the first line is not read, unless that was `checks`."""

    def __init__(self) -> None:
        """Begin with nothing heard."""
        self._kept = bytearray()
        self._asked = False
        self._scope: Scope | None = None

    def feed(self, octets: bytes) -> Sequence[Question]:
        """Take the next octets of the connection."""
        if self._asked:
            return ()
        searched = len(self._kept)
        self._kept += octets
        if self._scope is None:
            end = self._kept.find(b"\n", searched)
            if end < 0 and len(self._kept) < MAX_REQUEST:
                return ()
            if not 0 <= end < MAX_REQUEST:
                return (self._end(_TOO_LONG),)
            line = bytes(self._kept[:end])
            if (scope := _checks(line)) is None:
                return (self._end(_question(line)),)
            self._scope, searched = scope, 0
            del self._kept[: end + 1]
        return self._many(self._scope, searched)

    def render(self, question: Question, answer: Answer) -> bytes:  # noqa: ARG002 - every codec renders so
        """Return the octets of the answer to `question`."""
        match answer:
            case Answers():
                return b"".join(reply_lines(answer))
            case SignedPath(return_path=return_path):
                return return_path.encode("ascii", "replace")
            case Suppressed() | Clear() | Trouble():
                return _reply(answer)
            case _:
                assert_never(answer)

    def closes(self, question: Question) -> bool:
        """Tell whether the connection is closed after the answer to `question`: always, but among many."""
        return not isinstance(question, CheckMany)

    def _many(self, scope: Scope, searched: int) -> Sequence[Question]:
        """Ask about the addresses whose lines are complete."""
        end = self._kept.rfind(b"\n", searched) + 1
        questions: list[Question] = [CheckMany(bytes(self._kept[:end]), scope)] if end else []
        del self._kept[:end]
        if len(self._kept) >= MAX_REQUEST:
            questions.append(self._end(_TOO_LONG))
        return questions

    def _end(self, question: Question) -> Question:
        self._asked = True
        self._kept.clear()
        return question


def reply_lines(answers: Answers) -> list[bytes]:
    """Return the reply to each of many, with its end; one object for all that are clear."""
    lines = [CLEAR_LINE] * answers.count
    for place, other in answers.others.items():
        lines[place] = _reply(other) + b"\n"
    return lines


def _reply(answer: Suppressed | Clear | Trouble) -> bytes:
    match answer:
        case Suppressed(text=text):
            return _suppressed(text)
        case Clear():
            return b"clear"
        case Trouble(reason=reason):
            return f"trouble {reason}".encode("ascii", "replace")
        case _:
            assert_never(answer)


@lru_cache(maxsize=4096)
def _suppressed(text: str) -> bytes:
    return f"suppressed {text}".encode("ascii", "replace")


_TOO_LONG = Garbled(f"the line is longer than {MAX_REQUEST} octets")


def _checks(line: bytes) -> Scope | None:
    """Return the stream of `checks`; None where the line is another one."""
    verb, _, scope_name = line.decode("ascii", "replace").removesuffix("\r").partition("_")
    return (Scope(scope_name) if scope_name else DEFAULT_SCOPE) if verb == "checks" else None


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
            return Garbled("the verb is none of check, checks and sign")
