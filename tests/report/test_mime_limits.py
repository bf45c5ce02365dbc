"""The MIME scanner: what it finds in true mail, in damaged mail, and where it stops."""

import base64

import pytest

from bounced.report import mime
from bounced.report.mime import Headers, Message, Part, inner_headers, inner_message, scan


def report(boundary: str = "=_B", parameter: str = 'boundary="=_B"') -> bytes:
    """Return a small report: a note, fields, a returned mail."""
    return (
        f"From: MAILER-DAEMON@mx.example\nSubject: failed\nContent-Type: multipart/report;\n\treport-type=delivery-status; {parameter}\n\n"
        f"preamble\n--{boundary}\nContent-Type: text/plain; charset=us-ascii\n\nnote\n"
        f"--{boundary}\nContent-Type: Message/Delivery-Status\n\nAction: failed\n\n"
        f"--{boundary}\nContent-Type: message/rfc822\n\nSubject: ours\n\nbody\n--{boundary}--\nepilogue\n"
    ).encode()


def types(message: Message) -> list[str]:
    """Name the types of the leaves."""
    return [part.content_type for part in message.parts]


def leaf(body: bytes, *headers: str) -> Part:
    """Return the only part of a message with these header lines."""
    message = scan("\n".join([*headers, "X: y"]).encode() + b"\n\n" + body)
    assert len(message.parts) == 1
    return message.parts[0]


WHOLE = ["text/plain", "message/delivery-status", "message/rfc822"]


def test_finds_the_parts_of_a_report() -> None:
    """The leaves of a multipart come in order, with bodies that end before the delimiter; preamble and epilogue are no parts."""
    message = scan(report())
    assert types(message) == WHOLE
    assert [part.body() for part in message.parts] == [b"note", b"Action: failed\n", b"Subject: ours\n\nbody"]
    assert message.content_type == "multipart/report"
    assert not message.over_limit
    found = message.first("message/delivery-status")
    assert found is message.parts[1]
    assert message.first("text/html") is None


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r", b"\n"])
def test_line_ends_do_not_matter(line_end: bytes) -> None:
    """CRLF, LF and bare-CR copies of one report give the same parts."""
    message = scan(report().replace(b"\n", line_end))
    assert types(message) == WHOLE
    assert message.parts[0].text() == "note"


def test_a_stray_return_stays() -> None:
    """One carriage return among line feeds is text, not the end of a line."""
    assert leaf(b"a\rb\nc\nd\r\n").body() == b"a\rb\nc\nd\n"


def test_leading_blank_lines_are_skipped() -> None:
    """Blank lines ahead of the header do not make it a body."""
    assert types(scan(b"\r\n\r\n\n" + report())) == WHOLE


def test_an_envelope_line_of_an_mbox_is_passed() -> None:
    """A `From ` line in front leaves the fields readable."""
    message = scan(b"From a@b.example Mon Jan  6 00:00:00 2025\n" + report())
    assert types(message) == WHOLE
    assert message.headers.get(b"subject") == "failed"


def test_without_a_header_all_is_body() -> None:
    """Content whose first line is no field has no header."""
    message = scan(b"no header here\n\nbody")
    assert message.parts[0].body() == b"no header here\n\nbody"
    assert message.headers.get(b"subject") == ""
    assert scan(b"").parts[0].body() == b""
    assert scan(b"Subject: only a header").headers.get(b"subject") == "only a header"


def test_an_unclosed_multipart_ends_with_the_message() -> None:
    """A cut report keeps its last part."""
    cut = report()[: report().index(b"\n--=_B--")]
    assert [part.body() for part in scan(cut).parts][-1] == b"Subject: ours\n\nbody"


def test_a_longer_line_is_no_delimiter() -> None:
    """A line that only begins with the delimiter is text."""
    message = scan(report().replace(b"note\n", b"note\n--=_Box\nmore\n"))
    assert message.parts[0].body() == b"note\n--=_Box\nmore"


