"""An hour of ordinary hard work: bounces and questions at a steady rate, and a kill -9 every few minutes.

    python -m tests.system.soak [--minutes 60] [--bounces 200] [--lookups 500] [--life 5]

For: what only time shows: something lost after many lives, memory or descriptors that grow. Never: a part of the suite; it prints one JSON
object and ends with exit code 1 if anything acknowledged is missing, or a reply was neither 250 nor 4xx.

Nine bounces of ten are hard ones of an address of its own, ten addresses at a domain, some of them brought twice; the tenth is a delay or a
vacation notice. Each acknowledged hard bounce is asked for in the life after it, and all of them at the end.
"""

import argparse
import itertools
import json
import os
import random
import smtplib
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from bounced.address import AddressKey
from bounced.scope import DEFAULT_SCOPE
from tests.system.ask import Mailer, TemporaryTroubleError
from tests.system.daemon import DOMAIN, Daemon
from tests.system.mail import DELAYED, NO_SUCH_USER, Session, report, vacation

CLIENTS = 8
WARM = 60.0
"""Seconds of a life that do not count for the slope of memory."""


def recipient_of(number: int) -> str:
    """Return the recipient of a bounce."""
    return f"user{number}@receiver{number // 10}.example"


class Pace:
    """Turns at a rate: whoever takes one waits until it is due; turns that nobody took in time are not made up for."""

    def __init__(self, rate: float) -> None:
        """Give `rate` turns a second."""
        self._between = 1 / rate
        self._next = time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> None:
        """Wait for the next turn."""
        with self._lock:
            self._next = max(self._next + self._between, time.monotonic() - 1)
            wait = self._next - time.monotonic()
        if wait > 0:
            time.sleep(wait)


class Soak:
    """The load, from the start to the end of all lives."""

    def __init__(self, daemon: Daemon, bounces: float, lookups: float) -> None:
        """Prepare; the daemon has its keys already."""
        self._daemon = daemon
        self._signer = daemon.signer()
        self._numbers = itertools.count()
        self._bounces, self._lookups = Pace(bounces), Pace(lookups)
        self._lock = threading.Lock()
        self.ending = threading.Event()
        self.acknowledged: list[int] = []
        self.replies: Counter[int] = Counter()
        self.answers: Counter[str] = Counter()
        self.missing: list[int] = []
        self._asked = 0
        """How many of `acknowledged` were asked for, oldest first."""
        self.lives = 0

    def bring(self) -> None:
        """Be one client that brings bounces, and comes again when the daemon does."""
        while not self.ending.is_set():
            try:
                with Session(self._daemon.smtp) as session:
                    while not self.ending.is_set():
                        self._bounces.take()
                        self._bring_one(session)
            except (smtplib.SMTPException, OSError):
                time.sleep(0.2)

    def _bring_one(self, session: Session) -> None:
        with self._lock:
            number = next(self._numbers)
        recipient = recipient_of(number)
        signed = self._signer.sign(AddressKey(recipient), DEFAULT_SCOPE, int(time.time()))
        return_path = f"{signed.local_part}@{DOMAIN}"
        if number % 10:
            code, _ = session.bring(return_path, report(recipient, NO_SUCH_USER))
            with self._lock:
                if code == 250:
                    self.acknowledged.append(number)
            if number % 20 == 1:
                code, _ = session.bring(return_path, report(recipient, NO_SUCH_USER))
        else:
            code, _ = session.bring(return_path, random.choice((report(recipient, DELAYED), vacation(recipient))))
        with self._lock:
            self.replies[code] += 1

    def ask(self) -> None:
        """Be a mailer that asks: every second time for what was acknowledged in an earlier life, else for anybody."""
        while not self.ending.is_set():
            try:
                with Mailer(self._daemon.door("socketmap")) as mailer:
                    while not self.ending.is_set():
                        self._lookups.take()
                        self._ask_one(mailer)
            except TemporaryTroubleError:
                self.answers["temporary failure"] += 1
            except OSError:
                time.sleep(0.05)

    def _ask_one(self, mailer: Mailer) -> None:
        number = self.acknowledged[self._asked] if self._asked < self._due else None
        suppressed = mailer.suppressed(f"nobody{random.randrange(10**9)}@receiver1.example" if number is None else recipient_of(number))
        self.answers["suppressed" if suppressed else "clear"] += 1
        if number is not None:
            self._asked += 1
            if not suppressed:
                self.missing.append(number)

    def new_life(self) -> None:
        """From now on ask for what was acknowledged until now."""
        self._due = len(self.acknowledged)
        self.lives += 1

    _due = 0


