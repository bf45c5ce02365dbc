"""Postfix's policy delegation protocol, line by line as smtpd(8) writes and reads it."""

import pytest

from bounced.query import Aside, Check, Clear, Garbled, SignedPath, Suppressed, Trouble
from bounced.query.policy_delegation import MAX_REQUEST, PolicyDelegation
from bounced.scope import DEFAULT_SCOPE, Scope

# As Postfix 3.7 writes it.
RCPT = (
    b"request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address=127.0.0.1\nclient_name=localhost\n"
    b"client_port=52764\nreverse_client_name=localhost\nserver_address=127.0.0.1\nserver_port=25\nhelo_name=mailer.example\n"
    b"sender=b@bounces.example.net\nrecipient=dead@remote.test\nrecipient_count=0\nqueue_id=\ninstance=3e6b.637cb5a2.1.0\nsize=0\n"
    b"etrn_domain=\nstress=\nsasl_method=\nsasl_username=\nsasl_sender=\nccert_subject=\nccert_issuer=\nccert_fingerprint=\n"
    b"ccert_pubkey_fingerprint=\nencryption_protocol=\nencryption_cipher=\nencryption_keysize=0\npolicy_context=\n\n"
)


def test_a_recipient_is_checked() -> None:
    """A request in the RCPT state asks for its recipient, in the default stream where Postfix names no context."""
    assert list(PolicyDelegation().feed(RCPT)) == [Check("dead@remote.test", DEFAULT_SCOPE)]


def test_the_policy_context_is_the_stream() -> None:
    """One service in master.cf can be asked for several streams, by the policy_context of each restriction."""
    request = RCPT.replace(b"policy_context=", b"policy_context=news")
    assert list(PolicyDelegation().feed(request)) == [Check("dead@remote.test", Scope("news"))]


@pytest.mark.parametrize(
    ("was", "became"),
    [
        (b"=RCPT", b"=DATA"),
        (b"=RCPT", b"=MAIL"),
        (b"dead@remote.test", b""),
        (b"smtpd_access_policy", b"junk_policy"),
        (b"protocol_state", b"x"),
    ],
)
def test_other_requests_are_none_of_ours(was: bytes, became: bytes) -> None:
    """Other states and other requests are left to the other restrictions."""
    assert list(PolicyDelegation().feed(RCPT.replace(was, became))) == [Aside()]


def test_answers() -> None:
    """Suppressed refuses, clear leaves it to the other restrictions, and what we cannot tell defers."""
    codec = PolicyDelegation()
    (question,) = codec.feed(RCPT)
    assert codec.render(question, Suppressed("no")) == b"action=550 5.7.1 no\n\n"
    assert codec.render(question, Clear()) == b"action=DUNNO\n\n"
    assert codec.render(question, Trouble("later")) == b"action=451 4.3.0 later\n\n"
    assert codec.render(question, SignedPath("b@x")) == b"action=451 4.3.0 nobody asked for a return path\n\n"
    assert not codec.closes(question)
    assert codec.closes(Garbled("x"))


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"\n\n", "the request is not lines of name=value"),
        (b"request\n\n", "the request is not lines of name=value"),
        (b"request=smtpd_access_policy\nx=\0\n\n", "the request is not lines of name=value"),
        (b"recipient=joe@x.test\n\n", "the request does not say what it requests"),
        (b"x=" + b"y" * MAX_REQUEST, f"the request is longer than {MAX_REQUEST} octets"),
        (b"x=" + b"y" * MAX_REQUEST + b"\n\n", f"the request is longer than {MAX_REQUEST} octets"),
    ],
)
def test_broken_requests(octets: bytes, reason: str) -> None:
    """What smtpd(8) would never write is told so, and the connection is not read on."""
    codec = PolicyDelegation()
    assert list(codec.feed(octets)) == [Garbled(reason)]
    assert codec.feed(RCPT) == ()
