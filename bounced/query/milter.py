"""The milter protocol of sendmail and Postfix (version 6, and what older ones have of it): packets of a length, a command and its content.

For: refusing suppressed recipients in mail servers that speak no other protocol, or beside one; and signing the return path of mail to one
recipient. Never: sockets, a look-up, a decision, or the content of a mail, which is not even sent to us.

A suppressed recipient is refused with `550 5.7.1`. Postfix lets no recipient of sendmail(1) be refused (non_smtpd_milters): it would keep
the whole mail for ever. There he is removed from the envelope, and a mail to nobody else is discarded. We cannot tell: `451 4.3.0`.

Where signing is on, a mail from the return-path domain to a single recipient, not signed yet, gets its signed return path at the end. The
stream of mail is named by the macro {daemon_name}, `bounced_news`; any other name of the daemon means the default one.

The server waits for each answer. Its words were taken from its header mfdef.h, and from what both servers said.
"""

import struct
from collections.abc import Sequence
from typing import assert_never

from bounced.address import AddressError, Mailbox
from bounced.query import Answer, Answers, Aside, Check, Clear, Garbled, Question, Sign, SignedPath, Suppressed, Trouble
from bounced.returnpath import has_seal
from bounced.scope import DEFAULT_SCOPE, Scope

MAX_REQUEST = 16384
"""Octets of one packet, its length among them; bodies, which may be longer, are not sent to us."""

MAX_REMOVED = 1 << 20
"""Octets of the recipients that are removed from one mail."""

_VERSION = 6
_LENGTH = struct.Struct(">I")
_OPTIONS = struct.Struct(">III")
_DELETE_RECIPIENT = 0x08
_CHANGE_SENDER = 0x40
# Neither HELO, body, headers, their end, unknown commands nor DATA: only who is there, the sender, and the recipients.
_NOT_NEEDED = 0x02 | 0x10 | 0x20 | 0x40 | 0x100 | 0x200
_STREAM = "bounced_"


class Event(Aside, frozen=True):
    """What needs no look-up: `reply` is the whole answer."""

    reply: bytes


class RecipientCheck(Check, frozen=True):
    """A check of a recipient, `argument` as the server wrote him; where he is not `refusable`, he can only be removed."""

    argument: bytes
    refusable: bool


class EndOfMail(Sign, frozen=True):
    """The end of a mail whose return path is to be signed; `removals` go before the answer."""

    removals: bytes


