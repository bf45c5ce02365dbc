"""One returned mail, explained: what it is, who read it, which rule judged each recipient by which words, and what was not heard.

For: `bounced explain`, and whoever doubts a judgement. Never: the token, the store or policy; it looks at the mail alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from bounced.outcome import UNMATCHED, Disposition, Outcome
from bounced.outcome.causes import causes
from bounced.outcome.judge import Hit, judge_feedback, weigh
from bounced.outcome.ruleset import RuleSet
from bounced.report import Action, AutomaticReply, Automation, DeliveryReport, FeedbackReport, RecipientStatus, Report, Unrecognized
from bounced.report.reader import read

_MAX_SHOWN = 300
_MAX_HITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """One recipient's fate: `address` as the report names it, `hits` all rows that applied, the one that spoke first."""

    address: str | None
    outcome: Outcome
    status: RecipientStatus | None = None
    hits: tuple[Hit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A mail explained. `kind` is dsn, nonstandard-bounce, delayed, success, arf, auto-reply, challenge or not-a-bounce."""

    kind: str
    report: Report
    recipients: tuple[Recipient, ...] = ()


def explain(content: bytes, rules: RuleSet) -> Explanation:
    """Read and judge one mail. Total."""
    return explain_report(read(content), rules)


def explain_report(report: Report, rules: RuleSet) -> Explanation:
    """Judge what a reader found. Total."""
    match report:
        case DeliveryReport():
            recipients = tuple(_recipient(status, report.reporting_mta, rules) for status in report.recipients)
            return Explanation(kind=_kind(report), report=report, recipients=recipients)
        case FeedbackReport():
            outcome = judge_feedback(report)
            complained = tuple(Recipient(address=address, outcome=outcome) for address in report.recipients)
            return Explanation(kind="arf", report=report, recipients=complained)
        case AutomaticReply():
            return Explanation(kind=_AUTOMATIC[report.automation], report=report)
        case Unrecognized():
            return Explanation(kind="not-a-bounce", report=report)
        case _:
            assert_never(report)


_AUTOMATIC = {
    Automation.REPLY: "auto-reply",
    Automation.READ_RECEIPT: "auto-reply",
    Automation.CHALLENGE: "challenge",
    Automation.UNSUBSCRIBE: "not-a-bounce",
}


def _recipient(status: RecipientStatus, reporting_mta: str | None, rules: RuleSet) -> Recipient:
    judgement = weigh(status, reporting_mta, rules)
    return Recipient(address=status.address, outcome=judgement.outcome, status=status, hits=judgement.hits)


def _kind(report: DeliveryReport) -> str:
    actions = {recipient.action for recipient in report.recipients}
    if Action.FAILED in actions or not actions:
        return "dsn" if report.standard else "nonstandard-bounce"
    return "delayed" if Action.DELAYED in actions else "success"


def as_json(explanation: Explanation, identity: str) -> dict[str, object]:
    """Return what programs want to know: identity, kind, and each recipient's address, disposition, status and category."""
    return {
        "id": identity,
        "kind": explanation.kind,
        "recipients": [
            {
                "address": recipient.address,
                "disposition": str(recipient.outcome.disposition),
                "status": recipient.outcome.status,
                "category": str(recipient.outcome.category),
            }
            for recipient in explanation.recipients
            if recipient.address
        ],
    }


def as_text(explanation: Explanation) -> str:
    """Return lines for a person. Strangers' words are shown without anything that a terminal would obey."""
    lines = [_headline(explanation)]
    for recipient in explanation.recipients:
        lines += ["", *_lines(recipient)]
    return "\n".join(lines) + "\n"


def _headline(explanation: Explanation) -> str:
    report = explanation.report
    match report:
        case DeliveryReport():
            told = f" from {_shown(report.reporting_mta)}" if report.reporting_mta else ""
            empty = "" if explanation.recipients else "; it names no recipient"
            return f"{_KINDS[explanation.kind]}{told}, read by {report.reader}{empty}"
        case FeedbackReport():
            return f"Feedback report ({_shown(report.feedback_type)}), read by {report.reader}{_told_about(report)}"
        case AutomaticReply():
            return f"Automatic answer ({report.automation}), recognized by {report.reader}: nothing follows from it"
        case Unrecognized():
            return f"Not a bounce: {report.reason}" + (" (a limit stopped the reading)" if report.over_limit else "")
        case _:
            assert_never(report)


_KINDS = {
    "dsn": "Delivery status notification",
    "nonstandard-bounce": "Bounce of an older or own form",
    "delayed": "Notice of delay",
    "success": "Notice of success",
}


def _told_about(report: FeedbackReport) -> str:
    about = [_shown(part) for part in (report.source_ip, report.reported_domain) if part]
    return f", about mail from {' '.join(about)}" if about else ""


def _lines(recipient: Recipient) -> Iterator[str]:
    outcome = recipient.outcome
    cause = causes()[outcome.category]
    yield f"{_shown(recipient.address or 'a recipient without a name')}: {outcome.disposition}, {outcome.category}"
    yield from _mailed_as(recipient)
    yield f"  meaning   {cause.meaning}"
    yield f"  because   {_because(outcome, recipient.hits)}"
    if outcome.diagnostic:
        yield f"  it said   {_shown(outcome.diagnostic)}"
    if outcome.blocker:
        parts = (outcome.blocker.name, outcome.blocker.ours and f"refuses {outcome.blocker.ours}", outcome.blocker.delisting)
        yield f"  refusal   {', '.join(_shown(part) for part in parts if part)}"
    if recipient.status and recipient.status.remote_mta:
        yield f"  told by   {_shown(recipient.status.remote_mta)}"
    yield f"  to do     {cause.advice}"
    yield from _others(recipient)


def _mailed_as(recipient: Recipient) -> Iterator[str]:
    original = recipient.status and recipient.status.original_recipient
    if original and recipient.address and original.lower() != recipient.address.lower():
        yield f"  mailed as {_shown(original)}"


def _because(outcome: Outcome, hits: tuple[Hit, ...]) -> str:
    if hits:
        softened = hits[0].rule.disposition is Disposition.HARD and outcome.disposition is Disposition.SOFT
        doubt = "; softened by a temporary code or a sign of doubt" if softened else ""
        return f"rule {outcome.rule} ({hits[0].rule.file}) found {_shown(outcome.evidence)!r}{doubt}"
    if outcome.rule == UNMATCHED:
        return "no rule knows these words"
    return f"of {outcome.rule}"


def _others(recipient: Recipient) -> Iterator[str]:
    """Tell which other rows applied: those that agree, those that were outvoted, and what a delay leaves out."""
    told = {recipient.outcome.rule}
    for hit in recipient.hits[:_MAX_HITS]:
        if hit.rule.id not in told:
            told.add(hit.rule.id)
            agrees = hit.rule.category is recipient.outcome.category
            label = "agreeing " if agrees else f"outvoted  {hit.rule.category},"
            yield f"  {label} rule {hit.rule.id}, for {_shown(hit.evidence)!r}"
    if recipient.status and recipient.status.action is Action.DELAYED:
        yield "  ignored   the disposition: a delay counts for nothing, the queue still tries"


def _shown(text: str) -> str:
    """Keep what a terminal prints and nothing that it obeys; cut what nobody reads."""
    plain = "".join(char if char.isprintable() else "�" for char in text)
    return plain if len(plain) <= _MAX_SHOWN else plain[:_MAX_SHOWN] + "…"
