"""The settings: what each is for, how it is written, what it is where nobody gives it.

For: the one place from which the reading, the reference and the documentation are made. Never: files, or the system's name; config.py
reads.

One way to write each thing. A duration is a number and a unit in quotes: s, m, h, d ("30d"). A size likewise: B, KiB, MiB, GiB ("10MiB").
A path is absolute or relative to the directory of the main file, also in conf.d. An empty text turns off what can be turned off.
"""

import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

from bounced.address import AddressError, Mailbox
from bounced.log import ADDRESSES, FORMATS, LEVELS, LogSettings
from bounced.outcome import Category, Disposition
from bounced.outcome.causes import causes
from bounced.policy import Effect
from bounced.returnpath import MAX_AGE_LIMIT
from bounced.scope import DEFAULT_SCOPE, Scope, ScopeError, parse_scope

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


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
        raise ValueError(f"expected {form}, not {shown(value)}")  # noqa: TRY004  a Kind raises ValueError
    if any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in value):
        raise ValueError(f"expected {form}, and a control character stands in it")
    return value


def nearest(word: str, words: Iterable[str]) -> list[str]:
    """Return the one of some words that was meant by another, if any is like it."""
    # Imported late: a daemon that has started never needs it.
    from difflib import get_close_matches  # noqa: PLC0415

    return get_close_matches(word, list(words), 1)


def shown(value: object) -> str:
    """Return a value as an error may repeat it: short, printable ASCII."""
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
            raise ValueError(f"expected {form}, not {shown(value)}")
        number = int(found[1]) * units[found[2]]
        if not least <= number <= most:
            raise ValueError(f"expected {write(least)} to {write(most)}, not {shown(value)}")
        return number

    def write(number: int) -> str:
        largest = max((unit for unit in units if number % units[unit] == 0), key=lambda unit: units[unit])
        return f'"{number // units[largest]}{largest}"'

    return Kind(read, write)


def _number(least: int, most: int) -> Kind:
    def read(value: object, _: Path) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"expected a whole number from {least} to {most}, not {shown(value)}")
        return value

    return Kind(read, str)


def _yes_or_no(value: object, _: Path) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, not {shown(value)}")  # noqa: TRY004  a Kind raises ValueError
    return value


def _choice(words: tuple[str, ...]) -> Kind:
    def read(value: object, _: Path) -> str:
        if value not in words:
            raise ValueError(f"expected one of {', '.join(map(_quoted, words))}, not {shown(value)}")
        return str(value)

    return Kind(read, _quoted)


def _word(form: str, pattern: str) -> Kind:
    def read(value: object, _: Path) -> str:
        word = _text(value, form)
        if not re.fullmatch(pattern, word, re.ASCII):
            raise ValueError(f"expected {form}, not {shown(value)}")
        return word

    return Kind(read, _quoted)


def _list(form: str, least: int, item: Callable[[str], object]) -> Kind:
    def read(value: object, _: Path) -> tuple[object, ...]:
        if not isinstance(value, list):
            written = f", written [{shown(value)}]" if isinstance(value, str) else ""
            raise ValueError(f"expected a list of {form}{written}, not {shown(value)}")  # noqa: TRY004  a Kind raises ValueError
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
        raise ValueError(f"expected a domain, not {shown(text)}")
    return domain


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return _domain(text)


def _scope(text: str) -> Scope:
    try:
        return parse_scope(text)
    except ScopeError as error:
        raise ValueError(f"{shown(text)} names no stream: {error}") from None


def _endpoint(text: str) -> Endpoint:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})", text)
    try:
        if found and 0 < int(found[3]) < 65536:
            # A bracketed address must be IPv6 and a bare one IPv4, or it would not read the same when it is written back.
            host = ipaddress.IPv6Address(found[1]) if found[1] else ipaddress.IPv4Address(found[2])
            return Endpoint(str(host), int(found[3]))
    except ValueError:
        pass
    raise ValueError(f'expected an IP address and a port such as "192.0.2.1:25" or "[2001:db8::1]:25", not {shown(text)}')


