"""Messages of every kind that readers know, written for the tests: seeds of the fuzzing, and what single tests build on."""

# ruff: noqa: E501, ISC004 - mail is written as it stands


def message(*lines: str, charset: str = "utf-8") -> bytes:
    """Join lines as a message."""
    return "\n".join([*lines, ""]).encode(charset)


def multipart(
    headers: tuple[str, ...], *parts: tuple[str, str], kind: str = "report; report-type=delivery-status", charset: str = "utf-8"
) -> bytes:
    """Join (header lines, body) pairs as the parts of a multipart."""
    body = [line for head, text in parts for line in ("--=_B", head, "", text)]
    return message(*headers, "MIME-Version: 1.0", f'Content-Type: multipart/{kind}; boundary="=_B"', "", *body, "--=_B--", charset=charset)


DAEMON = ("Return-Path: <>", "From: MAILER-DAEMON@mx.example.net (Mail Delivery System)", "To: b+seal+user=example.org@bounces.example.com")
ORIGINAL = (
    "message/rfc822",
    "Return-Path: <b+seal+user=example.org@bounces.example.com>\nReceived: from out.example.com (out.example.com [192.0.2.1])\n\tby mx.example.net"
    "\nFrom: News <news@example.com>\nTo: user@example.org\nMessage-ID: <1@example.com>\nSubject: Letter\n\nText.\n",
)
RETURNED = (f"Content-Type: {ORIGINAL[0]}", ORIGINAL[1])


def note(text: str) -> tuple[str, str]:
    """Return a part with text for people."""
    return "Content-Type: text/plain; charset=utf-8", text


def status(*fields: str) -> tuple[str, str]:
    """Return a part with the fields of one message and one recipient."""
    return "Content-Type: message/delivery-status", "\n".join(["Reporting-MTA: dns; mx.example.net", "", *fields, ""])


