"""Fields that stand as RFC 3464 wants them are parted the short way; it gives what the long way gives."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bounced.report import delivery_status

_USUAL = """Reporting-MTA: dns; mx.example.net
X-Queue: 4F

Final-Recipient: rfc822; joe@example.org
Original-Recipient: rfc822;Joe@example.org
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 user
    unknown

Action: failed
Final-Recipient: rfc822; jane@example.org
Status: 5.1.1
"""
_LINES = st.sampled_from([
    *_USUAL.split("\n"), "", "", "", " ", " folded", "\tfolded", "Action : delayed", "status: 5.0.0", "no field", "X-bad name: y", ": z",
    "Final-Recipient: rfc822; max@example.org",
    "Original-Recipient: rfc822; max@example.org", "X-Actual-Recipient: rfc822; eve@example.org",
    "Subject: a name that is no field of reports", "Arrival-Date: now",
])  # fmt: skip


def on_one_line(parted: tuple[dict[str, str], list[dict[str, str]]] | None) -> object:
    """Unfold all values: that is done by who reads them."""
    return parted and [{name: " ".join(value.split()) for name, value in group.items()} for group in (parted[0], *parted[1])]


def test_usual_report_goes_the_short_way() -> None:
    """What Postfix and Exim write needs no other way; and a block without final recipient does."""
    parted = delivery_status._usual_groups(_USUAL)
    assert parted is not None
    assert [group["final-recipient"] for group in parted[1]] == ["rfc822; joe@example.org", "rfc822; jane@example.org"]
    assert on_one_line(parted) == on_one_line(delivery_status._any_groups(_USUAL))
    # Negative control: a field that lost its recipient belongs to the recipient before it, which only the long way knows.
    assert delivery_status._usual_groups(f"{_USUAL}\nStatus: 5.2.2\n") is None


@settings(max_examples=1500, deadline=None)
@given(st.lists(_LINES, max_size=14), st.booleans())
def test_both_ways_agree(lines: list[str], after_usual: bool) -> None:
    """However fields and blank lines stand: where the short way is gone, it gives the same groups."""
    text = (_USUAL if after_usual else "Reporting-MTA: dns; mx.example.net\n\n") + "\n".join(lines)
    short = delivery_status._usual_groups(text)
    assert short is None or on_one_line(short) == on_one_line(delivery_status._any_groups(text))
