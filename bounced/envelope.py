"""What SMTP told us before the content (RFC 5321 section 2.3.1).

For: carrying the envelope of one returned mail from the listener to the record. Never: the content, or a judgement.
"""

import msgspec


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """One mail object's envelope, with what is known of its sender.

    `reverse_path` is None for the null reverse-path `<>` (RFC 5321 section 4.5.5), which a bounce has. `forward_path` is the mailbox
    as the client wrote it, without brackets. `client` is the peer's IP address, or "local" on a unix socket. `received_at` is Unix
    time in seconds, UTC.
    """

    reverse_path: str | None
    forward_path: str
    client: str
    helo: str
    received_at: int
