"""The rows that rules, providers and block lists are written in.

For: the nouns between the files and the rule set. Never: reading or applying them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from bounced.outcome import Category, Disposition


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row. It applies where all its conditions hold; each condition holds where any of its values does.

    `statuses` are written 5.1.1, x.1.1 (any class) or 5.7.* (any detail); `replies` are codes (550) or classes (5xx); `phrases` are folded.
    `firm`: the row names its disposition, so a temporary code in the same report does not soften it, and its exact status is heard beside
    words. `weak`: the phrase only frames the real reason ("could not be delivered for 5 days"), so every plainer sign goes before it;
    a weak and firm one softens a death beside it. `own`: a row of the operator.
    """

    id: str
    category: Category
    disposition: Disposition
    statuses: tuple[str, ...] = ()
    replies: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    provider: str | None = None
    firm: bool = False
    weak: bool = False
    own: bool = False
    example: str
    example_mta: str | None = None
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A mail provider, known by the names of its hosts, by the domains of its mailboxes, or by marks in its replies."""

    id: str
    hosts: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockList:
    """Who refuses mail and says so: found by marks in the text. `delisting` is where one asks for removal, if the text does not tell."""

    name: str
    marks: tuple[str, ...]
    delisting: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What some files hold."""

    rules: tuple[Rule, ...] = ()
    providers: tuple[Provider, ...] = ()
    blocklists: tuple[BlockList, ...] = ()


class RuleError(ValueError):
    """Rows that cannot be used. `problems` names for each the file, the row and the field; all of them at once."""

    def __init__(self, problems: Iterable[str]) -> None:
        """Take every problem that was found."""
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))
