"""Programs that send mail ask by the files of config/mailers, also while our daemon is stopped or hung; listmonk and Mautic are told."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.system.daemon import DOMAIN, Daemon
from tests.system.dropin import DROPINS, dropin
from tests.system.refuser import Refuser
from tests.system.room import MAILERS
from tests.system.waiting import PATIENCE

DEAD, LIVE = "gone@receiver.example", "live@receiver.example"


def blocked(daemon: Daemon, *scope: str) -> None:
    """Put DEAD on the list."""
    daemon.tell("block", DEAD, "--reason", "a test", *scope)


def run(*command: object, given: str = "", env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    words = [str(word) for word in command]
    return subprocess.run(words, input=given, capture_output=True, text=True, timeout=PATIENCE, env={**os.environ, **(env or {})})


def unreachable(daemon: Daemon) -> Iterator[str]:
    """Make the daemon hang, then end it."""
    daemon.signal(signal.SIGSTOP)
    yield "hung"
    daemon.kill()
    yield "down"


def php(daemon: Daemon, expression: str) -> str:
    """Evaluate an expression with the file included; an exception is told by its message."""
    said = f"try {{ echo json_encode({expression}); }} catch (Exception $e) {{ echo 'EXCEPTION ', $e->getMessage(); }}"
    done = run(
        "php", "-d", "error_reporting=-1", "-d", "display_errors=stderr", "-r", f"require {str(DROPINS / 'php/bounced.php')!r}; {said}"
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.replace(str(daemon.home), "")


def test_php(daemon: Daemon, need_program: Callable[[str], str]) -> None:
    """The file "php/bounced.php" tells yes and no, signs, and never says yes because something broke, unless it is told to."""
    need_program("php")
    blocked(daemon)
    socket = f"socket: '{daemon.door('line')}'"
    assert php(daemon, f"bounced_may_send('{LIVE}', {socket})") == "true"
    assert php(daemon, f"bounced_may_send('{DEAD}', {socket})") == "false"
    assert php(daemon, f"bounced_may_send('{LIVE}', 'nothing', {socket})").startswith(
        "EXCEPTION the suppression list cannot be asked: trouble "
    )
    assert php(daemon, f'bounced_may_send("{LIVE}\\nx", {socket})').startswith("EXCEPTION a control character")
    signed = json.loads(php(daemon, f"bounced_return_path('{LIVE}', 'news', {socket})"))
    assert f"a mail to {LIVE}, stream news" in daemon.tell("verify", signed)
    for _ in unreachable(daemon):
        assert php(daemon, f"bounced_may_send('{LIVE}', {socket})") == "EXCEPTION the suppression list cannot be asked: no answer"
        assert php(daemon, f"bounced_may_send('{DEAD}', when_unknown: true, {socket})") == "true"
        assert php(daemon, f"bounced_return_path('{LIVE}', {socket})") == "EXCEPTION no return path can be signed: no answer"


NODE = """\
const bounced = require({plugin})
const transport = require('nodemailer').createTransport({{ host: {host}, port: {port}, ignoreTLS: true }})
transport.use('stream', bounced({options}))
transport.sendMail({{ from: {sender}, to: {to}, subject: 'News', text: 'Good news.' }})
    .then(() => console.log('sent'), (error) => console.log(error.code))
