"""Signing return paths in the process that sends, with the daemon's key file.

For: `Client(signer=Signer("bounces.example.net").sign)`, where so much is sent that a question a mail is too much. Never: an opaque return
path, which only the daemon can give. Who can read the keys can block whom he likes. The daemon does not hear of what is signed here, so
that silence forgives no soft bounces.
"""

import time
from pathlib import Path

from bounced.address import address_key
from bounced.returnpath import KeyRing, ReturnPath
from bounced.scope import Scope

DEFAULT_KEYS = "/var/lib/bounced/return-path.keys"


class Signer:
    """Signs for the return-path domain `domain`. The keys are read at the first signing, and again when their file changes."""

    def __init__(self, domain: str, key_file: str = DEFAULT_KEYS) -> None:
        """Read nothing yet."""
        self._domain = domain
        self._key_file = Path(key_file)
        self._version: tuple[int, int] | None = None
        self._paths: dict[str, ReturnPath] = {}

    def sign(self, address: str, scope: str = "default") -> str | None:
        """Return a return path for one mail; None where it would be opaque. Raises AddressError, RingError; OSError without the keys."""
        signed = self._path(scope).sign(address_key(address), Scope(scope), int(time.time()))
        return f"{signed.local_part}@{self._domain}" if signed.opaque_id is None else None

    def _path(self, scope: str) -> ReturnPath:
        found = self._key_file.stat()
        if self._version != (version := (found.st_ino, found.st_mtime_ns)):
            self._paths.clear()
            self._version = version
        if scope not in self._paths:
            self._paths[scope] = ReturnPath(ring=KeyRing.parse(self._key_file.read_text("ascii")), scopes=(Scope(scope),))
        return self._paths[scope]
