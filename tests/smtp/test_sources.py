"""Who is connected, and how much one source may take."""

import pytest

from bounced.smtp.sources import LOCAL, SourceLimits, Sources, client_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        (("192.0.2.7", 25), "192.0.2.7"),
        (("::ffff:192.0.2.7", 25, 0, 0), "192.0.2.7"),
        (("2001:db8::1", 25, 0, 0), "2001:db8::1"),
        (("fe80::1%eth0", 25, 0, 2), "fe80::1"),
        ("", LOCAL),
        ("/run/client", LOCAL),
        (None, LOCAL),
    ],
)
def test_what_a_socket_calls_its_peer(peer: object, client: str) -> None:
    """An IPv4 client is one whatever socket it came by, and a unix socket has no address."""
    assert client_of(peer) == client


def test_a_source_is_an_address_or_a_64() -> None:
    """Two IPv4 addresses are two sources; two IPv6 addresses of one /64 are one."""
    sources = Sources(SourceLimits(per_source=1), Clock())
    assert [sources.enter(client) for client in ("192.0.2.1", "192.0.2.2", "192.0.2.1")] == [None, None, "source-full"]
    assert [sources.enter(client) for client in ("2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1")] == [None, "source-full", None]
    assert sources.total == 4


def test_a_place_given_up_is_free() -> None:
    """What left is counted no more, of its source and of all."""
    sources = Sources(SourceLimits(per_source=1, connections=1), Clock())
    assert sources.enter("192.0.2.1") is None
    assert sources.enter("192.0.2.2") == "full"
    sources.leave("192.0.2.1")
    assert sources.enter("192.0.2.1") is None


def test_the_rate_begins_anew_each_minute() -> None:
    """New connections are counted within a minute."""
    clock = Clock()
    sources = Sources(SourceLimits(rate=2), clock)
    assert [sources.enter("192.0.2.1") for _ in range(3)] == [None, None, "source-rate"]
    clock.now = 60
    assert sources.enter("192.0.2.1") is None


def test_a_unix_socket_is_no_source() -> None:
    """What comes over a unix socket is bounded by the number of all connections alone."""
    sources = Sources(SourceLimits(per_source=1, rate=1, kept=1, connections=5), Clock())
    assert [sources.enter(LOCAL) for _ in range(6)] == [None] * 5 + ["full"]
    assert all(sources.may_keep(LOCAL) for _ in range(3))
    sources.leave(LOCAL)
    assert sources.total == 4


def test_a_crowd_is_over_four_fifths() -> None:
    """Over 80 % of all connections taken is a crowd; 80 % is none."""
    sources = Sources(SourceLimits(connections=10), Clock())
    for _ in range(8):
        sources.enter(LOCAL)
    assert not sources.crowded
    sources.enter(LOCAL)
    assert sources.crowded


def test_memory_is_bounded_whoever_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    """More sources than are told apart within a window begin the window anew; none is refused for it."""
    monkeypatch.setattr("bounced.smtp.sources._MOST_SOURCES", 10)
    sources = Sources(SourceLimits(), Clock())
    for number in range(100):
        client = f"192.0.2.{number}"
        assert sources.enter(client) is None
        sources.leave(client)
    assert len(sources._new._counts) <= 10
    assert sources._open == {}


def test_mail_for_people_is_limited_by_the_hour() -> None:
    """One source fills no postmaster's mailbox."""
    clock = Clock()
    sources = Sources(SourceLimits(kept=2), clock)
    assert [sources.may_keep("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert sources.may_keep("192.0.2.2")
    clock.now = 3600
    assert sources.may_keep("192.0.2.1")
