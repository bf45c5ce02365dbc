"""The lists of others: each form is recognized by its columns, told in our words, and what is no block is rejected."""

import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounced.address import AddressKey, address_keys
from bounced.record import Cause
from bounced.scope import EVERYWHERE, Scope
from bounced.takeover import Page, Taken, blocks_of, imported, pages_of_csv, pages_of_rows, rows_in

AT = 1_586_552_585  # 2020-04-10 21:03:05 UTC
JOE = AddressKey("joe@example.org")


def read(pages: Iterable[Page]) -> list[tuple[str, Taken | str]]:
    """Give, for each row, the form and the block, or the reason why it is none; the blocks of a page before what it refuses."""
    found: list[tuple[str, Taken | str]] = []
    for page in pages:
        blocks, refused = blocks_of(page)
        name = page.form.name if page.form else ""
        for one in blocks:
            found += [(name, one._replace(keys=[key], since=[since])) for key, since in zip(one.keys, one.since, strict=True)]
        found += [(name, why) for why in refused.values()]
    return found


def of_csv(text: str, rows_of_each: int = 2000) -> list[tuple[str, Taken | str]]:
    return read(pages_of_csv(text.splitlines(keepends=True), rows_of_each))


def of_json(content: object) -> list[tuple[str, Taken | str]]:
    return read(pages_of_rows(enumerate(rows_in(content), 1), 2000))


def block(cause: Cause, category: str, since: int | None = AT) -> Taken:
    return Taken(EVERYWHERE, cause, category, None, [JOE], [since])