"""


def test_nodemailer(daemon: Daemon, need_mailer: Callable[[str], Path], need_program: Callable[[str], str]) -> None:
    """The file "node/bounced.js" takes the suppressed from the envelope, signs for one recipient, and fails as it is told."""
    need_mailer("haraka")
    need_program("node")
    blocked(daemon)
    remote = Refuser()
    remote.start()
    host, port = remote.address

    def send(to: str, **options: object) -> str:
        options = {"socket": str(daemon.door("line")), "limit": 2000, **options}
        plugin, sender = str(DROPINS / "node/bounced.js"), f"news@{DOMAIN}"
        words = {"plugin": plugin, "host": host, "port": port, "options": options, "sender": sender, "to": to}
        script = NODE.format(**{name: json.dumps(value) for name, value in words.items()})
        done = run("node", "-e", script, env={"NODE_PATH": str(MAILERS / "haraka/node_modules")})
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    try:
        assert send(f"{DEAD}, {LIVE}", sign=True) == "sent"
        ((signed, recipient),) = remote.taken
        assert recipient == LIVE
        assert f"a mail to {LIVE}," in daemon.tell("verify", signed)
        assert send(f"{LIVE}, other@receiver.example", sign=True) == "sent"
        assert remote.taken[1:] == [(f"news@{DOMAIN}", LIVE), (f"news@{DOMAIN}", "other@receiver.example")]
        assert send(DEAD) == "ESUPPRESSED"
        assert send(LIVE, stream="nothing") == "EBOUNCED"
        for _ in unreachable(daemon):
            assert send(LIVE, limit=250) == "EBOUNCED"
            assert send(LIVE, sign=True, whenUnknown="send", limit=250) == "sent"
        assert remote.taken[3:] == [(f"news@{DOMAIN}", LIVE)] * 2
    finally:
        remote.stop()


def test_curl(daemon: Daemon, need_program: Callable[[str], str]) -> None:
    """The file "curl/may-send" ends with 0, 1, or 75 where nobody can tell; an address cannot write words of its own into the question."""
    need_program("curl")
    blocked(daemon, "--scope", "news")
    script = daemon.home / "may-send"
    script.write_text(dropin("curl/may-send", daemon.home))
    asked = [(LIVE,), (LIVE, "news"), (DEAD,), (DEAD, "news"), (f"{LIVE}&scope=news&address={DEAD}",), ("nobody",), (LIVE, "nothing")]
    assert [run("sh", script, *words).returncode for words in asked] == [0, 0, 0, 1, 75, 75, 75]
    for _ in unreachable(daemon):
        assert run("sh", script, LIVE).returncode == 75


def test_socat(daemon: Daemon, need_program: Callable[[str], str]) -> None:
    """The line of docs/PROTOCOLS.md for a shell: whatever does not say "clear" is not clear."""
    need_program("socat")
    blocked(daemon)
    shown = re.search(r"`(printf 'check dead@example[.]org.*? \| socat .*?)`", (DROPINS.parents[1] / "docs" / "PROTOCOLS.md").read_text())
    assert shown
    line = shown[1].replace("/run/bounced/", f"{daemon.home}/")
    assert run("sh", "-c", line.replace("dead@example.org", DEAD)).stdout.startswith("suppressed recipient is on the suppression list")
    assert run("sh", "-c", line.replace("dead@example.org", LIVE)).stdout == "clear"
    daemon.kill()
    assert run("sh", "-c", line).stdout == ""


@contextmanager
def listening(answers: Callable[[str, str], tuple[int, object]]) -> Iterator[tuple[str, list[tuple[str, str, object]]]]:
    """Serve HTTP on loopback: `answers` of method and path; give the address, and what was asked: method, path and JSON."""
    heard: list[tuple[str, str, object]] = []

    class Side(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            login = self.headers["Authorization"].removeprefix("Basic ")
            assert base64.b64decode(login) == b"api:secret"
            heard.append((self.command, self.path, json.loads(body) if body else None))
            status, answer = answers(self.command, self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_POST = do_GET  # noqa: N815 - http.server's name

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Side)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def push(daemon: Daemon, target: str, base: str, *stream: str) -> int:
    """Tell a program of blocks, as cron would; each stream has a place of its own."""
    command = [sys.executable, DROPINS / "push/push_blocks.py", target, base, daemon.home / f"told-{''.join(stream)}", *stream]
    return run(*command, env={"BOUNCED_PUSH_LOGIN": "api:secret", "BOUNCED_HTTP": str(daemon.door("http"))}).returncode


def test_listmonk_is_told_each_block_once(daemon: Daemon) -> None:
    """The file "push/push_blocks.py" posts what listmonk's page on bounces documents; what was not taken is told again, what was is not."""
    status = 500
    blocked(daemon)
    daemon.tell("block", "reader@receiver.example", "--scope", "news", "--reason", "he left")
    with listening(lambda method, path: (status, {"data": True})) as (base, heard):
        assert push(daemon, "listmonk", base) == 75
        status = 200
        assert push(daemon, "listmonk", base) == 0
        # What happens to one who is blocked already, or is not blocked by it, is no block.
        daemon.tell("block", DEAD, "--reason", "once more")
        daemon.tell("delivered", "living@receiver.example")
        daemon.tell("forget", "forgotten@receiver.example")
        assert push(daemon, "listmonk", base) == 0
        assert push(daemon, "listmonk", base, "news") == 0
    since = json.loads(daemon.tell("list", "--json").splitlines()[0])["since"]
    meta = json.dumps({"category": "manual", "since": since})
    bounce = {"email": DEAD, "source": "bounced", "type": "hard", "meta": meta}
    assert heard[:2] == [("POST", "/webhooks/bounce", bounce)] * 2
    assert [words["email"] for _, _, words in heard[2:] if isinstance(words, dict)] == [DEAD, "reader@receiver.example"]


def test_mautic_is_told_of_each_contact(daemon: Daemon) -> None:
    """Each contact with the address is put on "do not contact" of e-mail; who is no contact is passed over."""
    blocked(daemon)
    daemon.tell("block", "unknown@receiver.example", "--reason", "no contact")

    def answers(method: str, path: str) -> tuple[int, object]:
        if method == "POST":
            return 200, {"contact": {}}
        known = parse_qs(urlsplit(path).query)["search"] == [f"email:{DEAD}"]
        return 200, {"total": "1", "contacts": {"47": {"id": 47}}} if known else {"total": "0", "contacts": []}

    with listening(answers) as (base, heard):
        assert push(daemon, "mautic", base) == 0
    posted = [(path, words) for method, path, words in heard if method == "POST"]
    assert posted == [("/api/contacts/47/dnc/email/add", {"reason": 3, "comments": "bounced: manual, manual"})]


@pytest.mark.parametrize("base", ["http://127.0.0.1:1/"])
def test_what_nobody_takes_is_kept_for_the_next_time(base: str, daemon: Daemon) -> None:
    """Control: a program that is down is no success, and nothing is noted as told."""
    blocked(daemon)
    for _ in range(2):
        assert push(daemon, "listmonk", base) == 75
        assert json.loads((daemon.home / "told-").read_text())["owed"] == [DEAD]
    daemon.tell("release", DEAD)
    assert push(daemon, "listmonk", base) == 0


def test_a_long_feed_is_told_to_its_end(daemon: Daemon) -> None:
    """More events than the feed gives at once, among them a list taken over, are all told; while we are down, nothing is lost."""
    listed = daemon.home / "listed"
    listed.write_text("".join(f"person{number}@receiver.example\n" for number in range(700)))
    daemon.tell("import", str(listed))
    with listening(lambda method, path: (200, {"data": True})) as (base, heard):
        assert push(daemon, "listmonk", base) == 0
        assert len({words["email"] for _, _, words in heard if isinstance(words, dict)}) == len(heard) == 700
        blocked(daemon)
        daemon.kill()
        assert push(daemon, "listmonk", base) not in (0, 75)
        daemon.start()
        assert push(daemon, "listmonk", base) == 0
    assert [words["email"] for _, _, words in heard[700:] if isinstance(words, dict)] == [DEAD]
