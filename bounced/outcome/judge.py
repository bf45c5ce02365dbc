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
from typing import NamedTuple, assert_never

from bounced.outcome import Category, Disposition, Outcome
from bounced.outcome.blocklist import blocker_of
from bounced.outcome.fold import MAX_TEXT, fold
from bounced.outcome.phrases import Found
from bounced.outcome.rows import Rule
from bounced.outcome.ruleset import RuleSet
from bounced.report import Action, FeedbackReport, RecipientStatus
from bounced.status import StatusCode

UNMATCHED = "unmatched"
"""The rule of an outcome to which no row had anything to say."""

MAX_DIAGNOSTIC = 1024
"""Characters of the text that an outcome keeps."""

_STATUSES = 4
_BESIDE = 100
_MEMORABLE = 512
"""Characters of a text up to which its judgement is remembered: a stranger must not fill the memory with long ones."""

_CODES = re.compile(r"[45](?<![\d.].)\.\d{1,3}\.\d{1,3}(?!\d|\.\d)")
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


class Hit(NamedTuple):
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
    signs, said = _signs(recipient, reporting_mta, rules)
    verdict = (_verdict if len(signs.essence) <= _MEMORABLE else _verdict.__wrapped__)(rules, signs)
    return _outcome(verdict, signs, said, rules)


def weigh(recipient: RecipientStatus, reporting_mta: str | None, rules: RuleSet) -> Judgement:
    """Judge, and keep what was weighed."""
    signs, said = _signs(recipient, reporting_mta, rules)
    weighed = _Case.of(signs, rules)
    outcome = _outcome(weighed.verdict(), signs, said, rules)
    shown = (hit._replace(evidence=rules.phrases.quote(said.folded, hit.found)) if hit.found else hit for hit in weighed.hits)
    return Judgement(outcome=outcome, hits=tuple(shown))


def judge_feedback(report: FeedbackReport) -> Outcome:
    """Tell what a feedback report means: a complaint, or for auth-failure (RFC 6591) that our own records are broken."""
    category = {"auth-failure": Category.AUTH_FAILURE, "virus": Category.VIRUS, "not-spam": Category.DELIVERED}.get(
        report.feedback_type, Category.COMPLAINT
    )
    return Outcome(disposition=Disposition.NONE, category=category, rule=f"feedback-{category}", evidence=report.feedback_type[:64])


class _Said(NamedTuple):
    """A text, folded; the essence of that (PhraseIndex.essence); and the first status codes in it."""

    text: str
    folded: str
    essence: str
    codes: tuple[str, ...]


class _Signs(NamedTuple):
    """All that a judgement depends on, without what names one recipient or one mail: so it can be remembered.

    `derived` is the report's status where no server said it: Sendmail makes 5.1.1 of any 550 and 5.2.2 of any 552. `host` is the provider
    that the remote host belongs to, `other` whom else it may be: who keeps the mailbox, or reports.
    """

    action: Action
    essence: str
    statuses: tuple[str, ...]
    derived: str | None
    reply: str | None
    host: str | None
    other: str | None


class _Verdict(NamedTuple):
    """What an outcome is made of. `words` is where the phrase stands that decided, else `code` did; `lists` are marks of block lists."""

    category: Category
    disposition: Disposition
    rule: str
    words: Found | None
    code: str
    lists: tuple[Found, ...]
    providers: frozenset[str]


def _signs(recipient: RecipientStatus, reporting_mta: str | None, rules: RuleSet) -> tuple[_Signs, _Said]:
    text = _text(recipient)
    said = (_said if len(text) <= _MEMORABLE else _said.__wrapped__)(rules, text)
    answer = recipient.reply
    if answer:
        reply: str | None = str(answer.code)
    else:
        leading = _LEADING_REPLY.match(text)
        reply = leading[1] if leading else None
    statuses = _statuses(answer.status if answer else None, recipient.status, said.codes)
    derived = _derived(recipient, text, reply)
    host, other = _outside(recipient, reporting_mta, rules)
    return _Signs(recipient.action, said.essence, statuses, derived, reply, host, other), said


