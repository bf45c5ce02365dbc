"""Returned mail as mail systems write it, and the client that brings it over SMTP or LMTP.

For: tests that need many bounces, or hostile ones; where Postfix can make them, it does. Never: a reading of what the daemon stored.
"""

import secrets
import smtplib
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.system.waiting import PATIENCE

_REPORT = """\
From: MAILER-DAEMON@{mx} (Mail Delivery System)\r
To: {sender}\r
Subject: Undelivered Mail Returned to Sender\r
Auto-Submitted: auto-replied\r
MIME-Version: 1.0\r
Content-Type: multipart/report; report-type=delivery-status; boundary="=_part"\r
\r
--=_part\r
Content-Type: text/plain\r
\r
I'm sorry to have to inform you that your message could not be delivered.\r
\r
--=_part\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; {mx}\r
\r
Final-Recipient: rfc822; {recipient}\r
Action: {action}\r
Status: {status}\r
Diagnostic-Code: smtp; {reply}\r
\r
--=_part\r
Content-Type: message/rfc822\r
\r
From: news@sender.example\r
To: {recipient}\r
Subject: News\r
\r
Good news.\r
\r
--=_part--\r
"""


@dataclass(frozen=True, slots=True)
class Failure:
    """What some server said of a recipient: action and status of RFC 3464, and its SMTP reply."""

    status: str
    reply: str
    action: str = "failed"


NO_SUCH_USER = Failure("5.1.1", "550 5.1.1 Recipient address rejected: User unknown in virtual mailbox table")
MAILBOX_FULL = Failure("5.2.2", "552 5.2.2 The email account that you tried to reach is over quota")
DELAYED = Failure("4.4.1", "connect to mx.receiver.example[192.0.2.1]:25: Connection timed out", action="delayed")
DELIVERED = Failure("2.0.0", "250 2.0.0 OK", action="delivered")


def report(recipient: str, failure: Failure, sender: str = "news@sender.example") -> bytes:
    """Return a delivery status notification (RFC 3464) about one recipient."""
    words = {"status": failure.status, "reply": failure.reply, "action": failure.action}
    return _REPORT.format(mx=f"mx.{recipient.rpartition('@')[2]}", recipient=recipient, sender=sender, **words).encode()


def vacation(recipient: str) -> bytes:
    """Return an automatic reply (RFC 3834)."""
    return (
        f"From: {recipient}\r\nTo: news@sender.example\r\nSubject: Out of office: News\r\nAuto-Submitted: auto-replied\r\n\r\n"
        "I am on holiday until Monday.\r\n"
    ).encode()


def complaint(recipient: str) -> bytes:
    """Return a feedback report (RFC 5965): the recipient called our mail spam."""
    return (
        "From: <abusedesk@receiver.example>\r\nTo: <fbl@sender.example>\r\nSubject: FW: News\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=feedback-report; boundary="=_part"\r\n\r\n'
        "--=_part\r\nContent-Type: text/plain\r\n\r\nThis is an email abuse report.\r\n\r\n"
        "--=_part\r\nContent-Type: message/feedback-report\r\n\r\n"
        f"Feedback-Type: abuse\r\nUser-Agent: SomeGenerator/1.0\r\nVersion: 1\r\nOriginal-Rcpt-To: <{recipient}>\r\n\r\n"
        "--=_part\r\nContent-Type: message/rfc822\r\n\r\n"
        f"From: <news@sender.example>\r\nTo: <{recipient}>\r\nSubject: News\r\n\r\nGood news.\r\n\r\n--=_part--\r\n"
    ).encode()


Reply = tuple[int, str]


class Session:
    """One SMTP session at a (host, port), or LMTP at a socket's path."""

    def __init__(self, address: tuple[str, int] | Path) -> None:
        """Connect and say EHLO (LHLO)."""
        if isinstance(address, Path):
            self._client: smtplib.SMTP = smtplib.LMTP(str(address), local_hostname="mx.receiver.example", timeout=PATIENCE)
        else:
            # From an address of its own: one source may open only so many sessions a minute, and the Internet is many.
            source = f"127.{secrets.randbelow(255)}.{secrets.randbelow(255)}.{1 + secrets.randbelow(254)}"
            self._client = smtplib.SMTP(*address, local_hostname="mx.receiver.example", timeout=PATIENCE, source_address=(source, 0))
        self._client.ehlo()

    def rcpt(self, recipient: str, sender: str = "") -> Reply:
        """Begin a mail from `sender` (the null reverse-path) to one recipient; returns the reply to RCPT."""
        self._client.mail(sender)
        code, text = self._client.rcpt(recipient)
        return code, text.decode()

    def bring(self, recipient: str, content: bytes, sender: str = "") -> Reply:
        """Bring one bounce; returns the reply after DATA, or that to RCPT if the recipient was refused."""
        reply = self.rcpt(recipient, sender)
        if reply[0] != 250:
            self._client.rset()
            return reply
        code, text = self._client.data(content)
        return code, text.decode()

    def reset_after_data(self, recipient: str, content: bytes) -> None:
        """Bring one bounce and break the connection (RST) without waiting for the reply."""
        assert self.rcpt(recipient)[0] == 250
        self._client.putcmd("data")
        assert self._client.getreply()[0] == 354
        assert self._client.sock is not None
        self._client.sock.sendall(content + b"\r\n.\r\n")
        self._client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._client.close()

    def close(self) -> None:
        """Say QUIT, if anybody is there to hear it."""
        try:
            self._client.quit()
        except (smtplib.SMTPException, OSError):
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def bring(address: tuple[str, int] | Path, recipient: str, contents: Sequence[bytes]) -> list[Reply]:
    """Bring mails to one recipient in one session; returns the replies."""
    with Session(address) as session:
        return [session.bring(recipient, content) for content in contents]
