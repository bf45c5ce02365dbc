"""Mailboxes and their keys: one reading of an address, and no two people under one key."""

import sys
import unicodedata

import idna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounced.address import MAX_OCTETS, AddressError, Mailbox, address_key

ADDRESSES = {
    "user@example.net": "user@example.net",
    "User.Name+Tag@EXAMPLE.Net": "user.name+tag@example.net",
    "user@example.net.": "user@example.net",
    "user@localhost": "user@localhost",
    "user@_dmarc.example.net": "user@_dmarc.example.net",
    "!#$%&'*+-/=?^_`{|}~@example.net": "!#$%&'*+-/=?^_`{|}~@example.net",
    '"user"@example.net': "user@example.net",
    '"us\\er"@example.net': "user@example.net",
    '"User Name"@example.net': '"user name"@example.net',
    '"a@b"@example.net': '"a@b"@example.net',
    '"a\\"b\\\\c"@example.net': '"a\\"b\\\\c"@example.net',
    '"a\\ b"@example.net': '"a b"@example.net',
    ".user@docomo.ne.jp": ".user@docomo.ne.jp",
    "a..b.@docomo.ne.jp": "a..b.@docomo.ne.jp",
    '"a..b."@docomo.ne.jp': "a..b.@docomo.ne.jp",
    "user@[192.0.2.1]": "user@[192.0.2.1]",
    "user@[IPv6:2001:DB8::1]": "user@[ipv6:2001:db8::1]",
    "Jörg@bücher.example": "jörg@xn--bcher-kva.example",
    "JÖRG@BÜCHER.example": "jÖrg@xn--bcher-kva.example",
    "user@XN--BCHER-KVA.example": "user@xn--bcher-kva.example",
    "用户@例子.广告": "用户@xn--fsqu00a.xn--4rr70v",
    "user@Ꭰ.example": "user@xn--58d.example",
    "user@faß.de": "user@xn--fa-hia.de",
    # Labels that IDNA 2008 refuses: a leading hyphen, a disallowed sign, a decomposed letter, one A-label that decodes to nothing.
    "user@-ü.example": "user@xn----eha.example",
    "user@☃.example": "user@xn--n3h.example",
    "user@u\u0308.example": "user@xn--u-ccb.example",
    "user@xn--0.example": "user@xn--0.example",
    "user@a_ü.example": "user@xn--a_-yka.example",
}


@pytest.mark.parametrize(("written", "key"), ADDRESSES.items())
def test_key(written: str, key: str) -> None:
    """An address in any accepted form has the expected key, and the key is its own key."""
    assert address_key(written) == key
    assert address_key(key) == key


NO_ADDRESSES = {
    "nothing": "",
    "no at": "user",
    "no local part": "@example.net",
    "no domain": "user@",
    "the null reverse-path": "<>",
    "brackets": "<user@example.net>",
    "a display name": "User <user@example.net>",
    "a comment": "user(comment)@example.net",
    "a source route": "@a.example,@b.example:user@example.net",
    "a space": "us er@example.net",
    "a newline": "user\n@example.net",
    "a newline at the end": "user@example.net\n",
    "NUL": "us\0er@example.net",
    "DEL": "us\x7fer@example.net",
    "a C1 control": "us\x85er@example.net",
    "a quoted C1 control": '"us\x85er"@example.net',
    "a quoted CR": '"us\rer"@example.net',
    "an escaped control": '"us\\\ter"@example.net',
    "an empty quoted string": '""@example.net',
    "a half quoted string": '"user@example.net',
    "a quoted word": '"a"."b"@example.net',
    "a quote inside": 'us"er@example.net',
    "two ats": "a@b@example.net",
    "a lone surrogate": "us\udc80er@example.net",
    "a surrogate in the domain": "user@ex\udcffample.net",
    "an empty label": "user@example..net",
    "only a dot": "user@.",
    "two dots at the end": "user@example.net..",
    "a leading dot": "user@.example.net",
    "a leading hyphen": "user@-example.net",
    "a trailing hyphen": "user@example-.net",
    "a space in the domain": "user@exam ple.net",
    "a control in the domain": "user@exam\x01ple.net",
    "a control in a U-label": "user@ex\x01ämple.net",
    "a C1 control in a U-label": "user@ex\x85ample.net",
    "a no-break space in a U-label": "user@ex\xa0ample.net",
    "brackets in a U-label": "user@<ü>.example",
    "a slash in a U-label": "user@ü/x.example",
    "a label of 64 octets": f"user@{'a' * 64}.example",
    "a U-label that is overlong once encoded": f"user@{'ü' * 40}{'a' * 25}.example",
    "a domain of 256 octets": f"u@{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 63}.e",
    "an address of 321 octets": f"{'u' * 309}@example.net",
    "an address of 321 octets in few characters": f"{'ü' * 154}u@example.net",
    "an address overlong once encoded": f"{'u' * 305}@ü.ü.de",
    "a literal without end": "user@[192.0.2.1",
    "an empty literal": "user@[]",
    "a literal with a space": "user@[192.0.2.1 ]",
    "a literal with a letter outside ASCII": "user@[192.0.2.１]",
}


