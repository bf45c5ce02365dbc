"""The readable part of a report: where it ends, whom it names, what it says of each.

For: letters written for people, in any layout and language: paragraphs, transcripts, lists of addresses. Never: deciding whether a letter
is a bounce at all (reader, dialects and last_resort do), or reading the returned mail as if it were the report.
"""

import re
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from msgspec.structs import replace

from bounced.report import Copy, RecipientStatus, Returned, fields
from bounced.report.mime import FIELD_START, Headers, Message, Part
from bounced.report.returned import TYPES as RETURNED_TYPES
from bounced.report.returned import of_headers
from bounced.report.returned import returned as returned_part
from bounced.status import StatusCode

NOTE_LIMIT = 64 << 10
LINE_LIMIT = 4000
_LINES_EACH = 60
_HEADER_START = 200
_MARKS = 20
"""How many likenesses of the mark of a copy are looked at: behind each 6,000 characters are searched."""
READABLE = ("text/plain", "text/html", "text", "text/enriched", "message/plain")

# Searched in lower case: case-blind, each line would cost ten times as much.
_COPY = re.compile(
    r"""^[ \t>#|]{0,8}+[-=*_+~#]{0,90}+[ \t]{0,4}+(?=[^\W\d_])(?:
      (?:below[ ]this[ ]line|enclosed|included|attached|this|below|following|here)[ ](?:is|are)[ ](?:an?[ ]|the[ ])?(?:cop(?:y
      |ies)[ ]of|full[ ]copy|headers?[ ]of)
    | the[ ](?:headers?|body|start|text)[ ](?:of|from)[ ](?:the|your)[ ](?:original[ ])?(?:message|mail)
    | your[ ](?:original[ ])?(?:message|mail)[ ](?:follows|is[ ](?:enclosed|attached)[ ]below)
    | (?:original|unsent|returned|bounced|undelivered|rejected|failed|source)[ ](?:e-?mail|message|mail)(?:[ ](?:headers?|info|text
      |body|follows?|is[ ]below|below|enclosed|attached|returned)){0,3}[ ]{0,3}(?:[-:=.*_~]|$)
    | message[ ](?:headers?|text|body|content|copy)(?:[ ](?:and[ ]\w{1,12}[ ])?follows?)
    | message[ ]header[s]?[ ](?:for|of)
    | original-(?:message|mail)-?headers?
    | (?:first|beginning[ ]of|start[ ]of|headers[ ]of|copy[ ]of)[ ](?:the[ ]|your[ ])?(?:original[ ]|returned[ ])?(?:message|mail)
    | (?:nachrichtenkopf|urspr(?:ü|ue)ngliche[ ]nachricht|message[ ]d'origine|mensaje[ ]original|mensagem[ ]original
      |messaggio[ ]originale|en-t[êe]tes[ ]de[ ]message)
    | (?:исходное[ ]сообщение|заголовки?[ ](?:исходного[ ])?(?:письма|сообщения)|原始邮件|原始郵件
      |元のメッセージ|元メール|オリジナルメッセージ)
    | (?:received:[ \t]+(?:from|by|\(|via)|return-path:[ \t]{0,4}<|x-envelope-from:|delivered-to:[ ]|content-type:[ ]message/rfc822
      |dkim-signature:[ ]?v=)
    )""",
    re.MULTILINE | re.VERBOSE,
)
_HEADER_MARKS = ("<", "from", "by", "(", "via")
_HEADER_LINE = re.compile(
    r"^(?:received|return-path|message-id|from|to|subject|date|mime-version|content-type|x-[\w-]{1,40}|dkim-signature|delivered-to)[ \t]?:",
    re.IGNORECASE | re.MULTILINE,
)
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_PARAGRAPH_KEEPING_INDENT = re.compile(r"\n(?:[ \t]*\n)+")
_TRANSCRIPT = re.compile(
    r"^[ \t]*(?:>>>|<<<|Out:|In:|Sent <<<|Received >>>|\.\.\. while talking|while talking to)", re.IGNORECASE | re.MULTILINE
)
# The digit stands before its look-behind: so the search skips what cannot begin a code.
_CODED = re.compile(r"[45](?<![\d.].)(?:[0-57]\d[ -](?!\d)|\.\d{1,2}\.\d{1,3}(?![\d.]))")
_SAID = re.compile(
    r"remote host said|giving up|the error (?:that )?the other server|reason|because|technical details|error|diagnostic|last error"
    r"|retry timeout|"
    r"in the queue|expired|time.?out|could not deliver for|unknown|rejected|quota|full|refused|not exist|disabled|denied|blocked"
    r"|too large|exceed|"
    r"delay|unrout|not found|no such|grund|raison|motivo|причин|原因|理由|エラー|错误|錯誤|오류|errore|erreur|fehler|ошибк",
)
_CHATTER = re.compile(
    r"""no[ ]action[ ]is[ ]required|delivery[ ]attempts[ ]will[ ]continue|you[ ]do[ ]not[ ]need[ ]to[ ]re-?send
    |this[ ]is[ ](?:a[ ])?(?:permanent[ ]error;[ ]i've|the[ ]mail[ ]system|the[ ]postfix|the[ ]qmail|a[ ]warning)
    | i'm[ ](?:sorry|afraid)|for[ ]further[ ]assistance|if[ ]you[ ]do[ ]so,[ ]please|delete[ ]your[ ]own[ ]text
      |this[ ]message[ ]was[ ]created[ ]automatically|please[ ](?:do[ ]not[ ])?reply|if[ ]you[ ]feel[ ]this
    | the[ ]message[ ]is[ ]kept[ ]in[ ]the[ ]queue|the[ ]original[ ]message[ ]was[ ]received|this[ ]is[ ]an[ ]automat(?:ed|ically)
      |this[ ]is[ ]a[ ]mime|the[ ]mail[ ]system[ ]*$|message[ ]identifier[ ]is
    | warning[ ]message[ ]only|warning[ ]only|multi-?part[ ]message|^hi[.!]|^hello|contact[ ]your[ ](?:postmaster|administrator)
      |attempt[s]?[ ]to[ ]deliver[ ]the[ ]message[ ]will""",
    re.VERBOSE,
)


