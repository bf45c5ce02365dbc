"""The signed return path: VERP that only we can write.

For: signing the return path of a mail before it is sent, and proving that a returned mail answers one we sent. Never: the clock, the store,
or the reading of content.

A signed local part is `b+<seal>+<recipient, @ as =>`, at most 64 octets (RFC 5321 section 4.5.3.1.1). The seal is 23 base32 characters,
lower case, and every case variant of it verifies, since relays fold local parts:

    time (5)  key (1)  scope (1)  MAC (16)
    2^25 s    key id   scope tag  HMAC-SHA-256 over prefix, full time, scope and recipient key, cut to 80 bits

The time is cut to 25 bits and completed by the verifier to the moment nearest to now; the MAC is over the whole time, so a seal does not
become valid again when the cut time comes round (388 days). The scope is found among the declared ones, by its tag first. Recipients that
do not fit, or at whose characters mail systems balk, travel as `b+<seal>+<opaque id>`, and the store knows whom the id means.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Self

import msgspec

from bounced.address import AddressKey
from bounced.scope import Scope

MAX_LOCAL_PART = 64
MAX_AGE_LIMIT = 180 * 86400
"""Seals older than this could not be told from future ones: half of the time in which the cut time comes round, less two weeks."""

EARLIEST = 1_735_689_600
"""2025-01-01, Unix seconds: before it nothing was ever signed. A clock that shows less was not set yet."""

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_DIGITS = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
"""By which a number in base32 becomes one that int() reads."""
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_WRAP = 1 << 25
_MAC_OCTETS = 10
_SEAL = 23
_NAMED = MAX_LOCAL_PART - len("b++") - _SEAL
_SECRET_OCTETS = 32
# Nothing longer, and no other letters, were ever signed.
_SEALED = re.compile(rf"b\+([a-z2-7]{{{_SEAL}}})\+([a-z0-9._+=~-]{{1,{_NAMED}}})", re.IGNORECASE | re.ASCII)
# The rest goes opaque: % ! / | and quotes are refused by the stock rules of Exim and sendmail, others by shells and gateways.
_PLAIN = re.compile(r"[a-z0-9._+=~-]+=[a-z0-9._-]+")
_RING_LINE = re.compile(r"([a-z2-7])\s+([A-Za-z0-9+/]{43}=)")


class RingError(ValueError):
    """A key ring's text is wrong; the message names the line and never shows a key."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key: `id` is one base32 character, `secret` 32 octets."""

    id: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys of an installation: the first signs, all verify."""

    keys: tuple[Key, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a key ring: a line a key, `id secret`, the secret 32 octets in base64; # begins a comment. Raises RingError."""
        keys: dict[str, Key] = {}
        for number, line in enumerate(text.splitlines(), 1):
            content = line.partition("#")[0].strip()
            if not content:
                continue
            found = _RING_LINE.fullmatch(content)
            if not found:
                raise RingError(f"line {number}: expected a key id (a-z, 2-7) and 32 octets in base64")
            if found[1] in keys:
                raise RingError(f"line {number}: key id {found[1]} stands twice")
            keys[found[1]] = Key(found[1], base64.b64decode(found[2]))
        if not keys:
            raise RingError("it holds no key")
        return cls(tuple(keys.values()))

    def render(self) -> str:
        """Return the text that `parse` reads."""
        lines = (f"{key.id} {base64.b64encode(key.secret).decode('ascii')}\n" for key in self.keys)
        return "# bounced key ring: the first key signs, all verify. Keep it secret.\n" + "".join(lines)

    def pseudonyms(self, address: AddressKey) -> tuple[AddressKey, ...]:
        """Return what may stand for an address that is to be forgotten: a keyed hash by each key, that of the newest first.

        Who has not the keys can neither tell whose it is nor try addresses. It is no address itself: it has no domain.
        """
        return tuple(AddressKey(f"{FORGOTTEN}{_pseudonym(key.secret, address)}") for key in self.keys)

    def rotated(self, secret: bytes) -> Self:
        """Return a ring that signs with a new key and still verifies with the old ones; the oldest of 32 goes. Raises RingError."""
        if len(secret) != _SECRET_OCTETS:
            raise RingError(f"a secret has {_SECRET_OCTETS} octets")
        kept = self.keys[: len(_ALPHABET) - 1]
        newest = _ALPHABET.index(kept[0].id) if kept else -1
        used = {key.id for key in kept}
        order = _ALPHABET[newest + 1 :] + _ALPHABET
        return type(self)((Key(next(id_ for id_ in order if id_ not in used), secret), *kept))


