"""The envelope: what SMTP told, carried unchanged."""

import pytest

from bounced.envelope import Envelope


def test_envelope_is_a_value() -> None:
    """Envelopes with the same content are equal, and none can be changed on its way."""
    told = {"reverse_path": None, "forward_path": "b+x@example.net", "client": "192.0.2.1", "helo": "mx", "received_at": 7}
    envelope = Envelope(**told)
    assert envelope == Envelope(**told)
    assert {envelope} == {Envelope(**told)}
    with pytest.raises(AttributeError):
        envelope.client = "local"
