"""What every codec must do, whatever its protocol; the codecs are found, not listed."""

import itertools
import pkgutil
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bounced.query
from bounced.query import Aside, Check, Clear, Codec, Garbled, Question, Sign, SignedPath, Suppressed, Trouble
from bounced.scope import DEFAULT_SCOPE
from tests.asking import DEAD, LIVE, NEWS, consult_over, with_dead
from tests.query.wires import WIRES, LineWire, MilterWire, NotAnAnswerError, SocketmapWire, Wire

every_wire = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)

HOSTILE_RECIPIENTS = (
    b"joe@example.org\r\n550 5.7.1 injected",
    b"joe@example.org\n\naction=OK",
    b"joe@example.org,9:NOTFOUND ,",
    b"joe\x1b[2J@example.org",
    b"joe\x7f\x80\xff@example.org",
    b"\xed\xb3\xbf@example.org",
    "jörg\N{RIGHT-TO-LEFT OVERRIDE}@bücher.example".encode(),
    b"x" * 2000 + b"@example.org",
    b"@@@@",
    b"%s%n{}{0}@example.org",
    b'"a b"@example.org',
)
BOMBS = (
    b"\0" * 5000,
    bytes(range(256)) * 40,
    b"99999999999999999999:",
    b"4294967296:access x@y,",
    b"-1:access x@y,",
    b"01:a,",
    b"+5:abcde,",
    b" 5:abcde,",
    b"5:abcdef",
    b"0:,",
    b"1:,,",
    b"9999:" + b"x" * 10_000 + b",",
    b"\n" * 5000,
    b"=\n\n",
    b"request\n\n",
    b"recipient=joe@example.org\n\n",
    b"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=\0@x\n\n",
    b"check\n",
    b"check \n",
    b"check_ joe@example.org\n",
    b"check_*_* joe@example.org\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"access_\xff\xfe joe@example.org\n",
)


def fed(codec: Codec, chunks: Sequence[bytes]) -> list[Question]:
    """What a codec asks when it is fed these chunks."""
    return [question for chunk in chunks for question in codec.feed(chunk)]