POSTFIX = multipart(
    (*DAEMON, "Subject: Undelivered Mail Returned to Sender", "Auto-Submitted: auto-replied"),
    note("This is the mail system at host mx.example.net.\n\n<user@example.org>: host mx[192.0.2.9] said: 550 5.1.1 User unknown"),
    status(
        "Final-Recipient: rfc822; user@example.org",
        "Original-Recipient: rfc822;user@example.org",
        "Action: failed",
        "Status: 5.1.1",
        "Remote-MTA: dns; mx.example.org",
        "Diagnostic-Code: smtp; 550 5.1.1 <user@example.org>: Recipient address\n    rejected: User unknown",
    ),
    RETURNED,
)
DELAYED = multipart(
    (*DAEMON, "Subject: Delayed Mail (still being retried)"),
    note("This is a warning message only. It is still being retried.\n\n<user@example.org>: connect to mx: Connection timed out"),
    status(
        "Final-Recipient: rfc822; user@example.org", "Action: delayed", "Status: 4.4.1", "Diagnostic-Code: X-Postfix; Connection timed out"
    ),
    RETURNED,
)
INTERNATIONAL = multipart(
    (*DAEMON, "Subject: =?utf-8?Q?Nicht_zugestellt?="),
    note("Ihre Nachricht an Jörg@bücher.example wurde nicht zugestellt: Postfach überfüllt"),
    (
        "Content-Type: message/global-delivery-status\nContent-Transfer-Encoding: base64",
        "UmVwb3J0aW5nLU1UQTogZG5zOyBteC5leGFtcGxlLm5ldAoKRmluYWwtUmVjaXBpZW50OiB1dGYt\nODsgSsO2cmdAYsO8Y2hlci5leGFtcGxlCkFjdGlvbjogZmFpbGVkClN0"
        "YXR1czogNS4yLjIK",
    ),
    RETURNED,
    kind="report; report-type=global-delivery-status",
)
EXIM = message(
    "Return-path: <>", "From: Mail Delivery System <Mailer-Daemon@mx.example.net>", "To: news@example.com",
    "Subject: Mail delivery failed: returning message to sender", "X-Failed-Recipients: user@example.org, other@example.org", "",
    "This message was created automatically by mail delivery software.", "",
    "A message that you sent could not be delivered to one or more of its", "recipients. This is a permanent error.", "",
    "  user@example.org", "    SMTP error from remote mail server after RCPT TO:<user@example.org>:",
    "    host mx.example.org [192.0.2.9]: 550 5.1.1 bo\\303\\256te inconnue", "  other@example.org", "    mailbox is full (quota exceeded)", "",
    "------ This is a copy of the message, including all the headers. ------", "", "From: news@example.com", "To: user@example.org", "", "Text.",
)  # fmt: skip
QMAIL = message(
    "Return-Path: <>", "From: MAILER-DAEMON@mx.example.net", "Subject: failure notice", "",
    "Hi. This is the qmail-send program at mx.example.net.", "I'm afraid I wasn't able to deliver your message to the following addresses.", "",
    "<user@example.org>:", "192.0.2.9 does not like recipient.", "Remote host said: 550 no mailbox by that name", "Giving up on 192.0.2.9.", "",
    "--- Below this line is a copy of the message.", "", "Return-Path: <news@example.com>", "To: user@example.org", "", "Text.",
)  # fmt: skip
SENDMAIL = message(
    *DAEMON, "Subject: Returned mail: see transcript for details", "", "   ----- The following addresses had permanent fatal errors -----",
    "<user@example.org>", "    (reason: 550 5.1.1 User unknown)", "", "   ----- Transcript of session follows -----",
    "... while talking to mx.example.org.:", ">>> RCPT To:<user@example.org>", "<<< 550 5.1.1 User unknown",
    "550 5.1.1 <user@example.org>... User unknown",
)  # fmt: skip
JAPANESE = message(
    "From: Postmaster <postmaster@example.co.jp>", "Subject: =?iso-2022-jp?B?GyRCRyc+WhsoQg==?=", "Return-Path: <>",
    "Content-Type: text/plain; charset=iso-2022-jp", "", "次のあて先へのメッセージはエラーのため送信できませんでした。", "<user@example.co.jp>",
    "宛先のメールアドレスが見つかりません。", charset="iso-2022-jp",
)  # fmt: skip
HTML = message(
    "From: postmaster@example.net", "Subject: Undeliverable: Letter", "Content-Type: text/html; charset=windows-1252", "",
    "<html><style>p{}</style><p>Your message to <a href='mailto:user@example.org'>user@example.org</a> couldn&#39;t be delivered.<br>",
    "Remote Server returned '550 5.1.10 RESOLVER.ADR.RecipientNotFound'</p></html>", charset="windows-1252",
)  # fmt: skip
UNKNOWN_SYSTEM = message(
    "Return-Path: <>", "From: Gateway <postmaster@gw.example.net>", "To: news@example.com", "Subject: Mail could not be delivered", "",
    "The following recipients could not be reached:", "", "    user@example.org", "", "Reason: 550 mailbox unavailable",
)  # fmt: skip
COMPLAINT = multipart(
    ("From: feedback@arf.example.net", "To: abuse@example.com", "Subject: Fw: Letter"),
    note("This is an email abuse report for an email message received from IP 192.0.2.1."),
    (
        "Content-Type: message/feedback-report",
        "Feedback-Type: abuse\nUser-Agent: Feedback/1.0\nVersion: 1\nOriginal-Mail-From: <news@example.com>\nOriginal-Rcpt-To: user@example.org"
        "\nSource-IP: 192.0.2.1\nReported-Domain: example.com\n",
    ),
    RETURNED,
    kind="report; report-type=feedback-report",
)
JMRP = multipart(
    ("From: staff@hotmail.com", "To: abuse@example.com", "Subject: complaint about message from 192.0.2.1"),
    ("Content-Type: message/rfc822", "X-HmXmrOriginalRecipient: user@example.org\n" + ORIGINAL[1]),
    kind="mixed",
)
VACATION = message(
    "Return-Path: <>", "From: user@example.org", "To: news@example.com", "Subject: Automatic reply: Letter", "Auto-Submitted: auto-replied",
    "In-Reply-To: <1@example.com>", "", "I am out of the office until Monday. For urgent matters write to other@example.org.",
)  # fmt: skip
CHALLENGE = message(
    "Return-Path: <>", "From: user@example.org", "Subject: Please confirm your message", "In-Reply-To: <1@example.com>", "",
    "Your message is being held until you confirm that you are a human.", "Click https://challenge.example/x to confirm, and your message will be",
    "delivered.",
)  # fmt: skip
RECEIPT = multipart(
    ("From: user@example.org", "To: news@example.com", "Subject: Read: Letter"),
    note("Your message was read on Monday."),
    ("Content-Type: message/disposition-notification", "Final-Recipient: rfc822; user@example.org\nDisposition: manual-action/MDN-sent-manually; displayed\n"),
    kind="report; report-type=disposition-notification",
)  # fmt: skip
SIEVE_REJECT = multipart(
    (
        "Return-Path: <>",
        "From: Mail Delivery Subsystem <postmaster@example.org>",
        "Subject: Rejected: Letter",
        "Auto-Submitted: auto-replied (rejected)",
    ),
    note("Your message to <user@example.org> was automatically rejected:\nI do not want your letters."),
    (
        "Content-Type: message/disposition-notification",
        "Reporting-UA: mx.example.org; Dovecot Mail Delivery Agent\nOriginal-Recipient: rfc822; alias@example.org\n"
        "Final-Recipient: rfc822; user@example.org\nDisposition: automatic-action/MDN-sent-automatically; deleted\n",
    ),
    RETURNED,
    kind="report; report-type=disposition-notification",
)
UNSUBSCRIBE = message("From: user@example.org", "To: leave@example.com", "Subject: unsubscribe", "", "unsubscribe")
PERSON = message(
    "From: user@example.org", "To: news@example.com", "Subject: Re: Letter", "In-Reply-To: <1@example.com>", "", "Thanks, a nice letter!"
)

EVERY = {name.lower(): value for name, value in list(globals().items()) if name.isupper() and isinstance(value, bytes)}