class Letter(NamedTuple):
    """A report as a person would read it: sender and subject of its header, `note` up to the returned copy, and `copy` after that mark."""

    message: Message
    sender: str
    subject: str
    note: str
    copy: str

    @property
    def whole(self) -> str:
        """Note and copy."""
        return self.note + self.copy

    @property
    def returned(self) -> Returned | None:
        """What came back of the original mail, as a part of its own or as a copy in the text."""
        return returned_part(self.message) or inline_copy(self.copy)


def letter(message: Message) -> Letter:
    """Read a message as a letter."""
    text = note(message, cut=False)
    end = copy_start(text)
    return Letter(message, message.headers.get(b"from"), message.headers.get(b"subject"), text[:end], text[end:])


def note(message: Message, before: Part | None = None, cut: bool = True) -> str:
    """Return the readable text: the text parts ahead of part `before`, else behind it, and ahead of the returned mail.

    An inline copy in it ends it.
    """
    readable: list[Part] = []
    behind = False
    for part in message.parts:
        if part.content_type in RETURNED_TYPES or (part is before and readable):
            break
        behind = behind or part is before
        if part is not before and part.content_type in READABLE:
            if behind and FIELD_START.match(part.decoded(_HEADER_START)):
                break
            readable.append(part)
    text = "\n\n".join(part.text() for part in readable if part.content_type != "text/html")
    if len(text) < 40:
        text = "\n\n".join([text, *(part.text() for part in readable if part.content_type == "text/html")])
    text = fields.unescaped(text[:NOTE_LIMIT])
    return text[: copy_start(text)] if cut else text


def copy_start(text: str) -> int:
    """Return where the copy of the original mail begins in a letter; its end if there is none."""
    lower = text.lower()
    for found in islice(_COPY.finditer(lower if len(lower) == len(text) else text), _MARKS):
        if found.start() > 0 or not text.strip().startswith("-"):
            rest = text[found.start() : found.start() + 6000]
            if _HEADER_LINE.search(rest):
                return found.start()
            # A header line alone may be quoted in a list of what the report is about.
            if found[0].rstrip().endswith(_HEADER_MARKS):
                continue
            if not rest[found.end() - found.start() :].strip("-=*_ \n.:") or len(text) - found.end() < 400:
                return found.start()
    return len(text)


