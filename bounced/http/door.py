"""HTTP and JSON on a unix socket: for people's commands, for mailers in every language, for probes.

For: what consult offers, one operation a path, described at /v1/openapi.json by the same table that serves it. Never: a decision, an access
log, or "clear" because something broke: that is 503. Times are Unix seconds, UTC. Answers are pure ASCII: whatever a stranger wrote into a
report reaches no terminal raw.

Who may open the socket may ask and tell; who told is written down by the credentials that the kernel gives (SO_PEERCRED, unix(7)).
"""

import asyncio
import contextlib
import json
import pwd
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import cache, partial
from http import HTTPStatus
from typing import Any, BinaryIO
from weakref import WeakSet

import msgspec
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from bounced import __version__, metrics
from bounced.address import AddressError
from bounced.consult import Consult
from bounced.fault import OwnFault
from bounced.http.operations import OPERATIONS, Operation
from bounced.http.words import Asked, Problem, Refused

_PIECE = 1 << 18
_BODY_SECONDS = 10.0
_MAX_CONNECTIONS = 256
_IDLE_SECONDS = 60
_MOST_COPIES = 2


class HttpDoor:
    """Serves the operations on sockets that somebody else has bound."""

    def __init__(self, consult: Consult) -> None:
        """Put the parts together; nothing listens yet."""
        self._log = structlog.get_logger("http")
        self.app = _app(consult, self._log)
        self._metrics = Starlette(routes=[_METRICS])
        self._servers: dict[_Server, asyncio.Task[None]] = {}

    async def listen(self, sock: socket.socket) -> None:
        """Serve on a bound socket, which the door owns from now on. Returns when it listens; raises OSError."""
        await self._serve(self.app, sock)

    async def listen_for_metrics(self, sock: socket.socket) -> None:
        """Serve /metrics and nothing else on a bound socket. Returns when it listens; raises OSError."""
        await self._serve(self._metrics, sock)

    async def _serve(self, app: Starlette, sock: socket.socket) -> None:
        sock.setblocking(False)
        server = _Server(
            uvicorn.Config(
                app,
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


async def _tell_metrics(_: Request) -> Response:
    return Response(metrics.rendered(), media_type=metrics.CONTENT_TYPE)


_METRICS = Route("/metrics", _tell_metrics, methods=["GET"])


def _app(consult: Consult, log: Any) -> Starlette:
    routes = [Route(each.path, partial(_serve, consult, log, each), methods=[each.method]) for each in OPERATIONS]
    routes += [
        Route("/v1/backup", partial(_backup, consult, WeakSet()), methods=["GET"]),
        Route("/v1/openapi.json", _describe, methods=["GET"]),
        Route("/openapi.json", _describe, methods=["GET"]),
        _METRICS,
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _say_no})


async def _serve(consult: Consult, log: Any, operation: Operation, request: Request) -> Response:
    try:
        words = await _words(operation, request)
        return _json(await operation.answer(consult, words, _by(request)))
    except Refused as refused:
        return _refused(refused)
    except AddressError as error:
        return _refused(Refused(HTTPStatus.BAD_REQUEST, str(error)))
    except OwnFault as fault:
        return _refused(Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(fault), "Ask again later; the log says more."))
    except ClientDisconnect:
        return Response(status_code=HTTPStatus.BAD_REQUEST)
    except Exception:
        # Whatever breaks in here is "try later", never an answer.
        log.exception("http.bug", path=operation.path)
        return _refused(Refused(HTTPStatus.SERVICE_UNAVAILABLE, "an internal error", "Ask again later; the log says more."))


