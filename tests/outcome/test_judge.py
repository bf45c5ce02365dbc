"""Which row speaks: precedence, contradictions, providers, codes, actions; and that judging is total."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bounced.outcome import Category, Disposition, Outcome
from bounced.outcome import judge as judging
from bounced.outcome.judge import MAX_DIAGNOSTIC, UNMATCHED, judge, judge_feedback, weigh
from bounced.outcome.ruleset import RuleSet
from bounced.report import Action, FeedbackReport, RecipientStatus
from bounced.status import Reply, StatusCode
from tests.outcome.cases import RULES, judged, recipient, weighed

FIELD = tomllib.loads((Path(__file__).parent / "field.toml").read_text("utf-8"))
NEVER_HARD = tomllib.loads((Path(__file__).parent / "never_hard.toml").read_text("utf-8"))["texts"]
SOURCES = [tomllib.loads((Path(__file__).parent / name).read_text("utf-8")) for name in ("replies.toml", "languages.toml")]
GATEWAYS = tomllib.loads((Path(__file__).parent / "gateways.toml").read_text("utf-8"))
_FIELD_TEXTS = [*NEVER_HARD, *(text for rows in (FIELD, *SOURCES) for row in rows.values() for text in row["texts"])]


@pytest.mark.parametrize(
    ("meaning", "text"), [(meaning, text) for rows in (FIELD, *SOURCES) for meaning, row in rows.items() for text in row["texts"]]
)
def test_replies_of_the_field(meaning: str, text: str) -> None:
    """What servers write in the field is judged as a careful reader judges it."""
    assert " ".join(judged(text)) == meaning


@pytest.mark.parametrize("meaning", GATEWAYS)
def test_replies_of_gateways(meaning: str) -> None:
    """What filters, providers and servers of all ages write is judged as a careful reader judges it."""
    assert {text: " ".join(judged(text)) for text in GATEWAYS[meaning]["texts"] if " ".join(judged(text)) != meaning} == {}


@pytest.mark.parametrize(("meaning", "text"), [(meaning, row["texts"][0]) for meaning, row in FIELD.items()])
def test_wrapping_and_case_do_not_matter(meaning: str, text: str) -> None:
    """The same words shouted, or broken over lines with tabs, mean the same."""
    code, _, words = text.partition(" ")
    assert " ".join(judged(f"{code} {words.upper()}")) == meaning
    assert " ".join(judged(f"{code} " + words.replace(" ", "\n\t "))) == meaning


def test_deadly_words_about_others_are_not_hard() -> None:
    """A login, a HELO, a sender, a probe that failed: the words are deadly, the recipient is not meant."""
    assert [text for text in NEVER_HARD if judged(text)[0] == "hard"] == []


def test_words_go_before_codes() -> None:
    """A phrase beats the status beside it."""
    assert judged("550 5.7.1 No such user") == ("hard", "no-such-user")
    assert judged("550 5.2.1 User unknown") == ("hard", "no-such-user")


def test_exact_status_goes_before_a_family_and_a_reply() -> None:
    """5.2.2 is a full mailbox, 5.2.99 is only something about the mailbox, and both go before the reply code."""
    assert judged("550 5.2.2 x") == ("soft", "mailbox-full")
    assert judged("550 5.2.99 x") == ("soft", "undetermined")
    assert judged("530 5.2.2 x") == ("soft", "mailbox-full")


def test_status_of_the_reply_is_believed_before_the_reports() -> None:
    """A report that says 5.0.0 or 5.1.2 over a reply of 5.1.1 means 5.1.1."""
    for told in ("5.0.0", "5.1.2"):
        outcome = weighed("550 5.1.1 x", status=told).outcome
        assert (outcome.category, outcome.status) == (Category.NO_SUCH_USER, "5.1.1")


def test_derived_status_yields_to_a_frame() -> None:
    """A status that the report made of a bare 550 or 552 is less than any words: Sendmail says 5.1.1 of a refusal too."""
    assert judged("550 Rejected", status="5.1.1") == ("blocked", "policy")
    assert judged("550 5.1.1 Rejected", status="5.1.1") == ("hard", "no-such-user")
    assert judged("552 mailbox not found", status="5.2.2") == ("hard", "no-such-user")
    assert judged("input/output error", status="5.2.2") == ("soft", "mailbox-full")


def test_doubt_softens_a_death() -> None:
    """What is said to pass is soft, though the words beside it are deadly; the dialogue with another host far off casts no doubt."""
    assert judged("550 Mailbox unavailable, try again later") == ("soft", "no-such-user")
    assert judged("550 user unknown (temporary failure)") == ("soft", "no-such-user")
    assert judged(f"550 user unknown {'x' * 120} temporary failure") == ("hard", "no-such-user")


def test_refusal_doubts_a_mere_code() -> None:
    """5.1.1 without a word for it, but with words of refusal, is soft; a bare `rejected` may be meant for the address."""
    assert judged("550 5.1.1 Message rejected") == ("soft", "no-such-user")
    assert judged("550 5.1.1 <joe@example.net> rejected") == ("hard", "no-such-user")
    assert judged("550 5.1.1 Message rejected: user unknown") == ("hard", "no-such-user")


def test_firm_status_is_heard_beside_words() -> None:
    """A deciding code that cannot be meant for a dead mailbox (sender refused, full) goes before deadly words."""
    assert judged("550 5.1.7 Invalid address")[0] == "blocked"
    assert judged("550 5.2.2 user unknown") == ("soft", "mailbox-full")
    assert judged("550 5.7.1 user unknown") == ("hard", "no-such-user")


def test_judging_does_not_depend_on_hashes() -> None:
    """The same text is judged and explained alike in processes with other hash seeds."""
    script = (
        "from tests.outcome.cases import weighed\n"
        "from tests.outcome.test_judge import FIELD\n"
        "for row in FIELD.values():\n"
        "    for text in row['texts']:\n"
        "        print(weighed(text).outcome, [(hit.rule.id, hit.evidence) for hit in weighed(text).hits])\n"
    )
    root = Path(__file__).resolve().parents[2]
    told = [
        subprocess.run([sys.executable, "-c", script], cwd=root, env={"PYTHONHASHSEED": seed}, check=True, capture_output=True).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1] != b""


def test_longer_phrase_covers_the_words_inside() -> None:
    """`access denied` inside a phrase that means a dead mailbox is not heard."""
    judgement = weighed("550 Mailbox unavailable or access denied")
    assert judgement.outcome.category is Category.NO_SUCH_USER
    assert {hit.rule.category for hit in judgement.hits} == {Category.NO_SUCH_USER}


@pytest.mark.parametrize(
    "refusal",
    [
        "blocked using zen.spamhaus.org",
        "your IP address has been blocked",
        "rejected as spam",
        "SPF check failed",
        "sender address rejected",
        "mailbox over quota",
        "too many connections",
        "message too large",
        "this account is temporarily disabled",
    ],
)
@pytest.mark.parametrize("death", ["5.1.1 user unknown", "5.1.1", "no such user here", "Host unknown", "mailbox disabled", "5.1.2"])
def test_contradictions_are_never_hard(refusal: str, death: str) -> None:
    """A report that names a death and a refusal or limit of any kind never blocks the recipient."""
    for text in (f"550 {death}: {refusal}", f"550 {refusal}; {death}"):
        assert weighed(text).outcome.disposition is not Disposition.HARD


def test_contradiction_control() -> None:
    """Negative control: the same deaths without a refusal are hard."""
    for death in ("5.1.1 user unknown", "5.1.1", "no such user here", "Host unknown", "mailbox disabled", "5.1.2"):
        assert weighed(f"550 {death}").outcome.disposition is Disposition.HARD


def test_name_of_a_host_or_mailbox_is_no_evidence() -> None:
    """Words in addresses, host names and URLs say nothing: spamfilter.example.net may report a dead mailbox."""
    assert judged("550 5.1.1 <mailboxfull@example.net>: user unknown") == ("hard", "no-such-user")
    assert judged("host antispam.example.net said: 550 user unknown") == ("hard", "no-such-user")
    assert judged("550 user unknown, see https://example.net/spam/virus") == ("hard", "no-such-user")


def test_temporary_code_softens() -> None:
    """A 4xx reply, or a 4.x.x status where no reply is told, keeps a dead-looking address alive."""
    assert judged("450 4.1.1 user unknown") == ("soft", "no-such-user")
    assert judged("user unknown", status="4.1.1") == ("soft", "no-such-user")
    assert judged("user unknown", status="5.1.1") == ("hard", "no-such-user")


def test_permanent_reply_goes_before_a_temporary_status() -> None:
    """Some queues report 4.0.0 over a reply of 550: the reply decides."""
    assert judged("550 user unknown", status="4.0.0") == ("hard", "no-such-user")


def test_firm_row_is_not_softened() -> None:
    """NXDOMAIN is final even where the queue says 4.0.0."""
    assert judged("DNS type 'mx' lookup of exmaple.net responded with code NXDOMAIN", status="4.0.0") == ("hard", "no-such-domain")


@pytest.mark.parametrize("text", ["550", "554 5.0.0", "550 <joe@example.net>", "5.0.0", "571 xyzzy", ""])
def test_bare_permanent_class_is_soft(text: str) -> None:
    """A permanent class that says nothing else never blocks at once."""
    outcome = weighed(text).outcome
    assert (outcome.disposition, outcome.rule) == (Disposition.SOFT, UNMATCHED)


@pytest.mark.parametrize("code", [*range(400, 600, 1)])
def test_no_reply_code_alone_is_hard(code: int) -> None:
    """No reply code without words or an enhanced status is hard."""
    assert judged(f"{code} x")[0] != "hard"


def test_provider_scope() -> None:
    """A Gmail 4.2.1 is a rate limit; the same code of anybody else is an inactive mailbox, for now."""
    assert judged("450 4.2.1 x", mta="dns; gmail-smtp-in.l.google.com") == ("soft", "rate-limited")
    assert judged("450 4.2.1 x - gsmtp") == ("soft", "rate-limited")
    assert judged("450 4.2.1 x", address="joe@gmail.com") == ("soft", "rate-limited")
    assert judged("450 4.2.1 x", mta="dns; mta5.am0.yahoodns.net") == ("soft", "inactive")
    assert judged("450 4.2.1 x", mta="dns; mta5.am0.yahoodns.net", address="joe@gmail.com") == ("soft", "inactive")


def test_status_row_with_a_reply_needs_the_reply() -> None:
    """A row with status and reply is silent where only the status is told."""
    text = '[[rule]]\nid = "both"\ncategory = "virus"\nstatus = "5.9.9"\nreply = 571\nexample = "571 5.9.9"\n'
    rules = RuleSet.parse({"a.toml": text})
    assert judged("571 5.9.9", rules=rules) == ("blocked", "virus")
    assert judged("550 5.9.9", rules=rules) == ("soft", "undetermined")


def test_provider_of_the_reporter_counts_last() -> None:
    """Who only reports is the provider where nobody else is known."""
    status = recipient("450 4.2.1 x")
    assert judge(status, "dns; mail-sor-f41.google.com", RULES).category is Category.RATE_LIMITED
    assert judge(status, None, RULES).category is Category.INACTIVE


@pytest.mark.parametrize("action", [Action.DELIVERED, Action.RELAYED, Action.EXPANDED])
def test_success_counts_for_nothing(action: Action) -> None:
    """Notices of success have no effect, whatever they say."""
    outcome = judge(recipient("550 5.1.1 user unknown", action=action), None, RULES)
    assert (outcome.disposition, outcome.category) == (Disposition.NONE, Category.DELIVERED)


def test_delay_counts_for_nothing_but_has_a_cause() -> None:
    """A delay notice has no effect; its text's category is told, and `expired` where it gives none."""
    assert judged("452 4.2.2 mailbox full", action=Action.DELAYED) == ("none", "mailbox-full")
    assert judged("", action=Action.DELAYED) == ("none", "expired")


