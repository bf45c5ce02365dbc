"""The MIME scanner: parts, encodings, character sets, limits."""

import base64

import pytest

from bounced.report import mime


def test_parts_are_found_at_every_level() -> None:
    """Leaves of nested multiparts come in order, with their types in lower case."""
    content = b'Content-Type: multipart/mixed; boundary="a"\n\n--a\nContent-Type: MULTIPART/Alternative; boundary=b\n\n--b\n\none\n--b\n'
    content += b"Content-Type: Text/HTML\n\n<p>two</p>\n--b--\n--a\nContent-Type: message/rfc822\n\nSubject: x\n--a--\nafter"
    message = mime.scan(content)
    assert [part.content_type for part in message.parts] == ["text/plain", "text/html", "message/rfc822"]
    assert message.parts[0].body() == b"one"
    assert message.parts[1].text().split() == ["two"]
    assert mime.inner_headers(message.parts[2]).get(b"subject") == "x"
    assert not message.over_limit


def test_a_lost_boundary_is_guessed_from_the_body() -> None:
    """A multipart whose header names no boundary is parted by the one its body shows."""
    message = mime.scan(b"Content-Type: multipart/report\n\nintro\n--zz\nContent-Type: text/plain\n\nhello\n--zz--\n")
    assert [part.body() for part in message.parts] == [b"hello"]


def test_without_any_boundary_the_body_is_text() -> None:
    """A multipart without delimiters is one part of text."""
    message = mime.scan(b"Content-Type: multipart/mixed; boundary=none\n\nhello")
    assert [(part.content_type, part.text()) for part in message.parts] == [("text/plain", "hello")]


def test_a_truncated_multipart_keeps_its_last_part() -> None:
    """A last part without closing delimiter runs to the end."""
    message = mime.scan(b"Content-Type: multipart/mixed; boundary=a\n\n--a\n\none\n--a\n\ntwo")
    assert [part.body() for part in message.parts] == [b"one", b"two"]


