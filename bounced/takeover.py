"""The suppression lists of others, recognized by their columns.

For: `bounced import`: rows of SES, SendGrid, Mailgun, Postmark, SparkPost (Bird), Mailchimp, Mandrill, Mailman, listmonk, of our own
export, and plain lists, as blocks in our words, with the date that they had there. Never: files, the store, or a guess where a column says
otherwise: a row that is no block is rejected with the reason.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

import msgspec

from bounced.address import AddressError, AddressKey, address_key
from bounced.outcome import Category
from bounced.record import OPT_OUT, Cause, Imported
from bounced.scope import EVERYWHERE, Scope, ScopeError, parse_scope

Row = Mapping[str, object]
Kind = tuple[Cause, str]
"""Cause and category of a block."""

BOUNCED: Kind = (Cause.HARD, Category.UNDETERMINED.value)
COMPLAINED: Kind = (Cause.COMPLAINT, Category.COMPLAINT.value)
LEFT: Kind = (Cause.COMPLAINT, OPT_OUT)
BY_HAND: Kind = (Cause.MANUAL, "manual")

_STATUSES = {
    "5.1.1": Category.NO_SUCH_USER,
    "5.1.2": Category.NO_SUCH_DOMAIN,
    "5.1.6": Category.MOVED,
    "5.1.10": Category.NOT_ACCEPTING,
    "5.2.1": Category.INACTIVE,
}


class NoBlockError(ValueError):
    """The row names nobody who must not be mailed; the message says why and repeats no stranger's text."""


class Taken(msgspec.Struct, frozen=True):
    """A block of another list. `since` is None where it does not say when. A Struct, as they are made by the million (see record)."""

    key: AddressKey
    scope: Scope
    cause: Cause
    category: str
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """How one kind of list is written: `needs` are columns that only it has together, `address` and `since` two of them.

    `kind` tells a block by what stands in the columns `told_by`, in lower case. It raises NoBlockError.
    """

    name: str
    needs: frozenset[str]
    address: str
    kind: Callable[[tuple[str, ...]], Kind]
    told_by: tuple[str, ...] = ()
    since: str | None = None
    only: bool = False
    """Whether it has no other columns: these few alone could be anybody's."""


def form_of(columns: Iterable[str]) -> Form | None:
    """Return the form that has these columns; None if there is no column of addresses."""
    folded = [_folded(column) for column in columns]
    for form in FORMS:
        if form.needs == set(folded) if form.only else form.needs <= set(folded):
            return form
    for column in folded:
        if column in _ADDRESS_COLUMNS:
            dated = next((name for name in folded if name in _DATE_COLUMNS), None)
            return Form("list", frozenset({column}), column, _always(BY_HAND), since=dated)
    return None


def taken(row: Row, form: Form, scope: Scope = EVERYWHERE) -> Taken:
    """Return the block that a row tells, by folded column names. Raises NoBlockError, also for what is no address."""
    cause, category = _kind(form.kind, tuple([row.get(name) for name in form.told_by])) if form.told_by else form.kind(())
    written = row.get(form.address)
    try:
        if form.name == OURS and isinstance(written, str) and written[:1] == "'" and written[1:2] in "=+-@":
            written = written[1:]  # so our export keeps a spreadsheet from taking it for a formula
        key = address_key(written.strip() if isinstance(written, str) else "")
        if form.name == OURS:
            scope = _scope(row.get("scope"), scope)
    except (AddressError, ScopeError) as error:
        raise NoBlockError(str(error)) from None
    until = _moment(row.get("until")) if form.name == OURS else None
    return Taken(key, scope, cause, category, _moment(row.get(form.since)) if form.since else None, until)


@lru_cache(4096)
def _kind(kind: Callable[[tuple[str, ...]], Kind], cells: tuple[object, ...]) -> Kind:
    return kind(tuple("" if cell is None else str(cell).strip().lower() for cell in cells))


def _scope(written: object, otherwise: Scope) -> Scope:
    return otherwise if written in (None, "", EVERYWHERE) else parse_scope(str(written))


def imported(blocks: Iterable[Taken], source: str, *, by: str, at: int) -> list[Imported]:
    """Return the events of taking blocks over at a time: one that has no date, or one of the future, began then."""
    return [
        Imported(
            at=at,
            key=one.key,
            scope=one.scope,
            by=by,
            source=source,
            cause=one.cause,
            category=one.category,
            since=at if one.since is None else min(one.since, at),
            until=one.until,
        )
        for one in blocks
    ]


def rows_of_csv(lines: Iterable[str]) -> Iterator[tuple[int, Row, Form]]:
    """Read a list with columns, or one address a line; give the number of the line, the row by folded names, and the form."""
    reader = csv.reader(_without_mark(lines))
    form: Form | None = None
    names: list[str] = []
    for cells in reader:
        if not cells or (cells[0].startswith("#") and "@" not in cells[0]):
            continue
        if form is None:
            form = form_of(cells)
            names = [_folded(cell) for cell in cells]
            if form is not None:
                continue
            form, names = _PLAIN, ["address"]
        yield reader.line_num, dict(zip(names, cells, strict=False)), form


def rows_of_json(content: object) -> Iterator[tuple[int, Row, Form | None]]:
    """Find the rows in what an API gave, however deep the list lies in it."""
    for number, row in enumerate(_objects(content), 1):
        folded = {_folded(str(name)): value for name, value in row.items()}
        yield number, folded, form_of(folded)


