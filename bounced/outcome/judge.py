"""From what a report says of one recipient to what it means: the rule that speaks, its disposition, who refuses.

For: one total function over whatever readers produce. Never: hard where there is a sign that we are refused, that the trouble is passing,
or where nothing but the class of a code speaks (DESIGN section 1: a good subscriber lost is the worst error).

Of all rows that apply, the one speaks that says most: words before codes, an exact status before a family of them, a provider's own row
before everybody's. Words inside a longer phrase that was found too ("access denied" in "mailbox unavailable or access denied") are not
heard. Where rows contradict each other, a refusal or a limit goes before a death, and a death before mere trouble on the way.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from itertools import islice
from typing import assert_never

from bounced.outcome import Category, Disposition, Outcome
from bounced.outcome.blocklist import blocker_of
from bounced.outcome.fold import MAX_TEXT, fold
from bounced.outcome.phrases import Found
from bounced.outcome.rows import Rule
from bounced.outcome.ruleset import RuleSet
from bounced.report import Action, FeedbackReport, RecipientStatus

UNMATCHED = "unmatched"
"""The rule of an outcome to which no row had anything to say."""

MAX_DIAGNOSTIC = 1024
"""Characters of the text that an outcome keeps."""

_STATUSES = 4
_BESIDE = 100
_CODES = re.compile(r"(?<![\d.])[45]\.\d{1,3}\.\d{1,3}(?!\d|\.\d)")
_LEADING_REPLY = re.compile(r"\s*(?:[\w-]{1,20};)?\s*([45]\d\d)(?=[ \-]|$)")
_LIMITS = frozenset({Category.MAILBOX_FULL, Category.MESSAGE_TOO_LARGE, Category.RATE_LIMITED})


class Level(IntEnum):
    """How much a row's conditions say, the least first."""

    REPLY = 0
    STATUS_FAMILY = 1
    DERIVED_STATUS = 2
    FRAME = 3
    STATUS = 4
    PROVIDER_STATUS = 5
    PHRASE = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A row that applies, and why: the phrase as found, or the code. `voice` counts codes in the order in which they are believed."""

    rule: Rule
    level: Level
    evidence: str
    found: Found | None = None
    voice: int = 0

    @property
    def rank(self) -> tuple[int, int, int, int, int, bool, int, str]:
        """The higher speaks. Of two that say as much, the later in the text: the reason follows the refusal."""
        rule, found = self.rule, self.found
        caution = 2 if _contests(rule) else 1 if rule.disposition is Disposition.HARD and found else 0
        caution -= rule.category is Category.UNDETERMINED
        narrow = 2 * bool(rule.provider) + bool(rule.statuses and found) + bool(rule.replies and found)
        mild = rule.disposition is not Disposition.HARD
        length, start = (len(found.phrase), found.start) if found else (0, 0)
        return self.level, caution, narrow, -self.voice, length, mild, start, rule.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """An outcome with all that was weighed for it: `hits` the rows that applied, the one that speaks first."""

    outcome: Outcome
    hits: tuple[Hit, ...]


def judge(recipient: RecipientStatus, reporting_mta: str | None, rules: RuleSet) -> Outcome:
    """Tell what a recipient's status means. Total."""
    return weigh(recipient, reporting_mta, rules).outcome


def weigh(recipient: RecipientStatus, reporting_mta: str | None, rules: RuleSet) -> Judgement:
    """Judge, and keep what was weighed."""
    case = _Case.of(recipient, reporting_mta, rules)
    match recipient.action:
        case Action.DELIVERED | Action.RELAYED | Action.EXPANDED:
            return Judgement(outcome=case.outcome(Category.DELIVERED, Disposition.NONE, f"action-{recipient.action}"), hits=())
        case Action.DELAYED | Action.FAILED:
            hits = _ordered(list(case.hits()))
        case _:
            assert_never(recipient.action)
    delayed = recipient.action is Action.DELAYED
    if not hits:
        category = Category.EXPIRED if delayed else Category.UNDETERMINED
        return Judgement(outcome=case.outcome(category, Disposition.NONE if delayed else Disposition.SOFT, UNMATCHED), hits=())
    winner = hits[0]
    disposition = Disposition.NONE if delayed else case.disposition(hits)
    return Judgement(outcome=case.outcome(winner.rule.category, disposition, winner.rule.id, winner.evidence), hits=hits)


