"""A bounce travels the whole way with a real Postfix on both ends: mail out, refused, bounced, taken in, asked for, refused at once.

Everything is real but the Internet: the server that refuses is ours. Each story is told twice, with the bounces handed over by SMTP
and by LMTP.
"""

import json
import re
import select
import shutil
import signal
import smtplib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.system.daemon import DOMAIN, Daemon
from tests.system.dropin import dropin, here, main_cf, master_cf
from tests.system.mail import NO_SUCH_USER, report
from tests.system.postfix import Postfix
from tests.system.refuser import Refuser
from tests.system.waiting import PATIENCE, until

FAIL_OPEN = main_cf("postfix/policy-open.cf")
FAIL_CLOSED = main_cf("postfix/policy-closed.cf")
MAP = main_cf("postfix/access.cf")
RESTRICTIONS = "smtpd_recipient_restrictions"
OUTSIDE = {"mynetworks": "192.0.2.0/24", "smtpd_relay_restrictions": ""}


@dataclass
class Town:
    """A Postfix that sends, a daemon that takes its bounces, and a server on the other side that refuses some recipients."""

    postfix: Postfix
    daemon: Daemon
    remote: Refuser

    def log(self) -> str:
        """Return what both logged."""
        return f"--- Postfix\n{self.postfix.log()}\n--- bounced\n{self.daemon.log()}"

    def mail(self, recipient: str, return_path: str) -> None:
        """Send a mail past every check, and wait until it and its bounce are at their end."""
        self.postfix.send("open", return_path, recipient)
        until(self.postfix.drained, f"the mail to {recipient} to come to its end", shown=self.log)

    def mails(self, recipient: str, times: int) -> Iterator[int]:
        """Send several mails, signed a minute apart, and count them."""
        for number in range(1, times + 1):
            self.mail(recipient, self.daemon.sign(recipient, int(time.time()) - 3600 + 60 * number))
            yield number

    def suppressed(self, recipient: str) -> bool:
        """Ask as a shell script does."""
        code = self.daemon.run("check", recipient).returncode
        assert code in {0, 1}, f"check could not tell: {code}\n{self.log()}"
        return code == 1

    def refusal(self, door: str, recipient: str) -> str:
        """Return the reply by which Postfix refuses a recipient at a door; empty where it takes him."""
        code, text = self.postfix.rcpt(door, recipient)
        return "" if code == 250 else f"{code} {text}"


@contextmanager
def founded(
    home: Path,
    handover: str,
    doors: Mapping[str, Mapping[str, str]],
    settings: Mapping[str, str],
    transports: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    *,
    transport_map: str = "",
) -> Iterator[Town]:
    """Found a town below `home`. In values, /run/bounced stands for where the daemon's sockets are, /etc/postfix for where the table of
    unsigned return paths is, and `sign:` is the client that signs, to the other side.
    """
    home.mkdir(mode=0o755)
    daemon = Daemon(home, socket_group="postfix")
    remote = Refuser()
    host, port = daemon.smtp
    (home / "unsigned").write_text(dropin("postfix/unsigned", home))
    postfix = Postfix(
        home,
        doors={door: here(options, daemon) for door, options in doors.items()},
        settings={
            "transport_maps": "inline:{{ {{ {} = {} }} }} {}".format(
                DOMAIN,
                f"{handover}:[{host}]:{port}" if handover in ("smtp", "sign") else f"{handover}:unix:{daemon.door('lmtp')}",
                here(main_cf(transport_map), daemon)["transport_maps"] if transport_map else "",
            ),
            "relay_domains": DOMAIN,
            "relay_recipient_maps": "",
            "default_transport": "smtp:[{}]:{}".format(*remote.address),
            **{name: value.replace("sign: ", "sign:[{}]:{} ".format(*remote.address)) for name, value in here(settings, daemon).items()},
        },
        transports={of: here(options, daemon) for of, options in transports.items()},
    )
    built = Town(postfix, daemon, remote)
    remote.start()
    try:
        daemon.start()
        postfix.start()
        yield built
    finally:
        postfix.stop()
        daemon.kill()
        remote.stop()
        sys.stdout.write(built.log())