def cut(octets: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut octets at places (taken modulo their length)."""
    edges = sorted({0, len(octets), *(place % (len(octets) + 1) for place in places)})
    return [octets[begin:end] for begin, end in itertools.pairwise(edges)]


def held(thing: object) -> int:
    """How many octets or characters an object holds on to, in all that hangs on it."""
    match thing:
        case bytes() | bytearray() | str():
            return len(thing)
        case list() | tuple() | set() | dict():
            return sum(map(held, thing.items() if isinstance(thing, dict) else thing))
        case _ if hasattr(thing, "__dict__"):
            return held(list(vars(thing).values()))
        case _:
            return 0


def requests(wire: Wire) -> st.SearchStrategy[bytes]:
    """Streams of requests, good ones and bad ones."""
    good = [each for each in (wire.check(b"joe@example.org", "news"), wire.sign(b"a b@x", "default"), wire.aside()) if each]
    piece = st.one_of(
        st.sampled_from(good), st.sampled_from(BOMBS), st.binary(max_size=30), st.builds(wire.check, st.binary(), st.just("x"))
    )
    return st.lists(piece, max_size=6).map(b"".join)


def test_every_codec_is_in_the_suite() -> None:
    """A codec module without a mailer's side in wires.py fails here, so that none escapes the suite."""
    assert {module.name for module in pkgutil.iter_modules(bounced.query.__path__)} == {wire.name for wire in WIRES}


@every_wire
def test_a_request_asks_what_the_mailer_asked(wire: Wire) -> None:
    """The recipient comes through as written, and the stream as named."""
    for recipient in ("joe@example.org", "Jörg+Tag@bücher.example", '"a b"@example.org'):
        (question,) = wire.codec().feed(wire.check(recipient.encode(), "news"))
        assert isinstance(question, Check)
        assert (question.recipient, question.scope) == (recipient, NEWS)
        if (request := wire.sign(recipient.encode(), "default")) is not None:
            (question,) = wire.codec().feed(request)
            assert isinstance(question, Sign)
            assert (question.recipient, question.scope) == (recipient, DEFAULT_SCOPE)


@every_wire
@given(data=st.data())
def test_chunks_do_not_matter(wire: Wire, data: st.DataObject) -> None:
    """The same octets ask the same questions whole, octet by octet, and cut anywhere."""
    octets = data.draw(requests(wire))
    whole = fed(wire.codec(), [octets])
    assert fed(wire.codec(), [octets[at : at + 1] for at in range(len(octets))]) == whole
    assert fed(wire.codec(), cut(octets, data.draw(st.lists(st.integers(min_value=0), max_size=8)))) == whole


@every_wire
@given(octets=st.one_of(st.binary(max_size=200), st.sampled_from(BOMBS)))
def test_no_octets_make_it_raise(wire: Wire, octets: bytes) -> None:
    """Strangers' octets become questions and well-formed answers, never an exception; what is garbled ends the connection."""
    codec = wire.codec()
    for question in (*codec.feed(octets), *codec.feed(b"\n\n"), *codec.feed(b"\r\n" * 10_000)):
        assert wire.answers(codec.render(question, Trouble("no"))) == ["trouble"]
        if isinstance(question, Garbled):
            assert codec.closes(question)


@every_wire
def test_garbage_is_garbled(wire: Wire) -> None:
    """What is no request of the protocol is called so, in words of ours, and nothing after it is read."""
    codec = wire.codec()
    (question,) = codec.feed(b"\0xyzzy\n\n")
    assert isinstance(question, Garbled)
    assert "xyzzy" not in question.reason
    assert codec.feed(wire.check(b"joe@example.org", "news")) == ()


@every_wire
def test_a_request_of_the_utmost_length_is_read(wire: Wire) -> None:
    """The bound is where the module says: one octet less is a question, one more is garbled."""
    empty = len(wire.check(b"", "news"))
    for longer, expected in ((0, Check), (1, Garbled)):
        # A netstring's length grows with its content; a milter's stream comes in a packet of its own.
        growth = {"socketmap": 2, "milter": -len(MilterWire().macros("news"))}.get(wire.name, 0)
        request = wire.check(b"@" * (wire.max_request - empty - growth + longer), "news")
        assert len(request) == wire.max_request + longer - min(growth, 0)
        (question,) = wire.codec().feed(request)
        assert isinstance(question, expected)


def hoard(codec: Codec, wire: Wire) -> Iterator[int]:
    """Feed a request without end, and tell after each chunk what the codec holds."""
    endless = wire.endless()
    for at in range(0, len(endless), 4096):
        codec.feed(endless[at : at + 4096])
        yield held(codec)


@every_wire
def test_it_never_hoards(wire: Wire) -> None:
    """Of a request without end, no more than the bound is kept, and after the bound nothing."""
    *most, last = hoard(wire.codec(), wire)
    assert max(most) <= wire.max_request + 64
    assert last <= 64


def test_a_hoarder_is_found() -> None:
    """Control: the measure sees a codec that keeps what it is fed."""

    class Hoarder:
        def __init__(self) -> None:
            self.kept: list[bytes] = []

        def feed(self, octets: bytes) -> Sequence[Question]:
            self.kept.append(octets)
            return ()

        def render(self, question: Question, answer: object) -> bytes:
            return b""

        def closes(self, question: Question) -> bool:
            return False

    assert max(hoard(Hoarder(), SocketmapWire())) > SocketmapWire.max_request + 64


@every_wire
def test_three_answers_are_three(wire: Wire) -> None:
    """Suppressed, clear and "we cannot tell" are different words to the mailer, whatever was asked."""
    codec = wire.codec()
    (question,) = codec.feed(wire.check(b"joe@example.org", "news"))
    answers = (Suppressed("recipient is on the suppression list"), Clear(), Trouble("the list cannot be read"))
    assert [wire.answers(codec.render(question, answer)) for answer in answers] == [["suppressed"], ["clear"], ["trouble"]]


@every_wire
def test_a_signed_path_is_said_where_it_can_be_asked(wire: Wire) -> None:
    """The return path comes through as it is; a protocol that cannot ask for one never says "clear" instead."""
    codec = wire.codec()
    request = wire.sign(b"joe@example.org", "news")
    question = codec.feed(request)[0] if request else Aside()
    expected = "b+seal+joe=example.org@bounces.example.net" if request else "trouble"
    assert wire.answers(codec.render(question, SignedPath("b+seal+joe=example.org@bounces.example.net"))) == [expected]


@every_wire
async def test_nothing_of_the_recipient_breaks_out(wire: Wire) -> None:
    """Whatever the recipient holds, the answer is one answer of the protocol in printable ASCII."""
    consult = await with_dead(consult_over())
    for recipient in HOSTILE_RECIPIENTS:
        for request in filter(None, (wire.check(recipient, "news"), wire.sign(recipient, "news"))):
            codec = wire.codec()
            for question in codec.feed(request):
                assert len(wire.answers(codec.render(question, await consult.answer(question)))) == 1


def test_an_echo_is_found() -> None:
    """Control: an answer that repeats the recipient's line end is not taken for one."""
    with pytest.raises(NotAnAnswerError):
        LineWire().answers(b"suppressed joe@example.org\r\n550 5.7.1 injected")
    with pytest.raises(NotAnAnswerError):
        SocketmapWire().answers(b"9:NOTFOUND,x9:NOTFOUND ,")


@every_wire
async def test_pipelined_questions_keep_their_order(wire: Wire) -> None:
    """Many requests in one piece are answered one by one in their order; a protocol of one question takes the first."""
    consult = await with_dead(consult_over())
    asked = [wire.check(recipient.encode(), "news") for recipient in (DEAD, LIVE, DEAD, DEAD, LIVE)]
    codec = wire.codec()
    said = b"".join([codec.render(question, await consult.answer(question)) for question in codec.feed(b"".join(asked))])
    expected = ["suppressed", "clear", "suppressed", "suppressed", "clear"]
    assert wire.answers(said) == (expected if wire.pipelines else expected[:1])


@every_wire
async def test_an_undeclared_stream_is_trouble(wire: Wire) -> None:
    """A stream that the configuration does not declare is the operator's mistake, and never "clear"."""
    consult = consult_over()
    codec = wire.codec()
    for scope in ("receipts", "NEWS", "*"):
        (question,) = wire.codec().feed(wire.check(b"joe@example.org", scope))
        assert wire.answers(codec.render(question, await consult.answer(question))) == ["trouble"]
