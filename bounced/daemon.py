"""The daemon: builds every part once, from the inside out; serves; drains.

For: wiring, start and stop. Never: any work of a bounce or of a question. It opens no connection to another machine, and sends no mail.
"""

import asyncio
import contextlib
import gc
import resource
import signal
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path

import structlog

from bounced import alarm, metrics, sockets, systemd
from bounced.address import AddressKey
from bounced.archive import Archive
from bounced.clock import Clock
from bounced.config import changed, load, policy_of
from bounced.consult import Consult
from bounced.fault import OperatorFault, OwnFault
from bounced.http import HttpDoor
from bounced.incident import Kind
from bounced.intake import Intake
from bounced.keyfile import load_or_make
from bounced.listen import QueryDoor, QuerySettings
from bounced.log import setup
from bounced.maildir import Maildir
from bounced.outcome.rows import RuleError
from bounced.outcome.ruleset import RuleSet
from bounced.provenance import Ours
from bounced.record import Cause
from bounced.relay import RelayDoor
from bounced.returnpath import KeyRing, ReturnPath
from bounced.settings import Config
from bounced.smtp.certificate import SOON, Certificate
from bounced.smtp.certificate import load as load_certificate
from bounced.smtp.door import SmtpDoor, SmtpSettings
from bounced.store import Store
from bounced.store.relay import RelayedStore
from bounced.store.sqlite import SqliteStore
from bounced.trust import Trust

_TIDY_SECONDS = 3600.0
_CLOCK = Clock()

_FLUSH_SECONDS = 10.0
"""Counts of refused mail are stored this often: a crash loses at most so many of them, and never a bounce."""

_STOCK_SECONDS = 60.0
"""What there is, is counted for the metrics this often, or less often where counting takes long."""

_SCRUB_PAUSE, _SCRUB_AGAIN = 0.05, 60.0
"""Seconds between two pieces of the background check, and until it begins anew where it could not read. 10 million addresses take half an
hour."""

_YOUNG_OBJECTS = 10_000
"""New objects after which garbage is looked for. What a bounce makes holds no circles: at Python's 700 the search is 2 % of its cost."""

_DRAIN_SECONDS = 30.0
"""Open DATA and commits have so long to finish after TERM; the unit's own limit (TimeoutStopSec) is longer."""


