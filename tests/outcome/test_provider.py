"""Who refused: one name for a provider, however many hosts and domains it has."""

import pytest

from bounced.address import AddressKey
from bounced.outcome.provider import provider_of, registrable
from bounced.outcome.ruleset import RuleSet
from bounced.report import Action, RecipientStatus

RULES = RuleSet.builtin()
GSMTP = "550-5.1.1 The email account that you tried to reach does not exist. a1-2.3 - gsmtp"


@pytest.mark.parametrize(
    ("mailbox", "remote_mta", "diagnostic", "provider"),
    [
        ("ada@gmail.com", None, "", "google"),
        ("ada@firm.example", "dns; aspmx.l.google.com", "", "google"),
        ("ada@firm.example", "dns; ASPMX.L.GOOGLE.COM. (192.0.2.1, the server for the domain)", "", "google"),
        ("ada@firm.example", "aspmx.l.google.com", "", "google"),
        ("ada@firm.example", None, GSMTP, "google"),
        ("ada@biofresh.example", None, "550 5.1.1 <ada@biofresh.example>: no such user", "biofresh.example"),
        ("ada@firm.example", "dns; [192.0.2.1]", GSMTP, "google"),
        ("ada@gmail.com", "dns; mx.example.net", "", "google"),
        ("ada@firm.example", "dns; aspmx.l.google.com", "said by protection.outlook.com", "google"),
        ("ada@firm.example", "dns; mx1.mail.example.net", "550 no", "example.net"),
        ("ada@firm.example", "dns; mx1.mail.example.co.uk", "550 no", "example.co.uk"),
        ("ada@firm.example", "dns; localhost", "550 no", "firm.example"),
        ("ada@firm.example", "dns; x\udc80.evil example", "550 no", "firm.example"),
        ("ada@firm.example", "dns;", "550 no", "firm.example"),
        ("ada@firm.example", "", "550 no", "firm.example"),
        ("ada@[192.0.2.1]", None, "550 no", "[192.0.2.1]"),
    ],
)
def test_providers(mailbox: str, remote_mta: str | None, diagnostic: str, provider: str) -> None:
    """The remote host speaks first, then the mailbox's domain, then a mark in the text; unknown ones are named by a domain."""
    recipient = RecipientStatus(action=Action.FAILED, remote_mta=remote_mta, diagnostic=diagnostic)
    assert provider_of(recipient, AddressKey(mailbox), RULES) == provider


def test_without_a_report_the_mailbox_tells() -> None:
    """An automatic reply is counted to the provider of its mailbox, or to its domain."""
    assert provider_of(None, AddressKey("ada@gmail.com"), RULES) == "google"
    assert provider_of(None, AddressKey("ada@firm.example"), RULES) == "firm.example"


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("a.b.example.com", "example.com"),
        ("example.com", "example.com"),
        ("a.co.uk", "a.co.uk"),
        ("co.uk", "co.uk"),
        ("a.b.com.example", "com.example"),
    ],
)
def test_registrable(host: str, domain: str) -> None:
    """Two labels are kept, and three under the usual second levels of countries."""
    assert registrable(host) == domain


@pytest.mark.parametrize("label", ["ac", "co", "com", "edu", "gob", "gov", "gouv", "ne", "net", "nom", "or", "org"])
def test_second_levels_of_countries(label: str) -> None:
    """Under a country's second level three labels were registered; under the same word elsewhere two."""
    assert registrable(f"mx.firm.{label}.fr") == f"firm.{label}.fr"
    assert registrable(f"mx.firm.{label}.info") == f"{label}.info"
