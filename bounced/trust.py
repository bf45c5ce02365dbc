"""Mail without a seal of ours that an operator chose to trust: classic VERP while he migrates, reports of feedback loops.

For: reading whom such mail concerns. Never: trust that nobody asked for: without settings all of this refuses. What is taken by it is
marked as unsigned in every event, since anybody who knows an address could have written it.
"""

import hashlib
import ipaddress
from dataclasses import dataclass

from bounced.address import AddressError, AddressKey, address_key
from bounced.report import DeliveryReport, FeedbackReport, Report
from bounced.returnpath import Claims
from bounced.scope import Scope

UNDATED = 6 * 86_400
"""Seconds before its bounce at which an undated mail counts as sent: the longest that it can have been on its way (decisions/0006).

So it is older than every release and every success that may have come after it.
"""

_MARK = "unsigned-"
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class ClassicVerp:
    """A return path `prefix` user=host, as Postfix (XVERP), qmail and Mailman write it."""

    recipient: AddressKey


@dataclass(frozen=True, slots=True)
class FeedbackMailbox:
    """A mailbox that feedback loops report to (RFC 6449 section 3.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What the operator trusts, all in lower case: `verp` are prefixes of classic VERP, `feedback` mailboxes of feedback loops.

    Reports to the latter from `networks` may name the recipient themselves.
    """

    verp: tuple[str, ...] = ()
    feedback: frozenset[str] = frozenset()
    networks: tuple[_Network, ...] = ()

    def admits(self, local_part: str) -> ClassicVerp | FeedbackMailbox | None:
        """Tell what an unsealed local part at our domains is trusted as."""
        if local_part.lower() in self.feedback:
            return FeedbackMailbox()
        for prefix in self.verp:
            if local_part.lower().startswith(prefix):
                # The last =: a local part may hold one, a host name cannot.
                user, _, host = local_part[len(prefix) :].rpartition("=")
                key = _key(f"{user}@{host}")
                return None if key is None else ClassicVerp(key)
        return None

    def named_by(self, report: FeedbackReport, client: str) -> AddressKey | None:
        """Return the one recipient that a report names, if it comes from where reports are believed."""
        if len(report.recipients) != 1:
            return None
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return None
        return _key(report.recipients[0]) if any(address in network for network in self.networks) else None


def unsigned_claims(recipient: AddressKey, report: Report, content: bytes, at: int, *, way: str, scope: Scope) -> Claims:
    """Return what stands for a seal: the same for copies of one report, or for reports of one mail where they tell its Message-ID."""
    returned = report.returned if isinstance(report, DeliveryReport | FeedbackReport) else None
    mail = (returned.message_id if returned is not None and returned.message_id else "").encode("utf-8", "surrogatepass") or content
    digest = hashlib.sha256(b"%s\0%s" % (recipient.encode("utf-8", "surrogatepass"), mail)).hexdigest()
    return Claims(recipient=recipient, scope=scope, signed_at=at - UNDATED, token=_MARK + digest[:32], unsigned=way)


def _key(address: str) -> AddressKey | None:
    try:
        return address_key(address)
    except AddressError:
        return None
