"""The fire drill: a bounce of each category through the real listener, and the answers of the real sockets.

For: `bounced doctor --fire-drill`. It signs, bounces, asks, releases and forgets mailboxes at doctor.invalid, which nobody has, and of
which nothing counts (address.is_drill): no incident, no guard, no metric. Never: another address. What should come of each bounce is worked
out here from the configuration as it is on disk; what did come of it is what the daemon says.
"""

import smtplib
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bounced.address import DRILL_DOMAIN, AddressKey
from bounced.client import Client, TemporaryFailure
from bounced.doctor import Finding, failure, ok, skipped
from bounced.doctor.samples import Sample, samples
from bounced.fault import Fault
from bounced.outcome import Category
from bounced.outcome.ruleset import RuleSet
from bounced.policy import Effect, Policy
from bounced.scope import DEFAULT_SCOPE

_SECONDS = 10.0
_MOST_STRIKES = 10
Ask = Callable[[str, str, Mapping[str, str]], dict[str, Any]]
"""Asks the daemon over HTTP: method, path, words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the daemon is reached: bounces at `listener` (host and port, or the path of an LMTP socket), questions at the sockets."""

    listener: tuple[str, int] | Path
    sockets: Mapping[str, Path]


def drilled(ask: Ask, places: Places, rules: RuleSet, policy: Policy) -> Iterator[Finding]:
    """Hold the drill. What is found goes out as it is found; the mailboxes are forgotten at the end, whatever happens."""
    wanted = samples(rules)
    mailboxes = [_mailbox(name) for name in (*wanted, _IN_A_ROW, _BLOCKED, _NEVER_MAILED)]
    try:
        _forget(ask, mailboxes)
        with _session(places.listener) as session:
            yield _forged(ask, session)
            for name, sample in wanted.items():
                yield _one(ask, session, name, sample, policy)
            yield from _in_a_row(ask, session, wanted, policy)
        yield from _asked(ask, places.sockets)
        yield _released(ask)
    except (OSError, smtplib.SMTPException, Fault) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        yield failure("drill", f"it was cut short: {why}", "See `systemctl status bounced` and `journalctl -u bounced`.")
    finally:
        yield from _cleaned(ask, mailboxes)


def _one(ask: Ask, session: smtplib.SMTP, name: str, sample: Sample, policy: Policy) -> Finding:
    """Bounce one mail, and compare what the daemon made of it with what the configuration says."""
    check, address = f"drill {name}", _mailbox(name)
    return_path = ask("POST", "/v1/sign", {"address": address})["return_path"]
    code, text = _bring(session, return_path, sample.content(address, return_path))
    if code != 250:
        return failure(check, f"the bounce was answered {code} {text}", _LOG)
    story = ask("GET", "/v1/why", {"address": address})
    events = [event["kind"] for event in story["events"]]
    if not events:
        return failure(check, "the bounce was taken and is not in the history", "Please report it: 250 means that it is on disk.")
    category = (story["events"][-1].get("outcome") or {}).get("category")
    suppressed = bool(ask("GET", "/v1/check", {"address": address})["suppressed"])
    blocks = _blocks(name, sample, policy)
    if sample.outcome is not None and category != sample.outcome.category.value:
        return failure(check, f"it was judged {category or events[-1]}", _RELOAD)
    if suppressed is not blocks:
        return failure(check, f"the address is {_word(suppressed)}, and by the configuration it is {_word(blocks)}", _RESTART)
    return ok(check, f"{events[-1]}, {_word(suppressed)}")


def _blocks(name: str, sample: Sample, policy: Policy) -> bool:
    if name == Category.COMPLAINT.value:
        return policy.complaint(DEFAULT_SCOPE).action is Effect.BLOCK
    if sample.outcome is None:
        return False
    treatment = policy.treatment(sample.outcome)
    return treatment.action is Effect.BLOCK or (treatment.action is Effect.STRIKE and treatment.threshold <= 1)


def _in_a_row(ask: Ask, session: smtplib.SMTP, wanted: Mapping[str, Sample], policy: Policy) -> Iterator[Finding]:
    """Bounce softly until it blocks; a mail a second, since a token is known by the second in which it was signed."""
    check, sample = "drill in a row", wanted.get(Category.MAILBOX_FULL.value)
    treatment = policy.treatment(sample.outcome) if sample is not None and sample.outcome is not None else None
    if sample is None or treatment is None or treatment.action is not Effect.STRIKE or treatment.threshold > _MOST_STRIKES:
        yield skipped(check, f"mailbox-full does not strike, or takes more than {_MOST_STRIKES} in a row")
        return
    address = _mailbox(_IN_A_ROW)
    for number in range(1, treatment.threshold + 1):
        return_path = ask("POST", "/v1/sign", {"address": address})["return_path"]
        code, text = _bring(session, return_path, sample.content(address, return_path))
        if code != 250:
            yield failure(check, f"bounce {number} was answered {code} {text}", _LOG)
            return
        suppressed = bool(ask("GET", "/v1/check", {"address": address})["suppressed"])
        if suppressed is not (number == treatment.threshold):
            yield failure(check, f"after {number} soft bounces the address is {_word(suppressed)}", _RESTART)
            return
        time.sleep(1.0 if number < treatment.threshold else 0)
    yield ok(check, f"soft bounce {treatment.threshold} of a row blocked")


