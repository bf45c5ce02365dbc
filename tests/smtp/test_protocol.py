"""The protocol as a client sees it."""

import asyncio
import socket

import pytest

from bounced.smtp.mail_data import MailData
from bounced.smtp.sources import SourceLimits
from tests.smtp.talk import BOUNCE, DOMAIN, END, HOST, NOW, Client, House, on_asyncio


async def test_ehlo_shows_only_what_works(house: House) -> None:
    """EHLO offers what is there; the greeting tells no version, and neither AUTH nor HELP nor STARTTLS is offered."""
    address = await house.open(max_message=1000)

    async with await Client.connect(address) as client:
        assert await client.reply() == f"220 {HOST} ESMTP\r\n"
        words = (await client.say(b"EHLO mx.example.org")).replace("250-", "").replace("250 ", "").split("\r\n")

    assert words == [HOST, "PIPELINING", "SIZE 2000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", ""]


async def test_a_bounce_is_recorded(house: House) -> None:
    """A bounce to a signed return path is answered 250 and stands in the store."""
    address = await house.open()

    async with await Client.greeted(address) as client:
        assert await client.mail(house.signed()) == "250 2.0.0 committed\r\n"
        assert await client.say(b"QUIT") == "221 2.0.0 bye\r\n"
        assert await client.rest() == ""

    assert len(house.history()) == 1
    [envelope] = house.intake.envelopes
    assert (envelope.client, envelope.helo, envelope.reverse_path) == ("127.0.0.1", "mx.example.org", None)


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (b"VRFY joe", "252 2.5.2"),
        (b"VRFY", "501 5.5.4"),
        (b"EXPN list", "502 5.5.1"),
        (b"BDAT 10 LAST", "502 5.5.1"),
        (b"HELP", "502 5.5.1"),
        (b"AUTH PLAIN AGpvZQBzZWNyZXQ=", "502 5.5.1"),
        (b"STARTTLS", "502 5.5.1"),
        (b"LHLO mx.example.org", "500 5.5.1"),
        (b"NOOP whatever", "250 2.0.0"),
        (b"noop", "250 2.0.0"),
        (b"RSET", "250 2.0.0"),
        (b"RSET now", "501 5.5.4"),
        (b"QUIT now", "501 5.5.4"),
        (b"", "500 5.5.1"),
        (b"XYZZY", "500 5.5.1"),
        (b"DATA", "503 5.5.1"),
        (b"RCPT TO:<joe@example.org>", "503 5.5.1"),
        (b"EHLO", "501 5.5.4"),
        (b"HELO \xff", "501 5.5.2"),
        ("HELO mähl".encode(), "501 5.5.4"),
        (b"NOOP " + b"x" * 2100, "500 5.5.2"),
    ],
)
async def test_a_command_has_its_reply(house: House, line: bytes, reply: str) -> None:
    """Commands outside a transaction are answered as RFC 5321 says, with an enhanced status code."""
    address = await house.open()

    async with await Client.greeted(address) as client:
        assert (await client.say(line)).startswith(reply + " ")
        assert (await client.say(b"NOOP")).startswith("250 ")


async def test_mail_comes_after_a_greeting(house: House) -> None:
    """Without HELO or EHLO there is no MAIL, and after HELO no parameter."""
    address = await house.open()

    async with await Client.connect(address) as client:
        await client.reply()
        assert (await client.say(b"MAIL FROM:<>")).startswith("503 ")
        assert await client.say(b"HELO mx.example.org") == f"250 {HOST}\r\n"
        assert (await client.say(b"MAIL FROM:<> SIZE=10")).startswith("555 ")
        assert (await client.say(b"MAIL FROM:<>")).startswith("250 ")
        assert (await client.say(b"MAIL FROM:<>")).startswith("503 ")


