"""Free text of unknown systems in many layouts and languages; flufl.bounce bounded and guarded."""

import pytest

from bounced.report import Action, DeliveryReport, Unrecognized
from bounced.report.last_resort import FLUFL_LIMIT, flufl_addresses, looks_like_bounce
from bounced.report.mime import scan
from bounced.report.prose import letter
from bounced.report.reader import read
from tests.report import samples

_HEAD = "From: MAILER-DAEMON@z.example\nTo: b+token@bounces.example\nSubject: {subject}\nContent-Type: text/plain; charset={charset}\n\n"


def _read(text: str, subject: str = "Mail delivery failed", charset: str = "utf-8", codec: str = "utf-8") -> DeliveryReport:
    report = read(_HEAD.format(subject=subject, charset=charset).encode() + text.encode(codec))
    assert isinstance(report, DeliveryReport)
    assert not report.standard
    return report


@pytest.mark.parametrize(
    "text",
    [
        "<gone@there.example>: 550 5.1.1 unknown user",
        "gone@there.example\n\n550 5.1.1 unknown user",
        "Your mail to gone@there.example could not be delivered:\n550 5.1.1 unknown user",
        "  * gone@there.example\n    550 5.1.1 unknown user\n",
        ">>> RCPT TO:<gone@there.example>\n<<< 550 5.1.1 unknown user\n",
        "550 5.1.1 <gone@there.example>... User unknown",
        "Recipient: gone@there.example\nReason: 550 5.1.1 unknown user",
        "We are sorry.\n\nThe server said that gone@there.example\nis unknown: 550 5.1.1 unknown user",
        "Die Nachricht konnte nicht zugestellt werden.\nEmpfänger: gone@there.example\nGrund: 550 5.1.1 unbekannt",
        "Votre message n'a pas pu être remis.\nDestinataire : <gone@there.example>\nRaison : 550 5.1.1 inconnu",
        "No se ha podido entregar el mensaje.\nDestinatario: gone@there.example\nMotivo: 550 5.1.1 desconocido",
        "Письмо не может быть доставлено.\nПолучатель: gone@there.example\nПричина: 550 5.1.1 нет такого",
        "次の宛先へは送信できませんでした。\n宛先: gone@there.example\n理由: 550 5.1.1 宛先不明",
        "您的邮件无法投递。\n收件人: gone@there.example\n原因: 550 5.1.1 用户不存在",
        "메일을 전달할 수 없습니다.\n수신자: gone@there.example\n550 5.1.1 없는 사용자",
    ],
)
def test_layouts_and_languages(text: str) -> None:
    """The recipient and the reply are found however the letter is laid out, in every language we know."""
    status = _read(text).recipients
    assert [one.final_recipient for one in status] == ["gone@there.example"]
    assert status[0].reply is not None
    assert (status[0].reply.code, str(status[0].status)) == (550, "5.1.1")


@pytest.mark.parametrize(
    ("charset", "codec"), [("iso-2022-jp", "iso2022_jp"), ("shift_jis", "cp932"), ("euc-jp", "euc_jp"), ("", "euc_jp")]
)
def test_japanese_letters(charset: str, codec: str) -> None:
    """A Japanese letter is read in each of its character sets, and undeclared."""
    text = "次のあて先へは送信できませんでした。\n\n  gone@there.example\n\n宛先のメールアドレスが見つかりません。\n"
    status = _read(text, charset=charset, codec=codec).recipients[0]
    assert status.final_recipient == "gone@there.example"
    assert "見つかりません" in status.diagnostic


def test_recipient_of_the_returned_mail() -> None:
    """Where the letter names nobody the returned mail's one recipient is it."""
    text = (
        "Your mail could not be delivered.\n\n----- Original message -----\n\nFrom: news@ours.example\nTo: gone@there.example\nSubject: x\n"
    )
    assert _read(text).recipients[0].final_recipient == "gone@there.example"


def test_who_is_mentioned_and_was_mailed() -> None:
    """Of the addresses that a letter mentions those failed to which the returned mail was sent; of the others it says nothing."""
    text = "Your mail could not be delivered: gone@there.example is not here, and so says joe@desk.example in charge.\n\n"
    text += "----- Original message -----\n\nFrom: news@ours.example\nTo: Gone@there.example, other@there.example\nSubject: x\n"
    assert [status.final_recipient for status in _read(text).recipients] == ["gone@there.example"]


def test_our_own_address_is_no_recipient() -> None:
    """The address that the bounce is sent to is never the failed one, nor is the postmaster's to write to."""
    text = "Dear b+token@bounces.example,\nyour mail could not be delivered to gone@there.example.\nContact postmaster@z.example.\n"
    assert [status.final_recipient for status in _read(text).recipients] == ["gone@there.example"]


