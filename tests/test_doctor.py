"""The doctor's checks, each where all is well and where it is not: the DNS of a real name server on loopback, files, sockets."""

import os
import pwd
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dns.flags
import dns.message
import dns.rrset
import pytest

from bounced.config import load
from bounced.doctor import Finding, Level, machine
from bounced.doctor.names import Names, NoAnswerError, examined, probe_with
from bounced.doctor.samples import samples
from bounced.outcome import Category
from bounced.outcome.causes import causes
from bounced.outcome.ruleset import RuleSet
from bounced.policy import Effect, Policy, Treatment
from bounced.settings import CATEGORIES, Config
from tests.conftest import lacking

DOMAIN = "bounces.example.net"
Zone = Mapping[tuple[str, str], tuple[str, ...]]
GOOD: Zone = {
    (DOMAIN, "MX"): ("10 mx.example.net.",),
    ("mx.example.net", "A"): ("127.0.0.1",),
    (DOMAIN, "TXT"): ('"v=spf1 mx " "-all"', '"google-site-verification=x"'),
    ("_dmarc.example.net", "TXT"): ('"v=DMARC1; p=reject"',),
}


@contextmanager
def name_server(zone: Zone) -> Iterator[str]:
    """Serve a zone over UDP on loopback; give the address to ask."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            octets, client = server.recvfrom(4096)
            if octets == b"stop":
                return
            query = dns.message.from_wire(octets)
            response = dns.message.make_response(query)
            response.flags |= dns.flags.RA
            question = query.question[0]
            name, kind = question.name.to_text(omit_final_dot=True).lower(), question.rdtype.name
            if found := zone.get((name, kind)):
                response.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *found))
            server.sendto(response.to_wire(), client)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.sendto(b"stop", server.getsockname())
        thread.join()
        server.close()


def looked_up(zone: Zone, wrong: str | None = None) -> list[Finding]:
    """Examine the domain in a zone, where connecting to an MX gives `wrong`."""
    with name_server(zone) as address:
        return list(examined(Names(address), DOMAIN, lambda host, port: wrong))


def levels(findings: list[Finding]) -> dict[str, Level]:
    return {finding.check: finding.level for finding in findings}


def test_a_domain_in_order_is_found_so() -> None:
    """MX, SPF and DMARC as they should be are good; a private address needs no name in reverse."""
    assert levels(looked_up(GOOD)) == {
        f"mx {DOMAIN}": Level.OK,
        "port 25 127.0.0.1": Level.OK,
        "ptr 127.0.0.1": Level.SKIPPED,
        f"spf {DOMAIN}": Level.OK,
        f"dmarc {DOMAIN}": Level.OK,
    }


@pytest.mark.parametrize(
    ("change", "check", "level"),
    [
        ({(DOMAIN, "MX"): ()}, f"mx {DOMAIN}", Level.FAILURE),
        ({(DOMAIN, "MX"): ("0 .",)}, f"mx {DOMAIN}", Level.FAILURE),
        ({("mx.example.net", "A"): ()}, "mx mx.example.net", Level.FAILURE),
        ({(DOMAIN, "TXT"): ()}, f"spf {DOMAIN}", Level.FAILURE),
        ({(DOMAIN, "TXT"): ('"v=spf10 -all"',)}, f"spf {DOMAIN}", Level.FAILURE),
        ({(DOMAIN, "TXT"): ('"v=spf1 -all"', '"v=spf1 mx -all"')}, f"spf {DOMAIN}", Level.FAILURE),
        ({(DOMAIN, "TXT"): ('"v=spf1 +all"',)}, f"spf {DOMAIN}", Level.FAILURE),
        ({(DOMAIN, "TXT"): ('"v=spf1 mx ~all"',)}, f"spf {DOMAIN}", Level.WARNING),
        ({(DOMAIN, "TXT"): ('"v=spf1 redirect=example.net"',)}, f"spf {DOMAIN}", Level.OK),
        ({("_dmarc.example.net", "TXT"): ()}, f"dmarc {DOMAIN}", Level.WARNING),
        ({("_dmarc.example.net", "TXT"): ('"v=DMARC1; p=none"',)}, f"dmarc {DOMAIN}", Level.WARNING),
        ({("_dmarc.example.net", "TXT"): ('"v=DMARC1; p=none; sp=reject"',)}, f"dmarc {DOMAIN}", Level.OK),
        ({("_dmarc.example.net", "TXT"): ('"v=DMARC1; p=reject; sp=none"',)}, f"dmarc {DOMAIN}", Level.WARNING),
        ({(f"_dmarc.{DOMAIN}", "TXT"): ('"v=DMARC1; p=none"',)}, f"dmarc {DOMAIN}", Level.WARNING),
        ({("mx.example.net", "A"): ("198.41.0.4",)}, "ptr 198.41.0.4", Level.WARNING),
        (
            {("mx.example.net", "A"): ("198.41.0.4",), ("4.0.41.198.in-addr.arpa", "PTR"): ("other.example.",)},
            "ptr 198.41.0.4",
            Level.WARNING,
        ),
        (
            {("mx.example.net", "A"): ("198.41.0.4",), ("4.0.41.198.in-addr.arpa", "PTR"): ("mx.example.net.",)},
            "ptr 198.41.0.4",
            Level.OK,
        ),
    ],
)
def test_what_is_wrong_in_the_dns_is_found(change: Zone, check: str, level: Level) -> None:
    """Each record that is missing, double or lax is found, and what to do is told."""
    findings = looked_up({**GOOD, **change})

    assert levels(findings)[check] is level
    assert all(finding.do for finding in findings if finding.level in (Level.WARNING, Level.FAILURE))


def test_an_mx_that_is_somebody_else_is_found() -> None:
    """Where the probe of port 25 fails, the finding says how."""
    (found,) = [finding for finding in looked_up(GOOD, "a signed return path is refused: 550 no") if finding.check.startswith("port")]

    assert found.level is Level.FAILURE
    assert "550 no" in found.says


def test_name_servers_that_are_silent_are_a_failure() -> None:
    """No answer is told as such, and never as a missing record."""
    names = Names("127.0.0.1:9")
    names._resolver.lifetime = 0.1

    with pytest.raises(NoAnswerError):
        names.ask(DOMAIN, "MX")
    assert levels(list(examined(names, DOMAIN, lambda host, port: None))) == {
        f"{check} {DOMAIN}": Level.FAILURE for check in ("mx", "spf", "dmarc")
    }


@pytest.mark.parametrize("written", ["192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]:5353"])
def test_a_name_server_is_named_by_its_address(written: str) -> None:
    """An address of either family is taken, with a port or without."""
    resolver = Names(written)._resolver

    assert resolver.nameservers[0] in ("192.0.2.1", "2001:db8::1")
    assert resolver.port == (5353 if "5353" in written else 53)


def test_a_name_for_a_name_server_is_refused() -> None:
    """A host name would have to be asked for first."""
    with pytest.raises(ValueError, match="address"):
        Names("dns.example.net")


def test_a_port_where_nobody_listens_is_no_listener() -> None:
    """The probe tells that no bounce can be brought."""
    said = probe_with(f"b+x@{DOMAIN}", f"b+y@{DOMAIN}")("127.0.0.1", 9)

    assert said is not None
    assert "refused" in said


# The machine


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    """A configuration below `tmp_path`, with a key file and a database."""
    file = tmp_path / "bounced.toml"
    file.write_text(
        f'[return_path]\ndomains = ["{DOMAIN}"]\nkey_file = "keys"\n[store]\ndatabase = "bounced.db"\n'
        '[query]\npolicy = "policy.sock"\nline = "line.sock"\nsocketmap = "socketmap.sock"\nhttp = "http.sock"\n'
    )
    (tmp_path / "keys").write_text("")
    (tmp_path / "keys").chmod(0o600)
    (tmp_path / "bounced.db").write_text("")
    return load(file)


def found(settings: Config, check: str) -> Finding:
    return next(finding for finding in machine.examined(settings) if finding.check == check)


def test_keys_are_looked_at(settings: Config) -> None:
    """A key file is good; old, open to others or missing it is not."""
    file = settings.return_path.key_file
    assert found(settings, "keys").level is Level.OK

    os.utime(file, (time.time() - 500 * 86_400,) * 2)
    assert found(settings, "keys").level is Level.WARNING
    file.chmod(0o644)
    assert found(settings, "keys").level is Level.FAILURE
    file.unlink()
    assert found(settings, "keys").level is Level.FAILURE


def test_the_database_is_looked_at(settings: Config) -> None:
    """A database from the future or a missing one is a failure, and a log that somebody holds a warning."""
    assert found(settings, "database").level is Level.OK

    log = settings.store.database.with_name(f"{settings.store.database.name}-wal")
    log.touch()
    os.truncate(log, 30_000_000)
    held = found(settings, "database")
    assert (held.level, "fuser" in held.do) == (Level.WARNING, True)
    log.unlink()
    os.utime(settings.store.database, (time.time() + 3600,) * 2)
    assert found(settings, "database").level is Level.FAILURE
    settings.store.database.unlink()
    assert found(settings, "database").level is Level.FAILURE


def test_a_directory_that_is_missing_is_found(settings: Config) -> None:
    """Where the database shall lie, there must be a directory."""
    gone = replace(settings, store=replace(settings.store, database=Path("/nowhere/bounced.db")))

    assert found(settings, "disk").level in (Level.OK, Level.WARNING)
    assert found(gone, "disk").level is Level.FAILURE


def test_a_full_disk_is_found(settings: Config, as_root_in_a_small_disk: Path) -> None:
    """Less than 64 MiB are a failure."""
    small = replace(settings, store=replace(settings.store, database=as_root_in_a_small_disk / "bounced.db"))

    assert found(small, "disk").level is Level.FAILURE


@pytest.fixture
def as_root_in_a_small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    if os.geteuid() != 0:
        lacking("root")
    place = tmp_path / "small"
    place.mkdir()
    if os.system(f"mount -t tmpfs -o size=1m tmpfs {place}") != 0:  # a mount that is refused is as good as none
        lacking("the right to mount")
    yield place
    os.system(f"umount {place}")


def test_sockets_are_tried_as_another_user(tmp_path: Path) -> None:
    """A socket that the user may open is good; one of another group is refused by the kernel, and so is one that is not there."""
    if os.geteuid() != 0:
        lacking("root")
    nobody, place = pwd.getpwnam("nobody"), Path(f"/tmp/bounced-doctor-{os.getpid()}.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        try:
            place.chmod(0o666)
            assert machine._connected_as(nobody, place) == ""
            place.chmod(0o600)
            assert "ermission" in machine._connected_as(nobody, place)
        finally:
            place.unlink()
    assert "No such file" in machine._connected_as(nobody, place)


@pytest.mark.parametrize(("later", "level"), [(0, Level.OK), (85, Level.WARNING), (95, Level.FAILURE)])
def test_the_certificate_is_looked_at(  # noqa: PLR0917 - pytest names them
    later: int, level: Level, settings: Config, tmp_path: Path, need_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate of 90 days is good, soon to be renewed, or over, so many days later; one that cannot be read is a failure."""
    file, now = tmp_path / "cert.pem", time.time()
    names = ["-subj", "/CN=mx.example.net", "-keyout", str(tmp_path / "key.pem"), "-out", str(file)]
    command = [need_program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "90", *names]
    subprocess.run(command, check=True, capture_output=True)
    with_tls = replace(settings, smtp=replace(settings.smtp, tls_certificate=file))
    monkeypatch.setattr("bounced.doctor.machine.time.time", lambda: now + later * 86_400)

    assert found(with_tls, "certificate").level is level
    file.write_text("nothing")
    assert found(with_tls, "certificate").level is Level.FAILURE


