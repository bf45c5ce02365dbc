"""The daemon: builds every part once, from the inside out; serves; drains.

For: wiring, start and stop: `serving.py` is its life, `taking.py` what takes bounces, `asking.py` what answers questions, which is all that
the query role is made of and imports. Never: any work of a bounce or of a question. It opens no connection to another machine, and sends no
mail.
"""

import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bounced.settings import Config


class Role(StrEnum):
    """What a process does: all of it; or take bounces, and write; or answer questions, and read (see docs/ARCHITECTURE.md)."""

    ALL = "all"
    SMTP = "smtp"
    QUERY = "query"


Drain = Callable[[float], Awaitable[None]]
Chore = Callable[[], Coroutine[None, None, None]]


@dataclass(frozen=True, slots=True)
class Door:
    """How one sort of socket is bound, where systemd hands over none of its name, and how it is listened at."""

    own: Sequence[Callable[[], socket.socket]]
    listen: Callable[[socket.socket], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a role is made of: its doors by name (the FileDescriptorName of its systemd socket), and how a reload changes it.

    `chores` go on beside the doors, from the moment that they are open until they are closed. `works` does for a trial all that the role is
    for, and tells whether it could. `renew` reads what a reload changes, or raises OperatorFault; what it returns puts it in force.
    """

    doors: Mapping[str, Door]
    drains: Sequence[Drain]
    chores: Sequence[Chore]
    works: Callable[[], Awaitable[bool]]
    renew: Callable[[Config], Callable[[], None]]
