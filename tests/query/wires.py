"""How a mailer speaks each wire protocol: the other side of every codec, for the suite that all of them must pass.

For: writing requests and reading answers as the mailers' own documents say. Never: a word of the codecs under test.
"""

import re
from collections.abc import Sequence
from typing import Protocol

from bounced.query import Codec
from bounced.query.line import Line
from bounced.query.milter import Milter
from bounced.query.policy_delegation import PolicyDelegation
from bounced.query.socketmap import Socketmap

DOMAIN = "bounces.example.net"


class NotAnAnswerError(Exception):
    """The octets are not answers of the protocol, one after the other, to the last octet."""


class Wire(Protocol):
    """The mailer's side. Answers are read as "suppressed", "clear", "trouble" or a signed return path.

    A connection begins with the `greeting`; `codec` gives one that has heard it.
    """

    name: str
    max_request: int
    pipelines: bool

    def codec(self) -> Codec: ...

    def greeting(self) -> bytes: ...

    def check(self, recipient: bytes, scope: str) -> bytes: ...

    def sign(self, recipient: bytes, scope: str) -> bytes | None: ...

    def aside(self) -> bytes | None: ...

    def endless(self) -> bytes: ...

    def answers(self, octets: bytes) -> Sequence[str]: ...


class SocketmapWire:
    """postmap(1)'s and our client's side: netstrings."""

    name = "socketmap"
    max_request = 4096
    pipelines = True

    def codec(self) -> Codec:
        return Socketmap(DOMAIN)

    def greeting(self) -> bytes:
        return b""

    def check(self, recipient: bytes, scope: str) -> bytes:
        return netstring(b"access_%b %b" % (scope.encode(), recipient))

    def sign(self, recipient: bytes, scope: str) -> bytes | None:
        return netstring(b"sign_%b %b" % (scope.encode(), recipient))

    def aside(self) -> bytes | None:
        return netstring(b"transport *")

    def endless(self) -> bytes:
        return b"4000:access " + b"x" * 1_000_000

    def answers(self, octets: bytes) -> Sequence[str]:
        said = []
        while octets:
            length = re.match(rb"(\d{1,4}):", octets)
            if not length or octets[(end := length.end() + int(length[1])) : end + 1] != b",":
                raise NotAnAnswerError(octets)
            said.append(_word(octets[length.end() : end], rb"OK 550 5\.7\.1 .+", rb"NOTFOUND ", rb"TEMP .+", rb"OK (\S+@\S+)"))
            octets = octets[end + 1 :]
        return said


class PolicyWire:
    """smtpd(8)'s side: attributes, an empty line."""

    name = "policy_delegation"
    max_request = 16384
    pipelines = True

    def codec(self) -> Codec:
        return PolicyDelegation()

    def greeting(self) -> bytes:
        return b""

    def check(self, recipient: bytes, scope: str) -> bytes:
        return (
            b"request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nsender=us@example.net\n"
            b"recipient=%b\nqueue_id=\ninstance=1.2.3\npolicy_context=%b\n\n" % (recipient, scope.encode())
        )

    def sign(self, recipient: bytes, scope: str) -> bytes | None:
        return None

    def aside(self) -> bytes | None:
        return b"request=smtpd_access_policy\nprotocol_state=DATA\nrecipient=\n\n"

    def endless(self) -> bytes:
        return b"request=smtpd_access_policy\n" + b"x=y\n" * 250_000

    def answers(self, octets: bytes) -> Sequence[str]:
        *answers, rest = octets.split(b"\n\n")
        if rest:
            raise NotAnAnswerError(octets)
        return [_word(each, rb"action=550 5\.7\.1 .+", rb"action=DUNNO", rb"action=451 4\.3\.0 .+") for each in answers]


class LineWire:
    """Exim's ${readsocket}: one line, then the answer to the end of the connection."""

    name = "line"
    max_request = 4096
    pipelines = False

    def codec(self) -> Codec:
        return Line()

    def greeting(self) -> bytes:
        return b""

    def check(self, recipient: bytes, scope: str) -> bytes:
        return b"check_%b %b\n" % (scope.encode(), recipient)

    def sign(self, recipient: bytes, scope: str) -> bytes | None:
        return b"sign_%b %b\n" % (scope.encode(), recipient)

    def aside(self) -> bytes | None:
        return None

    def endless(self) -> bytes:
        return b"check " + b"x" * 1_000_000

    def answers(self, octets: bytes) -> Sequence[str]:
        return [_word(octets, rb"suppressed .+", rb"clear", rb"trouble .+", rb"(\S+@\S+)")] if octets else []


class MilterWire:
    """smtpd(8)'s and sendmail's side: packets of a length, a command and its content (mfdef.h)."""

    name = "milter"
    max_request = 16384
    pipelines = True

    def codec(self) -> Codec:
        codec = Milter(DOMAIN, signs=True)
        codec.feed(self.greeting())
        return codec

    def greeting(self) -> bytes:
        return packet(b"O\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff")

    def check(self, recipient: bytes, scope: str) -> bytes:
        return self.macros(scope) + packet(b"R<%b>\0" % recipient)

    def macros(self, scope: str) -> bytes:
        return packet(b"DR{daemon_name}\0bounced_%b\0" % scope.encode())

    def sign(self, recipient: bytes, scope: str) -> bytes | None:
        return None

    def aside(self) -> bytes | None:
        return packet(b"M<us@example.net>\0SIZE=100\0")

    def endless(self) -> bytes:
        return b"\0\0\x3f\xf0L" + b"x" * 1_000_000

    def answers(self, octets: bytes) -> Sequence[str]:
        said, signed = [], b""
        while octets:
            length = int.from_bytes(octets[:4], "big")
            answer, octets = octets[4 : 4 + length], octets[4 + length :]
            if len(answer) != length or not length:
                raise NotAnAnswerError(answer)
            if answer[:1] == b"O" and length == 13:
                continue
            if answer[:1] == b"e" and not signed:
                signed = answer.removesuffix(b"\0")
                continue
            said.append(_word((signed + answer).removesuffix(b"\0"), rb"y550 5\.7\.1 .+", rb"c", rb"y451 4\.3\.0 .+", rb"e<(\S+@\S+)>c"))
            signed = b""
        return said


WIRES: tuple[Wire, ...] = (SocketmapWire(), PolicyWire(), LineWire(), MilterWire())


def packet(content: bytes) -> bytes:
    """Write a packet of the milter protocol."""
    return len(content).to_bytes(4, "big") + content


def netstring(octets: bytes) -> bytes:
    """Write a netstring (D. J. Bernstein, 1997)."""
    return b"%d:%b," % (len(octets), octets)


def _word(answer: bytes, suppressed: bytes, clear: bytes, trouble: bytes, signed: bytes | None = None) -> str:
    """Name an answer. Only printable ASCII is one: a line end or an escape in it would begin something else."""
    if re.fullmatch(rb"[ -~]*", answer) is None:
        raise NotAnAnswerError(answer)
    for word, pattern in (("suppressed", suppressed), ("clear", clear), ("trouble", trouble)):
        if re.fullmatch(pattern, answer):
            return word
    found = re.fullmatch(signed, answer) if signed else None
    if not found:
        raise NotAnAnswerError(answer)
    return found[1].decode()
