"""A bounded MIME scanner over bytes (RFC 5322, 2045-2047, 2231).

For: finding headers and parts of returned mail in time linear in what is read, whatever a stranger sent; limits hold before anything is
parsed. Never: the stdlib's email package (quadratic, and recursive without bound), raising, or writing a message.
"""

import binascii
import codecs
import re
from functools import lru_cache
from typing import NamedTuple

import msgspec

SCAN_LIMIT = 1 << 20
"""Octets of a message that are looked at; a report stands before the mail it returns."""
HEADER_LIMIT = 64 << 10
HEADER_LINES = 1000
LEVELS = 10
PARTS = 100
TEXT_LIMIT = 128 << 10
"""Octets of one part that are decoded."""

_BOUNDARY_LIMIT = 256  # RFC 2046 says 70; longer ones are met
_HEADER_VALUE_LIMIT = 16 << 10
_MEMORABLE = 512
_LF = 10
FIELD_START = re.compile(rb"[!-9;-~]{1,100}[ \t]*:")
_PARAMETER = re.compile(r';[ \t]*([A-Za-z0-9_*-]{1,40})[ \t]*=[ \t]*(?:"([^"]{0,300})"|([^\s;"]{1,300}))')
_ENCODED_WORD = re.compile(r"=\?([^?\s]{1,40})\?([bBqQ])\?([^?]{0,2000})\?=(?:\s{1,8}(?==\?))?")
_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))
_TAG = re.compile(r"<(?![^<>\s]{1,200}@[^<>\s]{1,200}>)[^<>]{0,2000}>")
_HTML_BREAK = re.compile(r"<(?:br|/p|/div|/tr|/li|/h[1-6]|/table|p)\b[^<>]{0,200}>", re.IGNORECASE)
_HTML_HIDDEN = re.compile(r"<(style|script|head)\b")
_ENTITY = re.compile(r"&(#\d{1,6}|#x[0-9a-f]{1,6}|lt|gt|amp|quot|apos|nbsp);", re.IGNORECASE)
_ENTITIES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'", "nbsp": " "}
_KANA = re.compile(r"[\u3041-\u30fe]")
_CYRILLIC_SMALL = re.compile(r"[\u0430-\u044f]")
_ASCII = bytes(range(128))
_HAN = re.compile(r"[\u4e00-\u9fff]{2}")

# The wider superset that senders of that label really use; whatever is not here is never looked up: some codecs are quadratic.
_CODECS = {
    "utf-8": "utf-8", "utf8": "utf-8", "unicode-1-1-utf-8": "utf-8", "unicode-1-1-utf-7": "utf-7", "utf-16": "utf-16", "utf-7": "utf-7",
    "iso-2022-jp": "iso2022_jp_ext", "iso-2022-jp-1": "iso2022_jp_ext", "iso-2022-jp-2": "iso2022_jp_2", "iso-2022-jp-ms": "iso2022_jp_ext",
    "cp50220": "iso2022_jp_ext", "cp50221": "iso2022_jp_ext", "iso-2022-kr": "iso2022_kr",
    "shift_jis": "cp932", "shift-jis": "cp932", "sjis": "cp932", "x-sjis": "cp932", "windows-31j": "cp932", "cp932": "cp932",
    "ms_kanji": "cp932",
    "euc-jp": "euc_jp", "eucjp": "euc_jp", "x-euc-jp": "euc_jp", "euc-kr": "cp949", "ks_c_5601-1987": "cp949", "ks_c_5601": "cp949",
    "cp949": "cp949",
    "gb2312": "gb18030", "gbk": "gb18030", "gb18030": "gb18030", "gb_2312-80": "gb18030", "x-gbk": "gb18030", "cp936": "gb18030",
    "hz-gb-2312": "hz",
    "big5": "cp950", "big-5": "cp950", "big5-hkscs": "big5hkscs", "cp950": "cp950", "x-big5": "cp950",
    "koi8-r": "koi8_r", "koi8-u": "koi8_u", "koi8": "koi8_r", "macintosh": "mac_roman", "tis-620": "cp874", "windows-874": "cp874",
    "iso-8859-1": "cp1252", "latin1": "cp1252", "l1": "cp1252", "iso-8859-9": "cp1254", "iso-8859-8-i": "cp1255", "iso-8859-8": "cp1255",
    **{f"iso-8859-{part}": f"iso8859_{part}" for part in (2, 3, 4, 5, 6, 7, 10, 13, 14, 15, 16)},
    **{f"{prefix}{page}": f"cp{page}" for prefix in ("windows-", "cp", "x-cp", "win-") for page in range(1250, 1259)},
    "cp437": "cp437", "cp850": "cp850", "ibm850": "cp850", "cp866": "cp866", "ibm866": "cp866",
}  # fmt: skip


