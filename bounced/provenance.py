"""Provenance: is what came back a mail of ours, and if not, whose trouble is it.

For: telling a forged return path from an account that was stolen, and both from a bounce that merely comes twice or late, with advice for
each. Never: changing a recipient: for that the token alone counts. What a report returns of a message was written by strangers and can be
made up; so the worst that it can bring about is a warning.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import assert_never

from bounced.report import Returned
from bounced.returnpath import Claims, Refusal


class Provenance(StrEnum):
    """Whose mail came back."""

    OURS = "ours"
    REPLAY = "replay"
    """A genuine token that has told as much before, or that is out of its time."""
    FORGED = "forged"
    """Mail that we never sent, under a return path that somebody made up."""
    COMPROMISED = "compromised"
    """Mail that seems to have left our servers, though no mailer announced it."""


ADVICE: Mapping[Provenance, str] = MappingProxyType(
    {
        Provenance.OURS: "Nothing: the verdict counts.",
        Provenance.REPLAY: "Nothing: one mail counts once. If it goes on, see who sends it.",
        Provenance.FORGED: "Somebody sends mail in your name from elsewhere. Publish strict SPF (-all) and DMARC (p=reject) for the"
        " domain, and sign all your own mail with DKIM: receivers then refuse the forgeries instead of bouncing them.",
        Provenance.COMPROMISED: "Mail that no mailer announced seems to leave by your own servers: an account or a web form may be abused."
        " Look for the message in the mail log, change that account's credentials, and look at what else it sent.",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """How our own mail is known: the `hosts` that write its Received lines, the `domains` of its Message-IDs. Lower case."""

    hosts: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()


def judge(
    proof: Claims | Refusal, returned: Returned | None, ours: Ours, *, told_before: bool = False, announced: bool = True
) -> Provenance:
    """Tell whose mail came back, from what its return path proved and what the report returned of it.

    `told_before`: the token had told as much already. `announced`: a mailer asked for this token, as far as that is known.
    """
    match proof:
        case Claims():
            if not announced:
                return Provenance.COMPROMISED
            return Provenance.REPLAY if told_before else Provenance.OURS
        case Refusal.EXPIRED | Refusal.FUTURE | Refusal.FORGOTTEN:
            return Provenance.REPLAY
        case Refusal.FOREIGN | Refusal.FORGED | Refusal.UNKNOWN_KEY:
            return Provenance.COMPROMISED if returned is not None and left_here(returned, ours) else Provenance.FORGED
        case _:
            assert_never(proof)


def left_here(returned: Returned, ours: Ours) -> bool:
    """Tell whether the headers of the returned message say that it went through our servers."""
    domain = (returned.message_id or "").strip("<> \t").rpartition("@")[2].lower()
    return domain in ours.domains or any(_receiver(line) in ours.hosts for line in returned.received)


def _receiver(received: str) -> str:
    """Take the host that wrote a Received line: the word after `by` (RFC 5321 section 4.4)."""
    words = received.lower().split()
    following = (words[place + 1] for place in range(len(words) - 1) if words[place] == "by")
    return next(following, "").strip(";()[]").rstrip(".")