def _pseudonym(secret: bytes, address: AddressKey) -> str:
    return _base32(_hmac(_pseudonym_key(secret), address.encode("utf-8", "surrogatepass"))[:20])


@lru_cache(maxsize=32)
def _pseudonym_key(secret: bytes) -> bytes:
    return hmac.digest(secret, b"bounced forgotten addresses 1", "sha256")


def _hmac(secret: bytes, message: bytes) -> bytes:
    # Not hmac.digest(): it prepares the key each time, and lets go of the interpreter's lock, so that every waiting thread goes first.
    prepared = _prepared(secret).copy()
    prepared.update(message)
    return prepared.digest()


@lru_cache(maxsize=64)
def _prepared(secret: bytes) -> hmac.HMAC:
    return hmac.new(secret, digestmod="sha256")


FORGOTTEN = "#"
"""What a pseudonym begins with."""


class Refusal(StrEnum):
    """Why a local part proves nothing."""

    FOREIGN = "foreign"
    """Not of our shape: mail for an address that we never wrote."""
    FORGED = "forged"
    """Our shape, but the seal does not fit."""
    UNKNOWN_KEY = "unknown-key"
    """Sealed with a key that is not in the ring: retired, or forged."""
    EXPIRED = "expired"
    FUTURE = "future"
    FORGOTTEN = "forgotten"
    """A genuine opaque form, whose recipient the store knows no more."""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a genuine return path proves: we signed it at `signed_at` (Unix seconds) for a mail to `recipient` in stream `scope`.

    `token` is the seal in lower case: the name of that one mail. `unsigned` is set where there is no seal: it tells what the operator
    trusts instead (trust.py), and `token` is then a digest and `signed_at` the earliest that it can have been.
    """

    recipient: AddressKey
    scope: Scope
    signed_at: int
    token: str
    unsigned: str | None = None


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed local part; where `opaque_id` is set, the store must know it for the recipient before the local part is handed out."""

    local_part: str
    opaque_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnPath:
    """Signs and verifies for the declared `scopes`. Seals live `max_age` seconds and may be `max_ahead` ahead of our clock."""

    ring: KeyRing
    scopes: tuple[Scope, ...]
    max_age: int = 30 * 86400
    max_ahead: int = 86400
    _tagged: dict[str, tuple[Scope, ...]] = field(init=False, repr=False, compare=False)
    _secrets: dict[str, bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check what the type cannot, and lay out the two tables that verifying reads."""
        if not 0 < self.max_age <= MAX_AGE_LIMIT or not 0 <= self.max_ahead <= MAX_AGE_LIMIT:
            raise ValueError(f"max_age is 1 to {MAX_AGE_LIMIT} seconds, max_ahead 0 to as many")
        if not self.scopes or not self.ring.keys:
            raise ValueError("at least one scope is declared, and the ring holds a key")
        tagged: dict[str, tuple[Scope, ...]] = {}
        for scope in self.scopes:
            tagged[_tag(scope)] = (*tagged.get(_tag(scope), ()), scope)
        object.__setattr__(self, "_tagged", tagged)
        object.__setattr__(self, "_secrets", {key.id: key.secret for key in self.ring.keys})

    def sign(self, recipient: AddressKey, scope: Scope, now: int) -> Signed:
        """Sign a return path for one mail to `recipient`. Two mails to one recipient in one second share a token.

        Raises ValueError for a scope that is not declared: nobody could verify it.
        """
        if scope not in self.scopes:
            raise ValueError(f"scope {scope} is not declared")
        key = self.ring.keys[0]
        local_part, _, domain = recipient.rpartition("@")
        named = f"{local_part}={domain}"
        opaque_id = None
        # Two dots in a row are no dot-string (RFC 5321 section 4.1.2), though some mailboxes have them.
        if len(named) > _NAMED or ".." in named or not _PLAIN.fullmatch(named):
            named = opaque_id = opaque_id_of(recipient)
        mac = _base32(_mac(key.secret, now, scope, named))
        return Signed(f"b+{_cut_time(now)}{key.id}{_tag(scope)}{mac}+{named}", opaque_id)

    def verify(self, local_part: str, now: int, recipient_of: Callable[[str], AddressKey | None]) -> Claims | Refusal:
        """Tell what `local_part` proves at the time `now`. `recipient_of` is asked for genuine opaque ids only."""
        found = _SEALED.fullmatch(local_part)
        if not found:
            return Refusal.FOREIGN
        seal, named = found[1].lower(), found[2].lower()
        secret = self._secrets.get(seal[5])
        if secret is None:
            return Refusal.UNKNOWN_KEY
        digits = seal.translate(_DIGITS)
        signed_at = _whole_time(int(digits[:5], 32), now)
        mac = int(digits[7:], 32).to_bytes(_MAC_OCTETS, "big")
        for scope in self._tagged.get(seal[6], ()):
            if hmac.compare_digest(mac, _mac(secret, signed_at, scope, named)):
                break
        else:
            return Refusal.FORGED
        if signed_at < now - self.max_age:
            return Refusal.EXPIRED
        if signed_at > now + self.max_ahead:
            return Refusal.FUTURE
        # The MAC says that we wrote the name: a plain one is a key with = for its last @, and only an opaque one has no =.
        local_part, plain, domain = named.rpartition("=")
        recipient = AddressKey(f"{local_part}@{domain}") if plain else recipient_of(named)
        if recipient is None:
            return Refusal.FORGOTTEN
        return Claims(recipient=recipient, scope=scope, signed_at=signed_at, token=seal)


def has_seal(local_part: str) -> bool:
    """Tell whether a local part is shaped as a signed one; what that proves, `verify` tells."""
    return _SEALED.fullmatch(local_part) is not None


def _mac(secret: bytes, signed_at: int, scope: Scope, named: str) -> bytes:
    return _hmac(secret, f"bounced return path 1\0{signed_at}\0{scope}\0{named}".encode())[:_MAC_OCTETS]


def _tag(scope: Scope) -> str:
    return _ALPHABET[hashlib.sha256(scope.encode()).digest()[0] & 31]


def opaque_id_of(recipient: AddressKey) -> str:
    """Return what stands for a recipient that a return path does not name."""
    return _base32(hashlib.sha256(f"bounced opaque 1\0{recipient}".encode()).digest()[:_MAC_OCTETS])


def _base32(octets: bytes) -> str:
    """Write 5, 10, 15 ... octets in base32 (RFC 4648 section 6), in lower case; a fifth of the time of base64.b32encode()."""
    number = int.from_bytes(octets, "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(len(octets) * 8 - 10, -1, -10)])


def _cut_time(at: int) -> str:
    cut = at % _WRAP
    return "".join(_ALPHABET[cut >> shift & 31] for shift in (20, 15, 10, 5, 0))


def _whole_time(cut: int, now: int) -> int:
    """Complete a cut time to the moment nearest to `now`."""
    return now + (cut - now + _WRAP // 2) % _WRAP - _WRAP // 2