class Headers(msgspec.Struct, eq=False, gc=False):
    """The header block of one entity, searched without being parsed: most of it nobody asks for."""

    _given: bytes
    _folded: bytes | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and other._given == self._given

    def __hash__(self) -> int:
        return hash(self._given)

    @property
    def block(self) -> bytes:
        """The whole block, a line feed before it."""
        return b"\n" + self._given

    @property
    def _lower(self) -> bytes:
        """The same in lower case, made when somebody asks."""
        if self._folded is None:
            self._folded = b"\n" + self._given.lower()
        return self._folded

    @property
    def content(self) -> tuple[str, bytes]:
        """The media type (RFC 2045 section 5.2) and the transfer encoding (section 6), both in lower case."""
        return _content(self._given) if len(self._given) <= _MEMORABLE else _content.__wrapped__(self._given)

    def raw(self, name: bytes, start: int = 0) -> tuple[bytes, int] | None:
        """Return the first value of `name` (lower case) from `start` on, still folded, and where it ends."""
        at = self._lower.find(b"\n" + name + b":", start)
        if at < 0:
            return None
        # One less than in the block with the line feed.
        at += len(name) + 1
        given = self._given
        end = given.find(b"\n", at)
        while end >= 0 and given[end + 1 : end + 2] in (b" ", b"\t"):
            end = given.find(b"\n", end + 1)
        end = len(given) if end < 0 else end
        return given[at : min(end, at + _HEADER_VALUE_LIMIT)], end + 1

    def get(self, name: bytes) -> str:
        """Return the first value of `name` (lower case): unfolded, encoded words decoded; empty if there is none."""
        found = self.raw(name)
        return header_text(found[0]) if found else ""

    def all(self, name: bytes, limit: int = 10) -> list[str]:
        """Return the first `limit` values of `name`, as `get` does."""
        values: list[str] = []
        found = self.raw(name)
        while found and len(values) < limit:
            values.append(header_text(found[0]))
            found = self.raw(name, found[1])
        return values

    def __contains__(self, name: bytes) -> bool:
        return b"\n" + name + b":" in self._lower

    def mentions(self, octets: bytes) -> bool:
        """Whether these octets (lower case) stand anywhere in the block."""
        return octets in self._lower


class Part(NamedTuple):
    """A leaf of a message: its own headers and where its body stands in `buffer`. `content_type` is lower case, without parameters."""

    buffer: bytes
    headers: Headers
    content_type: str
    start: int
    end: int
    level: int

    def body(self, limit: int = TEXT_LIMIT) -> bytes:
        """Return the body as sent, at most `limit` octets."""
        return self.buffer[self.start : min(self.end, self.start + limit)]

    def decoded(self, limit: int = TEXT_LIMIT) -> bytes:
        """Return the body without its content transfer encoding (RFC 2045 section 6), at most `limit` octets of it read."""
        return _without_encoding(self.body(limit), self.headers)

    def text(self) -> str:
        """The body as text, whatever its character set; HTML without its tags."""
        body = self.decoded()
        charset = ""
        if self.headers.raw(b"content-type"):
            charset = parameter(self.headers.get(b"content-type"), "charset")
        decoded = to_text(body, charset)
        if self.content_type == "text/html" or (
            self.content_type == "text/plain" and decoded[:200].lstrip()[:5].lower() in ("<html", "<!doc")
        ):
            return without_tags(decoded)
        return decoded


