"""Faults: every error that a door answers has one owner."""

import pytest

from bounced.fault import Fault, OperatorFault, OwnFault, PeerFault


@pytest.mark.parametrize("fault", [PeerFault("no"), OwnFault("later"), OperatorFault("the key is missing", "write one")])
def test_one_owner(fault: Fault) -> None:
    """A fault belongs to exactly one owner, so that a door can tell its answer from the type."""
    assert sum(isinstance(fault, owner) for owner in (PeerFault, OwnFault, OperatorFault)) == 1


def test_operator_fault_carries_the_next_step() -> None:
    """An operator's fault says what is wrong and, apart from it, what to do next."""
    fault = OperatorFault("bounced.toml:7: no such scope", "declare the scope, or correct its name")
    assert str(fault) == "bounced.toml:7: no such scope"
    assert fault.hint == "declare the scope, or correct its name"