def test_winner_is_named_with_its_words() -> None:
    """The outcome names the rule and the words that decided, as folded; the text is kept, bounded."""
    outcome = weighed("550 5.1.1 <joe@example.net>... User   Unknown " + "x" * 5000).outcome
    assert (outcome.rule, outcome.evidence) == ("user-unknown", "user unknown")
    assert len(outcome.diagnostic) == MAX_DIAGNOSTIC


def test_reply_that_the_text_lacks_is_read_too() -> None:
    """A reply told apart from the diagnostic is evidence as well."""
    status = RecipientStatus(action=Action.FAILED, reply=Reply(550, None, "user unknown"), diagnostic="delivery failed")
    assert judge(status, None, RULES).category is Category.NO_SUCH_USER


def test_text_beyond_the_bound_is_not_read() -> None:
    """What stands after 4 KiB of text decides nothing."""
    assert judged("550 " + "x " * 2100 + "user unknown") == ("soft", "undetermined")


def test_own_rows_lie_over_ours() -> None:
    """Where an operator's row applies, ours are silent, whatever they would say."""
    text = '[[rule]]\nid = "mine"\ncategory = "policy"\nphrases = ["unknown"]\nexample = "550 unknown"\n'
    rules = RULES.with_rules({"own.toml": text})
    assert judged("550 5.1.1 user unknown", rules=rules) == ("blocked", "policy")
    assert judged("550 5.1.1 no such user", rules=rules) == ("hard", "no-such-user")