@pytest.fixture(scope="module", params=["smtp", "lmtp"])
def town(request: pytest.FixtureRequest, place: Path, need_postfix: None) -> Iterator[Town]:
    """One town for all stories of this module; each story has recipients of its own."""
    doors = {
        "open": {},
        "policy": FAIL_OPEN,
        "closed": FAIL_CLOSED,
        "news": {RESTRICTIONS: FAIL_OPEN[RESTRICTIONS].replace("try_limit=1", "try_limit=1, policy_context=news")},
        "socketmap": MAP,
        # For whom the client is a stranger, and with nothing beside the block.
        **{f"outside-{of}": {**block, **OUTSIDE} for of, block in {"policy": FAIL_OPEN, "closed": FAIL_CLOSED, "map": MAP}.items()},
    }
    with founded(place / request.param, request.param, doors, {"lmtp_send_xforward_command": "yes"}) as one:
        yield one


SIGNING = master_cf("postfix/sign-master.cf")
STRANGERS = {
    "mynetworks": "192.0.2.0/24",
    "smtpd_relay_restrictions": "check_recipient_access inline:{ { receiver.example = OK } }, reject_unauth_destination",
}
"""A door behind which some mail of strangers goes out again, as by an alias or a list."""


@pytest.fixture(scope="module", params=["sign", "signlmtp"])
def signing_town(request: pytest.FixtureRequest, place: Path, need_postfix: None) -> Iterator[Town]:
    """A town in which Postfix itself signs, by XVERP and a generic map, for applications that cannot, and for nobody else."""
    settings = {**main_cf("postfix/sign-main.cf")}
    # The town hands bounces over in both ways, and lets some mail of strangers out.
    del settings["transport_maps"]
    settings[RESTRICTIONS] = settings[RESTRICTIONS].partition(",")[0]
    with founded(place / request.param, request.param, {"open": {}, "strangers": STRANGERS}, settings, SIGNING) as one:
        yield one


@pytest.fixture(scope="module")
def walled_town(place: Path, need_postfix: None) -> Iterator[Town]:
    """A Postfix as Debian runs it, its services in a chroot, with every way in that there is, and one that there is not."""
    home = place / "chroot"
    home.mkdir(mode=0o755)
    inside = home / "queue" / "bounced" / "policy.sock"
    daemon = Daemon(home, socket_group="postfix", doors={"policy": inside})
    postfix = Postfix(
        home,
        doors={
            "outside": here(MAP, daemon),
            "proxied": here({RESTRICTIONS: MAP[RESTRICTIONS].replace("socketmap:", "proxy:socketmap:", 1)}, daemon),
            "inside": {RESTRICTIONS: FAIL_OPEN[RESTRICTIONS].replace("/run/bounced/", "bounced/")},
        },
        settings={"proxy_read_maps": f"proxy:socketmap:unix:{daemon.door('socketmap')}:access"},
        chroot=True,
    )
    inside.parent.mkdir(mode=0o750)
    shutil.chown(inside.parent, group="postfix")
    try:
        daemon.start()
        postfix.start()
        yield Town(postfix, daemon, Refuser())
    finally:
        postfix.stop()
        daemon.kill()
        sys.stdout.write(postfix.log() + daemon.log())


