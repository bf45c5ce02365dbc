"""Whose mail system refused a mail, by one name however many hosts and domains it has.

For: counting what one provider does. Never: DNS; a domain whose mail a provider keeps is known by the host that refused, or not at all.
"""

import re
from functools import lru_cache

from bounced.address import AddressKey
from bounced.outcome.judge import marked
from bounced.outcome.ruleset import RuleSet
from bounced.report import RecipientStatus

_HOST = re.compile(r"(?:[a-z0-9_-]{1,63}\.){1,10}[a-z][a-z0-9-]{1,62}")
_SECOND_LEVEL = {"ac", "co", "com", "edu", "gob", "gov", "gouv", "ne", "net", "nom", "or", "org"}
"""Labels under which countries register: kept with the one before them (example.co.uk)."""


def provider_of(recipient: RecipientStatus | None, mailbox: AddressKey, rules: RuleSet) -> str:
    """Name who refused or answered: a provider of the rows, by the remote host, the mailbox's domain or a mark in the text; else a domain.

    `mailbox` is whom we mailed, `recipient` what the report says of it, if it says anything.
    """
    host = _host(recipient.remote_mta if recipient else None)
    domain = mailbox.rpartition("@")[2]
    known = _by_name(rules, host, domain)
    if known is None and recipient is not None and (marks := marked(recipient, rules)):
        known = next(provider.id for provider in rules.rows.providers if provider.id in marks)
    return known or (registrable(host) if host else domain)


def registrable(host: str) -> str:
    """Return what looks like the part of a host's name that somebody registered: two labels, or three under a country's second level."""
    labels = host.split(".")
    return ".".join(labels[-3:] if len(labels) > 2 and labels[-2] in _SECOND_LEVEL and len(labels[-1]) == 2 else labels[-2:])


# Readers bound this field.
@lru_cache(maxsize=1024)
def _host(field: str | None) -> str:
    """Take the name out of `dns; mx.example.net (192.0.2.1, the server for ...)`; nothing where there is none."""
    words = (field or "").rpartition(";")[2].lower().split(None, 1)
    return words[0].rstrip(".") if words and _HOST.fullmatch(words[0].rstrip(".")) else ""


@lru_cache(maxsize=1024)
def _by_name(rules: RuleSet, host: str, domain: str) -> str | None:
    return (rules.provider_of_host(host) if host else None) or rules.provider_of_domain(domain)
