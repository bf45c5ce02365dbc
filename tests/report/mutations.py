"""Returned mail, damaged in ways that mail is damaged, or that somebody may think of: octets, fields, structure.

For: fuzz.py. Never: reading; whatever comes out is only octets.
"""

import random
import re
from collections.abc import Callable, Sequence

MAX_OCTETS = 2 << 20
_FIELD = re.compile(rb"^[A-Za-z][A-Za-z0-9-]{1,40}:[^\n]*(?:\n[ \t][^\n]*)*\n?", re.MULTILINE)
_MARK = re.compile(rb'boundary="?([^"\s;]{1,70})', re.IGNORECASE)
_PIECES = (
    b"\n\n", b"\r", b"\r\n", b"--=_1", b"--", b"&#", b"<", b">", b"@", b"\x1b$B", b"\x1b(B", b"\\303\\251", b"=?utf-8?q?", b"?=",
    b"=?iso-2022-jp?b?", b"5.1.1", b"550 ", b"550-5.7.1 ", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\xe2\x80\xae",
    b"+2B", b'"', b"\\", b";", b"(", b")",
    b"\t", b"=\n",
)  # fmt: skip
_FIELDS = (
    b"Content-Type: multipart/mixed; boundary=x\n", b"Content-Type: multipart/report; report-type=delivery-status\n",
    b"Content-Type: ;;;;\n",
    b"Content-Type: message/delivery-status\n", b"Content-Type: message/rfc822\n", b'Content-Type: text/plain; charset="iso-2022-jp"\n',
    b"Content-Type: text/plain; charset=utf-7\n", b"Content-Type: text/html; charset=\xff\n", b"Content-Type: text/plain; charset=idna\n",
    b"Content-Transfer-Encoding: base64\n", b"Content-Transfer-Encoding: quoted-printable\n", b"Content-Transfer-Encoding: x-uuencode\n",
    b"Action: delayed\n", b"Action: \n", b"Status: 5.1.1\n", b"Status: 999.999.999\n", b"Status: 4.\n", b"Final-Recipient: rfc822;\n",
    b"Final-Recipient: utf-8; \\x{110000}@x.example\n", b"Original-Recipient: rfc822;a+2Bb+3D@x.example\n", b"Diagnostic-Code: smtp; 550\n",
    b"Auto-Submitted: auto-replied\n", b"Feedback-Type: abuse\n", b"From: <>\n", b"From: MAILER-DAEMON@x.example\n",
    b"Subject: Undelivered\n",
    b"X-Failed-Recipients: a@x.example, b@y.example\n", b"To: undisclosed-recipients:;\n", b"List-Id: <l.x.example>\n", b": \n", b"X:\n",
)  # fmt: skip
_CHARSETS = (
    b"us-ascii",
    b"utf-8",
    b"iso-2022-jp",
    b"shift_jis",
    b"koi8-r",
    b"windows-1251",
    b"gb18030",
    b"utf-16",
    b"hex",
    b"punycode",
    b"none",
)


