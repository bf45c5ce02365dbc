"""From what a report says of one recipient to what it means: the rule that speaks, its disposition, who refuses.

For: one total function over whatever readers produce. Never: hard where there is a sign that we are refused, that the trouble is passing,
or where nothing but the class of a code speaks (DESIGN section 1: a good subscriber lost is the worst error).

Of all rows that apply, the one speaks that says most: words before codes, an exact status before a family of them, a provider's own row
before everybody's. Words inside a longer phrase that was found too ("access denied" in "mailbox unavailable or access denied") are not
heard. Where rows contradict each other, a refusal or a limit goes before a death, and a death before mere trouble on the way.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple, assert_never

import msgspec

from bounced.outcome import UNMATCHED, Category, Disposition, Outcome
from bounced.outcome.blocklist import blocker_of
from bounced.outcome.fold import MAX_TEXT, fold
from bounced.outcome.phrases import Found
from bounced.outcome.rows import Rule
from bounced.outcome.ruleset import RuleSet
from bounced.report import Action, FeedbackReport, RecipientStatus
from bounced.status import Reply, StatusCode

MAX_DIAGNOSTIC = 1024
"""Characters of the text that an outcome keeps."""

_STATUSES = 4
_BESIDE = 100
_COVERING = 2
_NOBODY: frozenset[str] = frozenset()
_MEMORABLE = 512
"""Characters of a text up to which its judgement is remembered: a stranger must not fill the memory with long ones."""

_CODES = re.compile(r"[45](?<![\d.].)\.\d{1,3}\.\d{1,3}(?!\d|\.\d)")
_LEADING_REPLY = re.compile(r"\s*(?:[\w-]{1,20};)?\s*([45]\d\d)(?=[ \-]|$)")
_OWNER = re.compile(
    r"\b(?:(?:your|from|client|ip|envelope|sending|submitting|authenticated|connecting|helo|ehlo|return[ -]path|reply-to|bounce"
    r"|(?:the )?sender(?:'s)?|ihre?|votre|su|sua|seu|tu[oa]|vostr[oa]|uw|twoj[ae]|ваш\w{0,2})(?: e-?mail| mail)?"
    r"|(?:mail from|return[ -]path|sender(?: address| domain)?|helo|ehlo)[ :=]{1,2}\S{1,64})"
    r"(?: (?:user|mailbox|account|address|alias|username|domain|host|server|mx))?(?: name| record)?(?: is| was| has been)? $"
    r"|(?:您的|你的|あなたの|귀하의 ?)$"
)
"""What stands before a death that is the sender's: "your mailbox", "mail from <@example.org>: domain"."""
_OWNED = re.compile(
    r" (?:(?:for|of|in) (?:your(?! recipient)|(?:the |your )?(?:sender|sending|mail from|from|helo|ehlo|return[ -]path|envelope|client))\b"
    r"|\((?:sender|mail from|from|helo)\))"
)
_SENDER = re.compile(
    r"(?:absender\w{0,9}|expediteur|remitente|remetente|mittente|afzender|afsender|avsender|nadawc[ya]|odesilatele|expeditorul(?:ui)?|gonder(?:en|ici)"
    r"|felado"
    r"|отправител\w{1,2}|відправник\w{0,2}|送信[者元]|発信者|差出人|[发發]件人|寄件[者人]|보낸 ?사람|발신[자인]|송신자"
    r"|αποστολε\w{1,3})[^.:;!?,<。、]{0,40}$"
)
"""The word for sender in other languages, in the sentence of the death."""
_IP = re.compile(r"(?<![a-z0-9.])ip(?![a-z0-9])|\bsending from\b|\bfor sending\b")
"""Before a death or in its gap: it is an IP address that does not exist, or what mail is sent from."""
_OWNER_LIMIT = 100
_OTHERS = ("recipient", "addressee", "destination", "rcpt")
_SENDER_REFUSED = "sender * rejected"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """An outcome with all that was weighed for it: `hits` the rows that applied, the one that speaks first."""

    outcome: Outcome
    hits: tuple[Hit, ...]


