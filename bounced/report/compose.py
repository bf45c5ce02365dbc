"""From the findings in a letter to a report.

For: what dialects and last resort share: sections under recipients' headings, notices of delay, the making of the statuses. Never: a
standard report, or a guess whether a letter is a bounce.
"""

import re
from collections.abc import Iterable

from bounced.report import Action, DeliveryReport, RecipientStatus, fields, prose
from bounced.report.prose import Letter

MAX_RECIPIENTS = 1000

_DELAY_SUBJECT = re.compile(
    r"""
    delayed|\(delay\)|^warning:(?!.{0,80}(?:fail|undeliver|returned))|delivery[ ]status[ ]notification:[ ]warning|verzöger
    |noch[ ]nicht|différée|retard|retras|demorad|ritard|atras|vertraag|försena|forsink|viivästy|opóźni|zpožd|oneskor|késlelt
    |késik|întârzi|отлож|задерж|затрим|відклад|забав|gecik|καθυστέρ|遅延|延[迟遲]|지연|מתעכב|תעוכב|تأخ|ล่าช้า|bị[ ]hoãn|trì[ ]hoãn
    |tertunda
    """,
    re.IGNORECASE | re.VERBOSE,
)
_DELAY = re.compile(
    r"""
    (?:has|have|is|been|was)[ ](?:been[ ])?delayed|delayed?[ ](?:mail|notif)|not[ ]yet[ ]been[ ]delivered|hasn't[ ]been[ ]delivered[ ]yet
    |warning[ ]message[ ]only|will[ ]be[ ]retried|still[ ]being[ ]retried|delivery.{0,20}delayed|verzögert
    |noch[ ]nicht.{0,80}zugestellt|retardée|en[ ]retard|est[ ]différée|pas[ ]encore[ ]été[ ](?:remis|distribu|livr)|demorad|retrasad
    |todavía[ ]no[ ]se[ ]ha[ ]entregado|in[ ]ritardo|non[ ]è[ ]stato[ ]ancora|ancora[ ]recapitato|atrasad|ainda[ ]não[ ]foi[ ]entregue
    |vertraagd|nog[ ]niet.{0,40}(?:bezorgd|afgeleverd)|försenad|inte[ ]levererats[ ]än|forsinket|endnu[ ]ikke.{0,40}leveret
    |ennå[ ]ikke|viivästynyt|ei[ ]ole[ ]vielä|opóźnion|jeszcze.{0,40}dostarczon|zpožděno|zatím[ ]nebyla|oneskoren|zatiaľ[ ]nebola
    |késik|még[ ]nem.{0,40}kézbesít|întârziat|încă[ ]nu[ ]a|отложен|задерж|[её]ще?[ ]не[ ]доставлен|затримано|gecikti|henüz
    |καθυστερεί|遅延|まだ配信|延[迟遲]|尚未[送传傳]|지연|아직[ ]배달
    """,
    re.IGNORECASE | re.VERBOSE,
)
_GAVE_UP = re.compile(
    r"giving up|given up|give up on|permanent|permanently|could not be delivered for|will be deleted|has been deleted", re.IGNORECASE
)
_delay_subject, _delay, _gave_up = map(fields.blind, (_DELAY_SUBJECT, _DELAY, _GAVE_UP))
_SECTION_LIMIT = 20_000


def action(letter: Letter) -> Action:
    """Tell a notice of delay from a failure."""
    note = letter.note[:8000]
    delayed = _delay_subject(letter.subject) or (_delay(note) and not _gave_up(note))
    return Action.DELAYED if delayed else Action.FAILED


def sections(text: str, heading: re.Pattern[str]) -> list[tuple[str, str]]:
    """Return (address, text up to the next heading) for each match of `heading`, whose group 1 is an address."""
    found = [match for match in heading.finditer(text) if match[1] and fields.address(match[1])][:MAX_RECIPIENTS]
    if not found:
        return []
    ends = [match.start() for match in found[1:]] + [len(text)]
    return [
        (fields.address(match[1]) or "", text[match.start() : min(end, match.start() + _SECTION_LIMIT)])
        for match, end in zip(found, ends, strict=True)
    ]


def of_sections(letter: Letter, reader: str, told: Iterable[tuple[str, str]], what: Action | None = None) -> DeliveryReport | None:
    """Make a report of (address, what is said of it); sections of one address are joined. None if there is no address."""
    joined: dict[str, tuple[str, str]] = {}
    for address, text in told:
        before = joined.get(address.lower(), (address, ""))[1]
        joined[address.lower()] = (address, f"{before} {text}" if text.strip() not in before else before)
    if not joined:
        return None
    decided = what or action(letter)
    statuses = tuple(status(decided, address, text) for address, text in joined.values())
    return DeliveryReport(reader=reader, standard=False, recipients=statuses, copy=letter.returned)


def of_addresses(letter: Letter, reader: str, addresses: list[str]) -> DeliveryReport | None:
    """Make a report of the addresses alone; what the letter says of each is searched in it."""
    told = prose.explanations(letter.note, addresses[:MAX_RECIPIENTS])
    return of_sections(letter, reader, [(address, told.get(address.lower(), "")) for address in addresses[:MAX_RECIPIENTS]])


def nameless(letter: Letter, reader: str) -> DeliveryReport:
    """Make a report of one recipient that the letter does not name."""
    told = status(action(letter), None, letter.note)
    return DeliveryReport(reader=reader, standard=False, recipients=(told,), copy=letter.returned)


def status(what: Action, address: str | None, text: str) -> RecipientStatus:
    """Make the status of one recipient from the text about it."""
    told = fields.clean(text)
    reply = fields.find_reply(told)
    code = (reply.status if reply else None) or prose.status_code(told)
    return RecipientStatus(action=what, final_recipient=address, status=code, reply=reply, diagnostic=told)


def failed_recipients(letter: Letter) -> list[str]:
    """Return the addresses of X-Failed-Recipients, which Exim and Google write."""
    return fields.found_addresses(", ".join(letter.message.headers.all(b"x-failed-recipients")))
