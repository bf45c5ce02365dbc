"""What answers questions, and all that the query role is made of.

For: the doors at which mailers and commands ask, over whatever store there is. Never: an import of what only bounces need: after a crash
mailers wait for this role's start.
"""

import contextlib
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bounced import sockets
from bounced.clock import Clock
from bounced.consult import Consult
from bounced.daemon import Door, Drain, Parts
from bounced.fault import OperatorFault
from bounced.keyfile import load_or_make
from bounced.listen import QueryDoor, QuerySettings
from bounced.maildir import Maildir
from bounced.returnpath import KeyRing, ReturnPath
from bounced.settings import Config
from bounced.store import Store
from bounced.store.relay import RelayedStore

Binds = Sequence[Callable[[], socket.socket]]
CLOCK = Clock()


def key_ring(config: Config) -> KeyRing:
    """Return the key ring; a new one only for a new installation: without the old keys no bounce on its way could be proved."""
    if config.store.database.exists() and not config.return_path.key_file.exists():
        raise OperatorFault(
            f"the key file {config.return_path.key_file} is missing, and a database is there",
            "Restore it from the backup; to go on without it, and refuse every bounce on its way, run `bounced rotate-key`.",
        )
    return load_or_make(config.return_path.key_file)


def build(config: Config, ring: KeyRing, stack: contextlib.AsyncExitStack, handed: Collection[str]) -> Parts:
    """Build what answers questions where another process takes the bounces. `handed` names the sockets that systemd hands over."""
    if config.query.writer is None:
        raise OperatorFault("query.writer is empty: the query role has nobody to write for it", "set query.writer, the same for both roles")
    store = RelayedStore(config.store.database, config.query.writer)
    stack.push_async_callback(store.close)
    # The configured address for metrics is the other role's; systemd may hand over another one.
    http = {"http": unix(config, config.query.http), "metrics": ()}
    parts = asked(config, return_path(config, ring), store, stack, http=http, handed=handed)
    # A list that cannot be read is no reason to be started again: it is answered, and would not be mended.
    return replace(parts, chores=[store.keep_open, store.keep_known])


def asked(
    config: Config, path: ReturnPath, store: Store, stack: contextlib.AsyncExitStack, *, http: Mapping[str, Binds], handed: Collection[str]
) -> Parts:
    """Build what answers questions from a store. `http` has the sockets of that door, which is built where there is one."""
    unread = Maildir(config.kept.unread, config.kept.quota)
    domain, text = config.return_path.domains[0], config.query.text
    consult = Consult(domain=domain, return_path=path, store=store, unread=unread, clock=CLOCK, text=text)
    stack.push_async_callback(consult.drain)
    ask = config.query
    query = QueryDoor(consult, QuerySettings(milter_signs=ask.milter_signs))
    doors = {
        "socketmap": Door(unix(config, ask.socketmap), partial(query.listen, protocol="socketmap")),
        "policy": Door(unix(config, ask.policy), partial(query.listen, protocol="policy")),
        "line": Door(unix(config, ask.line), partial(query.listen, protocol="line")),
        "milter": Door(unix(config, ask.milter), partial(query.listen, protocol="milter")),
    }
    drains: list[Drain] = [query.drain]
    if any(http.values()) or not http.keys().isdisjoint(handed):
        # Its libraries are 5 MiB and a tenth of the start, for nothing where nobody can ask there.
        from bounced.http import HttpDoor  # noqa: PLC0415

        door = HttpDoor(consult)
        listen = {"http": door.listen, "metrics": door.listen_for_metrics}
        doors |= {name: Door(own, listen[name]) for name, own in http.items()}
        drains.append(door.drain)
    return Parts(doors, drains, [], _turns, lambda config: partial(consult.use, return_path(config, key_ring(config))))


def metrics_of(config: Config) -> Binds:
    """Return how the sockets for metrics are bound that the configuration names."""
    return [partial(sockets.tcp, *place, setting="metrics.listen") for place in config.metrics.listen]


def unix(config: Config, path: Path | None) -> Binds:
    """Return how a unix socket of ours is bound, if it has a path."""
    return [partial(sockets.unix, path, config.query.socket_mode, config.query.socket_group)] if path else []


def return_path(config: Config, ring: KeyRing) -> ReturnPath:
    """Return what makes and proves return paths."""
    return ReturnPath(ring=ring, scopes=config.return_path.scopes, max_age=config.return_path.max_age)


async def _turns() -> bool:
    """Do nothing but turn with the loop."""
    return True