@pytest.mark.parametrize("door", ["policy", "socketmap"])
def test_a_dead_address_is_refused_by_the_same_postfix_that_mailed_it(town: Town, name: Callable[[str], str], door: str) -> None:
    """A mail to nobody comes back, is understood, and the next one is refused at once, until a person releases the address."""
    dead, live = name("dead"), name("live")
    assert not town.suppressed(dead)
    assert town.refusal(door, dead) == ""

    town.mail(dead, town.daemon.tell("sign", dead))
    town.mail(live, town.daemon.tell("sign", live))

    assert town.suppressed(dead)
    assert "User unknown in virtual mailbox table" in town.daemon.tell("why", dead)
    assert town.refusal(door, dead).startswith("550 5.7.1 ")
    assert "suppression list (hard, no-such-user" in town.refusal(door, dead)
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        town.postfix.send(door, "news@sender.example", dead)
    assert not town.suppressed(live)
    town.postfix.send(door, "news@sender.example", live)
    until(lambda: ("news@sender.example", live) in town.remote.taken, "the mail to the living", shown=town.log)

    town.daemon.tell("release", dead, "--reason", "he is back")
    assert not town.suppressed(dead)
    assert town.refusal(door, dead) == ""


def test_the_fifth_full_mailbox_in_a_row_blocks_and_not_the_fourth(town: Town, name: Callable[[str], str]) -> None:
    """Mail goes on while a mailbox is full, and stops at the fifth mail that comes back."""
    full = name("full")
    for number in town.mails(full, 5):
        assert town.suppressed(full) == (number == 5), f"after {number} mails"
        assert (town.refusal("policy", full) == "") == (number < 5)
    assert "(soft, mailbox-full" in town.refusal("policy", full)
    assert "(soft, mailbox-full" in town.refusal("socketmap", full)


