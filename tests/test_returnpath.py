"""The signed return path: only the holder of a key writes one, every case variant of it verifies, and nothing else does."""

import base64
import dataclasses
import hmac
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounced import returnpath
from bounced.address import AddressError, AddressKey, Mailbox, address_key
from bounced.returnpath import MAX_AGE_LIMIT, MAX_LOCAL_PART, Claims, Key, KeyRing, Refusal, ReturnPath, RingError, Signed
from bounced.scope import DEFAULT_SCOPE, Scope

NOW = 1_767_225_600
DAY = 86_400
WRAP = 1 << 25
NEWS, RECEIPTS = Scope("news"), Scope("receipts")
SCOPES = (DEFAULT_SCOPE, NEWS, RECEIPTS)
RING = KeyRing((Key("c", b"c" * 32), Key("b", b"b" * 32)))
PATH = ReturnPath(ring=RING, scopes=SCOPES)
ADA = address_key("ada@example.net")
LONG = address_key("a.very.long.local.part.indeed@a.very.long.domain.example.net")
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def nobody(opaque_id: str) -> None:
    """Know no opaque id."""


def unasked(opaque_id: str) -> None:
    """Fail: the store must not be asked."""
    raise AssertionError(f"asked for {opaque_id}")


def genuine(path: ReturnPath, signed: Signed, key: AddressKey, now: int) -> Claims | Refusal:
    """Verify with a store that knows this one recipient."""
    return path.verify(signed.local_part, now, {signed.opaque_id: key}.get)


# --- what is signed verifies


def test_claims() -> None:
    """A return path proves the recipient, the stream and the second of its signing; its token is the seal."""
    signed = PATH.sign(ADA, NEWS, NOW)
    assert signed.opaque_id is None
    assert signed.local_part.endswith("+ada=example.net")
    token = signed.local_part.split("+")[1]
    assert PATH.verify(signed.local_part, NOW + 5, unasked) == Claims(recipient=ADA, scope=NEWS, signed_at=NOW, token=token)


def test_format_is_stable() -> None:
    """Return paths that left the house in an earlier release still verify: the format is pinned by one example of each form."""
    assert PATH.sign(ADA, NEWS, NOW) == Signed("b+vloiaczfkj6qnuw6exbo5d4+ada=example.net", None)
    assert PATH.sign(LONG, NEWS, NOW) == Signed("b+vloiacz4bfuqxve5vpsfhac+cyck5ksid3ur7zkv", "cyck5ksid3ur7zkv")


def test_undeclared_scope_is_not_signed() -> None:
    """A stream that no verifier knows is refused at signing."""
    with pytest.raises(ValueError, match="not declared"):
        PATH.sign(ADA, Scope("other"), NOW)


def keys() -> st.SearchStrategy[AddressKey]:
    """Make keys of every kind: plain, quoted, not ASCII, literal, long."""

    def parsed(written: str) -> AddressKey | None:
        try:
            return address_key(written)
        except AddressError:
            return None

    domains = st.from_regex(r"([a-zü_]{1,20}\.){0,4}[a-z]{2,9}|\[192\.0\.2\.[0-9]\]", fullmatch=True)
    local_parts = st.one_of(
        st.from_regex(r"[A-Za-z0-9.+=_~-]{1,70}", fullmatch=True),
        st.from_regex(r"[!-~]{1,20}", fullmatch=True),
        st.text(min_size=1, max_size=30).map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'),
    )
    return st.builds("{}@{}".format, local_parts, domains).map(parsed).filter(bool)


@given(keys(), st.sampled_from(SCOPES), st.integers(0, 1 << 33), st.integers(-DAY, 30 * DAY), st.randoms())
def test_round_trip(key: AddressKey, scope: Scope, at: int, age: int, rng: random.Random) -> None:
    """Whatever the key, the stream and the time: it fits in 64 octets, is a dot-string, and verifies in any case, with nothing lost."""
    signed = PATH.sign(key, scope, at)
    assert len(signed.local_part.encode()) <= MAX_LOCAL_PART
    assert ".." not in signed.local_part
    assert Mailbox.parse(f"{signed.local_part}@x").local_part == signed.local_part
    assert str(Mailbox.parse(f"{signed.local_part}@x")) == f"{signed.local_part}@x"
    assert signed.local_part == signed.local_part.lower()
    folded = "".join(rng.choice((char.upper(), char.lower())) for char in signed.local_part)
    claims = PATH.verify(folded, at + age, {signed.opaque_id: key}.get)
    assert claims == Claims(recipient=key, scope=scope, signed_at=at, token=signed.local_part.split("+")[1])


