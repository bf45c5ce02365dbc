"""A mail explained to a program and to a person."""

import json

from msgspec.structs import replace

from bounced.explain import as_json, as_text, explain, explain_report
from bounced.outcome.ruleset import RuleSet
from bounced.report import (
    Action,
    AutomaticReply,
    Automation,
    DeliveryReport,
    FeedbackReport,
    RecipientStatus,
    Report,
    Unrecognized,
)
from bounced.status import Reply, StatusCode

RULES = RuleSet.builtin()


def failed(text: str, address: str | None = "joe@example.net", action: Action = Action.FAILED) -> RecipientStatus:
    """Make a recipient whose server said `text`."""
    return RecipientStatus(
        action=action, final_recipient=address, reply=Reply(550, StatusCode(5, 1, 1), text), diagnostic=text, remote_mta="mx.example.net"
    )


def report(*recipients: RecipientStatus, standard: bool = True) -> DeliveryReport:
    """Make a report of `recipients`."""
    return DeliveryReport(reader="rfc3464", standard=standard, recipients=recipients, reporting_mta="mx.example.com")


def kind(of: Report) -> str:
    """Explain a report and return its kind."""
    return explain_report(of, RULES).kind


def test_kinds_of_delivery_reports() -> None:
    """A failure makes a bounce, else a delay makes a delay, else it is a success; an empty report is a bounce."""
    delayed, delivered = failed("x", action=Action.DELAYED), failed("x", action=Action.DELIVERED)
    assert kind(report(delivered, delayed, failed("x"))) == "dsn"
    assert kind(report(failed("x"), standard=False)) == "nonstandard-bounce"
    assert kind(report(delivered, delayed)) == "delayed"
    assert kind(report(delivered)) == "success"
    assert kind(report()) == "dsn"


def test_kinds_of_other_reports() -> None:
    """Feedback, automatic answers and ordinary mail are told apart."""
    assert kind(FeedbackReport(reader="arf", feedback_type="abuse")) == "arf"
    assert kind(AutomaticReply(reader="vacation", automation=Automation.REPLY)) == "auto-reply"
    assert kind(AutomaticReply(reader="mdn", automation=Automation.READ_RECEIPT)) == "auto-reply"
    assert kind(AutomaticReply(reader="challenge", automation=Automation.CHALLENGE)) == "challenge"
    assert kind(AutomaticReply(reader="unsubscribe", automation=Automation.UNSUBSCRIBE)) == "not-a-bounce"
    assert kind(Unrecognized(reason="no report in it")) == "not-a-bounce"


def test_json_has_what_programs_want() -> None:
    """Identity, kind, and of every recipient with a name: address, disposition, status, category; plain JSON."""
    explanation = explain_report(report(failed("user unknown"), failed("mailbox full", None)), RULES)
    told = as_json(explanation, "real/x.eml")
    assert json.loads(json.dumps(told)) == {
        "id": "real/x.eml",
        "kind": "dsn",
        "recipients": [{"address": "joe@example.net", "disposition": "hard", "status": "5.1.1", "category": "no-such-user"}],
    }


def test_json_of_a_complaint() -> None:
    """Whoever complained is a recipient with the category complaint and no disposition of its own."""
    explanation = explain_report(FeedbackReport(reader="arf", feedback_type="abuse", recipients=("joe@example.net",)), RULES)
    assert as_json(explanation, "x")["recipients"] == [
        {"address": "joe@example.net", "disposition": "none", "status": None, "category": "complaint"}
    ]


def test_text_tells_under_which_name_it_was_mailed() -> None:
    """An original recipient that is another than the mailbox that failed is told, and the same one is not told twice."""
    alias = replace(failed("user unknown"), original_recipient="All@example.net")
    assert "mailed as All@example.net" in as_text(explain_report(report(alias), RULES))
    same = replace(failed("user unknown"), original_recipient="JOE@example.net")
    assert "mailed as" not in as_text(explain_report(report(same), RULES))


