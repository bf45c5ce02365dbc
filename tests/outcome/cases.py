"""What the tests of outcome share: recipients made of the words that a server wrote."""

import re

from bounced.outcome.judge import Judgement, weigh
from bounced.outcome.rows import Rule
from bounced.outcome.ruleset import RuleSet
from bounced.report import Action, RecipientStatus
from bounced.status import Reply, StatusCode

RULES = RuleSet.builtin()


def recipient(
    text: str, *, status: str | None = None, mta: str | None = None, action: Action = Action.FAILED, address: str = "joe@example.net"
) -> RecipientStatus:
    """Read `text` as a reader would: a reply code in front, and the first enhanced status in it unless `status` is given."""
    reply = re.match(r"([245]\d\d)(?:[ -]([245]\.\d+\.\d+))?", text)
    return RecipientStatus(
        action=action,
        final_recipient=address,
        status=StatusCode.parse(status) if status else StatusCode.find(text),
        reply=Reply(int(reply[1]), StatusCode.parse(reply[2]) if reply[2] else None, text[reply.end() :].strip()) if reply else None,
        diagnostic=text,
        remote_mta=mta,
    )


def weighed(text: str, *, rules: RuleSet = RULES, **told: str) -> Judgement:
    """Judge `text` and keep what was weighed."""
    return weigh(recipient(text, **told), None, rules)  # type: ignore[arg-type]


def judged(text: str, *, rules: RuleSet = RULES, **told: str) -> tuple[str, str]:
    """Judge `text`: disposition and category."""
    outcome = weighed(text, rules=rules, **told).outcome
    return outcome.disposition, outcome.category


def told_by_conditions(rule: Rule, phrase: str, rules: RuleSet) -> RecipientStatus:
    """Make a recipient that fulfils every condition of `rule`, with `phrase` and nothing else in its text."""
    status = rule.statuses[0].replace("x", "5").replace("*", "9") if rule.statuses else None
    reply = Reply(int(rule.replies[0].replace("xx", "50")), None, "") if rule.replies else None
    hosts = [host for provider in rules.rows.providers if provider.id == rule.provider for host in provider.hosts]
    return RecipientStatus(
        action=Action.FAILED,
        final_recipient="joe@example.net",
        status=StatusCode.parse(status) if status else None,
        reply=reply,
        diagnostic=phrase.replace("*", "x"),
        remote_mta=f"dns; mx1.{hosts[0]}" if hosts else None,
    )
