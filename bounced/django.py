"""An e-mail backend for Django: mail goes to nobody on the list, and with a signed return path.

For: `EMAIL_BACKEND = "bounced.django.EmailBackend"`, around the backend that really sends. Never: mail to somebody because it could not be
told whether he is on the list, unless the settings say so.

    BOUNCED = {
        "BACKEND": "django.core.mail.backends.smtp.EmailBackend",   # the backend that sends
        "SOCKET": "/run/bounced/socketmap.sock",
        "SCOPE": "default",                                         # the stream; a message's attribute bounced_scope goes before it
        "SIGN": True,               # a return path for each recipient: he gets a copy of his own. False where the backend is no SMTP
        "WHEN_UNKNOWN": "raise",    # "send": fail open
        "DEADLINE": 0.25,           # seconds
    }

A message that is left without recipients is not sent and not counted. What was left out stands in `message.bounced_suppressed`, the reply
by address.
"""

import copy
from collections.abc import Iterator, Sequence
from email.utils import make_msgid, parseaddr
from typing import Any

from django.conf import settings
from django.core.mail import get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import EmailMessage
from django.core.mail.utils import DNS_NAME

from bounced.client import DEFAULT_PATH, Client, TemporaryFailure

_FIELDS = ("to", "cc", "bcc")


class EmailBackend(BaseEmailBackend):  # type: ignore[misc]
    """Asks, strips, signs, and hands on to the backend that sends."""

    def __init__(self, fail_silently: bool = False, **options: Any) -> None:
        """Take what Django gives every backend; `options` are for the one that sends."""
        super().__init__(fail_silently=fail_silently)
        chosen = getattr(settings, "BOUNCED", {})
        backend = chosen.get("BACKEND", "django.core.mail.backends.smtp.EmailBackend")
        self._inner = get_connection(backend, fail_silently=fail_silently, **options)
        self._scope = chosen.get("SCOPE", "default")
        self._signs = chosen.get("SIGN", True)
        self._client = Client(
            chosen.get("SOCKET", DEFAULT_PATH), deadline=chosen.get("DEADLINE", 0.25), when_unknown=chosen.get("WHEN_UNKNOWN", "raise")
        )

    def open(self) -> bool | None:
        """Open what the other backend opens."""
        opened: bool | None = self._inner.open()
        return opened

    def close(self) -> None:
        """Close it."""
        self._inner.close()

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Send each to whom mail may go; return to how many of the messages that was anybody. Raises TemporaryFailure, and what it may."""
        try:
            return sum(self._send(message) for message in email_messages)
        finally:
            # Django makes a backend for each message, and closes only what it opened.
            self._client.close()

    def _send(self, message: EmailMessage) -> bool:
        try:
            copies = list(self._copies(message))
        except (TemporaryFailure, ValueError):
            if not self.fail_silently:
                raise
            return False
        return bool(copies and self._inner.send_messages(copies))

    def _copies(self, message: EmailMessage) -> Iterator[EmailMessage]:
        """Return what to send instead of a message: itself without some recipients, or one for each of them."""
        scope = getattr(message, "bounced_scope", self._scope)
        mailboxes = {one: parseaddr(str(one))[1] for name in _FIELDS for one in getattr(message, name)}
        refusals = self._client.refusals(list(mailboxes.values()), scope)
        refused = {one: reply for one, reply in zip(mailboxes, refusals, strict=True) if reply is not None}
        message.bounced_suppressed = {mailboxes[one]: reply for one, reply in refused.items()}
        stripped = copy.copy(message)
        stripped.connection = None  # it is this backend, with open sockets; some backends copy what they are given
        for name in _FIELDS:
            setattr(stripped, name, [one for one in getattr(message, name) if one not in refused])
        if not self._signs:
            return iter([stripped] if stripped.recipients() else [])
        # One mail, though each recipient gets a copy.
        message_id = make_msgid(domain=DNS_NAME)
        return (self._signed(stripped, recipient, scope, message_id) for recipient in stripped.recipients())

    def _signed(self, message: EmailMessage, recipient: str, scope: str, message_id: str) -> EmailMessage:
        """Return the message as this recipient gets it: the same header, an envelope of his own."""
        own = copy.copy(message)
        own.extra_headers = {
            "Message-ID": message_id,
            "From": str(message.from_email or settings.DEFAULT_FROM_EMAIL),
            **{name.title(): ", ".join(map(str, getattr(message, name))) for name in ("to", "cc") if getattr(message, name)},
            **message.extra_headers,
        }
        own.to, own.cc, own.bcc = [recipient], [], []
        own.from_email = self._client.return_path(parseaddr(str(recipient))[1], scope)
        return own
