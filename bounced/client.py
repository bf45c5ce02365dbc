"""What a mailer written in Python imports: may I mail this address, and with which return path?

For: asking the daemon on its socketmap socket, within a deadline, in the standard library's terms alone. Never: saying "yes" because
something broke. Where the daemon is down, hung, slow or talks nonsense, TemporaryFailure is raised: keep the mail and try again. Who would
rather mail than wait says so: `Client(when_unknown="send")`.

    client = Client()
    if client.may_send("joe@example.org", "news"):
        smtp.sendmail(client.return_path("joe@example.org", "news"), ["joe@example.org"], message)
    client.may_send_many(["joe@example.org", "ann@example.org"], "news")        # [True, False]

The socketmap protocol, since its connections stay open (an answer costs one round trip and no HTTP) and tell three answers apart.
"""

import asyncio
import os
import re
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NoReturn, TypeVar

DEFAULT_PATH = "/run/bounced/socketmap.sock"

_SCOPE = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,30}[a-z0-9])?")
# One mailbox and nothing around it: of "Joe <joe@example.org>" the daemon knows nothing, and smtplib would mail it.
_ADDRESS = re.compile(r'(?:"(?:[^"\\\x00-\x1f\x7f]|\\[ -~])+"|[^\x00-\x20\x7f"<>(),:;\[\]\\@]+)@[^\x00-\x20\x7f"<>(),;\\@]+')
_LENGTH = re.compile(rb"(0|[1-9][0-9]{0,3}):")
_NOT_FOUND = b"9:NOTFOUND ,"
_REFUSAL = re.compile(r"OK ([ -~]+)")
_RETURN_PATH = re.compile(r"OK ([!-?A-~]+@[!-?A-~]+)")
_MOST_IDLE = 16
_MOST_AT_ONCE = 100
"""Questions that are sent before an answer is read: both sides' buffers hold so many, so that neither waits for the other."""
_READ = 65536
_MAX_OCTETS = 1024
"""No address is longer; the daemon answers within as much."""


class TemporaryFailure(Exception):
    """It cannot be told now. Keep the mail and ask again later; it does not mean that the address may be mailed."""


class _Ended(Exception):
    """The connection ended before an answer began. If it had been idle, the daemon may just have been restarted."""


WhenUnknown = Literal["raise", "send"]
Signer = Callable[[str, str], str | None]
"""Returns a return path for an address and a stream; None where only the daemon can sign."""


class Client:
    """Asks the daemon, for any number of threads. Connections are kept for the next question; a forked child opens its own.

    `deadline` is in seconds, for each question as a whole. `when_unknown` says what `may_send` does when it cannot be told: "raise"
    TemporaryFailure, or "send" (fail open: True).
    """

    def __init__(
        self, path: str = DEFAULT_PATH, *, deadline: float = 0.25, when_unknown: WhenUnknown = "raise", signer: Signer | None = None
    ) -> None:
        """Connect at the first question. A `signer` signs here what needs no daemon (bounced/signing.py)."""
        self._signer = signer
        self._path = path
        self._deadline = deadline
        self._fails_open = _fails_open(when_unknown)
        self._idle: list[_Polled] = []
        self._owner = os.getpid()

    def may_send(self, address: str, scope: str = "default") -> bool:
        """Tell whether mail of the stream `scope` may go to `address`. Raises TemporaryFailure; ValueError if either is none."""
        return self.refusal(address, scope) is None

    def refusal(self, address: str, scope: str = "default") -> str | None:
        """Return the SMTP reply that says why mail may not go to `address`; None if it may. Raises as `may_send`."""
        request = _request("access", address, scope)
        try:
            return _read_refusal(self._ask(request))
        except TemporaryFailure:
            if not self._fails_open:
                raise
            return None

    def may_send_many(self, addresses: Sequence[str], scope: str = "default") -> list[bool]:
        """Answer `may_send` for each address, in their order; the deadline is for each hundred of them. Raises as `may_send`."""
        return [refusal is None for refusal in self.refusals(addresses, scope)]

    def refusals(self, addresses: Sequence[str], scope: str = "default") -> list[str | None]:
        """Answer `refusal` for each address, in their order. Raises as `may_send`."""
        answers: list[str | None] = []
        for requests in _pieces([_request("access", address, scope) for address in addresses]):
            try:
                answers += map(_read_refusal, self._ask_many(requests))
            except TemporaryFailure:
                if not self._fails_open:
                    raise
                answers += [None] * len(requests)
        return answers

    def return_path(self, address: str, scope: str = "default") -> str:
        """Return the envelope sender for one mail of the stream `scope` to `address`. Raises as `may_send`, fail open or not."""
        request = _request("sign", address, scope)
        signed = None if self._signer is None else self._signer(address, scope)
        return signed or _read_return_path(self._ask(request))

    def close(self) -> None:
        """Close the kept connections. The client can be used on."""
        while (polled := _popped(self._idle)) is not None:
            polled[0].close()

    def _ask(self, request: bytes) -> str:
        return self._ask_many([request])[0]

    def _ask_many(self, requests: Sequence[bytes]) -> list[str]:
        end = time.monotonic() + self._deadline
        if self._owner != os.getpid():
            # Two processes on one connection would read each other's answers.
            self.close()
            self._owner = os.getpid()
        try:
            kept = _popped(self._idle)
            if kept is not None:
                try:
                    return self._exchange(kept, requests, end)
                except _Ended:
                    self.close()
            return self._exchange(self._connect(end), requests, end)
        except (OSError, _Ended) as error:
            raise TemporaryFailure(f"no answer on {self._path}: {_said(error)}") from error

    def _connect(self, end: float) -> "_Polled":
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(_left(end))
            connection.connect(self._path)
            # From here on one poll a question tells when to read: a timeout of the socket would poll before it writes, too.
            connection.setblocking(False)
        except BaseException:
            connection.close()
            raise
        answers = select.poll()
        answers.register(connection, select.POLLIN)
        return connection, answers

    def _exchange(self, polled: "_Polled", requests: Sequence[bytes], end: float) -> list[str]:
        """Ask on a connection, and keep it only if its answers were whole: else a late one would be taken for the next question's."""
        whole = False
        connection, answers = polled
        try:
            answer = _begun(connection, answers, b"".join(requests), end)
            while (texts := _texts(answer, len(requests))) is None:
                answer += _heard(connection, answers, end) or _cut()
            whole = True
        finally:
            if whole and len(self._idle) < _MOST_IDLE:
                self._idle.append(polled)
            else:
                connection.close()
        return texts


