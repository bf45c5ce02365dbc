"""Days of a sender: what its providers send back, result by result, on quiet days and on the day when Gmail knew nobody.

For: the tests of the outage guard. Never: a real sender's numbers; the shares are those that senders of some care report, and each varies
by more than they do. `python -m tests.days DAYS` counts on how many quiet days a guard opens.

Quiet does not mean even. Campaigns go out in bursts on some days of the week or once a month, their sizes vary and grow, each finds more
or fewer dead addresses, full mailboxes and vacations than the one before; lists are imported of which a fifth is dead; a provider refuses
everything for an hour because of spam.
"""

import math
import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from bounced.guard import SLOT, Closed, Opened, Turn, Watch, observe

DAY = 86_400
SLOTS = DAY // SLOT
MONDAY = 1_600_041_600 - 1_600_041_600 % DAY - 3 * DAY
LEARNED = 14
"""Days in which the guard only learns; they are not counted."""

PROVIDERS = {"google": 45, "microsoft": 22, "yahoo": 10, "apple": 6, "gmx": 6, "orange": 5, "example.com": 4, "example.org": 2}


class Result(NamedTuple):
    """One bounce or notice."""

    at: int
    provider: str
    hard: bool
    established: bool


DEAD, UNKNOWN, REST = (True, True), (True, False), (False, False)
"""An established address said to be dead, another one said to be dead, everything else: (hard, established)."""


def poisson(chance: random.Random, mean: float) -> int:
    """Draw a number of events."""
    if mean > 50:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    number, left = 0, math.exp(-mean)
    product = chance.random()
    while product > left:
        number += 1
        product *= chance.random()
    return number


