"""Bounces that are not RFC 3464, one module per family of mail systems.

For: what every dialect offers (`Dialect`), and `DIALECTS`, all modules here, found by name. A new family is a new module with `recognizes`
and `read`. Never: two modules that recognize one message; the order of their names must not matter.
"""

import pkgutil
from typing import Protocol, cast

from bounced.report import DeliveryReport
from bounced.report.prose import Letter


class Dialect(Protocol):
    """What a module here offers."""

    __name__: str

    def recognizes(self, letter: Letter) -> bool:
        """Whether this family wrote the letter, told by what it always writes."""

    def read(self, letter: Letter) -> DeliveryReport | None:
        """Return the report; None if it names no recipient after all."""


DIALECTS: tuple[Dialect, ...] = tuple(
    cast("Dialect", pkgutil.resolve_name(f"{__name__}.{module.name}"))
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda found: found.name)
)