def test_own_row_with_our_id_replaces_ours() -> None:
    """A row with the id of one of ours takes its place."""
    text = '[[rule]]\nid = "status-bad-mailbox"\ncategory = "undetermined"\nstatus = "x.1.1"\nexample = "550 5.1.1"\n'
    rules = RULES.with_rules({"own.toml": text})
    assert len(rules.rows.rules) == len(RULES.rows.rules)
    assert judged("550 5.1.1", rules=rules) == ("soft", "undetermined")


def test_row_with_several_conditions_needs_all() -> None:
    """A row with phrase, status, reply and provider applies where all hold, and nowhere else."""
    text = """
[[provider]]
id = "acme"
hosts = ["acme.example"]
[[rule]]
id = "all"
category = "virus"
phrases = ["frobnicated"]
status = "5.7.*"
reply = "5xx"
provider = "acme"
example = "550 5.7.1 frobnicated"
example_mta = "mx.acme.example"
"""
    rules = RuleSet.parse({"a.toml": text})
    assert judged("550 5.7.1 frobnicated", rules=rules, mta="mx.acme.example") == ("blocked", "virus")
    for short in ("550 5.1.1 frobnicated", "450 5.7.1 frobnicated", "550 5.7.1 other", "5.7.1 frobnicated"):
        assert judged(short, rules=rules, mta="mx.acme.example") == ("soft", "undetermined")
    assert judged("550 5.7.1 frobnicated", rules=rules, mta="mx.other.example") == ("soft", "undetermined")


