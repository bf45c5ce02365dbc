"""The pages of `bounced web`, over a running daemon, asked as a browser asks."""

import http.client
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import urlencode, urlsplit

import pytest

from tests.system.daemon import Daemon, alive
from tests.system.mail import NO_SUCH_USER, Failure, Session, bring, report

EVIL = '<script>alert(1)</script> "><b onclick=x>\u202egpj.exe'


class Browser:
    """Asks for pages with the cookie that it was given; sends forms as those pages would, or as a page `of` another site."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host = parts.netloc
        self.cookie = ""
        status, headers, _ = self.ask("GET", f"/?{parts.query}")
        assert (status, headers["Location"]) == (303, "/")
        self.cookie = headers["Set-Cookie"].partition(";")[0]

    def ask(self, method: str, path: str, body: str | None = None, origin: str = "") -> tuple[int, http.client.HTTPMessage, str]:
        """Ask, and return the status, the header and the text of the answer."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        headers = {"Cookie": self.cookie} | ({"Origin": origin} if origin else {})
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode()
        finally:
            connection.close()

    def page(self, path: str, **words: str) -> str:
        """Return a page that must be there."""
        status, _, text = self.ask("GET", f"{path}?{urlencode(words)}" if words else path)
        assert status == 200
        return text

    def send(self, path: str, **fields: str) -> str:
        """Send a form of ours, and return the page that follows."""
        status, headers, _ = self.ask("POST", path, urlencode(fields), f"http://{self.host}")
        assert status == 303
        return self.page(headers["Location"])