def judge(recipient: RecipientStatus, reporting_mta: str | None, rules: RuleSet) -> Outcome:
    """Tell what a recipient's status means. Total."""
    said = _said_by(recipient, rules)
    seen = said.seen
    providers = _providers(seen, recipient, reporting_mta, rules)
    verdict = (_verdict if len(recipient.diagnostic) <= _MEMORABLE else _verdict.__wrapped__)(rules, seen, seen.heeded & providers)
    return _outcome(verdict, said, providers, rules)


def marked(recipient: RecipientStatus, rules: RuleSet) -> frozenset[str]:
    """Return the providers whose mark stands in what was said of a recipient."""
    return _said_by(recipient, rules).seen.marked


def weigh(recipient: RecipientStatus, reporting_mta: str | None, rules: RuleSet) -> Judgement:
    """Judge, and keep what was weighed."""
    said = _said.__wrapped__(rules, recipient.action, recipient.status, recipient.reply, recipient.diagnostic)
    providers = _providers(said.seen, recipient, reporting_mta, rules)
    outcome = _outcome(_verdict.__wrapped__(rules, said.seen, providers), said, providers, rules)
    folded, essence = fold(said.text), said.seen.signs.essence
    hits = (
        hit._replace(evidence=rules.phrases.quote(folded, essence, hit.found)) if hit.found else hit
        for hit in _hits(said.seen, providers, rules)
    )
    return Judgement(outcome=outcome, hits=tuple(hits))


def judge_feedback(report: FeedbackReport) -> Outcome:
    """Tell what a feedback report means: a complaint, or for auth-failure (RFC 6591) that our own records are broken."""
    category = {"auth-failure": Category.AUTH_FAILURE, "virus": Category.VIRUS, "not-spam": Category.DELIVERED}.get(
        report.feedback_type, Category.COMPLAINT
    )
    return Outcome(disposition=Disposition.NONE, category=category, rule=f"feedback-{category}", evidence=report.feedback_type[:64])


class _Signs(NamedTuple):
    """All that a judgement depends on but providers, without what names one recipient or one mail: so it can be remembered.

    `derived` is the report's status where no server said it: Sendmail makes 5.1.1 of any 550 and 5.2.2 of any 552.
    """

    action: Action
    essence: str
    statuses: tuple[str, ...]
    derived: str | None
    reply: str | None


class _Seen(msgspec.Struct, frozen=True, eq=False):
    """What the phrases make of signs: `rows` are all that apply, if their provider is the one.

    `marked` are providers whose mark stands in the text, `lists` the marks of block lists.
    `heeded` are the providers of which a row has something to say of such signs: of others it makes no difference who they are.
    """

    signs: _Signs
    rows: tuple["_Row", ...]
    marked: frozenset[str]
    lists: tuple[Found, ...]
    heeded: frozenset[str]


class _Said(NamedTuple):
    """A text that is judged, and what is seen in it."""

    text: str
    seen: _Seen


class _Verdict(NamedTuple):
    """What an outcome is made of. `words` is where the phrase stands that decided, else `code` did; `lists` are marks of block lists."""

    category: Category
    disposition: Disposition
    rule: str
    words: Found | None
    code: str
    status: str | None
    lists: tuple[Found, ...]


def _said_by(recipient: RecipientStatus, rules: RuleSet) -> _Said:
    text = recipient.diagnostic
    said = _said if len(text) <= _MEMORABLE else _said.__wrapped__
    return said(rules, recipient.action, recipient.status, recipient.reply, text)


