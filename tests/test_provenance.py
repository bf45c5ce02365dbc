"""Provenance: whose mail came back."""

import pytest

from bounced.address import AddressKey
from bounced.provenance import ADVICE, Ours, Provenance, judge, left_here
from bounced.report import Returned
from bounced.returnpath import Claims, Refusal
from bounced.scope import Scope

OURS = Ours(hosts=frozenset({"mail.example.net"}), domains=frozenset({"example.net"}))
CLAIMS = Claims(recipient=AddressKey("ada@example.org"), scope=Scope("news"), signed_at=1, token="t")
WENT_THROUGH_US = Returned(
    received=("from a by mx.example.org; Mon", "from web1 (web1 [192.0.2.1])\n by Mail.Example.NET. (Postfix) with ESMTP")
)
HAS_OUR_ID = Returned(message_id="<20260301.1@Example.Net>")
STRANGER = Returned(message_id="<1@example.com>", received=("from mail.example.net by mx.example.com", "by", ""))


def test_a_genuine_token_is_ours_whatever_is_returned() -> None:
    """A token that proves itself makes the mail ours; told before it is a replay."""
    for returned in (None, STRANGER, HAS_OUR_ID):
        assert judge(CLAIMS, returned, OURS) is Provenance.OURS
        assert judge(CLAIMS, returned, OURS, told_before=True) is Provenance.REPLAY


def test_a_token_that_nobody_asked_for_is_a_warning() -> None:
    """A genuine token that no mailer asked for says that somebody else signs or sends by our means."""
    assert judge(CLAIMS, None, OURS, announced=False) is Provenance.COMPROMISED


@pytest.mark.parametrize("refusal", [Refusal.FOREIGN, Refusal.FORGED, Refusal.UNKNOWN_KEY])
def test_without_token_the_returned_headers_tell(refusal: Refusal) -> None:
    """Without a genuine token it is forged, unless the message went through a server of ours or bears our kind of Message-ID."""
    assert judge(refusal, None, OURS) is Provenance.FORGED
    assert judge(refusal, STRANGER, OURS) is Provenance.FORGED
    assert judge(refusal, WENT_THROUGH_US, OURS) is Provenance.COMPROMISED
    assert judge(refusal, HAS_OUR_ID, OURS) is Provenance.COMPROMISED


@pytest.mark.parametrize("refusal", [Refusal.EXPIRED, Refusal.FUTURE, Refusal.FORGOTTEN])
def test_genuine_but_out_of_time(refusal: Refusal) -> None:
    """A token that we did make, out of its time, is no forgery."""
    assert judge(refusal, None, OURS) is Provenance.REPLAY


def test_every_refusal_has_a_provenance() -> None:
    """Whatever the return path proves, there is an answer, and advice for it."""
    assert {judge(refusal, None, OURS) for refusal in Refusal} | {Provenance.OURS, Provenance.COMPROMISED} == set(ADVICE)
    assert "SPF" in ADVICE[Provenance.FORGED]
    assert "DMARC" in ADVICE[Provenance.FORGED]
    assert "credentials" in ADVICE[Provenance.COMPROMISED]


@pytest.mark.parametrize(
    "returned",
    [
        Returned(),
        Returned(message_id=""),
        Returned(message_id="example.net"),
        Returned(message_id="<1@sub.example.net>"),
        Returned(received=("from mail.example.net by",)),
        Returned(received=("from evil by mail.example.net.evil.example",)),
    ],
)
def test_what_only_looks_alike_is_not_ours(returned: Returned) -> None:
    """Subdomains, other places of the word and names that merely begin like ours are not ours."""
    assert left_here(returned, OURS) == (returned.message_id == "example.net")
