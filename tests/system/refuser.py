"""The other side of the Internet: a real SMTP server that takes mail or refuses it, by the recipient's name.

For: making a real MTA bounce for a real reason. Never: part of the product; it only talks SMTP to the MTA under test.
"""

import asyncio
import threading
from dataclasses import dataclass, field

from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.system.waiting import free_address

REFUSALS = {
    "dead": "550 5.1.1 <{}>: Recipient address rejected: User unknown in virtual mailbox table",
    "full": "552 5.2.2 <{}>: The email account that you tried to reach is over quota",
    "spam": "554 5.7.1 <{}>: Message rejected as spam by content filtering; see https://postmaster.example/delist",
}
"""What is answered to a recipient whose local part begins so; every other is taken."""


@dataclass
class _Doorkeeper:
    taken: list[tuple[str, str]] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802 (aiosmtpd's name)
        for beginning, refusal in REFUSALS.items():
            if address.startswith(beginning):
                return refusal.format(address)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 (aiosmtpd's name)
        self.taken.extend((envelope.mail_from or "", recipient) for recipient in envelope.rcpt_tos)
        self.contents.append((envelope.original_content or b"").decode("ascii", "replace"))
        return "250 2.0.0 taken"


class Refuser:
    """Listens at `address` in a thread of its own between `start` and `stop`; `taken` are the (sender, recipient) of mail it took."""

    def __init__(self) -> None:
        """Choose the address; nothing listens yet."""
        self.address = free_address()
        self._keeper = _Doorkeeper()

    @property
    def taken(self) -> list[tuple[str, str]]:
        """What was taken until now, oldest first."""
        return list(self._keeper.taken)

    @property
    def contents(self) -> list[str]:
        """The mails that were taken, oldest first."""
        return list(self._keeper.contents)

    def start(self) -> None:
        """Listen; returns when the port is open."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="refuser")
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(30)

    def stop(self) -> None:
        """Close everything and end the thread."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _listen(self) -> None:
        host, port = self.address
        self._server = await self._loop.create_server(
            lambda: SMTP(self._keeper, hostname="mx.receiver.example", loop=self._loop), host, port
        )

    async def _close(self) -> None:
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