@pytest.mark.parametrize("spelling", [b"FROM:<>", b"FROM: <>", b"from:<>", b"FROM:<> SIZE=100", b"FROM:<> BODY=8BITMIME SMTPUTF8"])
async def test_every_spelling_of_the_null_sender(house: House, spelling: bytes) -> None:
    """The null reverse-path is taken in all the ways that it is written, and has one recipient: the second is put off."""
    address = await house.open()

    async with await Client.greeted(address) as client:
        assert (await client.say(b"MAIL " + spelling)).startswith("250 2.1.0")
        assert (await client.say(b"RCPT TO:<%s>" % house.signed().encode())).startswith("250 2.1.5")
        assert (await client.say(b"RCPT TO:<%s>" % house.signed("ann@example.org").encode())).startswith("452 4.5.3")


@pytest.mark.parametrize("parameter", [b"RET=HDRS", b"ENVID=x", b"AUTH=<>", b"REQUIRETLS", b"XFOO=1"])
async def test_a_parameter_that_was_not_offered_is_refused(house: House, parameter: bytes) -> None:
    """MAIL and RCPT answer 555 to parameters that EHLO did not offer."""
    address = await house.open()

    async with await Client.greeted(address) as client:
        assert (await client.say(b"MAIL FROM:<> " + parameter)).startswith("555 5.5.4")
        await client.say(b"MAIL FROM:<>")
        assert (await client.say(b"RCPT TO:<%s> NOTIFY=NEVER" % house.signed().encode())).startswith("555 5.5.4")


async def test_a_sender_is_taken_and_has_at_most_a_hundred_recipients(house: House) -> None:
    """Gateways send bounces with a reverse-path of their own; all recipients are recorded by one 250, and the 101st is put off."""
    address = await house.open()
    recipients = [house.signed(f"user{number}@example.org") for number in range(101)]

    async with await Client.greeted(address) as client:
        assert (await client.say(b"MAIL FROM:<gateway@example.org>")).startswith("250 ")
        replies = [await client.say(b"RCPT TO:<%s>" % recipient.encode()) for recipient in recipients]
        assert [reply[:9] for reply in replies] == ["250 2.1.5"] * 100 + ["452 4.5.3"]
        await client.say(b"DATA")
        assert (await client.say(BOUNCE + b".")).startswith("250 ")

    assert len(house.intake.envelopes) == 100
    assert house.intake.envelopes[0].reverse_path == "gateway@example.org"
    assert len(house.history("user99@example.org")) == 1


async def test_a_bad_return_path_is_refused_with_a_fixed_text(house: House) -> None:
    """Foreign, forged, expired and future return paths are 550 5.1.1 at RCPT, before any content, and counted."""
    address = await house.open()
    signed = house.signed()
    bad = [
        f"joe@{DOMAIN}",
        "joe@elsewhere.example",
        signed.partition("@")[0] + "x@" + DOMAIN,
        house.signed(at=NOW - 100 * 86400),
    ]

    async with await Client.greeted(address) as client:
        await client.say(b"MAIL FROM:<>")
        for recipient in bad:
            assert (await client.say(b"RCPT TO:<%s>" % recipient.encode())).startswith("550 5.1.1 ")
        assert (await client.say(b"DATA")).startswith("503 ")

    assert house.history() == []
    await house.intake.flush()
    assert sum(house.store.tallies().values()) == len(bad)


async def test_pipelined_transactions_are_answered_in_order(house: House) -> None:
    """A client may send groups of commands and the next transaction right after mail data; replies come in order."""
    address = await house.open()
    group = b"MAIL FROM:<>\r\nRCPT TO:<%s>\r\nDATA\r\n"

    async with await Client.greeted(address) as client:
        client.send(group % house.signed("user0@example.org").encode())
        for number in range(1, 20):
            assert [(await client.reply())[:3] for _ in range(3)] == ["250", "250", "354"]
            client.send(BOUNCE + END + group % house.signed(f"user{number}@example.org").encode())
            assert (await client.reply()).startswith("250 2.0.0")

    assert [envelope.forward_path for envelope in house.intake.envelopes] == [house.signed(f"user{n}@example.org") for n in range(19)]


