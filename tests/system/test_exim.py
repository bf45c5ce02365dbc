"""Exim asks and signs by the blocks of config/mailers/exim: the real daemon, mail out and back, and ours stopped and hung."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.system.daemon import DOMAIN, Daemon
from tests.system.dropin import dropin
from tests.system.exim import Exim
from tests.system.refuser import Refuser
from tests.system.room import SOCKET_GROUP
from tests.system.sender import letter, refusal, send
from tests.system.town import Town, opened
from tests.system.waiting import until

SUPPRESSED = "550 5.7.1 recipient is on the suppression list ("
VERIFY = "  require verify = recipient\n"


class EximTown(Town):
    """An Exim that sends, a daemon that takes its bounces, and a server on the other side that refuses some recipients."""

    def __init__(self, home: Path, router: str, sign: str) -> None:
        """Write the configurations; nothing runs yet."""
        home.mkdir(mode=0o755)
        daemon, remote = Daemon(home, socket_group=SOCKET_GROUP), Refuser()
        acls = {"open": dropin("exim/rcpt-open.acl"), "closed": dropin("exim/rcpt-closed.acl")}
        self.exim = Exim(
            home,
            acls={**acls, "verified": VERIFY, "unasked": ""},
            router=router and dropin(router),
            sign=sign and dropin(sign),
            remote=remote.address,
            bounced=daemon.smtp,
        )
        super().__init__(self.exim, daemon, remote)

    def refusal(self, door: str, recipient: str) -> str:
        """Return the reply by which Exim refuses a recipient at a door; empty where it takes him."""
        return refusal(self.exim.doors[door], recipient)


def founded(home: Path, router: str = "", sign: str = "") -> AbstractContextManager[EximTown]:
    """Found a town below `home`, with a first router and a way of signing from config/mailers."""
    return opened(EximTown(home, router, sign))


@pytest.fixture(scope="module")
def town(place: Path, need_mailer: Callable[[str], Path]) -> Iterator[EximTown]:
    """An Exim whose ACLs ask, and whose outgoing router signs."""
    need_mailer("exim")
    with founded(place / "acl", sign="exim/sign-open.conf") as one:
        yield one


def test_exim_signs_and_its_own_bounce_blocks(town: EximTown, name: Callable[[str], str]) -> None:
    """A mail to a dead and a living address is signed for each; Exim's own DSN comes back to us, and the dead is refused from then on."""
    dead, live = name("dead"), name("live")
    assert [town.refusal(door, dead) for door in ("open", "closed")] == ["", ""]
    send(town.exim.doors["open"], f"news@{DOMAIN}", dead, live)
    until(lambda: town.suppressed(dead), "the bounce", shown=town.log)
    assert [town.refusal(door, dead).startswith(f"{SUPPRESSED}hard, no-such-user, ") for door in ("open", "closed")] == [True, True]
    assert [town.refusal(door, live) for door in ("open", "closed")] == ["", ""]
    (signed,) = town.delivered(live)
    assert f"a mail to {live}," in town.daemon.tell("verify", signed)


@pytest.mark.parametrize("form", ["cdb", "exim-lsearch"])
def test_exim_reads_the_exported_list(town: EximTown, form: str) -> None:
    """The real Exim finds each address in the file, one in quotes too, with our words, and nobody else."""
    dead, quoted = f"{form}@receiver.example", f'"{form} smith"@receiver.example'
    for one in (dead, quoted):
        town.blocked(one)
    town.daemon.tell("export", "--format", form, str(town.daemon.home / form))
    (town.daemon.home / form).chmod(0o644)

    def found(key: str) -> str:
        lookup = f"${{lookup{{{key}}}{form.removeprefix('exim-')}{{/run/bounced/{form}}}{{$value}}{{nobody}}}}"
        done = town.exim.room.run("exim4", "-be", lookup)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    # Exim's $local_part has no quotes.
    assert [found(key).partition("(")[0] for key in (dead, f"{form} smith@receiver.example")] == [
        "550 5.7.1 recipient is on the suppression list "
    ] * 2
    assert found("live@receiver.example") == "nobody"


def test_only_mail_from_our_domain_is_signed(town: EximTown, name: Callable[[str], str]) -> None:
    """Another sender keeps his address, and a bounce that goes out keeps its null sender."""
    for sender in ("joe@sender.example", "<>"):
        live = name("live")
        send(town.exim.doors["open"], sender, live)
        until(town.exim.drained, "the mail to go out", shown=town.log)
        assert town.delivered(live) == [sender]


def test_down_and_hung_each_acl_does_what_it_says(town: EximTown, name: Callable[[str], str]) -> None:
    """With our daemon stopped and hung, the open ACL lets mail pass, also to the blocked, and the closed one says 451."""
    dead, live = town.blocked(name("gone")), name("live")
    town.daemon.stop()
    try:
        assert town.refusal("open", dead) == ""
        assert town.refusal("closed", live) == "451 4.3.0 suppression list not available"
        # Signing fails open to the sender's own address.
        send(town.exim.doors["open"], f"news@{DOMAIN}", live)
        until(town.exim.drained, "the unsigned mail to go out", shown=town.log)
        assert town.delivered(live) == [f"news@{DOMAIN}"]
    finally:
        town.daemon.start()
    town.daemon.signal(signal.SIGSTOP)
    try:
        assert town.refusal("open", dead) == ""
        assert town.refusal("closed", live) == "451 4.3.0 suppression list not available"
    finally:
        town.daemon.signal(signal.SIGCONT)
    assert [town.refusal(door, dead).startswith(f"{SUPPRESSED}manual, ") for door in ("open", "closed")] == [True, True]


def submitted(town: EximTown, *recipients: str) -> None:
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
        dead, live = town.blocked(name("gone")), name("live")
        assert town.refusal("unasked", dead) == ""
        assert town.refusal("verified", dead).startswith(SUPPRESSED)
        submitted(town, dead, live)
        assert town.delivered(live) == ["script@sender.example"]
        assert town.delivered(dead) == []
        assert f"** {dead} " in town.exim.log()

        late = [name("live"), name("live")]
        town.daemon.signal(signal.SIGSTOP)
        submitted(town, late[0])
        town.daemon.kill()
        submitted(town, late[1])
        went = [len(town.delivered(one)) for one in late]
        assert went == ([1, 1] if fails_open else [0, 0])
        assert town.refusal("verified", name("live")) == ("" if fails_open else "451 4.3.0 suppression list not available")
        town.daemon.start()
        until(lambda: all(len(town.delivered(one)) == 1 for one in late), "the mail that waited", shown=town.log)