class Message(NamedTuple):
    """A scanned message: `parts` are its leaves in order. `over_limit`: a bound kept something from being read."""

    headers: Headers
    content_type: str
    parts: tuple[Part, ...]
    over_limit: bool

    def first(self, *types: str) -> Part | None:
        """Return the first part of one of these content types."""
        for part in self.parts:
            if part.content_type in types:
                return part
        return None


def scan(content: bytes) -> Message:
    """Find the parts of a message. Total: whatever `content` holds, a Message comes back."""
    buffer = plain(content)
    return _scan(buffer, 0, len(buffer), 0, len(content) > SCAN_LIMIT)


def plain(content: bytes) -> bytes:
    """Return what is scanned of a message: so much as the limit lets, lines ended by LF, no blanks or byte order mark ahead.

    What an editor or a mail program saved as UTF-16 is read as well.
    """
    # Handed on from one to the next: whoever kept a name for one of these would keep its octets.
    return _with_line_feeds(_without_mark(content[:SCAN_LIMIT])).lstrip()


def _without_mark(content: bytes) -> bytes:
    if content.startswith(codecs.BOM_UTF8):
        return content[len(codecs.BOM_UTF8) :]
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace").encode("utf-8", "replace")[:SCAN_LIMIT]
    return content


def inner_message(part: Part) -> Message:
    """Scan the message that a part of type message/rfc822 or its like holds, encoded or not."""
    buffer, start, end = _inner(part)
    return _scan(buffer, start, end, part.level + 1, over_limit=False)


def inner_headers(part: Part) -> Headers:
    """Return the header block of that message alone."""
    return _headers(*_inner(part))[0]


def _inner(part: Part) -> tuple[bytes, int, int]:
    """Return where the message in a part stands, decoded if it must be, without blank lines ahead."""
    buffer, start, end = part.buffer, part.start, part.end
    if part.headers.content[1] in (b"base64", b"quoted-printable"):
        buffer = _with_line_feeds(part.decoded())
        start, end = 0, len(buffer)
    while start < end and buffer[start] == _LF:
        start += 1
    return buffer, start, end


def _scan(buffer: bytes, start: int, end: int, level: int, over_limit: bool) -> Message:
    headers, body, over = _headers(buffer, start, end)
    over_limit = over_limit or over
    leaves: list[Part] = []
    content_type = media_type(headers)
    if not over:
        over_limit = collect(leaves, Part(buffer, headers, content_type, body, end, level)) or over_limit
    return Message(headers, content_type, tuple(leaves), over_limit)


def collect(leaves: list[Part], part: Part) -> bool:
    """Add the leaves of `part`; tell whether a limit stopped it."""
    if not part.content_type.startswith("multipart/"):
        leaves.append(part)
        return False
    boundary = parameter(part.headers.get(b"content-type"), "boundary").encode("latin-1", "replace").rstrip()
    ranges, over = _ranges(part, boundary)
    if not ranges:
        leaves.append(part._replace(content_type="text/plain"))
        return over
    if part.level >= LEVELS:
        return True
    for start, end in ranges:
        if len(leaves) >= PARTS:
            return True
        headers, body, over_here = _headers(part.buffer, start, end)
        child = Part(part.buffer, headers, media_type(headers), body, end, part.level + 1)
        over = over_here or collect(leaves, child) or over
    return over


def _ranges(part: Part, boundary: bytes) -> tuple[list[tuple[int, int]], bool]:
    """Return where the body parts between the boundary's delimiters stand (RFC 2046 section 5.1.1)."""
    if not boundary or len(boundary) > _BOUNDARY_LIMIT:
        boundary = _guessed_boundary(part)
        if not boundary:
            return [], False
    buffer, delimiter, stop = part.buffer, b"\n--" + boundary, part.end
    ranges: list[tuple[int, int]] = []
    opened = -1
    at = buffer.find(delimiter, max(part.start - 1, 0), stop)
    for _ in range(4 * PARTS):
        if at < 0:
            break
        after = at + len(delimiter)
        mark = buffer[after : after + 2]
        if mark == b"--" or mark[:1] in (b"\n", b" ", b"\t", b""):
            if opened >= 0:
                ranges.append((opened, max(at, opened)))
            line_end = buffer.find(b"\n", after, stop)
            opened = stop if line_end < 0 else line_end + 1
            if mark == b"--":
                return ranges, False
            if len(ranges) > PARTS:
                return ranges, True
        at = buffer.find(delimiter, after, stop)
    if opened >= 0:
        ranges.append((opened, stop))
    return ranges, at >= 0


