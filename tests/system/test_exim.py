"""Exim asks and signs by the blocks of config/mailers/exim: the real daemon, mail out and back, and ours stopped and hung."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.system.ask import Mailer
from tests.system.daemon import DOMAIN, Daemon
from tests.system.dropin import dropin
from tests.system.exim import Exim
from tests.system.refuser import Refuser
from tests.system.room import SOCKET_GROUP
from tests.system.sender import letter, refusal, send
from tests.system.waiting import until

SUPPRESSED = "550 5.7.1 recipient is on the suppression list ("
VERIFY = "  require verify = recipient\n"


class Town:
    """An Exim that sends, a daemon that takes its bounces, and a server on the other side that refuses some recipients."""

    def __init__(self, home: Path, router: str, sign: str) -> None:
        """Write the configurations; nothing runs yet."""
        home.mkdir(mode=0o755)
        self.daemon = Daemon(home, socket_group=SOCKET_GROUP)
        self.remote = Refuser()
        acls = {"open": dropin("exim/rcpt-open.acl"), "closed": dropin("exim/rcpt-closed.acl")}
        self.exim = Exim(
            home,
            acls={**acls, "verified": VERIFY, "unasked": ""},
            router=router and dropin(router),
            sign=sign and dropin(sign),
            remote=self.remote.address,
            bounced=self.daemon.smtp,
        )

    def refusal(self, door: str, recipient: str) -> str:
        """Return the reply by which Exim refuses a recipient at a door; empty where it takes him."""
        return refusal(self.exim.doors[door], recipient)

    def suppressed(self, recipient: str) -> bool:
        """Ask as a mailer does."""
        with Mailer(self.daemon.door("socketmap")) as mailer:
            return mailer.suppressed(recipient)

    def log(self) -> str:
        """Return what both logged."""
        return f"{self.exim.log()}\n--- bounced\n{self.daemon.log()}"


@contextmanager
def founded(home: Path, router: str = "", sign: str = "") -> Iterator[Town]:
    """Found a town below `home`, with a first router and a way of signing from config/mailers."""
    town = Town(home, router, sign)
    town.remote.start()
    try:
        town.daemon.start()
        town.exim.start()
        yield town
    finally:
        town.exim.room.close()
        town.daemon.kill()
        town.remote.stop()
        sys.stdout.write(town.log())


@pytest.fixture(scope="module")
def town(place: Path, need_mailer: Callable[[str], Path]) -> Iterator[Town]:
    """An Exim whose ACLs ask, and whose outgoing router signs."""
    need_mailer("exim")
    with founded(place / "acl", sign="exim/sign-open.conf") as one:
        yield one


_SERIAL = count(1)


@pytest.fixture
def name() -> Callable[[str], str]:
    """Make recipients whom no other story uses; how the remote server treats them is told by how the name begins."""
    return lambda beginning: f"{beginning}{next(_SERIAL)}@receiver.example"


def blocked(town: Town, recipient: str) -> str:
    """Put a recipient on the list by hand."""
    town.daemon.tell("block", recipient, "--reason", "a test")
    return recipient


def delivered(town: Town, recipient: str) -> list[str]:
    """Return the envelope senders of the mails to a recipient that the other side took."""
    return [sender for sender, taken in town.remote.taken if taken == recipient]


def test_exim_signs_and_its_own_bounce_blocks(town: Town, name: Callable[[str], str]) -> None:
    """A mail to a dead and a living address is signed for each; Exim's own DSN comes back to us, and the dead is refused from then on."""
    dead, live = name("dead"), name("live")
    assert [town.refusal(door, dead) for door in ("open", "closed")] == ["", ""]
    send(town.exim.doors["open"], f"news@{DOMAIN}", dead, live)
    until(lambda: town.suppressed(dead), "the bounce", shown=town.log)
    assert [town.refusal(door, dead).startswith(f"{SUPPRESSED}hard, no-such-user, ") for door in ("open", "closed")] == [True, True]
    assert [town.refusal(door, live) for door in ("open", "closed")] == ["", ""]
    (signed,) = delivered(town, live)
    assert f"a mail to {live}," in town.daemon.tell("verify", signed)


def test_only_mail_from_our_domain_is_signed(town: Town, name: Callable[[str], str]) -> None:
    """Another sender keeps his address, and a bounce that goes out keeps its null sender."""
    for sender in ("joe@sender.example", "<>"):
        live = name("live")
        send(town.exim.doors["open"], sender, live)
        until(town.exim.drained, "the mail to go out", shown=town.log)
        assert delivered(town, live) == [sender]


def test_down_and_hung_each_acl_does_what_it_says(town: Town, name: Callable[[str], str]) -> None:
    """With our daemon stopped and hung, the open ACL lets mail pass, also to the blocked, and the closed one says 451."""
    dead, live = blocked(town, name("gone")), name("live")
    town.daemon.stop()
    try:
        assert town.refusal("open", dead) == ""
        assert town.refusal("closed", live) == "451 4.3.0 suppression list not available"
        # Signing fails open to the sender's own address.
        send(town.exim.doors["open"], f"news@{DOMAIN}", live)
        until(town.exim.drained, "the unsigned mail to go out", shown=town.log)
        assert delivered(town, live) == [f"news@{DOMAIN}"]
    finally:
        town.daemon.start()
    town.daemon.signal(signal.SIGSTOP)
    try:
        assert town.refusal("open", dead) == ""
        assert town.refusal("closed", live) == "451 4.3.0 suppression list not available"
    finally:
        town.daemon.signal(signal.SIGCONT)
    assert [town.refusal(door, dead).startswith(f"{SUPPRESSED}manual, ") for door in ("open", "closed")] == [True, True]


def submitted(town: Town, *recipients: str) -> None:
    """Hand a mail to exim -f, as a script on the machine does, and wait for its deliveries."""
    done = town.exim.room.run("exim4", "-odi", "-f", "script@sender.example", *recipients, given=letter(*recipients))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("router", ["exim/router-open.conf", "exim/router-closed.conf"])
def test_the_first_router_catches_what_passes_no_acl(
    router: str, place: Path, need_mailer: Callable[[str], Path], name: Callable[[str], str]
) -> None:
    """Mail by exim -f is asked for by the router: the blocked bounces, the living gets it; down or hung, it goes out or it waits."""
    need_mailer("exim")
    fails_open = "open" in router
    with founded(place / Path(router).stem, router) as town:
        dead, live = blocked(town, name("gone")), name("live")
        assert town.refusal("unasked", dead) == ""
        assert town.refusal("verified", dead).startswith(SUPPRESSED)
        submitted(town, dead, live)
        assert delivered(town, live) == ["script@sender.example"]
        assert delivered(town, dead) == []
        assert f"** {dead} " in town.exim.log()

        late = [name("live"), name("live")]
        town.daemon.signal(signal.SIGSTOP)
        submitted(town, late[0])
        town.daemon.kill()
        submitted(town, late[1])
        went = [len(delivered(town, one)) for one in late]
        assert went == ([1, 1] if fails_open else [0, 0])
        assert town.refusal("verified", name("live")) == ("" if fails_open else "451 4.3.0 suppression list not available")
        town.daemon.start()
        until(lambda: all(len(delivered(town, one)) == 1 for one in late), "the mail that waited", shown=town.log)
