"""Events, standings, incidents and watches as rows of a table, and back.

For: one spelling of them on disk, whatever the database. Never: SQL, or a decision. What was written once is read for ever: fields may be
added to an event with a default, and a field or a word that goes needs a migration.
"""

import json
import re
import string
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from bounced.address import AddressKey, is_drill
from bounced.guard import Slots, Watch
from bounced.incident import Incident
from bounced.outcome import UNMATCHED
from bounced.outcome.similarity import sample_of, similarity_key
from bounced.record import (
    AnyEvent,
    Blocked,
    Bounced,
    Cause,
    Complained,
    Confirmed,
    Delivered,
    Hold,
    Imported,
    Noticed,
    Released,
    Reverted,
    Sent,
    Standing,
)
from bounced.returnpath import opaque_id_of
from bounced.scope import Scope
from bounced.store import Tally, Unmatched

_KINDS: dict[str, type[AnyEvent]] = {
    "bounced": Bounced,
    "complained": Complained,
    "noticed": Noticed,
    "delivered": Delivered,
    "blocked": Blocked,
    "released": Released,
    "sent": Sent,
    "confirmed": Confirmed,
    "reverted": Reverted,
    "imported": Imported,
}
_WORDS = {kind: word for word, kind in _KINDS.items()}
_READERS: dict[str, msgspec.json.Decoder[AnyEvent]] = {word: msgspec.json.Decoder(kind) for word, kind in _KINDS.items()}
_CAME_BACK = (Bounced, Complained, Noticed)
_FIRST_SAID = b',"signed_at":'
_UNSAID = re.compile(rb',"[a-z_]+":null')
_quoted = json.encoder.encode_basestring_ascii
CAUSES = {cause.value[0]: cause for cause in Cause}
"""Causes by the letter that stands for each."""


# A word a row would be a quarter of the table. A number is given once: add at the end, never change one.
_CATEGORIES = (
    *("no-such-user", "no-such-domain", "inactive", "moved", "not-accepting", "mailbox-full", "message-too-large", "rate-limited"),
    *("network", "expired", "mail-loop", "system-error", "complaint", "manual"),
)
_NUMBERS: dict[str, int] = {word: number for number, word in enumerate(_CATEGORIES)}

# The 16 or 23 base32 characters of an opaque id or a seal (see returnpath).
_BASE32 = re.compile(r"[a-z2-7]{16}(?:[a-z2-7]{7})?")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_TO_DIGITS = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
_SEAL = 23
_PAIRS = [one + other for one in _ALPHABET for other in _ALPHABET]
_FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_JSON = json.JSONEncoder(separators=(",", ":"))


class _Rare(msgspec.Struct, frozen=True, omit_defaults=True):
    """What few standings have."""

    until: int | None = None
    times: int = 0
    rests_until: int | None = None
    incident: str | None = None
    unsigned: bool = False
    struck: tuple[int, ...] = ()
    sent: tuple[int, ...] = ()
    held: tuple[Hold, ...] = ()


_RARE = msgspec.json.Decoder(_Rare)
_NOTHING_RARE = _Rare()
_WATCH = msgspec.json.Decoder(tuple[int, int, Slots, Slots, int, int, int, int, int | None, int])


class RowError(ValueError):
    """A row does not say what this version can read."""


class EventRow(NamedTuple):
    """An event as columns; `token` is packed; `detail` the JSON of what has no column of its own."""

    at: int
    kind: str
    address: str
    scope: str
    token: bytes | str | None
    detail: str


class StandingRow(NamedTuple):
    """A standing as columns; `cause` is its first letter, `category` the number of the word, or a word that has none.

    `detail` is the JSON of what else differs from an untouched one.
    """

    scope: str
    cause: str | None
    category: int | str | None
    since: int | None
    released_at: int | None
    detail: str | None


def token_of(event: AnyEvent) -> str | None:
    """Return the token that proves `event`; None for what needs no proof of that kind."""
    match event:
        case Bounced() | Complained() | Noticed() | Delivered() | Sent():
            return event.token
        case _:
            return None


def replayed(event: AnyEvent) -> Tally:
    """Return the tally of events whose token had told as much before."""
    return Tally(time.strftime("%Y-%m-%d", time.gmtime(event.at)), "replayed", "")


