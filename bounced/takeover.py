"""The suppression lists of others, recognized by their columns.

For: `bounced import`: rows of SES, SendGrid, Mailgun, Postmark, SparkPost (Bird), Mailchimp, Mandrill, Mailman, listmonk, of our own
export, and plain lists, as blocks in our words, with the date that they had there. Never: files, the store, or a guess where a column says
otherwise: a row that is no block is rejected with the reason.
"""

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from itertools import chain, groupby, islice
from typing import NamedTuple

from bounced.address import AddressError, AddressKey, address_keys
from bounced.outcome import Category
from bounced.record import OPT_OUT, Cause, Imported
from bounced.scope import EVERYWHERE, Scope, ScopeError, parse_scope


class Kind(NamedTuple):
    """What a block is, but for whom it blocks and since when. `scope` is None where the list does not tell a stream."""

    cause: Cause
    category: str
    scope: Scope | None = None
    until: int | None = None


class Taken(NamedTuple):
    """Blocks of another list that are alike but for address and date: of `keys`, each `since` the time in its place, None if untold.

    In columns, since they come by the million.
    """

    scope: Scope
    cause: Cause
    category: str
    until: int | None
    keys: list[AddressKey]
    since: list[int | None]


BOUNCED = Kind(Cause.HARD, Category.UNDETERMINED.value)
COMPLAINED = Kind(Cause.COMPLAINT, Category.COMPLAINT.value)
LEFT = Kind(Cause.COMPLAINT, OPT_OUT)
BY_HAND = Kind(Cause.MANUAL, "manual")

_STATUSES = {
    "5.1.1": Category.NO_SUCH_USER,
    "5.1.2": Category.NO_SUCH_DOMAIN,
    "5.1.6": Category.MOVED,
    "5.1.10": Category.NOT_ACCEPTING,
    "5.2.1": Category.INACTIVE,
}


class NoBlockError(ValueError):
    """The row names nobody who must not be mailed; the message says why and repeats no stranger's text."""


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


