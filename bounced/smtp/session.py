"""One connection of the SMTP door, from its first octet to its last.

For: octets to command lines and mail data, deadlines, errors, the change to TLS, the commit and its reply. A 250 after mail data leaves
only after intake has committed. Never: a 5xx for trouble of our own (it would destroy the only copy of a bounce); an exception's text.

The session is a subclass of aiosmtpd's SMTP, the protocol that asyncio drives; of its behaviour nothing is left. Its coroutine answers 500
to long lines and to faults, holds mail data without bound, is cancelled in mid-commit when the client hangs up, and costs many times the
CPU. A state machine over the octets that came takes its place, and the loop's own start_tls that of its change to TLS.
"""

import asyncio
import fcntl
import socket
import ssl
import termios
from enum import Enum, auto
from typing import cast

from aiosmtpd.smtp import SMTP

from bounced.envelope import Envelope
from bounced.fault import OwnFault
from bounced.intake import Admitted
from bounced.smtp import proxy, reply
from bounced.smtp.dialogue import LAST_IN_GROUP, Dialogue, Recipient, Terms
from bounced.smtp.mail_data import MailData, whole
from bounced.smtp.sessions import LINGER, Sessions
from bounced.smtp.sources import LOCAL, client_of

_MAX_LINE = 2048
"""Octets of a command line: RFC 5321 section 4.5.3.1.4 wants 512, extensions add to it, Postfix reads as many."""

_SMALL_MESSAGE = 128 * 1024
"""Nearly every bounce is smaller. Mail data up to here is held even when `max_held` is used up."""

_HANDSHAKE = 30.0
"""Seconds for a TLS handshake."""

_NOTHING = bytes(4)

_TRANSIENT, _PERMANENT = b"45"
"""First octets of replies (RFC 5321 section 4.2.1)."""

_NO_SMTP = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"CONNECT", b"OPTIONS", b"DELETE", b"PATCH", b"TRACE", b"PRI"})
_CONSEQUENT = frozenset({b"DATA", b"QUIT", b"STARTTLS"})
_PRODUCTIVE = frozenset({b"MAIL", b"RCPT", b"DATA", b"QUIT"})


class _State(Enum):
    PROXIED = auto()
    EARLY = auto()
    OPEN = auto()
    IN_DATA = auto()
    COMMITTING = auto()
    SHAKING_HANDS = auto()
    CLOSING = auto()


# Before Python 3.12 each look-up of a member by its class is a call.
_PROXIED, _EARLY, _OPEN, _IN_DATA, _COMMITTING, _SHAKING_HANDS, _CLOSING = _State