def unmatched_of(event: AnyEvent) -> Unmatched | None:
    """Return the group that an event begins or joins, if no rule matched its text."""
    if not isinstance(event, Bounced) or event.outcome.rule != UNMATCHED or is_drill(event.key):
        return None
    text = event.outcome.diagnostic
    return Unmatched(similarity_key(text), 1, event.at, event.at, sample_of(text))


def event_row(event: AnyEvent) -> EventRow:
    """Return the columns of `event`."""
    token = token_of(event)
    packed = None if token is None else pack(token)
    return EventRow(event.at, _WORDS[type(event)], event.key, event.scope, packed, _usual_detail(event) or _any_detail(event))


def _any_detail(event: AnyEvent) -> str:
    words = msgspec.to_builtins(event)
    for column in ("at", "key", "scope", "token"):
        words.pop(column, None)
    # ASCII escapes carry what strangers write without loss, lone surrogates and NUL among it, which UTF-8 and SQL text do not.
    return _JSON.encode(_said(words))


def _usual_detail(event: AnyEvent) -> str | None:
    """Return the same of what came back, in a fifth of the time, if all that it says is ASCII."""
    if not isinstance(event, _CAME_BACK):
        return None
    try:
        text = msgspec.json.encode(event)
    except UnicodeEncodeError:
        return None
    if not text.isascii() or b"\x7f" in text:
        return None
    # No text holds what is looked for: in it a quotation mark is escaped, and where a text ends no name follows.
    said = _UNSAID.sub(b"", text[text.index(_FIRST_SAID) + 1 :])
    return f"{{{said.decode('ascii')}"


def event_of(row: EventRow) -> AnyEvent:
    """Return the event whose columns these are. Raises RowError."""
    try:
        # The columns go back into the JSON, and all is read at once: a third of the time of a dictionary between.
        token = "" if row.token is None else f',"token":{_quoted(unpack(row.token))}'
        rest = "}" if row.detail == "{}" else f",{row.detail[1:]}"
        text = f'{{"at":{row.at},"key":{_quoted(row.address)},"scope":{_quoted(row.scope)}{token}{rest}'
        try:
            return _READERS[row.kind].decode(text)
        except msgspec.DecodeError:
            # It does not read lone surrogates; json does.
            return msgspec.convert(json.loads(text), _KINDS[row.kind])
    except (ValueError, KeyError, TypeError):
        raise RowError("the store holds an event that this version cannot read") from None


def imported_detail(event: Imported) -> tuple[str, str]:
    """Return what stands in the detail of `event_row` before the number of `since`, and what after it."""
    detail = event_row(event).detail
    before, _, after = detail.rpartition(f'"since":{event.since}')
    return f'{before}"since":', after


def json_of(texts: Sequence[str]) -> str:
    """Return texts as JSON: a fifth of the time of json.dumps where no letter needs an escape."""
    together = '","'.join(texts)
    if together.isascii() and together.isprintable() and "\\" not in together and together.count('"') == 2 * (len(texts) - 1):
        return f'["{together}"]'
    return json.dumps(texts)


def standing_row(standing: Standing) -> StandingRow:
    """Return the columns of `standing`."""
    cause = None if standing.cause is None else standing.cause.value[0]
    category = None if standing.category is None else _NUMBERS.get(standing.category, standing.category)
    detail = _Rare(
        until=standing.until,
        times=standing.times,
        rests_until=standing.rests_until,
        incident=standing.incident,
        unsigned=standing.unsigned,
        struck=standing.struck,
        sent=standing.sent,
        held=standing.held,
    )
    rare = None if detail == _NOTHING_RARE else msgspec.json.encode(detail).decode("utf-8")
    return StandingRow(standing.scope, cause, category, standing.since, standing.released_at, rare)


def standing_of(row: StandingRow) -> Standing:
    """Return the standing whose columns these are. Raises RowError."""
    try:
        cause = None if row.cause is None else CAUSES[row.cause]
        category = _CATEGORIES[row.category] if isinstance(row.category, int) else row.category
        if row.detail is None:
            return Standing(scope=Scope(row.scope), cause=cause, category=category, since=row.since, released_at=row.released_at)
        rare = _RARE.decode(row.detail)
        return Standing(
            scope=Scope(row.scope),
            cause=cause,
            category=category,
            since=row.since,
            until=rare.until,
            times=rare.times,
            rests_until=rare.rests_until,
            incident=rare.incident,
            unsigned=rare.unsigned,
            struck=rare.struck,
            sent=rare.sent,
            held=rare.held,
            released_at=row.released_at,
        )
    except (LookupError, ValueError):
        raise RowError("the store holds a standing that this version cannot read") from None