class AsyncClient:
    """The same for asyncio: any number of tasks of one loop at a time."""

    def __init__(
        self, path: str = DEFAULT_PATH, *, deadline: float = 0.25, when_unknown: WhenUnknown = "raise", signer: Signer | None = None
    ) -> None:
        """Connect at the first question. A `signer` signs here what needs no daemon (bounced/signing.py)."""
        self._signer = signer
        self._path = path
        self._deadline = deadline
        self._fails_open = _fails_open(when_unknown)
        self._idle: list[_Streams] = []
        self._owner: tuple[int, asyncio.AbstractEventLoop] | None = None

    async def may_send(self, address: str, scope: str = "default") -> bool:
        """Tell whether mail of the stream `scope` may go to `address`. Raises TemporaryFailure; ValueError if either is none."""
        return await self.refusal(address, scope) is None

    async def refusal(self, address: str, scope: str = "default") -> str | None:
        """Return the SMTP reply that says why mail may not go to `address`; None if it may. Raises as `may_send`."""
        request = _request("access", address, scope)
        try:
            return _read_refusal(await self._ask(request))
        except TemporaryFailure:
            if not self._fails_open:
                raise
            return None

    async def may_send_many(self, addresses: Sequence[str], scope: str = "default") -> list[bool]:
        """Answer `may_send` for each address, in their order; the deadline is for each hundred of them. Raises as `may_send`."""
        return [refusal is None for refusal in await self.refusals(addresses, scope)]

    async def refusals(self, addresses: Sequence[str], scope: str = "default") -> list[str | None]:
        """Answer `refusal` for each address, in their order. Raises as `may_send`."""
        answers: list[str | None] = []
        for requests in _pieces([_request("access", address, scope) for address in addresses]):
            try:
                answers += map(_read_refusal, await self._ask_many(requests))
            except TemporaryFailure:
                if not self._fails_open:
                    raise
                answers += [None] * len(requests)
        return answers

    async def return_path(self, address: str, scope: str = "default") -> str:
        """Return the envelope sender for one mail of the stream `scope` to `address`. Raises as `may_send`, fail open or not."""
        request = _request("sign", address, scope)
        signed = None if self._signer is None else self._signer(address, scope)
        return signed or _read_return_path(await self._ask(request))

    def close(self) -> None:
        """Close the kept connections. The client can be used on."""
        while (streams := _popped(self._idle)) is not None:
            streams[1].close()

    async def _ask(self, request: bytes) -> str:
        return (await self._ask_many([request]))[0]

    async def _ask_many(self, requests: Sequence[bytes]) -> list[str]:
        owner = (os.getpid(), asyncio.get_running_loop())
        if self._owner != owner:
            self._idle, self._owner = [], owner
        try:
            async with asyncio.timeout(self._deadline):
                kept = _popped(self._idle)
                if kept is not None:
                    try:
                        return await self._exchange(kept, requests)
                    except _Ended:
                        self.close()
                return await self._exchange(await asyncio.open_unix_connection(self._path), requests)
        except (OSError, _Ended) as error:
            raise TemporaryFailure(f"no answer on {self._path}: {_said(error)}") from error

    async def _exchange(self, streams: "_Streams", requests: Sequence[bytes]) -> list[str]:
        whole = False
        reader, writer = streams
        try:
            writer.write(b"".join(requests))
            answer = await _first(reader)
            while (texts := _texts(answer, len(requests))) is None:
                answer += await reader.read(_READ) or _cut()
            whole = True
        finally:
            if whole and len(self._idle) < _MOST_IDLE:
                self._idle.append(streams)
            else:
                writer.transport.abort()
        return texts