def test_too_many_parts_stop_the_scan() -> None:
    """Of 300 parts 100 are read, and the message says so."""
    message = mime.scan(b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a\n\nx\n" * 300 + b"--a--\n")
    assert len(message.parts) == mime.PARTS
    assert message.over_limit


def test_too_deep_nesting_stops_the_scan() -> None:
    """Eleven levels are not followed to the end, ten are."""

    def nested(depth: int) -> bytes:
        content = b"\nleaf\n"
        for level in range(depth):
            content = b"Content-Type: multipart/mixed; boundary=n%d\n\n--n%d\n%s\n--n%d--\n" % (level, level, content, level)
        return content

    assert len(mime.scan(nested(10)).parts) == 1
    assert not mime.scan(nested(10)).over_limit
    assert mime.scan(nested(12)).parts == ()
    assert mime.scan(nested(12)).over_limit


def test_false_delimiters_are_bounded() -> None:
    """Lines that only begin like a delimiter part nothing."""
    message = mime.scan(b"Content-Type: multipart/mixed; boundary=a\n\n--a\n\n" + b"--ab\n" * 2000 + b"--a--\n")
    assert len(message.parts) <= 1
    assert message.over_limit


def test_only_the_first_mebibyte_is_read() -> None:
    """What stands after the bound is not seen."""
    message = mime.scan(b"Subject: x\n\n" + b"a" * (1 << 20) + b"tail")
    assert message.over_limit
    assert message.parts[0].end == mime.SCAN_LIMIT


def test_a_body_without_header_is_a_body() -> None:
    """Content that does not begin with a field has no header."""
    message = mime.scan(b"hello there\nhow: are you\n\nfine")
    assert b"how" not in message.headers
    assert message.parts[0].body().startswith(b"hello")


@pytest.mark.parametrize(
    ("encoding", "body"),
    [(b"base64", base64.encodebytes("Grüße".encode())), (b"quoted-printable", b"Gr=C3=BC=\n=C3=9Fe"), (b"8bit", "Grüße".encode())],
)
def test_transfer_encodings(encoding: bytes, body: bytes) -> None:
    """base64, quoted-printable and 8bit give the same text."""
    content = b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: " + encoding + b"\n\n" + body
    assert mime.scan(content).parts[0].text().strip() == "Grüße"


@pytest.mark.parametrize("damaged", [b"R3LDvMOf", b"R3L\nDvM!!Of", b"R3LDvMOfZ", b"R3LDvMOf="])
def test_damaged_base64_is_decoded_as_far_as_it_goes(damaged: bytes) -> None:
    """Foreign characters, a lone last one and missing padding cost nothing else."""
    assert mime.from_base64(damaged).startswith("Grüß".encode())


@pytest.mark.parametrize(
    ("charset", "codec", "text"),
    [
        ("iso-2022-jp", "iso2022_jp", "宛先不明"),
        ("Shift_JIS", "cp932", "宛先不明です"),
        ("EUC-JP", "euc_jp", "宛先不明"),
        ("koi8-r", "koi8_r", "почта"),
        ("windows-1251", "cp1251", "почта"),
        ("windows-1252", "cp1252", "“été”"),
        ("gb2312", "gb18030", "退信"),
        ("big5", "cp950", "退信"),
        ("euc-kr", "cp949", "반송"),
        ("iso-8859-2", "iso8859_2", "žluťoučký"),
        ("unicode-1-1-utf-7", "utf-7", "été"),
        ("utf-8", "utf-8", "почта"),
        ("iso-8859-1", "utf-8", "Ã©"),
    ],
)
def test_declared_character_sets(charset: str, codec: str, text: str) -> None:
    """The declared character set is believed where it fits."""
    octets = "é".encode() if text == "Ã©" else text.encode(codec)
    assert mime.to_text(octets, charset) == text


_LABELS = {
    ("iso2022_jp_ext", "宛先不明"): "iso-2022-jp iso-2022-jp-1 iso-2022-jp-ms cp50220 cp50221",
    ("cp932", "宛先①"): "shift_jis shift-jis sjis x-sjis windows-31j cp932 ms_kanji",
    ("euc_jp", "宛先不明"): "euc-jp eucjp x-euc-jp",
    ("iso2022_kr", "반송"): "iso-2022-kr",
    ("cp949", "반송힣"): "euc-kr ks_c_5601-1987 ks_c_5601 cp949",
    ("gb18030", "退信镕"): "gb2312 gbk gb18030 gb_2312-80 x-gbk cp936",
    ("hz", "退信"): "hz-gb-2312",
    ("cp950", "退信"): "big5 big-5 cp950 x-big5 big5-hkscs",
    ("koi8_r", "почта"): "koi8-r koi8-u koi8",
    ("cp1251", "почта"): "windows-1251 cp1251 x-cp1251 win-1251",
    ("iso8859_5", "почта"): "iso-8859-5",
    ("cp866", "почта"): "cp866 ibm866",
    ("cp1252", "“été”"): "iso-8859-1 latin1 l1 windows-1252 cp1252",
    ("cp1254", "“ığ”"): "iso-8859-9 windows-1254",
    ("cp1255", "“שלום”"): "iso-8859-8 iso-8859-8-i windows-1255",
    ("iso8859_7", "ταχυδρομείο"): "iso-8859-7",
    ("iso8859_15", "€"): "iso-8859-15",
    ("iso8859_16", "ț€"): "iso-8859-16",
    ("iso8859_13", "ž“"): "iso-8859-13",
    ("iso8859_6", "بريد"): "iso-8859-6",
    ("cp1256", "بريد"): "windows-1256 cp1256",
    ("cp1250", "žluťoučký"): "windows-1250 cp1250",
    ("cp1253", "ταχυδρομείο"): "windows-1253",
    ("cp1257", "ąčęė"): "windows-1257",
    ("cp1258", "đồ".replace("ồ", "ô\u0300")): "windows-1258",
    ("cp874", "จดหมาย"): "tis-620 windows-874",
    ("mac_roman", "été"): "macintosh",
    ("cp850", "été"): "cp850 ibm850 cp437",
    ("utf-16", "почта"): "utf-16",
    ("utf-8", "почта"): "utf-8 utf8 unicode-1-1-utf-8",
    ("utf-7", "почта"): "utf-7 unicode-1-1-utf-7",
}


@pytest.mark.parametrize(("codec", "text", "label"), [(*key, label) for key, labels in _LABELS.items() for label in labels.split()])
def test_every_label_of_a_character_set(codec: str, text: str, label: str) -> None:
    """Each label is read as the wider set that senders use under it, in any case."""
    assert mime.to_text(text.encode(codec), label) == mime.to_text(text.encode(codec), label.upper()) == text


def test_the_declared_set_of_a_part_is_asked_for() -> None:
    """A part is read in the character set that its header declares, where a guess would say something else."""
    (part,) = mime.scan("Content-Type: text/plain; charset=iso-8859-7\n\nάγνωστος παραλήπτης\n".encode("iso8859_7")).parts
    assert part.text().strip() == "άγνωστος παραλήπτης"


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        ("iso2022_jp", "宛先不明"),
        ("cp932", "あて先が見つかりません"),
        ("euc_jp", "あて先が見つかりません"),
        ("koi8_r", "письмо не может быть доставлено получателю"),
        ("cp1251", "письмо не может быть доставлено получателю"),
        ("gb18030", "您的邮件被退回"),
        ("cp1252", "non distribué"),
        ("utf-8", "non distribué"),
    ],
)
@pytest.mark.parametrize("declared", ["", "us-ascii", "no-such-charset", "utf-8"])
def test_undeclared_and_false_character_sets_are_guessed(codec: str, text: str, declared: str) -> None:
    """Where nothing or something false is declared, the octets show what they are."""
    assert mime.to_text(text.encode(codec), declared) == text


