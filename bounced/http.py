"""HTTP and JSON on a unix socket: for people's commands, for mailers in every language, for probes.

For: what consult offers, one operation a path, described at /v1/openapi.json by the same table that serves it. Never: a decision, an access
log, or "clear" because something broke: that is 503. Times are Unix seconds, UTC. Answers are pure ASCII: whatever a stranger wrote into a
report reaches no terminal raw.

Who may open the socket may ask and tell; who told is written down by the credentials that the kernel gives (SO_PEERCRED, unix(7)).
"""

import asyncio
import contextlib
import dataclasses
import json
import pwd
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from bounced import __version__
from bounced.address import AddressError, address_key
from bounced.consult import Consult
from bounced.fault import OwnFault
from bounced.outcome import Outcome
from bounced.query import Check, Sign, Suppressed, Trouble
from bounced.record import AddressRecord, AnyEvent, Standing
from bounced.returnpath import Refusal
from bounced.scope import DEFAULT_SCOPE, EVERYWHERE, Scope

_MAX_BODY = 65536
_BODY_SECONDS = 10.0
_MAX_CONNECTIONS = 256
_IDLE_SECONDS = 60

_Reason = Annotated[
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


class AskedOfList(AskedOfAddress, frozen=True, kw_only=True):
    """A change of the list: of one stream, or of all ("*")."""

    reason: _Reason
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


class Stands(msgspec.Struct, frozen=True, kw_only=True):
    """How an address stands in one scope ("*": everywhere); `held` are the incidents that hold a verdict on it."""

    scope: str
    cause: str | None
    category: str | None
    since: int | None
    until: int | None
    strikes: int
    held: list[str]
    released_at: int | None


class Story(msgspec.Struct, frozen=True):
    """All that is known of an address: how it stands in each scope in which something happened, and every event, oldest first."""

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


class Health(msgspec.Struct, frozen=True):
    """The list can be read."""

    version: str


class Counted(msgspec.Struct, frozen=True):
    """How often something was refused or repeated on a day, by network."""

    day: str
    what: str
    source: str
    count: int


class Counts(msgspec.Struct, frozen=True):
    """All tallies, newest day first."""

    tallies: list[Counted]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong, in one sentence, and where it helps what to do."""

    error: str
    hint: str | None = None


class _Refused(Exception):
    """The question cannot be answered as it stands: `status` and `problem` go to the peer."""

    def __init__(self, status: HTTPStatus, problem: Problem) -> None:
        super().__init__(problem.error)
        self.status = status
        self.problem = problem


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
    raise _Refused(HTTPStatus.BAD_REQUEST, Problem("this scope is not declared in the configuration", hint))


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
        held=[hold.incident for hold in standing.held],
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


class HttpDoor:
    """Serves the operations on sockets that somebody else has bound."""

    def __init__(self, consult: Consult) -> None:
        """Put the parts together; nothing listens yet."""
        self._log = structlog.get_logger("http")
        self._app = _app(consult, self._log)
        self._servers: dict[_Server, asyncio.Task[None]] = {}

    async def listen(self, sock: socket.socket) -> None:
        """Serve on a bound socket, which the door owns from now on. Returns when it listens; raises OSError."""
        sock.setblocking(False)
        server = _Server(
            uvicorn.Config(
                self._app,
                http=_Protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                # X-Forwarded-For would let anybody write the `by` of a release.
                proxy_headers=False,
                server_header=False,
                date_header=False,
                limit_concurrency=_MAX_CONNECTIONS,
                timeout_keep_alive=_IDLE_SECONDS,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        listening = asyncio.create_task(server.listening.wait())
        await asyncio.wait((serving, listening), return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            listening.cancel()
            await serving
        self._servers[server] = serving

    async def drain(self, seconds: float) -> None:
        """Listen no more and end every connection after the answer it waits for; after `seconds` without it."""
        for server in self._servers:
            server.config.timeout_graceful_shutdown = max(1, round(seconds))
            server.ending.set()
        if self._servers:
            await asyncio.wait(self._servers.values())
        self._servers.clear()


class _Server(uvicorn.Server):
    """uvicorn inside our loop: it touches no signal handler, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.ending = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        # The stock one wakes ten times a second, for the Date header and to look whether it shall end.
        await self.on_tick(0)
        await self.ending.wait()


class _Protocol(H11Protocol):
    """Puts the peer's credentials where ASGI has the client's address, which a unix socket lacks."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer: socket.socket = transport.get_extra_info("socket")
        if peer.family == socket.AF_UNIX:
            pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            self.client = (f"uid {uid}", pid)


def _app(consult: Consult, log: Any) -> Starlette:
    routes = [Route(each.path, partial(_serve, consult, log, each), methods=[each.method]) for each in OPERATIONS]
    routes.append(Route("/v1/openapi.json", _describe, methods=["GET"]))
    return Starlette(routes=routes, exception_handlers={HTTPException: _say_no})


async def _serve(consult: Consult, log: Any, operation: Operation, request: Request) -> Response:
    try:
        words = await _words(operation, request)
        return _json(await operation.answer(consult, words, _by(request)))
    except _Refused as refused:
        return _json(refused.problem, refused.status)
    except AddressError as error:
        return _json(Problem(str(error)), HTTPStatus.BAD_REQUEST)
    except OwnFault as fault:
        return _json(Problem(str(fault), "Ask again later; the log says more."), HTTPStatus.SERVICE_UNAVAILABLE)
    except ClientDisconnect:
        return Response(status_code=HTTPStatus.BAD_REQUEST)
    except Exception:
        # Whatever breaks in here is "try later", never an answer.
        log.exception("http.bug", path=operation.path)
        return _json(Problem("an internal error", "Ask again later; the log says more."), HTTPStatus.SERVICE_UNAVAILABLE)


async def _words(operation: Operation, request: Request) -> Asked:
    """Read what is asked. Raises _Refused."""
    try:
        if operation.method == "GET":
            pairs = request.query_params.multi_items()
            if len(dict(pairs)) < len(pairs):
                raise _Refused(HTTPStatus.BAD_REQUEST, Problem("a word of the query stands twice"))
            return msgspec.convert(dict(pairs), operation.asked)
        return msgspec.json.decode(await _body(request), type=operation.asked)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        problem = "the body is no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise _Refused(HTTPStatus.BAD_REQUEST, Problem(problem, "/v1/openapi.json describes what each path takes.")) from error


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BODY:
                    raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, Problem(f"the body is longer than {_MAX_BODY} octets"))
    except TimeoutError:
        raise _Refused(HTTPStatus.REQUEST_TIMEOUT, Problem(f"the body did not come within {_BODY_SECONDS:.0f} seconds")) from None
    return bytes(body)


def _by(request: Request) -> str:
    """Name the peer: `uid 1000 (joe)`, or its address where the socket is none of unix."""
    host = request.client.host if request.client else ""
    uid = host.removeprefix("uid ")
    if uid == host:
        return f"address {host}"
    try:
        return f"uid {uid} ({pwd.getpwuid(int(uid)).pw_name})"
    except (KeyError, OverflowError):
        return host


async def _say_no(_: Request, error: Exception) -> Response:
    """Answer for a path or method that there is not."""
    assert isinstance(error, HTTPException)
    hint = "/v1/openapi.json describes every path and its method."
    return _json(Problem(f"{error.status_code} {error.detail}", hint), HTTPStatus(error.status_code), error.headers)


def _json(answer: msgspec.Struct, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    # Not msgspec's encoder: it writes other alphabets as they are, and refuses lone surrogates.
    content = json.dumps(msgspec.to_builtins(answer)).replace("\x7f", "\\u007f")
    return Response(content, status, headers, media_type="application/json")


async def _describe(_: Request) -> Response:
    return Response(json.dumps(openapi()), media_type="application/json")


@cache
def openapi() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of all operations."""
    answered = list(dict.fromkeys([*(each.answered for each in OPERATIONS), Problem]))
    taken = [each.asked for each in OPERATIONS if each.method == "POST"]
    _, components = msgspec.json.schema_components([*answered, *taken], ref_template="#/components/schemas/{name}")
    paths: dict[str, Any] = {each.path: {each.method.lower(): _operation(each)} for each in OPERATIONS}
    paths["/v1/openapi.json"] = {
        "get": {"operationId": "openapi", "summary": "This document.", "responses": {"200": {"description": "OK"}}}
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "bounced", "version": __version__, "description": "Ask whom not to mail, sign return paths, tell what happened."},
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    problems = {
        400: "What was asked cannot be understood, names no address, or a scope that is not declared.",
        503: "It cannot be told or done now. It does not mean clear.",
    }
    if operation.method == "POST":
        problems |= {408: f"The body did not come within {_BODY_SECONDS:.0f} seconds.", 413: f"The body is longer than {_MAX_BODY} octets."}
    described: dict[str, Any] = {
        "operationId": operation.path.rpartition("/")[2],
        "summary": operation.summary,
        "responses": {"200": {"description": str(operation.answered.__doc__), "content": _content(operation.answered)}}
        | {str(status): {"description": text, "content": _content(Problem)} for status, text in problems.items()},
    }
    if operation.method == "POST":
        described["requestBody"] = {"required": True, "content": _content(operation.asked)}
    else:
        described["parameters"] = [
            {"name": field.name, "in": "query", "required": field.required, "schema": {"type": "string"}}
            for field in msgspec.structs.fields(operation.asked)
        ]
    return described


def _content(type_: type[msgspec.Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{type_.__name__}"}}}
