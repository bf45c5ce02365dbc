"""The configuration file: its schema, its reading, its reference text.

For: turning /etc/bounced/bounced.toml and conf.d/*.toml beside it into one frozen Config, or telling everything that is wrong with them at
once. Never: the network, the system's name, or whether a path exists: the same file means the same everywhere.

One way to write each thing. A duration is a number and a unit in quotes: s, m, h, d ("30d"). A size likewise: B, KiB, MiB, GiB ("10MiB").
A path is absolute or relative to the directory of the main file, also in conf.d. An empty text turns off what can be turned off.
"""

import dataclasses
import difflib
import ipaddress
import json
import os
import re
import textwrap
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

from bounced.address import AddressError, Mailbox
from bounced.fault import OperatorFault
from bounced.log import ADDRESSES, FORMATS, LEVELS, LogSettings
from bounced.returnpath import MAX_AGE_LIMIT
from bounced.scope import DEFAULT_SCOPE, Scope, ScopeError, parse_scope


class Endpoint(NamedTuple):
    """Where to listen: an IP address and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Kind:
    """How one sort of value is read from TOML and written back.

    `read` takes the value and the directory for relative paths; it raises ValueError that tells what was expected.
    """

    read: Callable[[object, Path], object]
    write: Callable[[Any], str]


def _text(value: object, form: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected {form}, not {_shown(value)}")  # noqa: TRY004  a Kind raises ValueError
    if any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in value):
        raise ValueError(f"expected {form}, and a control character stands in it")
    return value


def _shown(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return ascii(value if len(value) <= 60 else value[:57] + "...")
        case int() | float():
            return str(value) if abs(value) < 1e18 else "a number that large"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or time"


def _quoted(value: str) -> str:
    # A JSON string without control characters and without \u escapes is a TOML basic string.
    return json.dumps(value, ensure_ascii=False)


def _listed(values: tuple[object, ...]) -> str:
    return f"[{', '.join(_quoted(str(value)) for value in values)}]"


def _measure(units: Mapping[str, int], form: str, least: int, most: int) -> Kind:
    pattern = re.compile(rf"([0-9]{{1,15}})({'|'.join(units)})")

    def read(value: object, _: Path) -> int:
        found = pattern.fullmatch(_text(value, form))
        if not found:
            raise ValueError(f"expected {form}, not {_shown(value)}")
        number = int(found[1]) * units[found[2]]
        if not least <= number <= most:
            raise ValueError(f"expected {write(least)} to {write(most)}, not {_shown(value)}")
        return number

    def write(number: int) -> str:
        largest = max((unit for unit in units if number % units[unit] == 0), key=lambda unit: units[unit])
        return f'"{number // units[largest]}{largest}"'

    return Kind(read, write)


def _number(least: int, most: int) -> Kind:
    def read(value: object, _: Path) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"expected a whole number from {least} to {most}, not {_shown(value)}")
        return value

    return Kind(read, str)


def _choice(words: tuple[str, ...]) -> Kind:
    def read(value: object, _: Path) -> str:
        if value not in words:
            raise ValueError(f"expected one of {', '.join(map(_quoted, words))}, not {_shown(value)}")
        return str(value)

    return Kind(read, _quoted)


def _word(form: str, pattern: str) -> Kind:
    def read(value: object, _: Path) -> str:
        word = _text(value, form)
        if not re.fullmatch(pattern, word, re.ASCII):
            raise ValueError(f"expected {form}, not {_shown(value)}")
        return word

    return Kind(read, _quoted)


def _list(form: str, least: int, item: Callable[[str], object]) -> Kind:
    def read(value: object, _: Path) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise ValueError(f"expected a list of {form}, not {_shown(value)}")  # noqa: TRY004  a Kind raises ValueError
        items = tuple(item(_text(one, form)) for one in value)
        if len(items) < least:
            raise ValueError(f"expected a list of {form}, and it is empty")
        if len(set(items)) < len(items):
            raise ValueError("something stands in this list twice")
        return items

    return Kind(read, _listed)


def _domain(text: str) -> str:
    try:
        domain = Mailbox.parse(f"x@{text}").domain
    except AddressError:
        domain = "["
    if domain.startswith("[") or "@" in text:
        raise ValueError(f"expected a domain, not {_shown(text)}")
    return domain


def _scope(text: str) -> Scope:
    try:
        return parse_scope(text)
    except ScopeError as error:
        raise ValueError(f"{_shown(text)} names no stream: {error}") from None


def _endpoint(text: str) -> Endpoint:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})", text)
    try:
        if found and 0 < int(found[3]) < 65536:
            # A bracketed address must be IPv6 and a bare one IPv4, or it would not read the same when it is written back.
            host = ipaddress.IPv6Address(found[1]) if found[1] else ipaddress.IPv4Address(found[2])
            return Endpoint(str(host), int(found[3]))
    except ValueError:
        pass
    raise ValueError(f'expected an IP address and a port such as "192.0.2.1:25" or "[2001:db8::1]:25", not {_shown(text)}')


def _path(*, optional: bool) -> Kind:
    def read(value: object, directory: Path) -> Path | None:
        text = _text(value, "a path")
        if not text and optional:
            return None
        if not text:
            raise ValueError("expected a path, and it is empty")
        return Path(os.path.normpath(directory / text))

    return Kind(read, lambda path: _quoted(str(path) if path else ""))


def _mode(value: object, _: Path) -> int:
    text = _text(value, 'octal permissions such as "0660"')
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError(f'expected octal permissions in quotes such as "0660", not {_shown(value)}')
    return int(text, 8)


_RUN, _STATE = Path("/run/bounced"), Path("/var/lib/bounced")
_PATH, _OPTIONAL_PATH = _path(optional=False), _path(optional=True)
_MODE = Kind(_mode, lambda mode: f'"{mode:04o}"')
_HOST = _word("a host name or nothing", r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?)?")
_GROUP = _word("a group name or nothing", r"(?:[A-Za-z_][A-Za-z0-9_.-]{0,31})?")
_duration = partial(_measure, {"s": 1, "m": 60, "h": 3600, "d": 86400}, 'a duration such as "30d" or "12h" (s, m, h, d)')
_size = partial(_measure, {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}, 'a size such as "10MiB" (B, KiB, MiB, GiB)')
_DOMAINS, _STREAMS = _list("domains", 1, _domain), _list("streams", 1, _scope)
_ENDPOINTS = _list("addresses and ports", 0, _endpoint)

# Each setting is annotated with how it is read and with its sentence in the reference. One without default must be given.


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnPathSettings:
    """The signed return path: whose bounces we take."""

    domains: Annotated[tuple[str, ...], _DOMAINS, "The domains whose MX this host is; the first is the one signed with. Required."]
    scopes: Annotated[tuple[Scope, ...], _STREAMS, "The streams of mail that a recipient can leave one by one."] = (DEFAULT_SCOPE,)
    key_file: Annotated[Path, _PATH, "The keys that sign, made at the first start. Keep a backup."] = _STATE / "return-path.keys"
    max_age: Annotated[int, _duration(3600, MAX_AGE_LIMIT), "How long after the mail was sent its bounce counts."] = 30 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSettings:
    """The SMTP listener, where bounces arrive."""

    listen: Annotated[tuple[Endpoint, ...], _ENDPOINTS, "Where to listen, unless systemd hands over sockets named smtp."] = (
        Endpoint("0.0.0.0", 25),  # noqa: S104  an MX listens everywhere
        Endpoint("::", 25),
    )
    hostname: Annotated[str, _HOST, "The name in the greeting. Empty: the name of the system."] = ""
    max_message: Annotated[int, _size(64 << 10, 1 << 30), "The most octets of one message, announced as SIZE."] = 10 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LmtpSettings:
    """The LMTP listener, for hosts on which another mail server owns port 25."""

    socket: Annotated[Path | None, _OPTIONAL_PATH, "The unix socket for it, unless systemd hands over one named lmtp. Empty: none."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QuerySettings:
    """The unix sockets on which mailers ask, unless systemd hands over one of the same name. Empty: not offered."""

    socketmap: Annotated[Path | None, _OPTIONAL_PATH, "The socketmap protocol (Postfix, sendmail)."] = _RUN / "socketmap.sock"
    policy: Annotated[Path | None, _OPTIONAL_PATH, "Postfix policy delegation (check_policy_service)."] = _RUN / "policy.sock"
    line: Annotated[Path | None, _OPTIONAL_PATH, "A line asked, a line answered (Exim readsocket, shells)."] = _RUN / "line.sock"
    http: Annotated[Path | None, _OPTIONAL_PATH, "JSON over HTTP. Whoever reaches it may also block and release."] = _RUN / "http.sock"
    socket_mode: Annotated[int, _MODE, "The permissions of the sockets that the daemon makes itself, in octal."] = 0o660
    socket_group: Annotated[str, _GROUP, "The group of those sockets: its members may ask. Empty: the daemon's own group."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Where events and records are kept."""

    database: Annotated[Path, _PATH, "The SQLite database, on a local disk. Only the daemon opens it."] = _STATE / "bounced.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """When an address is blocked."""

    soft_limit: Annotated[int, _number(1, 1000), "The n-th soft bounce in a row, without a success between, blocks."] = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSettings:
    """Mail that is kept for people to read, in Maildirs."""

    postmaster: Annotated[Path, _PATH, "Mail to postmaster and abuse at the return-path domains."] = _STATE / "postmaster"
    unread: Annotated[Path, _PATH, "Bounces that were proved to be ours, but that no reader understood."] = _STATE / "unread"
    quota: Annotated[int, _size(1 << 20, 1 << 40), "The most octets of each Maildir; beyond it the oldest mail goes."] = 100 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesSettings:
    """The operator's own rules of judgement, which go before ours."""

    directory: Annotated[Path | None, _OPTIONAL_PATH, "A directory of *.toml files with rule rows. Empty: none."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSection(LogSettings):
    """The log, on standard error."""

    format: Annotated[str, _choice(FORMATS), '"line": for people and grep. "json": one JSON object a line.'] = "line"
    level: Annotated[str, _choice(LEVELS), "The least level that is written."] = "info"
    addresses: Annotated[str, _choice(ADDRESSES), '"plain", or "hashed": a keyed hash, the same for the same address.'] = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings, one attribute a section of the file."""

    return_path: ReturnPathSettings
    smtp: SmtpSettings = SmtpSettings()
    lmtp: LmtpSettings = LmtpSettings()
    query: QuerySettings = QuerySettings()
    store: StoreSettings = StoreSettings()
    policy: PolicySettings = PolicySettings()
    kept: KeptSettings = KeptSettings()
    rules: RulesSettings = RulesSettings()
    log: LogSection = LogSection()


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


def _schema() -> Iterator[Setting]:
    for section, settings_type in _SECTIONS.items():
        for one in dataclasses.fields(settings_type):
            kind, says = get_args(one.type)[1:]
            default = None if one.default is dataclasses.MISSING else kind.write(one.default)
            yield Setting(section=section, name=one.name, kind=kind, says=says, default=default)


_BY_PATH = {f"{setting.section}.{setting.name}": setting for setting in _schema()}
_REQUIRED = {path for path, setting in _BY_PATH.items() if setting.default is None}


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
        raise OperatorFault("\n".join(errors), "Mend the configuration; `bounced config reference` prints every setting with its default.")
    return config


def _built(given: Mapping[str, object]) -> Config:
    parts: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for path, value in given.items():
        section, _, name = path.partition(".")
        parts[section][name] = value
    return Config(**{section: settings_type(**parts[section]) for section, settings_type in _SECTIONS.items()})


def _clashes(config: Config) -> Iterator[str]:
    """Name the settings that have the path of another one: the two would overwrite each other."""
    owners: dict[Path, str] = {}
    for path, value in _values(config):
        if isinstance(value, Path) and owners.setdefault(value, path) != path:
            yield f"{path}: is the same path as {owners[value]}"


def _values(config: Config) -> Iterator[tuple[str, object]]:
    for path, setting in _BY_PATH.items():
        yield path, getattr(getattr(config, setting.section), setting.name)


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
                self._wrong(section, None, f"expected a table, written [{section}], not {_shown(content)}")
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
        path = ".".join(
            part if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", part) else _shown(part) for part in (section, name) if part is not None
        )
        line = _line(self._text, section, name)
        self._errors.append(f"{self._path}{f':{line}' if line else ''}: {path}: {problem}")


def _line(text: str, section: str, name: str | None) -> int | None:
    """Find the line on which a setting stands, written in one of the usual ways; None where it is written otherwise."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line)
        if header:
            inside = header[1].strip("\"'") == section
            if inside and name is None:
                return number
            continue
        key = line.partition("=")[0].strip().replace('"', "").replace("'", "")
        if key in ({name} if inside and name is not None else {section, f"{section}.{name}"}):
            return number
    return None


def _meant(section: str, name: str | None) -> str:
    """Suggest what was meant by an unknown section or setting."""
    if name is None:
        near = difflib.get_close_matches(section, _SECTIONS, 1)
        homes = [near[0]] if near else [path for path in _BY_PATH if path.partition(".")[2] == section]
    else:
        names = {setting.name: path for path, setting in _BY_PATH.items() if setting.section == section}
        near = difflib.get_close_matches(name, names, 1)
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


def reference() -> str:
    """Return the annotated configuration file: every setting with its sentence, its default commented out."""
    lines = [_PREAMBLE]
    for section, settings_type in _SECTIONS.items():
        lines += ["", _comment(settings_type.__doc__), f"[{section}]"]
        for setting in _BY_PATH.values():
            if setting.section == section:
                lines += [_comment(setting.says), f"#{setting.name} = {setting.default or _EXAMPLE}"]
    return "\n".join(lines) + "\n"


_EXAMPLE = '["bounces.example.net"]'
_PREAMBLE = """\
# The configuration of bounced. Every setting stands here with its default; remove the # to change it.
# A duration is written "30d" (s, m, h, d), a size "10MiB" (B, KiB, MiB, GiB). A relative path begins at the directory of this
# file. Files conf.d/*.toml beside it are read after it, in the order of their names; of a setting given twice the later wins.
# `bounced config check` tells everything that is wrong, `bounced config show -n` what differs from the defaults."""


def _comment(text: str) -> str:
    return textwrap.fill(text, 126, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