def _network(text: str) -> Network:
    try:
        if "%" not in text:
            return ipaddress.ip_network(text)
    except ValueError:
        pass
    raise ValueError(f'expected a network such as "192.0.2.0/24" (with no bits set after the prefix) or an IP address, not {shown(text)}')


def _prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,40}[+=-]", text, re.ASCII) or text.lower() == "b+":
        raise ValueError(f'expected the beginning of a local part such as "bounce+" or "list-", but for "b+", not {shown(text)}')
    return text.lower()


def _local_part(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._+-]{1,64}", text, re.ASCII):
        raise ValueError(f'expected the local part of an address such as "fbl", not {shown(text)}')
    return text.lower()


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
        raise ValueError(f'expected octal permissions in quotes such as "0660", not {shown(value)}')
    return int(text, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Treated:
    """How bounces of one category are treated. `threshold` None is policy.soft_limit; `expiry` (seconds) None is never."""

    action: Effect
    threshold: int | None = None
    expiry: int | None = None
    growth: int = 1


def _treated(itself: Effect, actions: tuple[Effect, ...]) -> Kind:
    """Return the kind of a table with some of the words of `Treated`; what is left out is as the category is by itself."""
    words: Mapping[str, Kind] = {
        "action": _choice(actions),
        "threshold": _number(1, 1000),
        "expiry": _duration(3600, 3650 * 86400),
        "growth": _number(1, 100),
    }

    def read(value: object, directory: Path) -> Treated:
        if not isinstance(value, dict):
            raise ValueError(f'expected a table such as {{ action = "strike", expiry = "90d" }}, not {shown(value)}')  # noqa: TRY004
        found: dict[str, Any] = {"action": itself}
        for name, content in value.items():
            if name not in words:
                near = nearest(name, words) or [", ".join(words)]
                raise ValueError(f"{shown(name)} is no word of it; did you mean {near[0]}?")
            try:
                found[name] = words[name].read(content, directory)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return Treated(**found | {"action": Effect(found["action"])})

    def write(treated: Treated) -> str:
        said = {name: getattr(treated, name) for name in words}
        said["growth"] = None if treated.growth == 1 else treated.growth
        return f"{{ {', '.join(f'{name} = {words[name].write(value)}' for name, value in said.items() if value is not None)} }}"

    return Kind(read, write)


def _reply_text(value: object, _: Path) -> str:
    text = _text(value, "a line of text")
    try:
        shown_text = text.format(cause="complaint", category="no-such-user", day="2026-01-01")
    except (LookupError, ValueError, AttributeError):
        raise ValueError("expected no other words in braces than {cause}, {category} and {day}") from None
    if not shown_text or len(shown_text) > 400 or not shown_text.isascii() or not shown_text.isprintable():
        raise ValueError("expected 1 to 400 characters of printable ASCII: it becomes an SMTP reply")
    return text


_RUN, _STATE = Path("/run/bounced"), Path("/var/lib/bounced")
_PATH, _OPTIONAL_PATH = _path(optional=False), _path(optional=True)
_MODE = Kind(_mode, lambda mode: f'"{mode:04o}"')
_REPLY_TEXT = Kind(_reply_text, _quoted)
_HOST = _word("a host name or nothing", r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9])?)?")
_GROUP = _word("a group name or nothing", r"(?:[A-Za-z_][A-Za-z0-9_.-]{0,31})?")
_duration = partial(_measure, {"s": 1, "m": 60, "h": 3600, "d": 86400}, 'a duration such as "30d" or "12h" (s, m, h, d)')
_size = partial(_measure, {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}, 'a size such as "10MiB" (B, KiB, MiB, GiB)')
_DOMAINS, _STREAMS = _list("domains", 1, _domain), _list("streams", 1, _scope)
_NO_DOMAINS, _HOSTS = _list("domains", 0, _domain), _list("host names and IP addresses", 0, _host)
_NO_STREAMS = _list("streams", 0, _scope)
_ENDPOINTS = _list("addresses and ports", 0, _endpoint)
_NETWORKS = _list("networks", 0, _network)
_PREFIXES = _list('beginnings of local parts such as "bounce+"', 0, _prefix)
_MAILBOXES = _list("local parts of addresses", 0, _local_part)
_YES_OR_NO = Kind(_yes_or_no, lambda value: str(value).lower())

