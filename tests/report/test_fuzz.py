"""Whatever strangers send: the reader returns a report, the same each time, and nothing in it can hurt who shows it."""

import random
import unicodedata
from collections.abc import Callable, Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounced.report import AutomaticReply, DeliveryReport, FeedbackReport, Report, Unrecognized
from bounced.report.fields import DIAGNOSTIC_LIMIT
from bounced.report.reader import read
from tests.report.seeds import EVERY

_BATCH = 100
"""Inputs of one example: 100 examples are 10,000 inputs, the full count of examples is a million."""

_SAMPLES = list(EVERY.values())
_TOKENS = [
    b"\n\n", b"\r\n", b"\r", b"\0", b"\n ", b"\n\t", b"--=_B\n", b"--=_B--", b"=?utf-8?B?", b"?=", b"=?x?q?=C3?=", b"<", b">", b"@",
    b"(", b"\\", b";", b":", b"\x1b$B", b"\x1b(B", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\xe2\x80\xae", b"550 5.1.1 ", b"550-",
    b"4.2.2", b"Status: ", b"Action: ", b"Final-Recipient: ", b"Content-Type: message/rfc822\n\n", b"Content-Type: text/html\n\n",
    b"Content-Transfer-Encoding: base64\n", b"Content-Transfer-Encoding: quoted-printable\n", b"charset=utf-16", b"charset=iso-2022-kr",
    b"charset=hz-gb-2312", b"charset=utf-7", b"Feedback-Type: ", b"Disposition: ", b"\\x{110000}", b"\\303", b"+2B", b"a@b.example ",
    b"&#x41;", b"<style>", b"A" * 300, b"\n" * 50,
]  # fmt: skip


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Return the content with one to eight changes: octets, pieces, tokens that mean something, pieces of another sample, line ends."""
    octets = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(octets) + 1)
        end = min(len(octets), at + int(chance.expovariate(1 / 30)))
        match chance.randrange(8):
            case 0:
                octets[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del octets[at:end]
            case 2:
                octets[at:at] = octets[at:end] * chance.randint(1, 20)
            case 3 | 4:
                octets[at:at] = chance.choice(_TOKENS)
            case 5:
                other = chance.choice(_SAMPLES)
                start = chance.randrange(len(other))
                octets[at:end] = other[start : start + 200]
            case 6:
                octets = octets[:at] if chance.random() < 0.5 else octets[at:]
            case _:
                octets = octets.replace(b"\n", chance.choice([b"\r\n", b"\r", b"\n\n", b" "]), chance.choice([-1, 3]))
    return bytes(octets)


def texts(value: object) -> Iterator[str]:
    """Give every string in a report."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for one in value:
            yield from texts(one)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from texts(getattr(value, name))


def hurts(text: str) -> bool:
    """Whether a text is longer than the bound, or holds what moves a cursor, turns a line around, or cannot be written."""
    return len(text) > DIAGNOSTIC_LIMIT or any(
        unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or char in "\u202d\u202e" for char in text
    )


def check(content: bytes, reader: Callable[[bytes], Report] = read) -> Report:
    """Read twice; the answer is a report, the same one, and harmless."""
    report = reader(content)
    assert isinstance(report, DeliveryReport | FeedbackReport | AutomaticReply | Unrecognized), content
    assert reader(content) == report, content
    assert not any(hurts(text) for text in texts(report)), (content, report)
    if isinstance(report, DeliveryReport):
        assert report.recipients, content
    return report


@pytest.mark.parametrize("name", EVERY)
def test_samples_are_read(name: str) -> None:
    """Every sample but a person's mail is recognized, in each kind of line end."""
    for line_end in (b"\n", b"\r\n", b"\r"):
        report = check(EVERY[name].replace(b"\n", line_end))
        assert isinstance(report, Unrecognized) == (name == "person")


@given(st.integers(min_value=0))
def test_mutated_samples(seed: int) -> None:
    """Whatever is changed in a message, a report comes back, the same each time, and harmless."""
    chance = random.Random(seed)
    for _ in range(_BATCH):
        check(mutated(chance.choice(_SAMPLES), chance))


@given(st.binary(max_size=2000))
def test_any_octets(content: bytes) -> None:
    """Octets without any sense are read too, alone and behind a header."""
    check(content)
    check(b"From: MAILER-DAEMON\nSubject: failure notice\n\n" + content)


def raises(content: bytes) -> Report:
    """Fail to be total."""
    if b"\r" in content:
        raise ValueError
    return read(content)


def wavers(content: bytes, answers: Iterator[int] = iter(range(10**9))) -> Report:  # noqa: B008 the memory is the fault
    """Fail to be deterministic."""
    return Unrecognized(reason=str(next(answers)))


def leaks(content: bytes) -> Report:
    """Fail to clean."""
    return Unrecognized(reason=content.decode("latin-1")[:50])


@pytest.mark.parametrize("broken", [raises, wavers, leaks])
def test_broken_readers_are_noticed(broken: Callable[[bytes], Report]) -> None:
    """The check fails for a reader that raises, that wavers, that lets control characters through."""
    with pytest.raises((AssertionError, ValueError)):
        check(b"Subject: \x1b[2J\r\n\r\n", broken)
