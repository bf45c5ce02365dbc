"""Postfix's access policy delegation protocol (SMTPD_POLICY_README): attributes a line each, an empty line at the end.

For: `check_policy_service` among Postfix's recipient restrictions. Never: sockets, a look-up, or a decision.

Answered are requests in the RCPT state: `550 5.7.1` where the recipient is suppressed, else DUNNO, so that the later restrictions decide.
The stream of mail is Postfix's `policy_context` where that is set (3.1 and newer). We cannot tell: `451 4.3.0`, and never DUNNO;
a configured `default_action` is for a daemon that is down, and Postfix gives it by itself.
"""

from collections.abc import Sequence
from typing import assert_never

from bounced.query import Answer, Answers, Aside, Check, Clear, Garbled, Question, SignedPath, Suppressed, Trouble
from bounced.scope import DEFAULT_SCOPE, Scope

MAX_REQUEST = 16384
"""Octets of one request with all its attributes; Postfix's own are about 600, long certificate names among them some thousand."""

_END = b"\n\n"
_TOO_LONG = Garbled(f"the request is longer than {MAX_REQUEST} octets")


class PolicyDelegation:
    """One connection's side of the protocol."""

    def __init__(self) -> None:
        """Begin with nothing heard."""
        self._kept = bytearray()
        self._broken = False

    def feed(self, octets: bytes) -> Sequence[Question]:
        """Take the next octets of the connection."""
        if self._broken:
            return ()
        questions: list[Question] = []
        searched = max(0, len(self._kept) - 1)
        self._kept += octets
        while (end := self._kept.find(_END, searched)) >= 0:
            questions.append(_question(bytes(self._kept[:end])))
            del self._kept[: end + len(_END)]
            searched = 0
            if isinstance(questions[-1], Garbled):
                break
        else:
            if len(self._kept) >= MAX_REQUEST:
                questions.append(_TOO_LONG)
        if questions and isinstance(questions[-1], Garbled):
            self._broken = True
            self._kept.clear()
        return questions

    def render(self, question: Question, answer: Answer) -> bytes:  # noqa: ARG002 - every codec renders so
        """Return the octets of the answer to `question`."""
        return b"action=%b\n\n" % _action(answer).encode("ascii", "replace")

    def closes(self, question: Question) -> bool:
        """Tell whether the connection is closed after the answer to `question`."""
        return isinstance(question, Garbled)


def _question(request: bytes) -> Question:
    if len(request) + len(_END) > MAX_REQUEST:
        return _TOO_LONG
    attributes: dict[str, str] = {}
    for line in request.decode("utf-8", "surrogateescape").split("\n"):
        name, equals, value = line.partition("=")
        if not equals or "\0" in line:
            return Garbled("the request is not lines of name=value")
        attributes[name] = value
    if "request" not in attributes:
        return Garbled("the request does not say what it requests")
    recipient = attributes.get("recipient", "")
    if attributes["request"] != "smtpd_access_policy" or attributes.get("protocol_state") != "RCPT" or not recipient:
        return Aside()
    # A stream that no configuration declares is not refused here: whoever answers knows them.
    return Check(recipient, Scope(attributes.get("policy_context") or DEFAULT_SCOPE))


def _action(answer: Answer) -> str:
    match answer:
        case Suppressed(text=text):
            return f"550 5.7.1 {text}"
        case Clear():
            return "DUNNO"
        case Trouble(reason=reason):
            return f"451 4.3.0 {reason}"
        case SignedPath():
            return "451 4.3.0 nobody asked for a return path"
        case Answers():
            return "451 4.3.0 nobody asked about many"
        case _:
            assert_never(answer)
