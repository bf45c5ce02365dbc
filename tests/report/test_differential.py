"""Our scanner against the standard library's parser, over every standard report of the corpus."""

import email
import json
import re
from email.message import Message
from pathlib import Path

from bounced.report import DeliveryReport
from bounced.report.reader import read

_ADDRESS = re.compile(r"[^\s;<>]+@[^\s;<>()]+")


def _theirs(content: bytes) -> list[tuple[str, str]] | None:
    """Return (final recipient, status) of each recipient as email.parser sees them; None without a status part."""
    message = email.message_from_bytes(content)
    for part in message.walk():
        if part.get_content_type() in ("message/delivery-status", "message/global-delivery-status"):
            blocks = part.get_payload()
            if not isinstance(blocks, list):
                return None
            found = [_recipient(block) for block in blocks if isinstance(block, Message) and "final-recipient" in block]
            return [one for one in found if one[0]]
    return None


def _recipient(block: Message) -> tuple[str, str]:
    address = _ADDRESS.search(str(block["final-recipient"]))
    status = re.match(r"\s*([245]\.\d{1,3}\.\d{1,3})", str(block["status"] or ""))
    return (address[0].lower() if address else "", status[1] if status else "")


def _reason(content: bytes, theirs: list[tuple[str, str]], ours: list[tuple[str, str]]) -> str | None:
    """Why the two may differ."""
    if b"message/global" in content.lower():
        return "RFC 6533 addresses: they do not decode them"
    if {address for address, _ in theirs} <= {address for address, _ in ours} and len(ours) > len(theirs):
        return "a recipient that they lose: blocks not parted by an empty line, or an encoded part"
    if any(address.startswith("@") for address, _ in theirs):
        return "a source route (RFC 5321 appendix C): we take it off"
    if b"base64" in content.lower() and not theirs:
        return "an encoded status part: they do not decode it"
    if sorted({address.strip("'\"") for address, _ in theirs}) == sorted({address.strip("'\"") for address, _ in ours}):
        return "quotes, or a field that stands twice: we take the first"
    return None


def test_same_recipients_and_status(shared: Path) -> None:
    """Both see the same recipients and status in each report, or differ for a listed reason."""
    compared, differing, unexplained = 0, 0, {}
    for line in (shared / "corpus" / "labels.jsonl").read_text(encoding="utf-8").splitlines():
        label = json.loads(line)
        content = (shared / "corpus" / label["file"]).read_bytes()
        if b"\n" not in content:
            continue  # bare-CR copies: they see one line
        theirs = _theirs(content)
        report = read(content)
        if not theirs or not isinstance(report, DeliveryReport) or not report.standard:
            continue
        ours = [((one.final_recipient or "").lower(), str(one.status or "")) for one in report.recipients if one.final_recipient]
        compared += 1
        if sorted(ours) != sorted(theirs):
            differing += 1
            if _reason(content, theirs, ours) is None:
                unexplained[label["id"]] = (theirs[:2], ours[:2])
    assert compared > 900
    assert differing < compared / 20
    assert unexplained == {}