def judge_feedback(report: FeedbackReport) -> Outcome:
    """Tell what a feedback report means: a complaint, or for auth-failure (RFC 6591) that our own records are broken."""
    category = {"auth-failure": Category.AUTH_FAILURE, "virus": Category.VIRUS, "not-spam": Category.DELIVERED}.get(
        report.feedback_type, Category.COMPLAINT
    )
    return Outcome(disposition=Disposition.NONE, category=category, rule=f"feedback-{category}", evidence=report.feedback_type[:64])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """The evidence of one recipient, as rules look at it.

    `derived` is the report's status where no server said it: Sendmail makes 5.1.1 of any 550 and 5.2.2 of any 552.
    """

    text: str
    folded: str
    statuses: tuple[str, ...]
    derived: str | None
    reply: str | None
    found: tuple[Found, ...]
    providers: frozenset[str]
    rules: RuleSet

    @classmethod
    def of(cls, recipient: RecipientStatus, reporting_mta: str | None, rules: RuleSet) -> "_Case":
        text = _text(recipient)
        folded = fold(text)
        found = tuple(rules.phrases.search(folded))
        leading = None if recipient.reply else _LEADING_REPLY.match(text)
        reply = str(recipient.reply.code) if recipient.reply else leading[1] if leading else None
        return cls(
            text=text,
            folded=folded,
            statuses=_statuses(recipient, text),
            derived=_derived(recipient, text, reply),
            reply=reply,
            found=found,
            providers=_providers(recipient, reporting_mta, found, rules),
            rules=rules,
        )

    @property
    def temporary(self) -> bool:
        """Whether the codes say that trying again may help: the reply if there is one, else the status."""
        return self.reply[0] == "4" if self.reply else bool(self.statuses) and self.statuses[0][0] == "4"

    def disposition(self, hits: tuple[Hit, ...]) -> Disposition:
        """Take the winner's disposition; a death that is not firm is softened by a temporary code or by a frame that doubts it."""
        winner = hits[0].rule
        if winner.disposition is Disposition.HARD and not winner.firm and (self.temporary or any(_doubts(hit, hits[0]) for hit in hits)):
            return Disposition.SOFT
        return winner.disposition

    def outcome(self, category: Category, disposition: Disposition, rule: str, evidence: str = "") -> Outcome:
        refused = disposition is Disposition.BLOCKED or category is Category.BLOCKED_IP
        return Outcome(
            disposition=disposition,
            category=category,
            rule=rule,
            evidence=evidence,
            diagnostic=self.text[:MAX_DIAGNOSTIC],
            status=self.statuses[0] if self.statuses else None,
            blocker=blocker_of(self.text[:MAX_TEXT], self.found, self.providers, self.rules) if refused else None,
        )

    def hits(self) -> Iterator[Hit]:
        for found in self.found:
            for rule in self.rules.by_phrase.get(found.phrase, ()):
                if self._provider(rule) and self._codes(rule):
                    evidence = self.folded[found.start : found.end]
                    yield Hit(rule=rule, level=Level.FRAME if rule.weak else Level.PHRASE, evidence=evidence, found=found)
        for voice, status in enumerate(self.statuses):
            for pattern, level in _patterns(status):
                for rule in self.rules.by_status.get(pattern, ()):
                    if self._provider(rule) and self._reply(rule):
                        yield Hit(rule=rule, level=self._level(rule, level, voice), evidence=status, voice=voice)
        for pattern in (self.reply, f"{self.reply[0]}xx") if self.reply else ():
            for rule in self.rules.by_reply.get(pattern, ()):
                if self._provider(rule):
                    yield Hit(rule=rule, level=Level.REPLY, evidence=pattern)

    def _level(self, rule: Rule, level: Level, voice: int) -> Level:
        """Weigh a status: one that nobody said less than a frame; an exact and firm one (full, sender refused) that decides as words."""
        if level is Level.STATUS and self.statuses[voice] == self.derived:
            return Level.DERIVED_STATUS
        if level is Level.STATUS and rule.firm and voice == 0:
            return Level.PHRASE
        return Level.PROVIDER_STATUS if rule.provider else level

    def _provider(self, rule: Rule) -> bool:
        return rule.provider is None or rule.provider in self.providers

    def _codes(self, rule: Rule) -> bool:
        """Tell whether the codes that a row with phrases asks for are there as well."""
        if rule.statuses and not any(pattern in rule.statuses for status in self.statuses for pattern, _ in _patterns(status)):
            return False
        return self._reply(rule)

    def _reply(self, rule: Rule) -> bool:
        return not rule.replies or (self.reply is not None and (self.reply in rule.replies or f"{self.reply[0]}xx" in rule.replies))


def _text(recipient: RecipientStatus) -> str:
    reply = recipient.reply.text if recipient.reply else ""
    if reply and reply not in recipient.diagnostic:
        return f"{recipient.reply} {recipient.diagnostic}".strip()
    return recipient.diagnostic