@pytest.mark.parametrize("parameter", ["charset=x", "", 'boundary=""', 'boundary="' + "x" * 290 + '"'])
def test_a_lost_boundary_is_guessed(parameter: str) -> None:
    """Where the header does not tell a usable boundary, the body's first delimiter does."""
    assert types(scan(report(parameter=parameter))) == WHOLE


def test_a_multipart_without_parts_is_text() -> None:
    """A multipart without any delimiter is read as one text."""
    assert types(scan(b"Content-Type: multipart/report; boundary=x\n\nnothing\n")) == ["text/plain"]
    assert types(scan(b"Content-Type: multipart/report\n\nnothing\nContent-Type: text/html\n")) == ["text/plain"]


def test_parts_of_parts() -> None:
    """An alternative inside a report gives its leaves in place."""
    inner = 'multipart/alternative; boundary="in"\n\n--in\n\nplain\n--in\nContent-Type: text/html\n\n<p>rich</p>\n--in--\n'
    message = scan(report().replace(b"text/plain; charset=us-ascii\n\nnote\n", inner.encode()))
    assert types(message) == ["text/plain", "text/html", *WHOLE[1:]]
    assert [part.level for part in message.parts] == [2, 2, 1, 1]


def test_reads_what_a_part_holds() -> None:
    """The message inside a part is read in place, and decoded first where it is encoded; its header alone, or all of it."""
    part = scan(report()).parts[2]
    assert inner_headers(part).get(b"subject") == "ours"
    assert inner_message(part).parts[0].body() == b"body"
    encoded = leaf(base64.b64encode(b"Subject: hidden\r\n\r\nbody"), "Content-Transfer-Encoding: base64")
    assert inner_headers(encoded).get(b"subject") == "hidden"
    assert inner_message(encoded).parts[0].body() == b"body"
    late = leaf(b"\n\nSubject: late\n\nbody", "Content-Transfer-Encoding: 8bit")
    assert inner_headers(late).get(b"subject") == "late"
    assert inner_message(late).headers.get(b"subject") == "late"


def test_limit_of_octets() -> None:
    """What comes after SCAN_LIMIT is not looked at, and that is told."""
    small = scan(b"Subject: x\n\n" + b"a" * (mime.SCAN_LIMIT - 12))
    large = scan(b"Subject: x\n\n" + b"a" * mime.SCAN_LIMIT)
    assert (small.over_limit, large.over_limit) == (False, True)
    assert len(large.parts[0].buffer) == mime.SCAN_LIMIT
    assert len(large.parts[0].body()) == mime.TEXT_LIMIT


@pytest.mark.parametrize("block", [b"X: " + b"y" * mime.HEADER_LIMIT, b"X: y\n" * (mime.HEADER_LINES + 2) + b"Z: z"])
def test_limits_of_the_header(block: bytes) -> None:
    """Over the header's octets or lines nothing of the body is read, but the first fields still are."""
    message = scan(b"Subject: seen\n" + block + b"\n\n" + b"body\n" * 20_000)
    assert message.over_limit
    assert message.parts == ()
    assert message.headers.get(b"subject") == "seen"


def test_limit_of_a_parts_header() -> None:
    """A part whose header is over a limit is told, and its neighbours stay readable."""
    message = scan(report().replace(b"text/plain;", b"text/plain;\n" + b" x\n" * (mime.HEADER_LINES + 1)))
    assert message.over_limit
    assert types(message)[-2:] == WHOLE[1:]


def nested(levels: int) -> bytes:
    """Return multiparts in multiparts."""
    lines = ["Content-Type: multipart/mixed; boundary=b0", ""]
    for level in range(levels):
        lines += [f"--b{level}", f"Content-Type: multipart/mixed; boundary=b{level + 1}", ""]
    return "\n".join([*lines, f"--b{levels}", "", "deep", ""]).encode()


def test_limit_of_levels() -> None:
    """LEVELS multiparts in each other are read, one more is not."""
    assert scan(nested(mime.LEVELS - 1)).parts[-1].body() == b"deep\n"
    assert not scan(nested(mime.LEVELS - 1)).over_limit
    deeper = scan(nested(mime.LEVELS))
    assert deeper.over_limit
    assert not any(b"deep" in part.body() for part in deeper.parts)