def mutated(seed: bytes, seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """Return the seed after one to twelve damages of any level, rather few. The others lend their parts."""
    content = seed
    for _ in range(min(chance.randint(1, 12), chance.randint(1, 12))):
        content = chance.choice(_DAMAGES)(content, seeds, chance)[:MAX_OCTETS]
    return content


Damage = Callable[[bytes, Sequence[bytes], random.Random], bytes]


def octet(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Replace one octet."""
    at = chance.randrange(len(content) + 1)
    return content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :]


def bit(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Turn one bit over."""
    if not content:
        return content
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


def gap(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Take out a piece."""
    at = chance.randrange(len(content) + 1)
    return content[:at] + content[at + chance.randint(1, 200) :]


def graft(content: bytes, seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """Put in a piece of another letter."""
    other = chance.choice(seeds)
    start, at = chance.randrange(len(other) or 1), chance.randrange(len(content) + 1)
    return content[:at] + other[start : start + chance.randint(1, 400)] + content[at:]


def piece(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Put in what means something to some syntax."""
    at = chance.randrange(len(content) + 1)
    return content[:at] + chance.choice(_PIECES) * chance.choice((1, 1, 1, 2, 50)) + content[at:]


def stutter(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Say a piece many times over."""
    at = chance.randrange(len(content) + 1)
    said = content[at : at + chance.randint(1, 80)]
    return content[:at] + said * chance.choice((2, 5, 20, 20, 500)) + content[at:]


def line_ends(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Change the form of the line ends, here or everywhere."""
    return content.replace(b"\n", chance.choice((b"\r\n", b"\r", b"\n", b"\n\n", b"\n ", b" ")), chance.choice((-1, 3)))


def cut(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """End early."""
    return content[: chance.randrange(len(content) + 1)]


def field(content: bytes, seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """Drop, repeat, replace, empty, lengthen, unfold or rename one field, or give it another's value."""
    found = list(_FIELD.finditer(content, 0, 200_000))
    if not found:
        return chance.choice(_FIELDS) + content
    one, other = chance.choice(found), chance.choice(found)[0]
    name, _, value = one[0].partition(b":")
    changed = (
        b"", one[0] * 2, chance.choice(_FIELDS), name + b":\n", name + b": " + value.strip() * 40 + b"\n",
        one[0].replace(b"\n", b"") + b"\n",
        other.partition(b":")[0] + b":" + value, name + b":" + other.partition(b":")[2], name.swapcase() + b" :" + value, one[0] + other,
        chance.choice(_FIELDS) + one[0], name + b": =?" + chance.choice(_CHARSETS) + b"?b?" + value[:60].hex().encode() + b"?=\n",
    )  # fmt: skip
    return content[: one.start()] + chance.choice(changed) + content[one.end() :]


def charset(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Claim another charset or encoding."""
    written = chance.choice((rb'(?i)charset="?[\w-]+"?', rb"(?i)(?<=content-transfer-encoding: )[\w-]+"))
    claim = (
        b"charset=" + chance.choice(_CHARSETS) if b"charset" in written else chance.choice((b"base64", b"quoted-printable", b"8bit", b""))
    )
    return re.sub(written, lambda _: claim, content, count=chance.choice((0, 1)))


def boundary(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """Lose, close, double or shorten a boundary, or change it in one place alone."""
    found = _MARK.search(content)
    if found is None:
        return content
    mark = b"--" + found[1]
    to = chance.choice((b"", mark + b"--", mark + b"\n\n" + mark, mark[:-1], mark + b" ", b"-" + mark, mark.upper()))
    return content.replace(mark, to, chance.choice((1, 2, -1)))


def parts(content: bytes, seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """Reorder, drop, repeat or exchange the parts."""
    found = _MARK.search(content)
    if found is None:
        return content
    mark = b"--" + found[1]
    pieces = content.split(mark)[:60]
    match chance.randrange(4):
        case 0:
            chance.shuffle(pieces)
        case 1:
            pieces.pop(chance.randrange(len(pieces)))
        case 2:
            pieces[1:1] = [chance.choice(pieces)[:20_000]] * chance.choice((1, 3, 120))
        case _:
            pieces[chance.randrange(len(pieces))] = b"\n" + chance.choice(seeds)[:20_000] + b"\n"
    return mark.join(pieces)


def nested(content: bytes, seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """Wrap it as forwarded mail, as a part, or in many levels of either."""
    for level in range(chance.choice((1, 1, 2, 12, 60))):
        head = b"From: MAILER-DAEMON@x.example\nSubject: Returned mail\n" if chance.random() < 0.5 else b""
        wrapped = b"Content-Type: message/rfc822\n\n" + content if chance.random() < 0.5 else content
        content = head + b"Content-Type: multipart/mixed; boundary=n%d\n\n--n%d\n%s\n--n%d--\n" % (level, level, wrapped, level)
        if len(content) > MAX_OCTETS:
            break
    return content


_DAMAGES: tuple[Damage, ...] = (
    octet, bit, gap, graft, graft, piece, piece, stutter, line_ends, cut, field, field, field, field, charset, boundary, parts, nested,
)  # fmt: skip