@given(st.text(max_size=90))
def test_verify_is_total(local_part: str) -> None:
    """Any text is refused with a reason, never an error."""
    assert isinstance(PATH.verify(local_part, NOW, unasked), Refusal)
    assert isinstance(PATH.verify(f"b+{local_part}", NOW, unasked), Refusal)
    assert isinstance(PATH.verify(PATH.sign(ADA, NEWS, NOW).local_part + local_part + "x", NOW, unasked), Refusal)


# --- opaque forms


@pytest.mark.parametrize(
    "written",
    [
        "a%b@example.net",
        "a!b@example.net",
        "a/b@example.net",
        '"a b"@example.net',
        "jörg@example.net",
        "user@[192.0.2.1]",
        "a..b@docomo.ne.jp",
        LONG,
    ],
)
def test_opaque(written: str) -> None:
    """A recipient that does not fit, or at which mail systems balk, travels as an id that only the store can read."""
    key = address_key(written)
    signed = PATH.sign(key, NEWS, NOW)
    assert signed.opaque_id is not None
    assert signed.local_part.endswith(f"+{signed.opaque_id}")
    claims = genuine(PATH, signed, key, NOW)
    assert isinstance(claims, Claims)
    assert claims.recipient == key
    assert PATH.verify(signed.local_part, NOW, nobody) is Refusal.FORGOTTEN


def test_opaque_id_is_the_address() -> None:
    """The id of an address is the same in every stream and at every time, and another one's differs."""
    ids = {PATH.sign(LONG, scope, NOW + day * DAY).opaque_id for scope in SCOPES for day in range(3)}
    assert len(ids) == 1
    assert PATH.sign(AddressKey(f"x{LONG}"), NEWS, NOW).opaque_id not in ids


def test_boundary_of_length() -> None:
    """The longest recipient that fits makes exactly 64 octets; one more octet goes opaque."""
    fits = PATH.sign(address_key(f"{'u' * 26}@example.net"), NEWS, NOW)
    assert (len(fits.local_part), fits.opaque_id) == (64, None)
    assert PATH.sign(address_key(f"{'u' * 27}@example.net"), NEWS, NOW).opaque_id is not None


def test_store_is_asked_for_genuine_ids_only() -> None:
    """A forged opaque form never reaches the store, nor does an expired one."""
    signed = PATH.sign(LONG, NEWS, NOW)
    seal, opaque_id = signed.local_part[2:25], signed.opaque_id
    assert PATH.verify(f"b+{seal[:-1]}{'a' if seal[-1] != 'a' else 'b'}+{opaque_id}", NOW, unasked) is Refusal.FORGED
    assert PATH.verify(signed.local_part, NOW + 31 * DAY, unasked) is Refusal.EXPIRED


# --- what is forged does not verify


def forgeries(rng: random.Random) -> Iterator[str]:
    """Make local parts without end that nobody signed: with one character changed, cut, swapped, guessed, or sealed with another key."""
    stranger = ReturnPath(ring=KeyRing((Key("c", b"?" * 32),)), scopes=SCOPES)
    number = 0
    while True:
        number += 1
        key = address_key(f"user{number}@example{number % 97}.net")
        other = PATH.sign(address_key(f"victim{number}@example.net"), NEWS, NOW - number % DAY).local_part
        token = PATH.sign(key, rng.choice(SCOPES), NOW - rng.randrange(20 * DAY)).local_part
        place = rng.randrange(len(token))
        changed = rng.choice([char for char in ALPHABET + "+=.-_~0189%é" if char != token[place]])
        yield token[:place] + changed + token[place + 1 :]
        yield token[: rng.randrange(len(token))]
        yield token + rng.choice(ALPHABET)
        yield token[:26] + other[26:]
        yield other[:7] + token[7:]
        yield token[:8] + other[8:]
        yield token[:7] + rng.choice([char for char in ALPHABET if char != token[7]]) + token[8:]
        yield token.replace(".net", ".org")
        yield stranger.sign(key, NEWS, NOW).local_part
        yield "b+" + "".join(rng.choices(ALPHABET, k=23)) + token[25:]


