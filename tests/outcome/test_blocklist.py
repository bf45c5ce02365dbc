"""Who refuses, what of ours, and where to ask: read from the texts of refusals."""

import pytest

from bounced.outcome import Blocker
from bounced.outcome.ruleset import RuleSet
from tests.outcome.cases import RULES, weighed


@pytest.mark.parametrize(
    ("text", "name", "ours", "delisting"),
    [
        (
            "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/192.0.2.1",
            "Spamhaus",
            "192.0.2.1",
            "https://www.spamhaus.org/query/ip/192.0.2.1",
        ),
        (
            "554 5.7.1 Client host [192.0.2.9] blocked using bl.spamcop.net",
            "SpamCop",
            "192.0.2.9",
            "https://www.spamcop.net/bl.shtml",
        ),
        ("554 5.7.1 Rejected: 192.0.2.1 listed at bl.example.org", "bl.example.org", "192.0.2.1", None),
        (
            "Connected to 192.0.2.80 but sender was rejected. Remote host said: 554 5.7.1 192.0.2.1 is listed at bl.example.org",
            "bl.example.org",
            "192.0.2.1",
            None,
        ),
        (
            "host mx.example.com [192.0.2.80] said: 554 5.7.1 Client host [192.0.2.1] blocked using bl.example.org",
            "bl.example.org",
            "192.0.2.1",
            None,
        ),
        ("550 5.7.1 blocked using RBL.Example.NET.", "rbl.example.net", None, None),
        (
            "554 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1",
            "Proofpoint",
            "192.0.2.1",
            "https://ipcheck.proofpoint.com/?ip=192.0.2.1",
        ),
        (
            "550-5.7.26 Unauthenticated email from example.org is not accepted due to domain's DMARC policy. gsmtp",
            "google",
            "example.org",
            None,
        ),
        (
            "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent (S3150). see http://mail.live.com/mail/troubleshooting.aspx#errors.",
            "microsoft",
            "192.0.2.1",
            "http://mail.live.com/mail/troubleshooting.aspx#errors",
        ),
        ("550-5.7.25 [2001:db8::25] The IP address sending this message does not have a PTR record. gsmtp", "google", "2001:db8::25", None),
        ("550 5.7.1 2001:db8:0:0:0:0:0:25 is listed in Spamhaus", "Spamhaus", "2001:db8:0:0:0:0:0:25", "https://check.spamhaus.org/"),
        ("554 5.7.1 999.1.1.1 127.0.0.2 is listed in Spamhaus", "Spamhaus", None, "https://check.spamhaus.org/"),
    ],
)
def test_blocker(text: str, name: str, ours: str | None, delisting: str | None) -> None:
    """The list or provider, our address or domain, and the address for removal are found where the text tells them."""
    assert weighed(text).outcome.blocker == Blocker(name=name, ours=ours, delisting=delisting)


def test_no_blocker_without_a_name() -> None:
    """A refusal that names nobody has no blocker."""
    assert weighed("550 5.7.1 message rejected").outcome.blocker is None


def test_no_blocker_without_a_refusal() -> None:
    """A dead mailbox has no blocker, though the text names a provider."""
    assert weighed("550 5.1.1 user unknown - gsmtp").outcome.blocker is None


def test_operator_names_his_own_list() -> None:
    """A [[blocklist]] of the operator is found like ours."""
    text = '[[blocklist]]\nname = "House list"\nmarks = ["bl.house.example"]\ndelisting = "https://house.example/"\n'
    rules: RuleSet = RULES.with_rules({"own.toml": text})
    outcome = weighed("550 5.7.1 192.0.2.1 blocked using bl.house.example", rules=rules).outcome
    assert outcome.blocker == Blocker(name="House list", ours="192.0.2.1", delisting="https://house.example/")
