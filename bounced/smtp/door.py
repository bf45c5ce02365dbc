"""The door by which bounces come: SMTP (RFC 5321) and LMTP (RFC 2033).

For: listening, what all clients of one socket get, and the end of it all. Never: judging a mail; a name server; opening a connection.
What is said to one client is session.py's.
"""

import asyncio
import socket
import ssl
import sys
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from functools import partial
from typing import Any

from bounced.intake import Intake
from bounced.smtp.dialogue import Terms
from bounced.smtp.session import Session
from bounced.smtp.sessions import Sessions, SmtpSettings

__all__ = ["SmtpDoor", "SmtpSettings"]

_BACKLOG = 1024
"""Connections that may wait to be accepted."""

_ACCEPTED_AT_ONCE = 100
"""Connections that asyncio accepts before it looks at any of them: fewer than the descriptors that we keep in reserve."""

_TLS_BUFFER = 16 * 1024
"""Octets that asyncio takes for each TLS connection, before the first is read: one record (RFC 8446 section 5.1), not 256 KiB."""


class SmtpDoor:
    """Takes SMTP and LMTP connections on given sockets, and hands mail to `intake`."""

    def __init__(self, intake: Intake, settings: SmtpSettings, clock: Callable[[], float]) -> None:
        """Make the door, in a running loop; it opens with `listen`. `clock` gives Unix seconds; deadlines go by the loop's own clock."""
        self._intake = intake
        self._clock = clock
        self._sessions: Sessions[Session] = Sessions(settings)
        self._servers: list[asyncio.Server] = []

    async def listen(self, sock: socket.socket, *, lmtp: bool = False) -> None:
        """Accept connections on a bound TCP or unix socket, until `drain`. The socket's path, if any, stays its owner's to remove."""
        settings, loop, local = self._sessions.settings, self._sessions.loop, sock.family == socket.AF_UNIX
        terms = Terms(
            intake=self._intake,
            clock=self._clock,
            may_keep=self._sessions.sources.may_keep,
            has_room=self._sessions.has_room,
            hostname=settings.hostname,
            size=2 * settings.max_message,
            max_recipients=settings.max_recipients,
            lmtp=lmtp,
            xforward=lmtp and local,
            tls=lambda: self._sessions.tls is not None and not local,
        )
        session = partial(Session, self._sessions, terms)
        SSLProtocol.max_size = _TLS_BUFFER
        if local:
            options: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
            server = await loop.create_unix_server(session, sock=sock, backlog=_ACCEPTED_AT_ONCE, **options)
        else:
            # Connections inherit it. asyncio sets it only where the socket knows its protocol number, which one from systemd does not.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server = await loop.create_server(session, sock=sock, backlog=_ACCEPTED_AT_ONCE)
        sock.listen(_BACKLOG)  # asyncio makes one number of both
        self._servers.append(server)

    def use(self, tls: ssl.SSLContext | None) -> None:
        """Shake hands by another certificate from now on, or offer STARTTLS no more; handshakes that have begun go on."""
        self._sessions.tls = tls

    async def drain(self, seconds: float) -> None:
        """Stop: accept nothing more, tell idle clients 421, let open DATA and commits finish; cut what is left after `seconds`."""
        for server in self._servers:
            server.close()  # not wait_closed(): from 3.12 on it waits for clients, and without a limit
        self._sessions.stopping = True
        for session in self._sessions.open():
            session.stop()
        await self._sessions.gone(seconds)
        for session in self._sessions.open():
            session.abort()
        self._sessions.tell()
