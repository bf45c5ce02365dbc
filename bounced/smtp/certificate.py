"""The certificate that STARTTLS shows.

For: loading a certificate and its key, or one clear sentence why not; telling how long the certificate is valid. Never: asking for a
passphrase; TLS before 1.2; refusing to serve by an expired certificate (senders that care don't send, and the others need no more).
"""

import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bounced.fault import OperatorFault

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of X509_VERIFY_PARAM_set_flags(3), which the ssl module does not name."""

_MODERN = ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE


SOON = 14
"""Days before the end at which the operator is warned: who renews by itself has long done so (certbot: 30)."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What STARTTLS needs. `names` are those that the certificate is for, `ends` is when it expires, Unix seconds."""

    context: ssl.SSLContext
    names: tuple[str, ...]
    ends: int

    @property
    def expires(self) -> str:
        """The day on which it expires, UTC."""
        return datetime.fromtimestamp(self.ends, UTC).date().isoformat()

    def days_left(self, now: float) -> int:
        """Whole days until it expires; negative once it has. `now` is Unix seconds."""
        return int((self.ends - now) // 86400)


def load(certificate: Path, key: Path | None) -> Certificate:
    """Load a chain in PEM form, our own certificate first, and its key; None where the key is in the same file. Raises OperatorFault."""
    key = key or certificate
    client = _client_of(certificate)
    server = _server(certificate, key)
    try:
        shown = _shown(server, client)
    except ssl.SSLError as error:
        said = getattr(error, "verify_message", None) or error.reason or str(error)
        raise OperatorFault(
            f"the certificate in {certificate} cannot serve: {said}", "Get one for a TLS server, and put it first in the file."
        ) from error
    names = tuple(value for kind, value in shown.get("subjectAltName", ()) if kind == "DNS")
    return Certificate(server, names, int(ssl.cert_time_to_seconds(shown["notAfter"])))


def _server(certificate: Path, key: Path) -> ssl.SSLContext:
    # Python's choice of ciphers for a server is what we want: forward secrecy alone, and no SHA-1.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= _MODERN
    try:
        context.load_cert_chain(certificate, key, password=lambda: _no_passphrase(key))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise OperatorFault(
                f"the key in {key} is not that of the certificate in {certificate}", "Name the two that belong together."
            ) from error
        raise OperatorFault(
            f"cannot use {certificate} with the key in {key}: {error.reason or error}", "Both must be in PEM form."
        ) from error
    except OSError as error:
        raise _unreadable(key, error) from error
    return context


def _no_passphrase(key: Path) -> str:
    raise OperatorFault(f"the key in {key} is encrypted", "Nobody is there to type a passphrase: `openssl pkey -in KEY -out PLAIN`.")


def _client_of(certificate: Path) -> ssl.SSLContext:
    """Return a client that trusts this very certificate, whenever it expires."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags = ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME)
    try:
        context.load_verify_locations(certificate)
    except ssl.SSLError as error:
        raise OperatorFault(
            f"there is no certificate in PEM form in {certificate}", "It begins with -----BEGIN CERTIFICATE-----."
        ) from error
    except OSError as error:
        raise _unreadable(certificate, error) from error
    return context


def _unreadable(path: Path, error: OSError) -> OperatorFault:
    hint = "The daemon's user must be able to read it, and to enter the directories above it."
    return OperatorFault(f"cannot read {path}: {error.strerror or error}", hint)


def _shown(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """Shake hands with ourselves in memory, and return what the client sees: the ssl module reads no certificate otherwise."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (asking, answering, asking):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return asking.getpeercert() or {}
