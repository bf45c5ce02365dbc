"""What Postfix's log says of mail that arrived.

For: finding, line by line, which mail was handed to its recipient's server, and by which return path it went. Never: I/O, a word about
who wrote the line, or whether the return path is ours; whoever asks has that verified.

A line counts only if it is, from its first octet to the word that tells, what Postfix writes itself: strangers' words (a server's reply, a
header, a name) stand behind that in Postfix's lines, or in quotes, and are never taken for it.
"""

import re
from typing import NamedTuple

MOST_QUEUED = 100_000
"""Mails whose return path is remembered; beyond, the oldest are forgotten. Postfix tells it anew whenever it tries a mail again."""

LONGEST = 8192
"""Octets of a line, its end among them. Postfix's own are shorter than 2,100."""

# Either form of syslog's, or of Postfix's own log file: a time, a host, then who wrote it; an instance is called postfix-out.
_BEGIN = rb"""
    (?:[A-Z][a-z]{2}[ ][ 0-9][0-9][ ][0-9:]{8} | [0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}(?:Z|[+-][0-9:]{4,5}))
    [ ][!-~]{1,255}[ ]
    (?P<instance>postfix[A-Za-z0-9_-]{0,50})/(?:[A-Za-z0-9_.-]{1,50}/){0,3}
"""
# No quotes: a return path of ours has none, and what a stranger writes into quotes ends nowhere.
_ADDRESS = rb'[^\x00-\x20\x7f"<>(),:;\[\]\\@]{1,256}@[^\x00-\x20\x7f"<>(),;\\@]{1,256}'
_QUEUE_ID = rb"\[[0-9]{1,10}\]:[ ](?P<queue_id>[0-9A-Za-z]{6,40}):[ ]"
_QUEUED = re.compile(
    _BEGIN + rb"qmgr" + _QUEUE_ID + rb"from=<(?P<sender>" + _ADDRESS + rb")>,[ ]size=[0-9]+,[ ]nrcpt=[0-9]+[ ]\(queue[ ]active\)",
    re.VERBOSE,
)
_SENT = re.compile(
    _BEGIN
    + rb"[A-Za-z0-9_.-]{1,50}"
    + _QUEUE_ID
    + rb"to=<(?P<recipient>"
    + _ADDRESS
    + rb")>,[ ](?:orig_to=<(?P<named>"
    + _ADDRESS
    + rb")>,[ ])?"
    rb"relay=[^\x00-\x20,]{1,512},[ ](?:conn_use=[0-9]+,[ ])?delay=[0-9.]+,[ ]delays=[0-9./]+,[ ]dsn=2[0-9.]+,[ ]status=sent[ ]\(",
    re.VERBOSE,
)
_REMOVED = re.compile(_BEGIN + rb"qmgr" + _QUEUE_ID + rb"removed", re.VERBOSE)


class Sent(NamedTuple):
    """A mail that was handed on: its return path, and its recipients, as the log names them: who got it, and who was meant at first."""

    return_path: str
    recipients: tuple[str, ...]


class MailLog:
    """Follows one log."""

    def __init__(self) -> None:
        """Begin with nothing read."""
        self._senders: dict[tuple[bytes, bytes], str] = {}

    def read(self, line: bytes) -> Sent | None:
        """Take the next line; return the mail of which it says that it was handed on."""
        line = line.removesuffix(b"\n")
        if (sent := _SENT.match(line)) is not None:
            return_path = self._senders.get(_mail(sent))
            recipients = tuple(found.decode("utf-8", "replace") for found in (sent["recipient"], sent["named"]) if found)
            return None if return_path is None else Sent(return_path, recipients)
        if (queued := _QUEUED.fullmatch(line)) is not None:
            self._senders.pop(_mail(queued), None)
            self._senders[_mail(queued)] = queued["sender"].decode("utf-8", "replace")
            if len(self._senders) > MOST_QUEUED:
                del self._senders[next(iter(self._senders))]
        elif (removed := _REMOVED.fullmatch(line)) is not None:
            self._senders.pop(_mail(removed), None)
        return None


def _mail(found: re.Match[bytes]) -> tuple[bytes, bytes]:
    """Return what tells a mail from all others that are in a queue: each instance of Postfix gives numbers of its own."""
    return found["instance"], found["queue_id"]