# Each setting is annotated with how it is read and with its sentence in the reference. One without default must be given.


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnPathSettings:
    """The signed return path: whose bounces we take."""

    domains: Annotated[tuple[str, ...], _DOMAINS, "The domains whose MX this host is; the first is the one signed with. Required."]
    scopes: Annotated[tuple[Scope, ...], _STREAMS, "The streams of mail that a recipient can leave one by one."] = (DEFAULT_SCOPE,)
    key_file: Annotated[Path, _PATH, "The keys that sign, made at the first start. Keep a backup."] = _STATE / "return-path.keys"
    max_age: Annotated[int, _duration(3600, MAX_AGE_LIMIT), "How long after the mail was sent its bounce counts."] = 30 * 86400
    unsigned: Annotated[
        tuple[str, ...],
        _PREFIXES,
        'While you migrate: prefixes such as "bounce+" of unsigned VERP (bounce+user=host) that is taken too. Anybody can forge it.',
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpSettings:
    """The SMTP listener, where bounces arrive."""

    listen: Annotated[tuple[Endpoint, ...], _ENDPOINTS, "Where to listen, unless systemd hands over sockets named smtp."] = (
        Endpoint("0.0.0.0", 25),  # noqa: S104  an MX listens everywhere
        Endpoint("::", 25),
    )
    hostname: Annotated[str, _HOST, "The name in the greeting. Empty: the name of the system."] = ""
    max_message: Annotated[int, _size(64 << 10, 1 << 30), "The most octets of one message, announced as SIZE."] = 10 << 20
    tls_certificate: Annotated[
        Path | None, _OPTIONAL_PATH, "The certificate for STARTTLS and the chain after it, in PEM form; HUP reads it anew. Empty: no TLS."
    ] = None
    tls_key: Annotated[Path | None, _OPTIONAL_PATH, "Its private key. Empty: it is in the same file."] = None
    proxy_from: Annotated[
        tuple[Network, ...], _NETWORKS, "Networks of proxies (haproxy) that begin each connection with a PROXY header, version 1 or 2."
    ] = ()
    min_free: Annotated[
        int, _size(0, 1 << 40), "While the disk of the database has less room, or less than a tenth of itself free, mail is put off (452)."
    ] = 64 << 20


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
    milter: Annotated[Path | None, _OPTIONAL_PATH, "The milter protocol (sendmail, Postfix)."] = _RUN / "milter.sock"
    milter_signs: Annotated[
        bool, _YES_OR_NO, "Let the milter sign the return path of mail from the return-path domain to one recipient."
    ] = False
    http: Annotated[Path | None, _OPTIONAL_PATH, "JSON over HTTP. Whoever reaches it may also block and release."] = _RUN / "http.sock"
    writer: Annotated[Path | None, _OPTIONAL_PATH, "Where `--role smtp` takes what `--role query` has to have written."] = (
        _RUN / "writer.sock"
    )
    text: Annotated[
        str, _REPLY_TEXT, "What the sender of a refused mail is told, after 550 5.7.1; {cause}, {category} and {day} are filled in."
    ] = "recipient is on the suppression list ({cause}, {category}, {day})"
    socket_mode: Annotated[int, _MODE, "The permissions of the sockets that the daemon makes itself, in octal."] = 0o660
    socket_group: Annotated[str, _GROUP, "The group of those sockets: its members may ask. Empty: the daemon's own group."] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """Where Prometheus asks: it cannot ask on a unix socket. The same metrics are at /metrics of query.http."""

    listen: Annotated[
        tuple[Endpoint, ...], _ENDPOINTS, "Where to serve /metrics and nothing else, unless systemd hands over sockets named metrics."
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Where events and records are kept."""

    database: Annotated[Path, _PATH, "The SQLite database, on a local disk. Only the daemon opens it."] = _STATE / "bounced.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """When an address is blocked."""

    soft_limit: Annotated[int, _number(1, 1000), "The n-th soft bounce in a row, without a success between, blocks."] = 5
    silence: Annotated[int, _duration(86400, 30 * 86400), "A signed mail of which nothing came back for so long was delivered."] = 6 * 86400
    pass_complaints: Annotated[tuple[Scope, ...], _NO_STREAMS, "The streams that go on after a complaint, such as password resets."] = ()
    outage_guard: Annotated[
        bool, _YES_OR_NO, "Hold verdicts back when a provider suddenly says of many living addresses that they do not exist."
    ] = True
    outage_least: Annotated[int, _number(30, 1_000_000), "Of how many addresses, within half an hour, it must say so at least."] = 30


def _by_itself(category: Category) -> Effect:
    return Effect.BLOCK if category is Category.COMPLAINT else _EFFECTS[causes()[category].disposition]


_EFFECTS = {Disposition.HARD: Effect.BLOCK, Disposition.SOFT: Effect.STRIKE, Disposition.BLOCKED: Effect.TELL}
_UNTREATABLE = {Category.AUTO_REPLY, Category.DELIVERED}
CATEGORIES: Mapping[str, Treated] = MappingProxyType(
    {category.value: Treated(action=_by_itself(category)) for category in causes() if category not in _UNTREATABLE}
)
"""How each category is treated by itself, in the order of the reference."""

TREATMENTS: Mapping[str, Kind] = MappingProxyType(
    {
        # One complaint is not a run of five.
        name: _treated(itself.action, tuple(one for one in Effect if one is not Effect.STRIKE or name != Category.COMPLAINT))
        for name, itself in CATEGORIES.items()
    }
)
"""How the table of each category is read and written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackSettings:
    """Feedback loops (RFC 6449), by which mailbox providers report complaints."""

    mailboxes: Annotated[tuple[str, ...], _MAILBOXES, 'Local parts at the return-path domains that they report to, such as "fbl".'] = ()
    trusted: Annotated[
        tuple[Network, ...], _NETWORKS, "Networks whose reports may name the recipient where no signed return path is in them."
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSettings:
    """Mail that is kept: in Maildirs, and in an archive."""

    postmaster: Annotated[Path, _PATH, "Mail to postmaster and abuse at the return-path domains."] = _STATE / "postmaster"
    unread: Annotated[Path, _PATH, "Bounces that were proved to be ours, but that no reader understood."] = _STATE / "unread"
    quota: Annotated[
        int, _size(1 << 20, 1 << 40), "The most octets of each Maildir; beyond it, and beyond 10,000 messages, the oldest mail goes."
    ] = 100 << 20
    archive: Annotated[Path | None, _OPTIONAL_PATH, "Every bounce that was proved to be ours, as it came, compressed. Empty: none."] = None
    archive_quota: Annotated[int, _size(1 << 20, 1 << 40), "The most octets of the archive; beyond it the oldest mail goes."] = 1 << 30
    retention: Annotated[int, _duration(86400, 3650 * 86400), "How long unread bounces and the archive are kept."] = 90 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class OursSettings:
    """How mail is known that left your servers though no mailer signed for it: the sign of a stolen account."""

    hosts: Annotated[
        tuple[str, ...],
        _HOSTS,
        "What your mail servers write after `by` in Received lines, and their public IP addresses. Empty: smtp.hostname, or this system.",
    ] = ()
    domains: Annotated[
        tuple[str, ...], _NO_DOMAINS, "The domains of your Message-IDs, which are believed only where no Received line came back."
    ] = ()


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
    metrics: MetricsSettings = MetricsSettings()
    store: StoreSettings = StoreSettings()
    policy: PolicySettings = PolicySettings()
    category: Mapping[str, Treated] = field(default_factory=lambda: CATEGORIES)
    feedback: FeedbackSettings = FeedbackSettings()
    kept: KeptSettings = KeptSettings()
    ours: OursSettings = OursSettings()
    rules: RulesSettings = RulesSettings()
    log: LogSection = LogSection()
