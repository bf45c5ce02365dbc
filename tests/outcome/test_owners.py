"""Whose death is told: the same words with "your", "sender", "HELO" or another owner before them are never the recipient's."""

import pytest

from tests.outcome.cases import judged

_OWNERS = [
    "your",
    "sender",
    "sender's",
    "the sender",
    "return path",
    "return-path",
    "envelope sender",
    "from",
    "client",
    "bounce",
    "sending",
]
_NAMES = ["user", "mailbox", "account", "address", "email address", "e-mail address", "alias", "username"]
_GONE = ["not found", "was not found", "does not exist", "doesn't exist", "is unknown", "is invalid", "is not known", "could not be found"]
_CLOSED = ["is disabled", "has been suspended", "is inactive", "was closed", "has been deactivated", "has expired", "is no longer in use"]
_DOMAINS = ["domain", "host", "hostname", "domain name", "MX record"]
_BEHIND = ["for sender", "of the sender", "in MAIL FROM", "for your domain", "of your server", "in HELO", "for your FROM address"]


@pytest.mark.parametrize("owner", _OWNERS)
def test_the_senders_mailbox(owner: str) -> None:
    """A mailbox that is called ours is not the recipient's, whatever noun and verb are used."""
    texts = [f"550 {owner} {name} {gone}" for name in _NAMES for gone in (*_GONE, *_CLOSED)]
    assert [text for text in texts if judged(text)[0] == "hard"] == []


@pytest.mark.parametrize("owner", [*_OWNERS, "HELO", "EHLO", "MAIL FROM", "HELO mail.example.org:", "sender <news@example.org>:"])
def test_the_senders_domain(owner: str) -> None:
    """A domain or host of ours that is unknown is not the recipient's."""
    texts = [f"550 {owner} {name} {gone}" for name in _DOMAINS for gone in _GONE]
    assert [text for text in texts if judged(text)[0] == "hard"] == []


@pytest.mark.parametrize("behind", _BEHIND)
def test_the_owner_behind(behind: str) -> None:
    """It may be said behind the death too whose it is."""
    texts = [f"550 {name} {gone} {behind}" for name in _DOMAINS for gone in _GONE]
    assert [text for text in texts if judged(text)[0] == "hard"] == []


@pytest.mark.parametrize(
    "text",
    [
        "550 Ihr Konto wurde gesperrt",
        "550 Votre compte est suspendu",
        "550 su cuenta ha sido suspendida",
        "550 sua conta foi suspensa",
        "550 Twoje konto zostało zablokowane",
        "550 Ваш аккаунт заблокирован",
        "550 您的账号已被禁用",
        "550 Die Absenderadresse existiert nicht",
        "550 l'adresse de l'expéditeur n'existe pas",
        "550 indirizzo del mittente inesistente",
        "550 адрес отправителя не существует",
        "550 发件人地址不存在",
        "550 送信者のメールアドレスが存在しません",
    ],
)
def test_owners_in_other_languages(text: str) -> None:
    """The words for "your" and for the sender are known in other languages too."""
    assert judged(text)[0] != "hard"


def test_owners_control() -> None:
    """Negative control: without an owner, or with the recipient as owner, each of these deaths is one."""
    for name in ("user", "mailbox", "account", "address", "e-mail address", "alias", "username"):
        for gone in (*_GONE, *_CLOSED):
            assert judged(f"550 {name} {gone}")[0] == "hard", (name, gone)
    for text in (
        "550 cannot find your recipient",
        "550 your recipient address was not found",
        "550 response from server: user unknown",
        "550 发件人您好，收件人地址不存在",
        "550 Konto wurde gesperrt",
        "550 la cuenta ha sido suspendida",
    ):
        assert judged(text)[0] == "hard", text
