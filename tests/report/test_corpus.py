"""The labelled corpus: what must be found in it, and a few of its messages as golden samples of our own."""

import json
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from bounced.report import Action, AutomaticReply, DeliveryReport, FeedbackReport, Report
from bounced.report.reader import read

_GOLDEN = sorted((Path(__file__).parents[1] / "corpus").glob("*.eml"))
_BOUNCES = {"dsn", "nonstandard-bounce", "delayed"}


def _kind(report: Report) -> str:
    match report:
        case DeliveryReport():
            actions = {status.action for status in report.recipients}
            if actions == {Action.DELAYED}:
                return "delayed"
            return "success" if actions <= {Action.DELIVERED, Action.RELAYED, Action.EXPANDED} else "dsn"
        case FeedbackReport():
            return "arf"
        case AutomaticReply():
            return "auto-reply"
        case _:
            return "not-a-bounce"


@pytest.mark.parametrize("path", _GOLDEN, ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    """Each golden sample gives exactly the row beside it."""
    row = tomllib.loads(path.with_suffix(".toml").read_text(encoding="utf-8"))
    report = read(path.read_bytes())
    assert isinstance(report, DeliveryReport)
    status = report.recipients[0]
    assert {
        "reader": report.reader,
        "action": status.action.value,
        "recipient": status.address,
        "status": str(status.status or ""),
        "reply": status.reply.code if status.reply else 0,
        "returned": (report.returned.message_id if report.returned else None) or "",
    } == {name: row[name] for name in ("reader", "action", "recipient", "status", "reply", "returned")}
    assert row["says"] in status.diagnostic


def test_golden_samples_are_there() -> None:
    """There is a golden sample of each lab system."""
    assert {path.stem.partition("-")[0] for path in _GOLDEN} >= {"dma", "exim", "haraka", "opensmtpd", "postfix", "sendmail"}


def test_open_corpus(shared: Path) -> None:
    """No ordinary mail is a bounce, at least 995 of 1,000 bounces are found, and 99 of 100 recipients with as few too many."""
    count: Counter[str] = Counter()
    for line in (shared / "corpus" / "labels.jsonl").read_text(encoding="utf-8").splitlines():
        label = json.loads(line)
        if label["kind"] == "unknown":
            continue
        report = read((shared / "corpus" / label["file"]).read_bytes())
        kind = _kind(report)
        wanted, got = label["kind"] in _BOUNCES, kind in _BOUNCES
        count["hit" if wanted and got else "missed" if wanted else "false" if got else "rest"] += 1
        if wanted and isinstance(report, DeliveryReport):
            names = {status.address.lower() for status in report.recipients if status.address}
            for recipient in label["recipients"]:
                known = {recipient["address"].lower(), *(alias.lower() for alias in recipient.get("aliases", ()))}
                count["found" if known & names else "lost"] += not recipient.get("optional", False)
                names -= known
            count["extra"] += len(names) if any(not recipient.get("optional", False) for recipient in label["recipients"]) else 0
    assert count["false"] == 0
    assert count["hit"] >= 0.995 * (count["hit"] + count["missed"])
    assert count["found"] >= 0.99 * (count["found"] + count["lost"])
    assert count["extra"] <= 0.01 * count["found"]
