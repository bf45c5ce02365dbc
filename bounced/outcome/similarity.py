"""Which texts say the same in other circumstances: the key by which unmatched texts are grouped.

For: `bounced unmatched`, so that a person reads each complaint once. Never: deciding anything.
"""

import re

from bounced.outcome.fold import fold

_WORDS = 16
_LOOSE = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
# Names of hosts, addresses, URLs, queue ids and times differ from bounce to bounce.
_CIRCUMSTANCE = re.compile(r"[@:/\d]|\.\w|[=_#]")
_MAX_KEY = 200


def similarity_key(diagnostic: str) -> str:
    """Return the key of a text: its first words, without what names people, hosts, times or messages. Equal keys say the same.

    Empty where nothing but such names is left.
    """
    plain = [word for word in fold(diagnostic).split() if not _CIRCUMSTANCE.search(word.rstrip(".,:;!?)]>\"'"))]
    spoken = [word for token in plain for word in _LOOSE.findall(token)]
    return " ".join(spoken[:_WORDS])[:_MAX_KEY]
