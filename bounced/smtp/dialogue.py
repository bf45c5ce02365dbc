"""The conversation of one SMTP or LMTP client, command by command (RFC 5321 section 4.1.1, RFC 2033, RFC 2920).

For: a command line in, its reply out, and in between the state of the session and of its one open transaction. Never: octets on a wire,
deadlines, counting errors, mail data; that is smtp's. Nothing here waits, and nothing but a fault of intake's is raised.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from bounced.envelope import Envelope
from bounced.intake import Admitted, Intake, LocalMailbox
from bounced.returnpath import Refusal
from bounced.smtp import reply
from bounced.smtp.command import CommandError, Forwarded, read_mail, read_recipient, read_xforward, text_of

_NOTHING_FORWARDED = Forwarded()

Recipient = tuple[Envelope, Admitted]

LAST_IN_GROUP = frozenset({b"EHLO", b"HELO", b"LHLO", b"DATA", b"STARTTLS"})
"""Commands after which a client has to wait for the reply (RFC 2920 section 3.1, RFC 3207 section 4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is the same for every client of one listening socket.

    `hostname` is our name; `size` the octets announced by SIZE (RFC 1870); `may_keep` is asked with the client's address before a mail for
    postmaster or abuse is taken, `has_room` before any; `clock` gives Unix seconds; `tls` tells whether STARTTLS is offered now. `xforward`
    is for a socket that only our own mail server reaches: it may tell whom it got a mail from (postfix.org/XFORWARD_README.html).
    """

    intake: Intake
    clock: Callable[[], float]
    may_keep: Callable[[str], bool]
    has_room: Callable[[], bool]
    hostname: str
    size: int
    max_recipients: int
    lmtp: bool
    xforward: bool
    tls: Callable[[], bool]
    greeting: bytes = field(init=False)
    """The first reply of all (RFC 5321 section 4.3.1), which tells no version."""
    offers: bytes = field(init=False)
    """The reply to EHLO or LHLO: only what works."""
    offers_with_tls: bytes = field(init=False)
    """The same, and STARTTLS."""
    commands: "dict[bytes, _Command]" = field(init=False)

    def __post_init__(self) -> None:
        """Lay out the replies that every client gets."""
        words = (self.hostname, "PIPELINING", f"SIZE {self.size}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
        object.__setattr__(self, "greeting", reply.lines(220, f"{self.hostname} {'LMTP' if self.lmtp else 'ESMTP'}"))
        object.__setattr__(self, "offers", reply.lines(250, *words, *(["XFORWARD ADDR HELO"] if self.xforward else [])))
        object.__setattr__(self, "offers_with_tls", reply.lines(250, *words, "STARTTLS"))
        object.__setattr__(self, "commands", _LMTP if self.lmtp else _SMTP)


class Dialogue:
    """One client's conversation so far."""

    __slots__ = (
        "_client",
        "_forwarded",
        "_helo",
        "_in_tls",
        "_put_off",
        "_recipients",
        "_reverse_path",
        "_sender_given",
        "_terms",
        "_utf8",
        "greeted",
        "may_pipeline",
    )

    def __init__(self, terms: Terms, client: str, *, in_tls: bool = False) -> None:
        """Begin after the greeting, or anew after the change to TLS (RFC 3207 section 4.2). `client` is an IP address or "local"."""
        self._terms = terms
        self._client = client
        self._in_tls = in_tls
        self._helo = ""
        self.greeted = False
        """Whether the client has told its name."""
        self.may_pipeline = False
        """Whether the client was told by EHLO or LHLO what it may do: send commands in groups, and use parameters."""
        self._forget_transaction()

    def answer(self, verb: bytes, argument: bytes) -> bytes:
        """Return the reply to a command; `verb` is in upper case. What intake raises goes through."""
        command = self._terms.commands.get(verb)
        if command is None:
            return reply.UNKNOWN
        try:
            return command(self, argument)
        except CommandError as error:
            return f"{error.reply}\r\n".encode()

    def take_recipients(self) -> list[Recipient]:
        """End the transaction at the end of its mail data, and return whom it was for."""
        recipients = self._recipients
        self._forget_transaction()
        return recipients

    def _forget_transaction(self) -> None:
        self._sender_given = self._utf8 = self._put_off = False
        self._reverse_path: str | None = None
        self._recipients: list[Recipient] = []
        self._forwarded = _NOTHING_FORWARDED

    def _ehlo(self, argument: bytes) -> bytes:
        self._greet(argument)
        self.may_pipeline = True
        return self._terms.offers_with_tls if self._terms.tls() and not self._in_tls else self._terms.offers

    def _helo_command(self, argument: bytes) -> bytes:
        self._greet(argument)
        self.may_pipeline = False
        return reply.lines(250, self._terms.hostname)

    def _greet(self, argument: bytes) -> None:
        text = text_of(argument)
        if not text or not text.isascii():
            raise CommandError(501, "5.5.4", "expected your host name")
        self._helo = text[:255]
        self.greeted = True
        self._forget_transaction()

    def _mail(self, argument: bytes) -> bytes:
        if not self._helo or self._sender_given:
            return reply.BAD_SEQUENCE
        mail = read_mail(argument, extended=self.may_pipeline)
        if mail.size > self._terms.size:
            return reply.TOO_BIG
        self._put_off = not self._terms.has_room()
        if self._put_off:
            return reply.DISK_FULL
        self._sender_given = True
        self._reverse_path = mail.reverse_path
        self._utf8 = mail.utf8
        return reply.SENDER_OK

    def _rcpt(self, argument: bytes) -> bytes:
        if not self._sender_given:
            return self._out_of_turn()
        forward_path = read_recipient(argument, extended=self.may_pipeline, utf8=self._utf8)
        # A bounce answers one mail to one recipient.
        if len(self._recipients) >= (1 if self._reverse_path is None else self._terms.max_recipients):
            return reply.TOO_MANY
        client = self._forwarded.client or self._client
        envelope = Envelope(
            reverse_path=self._reverse_path,
            forward_path=forward_path,
            client=client,
            helo=self._forwarded.helo or self._helo,
            received_at=int(self._terms.clock()),
        )
        put_off, self._put_off = self._put_off, True  # so it stays where intake cannot tell
        admission = self._terms.intake.admit(envelope)
        if isinstance(admission, LocalMailbox) and not self._terms.may_keep(client):
            return reply.TOO_OFTEN
        self._put_off = put_off or admission is Refusal.FUTURE
        if isinstance(admission, Refusal):
            return reply.REFUSED[admission]
        self._recipients.append((envelope, admission))
        return reply.RECIPIENT_OK

    def _data(self, argument: bytes) -> bytes:
        if argument:
            return reply.NO_ARGUMENT
        if self._recipients:
            return reply.GO_AHEAD
        return self._out_of_turn()

    def _out_of_turn(self) -> bytes:
        # A client that pipelines goes on after any reply. If it was put off before, it must not be sent away for ever here.
        return reply.NOBODY_YET if self._put_off else reply.BAD_SEQUENCE

    def _rset(self, argument: bytes) -> bytes:
        if argument:
            return reply.NO_ARGUMENT
        self._forget_transaction()
        return reply.OK

    def _noop(self, _argument: bytes) -> bytes:
        return reply.OK

    def _vrfy(self, argument: bytes) -> bytes:
        return reply.NOT_VERIFIED if argument else reply.NO_ARGUMENT

    def _not_offered(self, _argument: bytes) -> bytes:
        return reply.NOT_OFFERED

    def _quit(self, argument: bytes) -> bytes:
        return reply.NO_ARGUMENT if argument else reply.BYE

    def _xforward(self, argument: bytes) -> bytes:
        if not self._terms.xforward:
            return reply.NOT_OFFERED
        if self._sender_given:
            return reply.BAD_SEQUENCE
        self._forwarded = read_xforward(argument, self._forwarded)
        return reply.OK

    def _starttls(self, argument: bytes) -> bytes:
        if not self._terms.tls():
            return reply.NOT_OFFERED
        if argument:
            return reply.NO_ARGUMENT
        return reply.BAD_SEQUENCE if self._in_tls else reply.BEGIN_TLS


_Command = Callable[[Dialogue, bytes], bytes]
_BOTH: dict[bytes, _Command] = {
    b"MAIL": Dialogue._mail,
    b"RCPT": Dialogue._rcpt,
    b"DATA": Dialogue._data,
    b"RSET": Dialogue._rset,
    b"NOOP": Dialogue._noop,
    b"VRFY": Dialogue._vrfy,
    b"QUIT": Dialogue._quit,
    b"STARTTLS": Dialogue._starttls,
    b"EXPN": Dialogue._not_offered,
    b"BDAT": Dialogue._not_offered,
    b"HELP": Dialogue._not_offered,
    b"AUTH": Dialogue._not_offered,
}
_SMTP: dict[bytes, _Command] = _BOTH | {b"EHLO": Dialogue._ehlo, b"HELO": Dialogue._helo_command}
_LMTP: dict[bytes, _Command] = _BOTH | {b"LHLO": Dialogue._ehlo, b"XFORWARD": Dialogue._xforward}