class Tags(HTMLParser):
    """Collects the names of all elements and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the names."""
        self.names |= {tag, *(name for name, _ in attrs)}


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One running daemon; each test uses addresses of its own."""
    with alive() as one:
        yield one


@pytest.fixture(scope="module")
def url(daemon: Daemon) -> Iterator[str]:
    """The address that the command prints."""
    with subprocess.Popen(daemon.command("web", "--port", "0"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@pytest.fixture
def browser(url: str) -> Browser:
    """A browser in which the address was opened."""
    return Browser(url)


def brought(daemon: Daemon, recipient: str, failure: Failure) -> None:
    """Bring the daemon a report of one mail to a recipient."""
    assert bring(daemon.smtp, daemon.tell("sign", recipient), [report(recipient, failure)])[0][0] == 250


def test_a_block_is_found_explained_and_lifted_by_clicks(daemon: Daemon, browser: Browser) -> None:
    """The list leads to the address, whose page tells why and has a form that releases it; the release keeps its reason."""
    brought(daemon, "ada@receiver.example", NO_SUCH_USER)
    assert 'href="/address?address=ada%40receiver.example"' in browser.page("/blocks", cause="hard")
    story = browser.page("/address", address=" Ada@Receiver.example ")
    assert "User unknown in virtual mailbox table" in story
    assert 'action="/release"' in story

    released = browser.send("/release", address="ada@receiver.example", reason="she is back")

    assert "reason: she is back" in released
    assert 'action="/block"' in released
    assert daemon.run("check", "ada@receiver.example").returncode == 0


def test_an_address_is_blocked_by_hand(daemon: Daemon, browser: Browser) -> None:
    """The page of a clear address has a form that blocks it, everywhere."""
    assert "Nothing has happened to it" in browser.page("/address", address="bob@receiver.example")

    browser.send("/block", address="bob@receiver.example", reason="")

    assert daemon.run("check", "bob@receiver.example").returncode == 1


def test_an_outage_is_reverted_by_a_click(daemon: Daemon, browser: Browser) -> None:
    """The page of an incident names whom it concerns, and has the forms that rule on it; the list leads there."""
    brought(daemon, "carl@outage.example", NO_SUCH_USER)
    daemon.tell("incidents", "hold", "outage.example", "--reason", "their bad day")
    found = re.search(r'href="/incident\?id=(outage-[^"]+)"', browser.page("/incidents"))
    assert found
    page = browser.page("/incident", id=found[1])
    assert 'formaction="/confirm"' in page
    assert "carl@outage.example" in page

    reverted = browser.send("/revert", id=found[1], reason="it was an outage")

    assert "reverted by" in reverted
    assert "/confirm" not in reverted
    assert daemon.run("check", "carl@outage.example").returncode == 0


def test_every_page_can_be_seen(daemon: Daemon, browser: Browser) -> None:
    """Each page that the others lead to is there, and so is the style sheet."""
    with Session(daemon.smtp) as forger:
        forger.rcpt("b+forged+joe=example.org@bounces.example.net")
    brought(daemon, "dora@receiver.example", Failure("5.0.0", "550 the words of nobody else"))

    for path in re.findall(r'href="(/[^"]*)"', browser.page("/")):
        browser.page(path)
    assert "the words of nobody else" in browser.page("/unmatched")


def test_the_words_of_strangers_stay_text(daemon: Daemon, browser: Browser) -> None:
    """No word of a report becomes an element or an attribute of a page, or turns the direction of what follows it."""
    brought(daemon, "eve@receiver.example", Failure("5.7.1", f"550 5.7.1 blocked by spamhaus.org {EVIL}"))
    brought(daemon, "eve@evil.example", NO_SUCH_USER)
    incident = daemon.tell("incidents", "hold", "evil.example", "--reason", EVIL).split()[0]

    for page in (
        browser.page("/address", address="eve@receiver.example"),
        browser.page("/incident", id=incident),
        browser.page("/incidents"),
    ):
        assert Tags(page).names.isdisjoint({"script", "b", "onclick"})
        assert "\u202e" not in page
    assert "&lt;script&gt;" in browser.page("/address", address="eve@receiver.example")


def test_nobody_sees_a_page_without_the_key(daemon: Daemon, url: str) -> None:
    """Without the cookie, or with a wrong key, every page is forbidden, and nothing is changed."""
    stranger = Browser(url)
    for cookie in ("", "bounced=", "bounced=guess", "bounced=\u00e9"):
        stranger.cookie = cookie
        for method, path in (("GET", "/"), ("GET", "/?key=guess"), ("GET", "/blocks"), ("GET", "/style.css"), ("POST", "/block")):
            assert stranger.ask(method, path, urlencode({"address": "fay@receiver.example"}), f"http://{stranger.host}")[0] == 403
    assert daemon.run("check", "fay@receiver.example").returncode == 0


def test_no_other_site_can_send_a_form(daemon: Daemon, browser: Browser) -> None:
    """A form that comes from a page elsewhere, or does not say from where, changes nothing, though the browser adds the cookie."""
    form = urlencode({"address": "gil@receiver.example"})

    for origin in ("", "null", "http://evil.example", f"http://{browser.host}.evil.example", "http://127.0.0.1"):
        assert browser.ask("POST", "/block", form, origin)[0] == 403
    assert daemon.run("check", "gil@receiver.example").returncode == 0
    assert browser.ask("POST", "/block", form, f"http://{browser.host}")[0] == 303


def test_a_browser_may_run_and_keep_nothing(browser: Browser) -> None:
    """Every answer forbids scripts, frames and copies, and tells other sites nothing."""
    for path in ("/", "/address?address=no", "/nowhere", "/style.css"):
        headers = browser.ask("GET", path)[1]
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'")
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "same-origin"


def test_mistakes_are_told_with_what_to_do(browser: Browser) -> None:
    """What is no address, no incident, no page or no form is told in words, with a status of its own."""
    for method, path, status, words in (
        ("GET", "/address?address=nobody", 400, "the address has no local part"),
        ("GET", "/address", 400, "address"),
        ("GET", "/incident?id=x", 400, "lists them all"),
        ("GET", "/nowhere", 404, "There is no such page"),
        ("POST", "/release", 400, "address"),
        ("GET", "/release", 405, ""),
    ):
        answer = browser.ask(method, path, "", f"http://{browser.host}")
        assert answer[0] == status, path
        assert words in answer[2], path


def test_without_a_daemon_a_page_says_so() -> None:
    """While no daemon answers, a page tells it and what to do; when it is back, the same browser goes on."""
    with alive() as one, subprocess.Popen(one.command("web", "--port", "0"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        browser = Browser(process.stdout.readline().split()[1])
        one.stop()

        status, _, text = browser.ask("GET", "/")
        assert status == 503
        assert "no daemon answers on" in text
        assert "systemctl status bounced" in text

        one.start()
        browser.page("/")
        process.terminate()


def test_a_port_in_use_is_told(daemon: Daemon) -> None:
    """A port that another program has is exit code 78 with a hint."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        refused = daemon.run("web", "--port", str(other.getsockname()[1]))

    assert refused.returncode == 78
    assert "cannot listen at 127.0.0.1" in refused.stderr
