"""Whether the disk has room for more mail, so that a full one is told before a mail comes, and not in the middle of it.

For: SMTP's 452 at MAIL. Never: keeping the store from anything; look-ups and what operators do go on.
"""

import os
from collections.abc import Callable
from pathlib import Path

import structlog

_LOOKED_EVERY = 1.0
"""Seconds for which a look at the disk holds."""

_TOLD_EVERY = 60.0
"""Seconds between two log lines that mail is put off."""


class Room:
    """Whether the file system of `path` has enough free: `least` octets, or a tenth of it where that is less."""

    def __init__(self, path: Path, least: int, clock: Callable[[], float]) -> None:
        """Begin; `clock` gives seconds that never go back."""
        self._path = path
        self._least = least
        self._clock = clock
        self._looked = self._told = float("-inf")
        self._enough = True
        self._log = structlog.get_logger("smtp")

    def __call__(self) -> bool:
        """Tell whether there is room. Costs a system call a second; a lack is logged once a minute, and once that it is over."""
        now = self._clock()
        if now - self._looked >= _LOOKED_EVERY:
            self._looked = now
            self._look(now)
        return self._enough

    def _look(self, now: float) -> None:
        try:
            disk = os.statvfs(self._path)
        except OSError:
            return  # the store will say what is wrong with it
        free = disk.f_bavail * disk.f_frsize
        before, self._enough = self._enough, free >= min(self._least, disk.f_blocks * disk.f_frsize // 10)
        if not self._enough and now - self._told >= _TOLD_EVERY:
            self._told = now
            self._log.warning("smtp.disk_full", path=str(self._path), free=free)
        elif self._enough and not before:
            self._told = float("-inf")
            self._log.info("smtp.disk_has_room", path=str(self._path), free=free)