HARD, COMPLAINT, LEFT, MANUAL = (
    block(Cause.HARD, "undetermined"),
    block(Cause.COMPLAINT, "complaint"),
    block(Cause.COMPLAINT, "opt-out"),
    block(Cause.MANUAL, "manual"),
)
TEMPORARY = "it failed for a while only"


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        (f"EmailAddress,Reason,LastUpdateTime\n{JOE},BOUNCE,2020-04-10T21:03:05+00:00\n", "ses", HARD),
        (f"EmailAddress,Reason,LastUpdateTime\n{JOE},COMPLAINT,2020-04-10T23:03:05.000000+02:00\n", "ses", COMPLAINT),
        (
            f"status,reason,email,created\n5.1.1,550 5.1.1 no such user,{JOE},{AT}\n",
            "sendgrid",
            block(Cause.HARD, "no-such-user"),
        ),
        (f"status,reason,email,created\n4.2.2,452 4.2.2 full,{JOE},{AT}\n", "sendgrid", TEMPORARY),
        (f"email,created,ip\n{JOE},2020-04-10 21:03:05,192.0.2.1\n", "sendgrid", COMPLAINT),
        (f"email,created\n{JOE},{AT}\n", "sendgrid", LEFT),
        (f'address,code,error,created_at\n{JOE},550,No such mailbox,"Fri, 10 Apr 2020 21:03:05 UTC"\n', "mailgun", HARD),
        (f'address,code,error,created_at\n{JOE},452,"full, try later","Fri, 10 Apr 2020 21:03:05 GMT"\n', "mailgun", TEMPORARY),
        (f'address,tags,created_at\n{JOE},*,"Fri, 10 Apr 2020 21:03:05 +0000"\n', "mailgun", LEFT),
        (f'address,created_at\n{JOE},"Fri, 10 Apr 2020 21:03:05 +0000"\n', "mailgun", COMPLAINT),
        (f"EmailAddress,SuppressionReason,Origin,CreatedAt\n{JOE},HardBounce,Recipient,2020-04-10T17:03:05-04:00\n", "postmark", HARD),
        (
            f"EmailAddress,SuppressionReason,Origin,CreatedAt\n{JOE},SpamComplaint,Recipient,2020-04-10T17:03:05-04:00\n",
            "postmark",
            COMPLAINT,
        ),
        (f"recipient,type,source,description,created\n{JOE},transactional,Bounce Rule,550,2020-04-10T21:03:05Z\n", "sparkpost", HARD),
        (f"recipient,type,source,description,created\n{JOE},non_transactional,List Unsubscribe,,2020-04-10T21:03:05Z\n", "sparkpost", LEFT),
        (f"Email Address,First Name,CLEAN_TIME,LEID\n{JOE},Joe,2020-04-10 21:03:05,7\n", "mailchimp", HARD),
        (f"Email Address,First Name,UNSUB_TIME,UNSUB_REASON\n{JOE},Joe,2020-04-10 21:03:05,NORMAL\n", "mailchimp", LEFT),
        (f"email,reason,detail,created_at,expired\n{JOE},hard-bounce,550 user,2020-04-10 21:03:05,no\n", "mandrill", HARD),
        (
            f"email,reason,detail,created_at,expired\n{JOE},soft-bounce,,2020-04-10 21:03:05,no\n",
            "mandrill",
            "its word for why is none that suppresses",
        ),
        (f"email,delivery_status\n{JOE},by_bounces\n", "mailman", block(Cause.HARD, "undetermined", None)),
        (f"email,delivery_status\n{JOE},by_user\n", "mailman", "its word for why is none that suppresses"),
        (f"uuid,email,name,status,updated_at\nx,{JOE},Joe,blocklisted,2020-04-10 21:03:05+00\n", "listmonk", MANUAL),
        (
            f"uuid,email,name,status,updated_at\nx,{JOE},Joe,enabled,2020-04-10 21:03:05\n",
            "listmonk",
            "its word for why is none that suppresses",
        ),
        (f"address,scope,cause,category,since,until\n{JOE},*,soft,mailbox-full,{AT},\n", "bounced", block(Cause.SOFT, "mailbox-full")),
        (f"address,scope,cause,category,since,until\n{JOE},*,odd,mailbox-full,{AT},\n", "bounced", "its cause is no word of ours"),
        (f"name,E-Mail,Created\nJoe,{JOE},2020-04-10 21:03:05\n", "list", MANUAL),
        (f"# dead ones\n\n{JOE}\n", "list", block(Cause.MANUAL, "manual", None)),
        (f"\ufeffemail,note\n{JOE},x\n", "list", block(Cause.MANUAL, "manual", None)),
        ("not an address\n", "list", "the address has no local part, no @ or no domain"),
    ],
)
def test_each_list_is_recognized_by_its_columns(text: str, name: str, expected: Taken | str) -> None:
    """A row of each form gives cause, category and date in our words, or the reason why it is no block."""
    assert of_csv(text) == [(name, expected)]


@pytest.mark.parametrize(
    ("content", "name", "expected"),
    [
        (
            {"SuppressedDestinationSummaries": [{"EmailAddress": JOE, "Reason": "BOUNCE", "LastUpdateTime": AT}], "NextToken": "x"},
            "ses",
            HARD,
        ),
        (
            {"Suppressions": [{"EmailAddress": JOE, "SuppressionReason": "HardBounce", "CreatedAt": "2020-04-10T21:03:05Z"}]},
            "postmark",
            HARD,
        ),
        (
            {"items": [{"address": JOE, "code": "550", "error": "gone", "created_at": "Fri, 10 Apr 2020 21:03:05 UTC"}], "paging": {}},
            "mailgun",
            HARD,
        ),
        ({"items": [{"address": JOE, "tags": ["*"], "created_at": "Fri, 10 Apr 2020 21:03:05 UTC"}]}, "mailgun", LEFT),
        (
            {
                "results": [
                    {"recipient": JOE, "type": "transactional", "source": "Spam Complaint", "created": "2020-04-10T21:03:05+00:00"}
                ],
                "links": [],
            },
            "sparkpost",
            COMPLAINT,
        ),
        (
            {
                "data": {
                    "results": [
                        {"email": JOE, "type": "hard", "source": "api", "campaign": None, "created_at": "2020-04-10T21:03:05Z", "meta": {}}
                    ]
                }
            },
            "listmonk",
            HARD,
        ),
        ([{"email": JOE, "reason": "550 5.1.1 x", "status": "5.1.1", "created": AT}], "sendgrid", block(Cause.HARD, "no-such-user")),
        ([JOE], "list", block(Cause.MANUAL, "manual", None)),
    ],
)
def test_what_an_api_gives_is_read(content: object, name: str, expected: Taken | str) -> None:
    """The rows are found however deep they lie in the JSON of an API."""
    assert of_json(content) == [(name, expected)]