def _guessed_boundary(part: Part) -> bytes:
    """Return the boundary that the body itself shows where the header lost it."""
    at = part.buffer.find(b"\nContent-Type:", max(part.start - 1, 0), min(part.end, part.start + TEXT_LIMIT))
    line = part.buffer.rfind(b"\n", max(part.start - 1, 0), at) if at > 0 else -1
    candidate = part.buffer[line + 1 : at] if line >= 0 else b""
    return candidate[2:].rstrip() if candidate.startswith(b"--") and len(candidate) <= _BOUNDARY_LIMIT else b""


def _headers(buffer: bytes, start: int, end: int) -> tuple[Headers, int, bool]:
    """Return the header block at `start`, where its body begins, and whether the block exceeds a limit."""
    if buffer[start : start + 1] == b"\n":
        return Headers(b""), start + 1, False
    limit = min(end, start + HEADER_LIMIT)
    blank = buffer.find(b"\n\n", start, limit)
    if blank < 0:
        if limit < end:
            return Headers(buffer[start:limit]), limit, True
        blank = end
    if not FIELD_START.match(buffer, start, end) and not buffer.startswith((b"From ", b">From "), start):
        return Headers(b""), start, False
    block = buffer[start:blank]
    if block.count(b"\n") > HEADER_LINES:
        return Headers(block), blank, True
    return Headers(block), min(blank + 2, end), False


def _with_line_feeds(content: bytes) -> bytes:
    """Turn CRLF, and the bare CR of whole copies made of it, into LF."""
    if b"\r" not in content:
        return content
    content = content.replace(b"\r\n", b"\n")
    returns = content.count(b"\r")
    if not returns:
        return content
    if returns > 4 * content.count(b"\n"):
        return content.replace(b"\r", b"\n")
    return content.replace(b"\r\n", b"\n")


def media_type(headers: Headers) -> str:
    """Return the media type in lower case; text/plain where there is none (RFC 2045 section 5.2)."""
    return headers.content[0]


@lru_cache(maxsize=512)
def _content(block: bytes) -> tuple[str, bytes]:
    """Read the media type and the transfer encoding, in lower case. Systems write the same headers in the parts of every mail."""
    headers = Headers(block)
    found = headers.raw(b"content-type")
    words = found[0].partition(b";")[0].split(None, 1) if found else []
    encoding = headers.raw(b"content-transfer-encoding")
    return words[0].decode("latin-1").lower()[:100] if words else "text/plain", encoding[0].strip().lower() if encoding else b""


def parameter(value: str, name: str) -> str:
    """Return a parameter of a Content-Type or the like, `name` in lower case; empty if there is none. RFC 2231 only without pieces."""
    for found in _PARAMETER.finditer(value, 0, 4096):
        if found[1].lower().rstrip("*") == name:
            return found[2] if found[2] is not None else found[3]
    return ""


def header_text(raw: bytes) -> str:
    """Return a header's value unfolded and decoded, encoded words (RFC 2047) and raw octets alike."""
    unfolded = b" ".join(raw.split())
    text = unfolded.decode("ascii") if unfolded.isascii() and b"\x1b" not in unfolded else to_text(unfolded, "")
    return _ENCODED_WORD.sub(_word, text) if "=?" in text else text


def _word(found: re.Match[str]) -> str:
    charset, encoding, encoded = found[1].partition("*")[0], found[2], found[3]
    if encoding in "bB":
        octets = from_base64(encoded.encode("ascii", "ignore"))
    else:
        octets = binascii.a2b_qp(encoded.encode("ascii", "ignore"), header=True)
    return to_text(octets, charset)