@lru_cache(maxsize=1024)
def _said(rules: RuleSet, action: Action, status: StatusCode | None, answer: Reply | None, diagnostic: str) -> _Said:
    """Find the signs of what was said, and what the phrases make of them."""
    text = _text(answer, diagnostic)
    replied = answer.status if answer else None
    reply = str(answer.code) if answer else _leading_reply(text)
    derived = None
    if status is not None and reply is not None and replied is None:
        written = str(status)
        derived = None if written in text else written
    codes = tuple(_CODES.findall(text, 0, MAX_TEXT)[:_STATUSES]) if "4." in text or "5." in text else ()
    signs = _Signs(action, rules.phrases.essence(fold(text)), _statuses(replied, status, codes), derived, reply)
    return _Said(text, (_seen if len(signs.essence) <= _MEMORABLE else _seen.__wrapped__)(rules, signs))


def _leading_reply(text: str) -> str | None:
    leading = _LEADING_REPLY.match(text)
    return leading[1] if leading else None


@lru_cache(maxsize=1024)
def _found(rules: RuleSet, essence: str) -> tuple[Found, ...]:
    return tuple([_of_the_sender(one, essence) if rules.is_deadly(one.phrase) else one for one in rules.phrases.search(essence)])


def _of_the_sender(found: Found, essence: str) -> Found:
    """Turn a death into a refusal of the sender where the words around it say whose it is: "your mailbox is closed"."""
    if found.phrase.startswith(_OTHERS):
        return found
    begin = max(found.start - _OWNER_LIMIT, 0)
    owner = _OWNER.search(essence[begin : found.start]) or _SENDER.search(essence[begin : found.end])
    within = found.end if "*" in found.phrase else found.start
    owner = owner or _IP.search(essence[begin:within], max(found.start - begin - 3, 0))
    if owner:
        return Found(_SENDER_REFUSED, begin + owner.start(), found.end)
    owned = _OWNED.match(essence, found.end)
    return Found(_SENDER_REFUSED, found.start, owned.end()) if owned else found


@lru_cache(maxsize=1024)
def _seen(rules: RuleSet, signs: _Signs) -> _Seen:
    found = _found(rules, signs.essence) if len(signs.essence) <= _MEMORABLE else _found.__wrapped__(rules, signs.essence)
    rows = tuple(_rows(signs, found, rules))
    marks, lists = rules.provider_marks, rules.blocklist_marks
    return _Seen(
        signs,
        rows,
        frozenset([marks[one.phrase] for one in found if one.phrase in marks]),
        tuple([one for one in found if one.phrase in lists]),
        frozenset([row[0].provider for row in rows if row[0].provider]),
    )


@lru_cache(maxsize=2048)
def _verdict(rules: RuleSet, seen: _Seen, providers: frozenset[str]) -> _Verdict:
    """Take what the first hit says: a delay counts for nothing, whatever the cause."""
    signs, hits = seen.signs, _hits(seen, providers, rules)
    status = signs.statuses[0] if signs.statuses else None
    match signs.action:
        case Action.DELIVERED | Action.RELAYED | Action.EXPANDED:
            return _Verdict(Category.DELIVERED, Disposition.NONE, f"action-{signs.action}", None, "", status, seen.lists)
        case Action.DELAYED:
            delayed = True
        case Action.FAILED:
            delayed = False
        case _:
            assert_never(signs.action)
    if not hits:
        category = Category.EXPIRED if delayed else Category.UNDETERMINED
        return _Verdict(category, Disposition.NONE if delayed else Disposition.SOFT, UNMATCHED, None, "", status, seen.lists)
    winner = hits[0]
    disposition = Disposition.NONE if delayed else _disposition(signs, hits)
    return _Verdict(winner.rule.category, disposition, winner.rule.id, winner.found, winner.evidence, status, seen.lists)