def _forged(ask: Ask, session: smtplib.SMTP) -> Finding:
    """Offer a return path with one letter changed: it must be refused at RCPT. The refusal is counted, as any."""
    genuine = ask("POST", "/v1/sign", {"address": _mailbox("forged")})["return_path"]
    changed = "b" if genuine[10] == "a" else "a"
    session.rset()
    session.mail("")
    code, text = session.rcpt(genuine[:10] + changed + genuine[11:])
    session.rset()
    if code < 500:
        return failure("drill forged", f"a forged return path was answered {code} {text.decode('ascii', 'replace')}", "Please report it.")
    return ok("drill forged", f"refused with {code}")


def _asked(ask: Ask, sockets: Mapping[str, Path]) -> Iterator[Finding]:
    """Ask on every socket for a mailbox that is blocked and for one that is clear."""
    blocked, clear = _mailbox(_BLOCKED), _mailbox(_NEVER_MAILED)
    ask("POST", "/v1/block", {"address": blocked, "reason": "fire drill"})
    for protocol, place in sockets.items():
        check = f"drill {protocol}"
        try:
            answers = [_ASKED[protocol](place, address) for address in (blocked, clear)]
        except (OSError, TemporaryFailure) as error:
            why = getattr(error, "strerror", None) or str(error)
            yield failure(check, f"{place}: {why}", "`systemctl status bounced*` tells; mailers get no answers there.")
            continue
        if answers == ["suppressed", "clear"]:
            yield ok(check, "suppressed and clear are told apart")
        else:
            yield failure(check, f"a blocked and a clear address are answered {' and '.join(answers)}", _LOG)


def _released(ask: Ask) -> Finding:
    ask("POST", "/v1/release", {"address": _mailbox(_BLOCKED), "reason": "fire drill"})
    if ask("GET", "/v1/check", {"address": _mailbox(_BLOCKED)})["suppressed"]:
        return failure("drill release", "a released address is still suppressed", "Please report it.")
    return ok("drill release", "a released address is clear")


def _cleaned(ask: Ask, mailboxes: Sequence[str]) -> Iterator[Finding]:
    try:
        _forget(ask, mailboxes)
        left = [address for address in mailboxes if ask("GET", "/v1/why", {"address": address})["events"]]
    except Fault as error:
        yield failure("drill forgets", str(error), f"Hold it again: it begins by forgetting what is left at {DRILL_DOMAIN}.")
        return
    yield (
        failure("drill forgets", f"{', '.join(left)} has events left", "Please report it.")
        if left
        else ok("drill forgets", "nothing is left")
    )


def _forget(ask: Ask, mailboxes: Sequence[str]) -> None:
    for address in mailboxes:
        ask("POST", "/v1/forget", {"address": address, "reason": "fire drill"})


def _session(listener: tuple[str, int] | Path) -> smtplib.SMTP:
    session = smtplib.LMTP(str(listener), timeout=_SECONDS) if isinstance(listener, Path) else smtplib.SMTP(*listener, timeout=_SECONDS)
    session.ehlo()
    return session


def _bring(session: smtplib.SMTP, return_path: str, content: bytes) -> tuple[int, str]:
    session.mail("")
    code, text = session.rcpt(return_path)
    if code == 250:
        code, text = session.data(content)
    else:
        session.rset()
    return code, text.decode("ascii", "replace")


def _mailbox(name: str) -> AddressKey:
    return AddressKey(f"drill-{name}@{DRILL_DOMAIN}")


def _word(suppressed: object) -> str:
    return "suppressed" if suppressed else "clear"


def _by_socketmap(place: Path, address: str) -> str:
    client = Client(str(place), deadline=_SECONDS)
    try:
        return _word(client.refusal(address))
    finally:
        client.close()


def _by_policy(place: Path, address: str) -> str:
    request = f"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient={address}\n\n"
    said = _said(place, request.encode(), b"\n\n")
    return {b"action=550": "suppressed", b"action=DUN": "clear"}.get(said[:10], ascii(said[:40]))


def _by_line(place: Path, address: str) -> str:
    said = _said(place, f"check {address}\n".encode(), b"")
    return {b"suppressed": "suppressed", b"clear": "clear"}.get(said.partition(b" ")[0], ascii(said[:40]))


def _said(place: Path, request: bytes, end: bytes) -> bytes:
    """Return what is answered up to `end`, or up to the end of the connection."""
    answer = b""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(_SECONDS)
        peer.connect(str(place))
        peer.sendall(request)
        while not (end and answer.endswith(end)) and (octets := peer.recv(4096)):
            answer += octets
    return answer


_IN_A_ROW, _BLOCKED, _NEVER_MAILED = "in-a-row", "blocked", "never-mailed"
_ASKED: Mapping[str, Callable[[Path, str], str]] = {"socketmap": _by_socketmap, "policy": _by_policy, "line": _by_line}
_LOG = "See `journalctl -u bounced`: a bounce must be taken, and a question answered."
_RELOAD = "The daemon judges by other rules than the configuration has now: `systemctl reload bounced`."
_RESTART = "The daemon runs by another policy than the configuration has now: `systemctl restart bounced`."
