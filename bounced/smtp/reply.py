"""What we answer on SMTP and LMTP (RFC 5321 section 4.2, RFC 2034): every text is fixed.

For: one place where all replies stand. Never: a word of the client's, or of an exception. A 5xx says that the client should not come again:
no trouble of our own has one.
"""

from bounced.returnpath import Refusal

OK = b"250 2.0.0 ok\r\n"
SENDER_OK = b"250 2.1.0 ok\r\n"
RECIPIENT_OK = b"250 2.1.5 ok\r\n"
COMMITTED = b"250 2.0.0 committed\r\n"
GO_AHEAD = b"354 end with <CRLF>.<CRLF>\r\n"
OUR_FAULT = b"451 4.3.0 our fault, please try again later\r\n"
NOBODY_YET = b"451 4.5.1 no recipient could be taken now, please try again later\r\n"
NO_ROOM = b"452 4.3.1 no room for a large message now, please try again later\r\n"
DISK_FULL = b"452 4.3.1 the disk is nearly full, please try again later\r\n"
TOO_MANY = b"452 4.5.3 no more recipients in this transaction\r\n"
TOO_OFTEN = b"450 4.7.1 too much mail for this mailbox from your network, please try again later\r\n"
TOO_BIG = b"552 5.3.4 larger than the SIZE that was announced\r\n"
UNKNOWN = b"500 5.5.1 unknown command\r\n"
TOO_LONG = b"500 5.5.2 command line too long\r\n"
BARE_LF = b"500 5.5.2 lines end with <CRLF>\r\n"
NO_ARGUMENT = b"501 5.5.4 an argument is missing, or one too many\r\n"
NOT_OFFERED = b"502 5.5.1 not offered\r\n"
BAD_SEQUENCE = b"503 5.5.1 bad sequence of commands\r\n"
BYE = b"221 2.0.0 bye\r\n"
BEGIN_TLS = b"220 2.0.0 begin TLS\r\n"
NOT_VERIFIED = b"252 2.5.2 send some mail, and see\r\n"
REFUSED = {
    Refusal.FOREIGN: b"550 5.1.1 no return path of ours\r\n",
    Refusal.FORGED: b"550 5.1.1 this return path was not signed here\r\n",
    Refusal.UNKNOWN_KEY: b"550 5.1.1 this return path was not signed here\r\n",
    Refusal.EXPIRED: b"550 5.1.1 this return path has expired\r\n",
    # We signed it: the clock is wrong here, or was where it was signed.
    Refusal.FUTURE: b"451 4.3.0 this return path is not valid yet, please try again later\r\n",
    Refusal.FORGOTTEN: b"550 5.1.1 this return path is not known any more\r\n",
}
LAST_WORDS = {
    "full": b"421 4.3.2 too many connections, please try again later\r\n",
    "source-full": b"421 4.7.0 too many connections from your network\r\n",
    "source-rate": b"421 4.7.0 too many new connections from your network\r\n",
    "proxy": b"421 4.3.2 from this network a PROXY header must come first\r\n",
    "early": b"554 5.5.0 the server speaks first\r\n",
    "unasked-pipelining": b"554 5.5.0 commands came before they were due\r\n",
    "no-smtp": b"554 5.5.1 this is a mail server\r\n",
    "errors": b"421 4.7.0 too many errors\r\n",
    "junk": b"421 4.7.0 too many commands without a mail\r\n",
    "oversize": b"421 4.3.1 too much mail data\r\n",
    "idle": b"421 4.4.2 nothing came for too long\r\n",
    "slow": b"421 4.4.2 mail data came too slowly\r\n",
    "session-time": b"421 4.7.0 this session has lasted too long\r\n",
    "stopping": b"421 4.3.2 going down, please try again soon\r\n",
}


def lines(code: int, *texts: str) -> bytes:
    """Return a reply of several lines (RFC 5321 section 4.2.1)."""
    last = len(texts) - 1
    return "".join(f"{code}{' ' if number == last else '-'}{text}\r\n" for number, text in enumerate(texts)).encode()
