"""What the daemon knows, as pages: an application that asks it as the other commands do.

For: whoever would rather look and click than type. Never: a page without the key, a script in a page, a form that another site can send,
or a stranger's word as anything but text.
"""

import secrets
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bounced.cli.base import LONG_SECONDS, NO_REASON, Answer, Refused, event_words, given, plain, reason_of, when
from bounced.fault import Fault, OperatorFault

Ask = Callable[[str, str, Mapping[str, object], float], Answer]
"""Asks the daemon: method, path, words, and the seconds to wait. Raises Fault."""

_COOKIE = "bounced"
_SHOWN_ON = {"address": "/address", "id": "/incident"}
"""The page of whom a form is about, by the name of its field."""
_SHOWN = Path(__file__).parent / "pages"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    # Not no-referrer: it would make the Origin of our own forms null.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def pages(asker: Ask, key: str) -> ASGIApp:
    """Return the pages as an application, for those who know the key."""
    shown = _Pages(asker)
    return _Locked(
        Starlette(
            routes=[
                Route("/", shown.overview),
                Route("/address", shown.address),
                Route("/blocks", shown.blocks),
                Route("/incidents", shown.incidents),
                Route("/incident", shown.incident),
                Route("/backscatter", shown.backscatter),
                Route("/unmatched", shown.unmatched),
                Route("/release", partial(shown.tell, "release", "address"), methods=["POST"]),
                Route("/block", partial(shown.tell, "block", "address"), methods=["POST"]),
                Route("/confirm", partial(shown.tell, "confirm", "id"), methods=["POST"]),
                Route("/revert", partial(shown.tell, "revert", "id"), methods=["POST"]),
                Route("/style.css", _style),
            ],
            exception_handlers={Fault: _told, HTTPStatus.NOT_FOUND: _told},
        ),
        key,
    )


class _Locked:
    """Lets in who has the key: from the address that the command printed, or from then on in a cookie.

    Every user of the machine can reach a port on loopback, and every page in the browser can send a form there: so what changes something
    must come from a page of ours.
    """

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        respond: ASGIApp
        if self._is_key(request.query_params.get("key", "")):
            respond = RedirectResponse("/", HTTPStatus.SEE_OTHER, _HEADERS)
            respond.set_cookie(_COOKIE, self._key, httponly=True, samesite="lax")
        elif not self._is_key(request.cookies.get(_COOKIE, "")):
            respond = _page("locked.html", HTTPStatus.FORBIDDEN, title="Locked")
        elif request.method not in ("GET", "HEAD") and urlsplit(request.headers.get("origin", "")).netloc != request.headers.get("host"):
            respond = _page(
                "fault.html", HTTPStatus.FORBIDDEN, title="Not from here", why="This form is not one of these pages.", hint=None
            )
        else:
            respond = self._app
        await respond(scope, receive, send)

    def _is_key(self, said: str) -> bool:
        return secrets.compare_digest(said.encode(), self._key.encode())


class _Pages:
    """One method a page; those that change something lead back to the page that shows it."""

    def __init__(self, asker: Ask) -> None:
        self._ask = asker

    def overview(self, _: Request) -> Response:
        incidents = [one for one in self._get("incidents")["incidents"] if one["closed_at"] is None]
        return _page("overview.html", title="Overview", stats=self._get("stats"), incidents=incidents)

    def address(self, request: Request) -> Response:
        story = self._get("why", address=request.query_params.get("address", "").strip())
        return _page("address.html", title=story["address"], story=story)

    def blocks(self, request: Request) -> Response:
        asked = given(**{name: request.query_params.get(name) for name in ("cause", "scope", "after")})
        found = self._get("list", **asked)
        return _page("blocks.html", title="Blocks", blocks=found["blocks"], further=_further(asked, found), asked=asked)

    def incidents(self, _: Request) -> Response:
        return _page("incidents.html", title="Incidents", incidents=self._get("incidents")["incidents"])

    def incident(self, request: Request) -> Response:
        asked = given(id=request.query_params.get("id"), after=request.query_params.get("after"))
        found = self._get("incident", **asked)
        return _page("incident.html", title=found["incident"]["id"], further=_further(asked, found), **found)

    def backscatter(self, _: Request) -> Response:
        return _page("backscatter.html", title="Backscatter", **self._get("backscatter"))

    def unmatched(self, _: Request) -> Response:
        return _page("unmatched.html", title="Unmatched", **self._get("unmatched"))

    async def tell(self, what: str, whom: str, request: Request) -> Response:
        words = await _form(request, whom)
        await run_in_threadpool(self._ask, "POST", f"/v1/{what}", words, LONG_SECONDS)
        return RedirectResponse(f"{_SHOWN_ON[whom]}?{urlencode({whom: words[whom]})}", HTTPStatus.SEE_OTHER, _HEADERS)

    def _get(self, what: str, **words: str) -> Answer:
        return self._ask("GET", f"/v1/{what}", words, LONG_SECONDS)


def _further(asked: Mapping[str, str], found: Answer) -> str | None:
    """Return the query of the page after this one; None where there is none."""
    return urlencode({**asked, "after": found["next"]}) if found["next"] else None


async def _form(request: Request, whom: str) -> dict[str, str]:
    """Return what stands in the two fields of a form of ours: whom it is about, and why."""
    fields = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
    return {whom: fields.get(whom, ""), "reason": fields.get("reason", "").strip() or NO_REASON}


def _style(_: Request) -> Response:
    return Response((_SHOWN / "style.css").read_bytes(), media_type="text/css", headers=_HEADERS)


def _told(_request: Request, error: Exception) -> Response:
    """Say what went wrong; the faults of `ask` carry what to do in further lines."""
    if not isinstance(error, Fault):
        return _page("fault.html", HTTPStatus.NOT_FOUND, title="No such page", why="There is no such page.", hint=None)
    why, _, hint = str(error).partition("\n")
    hint = error.hint if isinstance(error, OperatorFault) else hint
    status = HTTPStatus.BAD_REQUEST if isinstance(error, Refused) else HTTPStatus.SERVICE_UNAVAILABLE
    return _page("fault.html", status, title="That did not work", why=why, hint=hint.strip())


def _page(name: str, status: HTTPStatus = HTTPStatus.OK, **shown: Any) -> HTMLResponse:
    return HTMLResponse(_TEMPLATES.get_template(name).render(shown), status, _HEADERS)


_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_SHOWN),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    # Whatever is shown goes through it before it is escaped: an override of direction in a report would turn the words of the page.
    finalize=lambda value: plain(value) if type(value) is str else value,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {"when": when, "reason_of": reason_of, "events": lambda event: " ".join(event_words(event))}