def test_a_stream_of_our_own_export_is_kept() -> None:
    """A block of one stream stays in it; one that names no stream that could be is rejected."""
    head = "address,scope,cause,category,since,until\n"
    ((_, found),) = of_csv(f"{head}{JOE},news,complaint,complaint,{AT},{AT + 9}\n")
    assert found == Taken(Scope("news"), Cause.COMPLAINT, "complaint", AT + 9, [JOE], [AT])
    assert "a scope is" in str(of_csv(f"{head}{JOE},Bad Scope,hard,x,,\n")[0][1])


def test_dates_that_cannot_be_are_of_the_import() -> None:
    """A block without a date, or with one of the future, began when it was taken over."""
    events = [imported(block(Cause.HARD, "undetermined"), JOE, since, at=AT, by="olga", source="list") for since in (None, AT + 999, 5)]

    assert [event.since for event in events] == [AT, AT, 5]


ODD = """email,reason,created
joe@example.org,"two
lines, one row",1586552585
JOE@Example.Org,x,2020-04-10 21:03:05
# a comment
=1,x,1586552585

short@example.org
 blanks@example.org ,x,never
a..b@example.org,x,1
j@x.example,x,0001-01-01T00:00:00
late@x.example,x,99999999999999999999
joe@-bad.example,x,1
"""


@pytest.mark.parametrize("rows_of_each", [1, 2, 3, 100])
def test_the_size_of_pages_does_not_matter(rows_of_each: int) -> None:
    """However many rows are read at once, each is the same block or is refused with its line, where it ends, and its text."""
    taken: dict[str, int | None] = {}
    refused: dict[int, str] = {}
    for page in pages_of_csv(ODD.splitlines(keepends=True), rows_of_each):
        blocks, why = blocks_of(page)
        assert all(one.cause is Cause.HARD for one in blocks)
        taken |= {key: since for one in blocks for key, since in zip(one.keys, one.since, strict=True)}
        refused |= {page.line[place]: page.rows[place][0] for place in why}

    assert taken == {
        "joe@example.org": AT,
        "short@example.org": None,
        "blanks@example.org": None,
        "a..b@example.org": 1,
        "j@x.example": -62_135_596_800,
        "late@x.example": None,
    }
    assert refused == {6: "=1", 13: "joe@-bad.example"}


@given(st.lists(st.one_of(st.text(max_size=8), st.from_regex(r"\A[A-Za-z.-]{0,3}@[A-Za-z0-9.-]{0,9}\n?\Z"), st.emails())))
def test_many_addresses_are_read_as_each_alone(written: list[str]) -> None:
    """What is read together is what each gives by itself, without the blanks around it."""
    together, refused = address_keys(written)
    for place, text in enumerate(written):
        (alone,), why = address_keys([f" {text}"])  # a blank is no plain address, so it is read by itself
        assert (together[place], place in refused) == (alone, 0 in why)


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    """Whatever stands in a file, each row is a block or is rejected; nothing is raised but what the CSV reader says of itself."""
    import csv

    try:
        of_csv(text)
    except csv.Error:
        pass


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_any_json_is_read(content: object) -> None:
    """Whatever JSON it is, no row of it raises."""
    of_json(json.loads(json.dumps(content)))
    for column in ("email", "status", "reason", "created"):
        of_json([{"email": JOE, "status": "5.1.1", "reason": "x", "created": AT} | {column: content}])