def inline_copy(copy: str) -> Returned | None:
    """Read the headers of a copy that stands in the text."""
    found = _HEADER_LINE.search(copy)
    if not found:
        return None
    block = copy[found.start() : found.start() + 32768].partition("\n\n")[0]
    return of_headers(Headers(block.encode("utf-8", "replace")))


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a letter, lines bounded, at most 2,000."""
    return [paragraph for paragraph in _PARAGRAPH_KEEPING_INDENT.split(text, 2000) if paragraph and not paragraph.isspace()][:2000]


def explanations(text: str, addresses: Iterable[str]) -> dict[str, str]:
    """Return what a letter says of each address, by the address in lower case, on one line; nothing for those it does not name.

    A line that names an address begins what is said of it, which goes on to the next address or to an empty line after a reason.
    """
    named = {address.lower(): address for address in addresses}
    if len(named) == 1:
        return {lower: explanation_for_one(text, address) for lower, address in named.items()}
    told: dict[str, list[str]] = {lower: [] for lower in named}
    inside: str | None = None
    for line in text.split("\n"):
        if "@" in line:
            mentioned = (match[0].lower().rstrip(".") for match in fields.ADDRESS.finditer(line[:LINE_LIMIT]))
            here = [address for address in mentioned if address in told]
            if here and inside not in here:
                inside = here[0]
        elif inside is not None and not line.strip() and _says_more(" ".join(told[inside]), inside):
            inside = None
        if inside is not None and len(told[inside]) < _LINES_EACH:
            told[inside].append(line[:LINE_LIMIT])
    return {lower: fields.clean("\n".join(lines)) for lower, lines in told.items() if lines}


def explanation_for_one(text: str, address: str) -> str:
    """Return what a letter with one recipient says of it: the paragraphs that name it, give codes, or tell a reason."""
    wanted = address.lower()
    naming: list[str] = []
    telling: list[str] = []
    before: list[str] = []
    after: list[str] = []
    seen = wanted not in text.lower()
    announced = False
    for paragraph in paragraphs(text):
        lower = paragraph.lower()
        if wanted in lower:
            seen = True
            naming.append(paragraph[max(0, lower.find(wanted) - 500) :][:LINE_LIMIT])
            announced = lower.rstrip().endswith((":", "："))
            continue
        if announced or _TRANSCRIPT.search(paragraph) or _CODED.search(paragraph):
            telling.append(paragraph[:LINE_LIMIT])
        elif not _CHATTER.search(lower):
            (after if seen else before).append(paragraph[:LINE_LIMIT])
        announced = False
    told = fields.clean("\n".join(naming + telling))
    if _says_more(told, address) and (_CODED.search(told) or _SAID.search(told.lower().replace(wanted, ""))):
        indented = [paragraph for paragraph in after if paragraph[:1] in " \t"]
        return fields.clean("\n".join([told, *indented[:3]]))
    told = fields.clean("\n".join([told, *after[:6]]))
    if _says_more(told, address) or not before:
        return told
    return fields.clean("\n".join([*before[-3:], told]))


def _says_more(text: str, address: str) -> bool:
    return len(text.lower().replace(address.lower(), "").strip(" <>:()[]-*\"'")) > 12


def enrich(statuses: list[RecipientStatus], text: str, came_back: Copy | None) -> list[RecipientStatus]:
    """Add to each recipient what the letter says: the address where the fields lack it, the reply, the reason in prose."""
    known = [status.address for status in statuses if status.address]
    if len(known) < len(statuses):
        spare = [found for found in candidates(text) if found not in known] or _addressed(came_back)
        if len(statuses) - len(known) == 1 and len(spare) >= 1:
            statuses = [status if status.address else replace(status, final_recipient=spare[0]) for status in statuses]
            known = [status.address for status in statuses if status.address]
    told = explanations(text, [name for status in statuses for name in (status.final_recipient, status.original_recipient) if name])
    return [_with_explanation(status, told) for status in statuses]


def _addressed(copy: Copy | None) -> list[str]:
    returned = copy.read() if copy else None
    return list(returned.recipients) if returned else []


def _with_explanation(status: RecipientStatus, told: dict[str, str]) -> RecipientStatus:
    """Return the status with the letter's words added to its diagnostic, and its reply from there if it had none."""
    names = {name.lower(): name for name in (status.final_recipient, status.original_recipient) if name}
    words = next((told[name] for name in names if told.get(name)), "")
    if not words or words in status.diagnostic:
        return status
    reply = status.reply or fields.find_reply(words)
    return replace(status, diagnostic=fields.clean(f"{status.diagnostic} {words}"), reply=reply)