def incident_detail(incident: Incident) -> str:
    """Return the JSON of `incident`."""
    return _JSON.encode(_said(msgspec.to_builtins(incident)))


def incident_of(detail: str) -> Incident:
    """Return the incident of which this is the JSON. Raises RowError."""
    try:
        return msgspec.convert(json.loads(detail), Incident)
    except ValueError:
        raise RowError("the store holds an incident that this version cannot read") from None


def watch_numbers(watch: Watch) -> str:
    """Return the numbers of `watch` in the order of its fields, as JSON."""
    return msgspec.json.encode(watch).decode("ascii")


def watch_of(numbers: str) -> Watch:
    """Return the watch of which these are the numbers. Raises RowError."""
    try:
        return Watch(*_WATCH.decode(numbers))
    except ValueError:
        raise RowError("the store holds a watch that this version cannot read") from None


def without(text: str, key: AddressKey) -> str:
    """Return a stranger's text with an address taken out of it, as it is written in mail and in a return path (a=b)."""
    local_part, _, domain = key.rpartition("@")
    # A longer address is somebody else's; but in a return path a plus goes before it.
    text = _cut(text, f"{local_part}@{domain}", before="._-+")
    return _cut(text, f"{local_part}={domain}", before="._-")


def _cut(text: str, needle: str, before: str) -> str:
    """Take out `needle`, in any case, where no letter, digit or one of `before` precedes it, and no more of a domain follows."""
    parts: list[str] = []
    folded, kept, found = text.translate(_FOLD), 0, 0
    while (found := folded.find(needle, found)) >= 0:
        end = found + len(needle)
        preceding, following = folded[max(0, found - 1) : found], folded[end : end + 2]
        longer = following[:1].isalnum() or following[:1] in {"-", "_"} or (following[:1] == "." and following[1:].isalnum())
        if not (preceding.isalnum() or (preceding and preceding in before) or longer):
            parts += [text[kept:found], "[forgotten]"]
            kept = end
        found = end
    return "".join((*parts, text[kept:]))


def naming(key: AddressKey) -> Callable[[bytes], bool]:
    """Return what tells whether mail, as it came, names an address, or goes to a return path of it."""
    local_part, opaque = key.rpartition("@")[0].encode(), opaque_id_of(key).encode()

    def names(content: bytes) -> bool:
        folded = content.lower()
        # Nearly all mail is told by the fast search for either.
        return opaque in folded or (local_part in folded and without(text := content.decode("utf-8", "replace"), key) != text)

    return names


def detail_without(detail: str, key: AddressKey) -> str:
    """Return the detail of an event with an address taken out of all that it says."""
    return _JSON.encode(_without(json.loads(detail), key))


def _without(value: object, key: AddressKey) -> object:
    match value:
        case str():
            return without(value, key)
        case dict():
            return {name: _without(part, key) for name, part in value.items()}
        case list():
            return [_without(part, key) for part in value]
        case _:
            return value


def pack(text: str) -> bytes | str:
    """Return a seal or an opaque id as 15 or 10 octets that sort as it does; any other text as it is."""
    if not _BASE32.fullmatch(text):
        return text
    bits = 5 * len(text)
    octets = -(-bits // 8)
    return (int(text.translate(_TO_DIGITS), 32) << 8 * octets - bits).to_bytes(octets, "big")


def unpack(packed: bytes | str) -> str:
    """Return the text that `pack` packed."""
    if isinstance(packed, str):
        return packed
    # 15 octets are 24 characters, of which a seal has 23. Two at once: base64.b32encode takes three times as long, for every event read.
    bits = int.from_bytes(packed, "big")
    return "".join([_PAIRS[bits >> place & 1023] for place in range(8 * len(packed) - 10, -1, -10)])[:_SEAL]


def _said(words: dict[str, object]) -> dict[str, object]:
    """Leave out what says nothing: None is the default wherever it is allowed."""
    return {name: _said(value) if isinstance(value, dict) else value for name, value in words.items() if value is not None}
