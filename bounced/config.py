"""The configuration file: its reading and its reference text.

For: turning /etc/bounced/bounced.toml and conf.d/*.toml beside it into one frozen Config, or telling everything that is wrong with them at
once. Never: the network, the system's name, or whether a path exists: the same file means the same everywhere. settings.py says what there
is to set.
"""

import dataclasses
import os
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from bounced.fault import OperatorFault
from bounced.outcome import Category
from bounced.outcome.causes import causes
from bounced.policy import Policy, Treatment
from bounced.settings import CATEGORIES, TREATMENTS, Config, Kind, nearest, shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting of the schema: its exact path is `section.name`. `default` is as TOML writes it, None where it must be given."""

    section: str
    name: str
    kind: Kind
    says: str
    default: str | None


_SECTIONS: Mapping[str, Any] = {section.name: section.type for section in dataclasses.fields(Config)}


def settings() -> Mapping[str, Setting]:
    """Return the schema: every setting by its exact path, in the order of the reference."""
    return _BY_PATH


_CATEGORY = "category"
"""The section with a setting for each category, which are no attributes: their names are those that `why` shows."""


def _schema() -> Iterator[Setting]:
    for section, settings_type in _SECTIONS.items():
        if section == _CATEGORY:
            for name, kind in TREATMENTS.items():
                says = causes()[Category(name)].meaning
                yield Setting(section=section, name=name, kind=kind, says=says, default=kind.write(CATEGORIES[name]))
            continue
        for one in dataclasses.fields(settings_type):
            kind, says = get_args(one.type)[1:]
            default = None if one.default is dataclasses.MISSING else kind.write(one.default)
            yield Setting(section=section, name=one.name, kind=kind, says=says, default=default)


_BY_PATH = {f"{setting.section}.{setting.name}": setting for setting in _schema()}
_REQUIRED = {path for path, setting in _BY_PATH.items() if setting.default is None}


def policy_of(config: Config) -> Policy:
    """Return the policy: when an address is blocked."""
    chosen = config.policy
    categories = {
        Category(name): Treatment(
            action=treated.action, threshold=treated.threshold or chosen.soft_limit, expiry=treated.expiry, growth=treated.growth
        )
        for name, treated in config.category.items()
        if treated != CATEGORIES[name]
    }
    return Policy(
        soft_limit=chosen.soft_limit,
        silence=chosen.silence,
        categories=categories,
        pass_complaints=frozenset(chosen.pass_complaints),
        outage_guard=chosen.outage_guard,
        outage_least=chosen.outage_least,
    )


def load(path: Path) -> Config:
    """Read the file and conf.d/*.toml beside it in the order of their names; of a setting given twice the later one wins.

    Raises OperatorFault that names everything that is wrong, a line each: file, line where it is known, setting, what was expected.
    """
    directory = Path(os.path.abspath(path)).parent  # noqa: PTH100  resolve() would follow a symbolic link out of the directory
    errors: list[str] = []
    given: dict[str, object] = {}
    for file in (path, *sorted((path.parent / "conf.d").glob("*.toml"))):
        given |= _File(file, directory, errors).read()
    if not errors:
        errors += [f"{path}: {name}: is missing, and has no default" for name in _REQUIRED - given.keys()]
    config = None if errors else _built(given)
    if config is not None:
        errors += [f"{path}: {clash}" for clash in _clashes(config)]
    if config is None or errors:
        raise OperatorFault("\n".join(errors), _next_step(path))
    return config


def _next_step(path: Path) -> str:
    if path.exists():
        return "Mend the configuration; `bounced config reference` prints every setting with its default."
    return f"Name yours with `bounced -C FILE`, or begin one: `bounced config reference > {path}`."


def _built(given: Mapping[str, object]) -> Config:
    parts: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for path, value in given.items():
        section, _, name = path.partition(".")
        parts[section][name] = value
    built = {section: settings_type(**parts[section]) for section, settings_type in _SECTIONS.items() if section != _CATEGORY}
    return Config(**built, category={**CATEGORIES, **parts[_CATEGORY]})


def _clashes(config: Config) -> Iterator[str]:
    """Name the settings that contradict another one, such as two things at one path, which would overwrite each other."""
    owners: dict[Path, str] = {}
    for path, value in _values(config):
        if isinstance(value, Path) and path != "smtp.tls_key" and owners.setdefault(value, path) != path:
            yield f"{path}: is the same path as {owners[value]}"
    if config.smtp.tls_key and not config.smtp.tls_certificate:
        yield "smtp.tls_key: is given, and no smtp.tls_certificate that it belongs to"
    for scope in config.policy.pass_complaints:
        if scope not in config.return_path.scopes:
            yield f"policy.pass_complaints: {shown(scope)} is no stream of return_path.scopes"


def _values(config: Config) -> Iterator[tuple[str, object]]:
    for path, setting in _BY_PATH.items():
        section = getattr(config, setting.section)
        yield path, section[setting.name] if setting.section == _CATEGORY else getattr(section, setting.name)


class _File:
    """One file of the configuration; what is wrong in it is added to `errors`."""

    def __init__(self, path: Path, directory: Path, errors: list[str]) -> None:
        self._path = path
        self._directory = directory
        self._errors = errors
        self._text = ""

    def read(self) -> dict[str, object]:
        """Return what the file says, by exact path."""
        given: dict[str, object] = {}
        for section, content in self._parse().items():
            if section not in _SECTIONS:
                self._wrong(section, None, f"no such section{_meant(section, None)}")
            elif not isinstance(content, dict):
                self._wrong(section, None, f"expected a table, written [{section}], not {shown(content)}")
            else:
                for name, value in content.items():
                    self._take(section, name, value, given)
        return given

    def _take(self, section: str, name: str, value: object, given: dict[str, object]) -> None:
        setting = _BY_PATH.get(f"{section}.{name}")
        if setting is None:
            self._wrong(section, name, f"no such setting{_meant(section, name)}")
            return
        try:
            given[f"{section}.{name}"] = setting.kind.read(value, self._directory)
        except ValueError as error:
            self._wrong(section, name, str(error))

    def _parse(self) -> dict[str, Any]:
        try:
            octets = self._path.read_bytes()
            self._text = octets.decode()
            return tomllib.loads(self._text)
        except OSError as error:
            self._errors.append(f"{self._path}: cannot be read: {error.strerror}")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            self._errors.append(f"{self._path}:{line}: is not UTF-8")
        except RecursionError:
            self._errors.append(f"{self._path}: is nested too deep")
        except tomllib.TOMLDecodeError as error:
            self._errors.append(self._syntax(str(error)))
        except ValueError:
            # Python converts no number of more than 4,300 digits, and does not say where it stands.
            self._errors.append(f"{self._path}: holds a number with too many digits")
        return {}

    def _syntax(self, message: str) -> str:
        """Say a syntax error of tomllib with the line in front; before Python 3.14 the line is in its text alone."""
        found = re.search(r" \(at (?:line ([0-9]+), column ([0-9]+)|end of document)\)", message)
        what = message[: found.start()] if found else message
        line = found[1] if found and found[1] else len(self._text.splitlines())
        # tomllib quotes the file's own text here and there.
        return f"{self._path}:{line}: is no TOML: {ascii(what)[1:-1][:200]}"

    def _wrong(self, section: str, name: str | None, problem: str) -> None:
        path = ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", part) else shown(part) for part in (section, name) if part is not None)
        line = _line(self._text, section, name)
        self._errors.append(f"{self._path}{f':{line}' if line else ''}: {path}: {problem}")


def _line(text: str, section: str, name: str | None) -> int | None:
    """Find the line on which a setting stands, written in one of the usual ways; None where it is written otherwise."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line)
        if header:
            inside = header[1].strip("\"'") == section
            if (inside and name is None) or header[1] == f"{section}.{name}":
                return number
            continue
        key = line.partition("=")[0].strip().replace('"', "").replace("'", "")
        if key in ({name} if inside and name is not None else {section, f"{section}.{name}"}):
            return number
    return None


def _meant(section: str, name: str | None) -> str:
    """Suggest what was meant by an unknown section or setting."""
    if name is None:
        near = nearest(section, _SECTIONS)
        homes = [near[0]] if near else [path for path in _BY_PATH if path.partition(".")[2] == section]
    else:
        names = {setting.name: path for path, setting in _BY_PATH.items() if setting.section == section}
        near = nearest(name, names)
        homes = [names[near[0]]] if near else [path for path in _BY_PATH if path.partition(".")[2] == name]
    return f"; did you mean {homes[0]}?" if homes else ""


def show(config: Config, only_changed: bool) -> str:
    """Return the settings in force, a line each, in TOML that `load` reads; with `only_changed` those that differ from the default."""
    lines: list[str] = []
    for path, value in _values(config):
        written = _BY_PATH[path].kind.write(value)
        if not only_changed or written != _BY_PATH[path].default:
            lines.append(f"{path} = {written}\n")
    return "".join(lines)


def changed(before: Config, after: Config) -> tuple[str, ...]:
    """Return the exact paths of the settings that differ."""
    return tuple(path for (path, old), (_, new) in zip(_values(before), _values(after), strict=True) if old != new)


def reference() -> str:
    """Return the annotated configuration file: every setting with its sentence, its default commented out."""
    lines = [_PREAMBLE]
    for section, settings_type in _SECTIONS.items():
        lines += ["", _comment(_TREATMENTS if section == _CATEGORY else settings_type.__doc__), f"[{section}]"]
        for setting in _BY_PATH.values():
            if setting.section == section:
                lines += [_comment(setting.says), f"#{setting.name} = {setting.default or _EXAMPLE}"]
    return "\n".join(lines) + "\n"


_TREATMENTS = """\
What bounces of each category do. "block" at once; "strike": the n-th in a row blocks (threshold, else policy.soft_limit); "tell" the
operator, the recipient stays clear; "ignore". A block ends after expiry = "90d", if that is given, and one mail tries whether the address
lives again; each further block lasts growth = 2 times as long. May be a table of its own: [category.mailbox-full] action = "strike"."""
_EXAMPLE = '["bounces.example.net"]'
_PREAMBLE = """\
# The configuration of bounced. Every setting stands here with its default; remove the # to change it.
# A duration is written "30d" (s, m, h, d), a size "10MiB" (B, KiB, MiB, GiB). A relative path begins at the directory of this
# file. Files conf.d/*.toml beside it are read after it, in the order of their names; of a setting given twice the later wins.
# `bounced config check` tells everything that is wrong, `bounced config show -n` what differs from the defaults."""


def _comment(text: str) -> str:
    return textwrap.fill(text, 126, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