_LISTED = re.compile(
    r"^[ \t]*[-*•>·\d.)]{0,4}[ \t]*(?:SMTP[ ])?[\"'(]?<?([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})>?[\"')]?[ \t]{0,8}"
    r"(?::|;|$|\.\.\.|\[|\(|->| on [A-Z]|,? (?:Invalid|is |has |was |does |unknown|not |for the following|because))",
    re.MULTILINE,
)
# These two are searched in lower case, as _COPY is.
_COMMAND = re.compile(r"rcpt[ ]?to:[ ]{0,4}<?([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})>?")
_DOTTED = re.compile(r"(?:^|[ \t])<?([^\s<>@\"]{1,128}@[^\s<>@:;,()\"']{1,255})>?[ ]?\.\.\.", re.MULTILINE)
_CALLED = re.compile(
    r"""(?:recipients?(?:[ ]address(?:es)?)?|addressee|(?:un|not[ ])deliverable(?:[ ]to)?|deliver(?:ed|y|ing)?(?:[ ][\w' ]{1,30})?[ ](?:to
      |failed:?)|unknown[ ](?:user|recipient|address)|
      target[ ]mail[ ]address|address(?:es)?|no[ ]such[ ]user|user|mailbox|reach|sent[ ]to|send[ ]to|message[ ](?:to|for)|mail[ ](?:to
      |for)|e-?mail[ ](?:to|for)|
      destinataires?|empf(?:ä|ae)nger|destinat[aá]ri[oa]s?|adresse|indirizzo|direcci[oó]n|endere[cç]o|ontvanger|adresat[a]?|mottaker
      |mottagare|vastaanottaja|
      получател[а-я]{0,3}|адрес[а-я]{0,3}|адресат[а-я]{0,3}|宛先|送信先|受信者|収信者|收件人|收信人|地址|수신자|받는[ ]?사람)
      [^@\n<]{0,60}(?<![^\s<:\"'(\[：「])<?([^\s<>@"]{1,128}@[^\s<>@:;,()"']{1,255})""",
    re.VERBOSE,
)
_NOT_RECIPIENT = re.compile(
    r"contact|support|assistance|help|e-?mail us|write to|mail from|from:|sender|postmaster at|forward this|reply-to|on behalf"
    r"|envelope-from|return-path"
)
_BESIDE = 60
"""Characters between such a word and the address that it is said of."""
_NAMING_LIMIT = 48 << 10
"""Characters of a letter in which recipients are looked for: the patterns try every word of many languages."""
_LONG = 1000
_AHEAD, _BEHIND = 300, 300
"""Of a line longer than `_LONG`, what stands around an address: more than any naming of one takes."""
_ELSEWHERE = "\x01"
"""Stands where something was left out, so that no line begins there."""


def candidates(text: str, limit: int = 200) -> list[str]:
    """Return the addresses that a letter names as its failed recipients, the surest kind of naming that it has."""
    if "@" not in text:
        return []
    text = _around_addresses(text[:_NAMING_LIMIT])
    lower = text.lower()
    lower = lower if len(lower) == len(text) else text
    for pattern, searched in ((_LISTED, text), (_COMMAND, lower), (_DOTTED, text), (_CALLED, lower)):
        found: dict[str, None] = {}
        for match in pattern.finditer(searched):
            before = text[max(text.rfind("\n", 0, match.start(1)) + 1, match.start(1) - 100) : match.start(1)]
            address = fields.address(text[match.start(1) : match.end(1)])
            if address and "." in address.rpartition("@")[2] and not _said_of_another(before):
                found[address] = None
                if len(found) >= limit:
                    break
        if found:
            return _each_once(found)
    return []


def _around_addresses(text: str) -> str:
    """Return the lines that hold an address: no naming goes over the end of a line. Of a long one, what stands around its addresses."""
    return "\n".join([line if len(line) <= _LONG else _pieces(line) for line in text.split("\n") if "@" in line])


def _pieces(line: str) -> str:
    pieces: list[str] = []
    reached = 0
    at = line.find("@")
    while at >= 0:
        begin = max(at - _AHEAD, reached)
        left_out = _ELSEWHERE if begin > reached else ""
        end = reached = min(at + _BEHIND, len(line))
        pieces.append(f"{left_out}{line[begin:end]}")
        at = line.find("@", end)
    return "".join(pieces) + (_ELSEWHERE if reached < len(line) else "")


def _said_of_another(before: str) -> bool:
    """Whether the words before an address name another than the recipient: whom to ask, who sent."""
    near = before.rpartition("@")[2].lower()
    return any(len(near) - found.end() <= _BESIDE for found in _NOT_RECIPIENT.finditer(near))


def _each_once(addresses: Iterable[str]) -> list[str]:
    once: dict[str, str] = {}
    for address in addresses:
        once.setdefault(address.lower(), address)
    return list(once.values())


def status_code(text: str) -> StatusCode | None:
    """Find the enhanced status that stands in an explanation."""
    found = re.search(r"(?<![\d.])[245]\.\d{1,2}\.\d{1,3}(?![\d.]*\d)", text)
    return StatusCode.parse(found[0]) if found else None
