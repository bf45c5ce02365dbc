"""Distinct genuine bounces without end, signed with an installation's own keys.

For: load. Never: two bounces of one recipient, or of one receiver: a receiver that rejects so many would be a story of its own.
"""

import itertools
import time

from bounced.address import AddressKey
from bounced.scope import DEFAULT_SCOPE
from tests.system.daemon import DOMAIN, Daemon
from tests.system.load import Bounce
from tests.system.mail import NO_SUCH_USER, Failure, report


class Mint:
    """Makes the next bounce: of a new recipient, for a mail signed now."""

    def __init__(self, daemon: Daemon, failure: Failure = NO_SUCH_USER) -> None:
        """Sign for `daemon`, which has its keys already; every bounce says `failure`."""
        self._signer = daemon.signer()
        self._failure = failure
        self._serial = itertools.count(1)

    def __call__(self) -> Bounce:
        """Return recipient, return path and content."""
        recipient = f"user@receiver{next(self._serial)}.example"
        signed = self._signer.sign(AddressKey(recipient), DEFAULT_SCOPE, int(time.time()))
        return recipient, f"{signed.local_part}@{DOMAIN}", report(recipient, self._failure)