class Role(StrEnum):
    """What a process does: all of it; or take bounces, and write; or answer questions, and read (see docs/ARCHITECTURE.md)."""

    ALL = "all"
    SMTP = "smtp"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class _Door:
    """How one sort of socket is bound, where systemd hands over none of its name, and how it is listened at."""

    own: Sequence[Callable[[], socket.socket]]
    listen: Callable[[socket.socket], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a role is made of: its doors by name (the FileDescriptorName of its systemd socket), and how a reload changes it.

    `renew` reads what a reload changes, or raises OperatorFault; what it returns puts it in force.
    """

    doors: Mapping[str, _Door]
    drains: Sequence[Callable[[float], Awaitable[None]]]
    renew: Callable[[Config], Callable[[], None]]


async def serve(file: Path, ready: Callable[[list[str]], None], role: Role = Role.ALL) -> None:
    """Run by the configuration in `file` until SIGTERM or SIGINT. `ready` is told where it listens, once it does. Raises OperatorFault."""
    started = time.monotonic()
    _use_all_descriptors()
    config = load(file)
    ring = _key_ring(config)
    sink = setup(config.log, sys.stderr, ring)
    log = structlog.get_logger("daemon")
    loop = asyncio.get_running_loop()
    end: asyncio.Future[None] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _finish, end)
    # What is read now is as new as a reload could make it, and unhandled the signal would end us.
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(sink.close)
        metrics.watch(config.store.database, lambda: sink.dropped)
        parts = _build_query(config, ring, stack) if role is Role.QUERY else await _build(config, ring, stack, role, end)
        places = await _open_doors(parts, stack)
        # What stands now stays: a search for garbage stops everybody, the longer the more it looks at.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG_OBJECTS)
        loop.add_signal_handler(signal.SIGHUP, _reload, file, config, parts)
        log.info("daemon.ready", role=role, took=round(time.monotonic() - started, 3))
        ready(places)
        systemd.notify("READY=1")
        await end
        systemd.notify("STOPPING=1")
        log.info("daemon.stopping")


def _finish(end: asyncio.Future[None], fault: OperatorFault | None = None) -> None:
    """Let the daemon end, in order or by a fault, unless it is about to."""
    if end.done():
        return
    if fault is None:
        end.set_result(None)
    else:
        end.set_exception(fault)


def _use_all_descriptors() -> None:
    """Raise the soft limit on descriptors to the hard one: the soft one of 1,024 is for programs that use select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _key_ring(config: Config) -> KeyRing:
    """Return the key ring; a new one only for a new installation: without the old keys no bounce on its way could be proved."""
    if config.store.database.exists() and not config.return_path.key_file.exists():
        raise OperatorFault(
            f"the key file {config.return_path.key_file} is missing, and a database is there",
            "Restore it from the backup; to go on without it, and refuse every bounce on its way, run `bounced rotate-key`.",
        )
    return load_or_make(config.return_path.key_file)


async def _build(config: Config, ring: KeyRing, stack: contextlib.AsyncExitStack, role: Role, end: asyncio.Future[None]) -> _Parts:
    """Build what takes bounces, from the inside out, so that the stack takes down from the outside in: chores, last counts, store."""
    kept = config.kept
    unread = Maildir(kept.unread, kept.quota, kept.retention)
    archive = Archive(kept.archive, kept.archive_quota, kept.retention) if kept.archive else None
    store = await SqliteStore.open(config.store.database, policy_of(config), [unread, archive] if archive else [unread])
    stack.push_async_callback(store.close)
    return_path = _return_path(config, ring)
    intake = Intake(
        domains=config.return_path.domains,
        return_path=return_path,
        rules=rules_of(config),
        store=store,
        postmaster=Maildir(kept.postmaster, kept.quota),
        unread=unread,
        archive=archive,
        trust=Trust(verp=config.return_path.unsigned, feedback=frozenset(config.feedback.mailboxes), networks=config.feedback.trusted),
        clock=_CLOCK,
        ours=_ours(config),
    )
    stack.push_async_callback(_flush, intake)
    smtp = _smtp_door(config, intake)
    doors = {
        "smtp": _Door([partial(sockets.tcp, *endpoint) for endpoint in config.smtp.listen], smtp.listen),
        "lmtp": _Door(_unix(config, config.lmtp.socket), partial(smtp.listen, lmtp=True)),
    }
    chores = (
        _flush_now_and_then(intake, store),
        _tidy_now_and_then(unread, archive),
        _feed_watchdog(partial(_works, store)),
        _take_stock(store),
        _scrub(store, end),
    )
    for chore in chores:
        _begin(stack, chore)
    asked = _asked(config, return_path, store, stack)
    if role is Role.SMTP:
        relay = RelayDoor(store)
        own = [partial(sockets.unix, config.query.writer, 0o600, "")] if config.query.writer else []
        doors |= {"writer": _Door(own, relay.listen), "metrics": asked.doors["metrics"]}
        return _Parts(doors, [smtp.drain, relay.drain, *asked.drains], partial(_renew, intake, smtp, asked))
    _begin(stack, store.keep_known())
    return _Parts({**doors, **asked.doors}, [smtp.drain, *asked.drains], partial(_renew, intake, smtp, asked))


def _renew(intake: Intake, smtp: SmtpDoor, asked: _Parts, config: Config) -> Callable[[], None]:
    return_path, rules, certificate = _return_path(config, _key_ring(config)), rules_of(config), certificate_of(config)
    asked_use = asked.renew(config)

    def use() -> None:
        intake.use(return_path, rules)
        smtp.use(_told(certificate))
        asked_use()

    return use


def _smtp_door(config: Config, intake: Intake) -> SmtpDoor:
    settings = SmtpSettings(
        hostname=config.smtp.hostname or socket.gethostname(),
        max_message=config.smtp.max_message,
        tls=_told(certificate_of(config)),
        proxy_from=config.smtp.proxy_from,
        disk=config.store.database.parent,
        min_free=config.smtp.min_free,
    )
    return SmtpDoor(intake, settings, _CLOCK)


def _build_query(config: Config, ring: KeyRing, stack: contextlib.AsyncExitStack) -> _Parts:
    """Build what answers questions where another process takes the bounces."""
    if config.query.writer is None:
        raise OperatorFault("query.writer is empty: the query role has nobody to write for it", "set query.writer, the same for both roles")
    store = RelayedStore(config.store.database, config.query.writer)
    stack.push_async_callback(store.close)
    parts = _asked(config, _return_path(config, ring), store, stack)
    # The configured address is the other role's; systemd may hand over another one.
    parts = replace(parts, doors={**parts.doors, "metrics": replace(parts.doors["metrics"], own=())})
    # A list that cannot be read is no reason to be started again: it is answered, and would not be mended.
    for chore in (store.keep_open(), store.keep_known(), _feed_watchdog(_turns)):
        _begin(stack, chore)
    return parts


def _asked(config: Config, return_path: ReturnPath, store: Store, stack: contextlib.AsyncExitStack) -> _Parts:
    """Build what answers questions from a store."""
    unread = Maildir(config.kept.unread, config.kept.quota)
    consult = Consult(
        domain=config.return_path.domains[0], return_path=return_path, store=store, unread=unread, clock=_CLOCK, text=config.query.text
    )
    stack.push_async_callback(consult.drain)
    ask = config.query
    query, http = QueryDoor(consult, QuerySettings(milter_signs=ask.milter_signs)), HttpDoor(consult)
    doors = {
        "socketmap": _Door(_unix(config, ask.socketmap), partial(query.listen, protocol="socketmap")),
        "policy": _Door(_unix(config, ask.policy), partial(query.listen, protocol="policy")),
        "line": _Door(_unix(config, ask.line), partial(query.listen, protocol="line")),
        "milter": _Door(_unix(config, ask.milter), partial(query.listen, protocol="milter")),
        "http": _Door(_unix(config, ask.http), http.listen),
        "metrics": _Door(
            [partial(sockets.tcp, *place, setting="metrics.listen") for place in config.metrics.listen], http.listen_for_metrics
        ),
    }
    return _Parts(doors, [query.drain, http.drain], lambda config: partial(consult.use, _return_path(config, _key_ring(config))))


def _unix(config: Config, path: Path | None) -> Sequence[Callable[[], socket.socket]]:
    return [partial(sockets.unix, path, config.query.socket_mode, config.query.socket_group)] if path else []


def _begin(stack: contextlib.AsyncExitStack, chore: Coroutine[None, None, None]) -> None:
    stack.push_async_callback(_cancel, asyncio.create_task(chore))


def _ours(config: Config) -> Ours:
    hosts = config.ours.hosts or (config.smtp.hostname or socket.gethostname(),)
    return Ours(hosts=frozenset(host.lower() for host in hosts), domains=frozenset(config.ours.domains))


def _return_path(config: Config, ring: KeyRing) -> ReturnPath:
    return ReturnPath(ring=ring, scopes=config.return_path.scopes, max_age=config.return_path.max_age)


def _reload(file: Path, started_with: Config, parts: _Parts) -> None:
    """At SIGHUP: take keys, streams, rules and certificate anew, all or none; the rest of the configuration is read at the start only."""
    log = structlog.get_logger("daemon")
    systemd.notify("RELOADING=1")
    try:
        config = load(file)
        use = parts.renew(config)
    except OperatorFault as fault:
        log.error("daemon.kept_old", why=str(fault), hint=fault.hint)  # noqa: TRY400 - a traceback tells the operator nothing
    else:
        use()
        log.info("daemon.reloaded", restart_for=_needs_restart(started_with, config))
    finally:
        systemd.notify("READY=1")


def _needs_restart(before: Config, after: Config) -> str:
    """Name the settings that changed and are read at the start only."""
    taken = {
        *("return_path.scopes", "return_path.max_age", "return_path.key_file", "rules.directory"),
        "smtp.tls_certificate",
        "smtp.tls_key",
    }
    return " ".join(path for path in changed(before, after) if path not in taken)


def certificate_of(config: Config) -> Certificate | None:
    """Return the certificate for STARTTLS, if there is to be one. Raises OperatorFault."""
    settings = config.smtp
    return load_certificate(settings.tls_certificate, settings.tls_key) if settings.tls_certificate else None


def _told(certificate: Certificate | None) -> ssl.SSLContext | None:
    """Log until when the certificate is good, and return what shakes hands by it."""
    metrics.certificate_ends(None if certificate is None else certificate.ends)
    if certificate is None:
        return None
    log, left = structlog.get_logger("daemon"), certificate.days_left(time.time())
    log.info("smtp.certificate", names=" ".join(certificate.names), expires=certificate.expires, days_left=left)
    if left < SOON:
        log.warning("smtp.certificate_expires", expires=certificate.expires, days_left=left)
    return certificate.context


def rules_of(config: Config) -> RuleSet:
    """Return the rules that come with us, with the operator's own rows over them. Raises OperatorFault."""
    rules = RuleSet.builtin()
    directory = config.rules.directory
    if directory is None:
        return rules
    try:
        return rules.with_rules({path.name: path.read_text() for path in sorted(directory.glob("*.toml"))})
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorFault(f"cannot read the rules in {directory}: {error}", "check rules.directory") from error
    except RuleError as error:
        raise OperatorFault(str(error), f"mend the rows in {directory}") from error


async def _open_doors(parts: _Parts, stack: contextlib.AsyncExitStack) -> list[str]:
    """Open every door that the configuration names, on the sockets that systemd hands over or else on our own."""
    handed = systemd.inherited()
    stack.push_async_callback(_drain, *parts.drains)
    places = []
    for name, door in parts.doors.items():
        for sock in handed.pop(name, None) or [_owned(bind(), stack) for bind in door.own]:
            await door.listen(sock)
            places.append(f"{name} {_where(sock)}")
    if handed:
        hint = "Correct their FileDescriptorName=, or their Service= where it is another role's."
        raise OperatorFault(f"systemd hands over sockets that nobody here knows: {', '.join(handed)}", hint)
    if not places:
        raise OperatorFault("nothing to listen on", "Set smtp.listen or a socket in the configuration, or start by systemd's sockets.")
    return places


async def _drain(*drains: Callable[[float], Awaitable[None]]) -> None:
    """Close all doors at once: one after the other would take longer than the unit waits, and let mail in meanwhile."""
    await asyncio.gather(*(drain(_DRAIN_SECONDS) for drain in drains))


def _owned(sock: socket.socket, stack: contextlib.AsyncExitStack) -> socket.socket:
    # uvloop lets go of a socket without closing it, and the path of a unix socket goes by its close().
    stack.callback(sock.close)
    return sock


def _where(sock: socket.socket) -> str:
    name = sock.getsockname()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)


