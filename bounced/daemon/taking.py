"""What takes bounces, and writes.

For: the doors of SMTP and LMTP, intake and the store behind them, and what has to be done now and then. Never: an answer to a question; see
asking.py.
"""

import asyncio
import contextlib
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial

import structlog

from bounced import alarm, metrics, sockets
from bounced.address import AddressKey
from bounced.archive import Archive
from bounced.config import policy_of
from bounced.daemon import Door, Parts, Role
from bounced.daemon.asking import CLOCK, asked, key_ring, metrics_of, return_path, unix
from bounced.daemon.files import certificate_of, rules_of
from bounced.fault import OperatorFault, OwnFault
from bounced.incident import Kind
from bounced.intake import Intake
from bounced.maildir import Maildir
from bounced.provenance import Ours
from bounced.record import Cause
from bounced.relay import RelayDoor
from bounced.returnpath import KeyRing
from bounced.settings import Config
from bounced.smtp.certificate import SOON, Certificate
from bounced.smtp.door import SmtpDoor, SmtpSettings
from bounced.store import Store
from bounced.store.sqlite import SqliteStore
from bounced.trust import Trust

_TIDY_SECONDS = 3600.0

_FLUSH_SECONDS = 10.0
"""Counts of refused mail are stored this often: a crash loses at most so many of them, and never a bounce."""

_STOCK_SECONDS = 60.0
"""What there is, is counted for the metrics this often, or less often where counting takes long."""

_SCRUB_PAUSE, _SCRUB_AGAIN = 0.05, 60.0
"""Seconds between two pieces of the background check, and until it begins anew where it could not read. 10 million addresses take half an
hour."""


async def build(
    config: Config,
    ring: KeyRing,
    stack: contextlib.AsyncExitStack,
    role: Role,
    *,
    handed: Collection[str],
    finish: Callable[[OperatorFault], None],
) -> Parts:
    """Build what takes bounces, from the inside out, so that the stack takes down from the outside in: last counts, then the store.

    `handed` names the sockets that systemd hands over; `finish` ends the daemon by a fault. Raises OperatorFault.
    """
    kept = config.kept
    unread = Maildir(kept.unread, kept.quota, kept.retention)
    archive = Archive(kept.archive, kept.archive_quota, kept.retention) if kept.archive else None
    store = await SqliteStore.open(config.store.database, policy_of(config), [unread, archive] if archive else [unread])
    stack.push_async_callback(store.close)
    path = return_path(config, ring)
    intake = Intake(
        domains=config.return_path.domains,
        return_path=path,
        rules=rules_of(config),
        store=store,
        postmaster=Maildir(kept.postmaster, kept.quota),
        unread=unread,
        archive=archive,
        trust=Trust(verp=config.return_path.unsigned, feedback=frozenset(config.feedback.mailboxes), networks=config.feedback.trusted),
        clock=CLOCK,
        ours=_ours(config),
    )
    stack.push_async_callback(_flush, intake)
    smtp = _smtp_door(config, intake)
    doors = {
        "smtp": Door([partial(sockets.tcp, *endpoint) for endpoint in config.smtp.listen], smtp.listen),
        "lmtp": Door(unix(config, config.lmtp.socket), partial(smtp.listen, lmtp=True)),
    }
    chores = [
        partial(_flush_now_and_then, intake, store),
        partial(_tidy_now_and_then, unread, archive),
        partial(_take_stock, store),
        partial(_scrub, store, finish),
    ]
    http = {} if role is Role.SMTP else {"http": unix(config, config.query.http)}
    questions = asked(config, path, store, stack, http={**http, "metrics": metrics_of(config)}, handed=handed)
    renew = partial(_renew, intake, smtp, questions)
    if role is Role.SMTP:
        relay = RelayDoor(store)
        own = [partial(sockets.unix, config.query.writer, 0o600, "")] if config.query.writer else []
        doors |= {"writer": Door(own, relay.listen)} | {name: door for name, door in questions.doors.items() if name == "metrics"}
        return Parts(doors, [smtp.drain, relay.drain, *questions.drains], chores, partial(_works, store), renew)
    return Parts({**doors, **questions.doors}, [smtp.drain, *questions.drains], [*chores, store.keep_known], partial(_works, store), renew)


def _renew(intake: Intake, smtp: SmtpDoor, questions: Parts, config: Config) -> Callable[[], None]:
    path, rules, certificate = return_path(config, key_ring(config)), rules_of(config), certificate_of(config)
    questions_use = questions.renew(config)

    def use() -> None:
        intake.use(path, rules)
        smtp.use(_told(certificate))
        questions_use()

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
    return SmtpDoor(intake, settings, CLOCK)


def _ours(config: Config) -> Ours:
    hosts = config.ours.hosts or (config.smtp.hostname or socket.gethostname(),)
    return Ours(hosts=frozenset(host.lower() for host in hosts), domains=frozenset(config.ours.domains))


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


async def _flush_now_and_then(intake: Intake, store: Store) -> None:
    while True:
        await asyncio.sleep(_FLUSH_SECONDS)
        await _flush(intake)
        await _settle(store)


async def _scrub(store: SqliteStore, finish: Callable[[OperatorFault], None]) -> None:
    """Read the database for damage in the background; if there is any, end the daemon by it."""
    while True:
        try:
            await store.scrub(_SCRUB_PAUSE)
        except OwnFault as fault:
            structlog.get_logger("daemon").warning("daemon.scrub_waiting", why=str(fault))
            await asyncio.sleep(_SCRUB_AGAIN)
        except OperatorFault as fault:
            return finish(fault)
        else:
            return None


async def _tidy_now_and_then(unread: Maildir, archive: Archive | None) -> None:
    """Let go of kept mail in its time, also where no more comes."""
    while True:
        await asyncio.sleep(_TIDY_SECONDS)
        try:
            await unread.tidy()
            if archive is not None:
                await archive.tidy(int(CLOCK()))
        except (OSError, OwnFault) as error:
            structlog.get_logger("daemon").warning("daemon.untidy", why=str(error))


async def _settle(store: Store) -> None:
    """Let incidents feel that time passes."""
    try:
        alarm.tell(await store.settle(int(CLOCK())))
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
            counted = await store.overview(int(CLOCK()), int(CLOCK()))
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