def sampled(daemon: Daemon, began: float) -> dict[str, float]:
    """Return memory (MiB) and descriptors of the daemon, and its age."""
    proc = Path(f"/proc/{daemon.pid}")
    rss = int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return {"age": time.monotonic() - began, "rss": rss, "descriptors": len(list((proc / "fd").iterdir()))}


def slope(points: list[tuple[float, float]]) -> float:
    """Return the least-squares slope of y over x."""
    if len(points) < 2:
        return 0.0
    x_mean, y_mean = (sum(point[axis] for point in points) / len(points) for axis in (0, 1))
    spread = sum((x - x_mean) ** 2 for x, _ in points)
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / spread if spread else 0.0


def lives(daemon: Daemon, soak: Soak, minutes: float, life: float) -> Iterator[list[dict[str, float]]]:
    """Let the daemon live and die until the time is over; give the samples of each life."""
    end = time.monotonic() + minutes * 60
    while time.monotonic() < end:
        began = time.monotonic()
        samples = []
        while time.monotonic() < min(began + life * 60, end):
            time.sleep(min(5.0, max(0.0, min(began + life * 60, end) - time.monotonic())))
            samples.append(sampled(daemon, began))
        yield samples
        if time.monotonic() < end:
            daemon.kill()
            soak.new_life()
            daemon.start()


def say(figures: Mapping[str, object]) -> None:
    """Print one line of JSON."""
    sys.stdout.write(f"{json.dumps(figures)}\n")
    sys.stdout.flush()


def main() -> int:
    """Run it, and say what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("minutes", 60.0), ("bounces", 200.0), ("lookups", 500.0), ("life", 5.0)):
        parser.add_argument(f"--{name}", type=float, default=default)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bounced-soak-") as home:
        daemon = Daemon(Path(home))
        daemon.start()
        soak = Soak(daemon, chosen.bounces, chosen.lookups)
        threads = [threading.Thread(target=work) for work in (*[soak.bring] * CLIENTS, soak.ask)]
        began = time.monotonic()
        try:
            for thread in threads:
                thread.start()
            all_samples = []
            for samples in lives(daemon, soak, chosen.minutes, chosen.life):
                all_samples.append(samples)
                say({"life": len(all_samples), **samples[-1], "acknowledged": len(soak.acknowledged)})
            took = time.monotonic() - began
        finally:
            soak.ending.set()
            for thread in threads:
                thread.join(60)
        ended = daemon.stop()
        daemon.start()
        with Mailer(daemon.door("socketmap")) as mailer:
            missing = mailer.missing(map(recipient_of, soak.acknowledged))
        daemon.kill()
        database = daemon.database.stat().st_size
    warm = [(one["age"], one["rss"]) for samples in all_samples for one in samples if one["age"] > WARM]
    last = [(number * chosen.life / 60, samples[-1]["rss"]) for number, samples in enumerate(all_samples)]
    say(
        {
            "minutes": round(took / 60, 1),
            "kills": soak.lives,
            "acknowledged": len(soak.acknowledged),
            "bounces/s": round(soak.replies[250] / took, 1),
            "lookups/s": round(sum(soak.answers.values()) / took, 1),
            "missing after a kill": len(soak.missing),
            "missing at the end": len(missing),
            "replies": dict(soak.replies),
            "answers": dict(soak.answers),
            "rss MiB": [round(min(rss for _, rss in warm or last), 1), round(max(rss for _, rss in warm or last), 1)],
            "rss slope within a life, MiB/h": round(slope(warm) * 3600, 2),
            "rss slope from life to life, MiB/h": round(slope(last), 2),
            "descriptors": sorted({int(one["descriptors"]) for samples in all_samples for one in samples}),
            "database MiB": round(database / 2**20, 1),
            "exit code": ended,
        }
    )
    wrong = [code for code in soak.replies if code != 250 and code // 100 != 4]
    return 1 if missing or soak.missing or wrong or ended else 0


if __name__ == "__main__":
    sys.exit(main())
