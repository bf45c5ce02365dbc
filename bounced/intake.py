"""One bounce from envelope to commit. Read this file first.

For: the order of things: who was mailed (the token), why it came back (the report), what that means (the outcome), what follows (an event
that the store adds to the address's record). Never: SMTP, SQL or thresholds. The one thing that may go wrong after DATA is that we cannot
commit; then a fault is raised, the client gets a 4xx and keeps the bounce.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import assert_never

import structlog

from bounced import alarm, metrics
from bounced.address import AddressError, AddressKey, address_key, is_drill
from bounced.archive import Archive
from bounced.counts import Counts
from bounced.envelope import Envelope
from bounced.fault import OwnFault
from bounced.maildir import Maildir
from bounced.outcome import Category, Disposition, Outcome
from bounced.outcome.judge import judge, judge_feedback
from bounced.outcome.provider import provider_of
from bounced.outcome.ruleset import RuleSet
from bounced.policy import released_since
from bounced.provenance import Ours, Provenance
from bounced.provenance import judge as whose
from bounced.record import OPT_OUT, AnyEvent, Bounced, Complained, Delivered, Noticed
from bounced.report import Action, AutomaticReply, Automation, DeliveryReport, FeedbackReport, RecipientStatus, Report, Unrecognized
from bounced.report.reader import read
from bounced.returnpath import EARLIEST, Claims, Refusal, ReturnPath
from bounced.store import Recorded, Store
from bounced.trust import ClassicVerp, FeedbackMailbox, Trust, unsigned_claims

_LOCAL_MAILBOXES = {"postmaster", "abuse"}
_MOST_OF_A_NETWORK = 5
"""Reports of unannounced mail from one network that count on a day: what a report says of its mail, anybody can make up."""
NO_TRUST = Trust()


@dataclass(frozen=True, slots=True)
class LocalMailbox:
    """A mailbox that RFC 5321 section 4.5.1 or RFC 2142 wants to be read by a person here: kept as it comes, and no recipient changes."""

    name: str


Admitted = Claims | ClassicVerp | FeedbackMailbox | LocalMailbox
Admission = Admitted | Refusal


class Intake:
    """Takes bounces for the return-path `domains`; the first of them is the one that we sign."""

    def __init__(
        self,
        *,
        domains: tuple[str, ...],
        return_path: ReturnPath,
        rules: RuleSet,
        store: Store,
        postmaster: Maildir,
        unread: Maildir,
        archive: Archive | None = None,
        trust: Trust = NO_TRUST,
        clock: Callable[[], float],
        ours: Ours,
    ) -> None:
        """Put the parts together; `clock` gives Unix seconds.

        The `unread` Maildir gets what no reader understood, the archive all that counted. `ours` tells how mail is known that left here.
        """
        self._domains = frozenset(domain.lower() for domain in domains)
        self._return_path = return_path
        self._rules = rules
        self._store = store
        self._postmaster = postmaster
        self._unread = unread
        self._archive = archive
        self._trust = trust
        self._clock = clock
        self._ours = ours
        self._counts = Counts()
        self._clock_doubted = False
        self._log = structlog.get_logger("intake")

    def admit(self, envelope: Envelope) -> Admission:
        """At RCPT, before any content: tell whom this recipient concerns, or why it is refused. Raises OwnFault.

        Refusals are counted, not stored yet.
        """
        local_part, _, domain = envelope.forward_path.rpartition("@")
        if not local_part and domain.lower() == "postmaster":
            return LocalMailbox("postmaster")
        if domain.lower() not in self._domains:
            return self._refuse(Refusal.FOREIGN, envelope)
        if local_part.lower() in _LOCAL_MAILBOXES:
            return LocalMailbox(local_part.lower())
        if envelope.received_at < EARLIEST:
            raise OwnFault("the clock of this machine is not set, so that no return path can be verified")
        claims = self._return_path.verify(local_part, envelope.received_at, self._store.recipient_of)
        if not isinstance(claims, Refusal):
            return claims
        # A seal that does not hold is no classic VERP either.
        trusted = self._trust.admits(local_part) if claims is Refusal.FOREIGN else None
        return trusted or self._refuse(claims, envelope)

    async def accept(self, envelope: Envelope, admission: Admitted, content: bytes) -> None:
        """After DATA: read, judge and commit. Returns when it is on disk; raises OwnFault when it is not, and then nothing has changed."""
        if isinstance(admission, LocalMailbox):
            provenance = self._provenance(read(content), envelope)
            await self._postmaster.keep(_with_trace(envelope, content))
            metrics.RECEIVED.count(("kept",))
            self._suspect(provenance, envelope)
            self._log.info("mail.kept", mailbox=admission.name, client=envelope.client, size=len(content), provenance=provenance)
            return
        began = perf_counter()
        report = read(content)
        claims = self._claims(report, admission, envelope, content)
        event = None if claims is None else self._event(report, claims, envelope)
        metrics.PARSE_SECONDS.observe(perf_counter() - began)
        if claims is None or event is None:
            provenance = self._provenance(report, envelope)
            await self._unread.keep(_with_trace(envelope, content))
            self._suspect(provenance, envelope)
            self._log.warning("feedback.unattributed", client=envelope.client, size=len(content), provenance=provenance)
            return
        unread = await self._unread.keep(_with_trace(envelope, content)) if isinstance(report, Unrecognized) else None
        began = perf_counter()
        try:
            recorded = self._of_the_forgotten(event, claims) or await self._store.record(event)
        except OwnFault:
            metrics.RECEIVED.count(("failed",))
            raise
        metrics.COMMIT_SECONDS.observe(perf_counter() - began)
        if unread is not None and not recorded.fresh:
            # Else whoever holds one token could push out all that others have sent.
            unread.unlink(missing_ok=True)
        if self._archive is not None and recorded.fresh:
            await self._put_away(self._archive, _with_trace(envelope, content), envelope.received_at)
        self._count(event, recorded)
        self._tell(event, recorded, len(content))
        if recorded.turned:
            alarm.tell(recorded.turned)

    async def _put_away(self, archive: Archive, content: bytes, at: int) -> None:
        """Archive what is committed. That this fails is no reason to have the mail sent again."""
        try:
            await archive.keep(content, at)
        except OSError as error:
            self._log.warning("archive.failed", why=error.strerror)

    def use(self, return_path: ReturnPath, rules: RuleSet) -> None:
        """Go on with other keys and rules; mail that is being taken is judged by one set or the other."""
        self._return_path = return_path
        self._rules = rules

    async def flush(self) -> None:
        """Store the counts since the last flush; they wait for the next one if the store cannot. Raises StoreFault."""
        await self._counts.flush(self._store)

    def _provenance(self, report: Report, envelope: Envelope) -> Provenance | None:
        """Tell whose mail a report returns that came without a token; None where it returns nothing, or not its return path."""
        if not isinstance(report, DeliveryReport | FeedbackReport) or (returned := report.returned) is None:
            return None
        if returned.return_path is None and isinstance(report, FeedbackReport):
            # Many of these are made without it, of mail that we signed too.
            return None
        local_part, _, domain = (returned.return_path or "").rpartition("@")
        signed = self._return_path.verify(local_part, envelope.received_at, self._store.recipient_of)
        return whose(signed if domain.lower() in self._domains else Refusal.FOREIGN, returned, self._ours)

    def _suspect(self, provenance: Provenance | None, envelope: Envelope) -> None:
        """Count a report of mail that seems to have left here unannounced; a flood of them is an incident."""
        if provenance is Provenance.COMPROMISED:
            self._counts.add("unannounced", envelope.received_at, envelope.client, _MOST_OF_A_NETWORK)

    def _of_the_forgotten(self, event: AnyEvent, claims: Claims) -> Recorded | None:
        """Count nothing but the copy where the recipient was released and forgotten after the mail was sent. Raises StoreFault.

        With him went the memory of his tokens, so that one which was taken back would block again; and his name stays forgotten.
        """
        if not self._store.any_forgotten():
            return None
        for pseudonym in self._return_path.ring.pseudonyms(claims.recipient):
            record = self._store.look_up(pseudonym)
            if released_since(record, claims.scope, claims.signed_at):
                self._counts.add("replayed", event.at)
                return Recorded(record, record, fresh=False)
        return None

    def _claims(
        self, report: Report, admission: Claims | ClassicVerp | FeedbackMailbox, envelope: Envelope, content: bytes
    ) -> Claims | None:
        """Tell whom a report concerns: by the seal, or by what the operator trusts instead. None: nobody whom it could prove."""
        match admission:
            case Claims():
                return admission
            case ClassicVerp(recipient=recipient):
                return self._unsigned(recipient, report, content, envelope.received_at, way="verp")
            case FeedbackMailbox():
                return self._complainer(report, envelope, content) if isinstance(report, FeedbackReport) else None
            case _:
                assert_never(admission)

    def _complainer(self, report: FeedbackReport, envelope: Envelope, content: bytes) -> Claims | None:
        """Tell who complained: by the signed return path of the mail that the report returns, else as it says, where that is trusted."""
        local_part, _, domain = ((report.returned and report.returned.return_path) or "").rpartition("@")
        if domain.lower() in self._domains:
            claims = self._return_path.verify(local_part, envelope.received_at, self._store.recipient_of)
            if isinstance(claims, Claims):
                return claims
        recipient = self._trust.named_by(report, envelope.client)
        return self._unsigned(recipient, report, content, envelope.received_at, way="feedback") if recipient else None

    def _unsigned(self, recipient: AddressKey, report: Report, content: bytes, at: int, *, way: str) -> Claims:
        """Say it as a seal would; the stream, which nothing tells, is the first that is declared."""
        return unsigned_claims(recipient, report, content, at, way=way, scope=self._return_path.scopes[0])

    def _event(self, report: Report, claims: Claims, envelope: Envelope) -> AnyEvent:
        match report:
            case DeliveryReport():
                recipient = _named(report, claims.recipient)
                if recipient is None:
                    return self._noticed("unattributed", report.reader, claims, envelope)
                outcome = judge(recipient, report.reporting_mta, self._rules)
                return self._bounced(outcome, recipient, report, claims, envelope)
            case FeedbackReport():
                outcome = judge_feedback(report)
                if outcome.category is not Category.COMPLAINT:
                    return self._noticed(outcome.category.value, report.reader, claims, envelope)
                return self._complained(report.feedback_type, claims, envelope)
            case AutomaticReply(automation=Automation.UNSUBSCRIBE):
                return self._complained(OPT_OUT, claims, envelope)
            case AutomaticReply():
                return self._noticed(report.automation.value, report.reader, claims, envelope)
            case Unrecognized():
                return self._noticed("unrecognized", "none", claims, envelope)

    def _bounced(
        self, outcome: Outcome, recipient: RecipientStatus, report: DeliveryReport, claims: Claims, envelope: Envelope
    ) -> AnyEvent:
        # A success takes strikes back: that is more than unsigned mail may do.
        if recipient.action is Action.DELIVERED and claims.unsigned is None:
            return Delivered(
                at=envelope.received_at,
                key=claims.recipient,
                scope=claims.scope,
                by="report",
                token=claims.token,
                signed_at=claims.signed_at,
            )
        if outcome.disposition is Disposition.NONE:
            return self._noticed(recipient.action.value, report.reader, claims, envelope, recipient)
        return Bounced(
            at=envelope.received_at,
            key=claims.recipient,
            scope=claims.scope,
            token=claims.token,
            signed_at=claims.signed_at,
            outcome=outcome,
            reader=report.reader,
            final_recipient=_somebody_else(recipient, claims.recipient),
            client=envelope.client,
            provider=provider_of(recipient, claims.recipient, self._rules),
            unsigned=claims.unsigned,
        )

    def _complained(self, feedback_type: str, claims: Claims, envelope: Envelope) -> Complained:
        return Complained(
            at=envelope.received_at,
            key=claims.recipient,
            scope=claims.scope,
            token=claims.token,
            signed_at=claims.signed_at,
            feedback_type=feedback_type,
            client=envelope.client,
            unsigned=claims.unsigned,
        )

    def _noticed(self, what: str, reader: str, claims: Claims, envelope: Envelope, recipient: RecipientStatus | None = None) -> Noticed:
        return Noticed(
            at=envelope.received_at,
            key=claims.recipient,
            scope=claims.scope,
            token=claims.token,
            signed_at=claims.signed_at,
            what=what,
            reader=reader,
            client=envelope.client,
            provider=provider_of(recipient, claims.recipient, self._rules),
            unsigned=claims.unsigned,
        )

    def _refuse(self, refusal: Refusal, envelope: Envelope) -> Refusal:
        self._counts.add(refusal.value, envelope.received_at, envelope.client)
        metrics.TOKEN_FAILURES.count((refusal.value,))
        if refusal is Refusal.FUTURE and not self._clock_doubted:
            self._clock_doubted = True
            self._log.error("mail.from_the_future", client=envelope.client)
        return refusal

    def _count(self, event: AnyEvent, recorded: Recorded) -> None:
        if is_drill(event.key):
            return
        if not recorded.fresh:
            metrics.RECEIVED.count(("repeated",))
            return
        metrics.RECEIVED.count((type(event).__name__.lower(),))
        if isinstance(event, Bounced):
            if event.unsigned is None:
                self._counts.add("genuine", event.at)
            outcome = event.outcome
            metrics.BOUNCES.count((outcome.disposition.value, outcome.category.value, event.reader))
            if outcome.category is Category.BLOCKED_IP and outcome.blocker is not None:
                # The text of a bounce may name any list: only those that we know are words of ours.
                name = outcome.blocker.name
                metrics.BLOCKED_IP.count((name if name in self._rules.blocklist_names else "other",))

    def _tell(self, event: AnyEvent, recorded: Recorded, size: int) -> None:
        words: dict[str, str | int | bool | None] = {"rcpt": event.key, "scope": event.scope, "size": size, "fresh": recorded.fresh}
        if isinstance(event, Bounced | Complained | Noticed):
            # Not the whole token: who can read the log could replay it.
            words["mail"] = event.token[:7]
            words["client"] = event.client
        if isinstance(event, Bounced):
            outcome = event.outcome
            words["disposition"] = outcome.disposition.value
            words["category"] = outcome.category.value
            words["status"] = outcome.status
            words["rule"] = outcome.rule
            words["reader"] = event.reader
        elif isinstance(event, Noticed):
            words["what"] = event.what
            words["reader"] = event.reader
        if recorded.held is not None:
            words["held"] = recorded.held
        words["suppressed"] = recorded.after.block(event.scope, event.at) is not None
        self._log.info(f"bounce.{type(event).__name__.lower()}", **words)


def _named(report: DeliveryReport, recipient: AddressKey) -> RecipientStatus | None:
    """Return what the report says of `recipient`: where it is named, else the only one there is (a forwarder's target)."""
    for status in report.recipients:
        if _is(status.original_recipient, recipient) or _is(status.final_recipient, recipient):
            return status
    return report.recipients[0] if len(report.recipients) == 1 else None


def _somebody_else(recipient: RecipientStatus, ours: AddressKey) -> str | None:
    return None if _is(recipient.final_recipient, ours) else _key(recipient.final_recipient)


def _is(address: str | None, key: AddressKey) -> bool:
    # Most are written as their key, which is its own key.
    return address == key or _key(address) == key


def _key(address: str | None) -> AddressKey | None:
    try:
        return address_key(address) if address else None
    except AddressError:
        return None


def _with_trace(envelope: Envelope, content: bytes) -> bytes:
    """Put the envelope before kept mail as delivery does (RFC 5321 section 4.4), with nothing in it that could begin another header."""
    fields = {"Return-Path": f"<{envelope.reverse_path or ''}>", "Delivered-To": envelope.forward_path, "X-Client": envelope.client}
    lines = (f"{name}: {''.join(char if char.isprintable() else '?' for char in text)}\n" for name, text in fields.items())
    return "".join(lines).encode("utf-8", "backslashreplace") + content