def _without_encoding(body: bytes, headers: Headers) -> bytes:
    match headers.content[1]:
        case b"base64":
            return from_base64(body)
        case b"quoted-printable":
            return binascii.a2b_qp(body)
        case _:
            return body


def from_base64(encoded: bytes) -> bytes:
    """Decode base64 as far as it goes; what is not of its alphabet is skipped (RFC 2045 section 6.8)."""
    alphabet = encoded.translate(None, _NOT_BASE64)
    whole = len(alphabet) & ~3
    rest = alphabet[whole:]
    if len(rest) == 1:
        rest = b""
    padded = alphabet[:whole] + (rest + b"==")[:4] if rest else alphabet[:whole]
    return binascii.a2b_base64(padded)


def to_text(octets: bytes, charset: str) -> str:
    """Decode by the declared character set where it is true, else by what the octets show. Total."""
    if octets.isascii() and b"\x1b" not in octets and charset[:3].lower() not in ("utf", "hz-", "uni"):
        return octets.decode("ascii")
    codec = _CODECS.get(charset.strip().lower())
    if codec is None or codec == "utf-8":
        return _guessed(octets)
    try:
        return octets.decode(codec)
    except UnicodeError:
        return _guessed(octets) if octets.isascii() or _is_utf8(octets) else octets.decode(codec, "replace")


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeError:
        return False
    return True


def _guessed(octets: bytes) -> str:
    if b"\x1b$" in octets or b"\x1b(" in octets:
        return octets.decode("iso2022_jp_ext", "replace")
    try:
        return octets.decode("utf-8")
    except UnicodeError:
        pass
    sample = octets[:4096]
    # Japanese text always has kana; Cyrillic is mostly small letters; what is left and forms Han characters is Chinese.
    for codec in ("euc_jp", "cp932"):
        if _KANA.search(sample.decode(codec, "ignore")) and sample.decode(codec, "replace").count("\ufffd") <= 1:
            return octets.decode(codec, "replace")
    small = {codec: len(_CYRILLIC_SMALL.findall(sample.decode(codec, "replace"))) for codec in ("koi8_r", "cp1251")}
    best = max(small, key=lambda codec: small[codec])
    if small[best] > 10 and small[best] * 4 > len(sample.translate(None, _ASCII)) * 3:
        return octets.decode(best, "replace")
    if _is_mostly_utf8(octets):
        return octets.decode("utf-8", "replace")
    if _HAN.search(sample.decode("gb18030", "ignore")) and sample.decode("gb18030", "replace").count("\ufffd") <= 1:
        return octets.decode("gb18030", "replace")
    return octets.decode("cp1252", "replace")


def _is_mostly_utf8(octets: bytes) -> bool:
    """Whether damaged octets are nearer to UTF-8: a text cut inside a character, or one bad octet among many good."""
    decoded = octets.decode("utf-8", "replace")
    return decoded.count("\ufffd") * 4 <= len(decoded) - len(decoded.encode("ascii", "ignore"))


def without_tags(text: str) -> str:
    """Return the text of an HTML page: lines where it breaks them, no tags, entities decoded, style and script left out."""
    text = _without_hidden(text)
    text = _HTML_BREAK.sub("\n", text)
    return _ENTITY.sub(_entity, _TAG.sub(" ", text))


def _without_hidden(text: str) -> str:
    lower = text.lower()
    if len(lower) != len(text):
        return text
    kept: list[str] = []
    at = 0
    for _ in range(50):
        found = _HTML_HIDDEN.search(lower, at)
        if not found:
            break
        kept.append(text[at : found.start()])
        close = lower.find(f"</{found[1]}", found.end())
        if close < 0:
            close = lower.find(">", found.end())
            at = close + 1 if close >= 0 else len(text)
            break
        at = close
    kept.append(text[at:])
    return " ".join(kept)


def _entity(found: re.Match[str]) -> str:
    name = found[1].lower()
    if not name.startswith("#"):
        return _ENTITIES[name]
    number = int(f"0{name[1:]}" if name.startswith("#x") else name[1:].lstrip("0") or "0", 0)
    return chr(number) if 0x20 <= number < 0xD800 or 0xE000 <= number <= 0x10FFFF else " "