def accepted_forgeries(path: ReturnPath, count: int) -> list[str]:
    """Try `count` forgeries and give those that were believed."""
    tries = forgeries(random.Random(1))
    return [forged for forged in (next(tries) for _ in range(count)) if not isinstance(path.verify(forged, NOW, nobody), Refusal)]


def test_forgeries(full_counts: bool) -> None:
    """Of 1,000,000 forged, tampered, cut, swapped and wrong-key return paths (reduced: 10,000) none is believed."""
    assert accepted_forgeries(PATH, 1_000_000 if full_counts else 10_000) == []


def test_forgeries_notice_a_short_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: when only the first two octets of the MAC are compared, forgeries are believed."""
    real = returnpath.hmac.compare_digest
    monkeypatch.setattr(returnpath.hmac, "compare_digest", lambda one, other: real(one[:2], other[:2]))
    assert accepted_forgeries(PATH, 10_000) != []


def test_every_place_of_the_token_counts() -> None:
    """Each single change of each single character makes a return path that is refused."""
    for key in (ADA, LONG):
        token = PATH.sign(key, NEWS, NOW).local_part
        variants = [token[:at] + char + token[at + 1 :] for at in range(len(token)) for char in ALPHABET + "+=." if char != token[at]]
        assert len(variants) > 1_000
        assert {type(PATH.verify(variant, NOW, nobody)) for variant in variants} == {Refusal}


def test_macs_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sealed local part is decided by hmac.compare_digest, over all 80 bits."""
    compared = []
    real = returnpath.hmac.compare_digest
    monkeypatch.setattr(returnpath.hmac, "compare_digest", lambda one, other: compared.append((one, other)) or real(one, other))
    token = PATH.sign(ADA, NEWS, NOW).local_part
    assert PATH.verify(token.replace("ada", "eve"), NOW, nobody) is Refusal.FORGED
    assert isinstance(PATH.verify(token, NOW, nobody), Claims)
    assert len(compared) == 2
    assert {len(mac) * 8 for pair in compared for mac in pair} == {80}


@pytest.mark.parametrize(
    "local_part",
    ["", "b", "b++", "bob", "postmaster", "b+ada=example.net", "b+short+ada=example.net", "x" + PATH.sign(ADA, NEWS, NOW).local_part[1:]],
)
def test_foreign(local_part: str) -> None:
    """What never had our shape is foreign, not forged."""
    assert PATH.verify(local_part, NOW, unasked) is Refusal.FOREIGN


@pytest.mark.parametrize("tail", ["\n", "\0", "\udc80", "é", "\u212a", "%", " ", "@x", "a" * 30])
def test_letters_that_we_never_sign(tail: str) -> None:
    """Letters that no signed local part holds, and lengths that none has, are foreign before any MAC is made."""
    assert PATH.verify(PATH.sign(ADA, NEWS, NOW).local_part + tail, NOW, unasked) is Refusal.FOREIGN


def test_kelvin_sign_is_no_k() -> None:
    """A letter that some folding turns into ASCII does not stand for it, neither in the seal nor in the name."""
    key = address_key("kkk@kkk.example")
    token = next(t for t in (PATH.sign(key, NEWS, NOW + s).local_part for s in range(99)) if "k" in t[2:25])
    for at in (place for place, char in enumerate(token) if char == "k"):
        assert PATH.verify(f"{token[:at]}\u212a{token[at + 1 :]}", NOW, unasked) is Refusal.FOREIGN


# --- streams