async def test_a_session_a_byte_at_a_time(house: House) -> None:
    """However the octets are cut into packets, the session goes the same way; a dot after a bare LF is content."""
    address = await house.open()
    session = [b"EHLO x\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<%s>\r\n" % house.signed().encode(), b"DATA\r\n", b"..a\r\nb\n.\r\n", b".\r\n"]

    async with await Client.connect(address) as client:
        assert (await client.reply()).startswith("220 ")
        for line in session:
            for octet in line:
                client.send(bytes([octet]))
                await asyncio.sleep(0)
            if line != session[-2]:
                assert (await client.reply())[0] in "23"

    assert house.intake.contents == [b".a\nb\n.\n"]


SMUGGLED = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r\n.\r",
    b"\r.\r\n",
    b"\r\n.\r\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\0\r\n\0.\0\r\n",
]


@pytest.mark.parametrize("at", ["start", "middle", "packet"])
@pytest.mark.parametrize("end", SMUGGLED)
async def test_only_one_sequence_ends_mail_data(house: House, end: bytes, at: str) -> None:
    """Of everything that has been taken for the end of data somewhere, only <CRLF>.<CRLF> is: no transaction is smuggled behind another."""
    address = await house.open()
    assert await smuggled(house, address, end, at) == 0


@pytest.mark.parametrize("at", ["start", "middle", "packet"])
async def test_the_end_after_an_odd_line_end_is_the_end(house: House, at: str) -> None:
    """<CR><CRLF>.<CRLF> holds the end of data and is: the next transaction is the client's own."""
    address = await house.open()
    assert await smuggled(house, address, b"\r\r\n.\r\n", at) == 1


async def test_a_loose_end_would_be_noticed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a bare LF ends mail data, the second transaction is executed, and the test above sees it."""
    monkeypatch.setattr("bounced.smtp.session.whole", lambda *_: None)
    monkeypatch.setattr("bounced.smtp.session.MailData", _Loose)
    address = await house.open()
    assert await smuggled(house, address, b"\n.\n", "middle") == 1


class _Loose(MailData):
    def feed(self, octets: bytes) -> bytes | None:
        return super().feed(octets.replace(b"\n.\n", b"\r\n.\r\n"))


async def smuggled(house: House, address: object, end: bytes, at: str) -> int:
    """Send mail data with `end` in it and a second transaction after that; return how many recipients of the second were read as such."""
    first, second = house.signed("first@example.org"), house.signed("second@example.org")
    inner = b"MAIL FROM:<>\r\nRCPT TO:<%s>\r\nDATA\r\n" % second.encode()
    async with await Client.greeted(address) as client:
        await client.begin_data(first)
        before = {"start": b"", "middle": b"Subject: x\r\n\r\nhello", "packet": b"Subject: x\r\n\r\nhello"}[at]
        client.send(before + end[: 2 if at == "packet" else None])
        if at == "packet":
            await client.writer.drain()
            client.send(end[2:])
        client.send(inner)
        if at == "packet":
            await asyncio.sleep(0)
        client.send(b"Subject: smuggled\r\n\r\nhello\r\n.\r\n")
        client.send(b"QUIT\r\n")
        await client.rest()
    assert house.intake.envelopes[0].forward_path == first
    assert len(house.intake.envelopes) == 1
    return int(house.intake.asked.count(second))


@pytest.mark.parametrize("octets", [999, 2_048, 100_000, 1_000_000])
async def test_a_line_of_any_length_is_taken(house: House, octets: int) -> None:
    """Returned mail holds long lines: mail data has no limit to them, and nothing is lost."""
    address = await house.open()

    async with await Client.greeted(address) as client:
        assert (await client.mail(house.signed(), BOUNCE + b"x" * octets + b"\r\n")).startswith("250 2.0.0")

    assert house.intake.contents[0].endswith(b"\n" + b"x" * octets + b"\n")


class _Silent:
    """A handler for aiosmtpd that takes everything."""


@on_asyncio
async def test_aiosmtpd_as_it_comes_loses_a_long_line(house: House) -> None:
    """The same bounce at aiosmtpd's own door is refused for ever: why mail data is read here."""
    address = await house.open_stock(_Silent())

    async with await Client.greeted(address) as client:
        assert (await client.mail(house.signed(), BOUNCE + b"x" * 2048 + b"\r\n")).startswith("500 ")


