"""Feedback reports: the abuse reporting format (RFC 5965, 6591), with or without the part that makes it one.

For: who complains, or whose authentication failed, about which mail. Never: aggregate reports (DMARC, TLS), which concern no one mail.
"""

import ipaddress
import re

from bounced.report import FeedbackReport, Returned
from bounced.report.fields import clean, found_addresses
from bounced.report.mime import Headers, Message, Part, scan, scan_within
from bounced.report.returned import TYPES, of_headers

READER = "rfc5965"
_FIELDS_LIMIT = 16 << 10
_MAX_RECIPIENTS = 50
_REPORT_TYPES = ("message/feedback-report", "text/feedback-report", "application/feedback-report", "message/global-feedback-report")
_MARK = b"\nfeedback-type:"
_COMPANIONS = (b"\nuser-agent:", b"\nversion:", b"\nsource-ip:", b"\noriginal-mail-from:", b"\noriginal-rcpt-to:", b"\nreported-domain:")
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_DOMAIN = re.compile(r"[^\s@<>:;,]{1,253}\.[^\s@<>:;,]{1,63}")
# A quoted header block begins with a line that mail systems put on top.
_QUOTED = re.compile(
    rb"\n[ \t]*\n((?:Received|Return-Path|Delivered-To|X-Apparently-To|X-[A-Za-z-]{1,60}|From|Message-ID):)", re.IGNORECASE
)
# Reports without fields: the reader's name, the feedback type, and the subject that they all bear, with the address that sent our mail.
_SUBJECTS = (
    ("jmrp", "abuse", re.compile(r"complaint about message from +(\S{2,45})", re.IGNORECASE)),
    ("fbl-subject", "abuse", re.compile(r"(?:client )?(?:tos notification|email feedback report for ip) *(\S{2,45})?", re.IGNORECASE)),
    ("spamcop", "abuse", re.compile(r"\[spamcop \((\S{2,45})\) id:\d{1,20}\]", re.IGNORECASE)),
    ("dmarc-failure", "auth-failure", re.compile(r"dmarc (?:forensic|failure) report\b(?:.{0,200}\bip:? ?(\S{2,45}))?", re.IGNORECASE)),
)


def read(message: Message) -> FeedbackReport | None:
    """Read a complaint or an authentication failure report."""
    feedback = _fields(message)
    original = _original(message)
    if feedback is None:
        return _by_subject(message, original)
    came_back = of_headers(original) if original else None
    kind = _WORD.match(clean(feedback.get(b"feedback-type"), 100).lower())
    return FeedbackReport(
        reader=READER,
        feedback_type=kind[0] if kind else "abuse",
        recipients=_recipients(feedback, original, came_back),
        source_ip=_ip_address(feedback.get(b"source-ip")),
        reported_domain=_domain(feedback.get(b"reported-domain")),
        user_agent=clean(feedback.get(b"user-agent"), 200) or None,
        returned=came_back,
    )


def _fields(message: Message) -> Headers | None:
    """Return the report's fields: the part of the right type, else a text that has them."""
    typed = message.first(*_REPORT_TYPES)
    if typed is not None:
        return Headers(b"\n".join(typed.decoded()[:_FIELDS_LIMIT].splitlines()))
    for part in message.parts:
        if part.content_type in TYPES or part.content_type.startswith(("image/", "video/", "audio/", "text/html")):
            continue
        found = _paragraph(part)
        if found is not None:
            return Headers(found)
    return None


def _paragraph(part: Part) -> bytes | None:
    """Return the lines around Feedback-Type in a part that is not marked as a report."""
    octets = b"\n" + b"\n".join(part.decoded().splitlines())
    lower = octets.lower()
    at = lower.find(_MARK)
    if at < 0:
        return None
    start = max(lower.rfind(b"\n\n", 0, at + 1) + 1, at - _FIELDS_LIMIT, 0)
    end = lower.find(b"\n\n", at, at + _FIELDS_LIMIT)
    end = min(len(octets), at + _FIELDS_LIMIT) if end < 0 else end
    companions = sum(lower.find(name, start, end) >= 0 for name in _COMPANIONS)
    return octets[start + 1 : end] if companions >= 2 else None


def _original(message: Message) -> Headers | None:
    """Return the headers of the mail that the report is about."""
    for part in reversed(message.parts):
        if part.content_type in TYPES:
            return scan_within(part).headers
    return None


def _by_subject(message: Message, original: Headers | None) -> FeedbackReport | None:
    """Read a report that has no fields: a subject of its family, and the mail or its headers below."""
    subject = message.headers.get(b"subject").strip()[:400]
    for reader, feedback_type, pattern in _SUBJECTS:
        found = pattern.match(subject)
        if not found:
            continue
        original = original or _quoted_headers(message)
        came_back = of_headers(original) if original else None
        if came_back is None:
            return None
        return FeedbackReport(
            reader=reader,
            feedback_type=feedback_type,
            recipients=_recipients(Headers(b""), original, came_back),
            source_ip=_ip_address(found[1] or ""),
            returned=came_back,
        )
    return None


def _quoted_headers(message: Message) -> Headers | None:
    part = message.first("text/plain")
    body = part.decoded() if part else b""
    found = _QUOTED.search(body.replace(b"\r\n", b"\n"))
    return scan(found.string[found.start(1) :]).headers if found else None


def _recipients(feedback: Headers, original: Headers | None, came_back: Returned | None) -> tuple[str, ...]:
    """Return who complains, from the field that says it most directly (RFC 5965 section 3.2)."""
    places = [feedback.all(b"original-rcpt-to", _MAX_RECIPIENTS), feedback.all(b"removal-recipient", _MAX_RECIPIENTS)]
    if original is not None:
        places.append(original.all(b"x-hmxmroriginalrecipient", 1))
    for values in places:
        addresses = found_addresses(" ".join(value[:1000] for value in values))
        if addresses:
            return tuple(addresses)
    return came_back.recipients if came_back else ()


def _ip_address(value: str) -> str | None:
    text = value.strip(" \t[]().,;").lower().removeprefix("ipv6:")
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


def _domain(value: str) -> str | None:
    found = _DOMAIN.search(clean(value, 300))
    return found[0].lower() if found else None