@pytest.mark.parametrize("condition", ['status = "4.4.*"', 'reply = "4xx"', 'provider = "acme"'])
@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_of_equal_words_the_row_with_more_conditions_speaks(condition: str, names: tuple[str, str]) -> None:
    """A row that asks for a status, a reply or a provider besides its words goes before one that does not, whatever their ids."""
    text = f"""
[[provider]]
id = "acme"
hosts = ["acme.example"]
[[rule]]
id = "{names[0]}"
category = "network"
phrases = ["frobnicated"]
example = "frobnicated"
[[rule]]
id = "{names[1]}"
category = "expired"
phrases = ["frobnicated"]
{condition}
example = "450 4.4.9 frobnicated"
example_mta = "mx.acme.example"
"""
    rules = RuleSet.parse({"a.toml": text})
    assert judged("450 4.4.9 frobnicated", rules=rules, mta="mx.acme.example") == ("soft", "expired")
    assert judged("frobnicated", rules=rules) == ("soft", "network")


@pytest.mark.parametrize(
    ("feedback_type", "category"),
    [("abuse", "complaint"), ("opt-out", "complaint"), ("", "complaint"), ("auth-failure", "auth-failure"), ("virus", "virus")],
)
def test_feedback(feedback_type: str, category: str) -> None:
    """A feedback report is a complaint; auth-failure and virus reports are about us; none has a disposition of its own."""
    outcome = judge_feedback(FeedbackReport(reader="feedback", feedback_type=feedback_type))
    assert (outcome.disposition, outcome.category) == (Disposition.NONE, Category(category))