def follow(town: Town) -> str:
    """Have all that Postfix has logged until now read by `bounced follow`; return what it said."""
    done = subprocess.run(town.daemon.command("follow"), input=town.postfix.log(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr + town.log()
    return done.stdout


@pytest.mark.parametrize("town", ["smtp"], indirect=True)
def test_a_mail_that_arrived_is_read_from_the_log(town: Town, name: Callable[[str], str]) -> None:
    """Two mails come back from a full mailbox, the third arrives; the log says so, once, and the run is over."""
    full, other = name("full"), name("live")
    assert list(town.mails(full, 2)) == [1, 2]
    assert "2 soft bounces in a row" in town.daemon.tell("why", full)
    # A mail that arrived at somebody else by his return path, and one by a return path that nobody signed, say nothing of him.
    town.mail(other, town.daemon.sign(full, int(time.time()) - 60))
    town.mail(other, f"news+{full.replace('@', '=')}@sender.example")
    assert full not in follow(town)
    assert "2 soft bounces in a row" in town.daemon.tell("why", full)

    # The server on the other side knows the mailbox as full in lower case alone.
    town.mail(full.replace("full", "FULL"), town.daemon.sign(full, int(time.time())))
    assert f"noted: {full}" in follow(town)
    assert full not in follow(town)
    assert "soft bounces in a row" not in town.daemon.tell("why", full)


@pytest.mark.parametrize("town", ["smtp"], indirect=True)
def test_a_log_waits_for_the_daemon(town: Town, name: Callable[[str], str]) -> None:
    """While the daemon is away, what the log says is kept, and told when it is back."""
    full = name("full")
    assert list(town.mails(full, 1)) == [1]
    town.mail(full.replace("full", "FULL"), town.daemon.sign(full, int(time.time())))
    town.daemon.kill()
    with subprocess.Popen(town.daemon.command("follow"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stderr is not None
        reader.stdin.write(town.postfix.log().encode())
        reader.stdin.close()
        assert b"no daemon answers" in reader.stderr.readline()
        town.daemon.start()
        assert full.encode() in reader.stdout.read()


def test_a_spam_refusal_never_blocks_the_recipient(town: Town, name: Callable[[str], str]) -> None:
    """Twenty mails refused as spam say nothing against the recipient, and everything about them is kept."""
    spam = name("spam")
    for number in town.mails(spam, 20):
        assert town.refusal("policy", spam) == "", f"after {number} mails"
    assert not town.suppressed(spam)
    assert town.refusal("policy", spam) == town.refusal("socketmap", spam) == ""
    assert town.daemon.tell("why", spam).count("Message rejected as spam") >= 20


def test_a_bounce_from_outside_is_known_by_who_brought_it(town: Town, name: Callable[[str], str]) -> None:
    """Over LMTP Postfix says by XFORWARD from whom it has a bounce; over SMTP, where anybody could say so, the bounce is Postfix's own."""
    dead = name("dead")
    return_path = town.daemon.tell("sign", dead)
    with town.postfix.connect("open", source="127.9.8.7") as session:
        session.sendmail("", [return_path], report(dead, NO_SUCH_USER))
    until(town.postfix.drained, "the bounce to be handed over", shown=town.log)

    def told() -> list[str]:
        return [line for line in town.daemon.log().splitlines() if f"rcpt=<{dead}>" in line]

    [line] = until(told, "the line that tells of it", shown=town.log)
    assert ("client=127.9.8.7 " in line) == ("postfix/lmtp[" in town.postfix.log())


def test_with_the_daemon_down_each_door_does_what_its_recipe_promises(town: Town, name: Callable[[str], str]) -> None:
    """The policy recipe with default_action lets mail pass; without it, and with a socketmap, mail waits: nothing is lost."""
    dead = name("dead")
    town.mail(dead, town.daemon.tell("sign", dead))
    assert town.refusal("policy", dead).startswith("550")
    town.daemon.stop()
    try:
        assert town.refusal("policy", dead) == ""
        assert town.refusal("closed", dead).startswith("451 4.3.")
        assert town.refusal("socketmap", dead).startswith("451 4.3.")
        assert town.daemon.run("check", dead).returncode >= 64
    finally:
        town.daemon.start()
    assert town.refusal("policy", dead).startswith("550")
    assert town.refusal("socketmap", dead).startswith("550")


def test_a_block_refuses_no_mail_that_comes_in(town: Town, name: Callable[[str], str]) -> None:
    """With a block pasted as it is, strangers still mail our own domains, and nobody else's by us."""
    for door in ("outside-policy", "outside-closed", "outside-map"):
        assert town.refusal(door, town.daemon.tell("sign", name("live"))) == ""
        assert town.refusal(door, name("live")).startswith("554 5.7.1 ")


def test_with_the_daemon_hung_policy_has_a_limit_and_a_map_has_none(place: Path, need_postfix: None, name: Callable[[str], str]) -> None:
    """Policy delegation goes on, or says 451, after its two seconds; a socketmap holds the session until the daemon answers."""
    with founded(place / "hung", "smtp", {"policy": FAIL_OPEN, "closed": FAIL_CLOSED, "socketmap": MAP}, {}) as town:
        live = name("live")
        town.daemon.signal(signal.SIGSTOP)
        assert town.refusal("policy", live) == ""
        assert town.refusal("closed", live).startswith("451 4.3.5 ")
        with town.postfix.connect("socketmap") as session:
            session.ehlo()
            session.mail("news@sender.example")
            session.putcmd("rcpt", f"to:<{live}>")
            assert session.sock is not None
            # Longer than the limits above.
            early, _, _ = select.select([session.sock], [], [], 4)
            town.daemon.signal(signal.SIGCONT)
            assert not early
            assert session.getreply()[0] == 250


def test_a_bounce_waits_in_the_senders_queue_while_the_daemon_is_down(town: Town, name: Callable[[str], str]) -> None:
    """What comes back while nobody listens is not lost: Postfix keeps it, and it counts as soon as the daemon is back."""
    dead = name("dead")
    return_path = town.daemon.tell("sign", dead)
    town.daemon.stop()
    try:
        town.postfix.send("open", return_path, dead)
        until(lambda: any(mail["queue_name"] == "deferred" for mail in town.postfix.queue()), "the bounce to be deferred", shown=town.log)
    finally:
        town.daemon.start()
    until(town.postfix.drained, "the deferred bounce to be taken", shown=town.log)
    assert town.suppressed(dead)


@pytest.mark.parametrize("door", ["proxied", "inside"])
def test_a_postfix_in_its_chroot_reaches_the_daemon_by_the_two_ways_in(walled_town: Town, door: str) -> None:
    """Debian's smtpd sees only the queue directory: a proxied map and a socket below that directory work."""
    walled_town.daemon.tell("block", "dead@receiver.example", "--reason", "a test")
    assert walled_town.refusal(door, "dead@receiver.example").startswith("550 5.7.1 ")
    assert walled_town.refusal(door, "live@receiver.example") == ""


def test_a_postfix_in_its_chroot_defers_when_it_cannot_reach_the_daemon(walled_town: Town) -> None:
    """An absolute path without proxy: is not there inside the chroot; Postfix says 451, and never that the address is clear."""
    assert walled_town.refusal("outside", "live@receiver.example").startswith("451 4.3.")


def test_a_stream_that_is_left_is_refused_and_the_others_are_not(town: Town, name: Callable[[str], str]) -> None:
    """What somebody left is one stream; a door that asks for another one, by policy_context, still takes mail to him."""
    reader = name("reader")
    town.daemon.tell("block", reader, "--scope", "news", "--reason", "he asked")
    assert town.refusal("news", reader).startswith("550 5.7.1 ")
    assert town.refusal("policy", reader) == ""


@pytest.mark.parametrize("door", ["policy", "socketmap"])
def test_a_mailbox_that_needs_quotes_is_refused(town: Town, name: Callable[[str], str], door: str) -> None:
    """Postfix asks for it without its quotes, which is no address as it stands; it is the same mailbox."""
    recipient = '"{}"@{}'.format(*name("john smith").split("@"))
    assert not town.refusal(door, recipient)
    town.daemon.tell("block", recipient, "--reason", "a test")
    assert town.refusal(door, recipient).startswith("550 5.7.1")


def test_postfix_signs_for_an_application_that_cannot(signing_town: Town, name: Callable[[str], str]) -> None:
    """By XVERP and the generic map each recipient gets a signed return path, and Postfix' own bounce comes back to it."""
    dead, live = name("dead"), name("live")
    with signing_town.postfix.connect("open") as session:
        session.ehlo()
        assert session.mail(f"b@{DOMAIN}", ["XVERP"])[0] == 250
        assert {session.rcpt(recipient)[0] for recipient in (dead, live)} == {250}
        assert session.data(b"Subject: News\r\n\r\nGood news.\r\n")[0] == 250
    until(signing_town.postfix.drained, "the mails to come to their ends", shown=signing_town.log)

    ((return_path, _),) = [taken for taken in signing_town.remote.taken if taken[1] == live]
    assert f"a mail to {live}," in signing_town.daemon.tell("verify", return_path)
    assert signing_town.suppressed(dead)
    assert not signing_town.suppressed(live)


@pytest.mark.parametrize("signing_town", ["sign"], indirect=True)
def test_while_we_are_hung_or_down_what_is_to_be_signed_waits(signing_town: Town, name: Callable[[str], str]) -> None:
    """Nothing goes out unsigned: the client that signs is held, or ends, and the mail is sent, signed, when we are back."""
    town = signing_town

    def sent(recipient: str) -> None:
        with town.postfix.connect("open") as session:
            session.ehlo()
            session.mail(f"b@{DOMAIN}", ["XVERP"])
            session.rcpt(recipient)
            assert session.data(b"Subject: News\r\n\r\nGood news.\r\n")[0] == 250

    def tried() -> int:
        return town.postfix.log().count("(queue active)")

    hung, down = name("live"), name("live")
    for recipient, away in ((hung, lambda: town.daemon.signal(signal.SIGSTOP)), (down, town.daemon.kill)):
        away()
        before = tried()
        sent(recipient)
        until(lambda: tried() > before, "the mail to be tried", shown=town.log)  # noqa: B023 - it is called at once
        if recipient == down:
            until(lambda: "socketmap" in town.postfix.log().rpartition("(queue active)")[2], "the client to end", shown=town.log)
        assert recipient not in [taken for _, taken in town.remote.taken]
        if recipient == hung:
            town.daemon.signal(signal.SIGCONT)
        else:
            town.daemon.start()
        until(lambda: recipient in [taken for _, taken in town.remote.taken], "the mail", shown=town.log)  # noqa: B023
        (return_path,) = [sender for sender, taken in town.remote.taken if taken == recipient]
        assert f"a mail to {recipient}," in town.daemon.tell("verify", return_path)


_SIGNED = re.compile(rf"b\+[a-z2-7]{{23}}\+[^@<>\s]+@{DOMAIN}")


def stolen(town: Town, victim: str, taker: str) -> list[str]:
    """Let a stranger, whose mails go out to `taker` again, ask for a return path of `victim`; return the signed ones that he can read."""
    wanted = f"b+{victim.replace('@', '=')}@{DOMAIN}"
    for sender in (wanted, "stranger@elsewhere.example"):
        with town.postfix.connect("strangers") as session:
            try:
                session.sendmail(sender, [taker], f"From: <{wanted}>\r\nReply-To: <{wanted}>\r\nSubject: mine\r\n\r\nText.\r\n")
            except smtplib.SMTPException:
                continue
    until(town.postfix.drained, "the mails to come to their ends", shown=town.log)
    seen = "\n".join([*town.remote.contents, *(sender for sender, _ in town.remote.taken)])
    return [text for text in set(_SIGNED.findall(seen)) if f"a mail to {victim}," in town.daemon.tell("verify", text)]


SPELLINGS = ("{}@{}", "{}@{}.", '"{}"@{}', "{}%{}", "{}%{}@mail.sender.example", "@mail.sender.example:{}@{}")


def blocked_by_a_stranger(town: Town, victim: str) -> bool:
    """Let a stranger bring a report of a victim's death to the return path as XVERP makes it, without a seal; tell whether it counts."""
    for spelling in SPELLINGS:
        for local_part in (f"b+{victim.replace('@', '=')}", f"B+{victim.replace('@', '=')}"):
            with town.postfix.connect("strangers") as session:
                try:
                    session.sendmail("", [f"<{spelling.format(local_part, DOMAIN)}>"], report(victim, NO_SUCH_USER))
                except smtplib.SMTPException:
                    continue
    until(town.postfix.drained, "the reports to come to their ends", shown=town.log)
    return town.suppressed(victim)


def test_postfix_signs_nothing_for_a_stranger(signing_town: Town, name: Callable[[str], str]) -> None:
    """Who may only send mail to us or through us gets no return path signed: as envelope sender, in a header, or as recipient."""
    assert stolen(signing_town, name("victim"), name("taker")) == []
    assert not blocked_by_a_stranger(signing_town, name("victim"))


def test_a_generic_map_for_all_mail_is_found_out(place: Path, need_postfix: None, name: Callable[[str], str]) -> None:
    """Control: where every client has the map, a stranger reads a return path that is proof against his victim, and needs none."""
    with founded(place / "careless", "smtp", {"strangers": STRANGERS}, {**SIGNING["sign"], **SIGNING["signlmtp"]}) as town:
        assert stolen(town, name("victim"), name("taker"))
        assert blocked_by_a_stranger(town, name("victim"))


def test_the_transport_map_catches_mail_by_sendmail(place: Path, need_postfix: None, name: Callable[[str], str]) -> None:
    """Mail by sendmail(1) to a blocked address bounces in Postfix, the living gets his; while the daemon is down, all of it waits."""
    with founded(place / "transport", "smtp", {}, {}, transport_map="postfix/transport.cf") as town:
        dead, live, late = name("gone"), name("live"), name("live")
        town.daemon.tell("block", dead, "--reason", "a test")
        script = "script@sender.example"
        town.postfix.submit(script, dead, live)
        until(town.postfix.drained, "both mails to come to their ends", shown=town.log)
        until(lambda: {taken for _, taken in town.remote.taken} == {live, script}, "the mail and the bounce", shown=town.log)
        assert any("recipient is on the suppression list (manual, manual, " in " ".join(one.split()) for one in town.remote.contents)
        town.daemon.stop()
        town.postfix.submit(script, late)
        until(lambda: "lookup error" in town.postfix.log(), "Postfix to miss its map", shown=town.log)
        assert late not in {taken for _, taken in town.remote.taken}
        town.daemon.start()
        # trivial-rewrite(8) asks a map that failed again only half a minute later; a new one of it asks at once.
        town.postfix.reload()
        until(lambda: late in {taken for _, taken in town.remote.taken}, "the mail that waited", 2 * PATIENCE, shown=town.log)


def test_a_hung_transport_map_holds_all_mail(place: Path, need_postfix: None, name: Callable[[str], str]) -> None:
    """While the daemon hangs, mail by sendmail(1) waits and MAIL gets no answer, of whomever it is; when it goes on, so does all of it."""
    with founded(place / "held", "smtp", {"open": {}}, {}, transport_map="postfix/transport.cf") as town:
        queued = name("live")
        town.daemon.signal(signal.SIGSTOP)
        town.postfix.submit("script@sender.example", queued)
        with town.postfix.connect("open") as session:
            session.ehlo()
            session.putcmd("mail", "from:<news@sender.example>")
            assert session.sock is not None
            # Longer than the limits of the other recipes.
            early, _, _ = select.select([session.sock], [], [], 3)
            assert not early
            assert not town.remote.taken
            town.daemon.signal(signal.SIGCONT)
            assert session.getreply()[0] == 250
        until(lambda: queued in {taken for _, taken in town.remote.taken}, "the mail that waited", shown=town.log)


COPIES = {"notify_classes": "bounce", "bounce_notice_recipient": f"postmaster@{DOMAIN}"}


def unannounced(town: Town, return_path: Callable[[str], str], name: Callable[[str], str]) -> int:
    """Send two dozen mails to nobody through Postfix; return how many were counted that left here and that nobody announced."""
    (town.daemon.home / "conf.d").mkdir()
    (town.daemon.home / "conf.d" / "ours.toml").write_text('[ours]\nhosts = ["mail.sender.example"]\n')
    town.daemon.stop()
    town.daemon.start()
    for _ in range(24):
        recipient = name("dead")
        town.postfix.send("open", return_path(recipient), recipient, "You have won")
    until(town.postfix.drained, "the mails and their bounces to come to their ends", shown=town.log)
    assert len(list((town.daemon.home / "postmaster" / "new").iterdir())) == 24
    town.daemon.stop()  # which stores the counts
    town.daemon.start()
    tallies = json.loads(town.daemon.tell("backscatter", "--json"))["tallies"]
    return sum(tally["count"] for tally in tallies if tally["what"] == "unannounced")


def test_a_stolen_account_that_sends_through_postfix_is_told(place: Path, need_postfix: None, name: Callable[[str], str]) -> None:
    """Postfix sends copies of bounces; two dozen of mail that nobody signed for are one alarm within seconds, with advice."""
    with founded(place / "stolen", "lmtp", {"open": {}}, COPIES) as town:
        assert unannounced(town, lambda _: "joe@sender.example", name) == 24
        until(lambda: "incident.opened" in town.daemon.log(), "the alarm", shown=town.log)
        (line,) = town.daemon.tell("incidents").splitlines()
        assert "unsigned mail: 24 bounces" in line
        assert "change that account's credentials" in town.daemon.tell("incidents", "show", line.split()[0])


def test_copies_of_bounces_of_signed_mail_are_no_alarm(place: Path, need_postfix: None, name: Callable[[str], str]) -> None:
    """Control: of mail that a mailer signed for, the same copies say nothing."""
    with founded(place / "signed", "smtp", {"open": {}}, COPIES) as town:
        assert unannounced(town, lambda recipient: town.daemon.sign(recipient, int(time.time()) - 60), name) == 0
