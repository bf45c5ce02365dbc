"""Who sends bounces: names of mail systems, with and without the fields that bounces should have."""

import pytest

from bounced.report import AutomaticReply, DeliveryReport
from bounced.report.reader import read

_FIELDS = ["", "Return-Path: <>\n", "Auto-Submitted: auto-replied\n", "Auto-Submitted: auto-generated\nReturn-Path: <x@x.example>\n"]
_LETTERS = [
    (
        "Undeliverable mail",
        "Your message could not be delivered to the following recipient:\n\n  joe@example.net\n\nReason: 550 User unknown\n",
    ),
    ("Delivery Status Notification (Failure)", "Delivery to joe@example.net failed.\n\nUser unknown.\n"),
    ("Returned mail: User unknown", "550 joe@example.net... User unknown\n"),
]


@pytest.mark.parametrize("fields", _FIELDS)
@pytest.mark.parametrize(
    "sender",
    [
        "MAILER-DAEMON",
        "<>",
        "postmaster",
        "Postmaster <postmaster>",
        "Mail Delivery System <noreply@x.example>",
        "Mail Delivery Service <x@x.example>",
        "System Attendant <exch-sa@x.example>",
        "Microsoft Outlook <MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@x.example>",
        "smtp-daemon@x.example",
    ],
)
def test_daemons(sender: str, fields: str) -> None:
    """A letter of a mail system's own mailbox is a bounce, also where it calls itself an automatic reply."""
    for subject, text in _LETTERS:
        report = read(f"{fields}From: {sender}\nSubject: {subject}\n\n{text}".encode())
        assert isinstance(report, DeliveryReport), subject
        assert [status.address for status in report.recipients] == ["joe@example.net"]


@pytest.mark.parametrize("sender", ["noreply@x.example", "Lotus Notes <mailadmin@x.example>", "root@x.example", "Acme <info@x.example>"])
def test_notices_of_others(sender: str) -> None:
    """An automatic letter of any sender that opens as a bounce and names who failed is one; one that speaks of its own sender is not."""
    subject, text = _LETTERS[0]
    head = f"Auto-Submitted: auto-replied\nFrom: {sender}\nSubject: {subject}\n\n"
    assert isinstance(read((head + text).encode()), DeliveryReport)
    own = "Auto-Submitted: auto-replied\nFrom: Joe <joe@example.net>\n"
    for opening in (f"Subject: {subject}\n\n", "Subject: Away\n\n"):
        assert isinstance(read((own + opening + text).encode()), AutomaticReply)
    assert isinstance(read(f"Auto-Submitted: auto-replied\nFrom: {sender}\nSubject: Away\n\n{text}".encode()), AutomaticReply)
