#!/usr/bin/env python3
"""Send a bounce to a listener, as a mail server would that could not deliver: for trying out. Standard library only.

usage: send_bounce.py HOST:PORT RETURN_PATH [--status 5.1.1] [--text "550 5.1.1 User unknown"] [--action failed]
"""

import argparse
import smtplib
import time

REPORT = """\
From: Mail Delivery System <MAILER-DAEMON@mx.example.org>
To: {return_path}
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Message-ID: <{serial}@mx.example.org>
Content-Type: multipart/report; report-type=delivery-status; boundary="=-report"

--=-report
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.example.org. Your message could not be delivered.

<{recipient}>: host mail.example.org[192.0.2.25] said: {text} (in reply to RCPT TO command)

--=-report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.org

Final-Recipient: rfc822; {recipient}
Action: {action}
Status: {status}
Remote-MTA: dns; mail.example.org
Diagnostic-Code: smtp; {text}

--=-report
Content-Type: text/rfc822-headers

Return-Path: <{return_path}>
From: News <news@example.net>
To: {recipient}
Subject: The news of today

--=-report--
"""


def main() -> None:
    """Send one report to the return path, about the recipient that it names (or about somebody, if it is opaque)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("listener", metavar="HOST:PORT")
    parser.add_argument("return_path", metavar="RETURN_PATH")
    parser.add_argument("--status", default="5.1.1")
    parser.add_argument("--text", default="550 5.1.1 User unknown")
    parser.add_argument("--action", default="failed", choices=["failed", "delayed", "delivered"])
    asked = parser.parse_args()
    host, _, port = asked.listener.rpartition(":")
    named = asked.return_path.rpartition("@")[0].split("+", 2)[-1]
    local_part, at, domain = named.rpartition("=")
    content = REPORT.format(
        return_path=asked.return_path,
        recipient=f"{local_part}@{domain}" if at else "somebody@example.org",
        serial=time.time_ns(),
        status=asked.status,
        text=asked.text,
        action=asked.action,
    )
    with smtplib.SMTP(host.strip("[]"), int(port), timeout=30) as server:
        server.ehlo("mx.example.org")
        server.sendmail("", [asked.return_path], content.replace("\n", "\r\n").encode())
    print("accepted: it is on disk")


if __name__ == "__main__":
    main()
