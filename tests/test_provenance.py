"""Provenance: whose mail came back."""

import pytest

from bounced.address import AddressKey
from bounced.provenance import ADVICE, Ours, Provenance, judge, left_here
from bounced.report import Returned
from bounced.returnpath import Claims, Refusal
from bounced.scope import Scope

NAMED = Ours(hosts=frozenset({"mail.example.net", "out.example.net"}), domains=frozenset({"example.net"}))
NUMBERED = Ours(hosts=NAMED.hosts | {"9.9.9.9", "2620:fe::fe"})
CLAIMS = Claims(recipient=AddressKey("ada@example.org"), scope=Scope("news"), signed_at=1, token="t")

SUBMITTED = "from laptop (unknown [198.51.100.7])\n by Mail.Example.NET. (Postfix) with ESMTPSA id 4X; Mon"
TAKEN = "from mail.example.net (mail.example.net [9.9.9.9]) by mx.example.org (Postfix) with ESMTP id 5Y; Mon"
TAKEN_V6 = "from mail.example.net (mail.example.net. [IPv6:2620:fe::fe]) by mx.example.org with ESMTPS id 5Y; Mon"
TAKEN_BY_EXIM = "from [9.9.9.9] (helo=mail.example.net) by mx.example.org with esmtps (Exim 4.96); Mon"
TAKEN_FROM_A_LIAR = "from mail.example.net (dsl.example.com [8.8.4.4]) by mx.example.org (Postfix) with ESMTP id 5Y; Mon"
TAKEN_FROM_A_STRANGER = "from dsl.example.com (dsl.example.com [8.8.4.4]) by mx.example.org (Postfix) with ESMTP id 5Y; Mon"
WITHIN = "from mail.example.net (localhost [127.0.0.1]) by out.example.net (Postfix) with ESMTP id 6Z; Mon"
ONWARD = "from mx.example.org (mx.example.org [8.8.8.8]) by store.example.org with LMTP; Mon"

LEFT_US = [
    (SUBMITTED,),
    (WITHIN, SUBMITTED),
    (TAKEN, SUBMITTED),
    (TAKEN_V6, SUBMITTED),
    (TAKEN_BY_EXIM, SUBMITTED),
    (TAKEN.replace("mail.example.net", "out.example.net"), WITHIN, SUBMITTED),
]
FORGED = [
    (TAKEN_FROM_A_STRANGER,),
    (TAKEN_FROM_A_STRANGER, SUBMITTED),
    (ONWARD, TAKEN_FROM_A_STRANGER, SUBMITTED),
    (ONWARD, TAKEN_FROM_A_STRANGER, TAKEN, SUBMITTED),
    (ONWARD, TAKEN, SUBMITTED),
    (TAKEN,),
    ("from mail.example.net by",),
    ("from evil by mail.example.net.evil.example",),
    ("", "by", "from"),
]


@pytest.mark.parametrize("lines", LEFT_US)
@pytest.mark.parametrize("ours", [NAMED, NUMBERED])
def test_mail_that_left_by_our_servers_is_told_by_the_chain(lines: tuple[str, ...], ours: Ours) -> None:
    """A Received line of ours, with none above it or one of who had the mail from us, says so; without a token that is a warning."""
    returned = Returned(received=lines)
    assert left_here(returned, ours)
    assert judge(Refusal.FOREIGN, returned, ours) is Provenance.COMPROMISED


@pytest.mark.parametrize("lines", FORGED)
@pytest.mark.parametrize("ours", [NAMED, NUMBERED])
def test_lines_that_a_forger_adds_below_say_nothing(lines: tuple[str, ...], ours: Ours) -> None:
    """Control: a line like ours, below that of a server which had the mail from a stranger or within, is no proof; nor a name like ours."""
    returned = Returned(received=lines, message_id="<1@example.net>")
    assert not left_here(returned, ours)
    assert judge(Refusal.FOREIGN, returned, ours) is Provenance.FORGED


def test_a_name_is_what_a_client_calls_itself() -> None:
    """Where an address of ours is known, a stranger who only says our name at HELO is not taken for us; where none is, he is."""
    returned = Returned(received=(TAKEN_FROM_A_LIAR, SUBMITTED))
    assert (left_here(returned, NAMED), left_here(returned, NUMBERED)) == (True, False)


def test_a_message_id_counts_where_nothing_contradicts() -> None:
    """Without any Received line a Message-ID of a domain of ours says that it is ours; with lines of others it says nothing."""
    assert left_here(Returned(message_id="<20260301.1@Example.Net>"), NAMED)
    assert not left_here(Returned(message_id="<20260301.1@Example.Net>", received=(TAKEN_FROM_A_STRANGER,)), NAMED)
    for other in ("", "example.net", "<1@sub.example.net>", "<1@example.net.evil.example>"):
        assert left_here(Returned(message_id=other), NAMED) == (other == "example.net")


def test_a_genuine_token_is_ours_whatever_is_returned() -> None:
    """A token that proves itself makes the mail ours."""
    for returned in (None, Returned(received=(TAKEN_FROM_A_STRANGER,)), Returned(received=(SUBMITTED,))):
        assert judge(CLAIMS, returned, NAMED) is Provenance.OURS


@pytest.mark.parametrize("refusal", [Refusal.FOREIGN, Refusal.FORGED, Refusal.UNKNOWN_KEY])
def test_without_token_and_headers_it_is_forged(refusal: Refusal) -> None:
    """Without a genuine token, and with nothing that says that it left here, somebody made the return path up."""
    assert judge(refusal, None, NAMED) is Provenance.FORGED
    assert judge(refusal, Returned(), NAMED) is Provenance.FORGED


@pytest.mark.parametrize("refusal", [Refusal.EXPIRED, Refusal.FUTURE, Refusal.FORGOTTEN])
def test_genuine_but_out_of_time(refusal: Refusal) -> None:
    """A token that we did make, out of its time, is no forgery."""
    assert judge(refusal, Returned(received=(SUBMITTED,)), NAMED) is Provenance.REPLAY


def test_every_refusal_has_a_provenance() -> None:
    """Whatever the return path proves, there is an answer, and advice for it."""
    assert {judge(refusal, None, NAMED) for refusal in Refusal} | {Provenance.OURS, Provenance.COMPROMISED} == set(ADVICE)
    assert "SPF" in ADVICE[Provenance.FORGED]
    assert "DMARC" in ADVICE[Provenance.FORGED]
    assert "credentials" in ADVICE[Provenance.COMPROMISED]