_WORDS = st.sampled_from([*sorted(RULES.by_phrase), "550", "5.1.1", "4.2.2", "<joe@example.net>", "\n", "*", "@", "\u0130", "ﬁ", "554-"])
_CODES = st.builds(StatusCode, st.sampled_from([2, 4, 5]), st.integers(0, 999), st.integers(0, 999))
_STATUSES = st.builds(
    RecipientStatus,
    action=st.sampled_from(Action),
    final_recipient=st.none() | st.text(max_size=40),
    original_recipient=st.none() | st.text(max_size=40),
    status=st.none() | _CODES,
    reply=st.none() | st.builds(Reply, st.integers(0, 999), st.none() | _CODES, st.text(max_size=60)),
    diagnostic=st.text(max_size=300) | st.lists(_WORDS, max_size=12).map(" ".join),
    remote_mta=st.none() | st.text(max_size=40),
)


@settings(max_examples=300, deadline=None)
@given(_STATUSES, st.none() | st.text(max_size=40))
def test_judging_is_total(status: RecipientStatus, reporting_mta: str | None) -> None:
    """Whatever a reader produces is judged without an exception, and a delay or success is never more than nothing."""
    outcome = judge(status, reporting_mta, RULES)
    assert (outcome.disposition is Disposition.NONE) == (status.action is not Action.FAILED)
    assert outcome.rule
    assert outcome == judge(status, reporting_mta, RULES) == weigh(status, reporting_mta, RULES).outcome


def remembered(text: str) -> Outcome:
    """Judge `text` as intake does, which remembers."""
    return judge(recipient(text), None, RULES)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(_FIELD_TEXTS), st.from_regex(r"[a-z]{1,9}[0-9]{0,4}", fullmatch=True), st.booleans())
def test_what_is_remembered_is_what_would_be_weighed(text: str, name: str, delayed: bool) -> None:
    """A text judged before, with other names in it, is judged as if it came for the first time; its evidence is its own."""
    remembered(text)
    action = Action.DELAYED if delayed else Action.FAILED
    status = recipient(f"{text} ({name}@example.net, id {name})".replace("joe", name), address=f"{name}@example.net", action=action)
    assert judge(status, None, RULES) == weigh(status, None, RULES).outcome


def test_memory_is_bounded() -> None:
    """A flood of texts of which no two are alike is forgotten again, and long texts are not remembered at all."""
    before = remembered("550 user unknown")
    for number in range(3000):
        remembered(f"550 user {'unknown ' * (number % 20)}{'x' * (number % 150)}")
    held = [memory.cache_info() for memory in (judging._said, judging._verdict)]
    assert all(0 < one.currsize <= (one.maxsize or 0) <= 2048 for one in held)
    remembered("550 user unknown " * 100)
    assert [memory.cache_info().misses for memory in (judging._said, judging._verdict)] == [one.misses for one in held]
    assert remembered("550 user unknown") == before


def test_rules_do_not_share_what_they_remember() -> None:
    """Another rule set judges the same text by its own rows."""
    row = '[[rule]]\nid = "mine"\ncategory = "policy"\nphrases = ["user unknown"]\nexample = "550 user unknown"\n'
    assert remembered("550 user unknown").category == "no-such-user"
    assert judge(recipient("550 user unknown"), None, RULES.with_rules({"mine.toml": row})).category == "policy"
    assert remembered("550 user unknown").category == "no-such-user"


_PLAIN = [rule for rule in RULES.rows.rules if rule.phrases and not (rule.provider or rule.statuses or rule.replies or rule.weak)]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_refusal_is_outvoted(data: st.DataObject) -> None:
    """No phrase that means a death is heard over a phrase that means a refusal."""
    refusing = data.draw(st.sampled_from([rule for rule in _PLAIN if rule.disposition == "blocked"]))
    deadly = data.draw(st.sampled_from([rule for rule in _PLAIN if rule.disposition == "hard"]))
    phrases = [data.draw(st.sampled_from(rule.phrases)).replace("*", "x") for rule in (deadly, refusing)]
    assert weighed(f"550 {' ||| '.join(phrases)}").outcome.disposition is not Disposition.HARD
