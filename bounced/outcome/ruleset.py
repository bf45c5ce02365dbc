"""Rules as data: rows of TOML, ours and an operator's over them, indexed by what they look at.

For: knowing in a few microseconds which rows have something to say about a report. Never: the choice between rows that contradict each
other; that is judge's.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TypeVar

from bounced.outcome import Disposition
from bounced.outcome.phrases import PhraseIndex
from bounced.outcome.rowfile import read_rows
from bounced.outcome.rows import BlockList, Rows, Rule

_Row = TypeVar("_Row")
OWNING = (
    *(
        "your",
        "from",
        "client",
        "ip",
        "envelope",
        "sending",
        "submitting",
        "authenticated",
        "connecting",
        "helo",
        "ehlo",
        "return",
        "path",
        "reply",
        "to",
        "bounce",
        "the",
    ),
    *("sender", "s", "e", "mail", "email", "user", "mailbox", "account", "address", "alias", "username", "domain", "host", "server", "mx"),
    *("name", "record", "is", "was", "has", "been", "for", "of", "in", "absender", "absenders", "absenderadresse", "absenderdomain"),
    *("expediteur", "remitente", "remetente", "mittente", "afzender", "afsender", "avsender", "nadawcy", "nadawca", "odesilatele"),
    *("expeditorul", "expeditorului", "gonderen", "gonderici", "felado", "ihr", "ihre", "votre", "su", "sua", "seu", "tuo", "tua"),
    *("vostro", "vostra", "uw", "twoja", "twoje"),
)
"""The words by which judge tells whose death is told."""


@dataclass(frozen=True, slots=True, eq=False)
class RuleSet:
    """All rows in force, indexed. One is equal to itself alone, so that what it said can be remembered."""

    rows: Rows
    phrases: PhraseIndex
    by_phrase: Mapping[str, tuple[Rule, ...]]
    by_status: Mapping[str, tuple[Rule, ...]]
    by_reply: Mapping[str, tuple[Rule, ...]]
    provider_marks: Mapping[str, str]
    provider_hosts: Mapping[str, str]
    provider_domains: Mapping[str, str]
    blocklist_marks: Mapping[str, BlockList]
    blocklist_names: frozenset[str]

    @classmethod
    def builtin(cls) -> "RuleSet":
        """Return our own rows."""
        return _builtin()

    @classmethod
    def parse(cls, files: Mapping[str, str]) -> "RuleSet":
        """Read files (name to TOML text). Raises RuleError."""
        return _index(read_rows(files, known=Rows(), own=False))

    def with_rules(self, files: Mapping[str, str]) -> "RuleSet":
        """Lay an operator's rows over these: where one of them applies ours are silent, and one with our id replaces ours.

        Raises RuleError.
        """
        theirs = read_rows(files, known=self.rows, own=True)
        return _index(
            Rows(
                rules=_over(self.rows.rules, theirs.rules, lambda rule: rule.id),
                providers=_over(self.rows.providers, theirs.providers, lambda provider: provider.id),
                blocklists=_over(self.rows.blocklists, theirs.blocklists, lambda blocklist: blocklist.name),
            )
        )

    def is_deadly(self, phrase: str) -> bool:
        """Tell whether a phrase can mean a dead address."""
        return any(rule.disposition is Disposition.HARD for rule in self.by_phrase.get(phrase, ()))

    def provider_of_host(self, host: str) -> str | None:
        """Return the provider that a host belongs to, by the longest known end of its name."""
        return _by_suffix(self.provider_hosts, host)

    def provider_of_domain(self, domain: str) -> str | None:
        """Return the provider of a mailbox's domain."""
        return _by_suffix(self.provider_domains, domain)


@cache
def _builtin() -> RuleSet:
    directory = resources.files("bounced.outcome").joinpath("rules")
    files = {entry.name: entry.read_text("utf-8") for entry in directory.iterdir() if entry.name.endswith(".toml")}
    del files["causes.toml"]
    return RuleSet.parse(files)


def _index(rows: Rows) -> RuleSet:
    by_phrase: dict[str, tuple[Rule, ...]] = {}
    by_status: dict[str, tuple[Rule, ...]] = {}
    by_reply: dict[str, tuple[Rule, ...]] = {}
    for rule in rows.rules:
        if rule.phrases:
            kept, values = by_phrase, rule.phrases
        elif rule.statuses:
            kept, values = by_status, rule.statuses
        else:
            kept, values = by_reply, rule.replies
        alone = (rule,)  # nearly every phrase is one rule's alone
        for value in values:
            kept[value] = kept[value] + alone if value in kept else alone
    marks = {mark: provider.id for provider in rows.providers for mark in provider.marks}
    blocklist_marks = {mark: blocklist for blocklist in rows.blocklists for mark in blocklist.marks}
    return RuleSet(
        rows=rows,
        phrases=PhraseIndex.build(by_phrase, names=[*marks, *blocklist_marks], kept=OWNING),
        by_phrase=by_phrase,
        by_status=by_status,
        by_reply=by_reply,
        provider_marks=marks,
        provider_hosts={host: provider.id for provider in rows.providers for host in provider.hosts},
        provider_domains={domain: provider.id for provider in rows.providers for domain in provider.domains},
        blocklist_marks=blocklist_marks,
        blocklist_names=frozenset(blocklist.name for blocklist in rows.blocklists),
    )


def _over(ours: Iterable[_Row], theirs: Iterable[_Row], name: Callable[[_Row], str]) -> tuple[_Row, ...]:
    return tuple({name(row): row for row in (*ours, *theirs)}.values())


def _by_suffix(known: Mapping[str, str], host: str) -> str | None:
    labels = host.strip("[]().").lower().split(".")[-6:]
    for first in range(len(labels)):
        found = known.get(".".join(labels[first:]))
        if found:
            return found
    return None