class Session(SMTP):
    """One connection. Everything happens in `data_received`, but the commit, which is a task of its own that nobody cancels."""

    _wire: asyncio.Transport | None = None
    _state = _OPEN
    _mail: MailData | None = None
    """Mail data that did not come all at once."""
    _committing: asyncio.Task[None] | None = None
    _inbox = b""
    """What came and could not be taken yet: half a line, or what waits for a commit."""
    _since = _ends = _data_due = 0.0
    _choked = _held_back = _eof = _overlong = _faulted = _in_tls = False
    _errors = _junk = 0

    def __init__(self, sessions: "Sessions[Session]", terms: Terms) -> None:
        # Not super().__init__(): it inspects every method of the class and asks for our name, for each connection.
        self._all = sessions
        self._terms = terms
        self._replies: list[bytes] = []

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client, or turn it away; behind a proxy only after the proxy has told who it is."""
        self._wire = wire = cast("asyncio.Transport", transport)
        self._peer = peer = client_of(wire.get_extra_info("peername"))
        self._since = self._all.loop.time()
        self._ends = self._since + self._all.settings.session
        if self._all.is_proxy(peer):
            self._state = _PROXIED
            # Until then it counts among all, but for no source.
            self._enter(LOCAL)
        elif self._enter(peer):
            if _has_spoken(wire.get_extra_info("socket")):
                self._state = _EARLY
            else:
                wire.write(self._terms.greeting)

    def data_received(self, octets: bytes) -> None:
        """Take what came, as far as we are not waiting for a commit or for the client to read our replies."""
        state = self._state
        if self._inbox:
            octets = self._inbox + octets
        if (state is _OPEN or state is _IN_DATA) and not self._choked:
            self._advance(octets)
        elif state is _EARLY:
            # Only now that it has been read: a socket closed with octets unread is reset, and our words are lost.
            self._end("early")
        elif state is not _CLOSING:
            self._inbox = octets
            if state is _PROXIED:
                self._take_proxy_header()
            elif self._wire is not None and state is not _SHAKING_HANDS:
                self._held_back = True
                self._wire.pause_reading()  # one chunk is held, no more

    def eof_received(self) -> bool:
        """The client will say no more. A commit goes on, and its reply is attempted; TLS cannot be half closed."""
        self._eof = True
        return self._state is _COMMITTING and not self._in_tls

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        """The connection is gone. A commit goes on, and holds the client's place until it has ended."""
        self._wire = None
        if self._state is not _COMMITTING:
            self._state = _CLOSING
            self._forget_mail()
            self._all.leave(self, self._client)

    def pause_writing(self) -> None:
        """The client does not read its replies: we don't read its commands either."""
        self._choked = True

    def resume_writing(self) -> None:
        """The client has read."""
        self._choked = False
        self._resume()

    # What the door calls

    def stop(self) -> None:
        """Say 421, unless mail is on its way or being committed; then it is said after that."""
        if self._state in (_PROXIED, _EARLY, _OPEN):
            self._end("stopping")
        elif self._state is _SHAKING_HANDS:
            self.abort()

    def look_at_the_time(self, now: float) -> None:
        """End the session if it has used up its time; called every second."""
        state, settings = self._state, self._all.settings
        if state is _COMMITTING or state is _CLOSING:
            return
        if state is _PROXIED:
            due, reason = self._since + settings.idle_crowded, "proxy"
        elif state is _IN_DATA:
            due, reason = self._data_due, "slow"
        else:
            due, reason = self._since + (settings.idle_crowded if self._all.sources.crowded else settings.idle), "idle"
        if now < due and now < self._ends:
            return
        if state is _SHAKING_HANDS:
            self.abort()
        else:
            self._end(reason if due <= self._ends else "session-time")

    def abort(self) -> None:
        """Cut the connection."""
        if self._wire is not None:
            self._wire.abort()

    # The beginning

    def _enter(self, client: str) -> bool:
        """Let the session in as one of this client's; if that may not be, end it."""
        self._client = client
        self._dialogue = Dialogue(self._terms, client)
        reason = self._all.enter(self, client)
        if reason is not None:
            self._end(reason)
        return reason is None

    def _take_proxy_header(self) -> None:
        try:
            header = proxy.read(self._inbox)
        except proxy.ProxyError:
            self._end("proxy")
            return
        if header is None:
            return
        self._state = _OPEN
        spoken, self._inbox = self._inbox[header.length :], b""
        self._all.leave(self, self._client)
        if not self._enter(header.client or self._peer):
            return
        if spoken:
            self._end("early")
        elif self._wire is not None:
            self._wire.write(self._terms.greeting)

    # From octets to lines and mail data

    def _resume(self) -> None:
        """Go on after a commit, a handshake, or a client's reading."""
        if self._wire is None or self._choked or self._state not in (_OPEN, _IN_DATA):
            return
        if self._held_back:
            self._held_back = False
            self._wire.resume_reading()
        self._advance(self._inbox)
        if self._eof and self._state in (_OPEN, _IN_DATA):
            self._close()

    def _advance(self, inbox: bytes) -> None:
        """Do what came, as far as nothing has to be waited for, and answer; the rest stays in the inbox."""
        at, size, now = 0, len(inbox), self._all.loop.time()
        while at < size:
            if self._state is _OPEN:
                end = inbox.find(b"\n", at)
                if end < 0:
                    if size - at > _MAX_LINE:
                        self._overlong = True
                        at = size
                    break
                self._since = now
                self._line(inbox[at:end], more=end + 1 < size)
                at = end + 1
            elif self._state is _IN_DATA:
                at = self._take_mail(inbox, at)
            else:
                break
        self._inbox = b"" if self._state is _CLOSING else inbox[at:]
        self._flush()

    def _take_mail(self, inbox: bytes, at: int) -> int:
        """Take mail data from there on; return where it ends."""
        settings = self._all.settings
        if self._mail is None:
            if found := whole(inbox, at):
                content, end = found
                content = content[: settings.max_message]
                self._all.held += len(content)
                self._end_of_mail(content)
                return end
            self._mail = MailData(settings.max_message)
        mail, held = self._mail, self._mail.held
        rest = mail.feed(inbox[at:])
        self._all.held += mail.held - held
        if rest is not None:
            self._mail = None
            self._end_of_mail(None if mail.dropped else mail.content())
            return len(inbox) - len(rest)
        if mail.seen > 2 * settings.max_message:
            self._end("oversize")
        elif self._all.held > settings.max_held and mail.held > _SMALL_MESSAGE:
            self._all.held -= mail.held
            mail.drop()
        due = self._data_due + (len(inbox) - at) / settings.min_data_rate
        self._data_due = min(due, self._all.loop.time() + settings.idle)
        return len(inbox)

    def _line(self, line: bytes, *, more: bool) -> None:
        """Do what a command line says; `more` tells that the client did not wait for the reply."""
        verb, _, argument = line.removesuffix(b"\r").partition(b" ")
        verb = verb.upper()
        dialogue = self._dialogue
        if more and (verb in LAST_IN_GROUP or not dialogue.may_pipeline):
            self._end("no-smtp" if self._is_no_smtp(verb) else "unasked-pipelining")
            return
        if self._overlong or len(line) > _MAX_LINE:
            self._overlong = False
            answer = reply.TOO_LONG
        elif not line.endswith(b"\r"):
            answer = reply.BARE_LF
        else:
            try:
                answer = dialogue.answer(verb, argument)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is ours, and the client may try again
                answer = self._fault(error)
        leads_nowhere = answer[0] >= _TRANSIENT
        if leads_nowhere and self._is_no_smtp(verb):
            self._end("no-smtp")
            return
        self._replies.append(answer)
        if leads_nowhere or verb not in _PRODUCTIVE:
            self._count(answer)
        if verb in _CONSEQUENT and self._state is _OPEN:
            self._follow(answer)

    def _is_no_smtp(self, verb: bytes) -> bool:
        return verb in _NO_SMTP or not (verb.isalpha() or self._dialogue.greeted)

    def _count(self, answer: bytes) -> None:
        """Count errors, and commands that lead nowhere, and end the session at the limits."""
        self._junk += 1
        if answer[0] == _PERMANENT:
            self._errors += 1
        if self._errors >= self._all.settings.max_errors:
            self._end("errors")
        elif self._junk >= self._all.settings.max_junk:
            self._end("junk")

    def _follow(self, answer: bytes) -> None:
        """Do what was promised by a reply."""
        if answer is reply.GO_AHEAD:
            self._state = _IN_DATA
            self._data_due = self._since + self._all.settings.idle
        elif answer is reply.BYE:
            self._flush()
            self._close()
        elif answer is reply.BEGIN_TLS:
            self._begin_tls()

    def _flush(self) -> None:
        if self._replies:
            if self._wire is not None:
                self._wire.write(b"".join(self._replies))
            self._replies.clear()

    # From mail data to the commit

    def _end_of_mail(self, content: bytes | None) -> None:
        """Let the content be committed; None where there was no room for it."""
        recipients = self._dialogue.take_recipients()
        if content is None:
            self._state = _OPEN
            self._replies += [reply.NO_ROOM] * (len(recipients) if self._terms.lmtp else 1)
            return
        self._state = _COMMITTING
        # Held here, or the loop may forget it; this session is held until it has ended.
        self._committing = self._all.loop.create_task(self._commit(recipients, content))

    async def _commit(self, recipients: list[Recipient], content: bytes) -> None:
        """Hand the mail to intake and answer. The connection may end meanwhile; this does not."""
        replies = [reply.OUR_FAULT]
        try:
            if len(recipients) == 1:
                replies = [await self._accept(*recipients[0], content)]
            else:
                replies = await asyncio.gather(*(self._accept(*recipient, content) for recipient in recipients))
        finally:
            self._all.held -= len(content)
            self._state = _OPEN
            self._after_commit(replies)

    async def _accept(self, envelope: Envelope, admission: Admitted, content: bytes) -> bytes:
        try:
            await self._terms.intake.accept(envelope, admission, content)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is ours, and the client may try again
            return self._fault(error)
        return reply.COMMITTED

    def _after_commit(self, replies: list[bytes]) -> None:
        if self._wire is None:
            self._state = _CLOSING
            self._all.leave(self, self._client)
            return
        if reply.COMMITTED in replies:
            self._errors = self._junk = 0
        # SMTP has one reply for all: a 250 only if all are on disk. To send again changes nothing for those that were.
        self._replies += replies if self._terms.lmtp else [max(replies)]
        self._since = self._all.loop.time()
        if self._all.stopping:
            self._end("stopping")
        else:
            self._resume()

    # The change to TLS (RFC 3207)

    def _begin_tls(self) -> None:
        assert self._wire is not None
        self._state = _SHAKING_HANDS
        self._held_back = False
        self._wire.pause_reading()  # what comes now is not for us
        self._flush()
        assert self._all.tls is not None
        self._all.run(self._shake_hands(self._wire, self._all.tls))

    async def _shake_hands(self, wire: asyncio.Transport, context: ssl.SSLContext) -> None:
        try:
            secured = await self._all.loop.start_tls(
                wire, self, context, server_side=True, ssl_handshake_timeout=_HANDSHAKE, ssl_shutdown_timeout=LINGER
            )
        except OSError:  # as are SSLError and TimeoutError
            secured = None
        if self._state is not _SHAKING_HANDS:
            return
        if secured is None or wire.is_closing():
            # Until hands are shaken the loop tells nobody that the connection is gone.
            self._all.turn_away("tls")
            wire.abort()
            self.connection_lost(None)
            return
        self._wire = secured
        self._in_tls = True
        self._state = _OPEN
        self._since = self._all.loop.time()
        self._dialogue = Dialogue(self._terms, self._client, in_tls=True)
        if self._all.stopping:
            self._end("stopping")
        else:
            self._resume()

    # The end, in good and in bad

    def _end(self, reason: str) -> None:
        """Say the last words and close."""
        self._all.turn_away(reason)
        self._replies.append(reply.LAST_WORDS[reason])
        self._flush()
        self._close()

    def _close(self) -> None:
        self._state = _CLOSING
        self._inbox = b""
        self._forget_mail()
        if self._wire is not None:
            self._wire.close()
            if self._in_tls or self._wire.get_write_buffer_size():
                # close() waits until the client has read what we said; not for ever.
                self._all.linger(self)

    def _forget_mail(self) -> None:
        if self._mail is not None:
            self._all.held -= self._mail.held
            self._mail = None

    def _fault(self, error: Exception) -> bytes:
        """Log a fault of ours, once a session; the client learns only that it may come again."""
        if not self._faulted:
            self._faulted = True
            if isinstance(error, OwnFault):
                self._all.log.warning("smtp.fault", client=self._client, problem=str(error))
            else:
                self._all.log.error("smtp.fault", client=self._client, problem=type(error).__name__, exc_info=error)
        return reply.OUR_FAULT


def _has_spoken(sock: socket.socket) -> bool:
    """Whether octets wait that were sent before our greeting was."""
    return fcntl.ioctl(sock.fileno(), termios.FIONREAD, _NOTHING) != _NOTHING
