"""What returned mail says, in the words of RFC 3464, 5965, 6522, 3834 and 8098.

For: the nouns that readers produce and outcome judges. Never: a judgement (hard, soft), or the question whose mail it was.
"""

from enum import StrEnum
from typing import Protocol, Self

import msgspec

from bounced.status import Reply, StatusCode


class Action(StrEnum):
    """What the reporting mail system did for one recipient (RFC 3464 section 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


class RecipientStatus(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one recipient (RFC 3464 section 2.3).

    Addresses are as written in the report, without address type and brackets. `reply` is the SMTP reply that decided, wherever it stood
    (Diagnostic-Code, transcript, prose). `diagnostic` is all text that explains this recipient's fate, decoded, unfolded, bounded, without
    control characters: the evidence that outcome reads.
    """

    action: Action
    final_recipient: str | None = None
    original_recipient: str | None = None
    status: StatusCode | None = None
    reply: Reply | None = None
    diagnostic: str = ""
    remote_mta: str | None = None

    @property
    def address(self) -> str | None:
        """The mailbox that failed: the final recipient; the original one where the final is a name inside the reporting system only.

        What we mailed may be an alias of many: then each of them has a fate of its own under a name of its own.
        """
        final, original = self.final_recipient, self.original_recipient
        domain = (final or "").rpartition("@")[2]
        return final if original is None or "." in domain or domain.startswith("[") else original


class Returned(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What came back of the original message (RFC 6522: third part): only the headers that prove or name something.

    `return_path` is the envelope sender as the original's headers or the report's fields tell it; `recipients` are the mailboxes of its
    To:. `received` are its Received lines, newest first, at most ten. Everything here was written by strangers: evidence, never proof.
    """

    message_id: str | None = None
    return_path: str | None = None
    sender: str | None = None
    recipients: tuple[str, ...] = ()
    received: tuple[str, ...] = ()

    def read(self) -> Self:
        """Return itself: it was read already."""
        return self


class Copy(Protocol):
    """What came back of the original message, read by who asks: of most reports nobody does."""

    def read(self) -> Returned | None:
        """Read it; None if it proves and names nothing. Total."""
        ...


class DeliveryReport(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery status notification, or a bounce of some older or stranger kind (`standard` False) brought into its words."""

    reader: str
    standard: bool
    recipients: tuple[RecipientStatus, ...]
    reporting_mta: str | None = None
    original_envelope_id: str | None = None
    copy: Copy | None = None

    @property
    def returned(self) -> Returned | None:
        """What came back of the original message."""
        return self.copy.read() if self.copy else None


class FeedbackReport(msgspec.Struct, frozen=True, kw_only=True):
    """An abuse reporting format message (RFC 5965). `feedback_type` is lower case: abuse, fraud, auth-failure, not-spam, ..."""

    reader: str
    feedback_type: str
    recipients: tuple[str, ...] = ()
    source_ip: str | None = None
    reported_domain: str | None = None
    user_agent: str | None = None
    returned: Returned | None = None


class Automation(StrEnum):
    """What kind of automaton answered."""

    REPLY = "auto-reply"
    CHALLENGE = "challenge"
    READ_RECEIPT = "read-receipt"
    UNSUBSCRIBE = "unsubscribe"


class AutomaticReply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that no person wrote (RFC 3834, 8098): vacation, challenge, read receipt, a mailed unsubscribe."""

    reader: str
    automation: Automation


class Unrecognized(msgspec.Struct, frozen=True, kw_only=True):
    """No reader found a report in it. `reason` is one of ours, never the stranger's text. `over_limit`: a bound stopped the reading."""

    reason: str
    over_limit: bool = False


Report = DeliveryReport | FeedbackReport | AutomaticReply | Unrecognized