class Milter:
    """One connection's side of the protocol. With `signs`, return paths of mail from `domain`, in lower case, are signed."""

    def __init__(self, domain: str, *, signs: bool) -> None:
        """Begin with nothing heard."""
        self._domain = domain
        self._signs = signs
        self._kept = b""
        self._broken = False
        self._actions: int | None = None  # what both sides can do, once that is settled
        self._scope = DEFAULT_SCOPE
        self._by_smtp = True
        self._begin_mail(b"")

    def _begin_mail(self, sender: bytes) -> None:
        self._sender = sender
        self._unanswered = 0
        self._accepted = 0
        self._recipient = ""  # the last one that was accepted
        self._removals: list[bytes] = []
        self._removed = 0

    def feed(self, octets: bytes) -> Sequence[Question]:
        """Take the next octets of the connection."""
        if self._broken:
            return ()
        questions: list[Question] = []
        heard, at = self._kept + octets, 0
        while len(heard) - at >= _LENGTH.size and not self._broken:
            begin = at + _LENGTH.size
            (length,) = _LENGTH.unpack_from(heard, at)
            question: Question | None
            if not 0 < length <= MAX_REQUEST - _LENGTH.size:
                question = Garbled(f"the packet is empty or longer than {MAX_REQUEST} octets")
            elif len(heard) < begin + length:
                break
            else:
                question = self._question(heard[begin : begin + 1], heard[begin + 1 : begin + length])
            at = begin + length
            if question is not None:
                questions.append(question)
                self._broken = isinstance(question, Garbled)
        self._kept = b"" if self._broken else heard[at:]
        return questions

    def render(self, question: Question, answer: Answer) -> bytes:
        """Return the octets of the answer to `question`; what was said of recipients is remembered until the end of their mail."""
        if isinstance(question, RecipientCheck):
            self._unanswered -= 1
        match answer:
            case Suppressed(text=text):
                if isinstance(question, RecipientCheck) and not question.refusable:
                    return self._remove(question.argument)
                return _reply(f"550 5.7.1 {text}")
            case Clear():
                if isinstance(question, RecipientCheck):
                    self._accepted += 1
                    self._recipient = question.recipient
                return question.reply if isinstance(question, Event) else _CONTINUE
            case SignedPath(return_path=return_path) if isinstance(question, EndOfMail):
                return question.removals + _packet(b"e<%b>\0" % return_path.encode("ascii", "replace")) + _CONTINUE
            case SignedPath():
                return _reply("451 4.3.0 nobody asked for a return path")
            case Answers():
                return _reply("451 4.3.0 nobody asked about many")
            case Trouble(reason=reason):
                return _reply(f"451 4.3.0 {reason}")
            case _:
                assert_never(answer)

    def closes(self, question: Question) -> bool:
        """Tell whether the connection is closed after the answer to `question`."""
        return isinstance(question, Garbled)

    def _question(self, command: bytes, content: bytes) -> Question | None:
        """Read one packet; None for what is not answered."""
        if command == b"O":
            return self._negotiate(content)
        if self._actions is None:
            return Garbled("the mail server began without saying what it can do")
        match command:
            case b"D":
                self._hear_macros(content)
                return None
            case b"A" | b"Q" | b"K":
                self._begin_mail(b"")
                return None
            case b"C":
                self._by_smtp = _port(content) != 0
                return Event(_CONTINUE)
            case b"M":
                self._begin_mail(content.partition(b"\0")[0])
                return Event(_CONTINUE)
            case b"R":
                self._unanswered += 1
                return self._check(content.partition(b"\0")[0])
            case b"E":
                return self._end_mail()
            case b"H" | b"L" | b"N" | b"B" | b"T" | b"U":
                return Event(_CONTINUE)
            case _:
                return Garbled("the packet is no command of the milter protocol")

    def _negotiate(self, content: bytes) -> Question:
        if len(content) != _OPTIONS.size:
            return Garbled("what the mail server can do is not told in three numbers")
        version, actions, protocol = _OPTIONS.unpack(content)
        self._actions = actions & (_DELETE_RECIPIENT | (_CHANGE_SENDER if self._signs else 0))
        return Event(_packet(b"O" + _OPTIONS.pack(min(version, _VERSION), self._actions, protocol & _NOT_NEEDED)))

    def _hear_macros(self, content: bytes) -> None:
        """Take the stream of mail from the macros of some command: its letter, then names and values by turns."""
        words = content[1:].split(b"\0")
        macros = dict(zip(words[::2], words[1::2], strict=False))
        name = macros.get(b"{daemon_name}")
        if name is not None:
            # A stream that no configuration declares is not refused here: whoever answers knows them.
            stream = name.decode("utf-8", "surrogateescape").removeprefix(_STREAM)
            self._scope = Scope(stream) if name.startswith(_STREAM.encode()) else DEFAULT_SCOPE

    def _check(self, argument: bytes) -> Question:
        # Postfix writes what comes by sendmail(1) without brackets, and from the port 0. By SMTP there may be either, but not both.
        refusable = self._by_smtp or argument.startswith(b"<")
        return RecipientCheck(_address(argument), self._scope, argument, refusable)

    def _remove(self, argument: bytes) -> bytes:
        """Remember to remove a recipient."""
        self._removed += len(argument)
        if self._removed > MAX_REMOVED:
            return _reply("451 4.3.0 too many recipients are on the suppression list")
        self._removals.append(argument)
        return _CONTINUE

    def _end_mail(self) -> Question:
        if self._unanswered:
            return Garbled("the mail server does not wait for the answers")
        removals = b"".join(_packet(b"-%b\0" % argument) for argument in self._removals)
        accepted, recipient = self._accepted, self._recipient
        to_be_signed = accepted == 1 and self._is_to_be_signed(_address(self._sender))
        self._begin_mail(b"")
        if removals and not accepted:
            return Event(_packet(b"d"))
        if removals and not self._can(_DELETE_RECIPIENT):
            return Garbled("the mail server lets nobody remove a recipient")
        return EndOfMail(recipient, self._scope, removals) if to_be_signed else Event(removals + _CONTINUE)

    def _can(self, action: int) -> bool:
        return bool((self._actions or 0) & action)

    def _is_to_be_signed(self, sender: str) -> bool:
        """Tell whether a sender is a return path of ours that nobody has signed."""
        if not self._can(_CHANGE_SENDER):
            return False
        try:
            mailbox = Mailbox.parse(sender)
        except AddressError:
            return False
        return mailbox.domain == self._domain and not has_seal(mailbox.local_part)


def _port(content: bytes) -> int | None:
    """Return the client's port of a connect packet: its name, a family, the port; None where there is none."""
    _, _, rest = content.partition(b"\0")
    return int.from_bytes(rest[1:3], "big") if rest[:1] in (b"4", b"6") and len(rest) >= 3 else None


def _address(argument: bytes) -> str:
    """Return the address of a MAIL or RCPT argument: without brackets and a source route (RFC 5321 section 4.1.2)."""
    address = argument.decode("utf-8", "surrogateescape").removeprefix("<").removesuffix(">")
    return address.partition(":")[2] if address.startswith("@") and ":" in address else address


def _packet(content: bytes) -> bytes:
    return _LENGTH.pack(len(content)) + content


_CONTINUE = _packet(b"c")


def _reply(text: str) -> bytes:
    # sendmail takes the text for a format of printf, and Postfix knows that.
    return _packet(b"y%b\0" % text.replace("%", "%%").encode("ascii", "replace"))