def _outcome(verdict: _Verdict, said: _Said, providers: frozenset[str], rules: RuleSet) -> Outcome:
    text, words, blocker = said.text, verdict.words, None
    if verdict.disposition is Disposition.BLOCKED or verdict.category is Category.BLOCKED_IP:
        blocker = blocker_of(text[:MAX_TEXT], verdict.lists, providers, rules)
    evidence = words.phrase if words else verdict.code
    if words and "*" in words.phrase:
        evidence = rules.phrases.quote(fold(text), said.seen.signs.essence, words)
    return Outcome(
        disposition=verdict.disposition,
        category=verdict.category,
        rule=verdict.rule,
        evidence=evidence,
        diagnostic=text[:MAX_DIAGNOSTIC],
        status=verdict.status,
        blocker=blocker,
    )


def _disposition(signs: _Signs, hits: tuple[Hit, ...]) -> Disposition:
    """Take the winner's disposition; a death that is not firm is softened by a temporary code or by a frame that doubts it."""
    winner = hits[0].rule
    if winner.disposition is not Disposition.HARD or winner.firm:
        return winner.disposition
    # The codes say that trying again may help: the reply if there is one, else the status.
    code = signs.reply or (signs.statuses[0] if signs.statuses else "")
    return Disposition.SOFT if code[:1] == "4" or any(_doubts(hit, hits[0]) for hit in hits) else Disposition.HARD


def _hits(seen: _Seen, providers: frozenset[str], rules: RuleSet) -> tuple[Hit, ...]:
    """Return the rows that apply, the one that speaks first."""
    signs = seen.signs
    if signs.action is not Action.FAILED and signs.action is not Action.DELAYED:
        return ()
    hits = [Hit(*row) for row in seen.rows if row[0].provider is None or row[0].provider in providers]
    return _ordered(hits, rules) if len(hits) > 1 else tuple(hits)


_Row = tuple[Rule, Level, str, Found | None, int]
"""A row that applies if its provider is the one, and the rest of a Hit."""


def _rows(signs: _Signs, found: tuple[Found, ...], rules: RuleSet) -> Iterator[_Row]:
    by_phrase, statuses, reply = rules.by_phrase, signs.statuses, signs.reply
    for one in found:
        for rule in by_phrase.get(one.phrase, ()):
            if not (rule.statuses or rule.replies) or _coded(rule, signs):
                yield rule, Level.FRAME if rule.weak else Level.PHRASE, "", one, 0
    for voice, status in enumerate(statuses):
        for rule, level in _status_rows(rules, status):
            if not rule.replies or _replied(rule, reply):
                yield rule, _level(rule, level, voice, signs), status, None, voice
    for pattern in (reply, f"{reply[0]}xx") if reply else ():
        for rule in rules.by_reply.get(pattern, ()):
            yield rule, Level.REPLY, pattern, None, 0


@lru_cache(maxsize=1024)
def _status_rows(rules: RuleSet, status: str) -> tuple[tuple[Rule, Level], ...]:
    return tuple((rule, level) for pattern, level in _patterns(status) for rule in rules.by_status.get(pattern, ()))


def _level(rule: Rule, level: Level, voice: int, signs: _Signs) -> Level:
    """Weigh a status: one that nobody said less than a frame; an exact and firm one (full, sender refused) that decides as words."""
    if level is Level.STATUS and signs.statuses[voice] == signs.derived:
        return Level.DERIVED_STATUS
    if level is Level.STATUS and rule.firm and voice == 0:
        return Level.PHRASE
    return Level.PROVIDER_STATUS if rule.provider else level


def _coded(rule: Rule, signs: _Signs) -> bool:
    """Tell whether the codes that a row with phrases asks for are there as well."""
    if rule.statuses and not any(pattern in rule.statuses for status in signs.statuses for pattern, _ in _patterns(status)):
        return False
    return _replied(rule, signs.reply)


def _replied(rule: Rule, reply: str | None) -> bool:
    return not rule.replies or (reply is not None and (reply in rule.replies or f"{reply[0]}xx" in rule.replies))


def _text(answer: Reply | None, diagnostic: str) -> str:
    reply = answer.text if answer else ""
    return f"{answer} {diagnostic}".strip() if reply and reply not in diagnostic else diagnostic