@dataclass
class Sender:
    """One sender: `size` is what comes back on a mean day. Every share of it varies by sender, by provider and by campaign."""

    chance: random.Random
    size: float
    dead: float = 0.0
    unknown: float = 0.0
    rest: float = 0.0
    trickle: float = 0.0
    campaigns: frozenset[int] = frozenset()
    monthly: bool = False
    hour: int = 0
    providers: dict[str, float] = field(default_factory=dict)

    @classmethod
    def drawn(cls, chance: random.Random, least: float = 50, most: float = 50_000) -> "Sender":
        """Draw a sender of any size, small ones as often as large ones."""
        sender = cls(chance, math.exp(chance.uniform(math.log(least), math.log(most))))
        hard, told = chance.uniform(0.15, 0.6), chance.betavariate(1, 1)
        sender.dead, sender.unknown, sender.rest = hard * told, hard * (1 - told), 1 - hard
        sender.trickle = chance.choice([0.02, 0.2, 0.5, 1.0])
        sender.monthly = chance.random() < 0.2
        sender.campaigns = frozenset(chance.sample(range(7), chance.choice([1, 1, 2, 3, 5])))
        sender.hour = chance.randrange(6, 20)
        weights = {provider: weight * chance.lognormvariate(0, 0.5) for provider, weight in PROVIDERS.items()}
        sender.providers = {provider: weight / sum(weights.values()) for provider, weight in weights.items()}
        return sender

    def day(self, number: int) -> Iterator[Result]:
        """Give all results of a quiet day in their order."""
        means: defaultdict[tuple[int, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        self._add(means, range(36, 132), self.trickle * self.size, 0.15)
        if number % 7 in self.campaigns and (not self.monthly or number % 28 < 7):
            rare = 7 / len(self.campaigns) * (4 if self.monthly else 1)
            total = (1 - self.trickle) * self.size * rare * self.chance.lognormvariate(0, 0.5)
            self._add(means, self._burst(), total, 0.4)
        if self.chance.random() < 1 / 30:
            self._import(means)
        if self.chance.random() < 1 / 40:
            provider, first = self.chance.choice(list(self.providers)), self.chance.randrange(120)
            for slot in range(first, first + self.chance.randrange(2, 24)):
                means[slot, provider][2] += self.size * self.providers[provider] / 10
        yield from self._drawn(number, means)

    def _burst(self) -> range:
        first = self.hour * 6 + self.chance.randrange(6)
        return range(first, min(SLOTS, first + self.chance.choice([1, 2, 3, 6, 12, 24])))

    def _add(self, means: defaultdict[tuple[int, str], list[float]], slots: range, total: float, varying: float) -> None:
        """Spread results over slots; a tenth of them comes later in the day, as queues give up."""
        for provider, share in self.providers.items():
            parts = [part * self.chance.lognormvariate(0, varying) for part in (self.dead, self.unknown, self.rest)]
            late = range(slots.start, min(SLOTS, slots.stop + 24))
            for among, weight in ((slots, 0.9), (late, 0.1)):
                for slot in among:
                    mean = means[slot, provider]
                    for kind, part in enumerate(parts):
                        mean[kind] += total * share * part * weight / len(among)

    def _import(self, means: defaultdict[tuple[int, str], list[float]]) -> None:
        """Mail an old list: a fifth of it is dead and unknown, and some of it is known and died."""
        mails, slots = self.size * self.chance.uniform(1, 20), self._burst()
        for provider, share in self.providers.items():
            for slot in slots:
                mean = means[slot, provider]
                for kind, part in enumerate((self.chance.uniform(0, 0.01), 0.2, 0.01)):
                    mean[kind] += mails * share * part / len(slots)

    def _drawn(self, number: int, means: defaultdict[tuple[int, str], list[float]]) -> Iterator[Result]:
        begin = MONDAY + number * DAY
        for slot, provider in sorted(means):
            kinds = [
                kind
                for kind, mean in zip((DEAD, UNKNOWN, REST), means[slot, provider], strict=True)
                for _ in range(poisson(self.chance, mean))
            ]
            self.chance.shuffle(kinds)
            for place, (hard, established) in enumerate(kinds):
                yield Result(begin + slot * SLOT + place * SLOT // len(kinds), provider, hard, established)


@dataclass
class Guards:
    """The guards of all providers of a sender."""

    watches: dict[str, Watch] = field(default_factory=dict)
    opened: list[tuple[str, Opened]] = field(default_factory=list)
    closed: list[tuple[str, Closed]] = field(default_factory=list)

    def observe(self, result: Result) -> Turn | None:
        """Show one result to the guard of its provider."""
        watch = self.watches.get(result.provider)
        self.watches[result.provider], turn = observe(watch, result.at, hard=result.hard, established=result.established)
        match turn:
            case Opened():
                self.opened.append((result.provider, turn))
            case Closed():
                self.closed.append((result.provider, turn))
            case _:
                pass
        return turn


def gmail_day(chance: random.Random, quiet_days: int) -> Iterator[tuple[Result, bool]]:
    """Give every result of a sender's quiet days and of the day after them, and whether it is false.

    The sender mails 10,000 people at Gmail an hour, all told as delivered. 0.5 % of them are dead, 0.5 % full, 0.7 % away. On the last day
    each of 20,000 mails in two hours comes back as 5.1.1, beside the true results.
    """
    hourly = 10_000
    for slot in range((quiet_days + 1) * SLOTS):
        at = MONDAY + slot * SLOT
        kinds = [(DEAD, False)] * poisson(chance, hourly * 0.005 / 6) + [(REST, False)] * poisson(chance, hourly * 0.012 / 6)
        if 10 * 6 <= slot - quiet_days * SLOTS < 12 * 6:
            kinds += [(DEAD, True)] * (20_000 // 12)
            kinds += [(DEAD, True)] * (20_000 % 12 if slot % SLOTS == 10 * 6 else 0)
        chance.shuffle(kinds)
        for place, ((hard, established), false) in enumerate(kinds):
            yield Result(at + place * SLOT // len(kinds), "google", hard, established), false


def openings(days: int, seed: int, most: float = 50_000) -> tuple[int, list[str]]:
    """Let senders of all sizes live 50 counted days each until `days` are counted; return the results seen and each opening, described."""
    seen, found = 0, []
    for number in range(-(-days // 50)):
        sender, guards = Sender.drawn(random.Random(seed * 100_003 + number), most=most), Guards()
        for day in range(LEARNED + 50):
            for result in sender.day(day):
                seen += 1
                if isinstance(guards.observe(result), Opened):
                    found.append(
                        f"seed {seed} sender {number} of {sender.size:.0f} day {day}: {result.provider} {guards.watches[result.provider]}"
                    )
    return seen, found


if __name__ == "__main__":
    seen, found = openings(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print(  # noqa: T201  a program
        f"{sys.argv[1]} quiet days, {seen} results, {len(found)} openings",
        *found,
        sep="\n",
    )
