"""A mail client for whatever server is under test.

For: asking at RCPT, and sending small mails. Never: a bounce (tests.system.mail brings those).
"""

import re
import smtplib
from email.message import EmailMessage

from tests.system.waiting import PATIENCE

SENDER = "news@sender.example"


def connect(address: tuple[str, int], source: str = "") -> smtplib.SMTP:
    """Open an SMTP session."""
    return smtplib.SMTP(*address, local_hostname="client.sender.example", timeout=PATIENCE, source_address=(source, 0))


def refusal(address: tuple[str, int], recipient: str, sender: str = SENDER) -> str:
    """Return the reply by which a server refuses a recipient, or the whole mail; empty where it takes him."""
    with connect(address) as session:
        session.ehlo_or_helo_if_needed()
        code, text = session.mail(sender)
        if code == 250:
            code, text = session.rcpt(recipient)
        # Exim cuts a long reply into lines, each with the status code before it.
        said = re.sub(r"\n(?:\d\.\d\.\d )?", " ", text.decode())
        return "" if code in {250, 251} else f"{code} {said}"


def send(address: tuple[str, int], sender: str, *recipients: str) -> None:
    """Send a small mail; raises the smtplib exception that carries the reply if none of the recipients is taken."""
    with connect(address) as session:
        session.sendmail(sender, list(recipients), letter(*recipients))


def letter(*recipients: str) -> str:
    """Write a small mail."""
    message = EmailMessage()
    message["From"] = SENDER
    message["To"] = ", ".join(recipients)
    message["Subject"] = "News"
    message.set_content("Good news.\n")
    return message.as_string()