def _statuses(recipient: RecipientStatus, text: str) -> tuple[str, ...]:
    """Return the codes in the order in which they are believed: the deciding reply's, the report's, those in the text; vague ones last."""
    told = [str(code) for code in (recipient.reply.status if recipient.reply else None, recipient.status) if code]
    codes = list(dict.fromkeys([*told, *islice(_codes(text), _STATUSES)]))
    if len(codes) > 1:
        codes.sort(key=_vague)
    return tuple(codes[:_STATUSES])


def _codes(text: str) -> Iterator[str]:
    return (match[0] for match in _CODES.finditer(text, 0, MAX_TEXT))


def _derived(recipient: RecipientStatus, text: str, reply: str | None) -> str | None:
    said = reply is None or (recipient.reply is not None and recipient.reply.status is not None)
    return None if recipient.status is None or said or str(recipient.status) in text else str(recipient.status)


def _vague(status: str) -> bool:
    return ".0" in status


@lru_cache(maxsize=1024)
def _patterns(status: str) -> tuple[tuple[str, Level], ...]:
    klass, subject, _ = status.split(".")
    rest = status[1:]
    return (
        (status, Level.STATUS),
        (f"x{rest}", Level.STATUS),
        (f"{klass}.{subject}.*", Level.STATUS_FAMILY),
        (f"x.{subject}.*", Level.STATUS_FAMILY),
    )


def _providers(recipient: RecipientStatus, reporting_mta: str | None, found: tuple[Found, ...], rules: RuleSet) -> frozenset[str]:
    """Find who refused: the remote host if it is told, else who reports or keeps the mailbox; and whoever the text bears the mark of."""
    told = {rules.provider_marks[one.phrase] for one in found if one.phrase in rules.provider_marks}
    if recipient.remote_mta:
        told.update(filter(None, [rules.provider_of_host(_host(recipient.remote_mta))]))
    if not told:
        address = recipient.final_recipient or recipient.original_recipient or ""
        told.update(filter(None, [rules.provider_of_domain(address.rpartition("@")[2])]))
    if not told and reporting_mta:
        told.update(filter(None, [rules.provider_of_host(_host(reporting_mta))]))
    return frozenset(told)


def _host(field: str) -> str:
    """Take the name out of `dns; mx.example.net (192.0.2.1, the server for ...)`."""
    name = field.rpartition(";")[2].split(None, 1)
    return name[0] if name else ""


def _contests(rule: Rule) -> bool:
    """Tell whether a row, where it applies, forbids to call the address dead."""
    passing = rule.firm and rule.disposition is Disposition.SOFT
    return not rule.weak and (rule.disposition is Disposition.BLOCKED or rule.category in _LIMITS or passing)


def _doubts(hit: Hit, winner: Hit) -> bool:
    """Tell whether a firm frame speaks against a death: "try again later" beside the words, "message rejected" against a mere code."""
    if not (hit.found and hit.rule.weak and hit.rule.firm):
        return False
    if winner.found is None:
        return True
    apart = max(hit.found.start - winner.found.end, winner.found.start - hit.found.end)
    return hit.rule.disposition is Disposition.SOFT and apart <= _BESIDE


def _ordered(hits: list[Hit]) -> tuple[Hit, ...]:
    """Return the hits that are heard, the one that speaks first."""
    if len(hits) > 1:
        if any(hit.rule.own for hit in hits):
            hits = [hit for hit in hits if hit.rule.own]
        hits = sorted(_heard(hits), key=lambda hit: hit.rank, reverse=True)
    return tuple(hits)


def _heard(hits: list[Hit]) -> list[Hit]:
    """Leave out the words inside a longer phrase that was found too; a frame covers only frames, and nothing is covered by a gap."""
    solid = [hit for hit in hits if hit.found and "*" not in hit.found.phrase]
    strong = {_span(hit) for hit in solid if not hit.rule.weak}
    covering = strong.union(map(_span, solid))
    inside: set[tuple[int, int]] = set()
    inside_strong: set[tuple[int, int]] = set()
    reached = reached_strong = 0
    for span in sorted({_span(hit) for hit in hits}):
        end = -span[1]
        if end <= reached:
            inside.add(span)
        if end <= reached_strong:
            inside_strong.add(span)
        reached = max(reached, end if span in covering else 0)
        reached_strong = max(reached_strong, end if span in strong else 0)
    return [hit for hit in hits if hit.found is None or _span(hit) not in (inside if hit.rule.weak else inside_strong)]


def _span(hit: Hit) -> tuple[int, int]:
    """Where its words stand, so that sorting puts the longer of two that begin together first."""
    return (hit.found.start, -hit.found.end) if hit.found else (0, 0)
