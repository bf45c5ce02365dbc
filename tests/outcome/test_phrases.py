"""Folding and finding: what counts as the same words, and where a phrase ends."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounced.outcome.fold import MAX_TEXT, fold, fold_phrase, spellings, words
from bounced.outcome.phrases import GAP, Found, PhraseIndex, usable
from bounced.outcome.similarity import sample_of, similarity_key
from tests.outcome.cases import RULES


def found(text: str, *phrases: str, names: tuple[str, ...] = ()) -> set[str]:
    """Search `text` for phrases."""
    index = PhraseIndex.build(map(fold_phrase, phrases), names=map(fold_phrase, names))
    return {one.phrase for one in index.search(fold(text))}


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("User  UNKNOWN\r\n\there", "user unknown here"),
        ("Boîte pleine", "boite pleine"),
        ("wasn’t “here”", 'wasn\'t "here"'),
        ("<joe.bloggs+x@example.net>: gone", "<@example.net>: gone"),
        ("550-5.7.26 Unauthenticated\n550 5.7.26 email", "unauthenticated email"),
        ("550-the lines", "the lines"),
        ("554-30 mails", "554-30 mails"),
        ("192.0.2.550 1550", "192.0.2.550 1550"),
        ("ＦＵＬＬ　ｗｉｄｔｈ", "full width"),
        ("STRASSE Straße", "strasse strasse"),
    ],
)
def test_fold(text: str, folded: str) -> None:
    """Case, blanks, accents, widths, addresses and repeated reply codes make no difference."""
    assert fold(text) == folded


def test_spellings_of_a_phrase() -> None:
    """A phrase is known as systems without umlauts or apostrophes write it too; another one has one spelling."""
    assert spellings("Empfänger unbekannt") == ("empfanger unbekannt", "empfaenger unbekannt")
    assert spellings("user doesn't exist") == ("user doesn't exist", "user doesnt exist")
    assert spellings("user unknown") == ("user unknown",)


def test_every_accent_is_dropped() -> None:
    """Whatever Unicode lays over a letter is dropped, and nothing else that is no letter."""
    accents = [char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.combining(char)]
    assert len(accents) > 800
    assert fold_phrase(f"o{''.join(accents)}k。") == "ok。"


def test_fold_is_bounded() -> None:
    """No more than MAX_TEXT characters are looked at."""
    assert fold("x" * MAX_TEXT + " user unknown") == "x" * MAX_TEXT


def test_words_of_scripts_without_blanks() -> None:
    """Japanese and Korean give pairs of neighbours, so a phrase is found inside a sentence without blanks."""
    assert words("宛先不明 smtp") == {"宛先", "先不", "不明", "smtp"}
    assert found("550このメールは宛先不明です", "宛先不明") == {"宛先不明"}
    assert found("사용자입니다", "사용자") == {fold_phrase("사용자")}


@pytest.mark.parametrize(
    ("text", "phrase", "stands"),
    [
        ("no such user here", "such user", True),
        ("no such users here", "such user", False),
        ("xsuch user", "such user", False),
        ("such users, such user", "such user", True),
        ("user joe unknown", "user * unknown", True),
        ("user unknown", "user * unknown", True),
        (f"user {'x' * GAP} unknown", "user * unknown", False),
        ("user joe. it is unknown", "user * unknown", False),
        ("user one. user two unknown", "user * unknown", True),
        ("unknown user", "user * unknown", False),
        ("a b", "a * b * c", False),
        ("a x b y c", "a * b * c", True),
        ("mail is spam", "spam", True),
        ("antispam.example.net", "spam", False),
        ("spam.example.net", "spam", False),
        ("x-spam-flag", "spam", False),
        ("see https://example.net/spam", "spam", False),
        ("spam.example.net says spam.", "spam", True),
        ("ящик переполнен", "переполнен", True),
    ],
)
def test_where_a_phrase_stands(text: str, phrase: str, stands: bool) -> None:
    """A phrase stands between word ends; `*` spans a name, not a sentence; single words are not looked for in names and URLs."""
    assert (found(text, phrase) == {phrase}) is stands


def test_hostile_repetition_is_given_up() -> None:
    """The beginning of a gapped phrase, or a word in names, repeated for ever, is tried a few times only."""
    assert found("user. " * 50 + "user x unknown", "user * unknown") == set()
    assert found("spam.x " * 50 + "spam", "spam") == set()


def test_names_are_found_everywhere() -> None:
    """Names of lists and providers are found inside host names and URLs."""
    assert found("see http://www.spamhaus.org/x", "other", names=("spamhaus",)) == {"spamhaus"}


def test_usable() -> None:
    """A phrase needs a word, and words on both sides of each gap."""
    assert usable("user * unknown")
    assert not any(map(usable, ["", "!!", "* unknown", "user *", "a * * b"]))


@given(st.text(max_size=200), st.lists(st.text(min_size=1, max_size=12).map(fold_phrase).filter(usable), max_size=6))
def test_index_agrees_with_plain_search(text: str, phrases: list[str]) -> None:
    """What the index finds stands in the text; what stands between blanks is found."""
    folded = fold(text)
    plain = [phrase for phrase in phrases if "*" not in phrase]
    for one in PhraseIndex.build(plain).search(folded):
        assert isinstance(one, Found)
        assert folded[one.start : one.end] == one.phrase
    for phrase in plain:
        assert phrase in {one.phrase for one in PhraseIndex.build([phrase]).search(f"x {phrase} x")}


def test_similar_texts_share_a_key() -> None:
    """Names of people, hosts, times and messages make no difference; the words do."""
    first = similarity_key("550 5.9.9 <joe@example.net>: Frobnicated by mx1.example.net [192.0.2.1] at 12:00 (qid ABC123)")
    second = similarity_key("554 <jane@example.org>: frobnicated by mail.example.org [198.51.100.7] at 09:31 (qid 9F31)")
    assert first == second == "frobnicated by at qid"
    assert similarity_key("550 Transmogrified") == "transmogrified"
    assert similarity_key("550 192.0.2.1") == ""


@given(st.text(max_size=6000))
def test_similarity_is_total_and_bounded(text: str) -> None:
    """Every text has a key of at most 200 characters."""
    assert len(similarity_key(text)) <= 200


_VOCABULARY = sorted({word for pair in RULES.phrases.by_pair for word in pair} | RULES.phrases.alone)[::7]
_PIECES = st.sampled_from(
    [*RULES.by_phrase, *_VOCABULARY, "joe", "x12", "198.51.100.7", "5.1.1", "mx1.example.net", "://", "_", "é", "宛先不明"]
)
_GLUE = st.sampled_from([" ", " ", " ", ". ", "", "-", ".", "; ", "@", "'s ", " [", "] "])


@given(st.lists(st.tuples(_PIECES, _GLUE), max_size=12))
def test_essence_holds_every_phrase_that_the_text_does(pieces: list[tuple[str, str]]) -> None:
    """Without the words that no phrase holds the same phrases are found; what is quoted for one stands in the text and holds its parts."""
    folded = fold("".join(piece.replace("*", "somebody") + glue for piece, glue in pieces))
    essence = RULES.phrases.essence(folded)
    whole, short = ({one.phrase for one in RULES.phrases.search(text) if "*" not in one.phrase} for text in (folded, essence))
    assert short == whole
    for one in RULES.phrases.search(essence):
        quoted = RULES.phrases.quote(folded, essence, one)
        first, *_, last = [part.strip() for part in one.phrase.split("*")] * 2
        assert quoted in folded
        assert quoted.startswith(first)
        assert quoted.endswith(last)


def test_essence_leaves_out_what_names_one_mail() -> None:
    """Host names, ids and numbers are blotted out, words of phrases are not, unless they stand where no phrase has them."""
    assert PhraseIndex.build(["user unknown"]).essence("user unknown, user joe") == "user unknown, user XXXX"
    assert PhraseIndex.build(["user unknown"]).essence("unknown user") == "XXXXXXXX XXXX"
    index = PhraseIndex.build(["user * unknown"])
    assert index.essence("mx1: user joe unknown [id 4f-x] elsewhere") == "XXXX: user XXXX unknown [XXXX XXXX-XXXX] XXXXXXXXXXXX"
    assert index.quote("mx1: user joe unknown", "XXXX: user XXXX unknown", Found("user * unknown", 6, 23)) == "user joe unknown"
    # Negative control: with a word of the phrase blotted out too, it is found no more.
    assert not set(index.search(index.essence("user joe unknown").replace("user", "XXXX")))
    assert set(index.search(index.essence("user joe unknown")))


def test_a_sample_names_nobody() -> None:
    """Of addresses, also in return paths and quoted, the domains are left; the text is one bounded line that a terminal may show."""
    assert sample_of("550 <joe@example.net>: b+x+jane=example.org@b.test") == "550 <*@example.net>: *@b.test"
    assert sample_of('to "joe smith"@example.net, jane=example.org, id=7') == "to *@example.net, *=example.org, id=7"
    assert sample_of("a\x1b[2J\nb\udc80") == "a [2J b "
    assert sample_of("用户@例え.test " + "x" * 400) == "*@例え.test " + "x" * 290
