"""Every operation that HTTP offers: where it is, what it takes, what it gives, and how consult does it.

For: the one table that serves and describes them. Never: HTTP itself, or a decision.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec

from bounced import __version__, metrics
from bounced.address import AddressError, AddressKey, address_key, address_keys
from bounced.consult import Consult
from bounced.fault import OwnFault
from bounced.http.words import (
    Affected,
    Asked,
    AskedOfAddress,
    AskedOfBlocks,
    AskedOfEvents,
    AskedOfForgetting,
    AskedOfHold,
    AskedOfImport,
    AskedOfIncident,
    AskedOfList,
    AskedOfMail,
    AskedOfMany,
    AskedOfReturnPath,
    AskedOfRuling,
    Block,
    Blocks,
    Counted,
    Counts,
    Feed,
    Group,
    Happened,
    Health,
    Incidents,
    Noted,
    Proof,
    Refused,
    Ruled,
    SignedAnswer,
    SignedMany,
    Stands,
    Story,
    TakenOver,
    Tallies,
    Told,
    Unmatched,
    Unread,
    Verdict,
    Verdicts,
)
from bounced.incident import Kind, Ruling, advice
from bounced.query import Check, Sign, Suppressed, Trouble
from bounced.record import AddressRecord, AnyEvent, Cause, Standing
from bounced.returnpath import Refusal
from bounced.scope import EVERYWHERE, Scope
from bounced.store import NoSuchIncident
from bounced.takeover import Taken

_DAYS = 7
_LOOK_SECONDS = 0.25
"""Who waits for events is told after at most so long."""


async def _check(consult: Consult, asked: AskedOfMail, _: str) -> Verdict:
    key, scope = address_key(asked.address), _declared(consult, asked.scope)
    answer = consult.check(Check(key, scope))
    metrics.LOOKUPS.count(("http", type(answer).__name__.lower()))
    match answer:
        case Trouble(reason=reason):
            raise OwnFault(reason)
        case Suppressed(text=text) if (block := consult.block_of(key, scope)) and block.cause:
            return Verdict(
                address=key, scope=scope, suppressed=True, cause=block.cause, category=block.category, since=block.since, text=text
            )
        case _:
            return Verdict(address=key, scope=scope, suppressed=False)


async def _check_many(consult: Consult, asked: AskedOfMany, by: str) -> Verdicts:
    return Verdicts([await _check(consult, AskedOfMail(one, asked.scope), by) for one in _each_an_address(asked.addresses)])


async def _sign_many(consult: Consult, asked: AskedOfMany, by: str) -> SignedMany:
    each = (_sign(consult, AskedOfMail(one, asked.scope), by) for one in _each_an_address(asked.addresses))
    return SignedMany([answer.return_path for answer in await asyncio.gather(*each)])


def _each_an_address(addresses: list[str]) -> list[str]:
    """Return them as they are. Raises Refused, which says which one is none, before anything is done."""
    for place, address in enumerate(addresses):
        try:
            address_key(address)
        except AddressError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, f"addresses[{place}]: {error}", "Leave it out; it cannot be mailed.") from None
    return addresses


async def _events(consult: Consult, asked: AskedOfEvents, _: str) -> Feed:
    after = consult.last_event() if asked.after == "end" else int(asked.after)
    deadline = time.monotonic() + asked.wait
    while not (found := consult.events(after)) and (left := deadline - time.monotonic()) > 0:  # noqa: ASYNC110 - another process may write
        await asyncio.sleep(min(_LOOK_SECONDS, left))
    told = [_told(number, event) for number, event in found if event is not None]
    return Feed(told, str(found[-1][0] if found else after))


async def _why(consult: Consult, asked: AskedOfAddress, _: str) -> Story:
    record, events = consult.why(asked.address)
    return Story(
        record.key,
        _anywhere(record, consult.now()),
        [_stands(standing) for standing in record.standings],
        [_happened(event) for event in events],
    )


async def _sign(consult: Consult, asked: AskedOfMail, _: str) -> SignedAnswer:
    match await consult.sign(Sign(address_key(asked.address), _declared(consult, asked.scope))):
        case Trouble(reason=reason):
            raise OwnFault(reason)
        case signed:
            return SignedAnswer(signed.return_path)


async def _verify(consult: Consult, asked: AskedOfReturnPath, _: str) -> Proof:
    claims = consult.verify(asked.local_part)
    if isinstance(claims, Refusal):
        return Proof(refused=claims)
    return Proof(recipient=claims.recipient, scope=claims.scope, signed_at=claims.signed_at)


async def _block(consult: Consult, asked: AskedOfList, by: str) -> Noted:
    scope = _declared(consult, asked.scope, or_everywhere=True)
    recorded = await consult.block(asked.address, scope, by=by, reason=asked.reason)
    return Noted(recorded.after.key, _anywhere(recorded.after, consult.now()))


async def _release(consult: Consult, asked: AskedOfList, by: str) -> Noted:
    scope = _declared(consult, asked.scope, or_everywhere=True)
    recorded = await consult.release(asked.address, scope, by=by, reason=asked.reason)
    return Noted(recorded.after.key, _anywhere(recorded.after, consult.now()))


async def _delivered(consult: Consult, asked: AskedOfMail, by: str) -> Noted:
    recorded = await consult.delivered(asked.address, _declared(consult, asked.scope), by=by)
    return Noted(recorded.after.key, _anywhere(recorded.after, consult.now()))


async def _import(consult: Consult, asked: AskedOfImport, by: str) -> TakenOver:
    keys, refused = address_keys([one.address for one in asked.blocks])
    for error in refused.values():
        raise error
    for scope in {one.scope for one in asked.blocks}:
        _declared(consult, scope, or_everywhere=True)
    alike: dict[tuple[str, Cause, str, int | None], Taken] = {}
    for key, one in zip(keys, asked.blocks, strict=True):
        kind = (one.scope, one.cause, one.category, one.until)
        taken = alike.get(kind) or alike.setdefault(kind, Taken(Scope(one.scope), one.cause, one.category, one.until, [], []))
        taken.keys.append(key)
        taken.since.append(one.since)
    return TakenOver(await consult.take_over(tuple(alike.values()), asked.source, by=by))


async def _health(consult: Consult, _: Asked, __: str) -> Health:
    if not consult.healthy():
        raise OwnFault("the suppression list cannot be read now")
    return Health(__version__)


async def _list(consult: Consult, asked: AskedOfBlocks, _: str) -> Blocks:
    scope = None if asked.scope is None else _declared(consult, asked.scope, or_everywhere=True)
    # A stream has no blank in its name, an address may.
    place = asked.after.partition(" ") if asked.after else None
    found, last = consult.listed((AddressKey(place[2]), Scope(place[0])) if place else None, asked.cause, scope)
    blocks = [Block(key, one.scope, one.cause or "", one.category or "", one.since or 0, one.until) for key, one in found]
    return Blocks(blocks, None if last is None else f"{last[1]} {last[0]}")


async def _forget(consult: Consult, asked: AskedOfForgetting, by: str) -> Noted:
    suppressed = await consult.forget(asked.address, by=by, reason=asked.reason)
    return Noted(address_key(asked.address), suppressed)


async def _stats(consult: Consult, _: Asked, __: str) -> Counts:
    counted = await consult.overview(_DAYS)
    return Counts(
        addresses=counted.known,
        blocks={cause.value: number for cause, number in counted.blocks.items()},
        categories=dict(counted.categories),
        blockers=dict(counted.blockers),
        open_incidents=sum(incident.closed_at is None for incident in consult.incidents()),
    )


async def _backscatter(consult: Consult, _: Asked, __: str) -> Tallies:
    newest = sorted(consult.tallies().items(), key=lambda pair: (pair[0].day, pair[1]), reverse=True)
    return Tallies(
        [Counted(tally.day, tally.what, tally.source, count) for tally, count in newest],
        [incident for incident in consult.incidents() if advice(incident.kind) is not None],
        {kind.value: words for kind in Kind if (words := advice(kind)) is not None},
    )


async def _incidents(consult: Consult, _: Asked, __: str) -> Incidents:
    return Incidents(list(consult.incidents()))


async def _incident(consult: Consult, asked: AskedOfIncident, _: str) -> Affected:
    incident = next((one for one in consult.incidents() if one.id == asked.id), None)
    if incident is None:
        raise _no_such_incident()
    keys, last = consult.held_by(asked.id, None if asked.after is None else AddressKey(asked.after))
    return Affected(incident, advice(incident.kind), list(keys), last)


async def _hold(consult: Consult, asked: AskedOfHold, by: str) -> Incidents:
    incident = await consult.hold(asked.provider, asked.since, by=by, reason=asked.reason)
    return Incidents([incident] if incident.count else [])


async def _rule(ruling: Ruling, consult: Consult, asked: AskedOfRuling, by: str) -> Ruled:
    if any(incident.id == asked.id and incident.kind is not Kind.OUTAGE for incident in consult.incidents()):
        hint = "Only an outage does. Other incidents end by themselves; `bounced incidents show ID` tells what to do about one."
        raise Refused(HTTPStatus.BAD_REQUEST, "this incident holds no verdicts", hint)
    try:
        return Ruled(asked.id, await consult.rule(asked.id, ruling, by=by, reason=asked.reason))
    except NoSuchIncident:
        raise _no_such_incident() from None


def _no_such_incident() -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, "no incident has this id", "`bounced incidents` (GET /v1/incidents) lists them all.")


async def _unmatched(consult: Consult, _: Asked, __: str) -> Unmatched:
    directory, messages = await consult.unread()
    groups = [Group(group.count, group.first, group.last, group.sample) for group in consult.unmatched()]
    return Unmatched(groups, Unread(str(directory), messages))


def _declared(consult: Consult, name: str, *, or_everywhere: bool = False) -> Scope:
    if consult.declared(Scope(name)) or (or_everywhere and name == EVERYWHERE):
        return Scope(name)
    hint = "Declare it in return_path.scopes of the configuration, or name one that stands there."
    raise Refused(HTTPStatus.BAD_REQUEST, "this scope is not declared in the configuration", hint)


def _anywhere(record: AddressRecord, now: int) -> bool:
    return any(standing.blocks(now) for standing in record.standings)


def _stands(standing: Standing) -> Stands:
    return Stands(
        scope=standing.scope,
        cause=standing.cause,
        category=standing.category,
        since=standing.since,
        until=standing.until,
        strikes=standing.strikes,
        held=[hold.incident for hold in standing.held if hold.confirmed_at is None],
        incident=standing.incident,
        released_at=standing.released_at,
    )


def _told(number: int, event: AnyEvent) -> Told:
    return Told(id=str(number), address=event.key, **_words_of(event))


def _happened(event: AnyEvent) -> Happened:
    return Happened(**_words_of(event))


def _words_of(event: AnyEvent) -> dict[str, Any]:
    words = {name: getattr(event, name) for name in event.__struct_fields__ if name not in {"key", "token"}}
    # The whole token, replayed, would be a bounce.
    token = getattr(event, "token", None)
    return {"kind": type(event).__name__.lower(), "mail": token[:7] if token else None, **words}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: where it is, what it takes (in the query of a GET, else as a JSON object), and what it gives."""

    method: str
    path: str
    summary: str
    asked: type[Asked]
    answered: type[msgspec.Struct]
    answer: Callable[[Consult, Any, str], Awaitable[msgspec.Struct]]
    most: int = 65536
    """Octets of the body."""


