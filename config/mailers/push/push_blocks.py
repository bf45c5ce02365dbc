#!/usr/bin/env python3
"""Tell listmonk or Mautic whom bounced has blocked, each block once. Standard library only; made for cron.

usage: bounced list --json | BOUNCED_PUSH_LOGIN=user:password push_blocks.py listmonk|mautic https://news.example.net TOLD [STREAM]

TOLD is a file of what was told already; what the other side did not take is told again the next time (exit code 75). Told are blocks that
hold everywhere, and those of one stream of mail (default). A block that ends, or is released, is not taken back there.
"""

import base64
import json
import os
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
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


def untold(lines: Iterator[str], told: set[str], stream: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give the blocks that were not told yet, each with its mark."""
    for line in lines:
        block = json.loads(line)
        mark = f"{block['since']} {block['address']}"
        if block["scope"] in {"*", stream} and mark not in told:
            yield mark, block


def main() -> int:
    """Tell all, and go on after what fails."""
    _, target, base, file, *stream = sys.argv
    tell = {"listmonk": listmonk, "mautic": mautic}[target]
    told = Path(file)
    failed = 0
    with told.open("a+") as notes:
        notes.seek(0)
        for mark, block in untold(sys.stdin, set(notes.read().split("\n")), stream[0] if stream else "default"):
            try:
                tell(base, block)
            except (OSError, ValueError, KeyError) as error:
                failed += 1
                print(f"{block['address']}: {error}", file=sys.stderr)
            else:
                print(mark, file=notes, flush=True)
    return 75 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
