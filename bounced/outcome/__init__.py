"""What a report means for the recipient: disposition, category, and the evidence for both.

For: the nouns between reading and policy. Never: thresholds, blocking, or the state of an address; that is policy's.
"""

from enum import StrEnum

import msgspec

UNMATCHED = "unmatched"
"""The rule of an outcome to which no row had anything to say."""


class Disposition(StrEnum):
    """Whose trouble it is, and for how long."""

    HARD = "hard"
    SOFT = "soft"
    BLOCKED = "blocked"
    NONE = "none"


class Category(StrEnum):
    """Why, in one word."""

    NO_SUCH_USER = "no-such-user"
    NO_SUCH_DOMAIN = "no-such-domain"
    INACTIVE = "inactive"
    MOVED = "moved"
    NOT_ACCEPTING = "not-accepting"
    MAILBOX_FULL = "mailbox-full"
    MESSAGE_TOO_LARGE = "message-too-large"
    RATE_LIMITED = "rate-limited"
    NETWORK = "network"
    EXPIRED = "expired"
    MAIL_LOOP = "mail-loop"
    SYSTEM_ERROR = "system-error"
    BLOCKED_IP = "blocked-ip"
    SPAM_CONTENT = "spam-content"
    POLICY = "policy"
    AUTH_FAILURE = "auth-failure"
    REJECTED_SENDER = "rejected-sender"
    RELAYING_DENIED = "relaying-denied"
    VIRUS = "virus"
    CONTENT_ERROR = "content-error"
    TLS_REQUIRED = "tls-required"
    COMPLAINT = "complaint"
    AUTO_REPLY = "auto-reply"
    DELIVERED = "delivered"
    UNDETERMINED = "undetermined"


class Blocker(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who refuses us, and what of ours: `name` of the list or provider, `ours` the IP address or domain, `delisting` its URL."""

    name: str
    ours: str | None = None
    delisting: str | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One recipient's fate, judged. `rule` is the id of the rule that decided; `evidence` the words or code that it matched.

    `diagnostic` is the text the judgement was made on, bounded; `status` the enhanced status code that speaks, as text.
    """

    disposition: Disposition
    category: Category
    rule: str
    evidence: str = ""
    diagnostic: str = ""
    status: str | None = None
    blocker: Blocker | None = None