def test_limit_of_parts() -> None:
    """No more than PARTS leaves are kept, however they are nested."""
    flat = b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * (3 * mime.PARTS)
    both = b"Content-Type: multipart/mixed; boundary=a\n\n" + b"".join(b"--a\n" + flat[: flat.index(b"--b") + 8 * 60] for _ in range(4))
    for content in (flat, both):
        message = scan(content)
        assert message.over_limit
        assert len(message.parts) <= mime.PARTS
    assert not scan(b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * (mime.PARTS - 1) + b"--b--").over_limit


def test_limit_of_false_delimiters() -> None:
    """A text full of almost-delimiters is given up, and that is told."""
    content = report().replace(b"note\n", b"--=_Bx\n" * 5000)
    assert scan(content).over_limit


def test_header_fields() -> None:
    """Fields are found whatever their case, unfolded and decoded; repeated ones come in order."""
    headers = Headers(b"SUBJECT: one\n two\nReceived: a\nX: Received: no\nreceived: b\n\tc\nReceived:d\nLast: end")
    assert headers.get(b"subject") == "one two"
    assert headers.all(b"received") == ["a", "b c", "d"]
    assert headers.all(b"received", 2) == ["a", "b c"]
    assert headers.get(b"last") == "end"
    assert headers.get(b"missing") == ""
    assert headers.all(b"missing") == []
    assert b"last" in headers
    assert b"las" not in headers
    assert headers.mentions(b"received: no")
    assert not headers.mentions(b"absent")


def test_a_long_value_is_cut() -> None:
    """One field cannot be larger than its bound."""
    value = Headers(b"Subject: a\n" + b" b\n" * 20_000).raw(b"subject")
    assert value is not None
    assert len(value[0]) == 16 << 10


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("=?utf-8?B?WnVzdGVsbHVuZw==?=", "Zustellung"),
        ("=?UTF-8?Q?Zur=C3=BCck_an?= Absender", "Zurück an Absender"),
        ("=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        ("=?iso-2022-jp?B?GyRCRyc+WhsoQg==?=", "認証"),
        ("=?us-ascii*en?Q?with_language?=", "with language"),
        ("=?x-unknown?Q?=C3=A9?=", "é"),
        ("=?utf-8?B?!!!?=", ""),
        ("=?utf-8?X?no?=", "=?utf-8?X?no?="),
        ("plain", "plain"),
    ],
)
def test_encoded_words(raw: str, text: str) -> None:
    """Encoded words (RFC 2047) are decoded, neighbours joined; what is none stays."""
    assert mime.header_text(raw.encode()) == text


def test_raw_octets_in_a_header() -> None:
    """A header in raw UTF-8 or Latin-1 is read too."""
    assert mime.header_text("Zurück".encode()) == "Zurück"
    assert mime.header_text("Zurück".encode("latin-1")) == "Zurück"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text/plain; charset=utf-8", "utf-8"),
        ('text/plain; CharSet = "utf-8"', "utf-8"),
        ("text/plain; charset*=utf-8", "utf-8"),
        ("text/plain; x=charset; y", ""),
        ("text/plain", ""),
    ],
)
def test_parameters(value: str, expected: str) -> None:
    """A parameter is found quoted or not, whatever the case of its name."""
    assert mime.parameter(value, "charset") == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"Content-Type: TEXT/Html; x=y", "text/html"),
        (b"Content-Type: ", "text/plain"),
        (b"Content-Type: ; charset=x", "text/plain"),
        (b"X: y", "text/plain"),
    ],
)
def test_media_types(line: bytes, expected: str) -> None:
    """The media type is lower case, and text/plain where there is none."""
    assert mime.media_type(Headers(line)) == expected