async def test_content_beyond_the_limit_is_dropped_and_the_mail_is_taken(house: House) -> None:
    """A mail up to twice the limit is taken with as much content as the limit says; SIZE beyond that is refused at MAIL."""
    address = await house.open(max_message=1000)

    async with await Client.greeted(address) as client:
        assert (await client.mail(house.signed(), BOUNCE + b"x" * 1200 + b"\r\n")).startswith("250 ")
        assert (await client.say(b"MAIL FROM:<> SIZE=2001")).startswith("552 5.3.4")
        assert (await client.say(b"MAIL FROM:<> SIZE=2000")).startswith("250 ")

    [content] = house.intake.contents
    assert len(content) == 1000
    assert len(house.history()) == 1


async def test_endless_mail_data_is_cut(house: House) -> None:
    """After twice the limit without an end the connection is cut, with a reply that lets an honest client come again."""
    address = await house.open(max_message=1000)

    async with await Client.greeted(address) as client:
        await client.begin_data(house.signed())
        client.send(b"x" * 2001)
        assert (await client.rest()).startswith("421 4.3.1")

    assert house.intake.contents == []


@pytest.mark.parametrize("unix", [False, True])
async def test_lmtp_answers_for_each_recipient(house: House, unix: bool) -> None:
    """LMTP greets with LHLO, refuses EHLO and HELO, and has one reply per accepted recipient, in order."""
    address = await house.open(lmtp=True, unix=unix)

    async with await Client.connect(address) as client:
        assert await client.reply() == f"220 {HOST} LMTP\r\n"
        assert (await client.say(b"EHLO x")).startswith("500 ")
        assert (await client.say(b"HELO x")).startswith("500 ")
        assert (await client.say(b"LHLO mx.example.org")).startswith("250-")
        await client.say(b"MAIL FROM:<gateway@example.org>")
        for recipient in (house.signed("ann@example.org"), f"nobody@{DOMAIN}", house.signed("joe@example.org")):
            await client.say(b"RCPT TO:<%s>" % recipient.encode())
        await client.say(b"DATA")
        client.send(BOUNCE + END)
        assert [await client.reply() for _ in range(2)] == ["250 2.0.0 committed\r\n"] * 2
        assert (await client.say(b"NOOP")).startswith("250 ")

    assert {envelope.client for envelope in house.intake.envelopes} == {"local" if unix else "127.0.0.1"}
    assert len(house.history("ann@example.org")) == len(house.history("joe@example.org")) == 1


async def test_mail_for_people_is_kept(house: House) -> None:
    """Mail for postmaster, with and without a domain, and for abuse is taken from anybody and kept as it came, with its envelope."""
    address = await house.open()

    async with await Client.greeted(address) as client:
        for mailbox in ("postmaster", "Postmaster", f"postmaster@{DOMAIN}", f"ABUSE@{DOMAIN}"):
            assert (await client.mail(mailbox, b"Subject: hello\r\n\r\n..you\r\n", b"ann@example.org")).startswith("250 ")

    kept = house.kept()
    assert len(kept) == 4
    assert all(mail.endswith(b"Subject: hello\n\n.you\n") and b"Return-Path: <ann@example.org>\n" in mail for mail in kept)


async def test_a_command_ended_by_a_bare_line_feed_is_not_executed(house: House) -> None:
    """A line that a bare LF ends is answered, so that its author learns why, but nothing in it is done."""
    address = await house.open()

    async with await Client.greeted(address) as client:
        client.send(b"MAIL FROM:<>\n")
        assert (await client.reply()).startswith("500 5.5.2")
        assert (await client.say(b"RCPT TO:<%s>" % house.signed().encode())).startswith("503 ")


async def test_who_speaks_before_the_greeting_is_refused(house: House) -> None:
    """A client whose octets are there before our greeting does not speak SMTP."""
    address = await house.open()
    early = socket.socket()
    early.connect(address)
    early.send(b"EHLO x\r\n")  # the door has not run yet: it is in this thread
    client = Client(*await asyncio.open_connection(sock=early))

    assert (await client.rest()).startswith("554 5.5.0")
    await client.close()


