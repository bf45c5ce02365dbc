"""A bounce of each category, as a mail system would write it.

For: the fire drill. Each sample is made of the example of a rule that says its category under the rules in force, and is checked here by
reading and judging it. Never: a socket, or a mailbox that somebody has.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bounced.explain import explain
from bounced.outcome import Category, Outcome
from bounced.outcome.ruleset import RuleSet

_NOBODY = "nobody@doctor.invalid"
_HEADER = """\
From: Mail Delivery System <MAILER-DAEMON@mx.doctor.invalid>
To: {return_path}
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type={type}; boundary="=-drill"

--=-drill
Content-Type: text/plain; charset=us-ascii

This is a drill.

--=-drill
"""
_STATUS = """\
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.doctor.invalid

Final-Recipient: rfc822; {recipient}
Action: {action}
Status: {status}
Diagnostic-Code: smtp; {text}

--=-drill--
"""
_FEEDBACK = """\
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: bounced-doctor/1
Version: 1
Original-Rcpt-To: <{recipient}>

--=-drill
Content-Type: text/rfc822-headers

From: news@doctor.invalid
To: {recipient}
Subject: Drill

--=-drill--
"""
_VACATION = """\
From: {recipient}
To: {return_path}
Subject: Out of office: Drill
Auto-Submitted: auto-replied

I am on holiday until Monday.
"""
_DSN = _HEADER.replace("{type}", "delivery-status") + _STATUS


@dataclass(frozen=True, slots=True)
class Sample:
    """A mail with places for recipient and return path, and how it is judged; None for what is no bounce."""

    template: str
    outcome: Outcome | None = None

    def content(self, recipient: str, return_path: str) -> bytes:
        """Return the mail about a recipient, as SMTP carries it."""
        return self.template.format(recipient=recipient, return_path=return_path).replace("\n", "\r\n").encode()


def samples(rules: RuleSet) -> Mapping[str, Sample]:
    """Return a sample for each category that a rule in force has, by its name, and for complaints, automatic replies and good news."""
    found: dict[str, Sample] = {}
    for rule in rules.rows.rules:
        if rule.category.value not in found and (sample := _judged(rule.example, rule.statuses, rules, rule.category)):
            found[rule.category.value] = sample
    if unknown := _judged("550 No rule has words for such a drill", ("5.0.0",), rules, Category.UNDETERMINED):
        found[Category.UNDETERMINED.value] = unknown
    found[Category.COMPLAINT.value] = Sample(_HEADER.replace("{type}", "feedback-report") + _FEEDBACK)
    found[Category.AUTO_REPLY.value] = Sample(_VACATION)
    found["delayed"] = Sample(_filled("delayed", "4.4.1", "connect to mx.doctor.invalid: Connection timed out"))
    found[Category.DELIVERED.value] = Sample(_filled("delivered", "2.0.0", "250 2.0.0 OK"))
    return found


def _judged(example: str, statuses: tuple[str, ...], rules: RuleSet, category: Category) -> Sample | None:
    """Make a report of a reply, under the statuses that may stand with it; None if it is not judged as it should be."""
    exact = [status for status in statuses if status.replace(".", "").isdigit()]
    for status in (*exact, "5.0.0", "4.0.0"):
        sample = Sample(_filled("failed", status, example))
        (recipient,) = explain(sample.content(_NOBODY, _NOBODY), rules).recipients or (None,)
        if recipient is not None and recipient.outcome.category is category:
            return Sample(sample.template, recipient.outcome)
    return None


def _filled(action: str, status: str, text: str) -> str:
    line = " ".join(text.split()).replace("{", "{{").replace("}", "}}")
    return _DSN.replace("{action}", action).replace("{status}", status).replace("{text}", line)
