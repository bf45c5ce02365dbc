"""Which of many phrases a text contains, without asking each of them.

For: the vocabulary of the rules. Never: regular expressions from data (one careless row stops the loop for seconds).
A phrase is found through its rarest pair of neighbouring words, one without such a pair through its rarest word. `*` in a phrase stands for
up to GAP characters of one sentence, or for none: `user * unknown`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import NamedTuple

from bounced.outcome.fold import words

GAP = 68
"""How many characters of an essence `*` may stand for: a name or an address, not a sentence."""

_TRIES = 8
"""How often the first part of a phrase with a gap is tried: a hostile text may repeat it for ever."""

_MAX_URL = 200
_SENTENCE = re.compile(r"[.;!?] ")
_GLUED = re.compile(r"[._-][a-zA-Z0-9]", re.ASCII)
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_ASCII_WORDS = re.compile(r"([a-z0-9]+)")
_ANY_WORDS = re.compile(r"([a-z0-9X]+)")
_BLOT = "XXXX"
_BLOTTED = 128
_BLOTS = [_BLOT * -(-length // len(_BLOT)) for length in range(_BLOTTED + 1)]
"""What stands for a word of so many letters. The last stands for longer ones too: it is longer than any distance that is measured."""


class Found(NamedTuple):
    """A phrase that stands in a text, at `start` to `end`."""

    phrase: str
    start: int
    end: int


class _Gapped(NamedTuple):
    """A phrase with gaps, and its parts between them."""

    phrase: str
    first: str
    rest: tuple[str, ...]


_Entry = str | _Gapped
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PhraseIndex:
    """Phrases by what is rarest in them: two ASCII words of one part that follow each other, else a word.

    `by_pair` has all such pairs of all phrases, with nothing where a rarer one leads to each of them. `alone` are the ASCII words that
    stand in a part without another, and those that are kept; `names` what is found inside host names too.
    """

    by_pair: Mapping[Pair, tuple[_Entry, ...]]
    by_word: Mapping[str, tuple[_Entry, ...]]
    alone: frozenset[str]
    names: frozenset[str]

    @classmethod
    def build(cls, phrases: Iterable[str], names: Iterable[str] = (), kept: Iterable[str] = ()) -> "PhraseIndex":
        """Index folded phrases, and `names`: those are found inside host names and URLs too, other phrases of one word are not.

        The words of `kept` stay in an essence though no phrase needs them: who judges looks at what stands beside a phrase.
        """
        loose = frozenset(names)
        distinct = sorted({*phrases, *loose})
        often_pairs, often = Counter[Pair](), Counter[str]()
        alone = set(kept)
        led: list[tuple[str, list[Pair], set[str]]] = []
        # One object a word and a pair, not one for each place where it stands: a megabyte of the daemon's memory.
        one_word: dict[str, str] = {}
        one_pair: dict[Pair, Pair] = {}
        for phrase in distinct:
            parts = [[one_word.setdefault(word, word) for word in _ASCII_WORD.findall(part)] for part in phrase.split("*")]
            alone.update(part[0] for part in parts if len(part) == 1)
            pairs = [one_pair.setdefault(pair, pair) for part in parts for pair in pairwise(part)]
            spoken = set(chain.from_iterable(parts)) if phrase.isascii() else words(phrase)
            often_pairs.update(pairs)
            often.update(spoken)
            led.append((phrase, pairs, set() if pairs else spoken))
        by_pair: dict[Pair, tuple[_Entry, ...]] = dict.fromkeys(often_pairs, ())
        by_word: dict[str, tuple[_Entry, ...]] = {}
        for phrase, pairs, spoken in led:
            first, *rest = map(str.strip, phrase.split("*"))
            entry = _Gapped(phrase, first, tuple(rest)) if rest else phrase
            if pairs:
                by_pair[min([(often_pairs[pair], pair) for pair in pairs])[1]] += (entry,)
            else:
                _, _, word = min([(often[word], -len(word), word) for word in spoken])
                by_word[word] = (*by_word.get(word, ()), entry)
        return cls(by_pair, by_word, frozenset(alone), loose)

    def essence(self, folded: str) -> str:
        """Return a folded text with every ASCII word blotted out that no phrase holds beside its neighbours: it counts as four letters,
        eight or twelve, as long as it is.

        The search finds in it what stands in the text, since phrases end where words end; only gaps are measured in the essence. Names,
        numbers and ids are gone, so what a server says to a thousand recipients is a few texts. Nothing folded holds a capital.
        """
        return "".join(self._essential(_ASCII_WORDS.split(folded)))

    def quote(self, folded: str, essence: str, found: Found) -> str:
        """Return what stands in `folded` where `found` stands in its essence."""
        if "*" not in found.phrase:
            return found.phrase
        begin, end = (_place(folded, essence, at) for at in (found.start, found.end))
        return folded[begin:end]

    def _essential(self, pieces: list[str]) -> list[str]:
        spoken = pieces[1::2]
        known = self.alone.intersection(spoken).union(*(self.by_pair.keys() & pairwise(spoken)))
        pieces[1::2] = [word if word in known else _BLOTS[min(len(word), _BLOTTED)] for word in spoken]
        return pieces

    def search(self, folded: str) -> Iterator[Found]:
        """Yield every indexed phrase that stands in `folded`, at its first place."""
        spoken = _ASCII_WORD.findall(folded)
        entries = [led for led in map(self.by_pair.get, set(pairwise(spoken))) if led]
        by_word = self.by_word
        entries += [by_word[word] for word in by_word.keys() & (set(spoken) if folded.isascii() else words(folded))]
        for entry in chain.from_iterable(entries):
            if isinstance(entry, str):
                if entry in folded and (at := self._at(entry, folded)):
                    yield Found(entry, *at)
            elif entry.first in folded and (at := _with_gaps(entry, folded)):
                yield Found(entry.phrase, *at)

    def _at(self, phrase: str, folded: str) -> tuple[int, int] | None:
        # One word must be a word of the sentence.
        if phrase.isalpha() and phrase not in self.names:
            return _spoken(phrase, folded)
        return _whole(phrase, folded, 0, len(folded))


def _place(folded: str, essence: str, at: int) -> int:
    """Return where in `folded` the end of a word or of what stands between words is, that is at `at` in its essence."""
    ahead = _ANY_WORDS.split(essence[:at])
    written = _ASCII_WORDS.split(folded, len(ahead) // 2)[: len(ahead) - 1]
    return len("".join(written)) + len(ahead[-1])


def usable(folded: str) -> bool:
    """Tell whether a folded phrase can be indexed: it holds a word, and no gap at its ends."""
    return bool(words(folded)) and ("*" not in folded or all(part.strip() for part in folded.split("*")))


def _with_gaps(entry: _Gapped, folded: str) -> tuple[int, int] | None:
    begin = 0
    for _ in range(_TRIES):
        head = _whole(entry.first, folded, begin, len(folded))
        if head is None:
            return None
        end = _tail(entry.rest, folded, head[1])
        if end is not None:
            return head[0], end
        begin = head[1]
    return None


def _tail(rest: tuple[str, ...], folded: str, end: int) -> int | None:
    for part in rest:
        found = _whole(part, folded, end, min(len(folded), end + GAP + len(part)))
        if found is None or _SENTENCE.search(folded, end, found[0]):
            return None
        end = found[1]
    return end


def _whole(part: str, folded: str, begin: int, limit: int) -> tuple[int, int] | None:
    """Find `part` where it begins and ends with whole words (of ASCII; other scripts inflect and join)."""
    at = folded.find(part, begin, limit)
    while at >= 0:
        end = at + len(part)
        if not (_joined(folded, at) or _joined(folded, end)):
            return at, end
        at = folded.find(part, at + 1, limit)
    return None


def _spoken(word: str, folded: str) -> tuple[int, int] | None:
    """Find a word of the sentence: not a part of a host name, of a URL or of something hyphenated (antispam.example.net, X-Spam)."""
    begin = 0
    for _ in range(_TRIES):
        found = _whole(word, folded, begin, len(folded))
        if found is None:
            return None
        start, end = found
        before, after = folded[max(0, start - 2) : start], folded[end : end + 2]
        blank = folded.rfind(" ", max(0, start - _MAX_URL), start)
        if not (_GLUED.match(after) or _GLUED.match(before[::-1]) or "://" in folded[blank + 1 : start]):
            return found
        begin = end
    return None


def _joined(folded: str, at: int) -> bool:
    """Tell whether the characters on both sides of `at` belong to one ASCII word."""
    pair = folded[at - 1 : at + 1] if at else ""
    return len(pair) == 2 and pair.isascii() and pair.isalnum()
