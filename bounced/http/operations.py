"""Every operation that HTTP offers: where it is, what it takes, what it gives, and how consult does it.

For: the one table that serves and describes them. Never: HTTP itself, or a decision.
"""

import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from bounced import __version__
from bounced.address import address_key
from bounced.consult import Consult
from bounced.fault import OwnFault
from bounced.http.words import (
    Asked,
    AskedOfAddress,
    AskedOfList,
    AskedOfMail,
    AskedOfReturnPath,
    Counted,
    Counts,
    Happened,
    Health,
    Noted,
    Problem,
    Proof,
    Refused,
    SignedAnswer,
    Stands,
    Story,
    Verdict,
)
from bounced.query import Check, Sign, Suppressed, Trouble
from bounced.record import AddressRecord, AnyEvent, Standing
from bounced.returnpath import Refusal
from bounced.scope import EVERYWHERE, Scope


async def _check(consult: Consult, asked: AskedOfMail, _: str) -> Verdict:
    key, scope = address_key(asked.address), _declared(consult, asked.scope)
    match consult.check(Check(key, scope)):
        case Trouble(reason=reason):
            raise OwnFault(reason)
        case Suppressed(text=text) if (block := consult.why(key)[0].block(scope, consult.now())) and block.cause:
            return Verdict(
                address=key, scope=scope, suppressed=True, cause=block.cause, category=block.category, since=block.since, text=text
            )
        case _:
            return Verdict(address=key, scope=scope, suppressed=False)


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


async def _health(consult: Consult, _: Asked, __: str) -> Health:
    if not consult.healthy():
        raise OwnFault("the suppression list cannot be read now")
    return Health(__version__)


async def _stats(consult: Consult, _: Asked, __: str) -> Counts:
    newest = sorted(consult.tallies().items(), key=lambda pair: (pair[0].day, pair[1]), reverse=True)
    return Counts([Counted(tally.day, tally.what, tally.source, count) for tally, count in newest])


def _declared(consult: Consult, name: str, *, or_everywhere: bool = False) -> Scope:
    if consult.declared(Scope(name)) or (or_everywhere and name == EVERYWHERE):
        return Scope(name)
    hint = "Declare it in return_path.scopes of the configuration, or name one that stands there."
    raise Refused(HTTPStatus.BAD_REQUEST, Problem("this scope is not declared in the configuration", hint))


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
        released_at=standing.released_at,
    )


def _happened(event: AnyEvent) -> Happened:
    words = {field.name: getattr(event, field.name) for field in dataclasses.fields(event) if field.name not in {"key", "token"}}
    # The whole token, replayed, would be a bounce.
    token = getattr(event, "token", None)
    return Happened(kind=type(event).__name__.lower(), mail=token[:7] if token else None, **words)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: where it is, what it takes (in the query of a GET, else as a JSON object), and what it gives."""

    method: str
    path: str
    summary: str
    asked: type[Asked]
    answered: type[msgspec.Struct]
    answer: Callable[[Consult, Any, str], Awaitable[msgspec.Struct]]


OPERATIONS = (
    Operation("GET", "/v1/check", "May mail of this stream go to this address?", AskedOfMail, Verdict, _check),
    Operation("GET", "/v1/why", "Why does an address stand as it does?", AskedOfAddress, Story, _why),
    Operation("POST", "/v1/sign", "Sign a return path for one mail.", AskedOfMail, SignedAnswer, _sign),
    Operation("POST", "/v1/verify", "What does a return path prove?", AskedOfReturnPath, Proof, _verify),
    Operation("POST", "/v1/block", "Put an address on the list.", AskedOfList, Noted, _block),
    Operation("POST", "/v1/release", "Take an address off the list; mail signed before counts no more.", AskedOfList, Noted, _release),
    Operation("POST", "/v1/delivered", "A mail arrived: a run of soft bounces ends.", AskedOfMail, Noted, _delivered),
    Operation("GET", "/v1/health", "Can the list be read?", Asked, Health, _health),
    Operation("GET", "/v1/stats", "What was refused or repeated, how often?", Asked, Counts, _stats),
)
