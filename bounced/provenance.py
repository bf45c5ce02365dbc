"""Provenance: is what came back a mail of ours, and if not, whose trouble is it.

For: telling a forged return path from an account that was stolen, and both from a bounce that comes late, with advice for each.
Never: changing a recipient: for that the token alone counts. What a report returns of a message was written by strangers and can be
made up; so the worst that it can bring about is a warning (docs/decisions/0011-signs-of-a-stolen-account.md).
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
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
    """A genuine token that is out of its time."""
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
        Provenance.COMPROMISED: "Mail seems to leave by your own servers that you did not mean to send: an account or a web form may be"
        " abused. If you did not just send far more than usual, find the messages in the mail log, change that account's credentials, and"
        " look at what else it sent. Reports of mail without a token lie in the Maildir of kept.postmaster.",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """How our own mail is known: by the `hosts` that write its Received lines, names and IP addresses; by the `domains` of its Message-IDs.

    All in lower case.
    """

    hosts: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()


def judge(proof: Claims | Refusal, returned: Returned | None, ours: Ours) -> Provenance:
    """Tell whose mail came back, from what its return path proved and what the report returned of it."""
    match proof:
        case Claims():
            return Provenance.OURS
        case Refusal.EXPIRED | Refusal.FUTURE | Refusal.FORGOTTEN:
            return Provenance.REPLAY
        case Refusal.FOREIGN | Refusal.FORGED | Refusal.UNKNOWN_KEY:
            return Provenance.COMPROMISED if returned is not None and left_here(returned, ours) else Provenance.FORGED
        case _:
            assert_never(proof)


def left_here(returned: Returned, ours: Ours) -> bool:
    """Tell whether the headers of a returned message say that it went through our servers.

    A server of ours wrote the newest Received line; or the second, and who wrote the newest had the mail from a server of ours. A forger
    adds what he likes below the line of the server that took the mail from him, and nothing above: what stands further down proves
    nothing. A Message-ID is copied by any forger, and is believed only where no Received line came back.
    """
    if not returned.received:
        return (returned.message_id or "").strip("<> \t").rpartition("@")[2].lower() in ours.domains
    newest, *before = (_Hop.read(line) for line in returned.received[:2])
    return newest.by in ours.hosts or any(hop.by in ours.hosts and _is_one(newest.from_, ours.hosts) for hop in before)


@dataclass(frozen=True, slots=True)
class _Hop:
    """A Received line (RFC 5321 section 4.4): who wrote it, and all names and addresses by which he knew whom he had it from."""

    by: str
    from_: frozenset[str]

    @classmethod
    def read(cls, line: str) -> "_Hop":
        words = [word.rstrip(".").removeprefix("ipv6:") for word in _BETWEEN.split(line.lower())]
        place = words.index("by") if "by" in words else len(words)
        return cls(words[place + 1] if place + 1 < len(words) else "", frozenset(words[:place]))


_BETWEEN = re.compile(r"[\s()\[\];,=]+")


def _is_one(names: frozenset[str], hosts: Iterable[str]) -> bool:
    """Tell whether a server of ours is among them: by an address, if one is known of us, since a name is what a client calls itself."""
    addresses = {host for host in hosts if _is_address(host)}
    return not names.isdisjoint(addresses or hosts)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
