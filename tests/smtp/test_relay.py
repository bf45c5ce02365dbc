"""No open relay, and a flood of addresses that we never wrote costs next to nothing."""

import random
from pathlib import Path
from typing import Any

import pytest

from bounced.intake import Admission, LocalMailbox
from bounced.store import StoreFault
from bounced.store.memory import MemoryStore
from tests.smtp.talk import DOMAIN, Client, House, ObservedIntake, on_asyncio

FOREIGN = [
    "joe@elsewhere.example",
    "joe%elsewhere.example@" + DOMAIN,
    "joe%elsewhere.example@[127.0.0.1]",
    "elsewhere.example!joe@" + DOMAIN,
    "elsewhere.example!joe",
    "@" + DOMAIN + ":joe@elsewhere.example",
    "@elsewhere.example:{signed}",
    '"joe@elsewhere.example"@' + DOMAIN,
    '"joe@elsewhere.example"',
    "joe@elsewhere.example@" + DOMAIN,
    "joe",
    "",
    "@" + DOMAIN,
    "joe@",
    "joe@[" + DOMAIN + "]",
    "joe@[192.0.2.1]",
    "joe@." + DOMAIN,
    "joe@" + DOMAIN + ".elsewhere.example",
    "joe@xbounces.example.net",
    "postmaster@elsewhere.example",
    "postmaster%elsewhere.example",
    '"postmaster@elsewhere.example"',
    "abuse",
    "{token}@elsewhere.example",
    "{token}%" + DOMAIN + "@elsewhere.example",
    "{token}",
]


def foreign(house: House, count: int) -> list[str]:
    """Give recipients that are not ours, in every way that relays have been fooled."""
    signed = house.signed()
    shapes = [shape.format(signed=signed, token=signed.partition("@")[0]) for shape in FOREIGN]
    rng = random.Random(8)
    return [shapes[n % len(shapes)].replace("joe", f"joe{rng.randrange(1000)}" if n >= len(shapes) else "joe") for n in range(count)]


async def accepted(address: Any, recipients: list[str]) -> list[str]:
    """Offer recipients, in as many sessions as it takes; return those that were accepted."""
    taken = []
    for at in range(0, len(recipients), 15):
        async with await Client.greeted(address, f"127.0.{1 + at // 15 % 200}.1") as client:
            await client.say(b"MAIL FROM:<spammer@elsewhere.example>")
            for recipient in recipients[at : at + 15]:
                reply = await client.say(b"RCPT TO:<%s>" % recipient.encode())
                assert reply[:3] in {"250", "501", "550", "553"}
                if reply.startswith("250"):
                    taken.append(recipient)
    return taken


@on_asyncio
async def test_nothing_is_relayed(house: House, full_counts: bool) -> None:
    """Of foreign recipients in all disguises, none is accepted."""
    address = await house.open()
    assert await accepted(address, foreign(house, 10_000 if full_counts else 300)) == []


class _TrustingIntake(ObservedIntake):
    def admit(self, envelope: Any) -> Admission:
        admission = super().admit(envelope)
        return LocalMailbox("anybody") if envelope.forward_path.endswith("@elsewhere.example") else admission


@on_asyncio
async def test_a_relay_would_be_noticed(tmp_path: Path) -> None:
    """Where intake takes any recipient elsewhere, the test above sees which."""
    house = House(tmp_path, _TrustingIntake)
    try:
        address = await house.open()
        assert "joe@elsewhere.example" in await accepted(address, foreign(house, len(FOREIGN)))
    finally:
        await house.close()


class _UntouchableStore(MemoryStore):
    def recipient_of(self, opaque_id: str) -> Any:
        raise StoreFault("asked")

    def look_up(self, key: Any) -> Any:
        raise StoreFault("asked")


@on_asyncio
@pytest.mark.parametrize("recipient", [f"joe@{DOMAIN}", f"b+{'a' * 23}+joe=example.org@{DOMAIN}", f"b+{'a' * 23}+{'b' * 16}@{DOMAIN}"])
async def test_a_flood_of_forgeries_does_not_touch_the_store(house: House, recipient: str, full_counts: bool) -> None:
    """Recipients without our seal are refused at RCPT before the store is asked; what is remembered of them is a count."""
    store = house.intake._store = _UntouchableStore(house.store._policy)
    address = await house.open()
    sessions = 500 if full_counts else 20

    for number in range(sessions):
        async with await Client.greeted(address, f"127.0.{1 + number % 200}.1") as client:
            client.send(b"MAIL FROM:<>\r\n" + b"RCPT TO:<%s>\r\n" % recipient.encode() * 19)
            await client.reply()
            assert {(await client.reply())[:9] for _ in range(19)} == {"550 5.1.1"}

    await house.intake.flush()
    assert sum(store.tallies().values()) == sessions * 19


async def test_a_recipient_that_was_put_off_does_not_make_data_permanent(house: House) -> None:
    """A client that pipelines DATA behind a recipient that we could not judge is put off there too, not sent away."""
    address = await house.open()
    async with await Client.greeted(address) as client:
        house.intake.admit_fault = StoreFault("away")
        client.send(b"MAIL FROM:<>\r\nRCPT TO:<%s>\r\nDATA\r\n" % house.signed().encode())
        assert [(await client.reply())[:9] for _ in range(3)] == ["250 2.1.0", "451 4.3.0", "451 4.5.1"]
        house.intake.admit_fault = None
        client.send(b"RSET\r\nMAIL FROM:<>\r\nRCPT TO:<joe@%s>\r\nDATA\r\n" % DOMAIN.encode())
        assert [(await client.reply())[:9] for _ in range(4)] == ["250 2.0.0", "250 2.1.0", "550 5.1.1", "503 5.5.1"]