def test_text_tells_rule_words_and_what_was_not_heard() -> None:
    """A person reads who reported, the rule with its file and words, the refusal, the advice, and the rows that were outvoted."""
    text = as_text(explain_report(report(failed("user unknown; [192.0.2.1] blocked using zen.spamhaus.org")), RULES))
    for line in (
        "Delivery status notification from mx.example.com, read by rfc3464",
        "joe@example.net: blocked, blocked-ip",
        "  refusal   Spamhaus, refuses 192.0.2.1, https://check.spamhaus.org/",
        "  told by   mx.example.net",
        "  outvoted  no-such-user, rule user-unknown, for 'user unknown'",
    ):
        assert line in text.splitlines()
    assert "  agreeing  rule " in text
    assert "found 'zen.spamhaus.org'" in text or "found 'blocked using'" in text


def test_text_tells_softening_and_delay() -> None:
    """It is said when a temporary code softens a row, and when a delay counts for nothing."""
    status = RecipientStatus(action=Action.FAILED, final_recipient="joe@example.net", status=StatusCode(4, 1, 1), diagnostic="user unknown")
    assert "softened by a temporary code" in as_text(explain_report(report(status), RULES))
    assert "a delay counts for nothing" in as_text(explain_report(report(failed("mailbox full", action=Action.DELAYED)), RULES))


def test_text_names_a_row_once() -> None:
    """A row that applies for two of its phrases is named once, and the winner not again."""
    text = as_text(explain_report(report(failed("user unknown; unknown mailbox; no such user; no such person")), RULES))
    assert sum("rule user-unknown" in line for line in text.splitlines()) == 1
    assert sum("rule no-such-user" in line for line in text.splitlines()) == 1


def test_text_of_what_no_rule_knows() -> None:
    """An unknown text, a success and a recipient without a name are told plainly."""
    unknown = RecipientStatus(action=Action.FAILED, diagnostic="frobnicated")
    text = as_text(explain_report(report(unknown), RULES))
    assert "a recipient without a name: soft, undetermined" in text
    assert "no rule knows these words" in text
    assert "of action-delivered" in as_text(explain_report(report(failed("ok", action=Action.DELIVERED)), RULES))
    assert "it names no recipient" in as_text(explain_report(report(), RULES))


def test_text_of_other_reports() -> None:
    """Each kind of report has its headline."""
    feedback = FeedbackReport(reader="arf", feedback_type="abuse", source_ip="192.0.2.1", reported_domain="example.org")
    assert as_text(explain_report(feedback, RULES)) == "Feedback report (abuse), read by arf, about mail from 192.0.2.1 example.org\n"
    assert "read by arf\n" in as_text(explain_report(FeedbackReport(reader="arf", feedback_type="abuse"), RULES))
    assert "Automatic answer (auto-reply)" in as_text(explain_report(AutomaticReply(reader="v", automation=Automation.REPLY), RULES))
    assert as_text(explain_report(Unrecognized(reason="too deep", over_limit=True), RULES)) == (
        "Not a bounce: too deep (a limit stopped the reading)\n"
    )


def test_text_obeys_no_stranger() -> None:
    """Escapes, line breaks and bidirectional overrides of a stranger are not shown; long texts are cut."""
    text = as_text(explain_report(report(failed("\x1b[2J\u202euser unknown\r\nFrom: x" + "y" * 5000)), RULES))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert not any(line.startswith("From:") for line in text.splitlines())
    assert max(map(len, text.splitlines())) < 600


def test_explain_reads_bytes() -> None:
    """Whole mails are read and judged; nonsense is not a bounce."""
    assert explain(b"", RULES).kind == "not-a-bounce"
    assert explain(b"From: joe@example.net\r\nSubject: Hello\r\n\r\nHello!\r\n", RULES).kind == "not-a-bounce"
