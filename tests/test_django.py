"""The e-mail backend for Django, in a real Django: who is on the list gets nothing, and each other one a return path of his own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings
from django.core import mail
from django.core.mail import EmailMessage, get_connection
from django.test.utils import override_settings

from bounced.client import TemporaryFailure
from tests.asking import DEAD, LIVE
from tests.system.refuser import Refuser

if not settings.configured:
    settings.configure(DEFAULT_CHARSET="utf-8", USE_TZ=True, EMAIL_BACKEND="bounced.django.EmailBackend")
    django.setup()

ANN = "Ann <ann@remote.test>"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A door in a process of its own."""
    path = tmp_path_factory.mktemp("daemon") / "s"
    with subprocess.Popen([sys.executable, "-m", "tests.serving", str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while process.stdout.readline() not in (b"ready\n", b""):
            pass
        yield path
        process.kill()


@pytest.fixture
def outbox(daemon: Path) -> Iterator[list[Any]]:
    """What Django's backend in memory would have sent."""
    mail.outbox = []
    with override_settings(BOUNCED=chosen(daemon)):
        yield mail.outbox


def chosen(path: Path, **more: object) -> dict[str, object]:
    """Return settings with the backend in memory."""
    return {"BACKEND": "django.core.mail.backends.locmem.EmailBackend", "SOCKET": str(path), "DEADLINE": 5, **more}


def message(**fields: Any) -> EmailMessage:
    """A message from the shop."""
    return EmailMessage("News", "Good news.\n", "Shop <shop@sender.example>", **fields)


def test_the_dead_get_nothing_and_the_living_a_copy_each(outbox: list[Any]) -> None:
    """Suppressed recipients are left out of to, cc and bcc; each other one gets the same header by a return path signed for him."""
    written = message(to=[LIVE, f"Dead <{DEAD}>"], cc=[ANN, DEAD], bcc=["bob@remote.test"])
    assert get_connection().send_messages([written]) == 1
    assert [one.recipients() for one in outbox] == [[LIVE], [ANN], ["bob@remote.test"]]
    assert [one.from_email.partition("+")[0] for one in outbox] == ["b"] * 3
    assert [one.from_email.rpartition("+")[2] for one in outbox] == [
        f"{name}=remote.test@bounces.example.net" for name in ("live", "ann", "bob")
    ]
    headers = [{name: one.message()[name] for name in ("From", "To", "Cc", "Bcc", "Message-ID")} for one in outbox]
    assert headers[0] == headers[1] == headers[2]
    assert (headers[0]["From"], headers[0]["To"], headers[0]["Cc"]) == ("Shop <shop@sender.example>", LIVE, ANN)
    assert headers[0]["Bcc"] is None
    assert list(written.bounced_suppressed) == [DEAD]
    assert written.bounced_suppressed[DEAD].startswith("550 5.7.1 ")
    assert written.to == [LIVE, f"Dead <{DEAD}>"]


def test_by_a_real_smtp_server(daemon: Path) -> None:
    """The server that takes the mail sees the signed return paths in the envelope, and nobody who is on the list."""
    server = Refuser()
    server.start()
    try:
        host, port = server.address
        smtp = {"BACKEND": "django.core.mail.backends.smtp.EmailBackend"}
        with override_settings(BOUNCED=chosen(daemon, **smtp), EMAIL_HOST=host, EMAIL_PORT=port, EMAIL_USE_TLS=False):
            assert get_connection().send_messages([message(to=[LIVE, DEAD], bcc=[ANN])]) == 1
    finally:
        server.stop()
    (live, ann) = server.taken
    assert (live[1], ann[1]) == (LIVE, "ann@remote.test")
    for sender, recipient in server.taken:
        assert sender.startswith("b+")
        assert sender.endswith(f"+{recipient.replace('@', '=')}@bounces.example.net")
    assert all("From: Shop <shop@sender.example>" in one and "ann@" not in one for one in server.contents)


def test_a_message_to_nobody_is_not_sent(outbox: list[Any]) -> None:
    """Where all are on the list, nothing goes out, and the message does not count."""
    assert get_connection().send_messages([message(to=[DEAD]), message(to=[LIVE])]) == 1
    assert [one.recipients() for one in outbox] == [[LIVE]]


def test_without_the_backend_the_dead_are_mailed(outbox: list[Any]) -> None:
    """Control: Django's own backend would have mailed them."""
    get_connection("django.core.mail.backends.locmem.EmailBackend").send_messages([message(to=[DEAD])])
    assert [one.recipients() for one in outbox] == [[DEAD]]


def test_an_unsigned_message_stays_one(outbox: list[Any], daemon: Path) -> None:
    """With SIGN off the message goes out once, as it was written, without those on the list."""
    with override_settings(BOUNCED=chosen(daemon, SIGN=False, SCOPE="news")):
        assert message(to=[LIVE, DEAD], bcc=["bob@remote.test"]).send() == 1
    (one,) = outbox
    assert (one.to, one.bcc, one.from_email) == ([LIVE], ["bob@remote.test"], "Shop <shop@sender.example>")


def test_a_message_names_its_stream(outbox: list[Any]) -> None:
    """A message's own stream goes before that of the settings; one that is not declared is a failure, and nothing is sent."""
    for stream, failure in (("news", None), ("undeclared", TemporaryFailure)):
        written = message(to=[LIVE])
        written.bounced_scope = stream
        if failure is None:
            assert written.send() == 1
        else:
            with pytest.raises(failure):
                written.send()
    assert len(outbox) == 1


def test_without_a_daemon_nothing_is_sent_unless_one_says_so(outbox: list[Any], tmp_path: Path) -> None:
    """Fail closed by default: an exception, or in silence no mail; open where the settings say "send", and then unsigned mail at most."""
    with override_settings(BOUNCED=chosen(tmp_path / "none", DEADLINE=0.2)):
        with pytest.raises(TemporaryFailure):
            message(to=[LIVE]).send()
        assert message(to=[LIVE]).send(fail_silently=True) == 0
    with override_settings(BOUNCED=chosen(tmp_path / "none", WHEN_UNKNOWN="send", SIGN=False)):
        assert message(to=[LIVE]).send() == 1
    assert len(outbox) == 1
