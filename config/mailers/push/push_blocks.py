#!/usr/bin/env python3
"""Tell listmonk or Mautic whom bounced has blocked. Standard library only; made for cron.

usage: BOUNCED_PUSH_LOGIN=user:password push_blocks.py listmonk|mautic https://news.example.net PLACE [STREAM]

It follows the feed of events on bounced's HTTP socket ($BOUNCED_HTTP, else /run/bounced/http.sock), from where PLACE, a file, says that it
was the last time; at first from the beginning. What the other side did not take is kept there too, and told again the next time (exit code
75). Told are blocks that hold everywhere, and those of one stream of mail (default), each once unless a run is cut short. A block that
ends, or is released, is not taken back there.
"""

import base64
import http.client
import json
import os
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

# https://listmonk.app/docs/bounces/: its own count of soft bounces would begin where ours has ended, so a block is hard there.
_LISTMONK_TYPES = {"complaint": "complaint"}
# https://devdocs.mautic.org/en/5.x/rest_api/contacts.html: 1 unsubscribed, 2 bounced, 3 by hand.
_MAUTIC_REASONS = {"complaint": 1, "manual": 3}


def call(base: str, path: str, words: Mapping[str, Any] | None = None) -> Any:
    """GET, or POST words as JSON; return the answer. Raises OSError, ValueError."""
    login = base64.b64encode(os.environ["BOUNCED_PUSH_LOGIN"].encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
    body = None if words is None else json.dumps(words).encode()
    with urllib.request.urlopen(urllib.request.Request(base.rstrip("/") + path, body, headers), timeout=30) as answer:
        return json.load(answer)


def listmonk(base: str, block: Mapping[str, Any]) -> None:
    """Report a bounce; listmonk's settings say what that does to the subscriber."""
    kind = _LISTMONK_TYPES.get(block["cause"], "hard")
    meta = json.dumps({"category": block["category"], "since": block["since"]})
    call(base, "/webhooks/bounce", {"email": block["address"], "source": "bounced", "type": kind, "meta": meta})


def mautic(base: str, block: Mapping[str, Any]) -> None:
    """Put every contact with the address on "do not contact"; an address that Mautic does not know is done."""
    query = urllib.parse.urlencode({"search": f"email:{block['address']}", "minimal": 1})
    for contact in dict(call(base, f"/api/contacts?{query}")["contacts"] or {}):
        comment = f"bounced: {block['cause']}, {block['category']}"
        words = {"reason": _MAUTIC_REASONS.get(block["cause"], 2), "comments": comment}
        call(base, f"/api/contacts/{int(contact)}/dnc/email/add", words)


def ask(method: str, path: str, words: Mapping[str, Any] | None = None) -> Any:
    """Ask bounced. Raises OSError, ValueError; whatever is not 200 is no answer."""
    connection = http.client.HTTPConnection("bounced", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(30)
        connection.sock.connect(os.environ.get("BOUNCED_HTTP", "/run/bounced/http.sock"))
        connection.request(method, path, None if words is None else json.dumps(words), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"bounced answers {answer.status}: {answer.read(1000).decode('ascii', 'replace')}")
        return json.load(answer)
    finally:
        connection.close()


def blocks(addresses: Iterable[str], stream: str) -> Iterator[Mapping[str, Any]]:
    """Give those of some addresses that are blocked."""
    wanted = sorted(addresses)
    for begin in range(0, len(wanted), 200):
        many = {"addresses": wanted[begin : begin + 200], "scope": stream}
        yield from (one for one in ask("POST", "/v1/check-many", many)["answers"] if one["suppressed"])


def begins(events: Iterable[Mapping[str, Any]]) -> dict[str, set[int]]:
    """Return at which times something happened to each address that can have begun a block; a forgotten one has no name to tell."""
    found: dict[str, set[int]] = {}
    for event in events:
        if "@" in event["address"]:
            # What another list had, or a person confirmed, may have begun at another time: 0 stands for any.
            at = 0 if event["kind"] in {"imported", "confirmed"} else event["at"]
            found.setdefault(event["address"], set()).add(at)
    return found


def main() -> int:
    """Tell all, and go on after what fails."""
    _, target, base, file, *stream = sys.argv
    tell = {"listmonk": listmonk, "mautic": mautic}[target]
    place = Path(file)
    kept = json.loads(place.read_text()) if place.exists() else {"next": "0", "owed": []}
    owed = {address: {0} for address in kept["owed"]}
    # What else happens in the second in which a block began looks like its beginning.
    told: dict[str, int] = kept.get("told", {})
    while True:
        feed = ask("GET", f"/v1/events?after={kept['next']}")
        happened = {**begins(feed["events"]), **owed}
        failed = []
        for block in blocks(happened, stream[0] if stream else "default"):
            address, since = block["address"], block["since"]
            if not happened[address] & {0, since} or told.get(address) == since:
                continue  # it began at another time, and is told there
            try:
                tell(base, block)
                told[address] = since
            except (OSError, ValueError, KeyError) as error:
                failed.append(address)
                print(f"{address}: {error}", file=sys.stderr)
        # What could not be told is tried once a run, after the feed: a server that is down is not asked for each page.
        newest = feed["events"][-1]["at"] if feed["events"] else 0
        told = {address: since for address, since in told.items() if since >= newest}
        kept = {"next": feed["next"], "owed": [*(kept["owed"] if not owed else []), *failed], "told": told}
        owed = {}
        place.with_suffix(".new").write_text(json.dumps(kept))
        place.with_suffix(".new").replace(place)
        if not feed["events"]:
            return 75 if kept["owed"] else 0


if __name__ == "__main__":
    sys.exit(main())
