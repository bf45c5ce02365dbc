"""Messages on their way from files to the daemon, by LMTP or SMTP.

For: `bounced ingest`: what was taken is on disk, as for every other client. Never: reading files, or a word to a person.
"""

import re
import smtplib
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from bounced.cli.base import mail_places
from bounced.cli.ingesting import Fate
from bounced.cli.messages import Found
from bounced.fault import OperatorFault
from bounced.report import Unrecognized
from bounced.report.fields import found_addresses
from bounced.report.mime import Headers, scan
from bounced.report.reader import read
from bounced.returnpath import has_seal
from bounced.settings import Config

_SESSIONS = 16
"""Connections at a time: their mail shares the daemon's commits."""

_UNDER_WAY = 4 * _SESSIONS
"""Messages in memory at a time."""

_SECONDS = 60.0
_ENVELOPE = (b"delivered-to", b"x-original-to", b"envelope-to", b"x-envelope-to", b"to")
"""Where mail servers write the envelope's recipient: Postfix twice, Exim, others; at last whom the bounce itself addresses."""

_LINE_END = re.compile(rb"\r?\n")
_CLOSING, _PERMANENT = 421, 500


class PutOff(Exception):
    """The daemon cannot take mail now. The text is what it said."""


class Courier:
    """Brings messages to the daemon, some at a time. Of what lies in `unread`, what can be read by now, and removes it there."""

    def __init__(self, settings: Config, recipient: str | None, unread: Path | None) -> None:
        """Bring to the daemon of these settings; to `recipient`, or to whom each message's header names. Raises OperatorFault."""
        lmtp, smtp = mail_places(settings)
        place = lmtp or smtp  # no limits for strangers at the socket
        if place is None:
            raise OperatorFault(
                "nothing to ingest by: lmtp.socket and smtp.listen are empty", "Set lmtp.socket, or start bounced-lmtp.socket."
            )
        self._port: int | None
        self._host, self._port = (str(place), None) if isinstance(place, Path) else place
        self._domains = frozenset(settings.return_path.domains)
        self._recipient = recipient
        self._most = settings.smtp.max_message
        self._unread = unread
        self._own = threading.local()
        self._sessions: list[smtplib.SMTP] = []
        self._threads = ThreadPoolExecutor(_SESSIONS)

    def carry(self, messages: Iterator[Found]) -> Iterator[tuple[Found, Fate, str]]:
        """Give each message with its fate, in order, and words where a person should know more. Raises PutOff."""
        under_way: deque[tuple[Found, Future[tuple[Fate, str]]]] = deque()
        for found in messages:
            under_way.append((found, self._threads.submit(self._bring, found)))
            if len(under_way) >= _UNDER_WAY:
                yield self._settled(*under_way.popleft())
        while under_way:
            yield self._settled(*under_way.popleft())

    def close(self) -> None:
        """End the sessions."""
        self._threads.shutdown(cancel_futures=True)
        for session in self._sessions:
            session.close()

    def _settled(self, found: Found, future: "Future[tuple[Fate, str]]") -> tuple[Found, Fate, str]:
        fate, words = future.result()
        if fate is Fate.TAKEN and found.file is not None and self._was_unread(found):
            found.file.unlink(missing_ok=True)
        return found, fate, words

    def _was_unread(self, found: Found) -> bool:
        return self._unread is not None and found.file is not None and self._unread in found.file.parents

    def _bring(self, found: Found) -> tuple[Fate, str]:
        headers = scan(found.content).headers
        recipient = self._recipient or self._recipient_in(headers)
        if recipient is None:
            return Fate.NOT_OURS, "it names no recipient at a return-path domain"
        if self._was_unread(found) and isinstance(read(found.content), Unrecognized):
            return Fate.UNREADABLE, ""
        # The null one in all but what gateways and automatic replies send.
        reverse_path = next((address for address in found_addresses(headers.get(b"return-path")) if address.isascii()), "")
        # As much as the daemon keeps of a message; with the dots that are doubled it stays below the SIZE that it takes.
        content = _LINE_END.sub(b"\r\n", found.content)[: self._most]
        try:
            return self._send(reverse_path, recipient, content)
        except (smtplib.SMTPServerDisconnected, OSError):
            # It ends a session after some refusals, or some minutes; a new one tells whether it is gone.
            self._leave()
        try:
            return self._send(reverse_path, recipient, content)
        except (smtplib.SMTPException, OSError) as error:
            raise PutOff(f"no daemon answers at {self._host}: {getattr(error, 'strerror', None) or error}") from None

    def _recipient_in(self, headers: Headers) -> str | None:
        """Return the signed return path that the header names, else the first address at one of our domains."""
        named = [address for name in _ENVELOPE for value in headers.all(name) for address in found_addresses(value)]
        ours = [address for address in named if address.rpartition("@")[2].lower() in self._domains]
        return next((address for address in ours if has_seal(address.rpartition("@")[0])), ours[0] if ours else None)

    def _send(self, reverse_path: str, recipient: str, content: bytes) -> tuple[Fate, str]:
        words: bytes | str
        try:
            self._session().sendmail(reverse_path, [recipient], content)
        except smtplib.SMTPRecipientsRefused as refused:
            code, words = next(iter(refused.recipients.values()))
        except smtplib.SMTPResponseException as error:
            code, words = error.smtp_code, error.smtp_error
        else:
            return Fate.TAKEN, ""
        said = f"{code} {words.decode('ascii', 'replace') if isinstance(words, bytes) else words}"
        if code == _CLOSING:
            raise smtplib.SMTPServerDisconnected(said)
        if code < _PERMANENT:
            raise PutOff(said)
        return Fate.REFUSED, said

    def _session(self) -> smtplib.SMTP:
        session: smtplib.SMTP | None = getattr(self._own, "session", None)
        if session is None:
            # The name is given: else smtplib asks the resolver for it.
            if self._port is None:
                session = smtplib.LMTP(self._host, local_hostname="localhost")
            else:
                session = smtplib.SMTP(self._host, self._port, local_hostname="localhost", timeout=_SECONDS)
            self._own.session = session
            self._sessions.append(session)
        return session

    def _leave(self) -> None:
        session: smtplib.SMTP | None = getattr(self._own, "session", None)
        if session is not None:
            session.close()
            self._own.session = None