@lru_cache(maxsize=1024)
def _said(rules: RuleSet, text: str) -> _Said:
    folded = fold(text)
    return _Said(text, folded, rules.phrases.essence(folded), tuple(islice(_codes(text), _STATUSES)))


@lru_cache(maxsize=1024)
def _found(rules: RuleSet, essence: str) -> tuple[Found, ...]:
    return tuple(rules.phrases.search(essence))


@lru_cache(maxsize=2048)
def _verdict(rules: RuleSet, signs: _Signs) -> _Verdict:
    return _Case.of(signs, rules).verdict()


def _outcome(verdict: _Verdict, signs: _Signs, said: _Said, rules: RuleSet) -> Outcome:
    text, words = said.text, verdict.words
    refused = verdict.disposition is Disposition.BLOCKED or verdict.category is Category.BLOCKED_IP
    return Outcome(
        disposition=verdict.disposition,
        category=verdict.category,
        rule=verdict.rule,
        evidence=rules.phrases.quote(said.folded, words) if words else verdict.code,
        diagnostic=text[:MAX_DIAGNOSTIC],
        status=signs.statuses[0] if signs.statuses else None,
        blocker=blocker_of(text[:MAX_TEXT], verdict.lists, verdict.providers, rules) if refused else None,
    )


@dataclass(frozen=True, slots=True)
class _Case:
    """The signs, and what rules see in them: `hits` are the rows that apply, the one that speaks first."""

    signs: _Signs
    found: tuple[Found, ...]
    providers: frozenset[str]
    rules: RuleSet
    hits: tuple[Hit, ...]

    @classmethod
    def of(cls, signs: _Signs, rules: RuleSet) -> "_Case":
        found = (_found if len(signs.essence) <= _MEMORABLE else _found.__wrapped__)(rules, signs.essence)
        providers = _providers(signs, found, rules)
        failing = signs.action is Action.FAILED or signs.action is Action.DELAYED
        hits = _ordered(list(cls(signs, found, providers, rules, ())._applying())) if failing else ()
        return cls(signs, found, providers, rules, hits)

    def verdict(self) -> _Verdict:
        """Take what the first hit says: a delay counts for nothing, whatever the cause."""
        match self.signs.action:
            case Action.DELIVERED | Action.RELAYED | Action.EXPANDED:
                return self._verdict(Category.DELIVERED, Disposition.NONE, f"action-{self.signs.action}")
            case Action.DELAYED:
                delayed = True
            case Action.FAILED:
                delayed = False
            case _:
                assert_never(self.signs.action)
        if not self.hits:
            category = Category.EXPIRED if delayed else Category.UNDETERMINED
            return self._verdict(category, Disposition.NONE if delayed else Disposition.SOFT, UNMATCHED)
        winner = self.hits[0]
        return self._verdict(winner.rule.category, Disposition.NONE if delayed else self._disposition(), winner.rule.id, winner)

    def _verdict(self, category: Category, disposition: Disposition, rule: str, winner: Hit | None = None) -> _Verdict:
        lists = tuple(one for one in self.found if one.phrase in self.rules.blocklist_marks)
        words, code = (winner.found, winner.evidence) if winner else (None, "")
        return _Verdict(category, disposition, rule, words, code, lists, self.providers)

    @property
    def _temporary(self) -> bool:
        """Whether the codes say that trying again may help: the reply if there is one, else the status."""
        reply, statuses = self.signs.reply, self.signs.statuses
        return reply[0] == "4" if reply else bool(statuses) and statuses[0][0] == "4"

    def _disposition(self) -> Disposition:
        """Take the winner's disposition; a death that is not firm is softened by a temporary code or by a frame that doubts it."""
        winner = self.hits[0].rule
        doubted = self._temporary or any(_doubts(hit, self.hits[0]) for hit in self.hits)
        return Disposition.SOFT if winner.disposition is Disposition.HARD and not winner.firm and doubted else winner.disposition

    def _applying(self) -> Iterator[Hit]:
        for found in self.found:
            for rule in self.rules.by_phrase.get(found.phrase, ()):
                if self._provider(rule) and self._codes(rule):
                    yield Hit(rule=rule, level=Level.FRAME if rule.weak else Level.PHRASE, evidence="", found=found)
        for voice, status in enumerate(self.signs.statuses):
            for pattern, level in _patterns(status):
                for rule in self.rules.by_status.get(pattern, ()):
                    if self._provider(rule) and self._reply(rule):
                        yield Hit(rule=rule, level=self._level(rule, level, voice), evidence=status, voice=voice)
        reply = self.signs.reply
        for pattern in (reply, f"{reply[0]}xx") if reply else ():
            for rule in self.rules.by_reply.get(pattern, ()):
                if self._provider(rule):
                    yield Hit(rule=rule, level=Level.REPLY, evidence=pattern)

    def _level(self, rule: Rule, level: Level, voice: int) -> Level:
        """Weigh a status: one that nobody said less than a frame; an exact and firm one (full, sender refused) that decides as words."""
        if level is Level.STATUS and self.signs.statuses[voice] == self.signs.derived:
            return Level.DERIVED_STATUS
        if level is Level.STATUS and rule.firm and voice == 0:
            return Level.PHRASE
        return Level.PROVIDER_STATUS if rule.provider else level

    def _provider(self, rule: Rule) -> bool:
        return rule.provider is None or rule.provider in self.providers

    def _codes(self, rule: Rule) -> bool:
        """Tell whether the codes that a row with phrases asks for are there as well."""
        if rule.statuses and not any(pattern in rule.statuses for status in self.signs.statuses for pattern, _ in _patterns(status)):
            return False
        return self._reply(rule)

    def _reply(self, rule: Rule) -> bool:
        reply = self.signs.reply
        return not rule.replies or (reply is not None and (reply in rule.replies or f"{reply[0]}xx" in rule.replies))


