"""Feedback reports: abuse, authentication failure, opt-out (RFC 5965, 6591), and the forms that are like it without saying so.

For: complaints about our mail, sparse and redacted ones too. Never: aggregate reports (DMARC, TLS): those are no feedback about one mail.
"""

import re

from bounced.report import FeedbackReport, Returned, fields
from bounced.report.mime import Message, Part, inner_headers, to_text
from bounced.report.returned import TYPES as RETURNED_TYPES
from bounced.report.returned import of_part, returned

READER = "rfc5965"
_FIELDS_LIMIT = 16 << 10
_COMPANIONS = (b"\nuser-agent:", b"\nversion:", b"\nsource-ip:", b"\noriginal-mail-from:", b"\noriginal-rcpt-to:", b"\nreported-domain:")
_SUBJECT_IP = re.compile(r"complaint about message from ([0-9A-Fa-f.:]{2,45})")
_FAILED_POLICY = re.compile(
    r"(?:failed|did not meet) the (?:published|sending domain's)? ?dmarc policy|dmarc (?:failure|forensic) report", re.IGNORECASE
)
_DOMAIN = re.compile(r"(?:sender domain|reported domain): *([\w.-]{1,255})", re.IGNORECASE)
_IP = re.compile(r"(?:sender ip address|ip address|from ip|source ip):? *([0-9A-Fa-f.:]{2,45})", re.IGNORECASE)


def read(message: Message) -> FeedbackReport | None:
    """Read a report with a message/feedback-report part, or one of the kinds that lack it."""
    part = message.first("message/feedback-report", "text/feedback-report", "application/feedback-report")
    if part is not None:
        return _standard(message, part.decoded())
    untyped = next(filter(None, map(_untyped, message.parts)), None)
    if untyped is not None:
        return _standard(message, untyped)
    if message.headers.mentions(b"feedback-report"):
        return _bare(message)
    return _hotmail(message) or _policy_letter(message)


def _untyped(part: Part) -> bytes | None:
    """Return the fields that stand in a part of another type: the lines around Feedback-Type, where its usual companions are."""
    if part.content_type in RETURNED_TYPES or part.content_type.startswith(("image/", "audio/", "video/", "text/html")):
        return None
    octets = b"\n" + part.decoded().replace(b"\r\n", b"\n")
    lower = octets.lower()
    at = lower.find(b"\nfeedback-type:")
    if at < 0:
        return None
    start = max(lower.rfind(b"\n\n", 0, at + 1), at - _FIELDS_LIMIT, 0)
    end = lower.find(b"\n\n", at, at + _FIELDS_LIMIT)
    found = octets[start : end if end >= 0 else at + _FIELDS_LIMIT]
    return found.strip(b"\n") if sum(name in found.lower() for name in _COMPANIONS) > 1 else None


def _standard(message: Message, octets: bytes) -> FeedbackReport:
    told: dict[str, list[str]] = {}
    for name, value in fields.pairs(to_text(octets, "").replace("\n\n", "\n"), every=True):
        told.setdefault(name, []).append(value)
    named = told.get("original-rcpt-to", []) + told.get("removal-recipient", []) + told.get("x-original-to", [])
    came_back = _with_path(returned(message), told.get("original-mail-from"))
    kind = fields.clean(told.get("feedback-type", ["abuse"])[0], 40).lower() or "abuse"
    return FeedbackReport(
        reader=READER,
        feedback_type=kind,
        recipients=_recipients(named, came_back),
        source_ip=_first(told, "source-ip"),
        reported_domain=_first(told, "reported-domain"),
        user_agent=_first(told, "user-agent"),
        returned=came_back,
    )


def _recipients(named: list[str], came_back: Returned | None) -> tuple[str, ...]:
    found = dict.fromkeys(address for address in map(fields.address, named[:100]) if address)
    if not found and came_back is not None and len(came_back.recipients) == 1:
        return came_back.recipients
    return tuple(found)


def _with_path(came_back: Returned | None, mail_from: list[str] | None) -> Returned | None:
    path = fields.address(mail_from[0]) if mail_from else None
    if path is None:
        return came_back
    if came_back is None:
        return Returned(return_path=path)
    return came_back if came_back.return_path else _replace_path(came_back, path)


def _replace_path(came_back: Returned, path: str) -> Returned:
    return Returned(
        message_id=came_back.message_id,
        return_path=path,
        sender=came_back.sender,
        recipients=came_back.recipients,
        received=came_back.received,
    )


def _first(told: dict[str, list[str]], name: str) -> str | None:
    return fields.clean(told[name][0], 255) or None if name in told else None


def _bare(message: Message) -> FeedbackReport | None:
    """A multipart/report of type feedback-report that lost its machine-readable part."""
    if not message.content_type.startswith("multipart/report"):
        return None
    came_back = returned(message)
    return FeedbackReport(reader=READER, feedback_type="abuse", recipients=_recipients([], came_back), returned=came_back)


def _hotmail(message: Message) -> FeedbackReport | None:
    """Microsoft's JMRP: `complaint about message from IP`, the mail attached, the recipient in a header of its own."""
    found = _SUBJECT_IP.search(message.headers.get(b"subject"))
    part = message.first(*RETURNED_TYPES)
    if not found or part is None:
        return None
    inner = inner_headers(part)
    named = [inner.get(name) for name in (b"x-hmxmroriginalrecipient", b"x-rcpt-to", b"x-original-to") if name in inner]
    came_back = of_part(part)
    return FeedbackReport(
        reader="jmrp", feedback_type="abuse", recipients=_recipients(named, came_back), source_ip=found[1], returned=came_back
    )


def _policy_letter(message: Message) -> FeedbackReport | None:
    """A DMARC failure report without the machine-readable part (RFC 7489 section 7.3 asks for it)."""
    if (
        not message.headers.mentions(b"dmarc")
        or not message.parts
        or message.content_type not in ("multipart/report", "text/plain", "multipart/mixed")
    ):
        return None
    text = message.parts[0].text()[:4000]
    subject = message.headers.get(b"subject").lower()
    if not _FAILED_POLICY.search(text) or not ("forensic" in subject or "failure" in subject):
        return None
    domain, source = _DOMAIN.search(text), _IP.search(text)
    return FeedbackReport(
        reader="dmarc-letter",
        feedback_type="auth-failure",
        source_ip=source[1] if source else None,
        reported_domain=domain[1] if domain else None,
        returned=returned(message),
    )