@pytest.mark.parametrize("written", NO_ADDRESSES.values(), ids=NO_ADDRESSES.keys())
def test_refused(written: str) -> None:
    """What is no mailbox is refused, and the error does not repeat the stranger's text."""
    with pytest.raises(AddressError) as caught:
        address_key(written)
    assert len(written) < 3 or written not in str(caught.value)
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()


def test_longest() -> None:
    """Addresses of exactly the greatest length are taken, whole and in each part."""
    domain = f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 63}"
    assert len(domain) == 255
    longest = f"{'u' * 64}@{domain}"
    assert len(longest) == MAX_OCTETS
    assert address_key(longest) == longest
    assert address_key(f"{'u' * 308}@example.net") == f"{'u' * 308}@example.net"


def test_quoted_equals_unquoted() -> None:
    """Quoted or not, escaped or not, one mailbox is one value and one text."""
    forms = ["user@example.net", '"user"@example.net', '"\\u\\s\\e\\r"@example.net', "user@example.net."]
    assert len({Mailbox.parse(form) for form in forms}) == 1
    assert {str(Mailbox.parse(form)) for form in forms} == {"user@example.net"}


def test_mailbox_keeps_case_of_local_part() -> None:
    """The mailbox keeps the local part as written; only its key is folded."""
    mailbox = Mailbox.parse('"Jo Doe"@Example.NET')
    assert mailbox == Mailbox("Jo Doe", "example.net")
    assert str(mailbox) == '"Jo Doe"@example.net'
    assert mailbox.key == '"jo doe"@example.net'


@pytest.mark.parametrize("other", ["user+tag", "us.er", "u-ser", "usér", "user.", ".user", '"user "'])
def test_no_folding_of_people(other: str) -> None:
    """Plus, dots, hyphens, accents and blanks make another mailbox."""
    assert address_key(f"{other}@example.net") != address_key("user@example.net")


FOLDS = {
    "NFKC": lambda char: unicodedata.normalize("NFKC", char),
    "casefold": str.casefold,
    "lower": str.lower,
}


def lookalikes(name: str) -> list[tuple[str, str]]:
    """Give every code point outside ASCII that the folding `name` turns into ASCII, with what it turns into."""
    fold = FOLDS[name]
    chars = (chr(point) for point in range(0x80, sys.maxunicode + 1) if not 0xD800 <= point <= 0xDFFF)
    return [(char, folded) for char in chars if (folded := fold(char)).isascii()]


def key_or_none(written: str) -> str | None:
    """Give the key, or None for what is no address."""
    try:
        return address_key(written)
    except AddressError:
        return None


@pytest.mark.parametrize(("name", "at_least"), [("NFKC", 1403), ("casefold", 11), ("lower", 1)])
def test_lookalikes_never_fold_to_ascii(name: str, at_least: int) -> None:
    """No code point that some folding turns into ASCII gets the key of the ASCII address, in either part and at any place."""
    pairs = lookalikes(name)
    assert len(pairs) >= at_least
    collisions = [
        f"U+{ord(char):04X} in {form}"
        for char, folded in pairs
        for form in ("{}@example.net", "a{}b@example.net", '"{}"@example.net', "u@{}", "u@{}.net", "u@a{}b.net", "u@net.{}")
        if (key := key_or_none(form.format(char))) is not None and key == key_or_none(form.format(folded))
    ]
    assert collisions == []