@pytest.mark.parametrize(
    ("encoding", "body", "decoded"),
    [
        ("base64", b"aGVs\nbG8=", b"hello"),
        ("BASE64 ", b"aGVsbG8", b"hello"),
        ("base64", b"aGVs*bG8=  ", b"hello"),
        ("base64", b"aGVsb", b"hel"),
        ("quoted-printable", b"a=3Db=\nc", b"a=bc"),
        ("7bit", b"a=3Db", b"a=3Db"),
        ("x-uuencode", b"begin", b"begin"),
    ],
)
def test_transfer_encodings(encoding: str, body: bytes, decoded: bytes) -> None:
    """base64 and quoted-printable are decoded as far as they go, anything else is left."""
    assert leaf(body, f"Content-Transfer-Encoding: {encoding}").decoded() == decoded


JAPANESE = "宛先のメールアドレスが見つかりませんでした。ご確認ください。"
RUSSIAN = "Не удалось доставить сообщение: почтовый ящик получателя переполнен"
CHINESE = "无法投递您的邮件，收件人的邮箱不存在，请检查地址。"


@pytest.mark.parametrize(
    ("text", "codec", "label"),
    [
        (JAPANESE, "iso-2022-jp", "iso-2022-jp"),
        (JAPANESE, "iso-2022-jp", ""),
        (JAPANESE, "iso-2022-jp", "us-ascii"),
        (JAPANESE, "shift_jis", "Shift_JIS"),
        (JAPANESE, "shift_jis", ""),
        (JAPANESE, "euc-jp", "us-ascii"),
        (JAPANESE, "utf-8", ""),
        (JAPANESE, "utf-8", "iso-2022-jp"),
        (RUSSIAN, "koi8-r", "koi8-r"),
        (RUSSIAN, "koi8-r", ""),
        (RUSSIAN, "windows-1251", "us-ascii"),
        (RUSSIAN, "windows-1251", "windows-1251"),
        (CHINESE, "gb18030", "gb2312"),
        (CHINESE, "gb18030", ""),
        ("nicht zugestellt: Postfach überfüllt – €", "windows-1252", "iso-8859-1"),
        ("Postfach überfüllt", "latin-1", ""),
        ("no existe el buzón", "utf-7", "utf-7"),
        ("plain", "ascii", "no-such-charset"),
        ("plain", "ascii", "utf-8"),
        ("boîte pleine", "utf-8", "no-such-charset"),
    ],
)
def test_character_sets(text: str, codec: str, label: str) -> None:
    """Text is read in its declared character set, and in the right one where that is missing, wrong or unknown."""
    assert mime.to_text(text.encode(codec), label) == text


def test_damaged_octets_are_still_read() -> None:
    """One bad octet costs one character: of UTF-8 that was cut, of ISO-2022-JP, of a declared set."""
    assert mime.to_text("boîte pleine, größer, überfüllt".encode()[:-1] + b"\xe3", "utf-8").startswith("boîte pleine")
    assert mime.to_text(b"\x1b$B\xff\x1b(B tail", "").endswith(" tail")
    assert mime.to_text("メール".encode("shift_jis") + b"\xff" + b"!", "shift_jis").endswith("!")


def test_text_of_html() -> None:
    """HTML is read without tags, style, script and entities; addresses in angle brackets stay; a type that lies is seen through."""
    page = (
        b"<html><head><title>t</title></head><body><style>p{}</style><p>Your mail to &lt;a@b.example&gt; and <c@d.example><br>"
        b"fail&#101;d &amp; &#x62;&bogus; &#0;</p><script>x()</script>end</body></html>"
    )
    text = leaf(page, "Content-Type: text/html").text()
    assert "<a@b.example> and <c@d.example>\nfailed & b&bogus;" in text
    assert text.rstrip().endswith("end")
    assert "p{}" not in text
    assert "x()" not in text
    assert "failed" in leaf(page, "Content-Type: text/plain").text()


def test_hidden_text_that_never_ends() -> None:
    """An unclosed style hides nothing after itself; text whose lower case is longer is left as it is."""
    assert "after" in mime.without_tags("before<style>after")
    assert "x" in mime.without_tags("\u0130<style>x</style>")
    assert "tail" in mime.without_tags("<style>a</style>" * 60 + "tail")
