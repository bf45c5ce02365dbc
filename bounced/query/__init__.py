"""The one question that mailers ask, and what a wire protocol must offer.

For: the nouns between the codecs (one module each, no I/O) and the door that answers. Never: sockets, the store, or a decision.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from bounced.scope import Scope


class Check(msgspec.Struct, frozen=True):
    """May mail of this stream go to `recipient`? `recipient` is as the mailer wrote it: not yet parsed, nothing to trust."""

    recipient: str
    scope: Scope


class CheckMany(msgspec.Struct, frozen=True):
    """The same of many, each as octets that end with a line feed. One that is no address has to be answered too."""

    lines: bytes
    scope: Scope


class Sign(msgspec.Struct, frozen=True):
    """Which return path shall a mail of this stream to `recipient` have?"""

    recipient: str
    scope: Scope


class Aside(msgspec.Struct, frozen=True):
    """A request that is none of our business (another phase of SMTP, another map's key): answered "no opinion", without a look-up."""


class Garbled(msgspec.Struct, frozen=True):
    """Octets that are no request. `reason` is ours, without the stranger's octets. The connection is closed after the answer."""

    reason: str


Question = Check | CheckMany | Sign | Aside | Garbled


class Suppressed(msgspec.Struct, frozen=True):
    """Do not mail. `text` is the reply for the sender, without code: one line of printable ASCII."""

    text: str


class Clear(msgspec.Struct, frozen=True):
    """Nothing is known against mailing."""


class SignedPath(msgspec.Struct, frozen=True):
    """The return path to use, `local-part@domain`."""

    return_path: str


class Trouble(msgspec.Struct, frozen=True):
    """We cannot tell: said as "temporary failure" in the protocol's words, never as clear. `reason` is ours, printable ASCII."""

    reason: str


class Answers(msgspec.Struct, frozen=True):
    """The answers to `count` questions: those that are not `Clear`, by their place. Those at `passing` may change with the time."""

    count: int
    others: Mapping[int, Suppressed | Trouble]
    passing: Collection[int] = ()


Answer = Suppressed | Clear | SignedPath | Trouble | Answers


class Codec(Protocol):
    """One connection's side of a wire protocol: octets in, questions out, answers to octets. Total: no input makes it raise.

    `feed` returns the questions that are complete, in order; it keeps at most `MAX_REQUEST` octets of an incomplete one, else Garbled.
    """

    def feed(self, octets: bytes) -> Sequence[Question]:
        """Take the next octets of the connection."""
        ...

    def render(self, question: Question, answer: Answer) -> bytes:
        """Return the octets of the answer to `question` (Aside and Garbled take Clear and Trouble)."""
        ...

    def closes(self, question: Question) -> bool:
        """Tell whether the connection is closed after the answer to `question`."""
        ...
