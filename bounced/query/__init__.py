"""The one question that mailers ask, and what a wire protocol must offer.

For: the nouns between the codecs (one module each, no I/O) and the door that answers. Never: sockets, the store, or a decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bounced.scope import Scope


@dataclass(frozen=True, slots=True)
class Check:
    """May mail of this stream go to `recipient`? `recipient` is as the mailer wrote it: not yet parsed, nothing to trust."""

    recipient: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class Sign:
    """Which return path shall a mail of this stream to `recipient` have?"""

    recipient: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class Aside:
    """A request that is none of our business (another phase of SMTP, another map's key): answered "no opinion", without a look-up."""


@dataclass(frozen=True, slots=True)
class Garbled:
    """Octets that are no request. `reason` is ours, without the stranger's octets. The connection is closed after the answer."""

    reason: str


Question = Check | Sign | Aside | Garbled


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Do not mail. `text` is the reply for the sender, without code: one line of printable ASCII."""

    text: str


@dataclass(frozen=True, slots=True)
class Clear:
    """Nothing is known against mailing."""


@dataclass(frozen=True, slots=True)
class SignedPath:
    """The return path to use, `local-part@domain`."""

    return_path: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """We cannot tell: said as "temporary failure" in the protocol's words, never as clear. `reason` is ours, printable ASCII."""

    reason: str


Answer = Suppressed | Clear | SignedPath | Trouble


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
