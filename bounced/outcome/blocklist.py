"""Who refuses us, what of ours, and where one asks for removal, read from the text of the refusal.

For: telling the operator what to do. Never: the decision that it is a refusal; that is judge's.
"""

import re
from collections.abc import Collection, Iterable

from bounced.outcome import Blocker
from bounced.outcome.phrases import Found
from bounced.outcome.ruleset import RuleSet

_MAX_URL = 300
_FEWEST_COLONS = 6
_URL = re.compile(r"https?://[^\s<>\"'\x00-\x20\x7f]{4,}", re.IGNORECASE)
# The digit stands before its look-behind: so the search skips what cannot begin an address.
_IPV4 = re.compile(r"[0-9](?<![\w.].)\d{0,2}\.(?:\d{1,3}\.){2}\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:])(?:[0-9a-f]{1,4}:){1,7}(?::|[0-9a-f]{1,4})(?::?[0-9a-f]{1,4}){0,6}(?![\w:])", re.IGNORECASE)
# "blocked using zen.spamhaus.org", "listed by bl.example", "on the b.example.net blacklist": lists that no row knows are named by the text.
_NAMED = re.compile(
    r"(?:blocked (?:using|by)|listed (?:at|by|in|on)|blacklisted (?:at|by|in|on)|found (?:in|on)|rejected by|rbl:?)\s+(?:the\s+)?"
    r"(?:dnsbl:?\s*)?((?:[a-z0-9-]{1,63}\.){1,5}[a-z]{2,24})\b",
    re.IGNORECASE,
)
# "Connected to 192.0.2.1 but", "host mx.example.org [192.0.2.1] said": addresses of who refuses, put there by who reports.
_NAMING = ("blocked ", "listed ", "found ", "rejected by", "rbl")
_THEIRS = re.compile(
    r"(?:connect(?:ed|ing|ion)? (?:to|with)|while talking to)\s+(?:[a-z0-9._-]{1,255}\s?)?[\[(]?(?:\d{1,3}\.){3}\d{1,3}\b"
    r"|[\[(](?:\d{1,3}\.){3}\d{1,3}[\])](?::\d{1,5})?,? ?(?:said|did not like|refused to talk|replied|rejected the)",
    re.IGNORECASE,
)
_TALKING = ("connect", "talking to", "said", "did not like", "refused to", "replied", "rejected the")
_OUR_DOMAIN = re.compile(
    r"(?:sending domain|sender domain|domain of sender address|email from|mail from domain|dmarc policy for|from domain|spf records? for)"
    r"[\s:\[(<]+(?:\S{0,64}@)?((?:[a-z0-9_-]{1,63}\.){1,8}[a-z]{2,24})\b",
    re.IGNORECASE,
)
_OURS = ("domain", "email from", "dmarc policy", "spf record")


def blocker_of(text: str, found: Iterable[Found], providers: Collection[str], rules: RuleSet) -> Blocker | None:
    """Name who refuses: a list whose mark stands in `text`, a list that it names, else the provider. None if nobody is named."""
    known = [one.phrase for one in found if one.phrase in rules.blocklist_marks]
    lower = text.lower()
    named = None if known or not _any_of(_NAMING, lower) else _NAMED.search(text)
    if not (known or named or providers):
        return None
    url = _url(text)
    if known:
        row = rules.blocklist_marks[max(known, key=lambda mark: (len(mark), mark))]
        return Blocker(name=row.name, ours=_ours(text, lower), delisting=url or row.delisting)
    return Blocker(name=named[1].lower() if named else min(providers), ours=_ours(text, lower), delisting=url)


def _url(text: str) -> str | None:
    found = _URL.search(text) if "://" in text else None
    return found[0][:_MAX_URL].rstrip(".,;:)]}!?") if found else None


def _any_of(hints: Iterable[str], lower: str) -> bool:
    """Tell whether one of the words stands in a text without which its pattern, ten times as slow, finds nothing."""
    return any(hint in lower for hint in hints)


def _ours(text: str, lower: str) -> str | None:
    """Find what of ours is complained about: an IP address, first outside URLs, then inside; else a domain that is called ours."""
    if _any_of(_TALKING, lower):
        text = _THEIRS.sub(" ", text)
    bare = _URL.sub(" ", text) if "://" in text else text
    for candidate in (*_IPV4.findall(bare), *(_IPV4.findall(text) if bare is not text else ())):
        if _is_ipv4(candidate):
            return str(candidate)
    six = _IPV6.search(bare) if "::" in bare or bare.count(":") > _FEWEST_COLONS else None
    if six:
        return six[0].lower()
    domain = _OUR_DOMAIN.search(bare) if _any_of(_OURS, lower) else None
    return domain[1].lower() if domain else None


def _is_ipv4(text: str) -> bool:
    octets = [int(octet) for octet in text.split(".")]
    return all(octet <= 255 for octet in octets) and octets[0] not in {0, 127}