def _objects(content: object) -> Iterator[dict[object, object]]:
    match content:
        case list():
            for item in content:
                yield from _objects(item)
        case dict() if any(isinstance(value, list) for value in content.values()) and not form_of(map(str, content)):
            for value in content.values():
                if isinstance(value, list):
                    yield from _objects(value)
        case dict() if set(content) == {"data"} or (content.keys() <= {"data", "meta", "paging"} and "data" in content):
            yield from _objects(content["data"])
        case dict():
            yield content
        case str():
            yield {"address": content}
        case _:
            pass


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _without_mark(lines: Iterable[str]) -> Iterator[str]:
    """Take the byte order mark away that Excel and others begin with."""
    first = True
    for line in lines:
        yield line.removeprefix("\ufeff") if first else line
        first = False


_ISO = re.compile(r"\d{4}-\d\d-\d\d")


def _moment(written: object) -> int | None:
    """Read a time as Unix seconds, in any of the ways that lists have; UTC where no zone is told. None for none that can be."""
    text = written.strip() if isinstance(written, str) else str(written or "")
    if not text:
        return None
    if text.isascii() and text.isdigit():
        number = int(text)
        return number // 1000 if number > 10**11 else number
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC")) if _ISO.match(text) else parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _bounce(cells: tuple[str, ...]) -> Kind:
    """Tell a bounce by its status and its reply: what the list itself calls temporary is none."""
    status, reply = cells
    found = re.search(r"\b[245]\.\d{1,3}\.\d{1,3}\b", f"{status} {reply}")
    if status.startswith("4") or (found and found[0].startswith("4")):
        raise NoBlockError("it failed for a while only")
    category = _STATUSES.get(found[0]) if found else None
    return (Cause.HARD, category.value) if category else BOUNCED


def _by_word(words: Mapping[str, Kind]) -> Callable[[tuple[str, ...]], Kind]:
    """Tell by the word in a column, spelt in any case and with any blanks."""

    def kind(cells: tuple[str, ...]) -> Kind:
        found = words.get(_folded(cells[0]))
        if found is None:
            raise NoBlockError("its word for why is none that suppresses")
        return found

    return kind


def _ours(cells: tuple[str, ...]) -> Kind:
    try:
        return Cause(cells[0]), cells[1] or "manual"
    except ValueError:
        raise NoBlockError("its cause is no word of ours") from None


def _always(kind: Kind) -> Callable[[tuple[str, ...]], Kind]:
    return lambda _: kind


OURS = "bounced"
_PLAIN = Form("list", frozenset(), "address", _always(BY_HAND))
_ADDRESS_COLUMNS = ("email", "emailaddress", "address", "recipient", "mail", "subscriber", "emailaddr")
_DATE_COLUMNS = ("since", "createdat", "created", "date", "timestamp", "suppressedat", "updatedat", "lastupdatetime", "time")
_SES = {"bounce": BOUNCED, "complaint": COMPLAINED}
_POSTMARK = {
    "hardbounce": BOUNCED,
    "spamcomplaint": COMPLAINED,
    "manualsuppression": BY_HAND,
    "badinactive": BOUNCED,
    "unsubscribe": LEFT,
    "inactive": BOUNCED,
}
_SPARKPOST = {
    "bouncerule": BOUNCED,
    "spamcomplaint": COMPLAINED,
    "manuallyadded": BY_HAND,
    "compliance": BY_HAND,
    "listunsubscribe": LEFT,
    "unsubscribelink": LEFT,
}
_MANDRILL = {
    "hardbounce": BOUNCED,
    "spam": COMPLAINED,
    "unsub": LEFT,
    "custom": BY_HAND,
    "invalid": BOUNCED,
    "invalidsender": BY_HAND,
    "rule": BY_HAND,
}
_LISTMONK_BOUNCE = {"hard": BOUNCED, "complaint": COMPLAINED}
_STATUS_AND_REPLY, _CODE_AND_ERROR = ("status", "reason"), ("code", "error")
# What has more columns stands first.
FORMS = tuple(
    Form(name, frozenset(needs.removesuffix(" only").split()), needs.split()[0], kind, tuple(told_by), since, needs.endswith(" only"))
    for name, needs, kind, told_by, since in (
        (OURS, "address scope cause category", _ours, ("cause", "category"), "since"),
        ("ses", "emailaddress reason lastupdatetime", _by_word(_SES), ("reason",), "lastupdatetime"),
        ("postmark", "emailaddress suppressionreason", _by_word(_POSTMARK), ("suppressionreason",), "createdat"),
        ("ses", "emailaddress reason", _by_word(_SES), ("reason",), None),
        ("sparkpost", "recipient source type", _by_word(_SPARKPOST), ("source",), "created"),
        ("mandrill", "email reason detail expired", _by_word(_MANDRILL), ("reason",), "createdat"),
        ("mailchimp", "emailaddress cleantime", _always(BOUNCED), (), "cleantime"),
        ("mailchimp", "emailaddress unsubtime", _always(LEFT), (), "unsubtime"),
        ("listmonk", "email type source campaign", _by_word(_LISTMONK_BOUNCE), ("type",), "createdat"),
        ("listmonk", "email uuid status", _by_word({"blocklisted": BY_HAND}), ("status",), "updatedat"),
        ("mailman", "email deliverystatus", _by_word({"bybounces": BOUNCED}), ("deliverystatus",), None),
        ("sendgrid", "email status reason created", _bounce, _STATUS_AND_REPLY, "created"),
        ("sendgrid", "email reason created", _always(BOUNCED), (), "created"),
        ("sendgrid", "email created ip only", _always(COMPLAINED), (), "created"),
        ("sendgrid", "email created only", _always(LEFT), (), "created"),
        ("mailgun", "address code error", _bounce, _CODE_AND_ERROR, "createdat"),
        ("mailgun", "address tags", _always(LEFT), (), "createdat"),
        ("mailgun", "address createdat only", _always(COMPLAINED), (), "createdat"),
    )
)
