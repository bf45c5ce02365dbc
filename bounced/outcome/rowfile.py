"""Reading rows from TOML texts, strictly: every mistake is told with file, row and field, all of them at once.

For: our own rule files and an operator's directory. Never: reading the disk; texts come in, whoever read them.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

from bounced.outcome import Category, Disposition
from bounced.outcome.causes import causes
from bounced.outcome.fold import spellings
from bounced.outcome.phrases import usable
from bounced.outcome.rows import BlockList, Provider, Rows, Rule, RuleError

_STATUS = re.compile(r"[45x]\.\d{1,3}\.(?:\d{1,3}|\*)")
_REPLY = re.compile(r"[45](?:\d\d|xx)")
_FIELDS = {
    "rule": {"id", "category", "disposition", "status", "reply", "phrases", "provider", "weak", "example", "example_mta"},
    "provider": {"id", "hosts", "domains", "marks"},
    "blocklist": {"name", "marks", "delisting"},
}


def read_rows(files: Mapping[str, str], *, known: Rows, own: bool) -> Rows:
    """Read files (name to text). Rules may name the providers of `known` and of any of the files. Raises RuleError."""
    reading = _Reading(own=own, provider_ids={provider.id for provider in known.providers})
    tables = {name: reading.table(name, text) for name, text in sorted(files.items())}
    providers = [reading.provider(row) for row in _rows(tables, "provider")]
    blocklists = [reading.blocklist(row) for row in _rows(tables, "blocklist")]
    rules = [reading.rule(row) for row in _rows(tables, "rule")]
    if reading.problems:
        raise RuleError(reading.problems)
    return Rows(
        rules=tuple(rule for rule in rules if rule),
        providers=tuple(provider for provider in providers if provider),
        blocklists=tuple(blocklist for blocklist in blocklists if blocklist),
    )


@dataclass(slots=True)
class _Row:
    """One table of a file, while it is read."""

    file: str
    kind: str
    name: str
    values: Mapping[str, object]


def _rows(tables: Mapping[str, list[_Row]], kind: str) -> Iterable[_Row]:
    return (row for rows in tables.values() for row in rows if row.kind == kind)


@dataclass(slots=True)
class _Reading:
    """What was found wrong so far, and which names are taken."""

    own: bool
    provider_ids: set[str]
    problems: list[str] = field(default_factory=list)
    _names: set[tuple[str, str]] = field(default_factory=set)

    def table(self, file: str, text: str) -> list[_Row]:
        """Split one file into its rows."""
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            self.problems.append(f"{file}: not TOML: {error}")
            return []
        rows: list[_Row] = []
        for kind, tables in content.items():
            if kind not in _FIELDS or not isinstance(tables, list):
                self.problems.append(f"{file}: {kind}: only [[rule]], [[provider]] and [[blocklist]] are known")
                continue
            rows += [self._row(file, kind, number, values) for number, values in enumerate(tables, 1) if isinstance(values, dict)]
        self.provider_ids.update(row.name for row in rows if row.kind == "provider")
        return rows

    def _row(self, file: str, kind: str, number: int, values: Mapping[str, object]) -> _Row:
        key = "name" if kind == "blocklist" else "id"
        name = values.get(key)
        row = _Row(file, kind, name if isinstance(name, str) and name else f"#{number}", values)
        if row.name != name:
            self._problem(row, key, "is missing or no text")
        elif (kind, row.name) in self._names:
            self._problem(row, key, "is taken by another row")
        self._names.add((kind, row.name))
        for unknown in sorted(values.keys() - _FIELDS[kind]):
            self._problem(row, unknown, f"is no field of a {kind}")
        return row

    def provider(self, row: _Row) -> Provider | None:
        """Read a [[provider]]."""
        hosts, domains, marks = (self._texts(row, key) for key in ("hosts", "domains", "marks"))
        if not (hosts or domains or marks):
            self._problem(row, "hosts", "domains and marks are all empty: it would never be found")
        return Provider(id=row.name, hosts=hosts, domains=domains, marks=self._phrases(row, "marks", marks))

    def blocklist(self, row: _Row) -> BlockList | None:
        """Read a [[blocklist]]."""
        marks = self._phrases(row, "marks", self._texts(row, "marks"))
        if not marks:
            self._problem(row, "marks", "is empty: it would never be found")
        return BlockList(name=row.name, marks=marks, delisting=self._text(row, "delisting"))

    def rule(self, row: _Row) -> Rule | None:
        """Read a [[rule]]; None if its category is unknown."""
        statuses = self._matching(row, "status", _STATUS, "is no status: write 5.1.1, x.1.1 or 5.7.*")
        replies = self._matching(row, "reply", _REPLY, "is no reply: write 550 or 5xx")
        phrases = self._phrases(row, "phrases", self._texts(row, "phrases"))
        if not (statuses or replies or phrases):
            self._problem(row, "phrases", "status and reply are all empty: it would never apply")
        provider = self._text(row, "provider")
        if provider and provider not in self.provider_ids:
            self._problem(row, "provider", "is the id of no [[provider]]")
        example = self._text(row, "example")
        if not example:
            self._problem(row, "example", "is missing: a row without one cannot be tested")
        category = _word(Category, self._text(row, "category"))
        if category is None:
            self._problem(row, "category", f"is none of {', '.join(Category)}")
            return None
        disposition = self._disposition(row)
        return Rule(
            id=row.name, category=category, disposition=disposition or causes()[category].disposition, firm=disposition is not None,
            statuses=statuses, replies=replies, phrases=phrases, provider=provider, weak=self._flag(row, "weak"), own=self.own,
            example=example or "", example_mta=self._text(row, "example_mta"), file=row.file,
        )  # fmt: skip

    def _disposition(self, row: _Row) -> Disposition | None:
        text = self._text(row, "disposition")
        found = _word(Disposition, text)
        if text and found is None:
            self._problem(row, "disposition", f"is none of {', '.join(Disposition)}")
        return found

    def _matching(self, row: _Row, key: str, form: re.Pattern[str], problem: str) -> tuple[str, ...]:
        values = row.values.get(key, ())
        listed = values if isinstance(values, list) else [values] if values != () else []
        texts = tuple(str(value) for value in listed)
        if not all(map(form.fullmatch, texts)):
            self._problem(row, key, problem)
        return texts

    def _phrases(self, row: _Row, key: str, texts: tuple[str, ...]) -> tuple[str, ...]:
        spelt = list(map(spellings, texts))
        folded = [spelling for spelling, *_ in spelt]
        if not all(map(usable, folded)):
            self._problem(row, key, "holds a phrase without a word, or with * at an end")
            return ()
        if len(set(folded)) < len(folded):
            self._problem(row, key, "holds a phrase twice")
        return tuple(dict.fromkeys(chain(folded, *spelt)))

    def _texts(self, row: _Row, key: str) -> tuple[str, ...]:
        values = row.values.get(key, [])
        if isinstance(values, list) and all(isinstance(value, str) for value in values):
            return tuple(map(str, values))
        self._problem(row, key, "is no list of texts")
        return ()

    def _text(self, row: _Row, key: str) -> str | None:
        value = row.values.get(key)
        if value is None or isinstance(value, str):
            return value
        self._problem(row, key, "is no text")
        return None

    def _flag(self, row: _Row, key: str) -> bool:
        value = row.values.get(key, False)
        if not isinstance(value, bool):
            self._problem(row, key, "is neither true nor false")
        return value is True

    def _problem(self, row: _Row, key: str, what: str) -> None:
        self.problems.append(f"{row.file}: {row.kind} {row.name}: {key} {what}")


_Word = TypeVar("_Word", Category, Disposition)


def _word(words: type[_Word], text: str | None) -> _Word | None:
    return next((word for word in words if word == text), None)