def test_damaged_utf8_stays_utf8() -> None:
    """A character cut at the end does not turn the rest into another alphabet."""
    assert mime.to_text("Grüße aus Köln".encode() + b"\xc3", "utf-8") == "Grüße aus Köln\ufffd"
    assert mime.to_text(b"abc\xc3\xa9\xff", "gb18030").startswith("abc")


def test_header_values() -> None:
    """Values are unfolded, encoded words decoded and joined, missing ones empty."""
    headers = mime.scan(b"Subject: =?utf-8?B?w6k=?=\n =?iso-8859-1?Q?_t=E9?=\nTo: a\nTo: b\nX-Empty:\n\n").headers
    assert headers.get(b"subject") == "é té"
    assert headers.all(b"to") == ["a", "b"]
    assert headers.get(b"x-none") == headers.get(b"x-empty") == ""
    assert headers.mentions(b"utf-8")
    assert b"x-empty" in headers


def test_parameters() -> None:
    """Parameters come quoted or bare; what is not there is empty."""
    assert mime.parameter('text/plain; CHARSET="utf-8"; x=y', "charset") == "utf-8"
    assert mime.parameter("text/plain; x=y", "x") == "y"
    assert mime.parameter("text/plain; x=y", "z") == ""
    assert mime.media_type(mime.Headers(b"Content-Type: ;x")) == "text/plain"


def test_html_becomes_text() -> None:
    """Tags, style and script go, line breaks and addresses in angle brackets stay, entities are decoded."""
    html = "<style>p{}</style><p>Hello<br>&lt;a@b.example&gt; <c@d.example> &#233;&#x41;&#0;&nbsp;<script>x</script>end"
    text = mime.without_tags(html)
    assert "<a@b.example> <c@d.example> éA" in text
    assert "p{}" not in text
    assert "Hello\n" in text
    assert mime.without_tags("<script>never closed").strip() == "never closed"


def test_encoded_inner_message() -> None:
    """A returned message in base64 is read too."""
    inner = base64.encodebytes(b"Message-ID: <x@y>\n\nhello")
    content = b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" + inner
    assert mime.inner_headers(mime.scan(content).parts[0]).get(b"message-id") == "<x@y>"


def test_doubled_and_mixed_line_ends() -> None:
    """CR CR LF is one line end, and a lone CR among LF stays in its line."""
    assert mime.scan(b"A: 1\r\r\nB: 2\r\r\n\r\r\nbody").headers.get(b"b") == "2"
    assert mime.scan(b"A: 1\rx\nB: 2\n\nbody\n").headers.get(b"b") == "2"


def test_headers_are_equal_where_their_octets_are() -> None:
    """Header blocks compare and hash by what was sent, not by what was asked of them."""
    one, same, other = mime.Headers(b"Subject: a\n"), mime.Headers(b"Subject: a\n"), mime.Headers(b"Subject: b\n")
    assert one.get(b"subject") == "a"
    assert (one == same, one == other, one == b"Subject: a\n") == (True, False, False)
    assert len({one, same, other}) == 2


def test_chinese_that_was_cut_within_a_character() -> None:
    """Undeclared octets are guessed though the last character is half."""
    assert mime.to_text("您的邮件被退回".encode("gb18030")[:-1], "").startswith("您的邮件被退")