async def _flush_now_and_then(intake: Intake, store: Store) -> None:
    while True:
        await asyncio.sleep(_FLUSH_SECONDS)
        await _flush(intake)
        await _settle(store)


async def _scrub(store: SqliteStore, end: asyncio.Future[None]) -> None:
    """Read the database for damage in the background; if there is any, end the daemon by it."""
    while True:
        try:
            await store.scrub(_SCRUB_PAUSE)
        except OwnFault as fault:
            structlog.get_logger("daemon").warning("daemon.scrub_waiting", why=str(fault))
            await asyncio.sleep(_SCRUB_AGAIN)
        except OperatorFault as fault:
            return _finish(end, fault)
        else:
            return None


async def _tidy_now_and_then(unread: Maildir, archive: Archive | None) -> None:
    """Let go of kept mail in its time, also where no more comes."""
    while True:
        await asyncio.sleep(_TIDY_SECONDS)
        try:
            await unread.tidy()
            if archive is not None:
                await archive.tidy(int(_CLOCK()))
        except (OSError, OwnFault) as error:
            structlog.get_logger("daemon").warning("daemon.untidy", why=str(error))


async def _settle(store: Store) -> None:
    """Let incidents feel that time passes."""
    try:
        alarm.tell(await store.settle(int(_CLOCK())))
    except OwnFault as fault:
        structlog.get_logger("daemon").warning("daemon.incidents_waiting", why=str(fault))