async def test_pipelining_before_it_was_offered_is_refused(house: House) -> None:
    """A whole session in one packet, and anything in one packet with DATA, is refused: nothing of it is taken."""
    address = await house.open()
    session = b"MAIL FROM:<>\r\nRCPT TO:<%s>\r\nDATA\r\n" % house.signed().encode() + BOUNCE + END + b"QUIT\r\n"

    for before, octets in ((b"", b"EHLO x\r\n" + session), (b"HELO x", session), (b"EHLO x", session)):
        async with await Client.connect(address) as client:
            await client.reply()
            if before:
                await client.say(before)
            client.send(octets)
            assert (await client.rest()).splitlines()[-1].startswith("554 5.5.0")

    assert house.intake.contents == []


@pytest.mark.parametrize(
    "request_line", [b"GET / HTTP/1.1", b"POST /mail HTTP/1.1", b"CONNECT mx:25 HTTP/1.1", b"\x16\x03\x01\x02", b"Host: mx", b"*1", b""]
)
async def test_what_is_not_smtp_is_closed(house: House, request_line: bytes) -> None:
    """HTTP, TLS and the like are shown the door at their first line, so that nobody's browser sends mail here."""
    address = await house.open()

    async with await Client.connect(address) as client:
        await client.reply()
        client.send(request_line + b"\r\nContent-Length: 100\r\n\r\nEHLO x\r\nMAIL FROM:<>\r\n")
        assert (await client.rest()).startswith("554 5.5.1")

    assert house.intake.asked == []


async def test_our_own_mail_server_tells_whom_a_mail_came_from(house: House) -> None:
    """Over LMTP on a unix socket XFORWARD names the client of the next mail, and of that one only."""
    address = await house.open(lmtp=True, unix=True)
    async with await Client.connect(address) as client:
        await client.reply()
        assert "250 XFORWARD ADDR HELO\r\n" in await client.say(b"LHLO x")
        assert (await client.say(b"XFORWARD ADDR=192.0.2.25 HELO=mx.example.org")).startswith("250 ")
        assert (await client.mail(house.signed())).startswith("250 ")
        assert (await client.mail(house.signed("ann@example.org"))).startswith("250 ")
        await client.say(b"XFORWARD ADDR=192.0.2.25")
        await client.say(b"RSET")
        assert (await client.mail(house.signed("bob@example.org"))).startswith("250 ")
        await client.say(b"MAIL FROM:<>")
        assert (await client.say(b"XFORWARD ADDR=192.0.2.25")).startswith("503 ")
        await client.say(b"RSET")
        assert (await client.say(b"XFORWARD ADDR=mx.example.org")).startswith("501 ")

    assert [(envelope.client, envelope.helo) for envelope in house.intake.envelopes] == [
        ("192.0.2.25", "mx.example.org"),
        ("local", "x"),
        ("local", "x"),
    ]


async def test_mail_for_people_is_limited_by_whom_it_came_from(house: House) -> None:
    """What XFORWARD names has its own share of the mail for postmaster."""
    address = await house.open(lmtp=True, unix=True, sources=SourceLimits(kept=1))
    async with await Client.connect(address) as client:
        await client.reply()
        await client.say(b"LHLO x")
        replies = []
        for name in (b"192.0.2.25", b"192.0.2.25", b"192.0.2.26"):
            await client.say(b"XFORWARD ADDR=" + name)
            replies.append((await client.mail("postmaster"))[:3])
            await client.say(b"RSET")
    assert replies == ["250", "450", "250"]


@pytest.mark.parametrize("lmtp", [False, True])
async def test_nobody_tells_over_tcp_whom_a_mail_came_from(house: House, lmtp: bool) -> None:
    """XFORWARD is neither offered nor taken where strangers may connect."""
    address = await house.open(lmtp=lmtp)
    async with await Client.connect(address) as client:
        await client.reply()
        assert "XFORWARD" not in await client.say(b"LHLO x" if lmtp else b"EHLO x")
        assert (await client.say(b"XFORWARD ADDR=192.0.2.25"))[:3] in {"500", "502"}
        assert (await client.mail(house.signed())).startswith("250 ")
    assert house.intake.envelopes[0].client == "127.0.0.1"