async def _backup(consult: Consult, copies: WeakSet[BinaryIO], request: Request) -> Response:
    """Give a copy of the database, octet by octet; `copies` are those that are being read, and lie on the disk until they were."""
    others = Refused(HTTPStatus.SERVICE_UNAVAILABLE, "other copies of the database are being read", "Ask again later.")
    if _open(copies) >= _MOST_COPIES:
        return _refused(others)
    try:
        copy = await consult.backup(by=_by(request))
    except OwnFault as fault:
        return _refused(Refused(HTTPStatus.SERVICE_UNAVAILABLE, str(fault), "Ask again later."))
    if _open(copies) >= _MOST_COPIES:
        # They were made while this one waited.
        copy.close()
        return _refused(others)
    copies.add(copy)

    async def octets() -> AsyncIterator[bytes]:
        with copy:
            while piece := await asyncio.to_thread(copy.read, _PIECE):
                yield piece

    return StreamingResponse(octets(), media_type="application/vnd.sqlite3")


def _open(copies: WeakSet[BinaryIO]) -> int:
    return sum(not copy.closed for copy in copies)


async def _words(operation: Operation, request: Request) -> Asked:
    """Read what is asked. Raises Refused."""
    try:
        if operation.method == "GET":
            pairs = request.query_params.multi_items()
            if len(dict(pairs)) < len(pairs):
                raise Refused(HTTPStatus.BAD_REQUEST, "a word of the query stands twice")
            return msgspec.convert(dict(pairs), operation.asked, strict=False)
        return msgspec.json.decode(await _body(request, operation.most), type=operation.asked)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        problem = "the body is no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise Refused(HTTPStatus.BAD_REQUEST, problem, "/v1/openapi.json describes what each path takes.") from error


async def _body(request: Request, most: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is longer than {most} octets")
    except TimeoutError:
        raise Refused(HTTPStatus.REQUEST_TIMEOUT, f"the body did not come within {_BODY_SECONDS:.0f} seconds") from None
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
    return _refused(Refused(HTTPStatus(error.status_code), f"{error.status_code} {error.detail}", hint), error.headers)


def _refused(refused: Refused, headers: Mapping[str, str] | None = None) -> Response:
    return _json(refused.problem, refused.problem.status, headers, "application/problem+json")


def _json(answer: msgspec.Struct, status: int = 200, headers: Mapping[str, str] | None = None, form: str = "application/json") -> Response:
    # Not msgspec's encoder: it writes other alphabets as they are, and refuses lone surrogates.
    content = json.dumps(msgspec.to_builtins(answer)).replace("\x7f", "\\u007f")
    return Response(content, status, headers, media_type=form)


async def _describe(_: Request) -> Response:
    return Response(json.dumps(openapi()), media_type="application/json")


@cache
def openapi() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of all operations."""
    answered = list(dict.fromkeys([*(each.answered for each in OPERATIONS), Problem]))
    taken = [each.asked for each in OPERATIONS if each.method == "POST"]
    _, components = msgspec.json.schema_components([*answered, *taken], ref_template="#/components/schemas/{name}")
    paths: dict[str, Any] = {each.path: {each.method.lower(): _operation(each)} for each in OPERATIONS}
    paths["/v1/backup"] = {
        "get": {
            "operationId": "backup",
            "summary": "A copy of the database, an SQLite file, with all that was acknowledged before it was asked for.",
            "responses": {
                "200": {"description": "The file.", "content": {"application/vnd.sqlite3": {}}},
                "503": {"description": "It cannot be made now.", "content": _PROBLEM},
            },
        }
    }
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
        problems |= {
            408: f"The body did not come within {_BODY_SECONDS:.0f} seconds.",
            413: f"The body is longer than {operation.most} octets.",
        }
    described: dict[str, Any] = {
        "operationId": operation.path.rpartition("/")[2],
        "summary": operation.summary,
        "responses": {"200": {"description": str(operation.answered.__doc__), "content": _content(operation.answered)}}
        | {str(status): {"description": text, "content": _PROBLEM} for status, text in problems.items()},
    }
    if operation.method == "POST":
        described["requestBody"] = {"required": True, "content": _content(operation.asked)}
    else:
        schema = msgspec.json.schema(operation.asked)["$defs"][operation.asked.__name__]
        described["parameters"] = [
            {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": form}
            for name, form in schema["properties"].items()
        ]
    return described


def _content(type_: type[msgspec.Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{type_.__name__}"}}}


_PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