@lru_cache(256)
def form_of(columns: tuple[str, ...]) -> Form | None:
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


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a list, one after the other. `line` tells where each of `rows` ends; `column` gives what stands under a folded name.

    `form` is None where no column holds addresses.
    """

    form: Form | None
    line: Sequence[int]
    rows: Sequence[Sequence[str]]
    column: Callable[[str], Sequence[str]]


def blocks_of(page: Page, scope: Scope = EVERYWHERE) -> tuple[list[Taken], dict[int, str]]:
    """Return the blocks of a page, in `scope` where a row tells no stream, and by its place in it why a row is none."""
    form = page.form
    if form is None:
        return [], dict.fromkeys(range(len(page.rows)), "no column holds an address")
    written = page.column(form.address)
    if form.name == OURS:
        # So our export keeps a spreadsheet from taking it for a formula.
        written = [text[1:] if text[:1] == "'" and text[1:2] in set("=+-@") else text for text in written]
    keys, no_keys = address_keys(written)
    told = list(zip(*map(page.column, form.told_by), strict=True)) if form.told_by else [()] * len(keys)
    kinds = {cells: _kind(form, cells) for cells in set(told)}
    dates = page.column(form.since) if form.since else [""] * len(keys)
    moments = {date: _moment(date) for date in set(dates)}
    since = [moments[date] for date in dates]
    if len(kinds) == 1 and not no_keys and isinstance(kind := kinds[told[0]], Kind):
        return [Taken(kind.scope or scope, kind.cause, kind.category, kind.until, keys, since)], {}
    return _apart(zip(keys, told, since, strict=True), kinds, no_keys, scope)


def _apart(
    rows: Iterable[tuple[AddressKey, tuple[str, ...], int | None]],
    kinds: Mapping[tuple[str, ...], Kind | str],
    no_keys: Mapping[int, AddressError],
    scope: Scope,
) -> tuple[list[Taken], dict[int, str]]:
    """Sort rows by what they are, each kind in the order of the list."""
    alike: dict[Kind, tuple[list[AddressKey], list[int | None]]] = {}
    columns = {cells: alike.setdefault(kind, ([], [])) for cells, kind in kinds.items() if isinstance(kind, Kind)}
    refused: dict[int, str] = {}
    for place, (key, cells, moment) in enumerate(rows):
        if cells not in columns:
            refused[place] = str(kinds[cells])
        elif place in no_keys:
            refused[place] = str(no_keys[place])
        else:
            of_kind, times = columns[cells]
            of_kind.append(key)
            times.append(moment)
    return [Taken(kind.scope or scope, kind.cause, kind.category, kind.until, *found) for kind, found in alike.items() if found[0]], refused


def _kind(form: Form, cells: tuple[str, ...]) -> Kind | str:
    """Return what a row is, or why it is no block."""
    try:
        return form.kind(tuple(cell.strip().lower() for cell in cells))
    except (NoBlockError, ScopeError) as error:
        return str(error)


def imported(block: Taken, key: AddressKey, since: int | None, *, at: int, by: str, source: str) -> Imported:
    """Return the event of taking one address over at a time: a block that has no date, or one of the future, began then."""
    return Imported(
        at=at,
        key=key,
        scope=block.scope,
        by=by,
        source=source,
        cause=block.cause,
        category=block.category,
        since=at if since is None else min(since, at),
        until=block.until,
    )


def pages_of_csv(lines: Iterable[str], rows_of_each: int) -> Iterator[Page]:
    """Read a list with columns, or one address a line. Raises csv.Error."""
    lines = iter(lines)
    # The mark that Excel and others begin with.
    reader = csv.reader(chain([line.removeprefix("\ufeff") for line in islice(lines, 1)], lines))
    form: Form | None = None
    names: dict[str, int] = {}
    ended = 0
    while rows := list(islice(reader, rows_of_each)):
        begin, ended = ended, reader.line_num
        line: Sequence[int] = range(begin + 1, ended + 1) if ended - begin == len(rows) else _ends(rows, begin)
        if not all(rows) or "#" in {cells[0][:1] for cells in rows}:
            told = [place for place, cells in enumerate(rows) if cells and not (cells[0].startswith("#") and "@" not in cells[0])]
            rows, line = [rows[place] for place in told], [line[place] for place in told]
        if form is None and rows:
            form = form_of(tuple(rows[0]))
            names = {_folded(cell): place for place, cell in enumerate(rows[0])}
            if form is None:
                form, names = _PLAIN, {"address": 0}
            else:
                rows, line = rows[1:], line[1:]
        if rows:
            yield Page(form, line, rows, _columns(rows, names))


def _ends(rows: Sequence[Sequence[str]], begin: int) -> Sequence[int]:
    """Return the lines in which rows end, some of which have line ends within."""
    ends = []
    for cells in rows:
        begin += 1 + sum(cell.count("\n") + cell.count("\r") - cell.count("\r\n") for cell in cells)
        ends.append(begin)
    return ends


def _columns(rows: Sequence[Sequence[str]], names: dict[str, int]) -> Callable[[str], Sequence[str]]:
    def column(name: str) -> Sequence[str]:
        place = names.get(name)
        if place is None:
            return [""] * len(rows)
        try:
            return [cells[place] for cells in rows]
        except IndexError:
            return [cells[place] if place < len(cells) else "" for cells in rows]

    return column


def pages_of_rows(rows: Iterable[tuple[int, dict[object, object]]], rows_of_each: int) -> Iterator[Page]:
    """Read rows that name their columns, each with its number."""
    named = ((number, {_folded(str(name)): "" if value is None else str(value) for name, value in row.items()}) for number, row in rows)
    for form, alike in groupby(named, lambda pair: form_of(tuple(pair[1]))):
        while some := list(islice(alike, rows_of_each)):
            yield Page(form, [number for number, _ in some], [list(row.values()) for _, row in some], _fields([row for _, row in some]))


def _fields(rows: Sequence[dict[str, str]]) -> Callable[[str], Sequence[str]]:
    return lambda name: [row.get(name, "") for row in rows]


def rows_in(content: object) -> Iterator[dict[object, object]]:
    """Find the rows in what an API gave, however deep the list lies in it."""
    match content:
        case list():
            for item in content:
                yield from rows_in(item)
        case dict() if any(isinstance(value, list) for value in content.values()) and not form_of(tuple(map(str, content))):
            for value in content.values():
                if isinstance(value, list):
                    yield from rows_in(value)
        case dict() if set(content) == {"data"} or (content.keys() <= {"data", "meta", "paging"} and "data" in content):
            yield from rows_in(content["data"])
        case dict():
            yield content
        case str():
            yield {"address": content}
        case _:
            pass


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


_MOST_DIGITS = 14
_ISO = re.compile(r"\d{4}-\d\d-\d\d")


def _moment(written: str) -> int | None:
    """Read a time as Unix seconds, in any of the ways that lists have; UTC where no zone is told. None for none that can be."""
    text = written.strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        # No number of digits that a date could not be: the longest is one of milliseconds.
        number = int(text) if len(text) <= _MOST_DIGITS else 0
        return (number // 1000 if number > 10**11 else number) or None
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
    return Kind(Cause.HARD, category.value) if category else BOUNCED


def _by_word(words: Mapping[str, Kind]) -> Callable[[tuple[str, ...]], Kind]:
    """Tell by the word in a column, spelt in any case and with any blanks."""

    def kind(cells: tuple[str, ...]) -> Kind:
        found = words.get(_folded(cells[0]))
        if found is None:
            raise NoBlockError("its word for why is none that suppresses")
        return found

    return kind


def _ours(cells: tuple[str, ...]) -> Kind:
    cause, category, scope, until = cells
    if cause not in set(Cause):
        raise NoBlockError("its cause is no word of ours")
    return Kind(Cause(cause), category or "manual", None if scope in {"", EVERYWHERE} else parse_scope(scope), _moment(until.upper()))


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
        (OURS, "address scope cause category", _ours, ("cause", "category", "scope", "until"), "since"),
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