OPERATIONS = (
    Operation("GET", "/v1/check", "May mail of this stream go to this address?", AskedOfMail, Verdict, _check),
    Operation("POST", "/v1/check-many", "May mail of this stream go to each of these?", AskedOfMany, Verdicts, _check_many),
    Operation("GET", "/v1/why", "Why does an address stand as it does?", AskedOfAddress, Story, _why),
    Operation("POST", "/v1/sign", "Sign a return path for one mail.", AskedOfMail, SignedAnswer, _sign),
    Operation("POST", "/v1/sign-many", "Sign a return path for one mail to each of these.", AskedOfMany, SignedMany, _sign_many),
    Operation("POST", "/v1/verify", "What does a return path prove?", AskedOfReturnPath, Proof, _verify),
    Operation("POST", "/v1/block", "Put an address on the list.", AskedOfList, Noted, _block),
    Operation("POST", "/v1/release", "Take an address off the list; mail signed before counts no more.", AskedOfList, Noted, _release),
    Operation(
        "POST",
        "/v1/delivered",
        "A mail arrived: its recipient, or better its return path.",
        AskedOfMail,
        Noted,
        _delivered,
    ),
    Operation("POST", "/v1/forget", "Erase an address; its blocks survive under a keyed hash.", AskedOfForgetting, Noted, _forget),
    Operation("POST", "/v1/import", "Take over blocks of another list.", AskedOfImport, TakenOver, _import, most=1 << 20),
    Operation("GET", "/v1/list", "Which addresses are blocked?", AskedOfBlocks, Blocks, _list),
    Operation("GET", "/v1/events", "What happened to any address since?", AskedOfEvents, Feed, _events),
    Operation("GET", "/v1/incidents", "What do many bounces have in common?", Asked, Incidents, _incidents),
    Operation("GET", "/v1/incident", "Which addresses does an incident concern?", AskedOfIncident, Affected, _incident),
    Operation("POST", "/v1/hold", "Hold back what a provider called dead.", AskedOfHold, Incidents, _hold),
    Operation("POST", "/v1/confirm", "What an incident holds is true.", AskedOfRuling, Ruled, partial(_rule, Ruling.CONFIRMED)),
    Operation("POST", "/v1/revert", "What an incident held is false: undo it.", AskedOfRuling, Ruled, partial(_rule, Ruling.REVERTED)),
    Operation("GET", "/v1/health", "Can the list be read?", Asked, Health, _health),
    Operation("GET", "/v1/stats", "How many are blocked, and what came back lately?", Asked, Counts, _stats),
    Operation("GET", "/v1/backscatter", "What was refused or repeated, how often?", Asked, Tallies, _backscatter),
    Operation("GET", "/v1/unmatched", "Which texts did no rule match?", Asked, Unmatched, _unmatched),
)
