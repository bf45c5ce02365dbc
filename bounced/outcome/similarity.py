"""Which texts say the same in other circumstances: the key by which unmatched texts are grouped.

For: `bounced unmatched`, so that a person reads each complaint once. Never: deciding anything, or telling whom it was about.
"""

import re

from bounced.outcome.fold import fold

_WORDS = 16
_LOOSE = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
# Names of hosts, addresses, URLs, queue ids and times differ from bounce to bounce.
_CIRCUMSTANCE = re.compile(r"[@:/\d]|\.\w|[=_#]")
_MAX_KEY = 200
_MAX_SAMPLE = 300
# Bounded on both sides, so that a text of nothing but such letters costs no more than its length.
_LOCAL_PART = re.compile(r'(?:"[^"\n]{1,64}"|[^\s<>"(),:;\[\]@]{1,128}+)(?=@)|[^\s<>"(),:;\[\]@=]{1,128}+(?==[\w-]{1,63}\.)')


def similarity_key(diagnostic: str) -> str:
    """Return the key of a text: its first words, without what names people, hosts, times or messages. Equal keys say the same.

    Empty where nothing but such names is left.
    """
    plain = [word for word in fold(diagnostic).split() if not _CIRCUMSTANCE.search(word.rstrip(".,:;!?)]>\"'"))]
    spoken = [word for token in plain for word in _LOOSE.findall(token)]
    return " ".join(spoken[:_WORDS])[:_MAX_KEY]


def sample_of(diagnostic: str) -> str:
    """Return the beginning of a text as an example of its group: one line, and of addresses (a@b, in return paths a=b) only the domains."""
    text = _LOCAL_PART.sub("*", diagnostic[: 2 * _MAX_SAMPLE])
    return "".join(char if char.isprintable() else " " for char in text[:_MAX_SAMPLE])