_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_Polled = tuple[socket.socket, select.poll]
_Connection = TypeVar("_Connection", _Polled, _Streams)


def _fails_open(when_unknown: str) -> bool:
    if when_unknown not in ("raise", "send"):
        raise ValueError('when_unknown is "raise" or "send"')
    return when_unknown == "send"


def _pieces(requests: list[bytes]) -> Iterator[list[bytes]]:
    return (requests[begin : begin + _MOST_AT_ONCE] for begin in range(0, len(requests), _MOST_AT_ONCE))


def _popped(idle: list[_Connection]) -> _Connection | None:
    try:
        return idle.pop()
    except IndexError:
        return None


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline is over")
    return left


def _begun(connection: socket.socket, answers: select.poll, request: bytes, end: float) -> bytes:
    """Ask, and return the first octets of the answer. Raises _Ended where nobody was there to hear the question."""
    try:
        _tell(connection, request, end)
        answer = _heard(connection, answers, end)
    except ConnectionError as error:
        raise _Ended("the connection ended") from error
    if not answer:
        raise _Ended("the connection ended")
    return answer


def _tell(connection: socket.socket, request: bytes, end: float) -> None:
    try:
        sent = connection.send(request)
    except BlockingIOError:
        sent = 0
    if sent < len(request):
        connection.settimeout(_left(end))
        connection.sendall(request[sent:])
        connection.setblocking(False)


def _heard(connection: socket.socket, answers: select.poll, end: float) -> bytes:
    # Rounded up to the next millisecond: rounded down, the last one would be spent asking again and again.
    if not answers.poll(int(_left(end) * 1000) + 1):
        raise TimeoutError("the deadline is over")
    return connection.recv(_READ)


async def _first(reader: asyncio.StreamReader) -> bytes:
    try:
        answer = await reader.read(_READ)
    except ConnectionError as error:
        raise _Ended("the connection ended") from error
    if not answer:
        raise _Ended("the connection ended")
    return answer


def _said(error: Exception) -> str:
    return str(error) or "the deadline is over"


def _cut() -> NoReturn:
    raise TemporaryFailure("the answer was cut off")


def _request(map_: str, address: str, scope: str) -> bytes:
    """Return the netstring of `map_scope address`. Raises ValueError for what the daemon could misread as another question."""
    if not _SCOPE.fullmatch(scope):
        raise ValueError("this is no scope: 1 to 32 of a-z, 0-9, hyphen and dot")
    request = f"{map_}_{scope} {address}".encode()
    if not _ADDRESS.fullmatch(address) or "\0" in address or len(request) > _MAX_OCTETS:
        raise ValueError("this is no address")
    return b"%d:%b," % (len(request), request)


def _texts(answer: bytes, count: int) -> list[str] | None:
    """Read so many netstrings; None while they are incomplete. Raises TemporaryFailure for anything else, more answers too."""
    if count == 1 and answer == _NOT_FOUND:
        return ["NOTFOUND "]  # most answers are this one
    texts: list[str] = []
    at = 0
    while len(texts) < count:
        length = _LENGTH.match(answer, at)
        if length is None:
            if len(answer) - at < 5 and (answer[at:].isdigit() or at == len(answer)):
                return None
            raise TemporaryFailure("the answer is no netstring")
        end = length.end() + int(length[1])
        if end > length.start() + _MAX_OCTETS:
            raise TemporaryFailure("the answer is not one netstring")
        if len(answer) <= end:
            return None
        if answer[end] != ord(","):
            raise TemporaryFailure("the answer is not one netstring")
        texts.append(answer[length.end() : end].decode("ascii", "backslashreplace"))
        at = end + 1
    if at != len(answer):
        raise TemporaryFailure("the answer is not one netstring")
    return texts


def _read_refusal(answer: str) -> str | None:
    if answer == "NOTFOUND ":
        return None
    found = _REFUSAL.fullmatch(answer)
    if not found:
        raise TemporaryFailure(f"the daemon said {answer!r}")
    return found[1]


def _read_return_path(answer: str) -> str:
    found = _RETURN_PATH.fullmatch(answer)
    if not found:
        raise TemporaryFailure(f"the daemon said {answer!r}")
    return found[1]
