"""Text as rules see it: one case, one blank, no accents, no addresses, no codes of a multi-line reply.

For: making the same complaint look the same, whoever wrote it. Never: unbounded work; what comes after MAX_TEXT characters is not read.
Linear in the length of the text, whatever the text.
"""

import re
import string
import unicodedata
from functools import lru_cache

MAX_TEXT = 4096
"""Characters of a text that are judged."""

# A local part says nothing about why (mailboxfull@, blocked@), its domain may (a provider's).
_LOCAL_PART = string.ascii_letters + string.digits + "_.+=~/-"
_DOMAIN_START = (*string.ascii_letters, *string.digits, "_", "[")
# "550-5.7.26 ", "550 5.7.26 " and "550-" stand between the lines of one sentence (RFC 5321 section 4.2.1).
# The digit stands before its look-behind: so the search skips what cannot begin a code.
_REPLY_CODE = re.compile(r"[245](?<![\d.].)\d\d(?:[- ][245]\.\d{1,3}\.\d{1,3}(?![\d.])|-(?=[^\d\W]|\s))")
_APOSTROPHES = {"’": "'", "‘": "'", "`": "'", "´": "'", "“": '"', "”": '"', "«": '"', "»": '"', "‐": "-", "‑": "-", "–": "-"}
_APOSTROPHE = re.compile(f"[{''.join(_APOSTROPHES)}]")
# No combining character is a letter.
_MARK = re.compile(r"[^\w\s\x00-\x7f]")
# Letters of ASCII and of other scripts are told apart: Japanese joins them ("smtpサーバ") without a blank.
_WORD = re.compile(r"[a-z0-9]+|[^\W\x00-\x7f]+")
# Thai to Khmer, kana and ideographs are written without blanks, Korean joins endings to its words: every two neighbours count as a word.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]")


# Who judges a text and who quotes it fold it one after the other.
@lru_cache(maxsize=4)
def fold(text: str) -> str:
    """Return the first MAX_TEXT characters of `text` in the form that phrases are written in."""
    text = text[:MAX_TEXT]
    if "@" in text:
        text = _without_local_parts(text)
    text = _REPLY_CODE.sub(" ", text)
    return fold_phrase(text)


def fold_phrase(phrase: str) -> str:
    """Fold case, blanks, accents and quotation marks; a phrase of a rule is folded by this alone."""
    if not phrase.isascii():
        phrase = _plain(phrase)
    return " ".join(phrase.casefold().split())


def spellings(phrase: str) -> tuple[str, ...]:
    """Return a phrase as folded, and as systems without umlauts or apostrophes write it: "Empfaenger", "doesnt"."""
    composed = unicodedata.normalize("NFC", phrase).casefold()
    digraphs = composed.replace("ä", "ae").replace("ö", "oe").replace("ü", "ue")
    written = dict.fromkeys((phrase, digraphs, composed.replace("n't", "nt")))
    return tuple(dict.fromkeys(map(fold_phrase, written)))


def words(folded: str) -> set[str]:
    """Return the words of a folded text; of scripts without blanks, every pair of neighbouring characters."""
    found = set(_WORD.findall(folded))
    if not folded.isascii():
        runs = [word for word in found if len(word) > 1 and _UNSPACED.search(word)]
        found.difference_update(runs)
        for run in runs:
            found.update(map(str.__add__, run, run[1:]))
    return found


def _without_local_parts(text: str) -> str:
    pieces = text.split("@")
    for place, after in enumerate(pieces[1:]):
        if after.startswith(_DOMAIN_START):
            pieces[place] = pieces[place].rstrip(_LOCAL_PART)
    return "@".join(pieces)


def _plain(text: str) -> str:
    """Drop accents, and the difference between wide, narrow and composed characters."""
    decomposed = unicodedata.normalize("NFKD", _APOSTROPHE.sub(lambda found: _APOSTROPHES[found[0]], text))
    bare = _MARK.sub(lambda found: "" if unicodedata.combining(found[0]) else found[0], decomposed)
    return unicodedata.normalize("NFC", bare)