def test_the_clock_is_looked_at(settings: Config) -> None:
    """Whatever the system says of its clock, it is a finding."""
    assert found(settings, "clock").level in (Level.OK, Level.WARNING, Level.SKIPPED)


# The samples


def test_every_category_has_a_sample_that_is_judged_so() -> None:
    """For each category of the configuration there is a bounce, judged as that category, with its usual disposition."""
    made = samples(RuleSet.builtin())

    assert set(CATEGORIES) - {Category.COMPLAINT.value} <= {name for name, sample in made.items() if sample.outcome is not None}
    for name, sample in made.items():
        if sample.outcome is not None:
            assert sample.outcome.category.value == name
            assert sample.outcome.disposition is causes()[Category(name)].disposition
    assert {"complaint", "auto-reply", "delayed", "delivered"} <= set(made)


def test_a_sample_has_no_template_left() -> None:
    """Recipient and return path stand in the mail, and no place for them."""
    for sample in samples(RuleSet.builtin()).values():
        content = sample.content("drill-x@doctor.invalid", f"b+y@{DOMAIN}")
        assert b"drill-x@doctor.invalid" in content
        assert b"{recipient}" not in content
        assert b"{return_path}" not in content


def test_what_blocks_is_worked_out_by_the_policy() -> None:
    """A strike that is the first and the last blocks; a category that only tells does not."""
    from bounced.doctor.drill import _blocks

    made = samples(RuleSet.builtin())
    tells = Policy(categories={Category.NO_SUCH_USER: Treatment(action=Effect.TELL)}, soft_limit=1)

    assert _blocks("no-such-user", made["no-such-user"], Policy())
    assert not _blocks("no-such-user", made["no-such-user"], tells)
    assert not _blocks("mailbox-full", made["mailbox-full"], Policy())
    assert _blocks("mailbox-full", made["mailbox-full"], tells)
    assert _blocks("complaint", made["complaint"], Policy())
    assert not _blocks("delivered", made["delivered"], Policy())