def test_lookalike_check_notices_folding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with a key that lowers all of Unicode the lookalike check fails."""
    monkeypatch.setitem(globals(), "address_key", lambda written: Mailbox.parse(written.lower()).key)
    with pytest.raises(AssertionError):
        test_lookalikes_never_fold_to_ascii("lower", 1)


@pytest.mark.parametrize(
    ("one", "other"), [("ü\u212a", "ük"), ("\u0130", "i\u0307"), ("ü\u017f", "üs"), ("ü\uff21", "üa"), ("\u1e9e", "ss")]
)
def test_labels_never_fold_to_others(one: str, other: str) -> None:
    """Letters that fold into ASCII, or into several, do not do so beside other letters either."""
    assert address_key(f"u@{one}.example") != address_key(f"u@{other}.example")


def test_endless_text_is_refused_before_it_is_read() -> None:
    """Overlong text is refused for its length, whatever else is wrong with it: no label of it is encoded."""
    for written in ("ü" * 100_000, "u@" + "ü" * 100_000, "u@" + "\udc80" * 321):
        with pytest.raises(AddressError, match="more than 320 octets"):
            address_key(written)


@pytest.mark.parametrize("at", ["\uff20", "\ufe6b"])
def test_at_lookalikes_never_split(at: str) -> None:
    """FULLWIDTH and SMALL COMMERCIAL AT are letters of a name, never the sign between the parts."""
    assert key_or_none(f"victim{at}example.net") is None
    assert Mailbox.parse(f"victim{at}example.net@evil.example") == Mailbox(f"victim{at}example.net", "evil.example")
    assert Mailbox.parse(f"a@b{at}example").local_part == "a"


def test_no_key_is_shared_by_two_code_points(full_counts: bool) -> None:
    """Of all code points (reduced: the first 16,384), only an ASCII letter and its lower case share a key in the local part."""
    local_parts: dict[str, str] = {}
    points = sys.maxunicode + 1 if full_counts else 0x4000
    for point in range(points):
        key = key_or_none(f'"{chr(point)}"@a' if point not in (0x22, 0x5C) else f'"\\{chr(point)}"@a')
        if key is not None:
            assert local_parts.setdefault(key, chr(point)) in (chr(point), chr(point).upper())
    assert len(local_parts) == points - 0x800 * full_counts - 32 - 33 - 26


def test_a_labels_are_those_of_idna(full_counts: bool) -> None:
    """Every label that IDNA 2008 accepts is encoded as IDNA encodes it."""
    compared = 0
    for point in range(0x80, 0x30000 if full_counts else 0x2000):
        label = f"a{chr(point)}"
        try:
            expected = idna.alabel(label).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            continue
        assert Mailbox.parse(f"u@{label}.example").domain == f"{expected}.example"
        compared += 1
    assert compared > (80_000 if full_counts else 4_000)


ANY_TEXT = st.text(st.characters(), max_size=60)
ADDRESS_LIKE = st.one_of(
    ANY_TEXT,
    st.builds("{}@{}".format, ANY_TEXT, ANY_TEXT),
    st.builds("{}@{}.{}".format, st.text(max_size=20), st.text(max_size=20), st.text(max_size=20)),
    st.builds('"{}"@{}'.format, st.text(max_size=20), st.from_regex(r"[a-zü-]{1,70}\.[a-z]{2,5}", fullmatch=True)),
    st.from_regex(r"[A-Za-z0-9.+ü-]{1,330}@[A-Za-zÀ-ÿ0-9_.-]{1,270}", fullmatch=True),
    st.from_regex(r'"([a-z" @\\]|\\[ -~]){0,20}"@(\[[0-9a-f.:]{0,20}\]|[a-z.]{1,9})', fullmatch=True),
)


@given(ADDRESS_LIKE)
def test_parse_is_total_and_round_trips(written: str) -> None:
    """Parsing any text gives a mailbox or AddressError; what a mailbox prints is read as the same mailbox, and keys are their own keys."""
    try:
        mailbox = Mailbox.parse(written)
    except AddressError:
        return
    assert Mailbox.parse(str(mailbox)) == mailbox
    assert address_key(mailbox.key) == mailbox.key
    assert address_key(str(mailbox)) == mailbox.key
    assert len(mailbox.key.encode()) <= MAX_OCTETS
    assert mailbox.domain.isascii()
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in mailbox.key)


@given(st.text(st.characters(categories=["L", "N", "M", "S", "P"]), min_size=1, max_size=12), st.sampled_from(["news", "a"]))
def test_keys_survive_case_of_ascii(word: str, domain: str) -> None:
    """Changing the case of ASCII letters never changes the key."""
    flipped = "".join(char.swapcase() if char.isascii() else char for char in word)
    assert key_or_none(f"{word}@{domain}.example") == key_or_none(f"{flipped}@{domain.upper()}.Example")


@given(st.from_regex(r"[A-Za-z0-9._=+\"-]{1,70}@[A-Za-z0-9_.-]{1,80}", fullmatch=True) | ADDRESS_LIKE)
def test_usual_address_has_the_key_of_its_mailbox(written: str) -> None:
    """The key of an address that needs no parsing is the one that parsing gives; what parsing refuses is refused."""
    try:
        expected: str | None = Mailbox.parse(written).key
    except AddressError:
        expected = None
    assert key_or_none(written) == expected