async def _flush(intake: Intake) -> None:
    try:
        await intake.flush()
    except OwnFault as fault:
        structlog.get_logger("daemon").warning("daemon.tallies_waiting", why=str(fault))


async def _take_stock(store: Store) -> None:
    """Count for the metrics what there is: at the start, then so seldom that it takes no more than a thousandth of the time."""
    while True:
        began = time.monotonic()
        try:
            counted = await store.overview(int(_CLOCK()), int(_CLOCK()))
            opened = Counter(incident.kind.value for incident in store.incidents() if incident.closed_at is None)
        except OwnFault:
            pass  # the lookups tell of it; old numbers are no harm
        else:
            blocks = {cause.value: counted.blocks.get(cause, 0) for cause in Cause}
            metrics.take_stock(counted.known, blocks, {kind.value: opened[kind.value] for kind in Kind})
        await asyncio.sleep(max(_STOCK_SECONDS, 1000 * (time.monotonic() - began)))


async def _works(store: SqliteStore) -> bool:
    """Do all that a bounce needs: a lookup, and a commit by the writing thread that reaches the disk.

    A commit that fails is answered, and no new start would mend it; one that hangs keeps this from returning. A list that cannot be read is
    read anew by a new start.
    """
    try:
        store.look_up(AddressKey("health@invalid"))
    except OwnFault:
        return False
    with contextlib.suppress(OwnFault):
        await store.probe()
    return True


async def _turns() -> bool:
    """Do nothing but turn with the loop."""
    return True


async def _feed_watchdog(works: Callable[[], Awaitable[bool]]) -> None:
    """Tell systemd that we live, as often as it wants, and only after the work was done for a trial."""
    seconds = systemd.watchdog_interval()
    if seconds is None:
        return
    while True:
        if await works():
            systemd.notify("WATCHDOG=1")
        await asyncio.sleep(seconds / 3)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
