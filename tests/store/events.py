"""Events for the tests of the stores: short to write, and different where a test says so."""

from msgspec import structs

from bounced.address import AddressKey
from bounced.outcome import Blocker, Category, Disposition, Outcome
from bounced.record import Blocked, Bounced, Complained, Confirmed, Delivered, Noticed, Released, Reverted, Sent
from bounced.scope import EVERYWHERE, Scope

ANNA = AddressKey("anna@example.org")
BERT = AddressKey("bert@example.org")
NEWS = Scope("news")
NOON = 1_750_000_000
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def seal(number: int) -> str:
    """Return the token of the mail of this number, in the shape of a real one."""
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in range(22, -1, -1))


def outcome(disposition: Disposition) -> Outcome:
    """Return an outcome with everything that one can have."""
    return Outcome(
        disposition=disposition,
        category={Disposition.HARD: Category.NO_SUCH_USER, Disposition.SOFT: Category.MAILBOX_FULL}.get(disposition, Category.BLOCKED_IP),
        rule="example",
        evidence="mailbox",
        diagnostic="550 5.1.1 no such mailbox \udc80\0\u2028 here",
        status="5.1.1",
        blocker=Blocker(name="Example list", ours="192.0.2.1"),
    )


def bounced(mail: int, disposition: Disposition = Disposition.SOFT, key: AddressKey = ANNA, at: int = NOON) -> Bounced:
    """Return a bounce of the mail of this number."""
    return Bounced(
        at=at, key=key, scope=NEWS, token=seal(mail), signed_at=at - 60, outcome=outcome(disposition), reader="rfc3464", client="192.0.2.9"
    )


def unsigned(mail: int, disposition: Disposition = Disposition.SOFT, key: AddressKey = ANNA, at: int = NOON) -> Bounced:
    """Return a bounce of the mail of this number that no seal proves."""
    return structs.replace(bounced(mail, disposition, key, at), unsigned="verp")


def complained(mail: int, key: AddressKey = ANNA, at: int = NOON) -> Complained:
    """Return a complaint about the mail of this number."""
    return Complained(at=at, key=key, scope=NEWS, token=seal(mail), signed_at=at - 60, feedback_type="abuse")


def noticed(mail: int, key: AddressKey = ANNA, at: int = NOON) -> Noticed:
    """Return a notice about the mail of this number."""
    return Noticed(at=at, key=key, scope=NEWS, token=seal(mail), signed_at=at - 60, what="delayed", reader="rfc3464")


def delivered(key: AddressKey = ANNA, at: int = NOON) -> Delivered:
    """Return the word that a mail arrived."""
    return Delivered(at=at, key=key, scope=NEWS, by="mailer")


def sent(mail: int, key: AddressKey = ANNA, at: int = NOON) -> Sent:
    """Return the signing of the mail of this number."""
    return Sent(at=at, key=key, scope=NEWS, token=seal(mail))


def confirmed(key: AddressKey = ANNA, at: int = NOON) -> Confirmed:
    """Return an operator's word that what an incident held is true."""
    return Confirmed(at=at, key=key, scope=EVERYWHERE, incident="outage-20250615-aaaaa", by="olga", reason="a purge")


def reverted(key: AddressKey = ANNA, at: int = NOON) -> Reverted:
    """Return an operator's word that what an incident held is false."""
    return Reverted(at=at, key=key, scope=EVERYWHERE, incident="outage-20250615-aaaaa", by="olga", reason="they were ill")


def blocked(key: AddressKey = ANNA, scope: Scope = EVERYWHERE, at: int = NOON) -> Blocked:
    """Return an operator's block."""
    return Blocked(at=at, key=key, scope=scope, by="olga", reason="")


def released(key: AddressKey = ANNA, scope: Scope = EVERYWHERE, at: int = NOON) -> Released:
    """Return an operator's release."""
    return Released(at=at, key=key, scope=scope, by="olga", reason="she called")