@lru_cache(maxsize=1024)
def _statuses(replied: StatusCode | None, reported: StatusCode | None, spoken: tuple[str, ...]) -> tuple[str, ...]:
    """Return the codes in the order in which they are believed: the deciding reply's, the report's, those in the text; vague ones last."""
    codes = list(dict.fromkeys([*(str(code) for code in (replied, reported) if code), *spoken]))
    return tuple(sorted(codes, key=_vague)[:_STATUSES])


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


def _providers(seen: _Seen, recipient: RecipientStatus, reporting_mta: str | None, rules: RuleSet) -> frozenset[str]:
    """Find who refused: whoever the text bears the mark of, and the remote host; if nobody, who keeps the mailbox, else who reports."""
    host = _of_host(rules, recipient.remote_mta) if recipient.remote_mta else _NOBODY
    if host or seen.marked:
        return seen.marked | host if host else seen.marked
    address = recipient.final_recipient or recipient.original_recipient or ""
    mailbox = _of_domain(rules, address.rpartition("@")[2])
    return mailbox or (_of_host(rules, reporting_mta) if reporting_mta else _NOBODY)


# Readers bound these fields.
@lru_cache(maxsize=1024)
def _of_host(rules: RuleSet, field: str) -> frozenset[str]:
    """Return the provider of `dns; mx.example.net (192.0.2.1, the server for ...)`, if it is one's."""
    name = field.rpartition(";")[2].split(None, 1)
    provider = rules.provider_of_host(name[0]) if name else None
    return frozenset([provider]) if provider else _NOBODY


@lru_cache(maxsize=1024)
def _of_domain(rules: RuleSet, domain: str) -> frozenset[str]:
    provider = rules.provider_of_domain(domain)
    return frozenset([provider]) if provider else _NOBODY


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


def _ordered(hits: list[Hit], rules: RuleSet) -> tuple[Hit, ...]:
    """Return the hits that are heard, the one that speaks first."""
    if any(hit.rule.own for hit in hits):
        hits = [hit for hit in hits if hit.rule.own]
    weights = _weights(rules)
    ranked = [(_rank(hit, weights[hit.rule.id]), hit) for hit in _heard(hits)]
    ranked.sort(key=_first, reverse=True)
    return tuple([hit for _, hit in ranked])


def _first(ranked: tuple[tuple[object, ...], Hit]) -> tuple[object, ...]:
    return ranked[0]


class _Weight(NamedTuple):
    """What of a row's rank is its own: `caution` where words decide, `code_caution` where a code does; `narrow` likewise."""

    caution: int
    code_caution: int
    narrow: int
    code_narrow: int
    mild: bool


@lru_cache(maxsize=8)
def _weights(rules: RuleSet) -> Mapping[str, _Weight]:
    return {rule.id: _weight(rule) for rule in rules.rows.rules}


def _weight(rule: Rule) -> _Weight:
    hard, vague = rule.disposition is Disposition.HARD, rule.category is Category.UNDETERMINED
    contests, scoped = 2 * _contests(rule), 2 * bool(rule.provider)
    return _Weight((contests or hard) - vague, contests - vague, scoped + bool(rule.statuses) + bool(rule.replies), scoped, not hard)


def _rank(hit: Hit, weight: _Weight) -> tuple[int, int, int, int, int, bool, int, int, str]:
    """Return by what a hit is compared; the higher speaks. Of two that say as much it is the later: the reason follows the refusal."""
    rule, level, _, found, voice = hit
    if found:
        return level, weight.caution, weight.narrow, -voice, len(found.phrase), weight.mild, found.start, found.end, rule.id
    return level, weight.code_caution, weight.code_narrow, -voice, 0, weight.mild, 0, 0, rule.id


def _heard(hits: list[Hit]) -> list[Hit]:
    """Leave out the words inside a longer phrase that was found too; a frame covers only frames, and nothing is covered by a gap."""
    if len({_span(hit) for hit in hits if hit.found}) < _COVERING:
        return hits
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
