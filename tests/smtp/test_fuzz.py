"""Sessions that no author of a client would write."""

import asyncio
import random
import re
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from structlog.testing import capture_logs

from tests.smtp.talk import BOUNCE, DOMAIN, Client, House, SteeredLoop, on_asyncio

HOSTILE = [
    b"\0",
    b"\r",
    b"\x1b[31m",
    b"\xff",
    b"\xed\xb3\xbf",
    b"\x7f",
    b"\xc2\x85",
    b"<",
    b">",
    b'"',
    b"\\",
    b"@",
    b"a" * 70,
    b"x" * 3000,
    b" ",
    b":",
]
VERBS = [
    b"HELO",
    b"EHLO",
    b"LHLO",
    b"MAIL",
    b"RCPT",
    b"DATA",
    b"RSET",
    b"NOOP",
    b"VRFY",
    b"EXPN",
    b"HELP",
    b"STARTTLS",
    b"BDAT",
    b"AUTH",
    b"XYZ",
    b"",
]

INTERNAL = re.compile(r"^(5\d\d|4\d\d).*(Traceback|Error|Exception|object at)", re.IGNORECASE)


@on_asyncio
async def test_hostile_octets_in_every_command(house: House, full_counts: bool) -> None:
    """Control characters, lone surrogates, overlong and half-open text in every command: no fault of ours, and nothing of it is kept."""
    address = await house.open(max_errors=1_000_000, max_junk=1_000_000, session=86_400)
    rng = random.Random(10)
    signed = house.signed().encode()
    with capture_logs() as logs:
        async with await Client.greeted(address) as client:
            for _ in range(1_000_000 if full_counts else 5000):
                shape = rng.choice(
                    [b"%s %s", b"MAIL FROM:<%.0s%s>", b"MAIL FROM:<%.0s%s", b"RCPT TO:<%.0s%s>", b"RCPT TO:%.0s%s", b"%s%s", b"%.0sHELO %s"]
                )
                hostile = b"".join(rng.choice([*HOSTILE, signed, rng.randbytes(3)]) for _ in range(rng.randrange(4))).replace(b"\n", b"")
                line = (shape % (rng.choice(VERBS), hostile)).removesuffix(b"\r")
                if line.upper().startswith((b"DATA", b"QUIT")):
                    continue
                reply = await client.say(line)
                assert re.match(r"[245]\d\d[ -]", reply), line
                assert not reply.startswith("451"), line

    assert [line for line in logs if line["log_level"] in {"error", "warning"}] == []
    assert "\\x1b" not in repr(logs)
    assert "\\udc" not in repr(logs)


@on_asyncio
async def test_a_parser_that_raises_would_be_noticed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where reading a command raises what it should not, the client sees our fault, which the tests here don't allow."""
    monkeypatch.setattr("bounced.smtp.dialogue.read_mail", lambda argument, extended: argument[10**6])
    address = await house.open()
    with capture_logs() as logs:
        async with await Client.greeted(address) as client:
            assert (await client.say(b"MAIL FROM:<")).startswith("451 4.3.0")
    assert [line["problem"] for line in logs if line["log_level"] == "error"] == ["IndexError"]


class _Session(RuleBasedStateMachine):
    """A client that says any command at any time, in any grouping; what it must see follows from what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=SteeredLoop)
        self.place = tempfile.TemporaryDirectory()
        self.house = self.run(self._house())
        self.address = self.run(self.house.open(max_message=1000, max_errors=10_000, max_junk=10_000))
        self.client: Client = self.run(Client.connect(self.address))
        assert self.run(self.client.reply()).startswith("220 ")
        self.taken = 0

    async def _house(self) -> House:
        return House(Path(self.place.name))

    def run(self, work: Any) -> Any:
        async def limited() -> Any:
            async with asyncio.timeout(3600):  # of the loop's own clock: a session that hangs is a failure
                return await work

        return self.runner.run(limited())

    def say(self, line: bytes) -> str:
        reply = str(self.run(self.client.say(line)))
        assert re.match(r"[2345]\d\d[ -]", reply), (line, reply)
        assert not INTERNAL.match(reply)
        assert not reply.startswith("451 4.3.0")
        return reply

    def anew(self) -> None:
        self.run(self.client.close())
        self.client = self.run(Client.connect(self.address))
        assert self.run(self.client.reply()).startswith("220 ")

    @rule(verb=st.sampled_from(VERBS[:-1]), argument=st.sampled_from([b"", b"x", b"FROM:<>", b"TO:<>", b"FROM:<a@b> SIZE=5"]))
    def any_command(self, verb: bytes, argument: bytes) -> None:
        if verb != b"DATA" and self.say(verb + b" " + argument).startswith("554"):
            self.anew()

    @rule()
    def hello(self) -> None:
        assert self.say(b"EHLO x").startswith("250-")

    @rule(ours=st.booleans())
    def recipient(self, ours: bool) -> None:
        recipient = self.house.signed() if ours else f"joe@{DOMAIN}"
        assert self.say(b"RCPT TO:<%s>" % recipient.encode())[:3] in ({"250", "452", "503"} if ours else {"550", "452", "503"})

    @rule(content=st.sampled_from([b"", BOUNCE, b"x" * 900 + b"\r\n", b"..\r\n", b"a\n.\nb\r\n"]))
    def mail_data(self, content: bytes) -> None:
        if self.say(b"DATA").startswith("354"):
            before = len(self.house.intake.contents)
            self.client.send(content)
            assert self.say(b".").startswith("250 2.0.0")
            came = len(self.house.intake.contents) - before  # once for each recipient, where there is a sender
            assert came
            self.taken += came

    @rule()
    def whole_mail(self) -> None:
        self.say(b"EHLO x")
        assert self.run(self.client.mail(self.house.signed())).startswith("250 ")
        self.taken += 1

    @rule(cut=st.binary(max_size=50))
    @precondition(lambda self: self.taken)
    def hang_up(self, cut: bytes) -> None:
        self.client.send(cut.replace(b"\r\n", b""))
        self.anew()

    def teardown(self) -> None:
        self.run(self.client.close())
        self.run(self.house.close())
        assert len(self.house.intake.contents) == self.taken
        assert self.house.doors[0]._sessions.held == 0
        assert self.house.doors[0]._sessions.sources.total == 0
        self.runner.close()
        self.place.cleanup()


def test_any_sequence_of_commands(full_counts: bool) -> None:
    """Whatever the order of commands, each has its reply, no reply speaks of a fault of ours, and each 250 is one mail in the house."""
    settings = hypothesis.settings(
        max_examples=20_000 if full_counts else 25,
        stateful_step_count=50 if full_counts else 20,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    with capture_logs() as logs:
        run_state_machine_as_test(_Session, settings=settings)
    assert [line for line in logs if line["log_level"] == "error"] == []
