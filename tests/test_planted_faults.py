"""Whoever breaks a guarantee is found out: a fault is planted, and the test that shows the guarantee must fail.

For: the guarantees whose tests have no control beside them. Never: a guarantee of its own. docs/ACCEPTANCE.md lists which test and which
control belong together.
"""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from bounced import intake as intake_module
from bounced import log, policy, returnpath
from bounced.address import AddressKey
from bounced.cli import exporting
from bounced.intake import Intake
from bounced.outcome import Category, Disposition, Outcome
from bounced.policy import Policy
from bounced.record import AddressRecord, AnyEvent
from bounced.report import DeliveryReport, FeedbackReport, Report
from bounced.returnpath import MAX_AGE_LIMIT, Claims, Refusal, ReturnPath
from bounced.store import incidents, memory
from bounced.store.memory import MemoryStore
from tests import test_abuse, test_log, test_returnpath
from tests.store import test_incidents
from tests.system import test_exporting
from tests.test_intake import House

Patch = pytest.MonkeyPatch


def seals_live_for_ever(patch: Patch) -> None:
    """Take seals of any age, past and future."""
    verify = ReturnPath.verify

    def careless(path: ReturnPath, local_part: str, now: int, recipient_of: Any) -> Claims | Refusal:
        return verify(dataclasses.replace(path, max_age=MAX_AGE_LIMIT, max_ahead=MAX_AGE_LIMIT), local_part, now, recipient_of)

    patch.setattr(ReturnPath, "verify", careless)


def one_key_is_as_good_as_another(patch: Patch) -> None:
    """Forget the keys that do not sign any more: what they sealed is refused."""
    rotated = returnpath.KeyRing.rotated
    patch.setattr(returnpath.KeyRing, "rotated", lambda ring, secret: returnpath.KeyRing(rotated(ring, secret).keys[:1]))


def reports_are_believed(patch: Patch) -> None:
    """Take for the recipient whom the report names."""
    event_of = Intake._event

    def careless(intake: Intake, report: Report, claims: Claims, envelope: Any) -> AnyEvent:
        named = None
        if isinstance(report, DeliveryReport) and report.recipients:
            named = report.recipients[0].final_recipient
        elif isinstance(report, FeedbackReport) and report.recipients:
            named = report.recipients[0]
        return event_of(intake, report, structs.replace(claims, recipient=AddressKey(named)) if named else claims, envelope)

    patch.setattr(Intake, "_event", careless)


def notices_are_strikes(patch: Patch) -> None:
    """Count what only delays, relays or delivers."""
    judge = intake_module.judge

    def careless(*words: Any) -> Outcome:
        outcome = judge(*words)
        if outcome.disposition is not Disposition.NONE:
            return outcome
        return structs.replace(outcome, disposition=Disposition.SOFT, category=Category.MAILBOX_FULL)

    patch.setattr(intake_module, "judge", careless)


def every_copy_counts(patch: Patch) -> None:
    """Count whatever a token tells, as often as it tells it."""
    patch.setattr(memory, "adds", lambda _event, _earlier: True)


def floods_are_usual(patch: Patch) -> None:
    """Never call anything a flood."""
    patch.setattr(incidents, "is_flood", lambda *_: False)


def alarms_are_told_each_time(patch: Patch) -> None:
    """Forget that an incident is open."""
    patch.setattr(memory._Shelf, "open_incidents", lambda *_: [])


def guards_sleep(patch: Patch) -> None:
    """Let no guard ever open."""
    patch.setattr(incidents, "observe", lambda watch, _at, **_: (watch, None))


def reverts_clear_everything(patch: Patch) -> None:
    """Undo by a revert what else is known of the address too."""
    patch.setattr(policy, "_reverted", lambda record, _incident, _policy: AddressRecord(key=record.key, known_since=record.known_since))


def releases_are_forgotten(patch: Patch) -> None:
    """Judge late bounces as if nobody had released the address."""
    for module in (policy, intake_module):
        patch.setattr(module, "released_since", lambda *_: False)


def texts_are_logged_whole(patch: Patch) -> None:
    """Leave tokens in what is logged."""
    patch.setattr(log, "_cut", lambda text: text)


def cells_are_written_as_they_are(patch: Patch) -> None:
    """Leave formulas in the table for people."""
    patch.setattr(exporting, "_harmless", lambda word: word)


CONTROLS: list[tuple[str, Callable[[Patch], None], Callable[..., Any]]] = [
    ("A3", seals_live_for_ever, test_returnpath.test_age),
    ("A3", one_key_is_as_good_as_another, test_returnpath.test_rotation_loses_nothing),
    ("A4", reports_are_believed, test_abuse.test_a_token_speaks_of_its_recipient_alone),
    ("A5", reports_are_believed, test_abuse.test_a_forwarded_mail_is_its_recipients),
    ("A6", notices_are_strikes, test_abuse.test_what_is_no_bounce_is_no_strike),
    ("A7", floods_are_usual, test_abuse.test_a_flood_of_backscatter_is_one_alarm),
    ("A7", alarms_are_told_each_time, test_abuse.test_a_flood_of_backscatter_is_one_alarm),
    ("A8", guards_sleep, test_incidents.test_an_outage_is_held_from_its_beginning),
    ("A8", reverts_clear_everything, test_incidents.test_a_revert_touches_no_genuine_block),
    ("A10", cells_are_written_as_they_are, test_exporting.test_a_spreadsheet_computes_nothing),
    ("A12", texts_are_logged_whole, test_log.test_no_whole_token_is_logged),
    ("A14", releases_are_forgotten, test_abuse.test_after_a_release_late_copies_never_block),
    ("A14", releases_are_forgotten, test_abuse.test_a_release_outlives_the_erasure),
    ("A15", every_copy_counts, test_abuse.test_complaints_obey_the_token),
    ("A15", reports_are_believed, test_abuse.test_complaints_obey_the_token),
]


async def shown(test: Callable[..., Any], tmp_path: Path) -> None:
    """Run a test as pytest would, at reduced counts."""
    fixtures = {"house": House(tmp_path), "store": MemoryStore(Policy()), "tmp_path": tmp_path, "full_counts": False}
    fixtures |= {"tick": test_returnpath.NOW, "scope": test_abuse.EVERYWHERE}
    done = test(**{name: fixtures[name] for name in inspect.signature(test).parameters})
    if inspect.isawaitable(done):
        await done


@pytest.mark.parametrize(("row", "plant", "test"), CONTROLS, ids=[f"{row}-{plant.__name__}" for row, plant, _ in CONTROLS])
async def test_a_planted_fault_is_found_out(
    row: str, plant: Callable[[Patch], None], test: Callable[..., Any], tmp_path: Path, monkeypatch: Patch
) -> None:
    """Control: with the fault the test of the guarantee fails."""
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        await shown(test, tmp_path)
