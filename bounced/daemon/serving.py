"""The life of the daemon: start, the doors, reload, watchdog, drain.

For: what is the same for every role. Never: what a role is made of.
"""

import asyncio
import contextlib
import gc
import resource
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import structlog

from bounced import metrics, systemd
from bounced.config import changed, load
from bounced.daemon import Drain, Parts, Role, asking
from bounced.fault import OperatorFault
from bounced.log import setup
from bounced.settings import Config

_YOUNG_OBJECTS = 10_000
"""New objects after which garbage is looked for. What a bounce makes holds no circles: at Python's 700 the search is 2 % of its cost."""

_DRAIN_SECONDS = 30.0
"""Open DATA and commits have so long to finish after TERM; the unit's own limit (TimeoutStopSec) is longer."""


async def serve(file: Path, ready: Callable[[list[str]], None], role: Role = Role.ALL) -> None:
    """Run by the configuration in `file` until SIGTERM or SIGINT. `ready` is told where it listens, once it does. Raises OperatorFault."""
    started = time.monotonic()
    _use_all_descriptors()
    config = load(file)
    ring = asking.key_ring(config)
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
        handed = systemd.inherited()
        if role is Role.QUERY:
            parts = asking.build(config, ring, stack, handed)
        else:
            # The query role starts in half the time without what it imports, and mailers wait for it.
            from bounced.daemon import taking  # noqa: PLC0415

            parts = await taking.build(config, ring, stack, role, handed=handed, finish=partial(_finish, end))
        # Ended when the doors are closed, and before what they work with.
        chores = await stack.enter_async_context(contextlib.AsyncExitStack())
        places = await _open_doors(parts, handed, stack)
        loop.add_signal_handler(signal.SIGHUP, _reload, file, config, parts)
        log.info("daemon.ready", role=role, took=round(time.monotonic() - started, 3))
        ready(places)
        systemd.notify("READY=1")
        # What stands now stays: a search for garbage stops everybody, the longer the more it looks at.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG_OBJECTS)
        for chore in (_feed_watchdog(parts.works), *(chore() for chore in parts.chores)):
            chores.push_async_callback(_cancel, asyncio.create_task(chore))
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


def _reload(file: Path, started_with: Config, parts: Parts) -> None:
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


async def _open_doors(parts: Parts, handed: dict[str, list[socket.socket]], stack: contextlib.AsyncExitStack) -> list[str]:
    """Open every door that the configuration names, on the sockets that systemd hands over or else on our own."""
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


async def _drain(*drains: Drain) -> None:
    """Close all doors at once: one after the other would take longer than the unit waits, and let mail in meanwhile."""
    await asyncio.gather(*(drain(_DRAIN_SECONDS) for drain in drains))


def _owned(sock: socket.socket, stack: contextlib.AsyncExitStack) -> socket.socket:
    # uvloop lets go of a socket without closing it, and the path of a unix socket goes by its close().
    stack.callback(sock.close)
    return sock


def _where(sock: socket.socket) -> str:
    name = sock.getsockname()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)


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