def test_scopes_never_mix() -> None:
    """A seal proves the one stream it was made for, also among streams whose tags are alike."""
    scopes = tuple(Scope(f"s{number}") for number in range(100))
    path = ReturnPath(ring=RING, scopes=scopes)
    tokens = [path.sign(ADA, scope, NOW).local_part for scope in scopes]
    assert len({token[8] for token in tokens}) <= 32
    assert [path.verify(token, NOW, unasked).scope for token in tokens] == list(scopes)
    halves = ReturnPath(ring=RING, scopes=scopes[:50]), ReturnPath(ring=RING, scopes=scopes[50:])
    assert {halves[1].verify(token, NOW, unasked) for token in tokens[:50]} == {Refusal.FORGED}
    assert all(isinstance(halves[0].verify(token, NOW, unasked), Claims) for token in tokens[:50])


# --- time


@pytest.mark.parametrize("tick", [NOW, WRAP * 53 - 1, WRAP * 53, WRAP * 53 + 1, WRAP * 53 + WRAP // 2])
def test_age(tick: int) -> None:
    """A seal lives exactly its age and may be exactly a day ahead, wherever the cut time stands."""
    token = PATH.sign(ADA, NEWS, tick).local_part
    verdicts = {age: PATH.verify(token, tick + age, unasked) for age in (-DAY - 1, -DAY, 0, 30 * DAY, 30 * DAY + 1, 194 * DAY)}
    assert verdicts.pop(-DAY - 1) is Refusal.FUTURE
    assert verdicts.pop(30 * DAY + 1) is Refusal.EXPIRED
    assert verdicts.pop(194 * DAY) is Refusal.EXPIRED
    assert {verdict.signed_at for verdict in verdicts.values()} == {tick}


def test_nothing_revives_when_the_time_comes_round() -> None:
    """A seal is worth nothing at any later day of ten years, also after 388 days, when its cut time is that of now again."""
    token = PATH.sign(ADA, NEWS, NOW).local_part
    later = [*range(NOW + 31 * DAY, NOW + 3650 * DAY, DAY), *(NOW + turn * WRAP + off for turn in range(1, 9) for off in (-1, 0, 1, DAY))]
    assert {type(PATH.verify(token, now, unasked)) for now in later} == {Refusal}


def test_the_round_is_told_by_the_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with the cut time under the MAC an old seal revives after 388 days."""
    real = returnpath._mac
    monkeypatch.setattr(returnpath, "_mac", lambda secret, at, scope, named: real(secret, at % WRAP, scope, named))
    assert isinstance(PATH.verify(PATH.sign(ADA, NEWS, NOW).local_part, NOW + WRAP, unasked), Claims)


def test_longest_age() -> None:
    """Seals may live 180 days, and at that age still verify."""
    path = ReturnPath(ring=RING, scopes=SCOPES, max_age=MAX_AGE_LIMIT, max_ahead=MAX_AGE_LIMIT)
    token = path.sign(ADA, NEWS, NOW).local_part
    assert isinstance(path.verify(token, NOW + MAX_AGE_LIMIT, unasked), Claims)
    assert isinstance(path.verify(token, NOW - MAX_AGE_LIMIT, unasked), Claims)
    assert path.verify(token, NOW + MAX_AGE_LIMIT + 1, unasked) is Refusal.EXPIRED
    assert path.verify(token, NOW - MAX_AGE_LIMIT - 1, unasked) is Refusal.FUTURE


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_age": 0},
        {"max_age": MAX_AGE_LIMIT + 1},
        {"max_ahead": -1},
        {"max_ahead": MAX_AGE_LIMIT + 1},
        {"scopes": ()},
        {"ring": KeyRing(())},
    ],
)
def test_settings_that_cannot_work(wrong: dict[str, object]) -> None:
    """Ages that could not be told apart, no stream and no key are refused."""
    with pytest.raises(ValueError, match=r"max_age|at least one"):
        dataclasses.replace(PATH, **wrong)


# --- keys


def test_rotation_loses_nothing(full_counts: bool) -> None:
    """Through three rotations every genuine return path (full: 100,000; reduced: 2,000) still verifies; the newest key signs."""
    path, signed = PATH, []
    for rotation in range(4):
        tokens = (
            path.sign(address_key(f"u{number}@example.net"), NEWS, NOW + number % DAY) for number in range(25_000 if full_counts else 500)
        )
        signed += [token.local_part for token in tokens]
        path = dataclasses.replace(path, ring=path.ring.rotated(bytes([rotation]) * 32))
    assert [token for token in signed if not isinstance(path.verify(token, NOW + DAY, unasked), Claims)] == []
    assert len({token[7] for token in signed}) == 4


def test_retired_key() -> None:
    """A seal of a key that is no longer in the ring proves nothing, and is told from a forged one."""
    token = PATH.sign(ADA, NEWS, NOW).local_part
    assert dataclasses.replace(PATH, ring=KeyRing(RING.keys[1:])).verify(token, NOW, unasked) is Refusal.UNKNOWN_KEY
    assert dataclasses.replace(PATH, ring=KeyRing((RING.keys[1], RING.keys[0]))).verify(token, NOW, unasked) == PATH.verify(
        token, NOW, unasked
    )


def test_rotation_keeps_32_keys() -> None:
    """However often it rotates, a ring has at most 32 keys with different ids, the newest first, and the old ones in order."""
    ring = KeyRing(())
    for number in range(100):
        before = ring
        ring = ring.rotated(bytes([number]) * 32)
        assert ring.keys[1:] == before.keys[:31]
        assert len({key.id for key in ring.keys}) == len(ring.keys) == min(number + 1, 32)
    assert [key.secret[0] for key in ring.keys] == list(range(99, 67, -1))
    assert KeyRing(()).rotated(b"x" * 32).keys[0].id == "a"


def test_ring_round_trip() -> None:
    """What a ring renders is read as the same ring, also with comments, blanks and CRLF."""
    assert KeyRing.parse(RING.render()) == RING
    text = RING.render().replace("\n", "  # a comment\r\n\r\n")
    assert KeyRing.parse(text) == RING


SECRET = base64.b64encode(b"s" * 32).decode()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no key"),
        ("# nothing but a comment\n", "no key"),
        (f"a {SECRET}\na {SECRET}\n", "line 2: key id a stands twice"),
        (f"\n1 {SECRET}\n", "line 2: expected"),
        (f"A {SECRET}\n", "line 1: expected"),
        (f"ab {SECRET}\n", "line 1: expected"),
        (f"a {SECRET[:-4]}\n", "line 1: expected"),
        (f"a {SECRET}{SECRET}\n", "line 1: expected"),
        (f"a {SECRET} more\n", "line 1: expected"),
        ("a\n", "line 1: expected"),
    ],
)
def test_ring_that_is_wrong(text: str, problem: str) -> None:
    """A wrong ring is refused with the number of its line, and no key is shown."""
    with pytest.raises(RingError, match=problem) as caught:
        KeyRing.parse(text)
    assert "c3Nzc3" not in str(caught.value)


@pytest.mark.parametrize("octets", [0, 16, 31, 33])
def test_secret_of_another_length(octets: int) -> None:
    """A new secret has 32 octets and no other number."""
    with pytest.raises(RingError, match="32 octets"):
        RING.rotated(b"x" * octets)


def test_secrets_are_never_shown() -> None:
    """No representation of a key, a ring or a return path holds a secret."""
    assert "cccc" not in repr(RING.keys[0]) + repr(RING) + repr(PATH)


@given(st.integers(0, 8).flatmap(lambda fives: st.binary(min_size=5 * fives, max_size=5 * fives)))
def test_our_base32_is_that_of_the_rfc(octets: bytes) -> None:
    """The fast way to write base32 gives what the library gives."""
    assert returnpath._base32(octets) == base64.b32encode(octets).decode("ascii").lower()


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_our_seal_is_an_hmac(secret: bytes, message: bytes) -> None:
    """The MAC is HMAC-SHA256 (RFC 2104), whichever way it is computed, and however often with one key."""
    assert returnpath._hmac(secret, message) == hmac.digest(secret, message, "sha256") == returnpath._hmac(secret, message)