def _text(recipient: RecipientStatus) -> str:
    reply = recipient.reply.text if recipient.reply else ""
    if reply and reply not in recipient.diagnostic:
        return f"{recipient.reply} {recipient.diagnostic}".strip()
    return recipient.diagnostic


@lru_cache(maxsize=1024)
def _statuses(replied: StatusCode | None, reported: StatusCode | None, spoken: tuple[str, ...]) -> tuple[str, ...]:
    """Return the codes in the order in which they are believed: the deciding reply's, the report's, those in the text; vague ones last."""
    codes = list(dict.fromkeys([*(str(code) for code in (replied, reported) if code), *spoken]))
    return tuple(sorted(codes, key=_vague)[:_STATUSES])


def _codes(text: str) -> Iterator[str]:
    return (match[0] for match in _CODES.finditer(text, 0, MAX_TEXT))


def _derived(recipient: RecipientStatus, text: str, reply: str | None) -> str | None:
    if recipient.status is None or reply is None or (recipient.reply is not None and recipient.reply.status is not None):
        return None
    status = str(recipient.status)
    return None if status in text else status


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


def _providers(signs: _Signs, found: tuple[Found, ...], rules: RuleSet) -> frozenset[str]:
    """Find who refused: whoever the text bears the mark of, and the remote host; if nobody, whom else it may be."""
    marks = {rules.provider_marks[one.phrase] for one in found if one.phrase in rules.provider_marks}
    told = marks | {signs.host} if signs.host else marks
    return frozenset(told or ({signs.other} if signs.other else ()))


def _outside(recipient: RecipientStatus, reporting_mta: str | None, rules: RuleSet) -> tuple[str | None, str | None]:
    """Return the provider of the remote host; where none is known, also that of the mailbox, else of who reports."""
    host = _of_host(rules, recipient.remote_mta) if recipient.remote_mta else None
    if host:
        return host, None
    address = recipient.final_recipient or recipient.original_recipient or ""
    other = _of_domain(rules, address.rpartition("@")[2])
    return None, other or (_of_host(rules, reporting_mta) if reporting_mta else None)


# Readers bound these fields.
@lru_cache(maxsize=1024)
def _of_host(rules: RuleSet, field: str) -> str | None:
    """Return the provider of `dns; mx.example.net (192.0.2.1, the server for ...)`."""
    name = field.rpartition(";")[2].split(None, 1)
    return rules.provider_of_host(name[0]) if name else None


@lru_cache(maxsize=1024)
def _of_domain(rules: RuleSet, domain: str) -> str | None:
    return rules.provider_of_domain(domain)


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
