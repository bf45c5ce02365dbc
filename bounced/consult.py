"""One question from the socket to the answer, and what mailers and people tell us.

For: everything that a door asks of the store on somebody's behalf. Never: a wire format, and never "clear" because something broke.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, assert_never, cast

import structlog
from msgspec.structs import replace

from bounced.address import AddressError, AddressKey, Mailbox, address_key, is_drill
from bounced.incident import Incident, Ruling
from bounced.maildir import Maildir
from bounced.policy import awaits_success
from bounced.query import Answer, Answers, Aside, Check, CheckMany, Clear, Garbled, Question, Sign, SignedPath, Suppressed, Trouble
from bounced.record import AddressRecord, AnyEvent, Blocked, Cause, Delivered, Released, Sent, Standing, first_block
from bounced.returnpath import EARLIEST, Claims, Refusal, ReturnPath
from bounced.scope import EVERYWHERE, Scope
from bounced.store import TALLY_DAYS, Overview, Place, Recorded, Store, StoreFault, Tally, Unmatched
from bounced.store.rows import without
from bounced.takeover import Taken

TEXT = "recipient is on the suppression list ({cause}, {category}, {day})"
"""What the sender of a mail to a suppressed recipient is told."""

_Told = tuple[int, Suppressed | Clear | Trouble, bool]
"""The answer to the question at a place, and whether it lasts until the next commit."""

_CLEAR = Clear()
_USUAL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._=+-"
_PAGE = 500
"""What is listed at once: it takes the event loop some milliseconds."""


MOST_EVENTS = 1000
"""Events of one address that are told, the newest: reading 50,000 would keep every mailer waiting for most of a second."""


class Consult:
    """Answers for the return-path domain `domain`, whose signed paths it hands out."""

    def __init__(
        self, *, domain: str, return_path: ReturnPath, store: Store, unread: Maildir, clock: Callable[[], float], text: str = TEXT
    ) -> None:
        """Put the parts together; `unread` has the mail that no reader understood, `clock` gives Unix seconds, `text` tells senders."""
        self._domain = domain
        self._return_path = return_path
        self._store = store
        self._unread = unread
        self._clock = clock
        self._text = text
        self._remembering: dict[AddressKey, asyncio.Task[None]] = {}
        self._log = structlog.get_logger("consult")

    @property
    def domain(self) -> str:
        """The domain of the return paths that are signed here."""
        return self._domain

    def use(self, return_path: ReturnPath) -> None:
        """Go on with other keys and streams."""
        self._return_path = return_path

    async def answer(self, question: Question) -> Answer:
        """Answer one question of a wire protocol. Never raises."""
        match question:
            case Check():
                return self.check(question)
            case CheckMany():
                return self.check_many(question)
            case Sign():
                return await self.sign(question)
            case Aside():
                return Clear()
            case Garbled(reason=reason):
                return Trouble(reason)
            case _:
                assert_never(question)

    def check(self, question: Check) -> Suppressed | Clear | Trouble:
        """Tell whether mail of a stream may go to an address. What is no address cannot be on the list, and is the mailer's to refuse."""
        return self.check_lasting(question)[0]

    def check_lasting(self, question: Check) -> tuple[Suppressed | Clear | Trouble, bool]:
        """Answer `check`, and tell whether it will be answered so until `version` is another one."""
        if question.scope not in self._return_path.scopes:
            return Trouble("this scope is not declared in the configuration"), False
        try:
            key = _key(question.recipient)
            return self._told(key, question.scope, self._store.blocking(key), self.now())
        except AddressError:
            return _CLEAR, True
        except StoreFault as fault:
            self._log.error("query.failed", why=str(fault))
            return Trouble("the suppression list cannot be read now"), False

    def version(self) -> object | None:
        """Return what changes whenever an answer that lasts may become another one; None where that cannot be told now."""
        found = self._store.version()
        return None if found is None else (found, self._return_path)

    def check_many(self, question: CheckMany) -> Answers:
        """Answer `check` for each line; the store is asked for all of them at once."""
        lines = question.lines.replace(b"\r\n", b"\n")
        count = lines.count(b"\n")
        # Marks that need no quotes, one @ in each line, no dot at the end: what is an address is its own key in lower case.
        usual = lines.translate(None, _USUAL) == b"@\n" * count and b".\n" not in lines
        told: Iterable[_Told] | None = None
        if usual and question.scope in self._return_path.scopes:
            with suppress(StoreFault):  # then each is told so
                told = self._told_of_many(cast("list[AddressKey]", lines.lower().decode("ascii").split("\n")[:-1]), question.scope)
        if told is None:
            written = lines.decode("utf-8", "surrogateescape").split("\n")[:-1]
            told = ((place, *self.check_lasting(Check(one, question.scope))) for place, one in enumerate(written))
        others, passing = {}, []
        for place, answer, lasts in told:
            if not isinstance(answer, Clear):
                others[place] = answer
            if not lasts:
                passing.append(place)
        return Answers(count, others, passing)

    def block_of(self, key: AddressKey, scope: Scope) -> Standing | None:
        """Return what keeps mail of a stream from an address, also from a forgotten one; None means clear. Raises StoreFault."""
        return self._block(key, scope, self._store.blocking(key), self.now())[0]

    def _told_of_many(self, keys: Sequence[AddressKey], scope: Scope) -> Sequence[_Told]:
        """Answer for all addresses but those that are clear until the next commit. Raises StoreFault."""
        found = self._store.blocking_of_many(keys)
        each, now = self._store.any_forgotten(), self.now()
        return [(place, *self._told(key, scope, found.get(key, ()), now)) for place, key in enumerate(keys) if each or key in found]

    def _told(self, key: AddressKey, scope: Scope, standings: Sequence[Standing], now: int) -> tuple[Suppressed | Clear, bool]:
        """Answer for an address with these standings, and tell whether that lasts until the next commit. Raises StoreFault."""
        block, lasts = self._block(key, scope, standings, now)
        return (_CLEAR if block is None else _suppressed(self._text, block.cause, block.category, (block.since or 0) // 86400)), lasts

    def _block(self, key: AddressKey, scope: Scope, standings: Sequence[Standing], now: int) -> tuple[Standing | None, bool]:
        """Return `block_of` an address with these standings, and whether it lasts until the next commit. Raises StoreFault."""
        block = first_block(standings, scope, now) if standings else None
        # After its own name: who is forgotten between the two stands under his pseudonym by now.
        if block is None and self._store.any_forgotten():
            for name in self._return_path.ring.pseudonyms(key):
                standings = [*standings, *self._store.blocking(name)]
            block = first_block(standings, scope, now)
        # Without a standing that has a cause nothing begins by itself.
        return block, not standings if block is None else block.until is None and block.rests_until is None

    async def sign(self, question: Sign) -> SignedPath | Trouble:
        """Sign a return path for one mail; where it is opaque, the store knows the recipient before it is handed out."""
        if question.scope not in self._return_path.scopes:
            return Trouble("this scope is not declared in the configuration")
        if (now := self.now()) < EARLIEST:
            return Trouble("the clock of this machine is not set")
        try:
            recipient = _key(question.recipient)
            signed = self._return_path.sign(recipient, question.scope, now)
            if signed.opaque_id is not None:
                await self._store.intern(signed.opaque_id, recipient)
        except AddressError as error:
            return Trouble(str(error))
        except StoreFault as fault:
            self._log.error("query.failed", why=str(fault))
            return Trouble("the return path cannot be signed now")
        self._remember(Sent(at=now, key=recipient, scope=question.scope, token=signed.local_part.split("+")[1]))
        return SignedPath(f"{signed.local_part}@{self._domain}")

    async def drain(self) -> None:
        """Wait until all that was signed for addresses with strikes is written down."""
        if self._remembering:
            await asyncio.wait(self._remembering.values())

    def verify(self, local_part: str) -> Claims | Refusal:
        """Tell what a return path's local part proves now. Raises StoreFault."""
        return self._return_path.verify(local_part, self.now(), self._store.recipient_of)

    def why(self, address: str) -> tuple[AddressRecord, Sequence[AnyEvent]]:
        """Return an address's record and its newest events; those of a forgotten one are of its pseudonym.

        Raises AddressError, StoreFault.
        """
        key = address_key(address)
        record = self._store.look_up(key)
        if record.known_since is None:
            for pseudonym in self._pseudonyms(key):
                if (forgotten := self._store.look_up(pseudonym)).known_since is not None:
                    return replace(forgotten, key=key), self._store.history(pseudonym, MOST_EVENTS)
        return record, self._store.history(key, MOST_EVENTS)

    async def block(self, address: str, scope: Scope, *, by: str, reason: str) -> Recorded:
        """Put an address on the list, in one stream or EVERYWHERE. Raises AddressError, StoreFault."""
        return await self._tell(Blocked(at=self.now(), key=address_key(address), scope=scope, by=by, reason=reason))

    async def release(self, address: str, scope: Scope = EVERYWHERE, *, by: str, reason: str) -> Recorded:
        """Take an address off the list; mail signed before counts no more. Raises AddressError, StoreFault."""
        key = address_key(address)
        for pseudonym in self._pseudonyms(key):
            if self._store.look_up(pseudonym).standings:
                await self._tell(Released(at=self.now(), key=pseudonym, scope=scope, by=by, reason=without(reason, key)))
        return await self._tell(Released(at=self.now(), key=key, scope=scope, by=by, reason=reason))

    async def take_over(self, blocks: Sequence[Taken], source: str, *, by: str) -> int:
        """Take over blocks of another list, all or none; return how many changed anything. Raises StoreFault."""
        changed = await self._store.take_over(blocks, at=self.now(), by=by, source=source)
        self._log.info("address.imported", source=source, count=sum(len(block.keys) for block in blocks), changed=changed, by=by)
        return changed

    async def forget(self, address: str, *, by: str, reason: str) -> bool:
        """Erase all that is known of an address; its blocks and releases survive under a pseudonym. Tell whether it has a block.

        Raises AddressError, StoreFault; what was cut short is finished by asking again.
        """
        key = address_key(address)
        pseudonym = self._return_path.ring.pseudonyms(key)[0]
        now = self.now()
        because = f"forgotten: {without(reason, key)}"
        for standing in () if is_drill(key) else self._store.look_up(key).standings:
            if standing.released_at is not None:
                # The memory of the tokens goes, and with it what else keeps old ones from blocking again.
                await self._store.record(Released(at=standing.released_at, key=pseudonym, scope=standing.scope, by=by, reason=because))
            if standing.blocks(now):
                was = f"{because}; it was {standing.cause}, {standing.category}"
                await self._store.record(Blocked(at=now, key=pseudonym, scope=standing.scope, by=by, reason=was))
        await self._store.forget(key)
        if not is_drill(key):
            self._log.info("address.forgotten", rcpt=pseudonym, by=by)
        return any(standing.blocks(now) for one in self._pseudonyms(key) for standing in self._store.look_up(one).standings)

    async def delivered(self, address: str, scope: Scope, *, by: str) -> Recorded:
        """Hear from a mailer that a mail arrived: a run of soft bounces ends.

        `address` is the recipient; or, better, the return path of the mail: then it is known when that was signed, what was sent after it
        and came back stays a strike, and it counts once. Raises AddressError, also for a return path that proves nothing; StoreFault.
        """
        local_part, _, domain = address.rpartition("@")
        proof = self.verify(local_part)
        if isinstance(proof, Claims):
            event = Delivered(at=self.now(), key=proof.recipient, scope=proof.scope, by=by, token=proof.token, signed_at=proof.signed_at)
            return await self._tell(event)
        if domain.lower() == self._domain.lower():
            raise AddressError(f"this return path proves nothing: {proof}")
        return await self._tell(Delivered(at=self.now(), key=address_key(address), scope=scope, by=by))

    def tallies(self) -> Mapping[Tally, int]:
        """Return how often what was refused or repeated in the last days. Raises StoreFault."""
        since = datetime.fromtimestamp(self.now() - TALLY_DAYS * 86400, UTC)
        return self._store.tallies(since.date().isoformat())

    def listed(
        self, after: Place | None, cause: str | None, scope: Scope | None
    ) -> tuple[Sequence[tuple[AddressKey, Standing]], Place | None]:
        """Return the next blocks, of a cause or category, of a scope, and from where to go on (None: these are the last).

        There may be none among the next though there are some later. Raises StoreFault.
        """
        page, now = self._store.standings(after, _PAGE), self.now()
        found = [
            (key, standing)
            for key, standing in page
            if standing.blocks(now) and cause in (None, standing.cause, standing.category) and scope in (None, standing.scope)
        ]
        return found, (page[-1][0], page[-1][1].scope) if len(page) == _PAGE else None

    def events(self, after: int) -> Sequence[tuple[int, AnyEvent | None]]:
        """Return the next events of all addresses, each with its number. Raises StoreFault."""
        return self._store.events(after, _PAGE)

    def last_event(self) -> int:
        """Return the number of the event that was recorded last. Raises StoreFault."""
        return self._store.last_event()

    async def overview(self, days: int) -> Overview:
        """Count what there is, and the bounces of the last days. Raises StoreFault."""
        return await self._store.overview(self.now() - days * 86_400, self.now())

    def incidents(self) -> Sequence[Incident]:
        """Return all incidents, newest first. Raises StoreFault."""
        return self._store.incidents()

    def held_by(self, incident: str, after: AddressKey | None) -> tuple[Sequence[AddressKey], AddressKey | None]:
        """Return the next addresses of an incident, and from which to go on. Raises StoreFault."""
        keys = self._store.held_by(incident, after, _PAGE)
        return keys, keys[-1] if len(keys) == _PAGE else None

    async def hold(self, provider: str, since: int, *, by: str, reason: str) -> Incident:
        """Hold, by hand, what a provider called dead from `since` on. Raises StoreFault."""
        incident = await self._store.hold(provider, since, at=self.now(), by=by, reason=reason)
        if incident.count:
            self._log.warning("incident.held", id=incident.id, subject=provider, count=incident.count, by=by)
        return incident

    async def rule(self, incident: str, ruling: Ruling, *, by: str, reason: str) -> int:
        """Confirm or revert all that an incident holds; return how many addresses changed. Raises NoSuchIncident, StoreFault."""
        changed = await self._store.rule(incident, ruling, at=self.now(), by=by, reason=reason)
        self._log.warning("incident.ruled", id=incident, ruling=ruling, changed=changed, by=by)
        return changed

    async def backup(self, *, by: str) -> BinaryIO:
        """Return a file with a copy of all that the store knows. Raises StoreFault."""
        made = await self._store.backup()
        try:
            copy = made.open("rb")
        except OSError as error:
            raise StoreFault(f"the copy cannot be read: {error.strerror}") from None
        finally:
            # Open, it needs no name, and its room is free again when it is closed.
            made.unlink(missing_ok=True)
        self._log.info("store.copied", by=by)
        return copy

    def unmatched(self) -> Sequence[Unmatched]:
        """Return the texts that no rule matched, grouped by what they say, the most frequent first. Raises StoreFault."""
        return self._store.unmatched()

    async def unread(self) -> tuple[Path, int]:
        """Return where the mail lies that no reader understood, and how many there are. Raises OwnFault."""
        return self._unread.path, await self._unread.count()

    def declared(self, scope: Scope) -> bool:
        """Tell whether a stream is declared in the configuration."""
        return scope in self._return_path.scopes

    def healthy(self) -> bool:
        """Tell whether the list can be read."""
        try:
            self._store.look_up(AddressKey("health@invalid"))
        except StoreFault:
            return False
        return True

    def now(self) -> int:
        """Return Unix time in whole seconds."""
        return int(self._clock())

    def _pseudonyms(self, key: AddressKey) -> Sequence[AddressKey]:
        """Return what may stand for an address; nothing as long as none is forgotten, since every question asks."""
        return self._return_path.ring.pseudonyms(key) if self._store.any_forgotten() else ()

    def _remember(self, event: Sent) -> None:
        """Write down, where a success matters, that a mail is on its way, in a task of ours, one at a time of an address.

        Nobody waits for it, and if it is lost, the address is forgiven later.
        """
        try:
            awaited = awaits_success(self._store.look_up(event.key), event.scope, event.at)
        except StoreFault as fault:
            self._log.error("query.failed", why=str(fault))
            return
        if awaited and event.key not in self._remembering:
            task = asyncio.create_task(self._write_down(event), name="remember a signing")
            self._remembering[event.key] = task
            task.add_done_callback(lambda _: self._remembering.pop(event.key))

    async def _write_down(self, event: Sent) -> None:
        try:
            await self._store.record(event)
        except StoreFault as fault:
            self._log.error("query.failed", why=str(fault))

    async def _tell(self, event: Blocked | Released | Delivered) -> Recorded:
        recorded = await self._store.record(event)
        self._log.info(f"address.{type(event).__name__.lower()}", rcpt=event.key, scope=event.scope, by=event.by)
        return recorded


def _key(written: str) -> AddressKey:
    """Read an address as a mailer asks for it: Postfix's policy requests and Exim's $local_part lack the quotes. Raises AddressError."""
    try:
        return address_key(written)
    except AddressError:
        local_part, _, domain = written.rpartition("@")
        return address_key(str(Mailbox(local_part, domain)))


@lru_cache(maxsize=4096)
def _suppressed(text: str, cause: Cause | None, category: str | None, day: int) -> Suppressed:
    """Return what a sender is told: one line of printable ASCII, without code; `day` is counted as Unix time is."""
    date = datetime.fromtimestamp(day * 86400, UTC).date().isoformat()
    return Suppressed(text.format(cause=cause, category=category, day=date))
