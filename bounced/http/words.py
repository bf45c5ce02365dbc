"""What is asked and answered over HTTP, as JSON.

For: one type for each question and answer, from which reading, writing and the OpenAPI document are made. Never: a decision.
"""

from http import HTTPStatus
from typing import Annotated

import msgspec

from bounced.incident import Incident
from bounced.outcome import Outcome
from bounced.record import Cause
from bounced.scope import DEFAULT_SCOPE, EVERYWHERE

Reason = Annotated[
    str,
    msgspec.Meta(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$", description="Why, for those who ask later. One line."),
]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question without words."""


class AskedOfAddress(Asked, frozen=True):
    """A question about an address."""

    address: str


class AskedOfMail(AskedOfAddress, frozen=True):
    """A question about mail of one stream to an address."""

    scope: str = DEFAULT_SCOPE


class AskedOfMany(Asked, frozen=True):
    """A question about mail of one stream to many addresses."""

    addresses: Annotated[list[str], msgspec.Meta(max_length=1000)]
    scope: str = DEFAULT_SCOPE


class AskedOfEvents(Asked, frozen=True):
    """A question for the events after the last answer's `next`; without it all that are kept; "end": none, and where the end is.

    Where there are none yet, the answer waits for so many seconds.
    """

    after: Annotated[str, msgspec.Meta(pattern=r"^([0-9]{1,18}|end)$")] = "0"
    wait: Annotated[int, msgspec.Meta(ge=0, le=60)] = 0


class AskedOfList(AskedOfAddress, frozen=True, kw_only=True):
    """A change of the list: of one stream, or of all ("*")."""

    reason: Reason
    scope: str = EVERYWHERE


class AskedOfReturnPath(Asked, frozen=True):
    """A question about the local part of a return path."""

    local_part: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether mail of a stream may go to an address; and if not, why: `text` is what to tell the sender."""

    address: str
    scope: str
    suppressed: bool
    cause: str | None = None
    category: str | None = None
    since: int | None = None
    text: str | None = None


class Happened(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event of an address. `mail` names the mail that it answers, by a part of the seal that proves nothing."""

    kind: str
    at: int
    scope: str
    mail: str | None = None
    signed_at: int | None = None
    outcome: Outcome | None = None
    reader: str | None = None
    final_recipient: str | None = None
    client: str | None = None
    feedback_type: str | None = None
    what: str | None = None
    by: str | None = None
    reason: str | None = None
    provider: str | None = None
    held: str | None = None
    incident: str | None = None
    unsigned: str | None = None
    source: str | None = None
    cause: str | None = None
    category: str | None = None
    since: int | None = None
    until: int | None = None


class Told(Happened, frozen=True, kw_only=True, omit_defaults=True):
    """An event with its address and its number; numbers grow, and none is given twice."""

    id: str
    address: str


class Feed(msgspec.Struct, frozen=True):
    """The next events of all addresses, oldest first, 500 at most. Ask again with `next`; an event that was forgotten is left out."""

    events: list[Told]
    next: str


class Verdicts(msgspec.Struct, frozen=True):
    """An answer for each address, in their order."""

    answers: list[Verdict]


class SignedMany(msgspec.Struct, frozen=True):
    """A return path for one mail to each address, in their order."""

    return_paths: list[str]


class Stands(msgspec.Struct, frozen=True, kw_only=True):
    """How an address stands in one scope ("*": everywhere); `held` are the incidents that hold a verdict on it.

    `incident` is set where nothing but a confirmed incident blocks it.
    """

    scope: str
    cause: str | None
    category: str | None
    since: int | None
    until: int | None
    strikes: int
    held: list[str]
    incident: str | None
    released_at: int | None


class Story(msgspec.Struct, frozen=True):
    """What is known of an address: how it stands in each scope in which something happened, and its newest events, 1,000 at most."""

    address: str
    suppressed: bool
    standings: list[Stands]
    events: list[Happened]


class SignedAnswer(msgspec.Struct, frozen=True):
    """A return path for one mail."""

    return_path: str


class Proof(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a return path proves: to whom it was signed, and when; or why it proves nothing (`refused`)."""

    recipient: str | None = None
    scope: str | None = None
    signed_at: int | None = None
    refused: str | None = None


class Noted(msgspec.Struct, frozen=True):
    """What was told is on disk; `suppressed` in any scope after it."""

    address: str
    suppressed: bool


_Moment = Annotated[int, msgspec.Meta(ge=-62_135_596_800, le=253_402_300_799)]
"""Unix seconds of the years 1 to 9999: others no calendar can show."""


class TakenBlock(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A block of another list: address, scope ("*": everywhere), cause, category, since when, until when; null is unknown, or never."""

    address: str
    scope: str
    cause: Cause
    category: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,40}$")]
    since: _Moment | None = None
    until: _Moment | None = None


class AskedOfImport(Asked, frozen=True, kw_only=True):
    """Blocks of another list, which `source` names, 2,000 at most: all of them, or none."""

    source: Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
    blocks: Annotated[list[TakenBlock], msgspec.Meta(max_length=2000)]


class TakenOver(msgspec.Struct, frozen=True):
    """The blocks are on disk; so many changed anything, the others were there already, or were released since."""

    changed: int


class Health(msgspec.Struct, frozen=True):
    """The list can be read."""

    version: str


class Counted(msgspec.Struct, frozen=True):
    """How often something was refused or repeated on a day, by network."""

    day: str
    what: str
    source: str
    count: int


class Tallies(msgspec.Struct, frozen=True):
    """All tallies, newest day first, and the incidents of forgery and abuse, each kind with advice."""

    tallies: list[Counted]
    incidents: list[Incident]
    advice: dict[str, str]


class AskedOfBlocks(Asked, frozen=True, kw_only=True):
    """A question for the next blocks: of a cause or category, of one stream ("*": those everywhere), `after` the last answer's `next`."""

    cause: str | None = None
    scope: str | None = None
    after: str | None = None


class Block(msgspec.Struct, frozen=True):
    """One block. A forgotten address shows as "#" and a keyed hash."""

    address: str
    scope: str
    cause: str
    category: str
    since: int
    until: int | None


class Blocks(msgspec.Struct, frozen=True):
    """Some blocks, in the order of addresses. While `next` is set, ask again with it; also where there are none."""

    blocks: list[Block]
    next: str | None


class AskedOfForgetting(AskedOfAddress, frozen=True, kw_only=True):
    """An address that is to be forgotten."""

    reason: Reason


class Counts(msgspec.Struct, frozen=True):
    """How many there are: addresses, blocks in force by cause; of the last seven days, bounces by category and by who refused us."""

    addresses: int
    blocks: dict[str, int]
    categories: dict[str, int]
    blockers: dict[str, int]
    open_incidents: int


class AskedOfIncident(Asked, frozen=True, kw_only=True):
    """A question about an incident, for its addresses `after` the last answer's `next`."""

    id: str
    after: str | None = None


class AskedOfHold(Asked, frozen=True, kw_only=True):
    """Hold what a provider called dead from `since` on."""

    provider: str
    since: int
    reason: Reason


class AskedOfRuling(Asked, frozen=True, kw_only=True):
    """A ruling on all that an incident holds."""

    id: str
    reason: Reason


class Ruled(msgspec.Struct, frozen=True):
    """The ruling is on disk; so many addresses changed by it."""

    id: str
    changed: int


class Incidents(msgspec.Struct, frozen=True):
    """All incidents, newest first."""

    incidents: list[Incident]


class Affected(msgspec.Struct, frozen=True):
    """An incident, what to do about it, and some addresses of which it holds or held a verdict. While `next` is set, ask again with it."""

    incident: Incident
    advice: str | None
    addresses: list[str]
    next: str | None


class Group(msgspec.Struct, frozen=True):
    """Texts that say the same: how many, first and last when, and one of them, without whom it concerned."""

    count: int
    first: int
    last: int
    sample: str


class Unread(msgspec.Struct, frozen=True):
    """A Maildir on the daemon's machine, and how many messages lie in it."""

    directory: str
    messages: int


class Unmatched(msgspec.Struct, frozen=True):
    """What no rule knew the words of, the most frequent first; and the mail in which no reader found a report."""

    groups: list[Group]
    unread: Unread


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong (RFC 9457): `detail` in one sentence, and where it helps in `hint` what to do. `title` is that of the status."""

    title: str
    status: int
    detail: str
    hint: str | None = None


class Refused(Exception):
    """The question cannot be answered as it stands: `problem` goes to the peer."""

    def __init__(self, status: HTTPStatus, detail: str, hint: str | None = None) -> None:
        super().__init__(detail)
        self.problem = Problem(status.phrase, status.value, detail, hint)
