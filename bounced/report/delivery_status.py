"""Delivery status notifications (RFC 3464, 6533, in the multipart/report of RFC 3462 and 6522).

For: the machine-readable part, and the words of the readable one where the former says too little. Never: reports without such a part.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from msgspec.structs import replace

from bounced.report import Action, Copy, DeliveryReport, RecipientStatus, fields, prose
from bounced.report.mime import Message, Part, to_text
from bounced.report.prose import Letter
from bounced.report.returned import TYPES as RETURNED_TYPES
from bounced.report.returned import copy_of
from bounced.status import Reply, StatusCode

READER = "rfc3464"
MAX_RECIPIENTS = 1000
STATUS_TYPES = ("message/delivery-status", "message/global-delivery-status", "text/delivery-status", "message/deliverystatus")
_BLANK = re.compile(r"\n[ \t]*\n\s*")
_NEARLY_BLANK = re.compile(r"\n[ \t]+\n")
_RECIPIENT_FIELDS = frozenset({"final-recipient", "original-recipient"})
_MESSAGE_FIELDS = frozenset({"reporting-mta", "original-envelope-id", "dsn-gateway", "received-from-mta", "arrival-date"})
_OPENINGS = (
    b"reporting-mta:", b"final-recipient:", b"original-recipient:", b"original-envelope-id:", b"received-from-mta:", b"dsn-gateway:",
)  # fmt: skip
_OTHER_TYPES = ("text/", "application/")
_OPENING_LIMIT = 2000

# Two such fields near each other: one alone may be quoted in a person's mail.
_UNFRAMED = re.compile(
    r"^(?:Reporting-MTA|Final-Recipient|Original-Recipient|Action):.{0,300}\n(?:.{0,300}\n){0,12}?(?:Final-Recipient|Diagnostic-Code"
    r"|Status):",
    re.MULTILINE | re.IGNORECASE,
)
# Sendmail keeps the first line only of a reply of many.
_CUT_REPLY = re.compile(r"[245]\d\d-(?!.* [245]\d\d )")
# nullmailer writes one report only, when it gives up, and calls a message that expired delayed (nullmailer-dsn, 2.2).
_FINAL_THOUGH_DELAYED = "x-local-hostname;"
_STARTS = frozenset({"final-recipient", "original-recipient", "action", "status"})
_FIELD_LIMIT = 16 << 10
_STATUS_LIMIT = 512 << 10
_MEMORABLE = 512
_LONG = 64 << 10
"""Characters of a text that is not parted the short way, which copies it."""
_FEW_WORDS = 20
"""Characters of a diagnostic that tell nothing yet ("550 No such user here")."""
_UNFRAMED_LIMIT = 16 << 10

Fields = dict[str, str]


def read(message: Message) -> DeliveryReport | None:
    """Read a report that has a part of type message/delivery-status with at least one recipient."""
    part = message.first(*STATUS_TYPES) or _untyped(message)
    return of_part(message, part, copy_of(message)) if part else None


def _untyped(message: Message) -> Part | None:
    """Return the first part of another type that opens as a report does: gateways type what they do not know anew."""
    if len(message.parts) == 1:
        return None
    for part in message.parts:
        if part.content_type in RETURNED_TYPES:
            return None
        if part.content_type.startswith(_OTHER_TYPES) and part.content_type != "text/html":
            opening = part.decoded(_OPENING_LIMIT).lstrip().lower()
            if opening.startswith(_OPENINGS) and b"\ndisposition:" not in opening:
                return part
    return None


def of_part(message: Message, part: Part, came_back: Copy | None) -> DeliveryReport | None:
    """Read the report that stands in `part` of a message; None if it names no recipient."""
    per_message, groups = _groups(_unindented(to_text(part.decoded(_STATUS_LIMIT), "")))
    if not groups:
        return None
    statuses = _statuses(message, part, groups, came_back)
    if not statuses:
        return None
    reporting = per_message.get("reporting-mta")
    if reporting and reporting.startswith(_FINAL_THOUGH_DELAYED):
        statuses = tuple(replace(status, action=Action.FAILED) if status.action is Action.DELAYED else status for status in statuses)
    envelope_id = per_message.get("original-envelope-id")
    return DeliveryReport(
        reader=READER,
        standard=True,
        recipients=statuses,
        reporting_mta=fields.mta(reporting),
        original_envelope_id=fields.clean(envelope_id, 255) or None if envelope_id else None,
        copy=came_back,
    )


def read_unframed(letter: Letter) -> DeliveryReport | None:
    """Read a report whose MIME structure is lost: its fields stand in the text."""
    found = _UNFRAMED.search(letter.whole)
    if not found:
        return None
    per_message, groups = _groups(letter.whole[found.start() : found.start() + _UNFRAMED_LIMIT])
    statuses = [_status(group) for group in groups]
    if any(map(_says_too_little, statuses)):
        statuses = prose.enrich(statuses, letter.whole[: found.start()], letter.returned)
    statuses = [status for status in statuses if status.address]
    if not statuses:
        return None
    return DeliveryReport(
        reader="rfc3464-unframed",
        standard=False,
        recipients=tuple(statuses),
        reporting_mta=fields.mta(per_message.get("reporting-mta")),
        copy=letter.returned,
    )


def _unindented(text: str) -> str:
    """Return the text without the indentation of its first line, which begins a field: none of them continues another then."""
    if text[:1] not in "\n \t":
        return text
    text = text.lstrip("\n")
    indent = text[: len(text) - len(text.lstrip(" \t"))]
    return f"\n{text}".replace(f"\n{indent}", "\n")[1:] if indent else text


def _groups(text: str) -> tuple[Fields, list[Fields]]:
    """Part the fields into those of the message and those of each recipient, however the blank lines stand."""
    return _usual_groups(text) or _any_groups(text)


def _usual_groups(text: str) -> tuple[Fields, list[Fields]] | None:
    """Part the fields where the blank lines stand as in RFC 3464 section 2.1, each block without a name twice; None where they do not."""
    if len(text) > _LONG or text.count("\n\n") > MAX_RECIPIENTS:
        return None
    if "\n " in text or "\n\t" in text:
        if _NEARLY_BLANK.search(text):
            return None
        text = text.replace("\n ", " ").replace("\n\t", " ")
    blocks = text.strip("\n").split("\n\n")
    if len(blocks) == 1:
        return None
    per_message = fields.usual_fields(blocks[0])
    if per_message is None or not _STARTS.isdisjoint(per_message):
        return None
    groups: list[Fields] = []
    for block in blocks[1:]:
        group = fields.usual_fields(block)
        if group is None or "final-recipient" not in group:
            return None
        first = next(iter(group))
        if first not in _STARTS or (groups and first not in groups[-1] and first != "original-recipient"):
            return None
        groups.append(group)
    return per_message, groups


def _any_groups(text: str) -> tuple[Fields, list[Fields]]:
    per_message: Fields = {}
    groups: list[Fields] = []
    current = per_message
    for block in _blocks(text):
        fresh = True
        told = list(fields.pairs(block))
        if _is_group(told, current):
            if len(groups) >= MAX_RECIPIENTS:
                return per_message, groups
            current = dict(told)
            groups.append(current)
            continue
        for name, value in told:
            starts = name in _STARTS
            if starts and (
                current is per_message or name in current or (fresh and name.endswith("-recipient") and "final-recipient" in current)
            ):
                if len(groups) >= MAX_RECIPIENTS:
                    return per_message, groups
                current = {}
                groups.append(current)
            fresh = False
            current.setdefault(name, value)
    return per_message, [group for group in groups if len(group) > 1 or "final-recipient" in group or "original-recipient" in group]


def _is_group(told: list[tuple[str, str]], current: Fields) -> bool:
    """Whether a block holds the fields of one recipient, each once, but in another order than theirs: none begins with what is known."""
    names = {name for name, _ in told}
    return (
        bool(told)
        and told[0][0] not in _STARTS
        and len(names) == len(told)
        and not _RECIPIENT_FIELDS.isdisjoint(names)
        and _MESSAGE_FIELDS.isdisjoint(names)
        and (not current or "final-recipient" in current or not _MESSAGE_FIELDS.isdisjoint(current))
    )


def _blocks(text: str) -> Iterator[str]:
    """Yield what stands between blank lines, one at a time: there may be more of them than are read."""
    start = 0
    for blank in _BLANK.finditer(text):
        yield text[start : blank.start()]
        start = blank.end()
    yield text[start:]


def _statuses(message: Message, part: Part, groups: list[Fields], came_back: Copy | None) -> tuple[RecipientStatus, ...]:
    statuses = [_status(group) for group in groups]
    if True not in map(_says_too_little, statuses):
        return tuple(statuses)
    statuses = prose.enrich(statuses, prose.note(message, before=part), came_back)
    named = (
        status if status.address else _with_bare_name(status, group, message, part) for status, group in zip(statuses, groups, strict=True)
    )
    return tuple(status for status in named if status.address)


def _with_bare_name(status: RecipientStatus, group: Fields, message: Message, part: Part) -> RecipientStatus:
    """Keep a local name without domain (X.400 and LAN gateways write it): it says at least that somebody failed."""
    name = fields.clean(fields.without_type(group.get("final-recipient", "")), 255).strip("<>")
    if not name or " " in name:
        return status
    words = status.diagnostic or prose.explanation_for_one(prose.note(message, before=part), name)
    return replace(status, final_recipient=name, diagnostic=words, reply=status.reply or fields.find_reply(words))


def _says_too_little(status: RecipientStatus) -> bool:
    if status.final_recipient is None and status.original_recipient is None:
        return True
    action, diagnostic = status.action, status.diagnostic
    if action is not Action.FAILED and action is not Action.DELAYED:
        return False
    if len(diagnostic) <= _FEW_WORDS:
        return True
    code = status.status
    if code is not None and not code.subject:
        reply = status.reply
        if reply is None or (reply.code < 500 and action is Action.FAILED):
            return True
    return diagnostic[3] == "-" and _CUT_REPLY.match(diagnostic) is not None


def _status(group: Fields) -> RecipientStatus:
    final = fields.address(group.get("final-recipient", ""))
    action, status, written = group.get("action", ""), group.get("status", ""), group.get("diagnostic-code", "")
    fate = _fate if len(action) + len(status) + len(written) <= _MEMORABLE else _fate.__wrapped__
    told, code, diagnostic, reply = fate(action, status, written)
    return RecipientStatus(
        action=told,
        final_recipient=final,
        original_recipient=fields.original(group.get("original-recipient", ""), final),
        status=code,
        reply=reply,
        diagnostic=diagnostic,
        remote_mta=fields.mta(group.get("remote-mta")),
    )


@lru_cache(maxsize=1024)
def _fate(action: str, status: str, written: str) -> tuple[Action, StatusCode | None, str, Reply | None]:
    """Read Action, Status and Diagnostic-Code (RFC 3464 section 2.3): that code's text, and the reply in it. Systems tell many the same."""
    code = StatusCode.parse(status)
    one_line = fields.without_type(written[:_FIELD_LIMIT])
    diagnostic = fields.unescaped(fields.printable(one_line, fields.DIAGNOSTIC_LIMIT))
    return _action(action, code), code, diagnostic, fields.find_reply(diagnostic) if diagnostic else None


def _action(written: str, code: StatusCode | None) -> Action:
    told = fields.action(written)
    if told is not None:
        return told
    return Action.DELIVERED if code is not None and code.klass == 2 else Action.FAILED