def test_delay_notice() -> None:
    """A letter that says it is a warning gives delayed recipients."""
    text = "Your message to the following has not yet been delivered:\n\n<gone@there.example>: connection timed out\n"
    assert _read(text, subject="Warning: message delayed 4 hours").recipients[0].action is Action.DELAYED


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"From: MAILER-DAEMON@z.example", b"From: Carol <carol@z.example>"),
        (b"Subject: Mail delivery failed", b"List-Id: <l.example>\nSubject: Mail delivery failed"),
        (b"could not be delivered", b"is on its way"),
    ],
)
def test_each_sign_is_needed(before: bytes, after: bytes) -> None:
    """Sender, not a list, and words of failure: without one of them the letter is ordinary mail."""
    content = b"From: MAILER-DAEMON@z.example\nSubject: Mail delivery failed\n\nYour mail to gone@there.example could not be delivered.\n"
    assert isinstance(read(content), DeliveryReport)
    changed = content.replace(before, after)
    if before.startswith(b"could"):
        changed = changed.replace(b"Mail delivery failed", b"Good news")
    assert isinstance(read(changed), Unrecognized)


@pytest.mark.parametrize(
    "field",
    [
        *("X-Failed-Recipients: gone@there.example", "Return-Path: <>", "Return-Path: <MAILER-DAEMON>"),
        "Content-Type: multipart/report; boundary=x",
    ],
)
def test_each_field_that_bounces_have(field: str) -> None:
    """A field that bounces have stands for the sender's name: with it one sign of failure is enough, without it not."""
    head, rest = "From: Gate <gate@z.example>\n", "Subject: Undeliverable: News\n\nA word.\n"
    assert looks_like_bounce(letter(scan(f"{head}{field}\n{rest}".encode())))
    assert not looks_like_bounce(letter(scan(f"{head}X-Other: y\n{rest}".encode())))


@pytest.mark.parametrize("field", ["List-Id: <l.example>", "List-Post: <mailto:l@l.example>", "List-Unsubscribe: <x>", "Precedence: LIST"])
def test_no_post_of_a_list_is_a_bounce(field: str) -> None:
    """Every field of a list's post takes it out of question."""
    content = "Subject: Mail delivery failed\n\n<gone@there.example>: 550 5.1.1 unknown\n"
    assert looks_like_bounce(letter(scan(f"From: MAILER-DAEMON@z.example\n{content}".encode())))
    assert not looks_like_bounce(letter(scan(f"From: MAILER-DAEMON@z.example\n{field}\n{content}".encode())))


@pytest.mark.parametrize("field", ["Subject: Re: Undeliverable: News", "In-Reply-To: <m@ours.example>\nSubject: Undeliverable: News"])
def test_no_answer_of_a_person_is_a_bounce(field: str) -> None:
    """A reply with every other sign, but from no mail system, is a person's."""
    text = "gone@there.example could not be delivered: 550 5.1.1 no such user\n"
    assert not looks_like_bounce(letter(scan(f"From: Gate <gate@z.example>\n{field}\n\n{text}".encode())))


def test_to_whom_the_letter_was_sent_is_not_who_failed() -> None:
    """An address that the letter names as failed, and to which it was sent, is ours: the other one failed."""
    text = "<b+token@bounces.example>: see below\n<gone@there.example>: 550 5.1.1 unknown user\n"
    assert [status.final_recipient for status in _read(text).recipients] == ["gone@there.example"]


def test_unknown_sender_with_every_other_sign() -> None:
    """A letter from any sender is a bounce where subject, words and a reply all say so."""
    content = (
        b"From: Gate <gate@z.example>\nSubject: Undeliverable: News\n\ngone@there.example could not be delivered: 550 5.1.1 no such user\n"
    )
    assert isinstance(read(content), DeliveryReport)


def test_flufl_gets_a_bounded_copy() -> None:
    """flufl.bounce finds its addresses in a copy, whatever header and nesting the message has."""
    content = b"X-Failed-Recipients: gone@there.example\nFrom: MAILER-DAEMON@z.example\nSubject: x\n\n" + b"line\n" * (FLUFL_LIMIT // 2)
    assert flufl_addresses(scan(content)) == ["gone@there.example"]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"From:\n\n<<<<", samples.QMAIL[:200], b"From: a@b.example\nSubject: \xff\n\n\x00\n"])
def test_flufl_cannot_raise(content: bytes) -> None:
    """What makes flufl.bounce raise by itself, mail without From among it, is an empty answer."""
    assert flufl_addresses(scan(content)) == []


def test_signs() -> None:
    """The samples that are bounces without MIME look like one; those that are not do not."""
    for name in ("qmail", "exim", "dma", "sendmail"):
        assert looks_like_bounce(letter(scan(samples.BOUNCES[name])))
    for name in ("list-post", "person", "unsubscribe"):
        assert not looks_like_bounce(letter(scan(samples.NO_BOUNCES[name])))


def test_daemon_that_names_nobody() -> None:
    """A daemon's letter that says in subject and text that delivery failed is a report on a recipient without name, with its reason."""
    text = b"Subject: Undeliverable mail\n\nThe message could not be delivered.\nReason: 552 5.2.2 mailbox full\n"
    report = read(b"From: MAILER-DAEMON@z.example\n" + text)
    assert isinstance(report, DeliveryReport)
    assert [status.address for status in report.recipients] == [None]
    assert report.recipients[0].reply is not None
    assert report.recipients[0].reply.code == 552
    assert isinstance(read(b"From: Carol <carol@z.example>\n" + text), Unrecognized)
