"""Letters of our own making: one for each family and standard, addresses under .example only."""

STANDARD = b"""From: MAILER-DAEMON@mx.example (Mail Delivery System)
To: b+token@bounces.example
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="=_1"

--=_1
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.example.

<gone@there.example>: host mx.there.example[192.0.2.1] said: 550 5.1.1
    <gone@there.example>: Recipient address rejected: User unknown (in reply
    to RCPT TO command)

--=_1
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example
Original-Envelope-Id: env-77

Final-Recipient: rfc822; gone@there.example
Original-Recipient: rfc822;alias@there.example
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.there.example
Diagnostic-Code: smtp; 550 5.1.1 <gone@there.example>: Recipient address
    rejected: User unknown

--=_1
Content-Type: message/rfc822

Return-Path: <b+token@bounces.example>
Received: from ours.example by mx.example; Sun, 22 Nov 2026 00:00:00 +0000
From: News <news@ours.example>
To: "Gone" <alias@there.example>
Message-ID: <m1@ours.example>
Subject: =?utf-8?B?w6k=?=

Hello.
--=_1--
"""

QMAIL = b"""From: MAILER-DAEMON@q.example
Subject: failure notice

Hi. This is the qmail-send program at q.example.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<one@there.example>:
192.0.2.1 does not like recipient.
Remote host said: 550 5.1.1 No such mailbox
Giving up on 192.0.2.1.

<two@there.example>:
Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)
I'm not going to try again; this message has been in the queue too long.

--- Below this line is a copy of the message.

Return-Path: <b+token@bounces.example>
From: news@ours.example
To: one@there.example
Message-ID: <m2@ours.example>

Hello.
"""

EXIM = b"""From: Mail Delivery System <Mailer-Daemon@e.example>
Subject: Mail delivery failed: returning message to sender
Auto-Submitted: auto-replied
X-Failed-Recipients: gone@there.example

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  gone@there.example
    host mx.there.example [192.0.2.1]
    SMTP error from remote mail server after RCPT TO:<gone@there.example>:
    550 5.1.1 Bo\\303\\256te inconnue

------ This is a copy of the message, including all the headers. ------

Return-path: <b+token@bounces.example>
From: news@ours.example
To: gone@there.example
Message-ID: <m3@ours.example>
"""

OTHERS = {
    "dma": b"""From: MAILER-DAEMON <>
Subject: Mail delivery failed

This is the DragonFly Mail Agent v0.13 at d.example.

There was an error delivering your mail to <gone@there.example>.

mx.there.example [192.0.2.1] did not like our RCPT TO:
550 5.1.1 <other@elsewhere.example> User unknown

Message headers follow.

From: news@ours.example
To: gone@there.example
""",
    "yahoo": b"""From: MAILER-DAEMON@yahoo.example
Subject: Failure Notice

Sorry, we were unable to deliver your message to the following address.

<gone@there.example>:
Remote host said:
550 5.1.1 User Unknown
[RCPT_TO]

--- Below this line is a copy of the message.

From: news@ours.example
""",
    "opensmtpd": b"""From: Mailer Daemon <MAILER-DAEMON@o.example>
Subject: Delivery status notification: error

    Hi!

    This is the MAILER-DAEMON, please DO NOT REPLY to this e-mail.

    An error has occurred while attempting to deliver a message for
    the following list of recipients:

gone@there.example: 550 5.1.1 no such user

    Below is a copy of the original message:

From: news@ours.example
""",
    "postfix": b"""From: MAILER-DAEMON@p.example (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender

This is the Postfix program at host p.example.

For further assistance, please contact <postmaster@p.example>

<gone@there.example> (expanded from <old@there.example>): host mx[192.0.2.1]
    said: 550 5.1.1 User unknown
""",
    "google": b"""From: Mail Delivery Subsystem <mailer-daemon@googlemail.com>
Subject: Delivery Status Notification (Failure)
X-Failed-Recipients: gone@there.example

Delivery to the following recipient failed permanently:

     gone@there.example

Technical details of permanent failure:
The error that the other server returned was: 550 550 5.1.1 user unknown (state 14).

----- Original message -----

From: news@ours.example
""",
    "exchange": b"""From: System Administrator <postmaster@x.example>
Subject: Undeliverable: News
Return-Path: <>

Your message

  To:      gone@there.example
  Subject: News

did not reach the following recipient(s):

gone@there.example on Thu, 1 Jan 2026 00:00:00 -0000
    The recipient name is not recognized
    MSEXCH:IMS:A:B:C 0 (000C05A6) 550 5.1.1 Unknown Recipient
""",
    "domino": b"""From: POSTMASTER@n.example
Subject: Undeliverable message

------- Failure Reasons  --------

User not listed in public Name & Address Book (550 5.1.1)
gone@there.example

------- Returned Message --------
From: news@ours.example
""",
    "groupwise": b"""From: postmaster@g.example
Subject: Message status - undeliverable

The message that you sent was undeliverable to the following:
\tgone@there.example (550 5.1.1 user not found)
""",
    "pmdf": b"""From: MAILER-DAEMON@s.example
Subject: Delivery Notification: Delivery has failed

Your message cannot be delivered to the following recipients:

  Recipient address: gone@there.example
  Reason: Remote SMTP server has rejected address
  Diagnostic code: smtp; 550 5.1.1 User Unknown
""",
    "mfilter": b"""From: POSTMASTER <postmaster@m.example>
Subject: failure notice

gone@there.example

-------server message
550 5.1.1 User unknown in local recipient table

-------SMTP command
DATA

-------original message
From: news@ours.example
""",
    "mimecast": b"""From: postmaster <postmaster@m.example>
Subject: [Postmaster] Email Delivery Failure

An email that you attempted to send to the following address could not be delivered:
-- gone@there.example

The problem appears to be :
-- Recipient email address is possibly incorrect

Additional information follows :
-- 550 5.1.1 User unknown
This condition occurred after 1 attempt(s).
""",
    "imail": b"""From: Postmaster <postmaster@i.example>
Subject: Undeliverable Mail
X-Mailer: <SMTP32 v8.05>

undeliverable to gone@there.example

Body of message generated response:
550 5.1.1 no such user

Original message follows.

From: news@ours.example
""",
    "mailmarshal": b"""From: postmaster@m.example
Subject: Undeliverable Mail: "News"

Your message:
   From:    news@ours.example

Could not be delivered because of

550 5.1.1 User unknown

The following recipients were affected:
    gone@there.example


Additional Information
Original Sender: <news@ours.example>
""",
    "carriers": b"""From: Postmaster@ezweb.example
Subject: Mail System Error - Returned Mail
Content-Type: text/plain; charset=iso-2022-jp

\x1b$B<!$N$"$F@h\x1b(B

Each of the following recipients was rejected by a remote
mail server.

    Recipient: <gone@there.example>
    >>> RCPT TO:<gone@there.example>
    <<< 550 5.1.1 <gone@there.example>: User unknown
""",
    "fml": b"""From: list-admin@l.example
Subject: You b+token@bounces.example are not member (list ML)

You are not a member of this mailing list <gone@there.example>.
550 5.1.1 is what a server would say.
""",
    "sendmail": b"""From: Mail Delivery Subsystem <MAILER-DAEMON@s.example>
Subject: Returned mail: User unknown

   ----- Transcript of session follows -----
While talking to mx.there.example:
>>> RCPT To:<gone@there.example>
<<< 550 5.1.1 <gone@there.example>... User unknown
550 <gone@there.example>... User unknown

   ----- Unsent message follows -----
From: news@ours.example
To: gone@there.example
""",
    "amazon_sns": b"""From: Notice <no-reply@sns.example>
Subject: AWS Notification Message

{"Type":"Notification","Message":"{\\"notificationType\\":\\"Bounce\\",\\"bounce\\":{\\"bouncedRecipients\\":[{\\"emailAddress\\":
\\"gone@there.example\\",\\"action\\":\\"failed\\",\\"status\\":\\"5.1.1\\",\\"diagnosticCode\\":\\"smtp; 550 5.1.1 unknown\\"}]},
\\"mail\\":{\\"source\\":\\"b+token@bounces.example\\"}}"}
""",
}

FEEDBACK = b"""From: feedback@isp.example
To: abuse@ours.example
Subject: FW: News
Content-Type: multipart/report; report-type=feedback-report; boundary=f

--f
Content-Type: text/plain

This is an email abuse report.

--f
Content-Type: message/feedback-report

Feedback-Type: Abuse
User-Agent: FBL/1.0
Version: 1
Original-Mail-From: <b+token@bounces.example>
Original-Rcpt-To: <angry@there.example>
Source-IP: 192.0.2.9
Reported-Domain: ours.example

--f
Content-Type: message/rfc822

From: news@ours.example
To: angry@there.example
Message-ID: <m9@ours.example>

Hello.
--f--
"""

VACATION = b"""Return-Path: <>
From: Ann <ann@there.example>
Subject: Automatic reply: News
Auto-Submitted: auto-replied

I am away until Monday. Mail to bob@there.example could not be delivered either, user unknown.
"""

CHALLENGE = b"""Return-Path: <>
From: ann@there.example
Subject: Please confirm your message
Auto-Submitted: auto-replied

Your message is being held. Click here to confirm that you are a human, so that your message is delivered.
"""

RECEIPT = b"""From: ann@there.example
Subject: Read: News
Content-Type: multipart/report; report-type=disposition-notification; boundary=d

--d
Content-Type: text/plain

Your message was displayed.

--d
Content-Type: message/disposition-notification

Final-Recipient: rfc822; ann@there.example
Disposition: manual-action/MDN-sent-manually; displayed

--d--
"""

SIEVE_REJECT = b"""From: Mail Delivery Subsystem <postmaster@there.example>
Subject: Rejected: News
Auto-Submitted: auto-replied (rejected)
Content-Type: multipart/report; report-type=disposition-notification; boundary=d

--d
Content-Type: text/plain

Your message to <ann@there.example> was automatically rejected:
550 5.7.1 I take no newsletters

--d
Content-Type: message/disposition-notification

Reporting-UA: there.example; Dovecot Mail Delivery Agent
Final-Recipient: rfc822; ann@there.example
Disposition: automatic-action/MDN-sent-automatically; deleted

--d--
"""

UNSUBSCRIBE = b"""From: ann@there.example
To: leave@ours.example
Subject: unsubscribe

"""

LIST_POST = b"""From: Postmaster Bob <bob@there.example>
To: mailop@lists.example
List-Id: <mailop.lists.example>
Subject: Undelivered Mail Returned to Sender?

I get these all day:

<gone@there.example>: host mx[192.0.2.1] said: 550 5.1.1 User unknown

What could not be delivered, and why?
"""

PERSON = b"""From: Carol <carol@there.example>
To: news@ours.example
Subject: Re: Undeliverable: my order
In-Reply-To: <m1@ours.example>

My parcel could not be delivered. 550 pieces were missing. Write to carol@there.example.
"""

BOUNCES = {"standard": STANDARD, "qmail": QMAIL, "exim": EXIM} | OTHERS
NO_BOUNCES = {
    "feedback": FEEDBACK,
    "vacation": VACATION,
    "challenge": CHALLENGE,
    "receipt": RECEIPT,
    "unsubscribe": UNSUBSCRIBE,
    "list-post": LIST_POST,
    "person": PERSON,
}
ALL = BOUNCES | NO_BOUNCES | {"sieve-reject": SIEVE_REJECT}

# After the examples that the standards give: their fields, forms and oddities, with names under .example.
RFC_EXAMPLES = {
    "rfc3464-simple": b"""Date: Thu, 7 Jul 1994 17:16:05 -0400
From: Mail Delivery Subsystem <MAILER-DAEMON@cs.there.example>
Message-Id: <199407072116.RAA14128@cs.there.example>
Subject: Returned mail: Cannot send message for 5 days
To: <owner-list@ours.example>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
      boundary="RAA14128.773615765/CS.THERE.EXAMPLE"

--RAA14128.773615765/CS.THERE.EXAMPLE

The original message was received at Sat, 2 Jul 1994 17:10:28 -0400
from root@localhost

   ----- The following addresses had delivery problems -----
<louis@larry.there.example>  (unrecoverable error)

   ----- Transcript of session follows -----
<louis@larry.there.example>... Deferred: Connection timed out
      with larry.there.example.
Message could not be delivered for 5 days
Message will be deleted from queue

--RAA14128.773615765/CS.THERE.EXAMPLE
content-type: message/delivery-status

Reporting-MTA: dns; cs.there.example

Original-Recipient: rfc822;louis@larry.there.example
Final-Recipient: rfc822;louis@larry.there.example
Action: failed
Status: 4.0.0
Diagnostic-Code: smtp; 426 connection timed out
Last-Attempt-Date: Thu, 7 Jul 1994 17:15:49 -0400

--RAA14128.773615765/CS.THERE.EXAMPLE
content-type: message/rfc822

Message-ID: <m1@ours.example>
From: owner-list@ours.example

--RAA14128.773615765/CS.THERE.EXAMPLE--
""",
    "rfc3464-many": b"""From: Mail Delivery System <postmaster@pure.example>
To: <sender@ours.example>
Subject: Delivery failure
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="A41C7.838631588=_/mm1"

--A41C7.838631588=_/mm1

Processing your mail message caused the following errors:

error: err.nosuchuser: newsletter@boojum.example

--A41C7.838631588=_/mm1
content-type: message/delivery-status

Reporting-MTA: dns; mm1.there.example
Arrival-Date: Mon, 29 Jul 1996 02:12:50 -0700

Final-Recipient: RFC822; newsletter@boojum.example
Action: failed
Diagnostic-Code: X-LOCAL; 500 (err.nosuchuser)

Final-Recipient: rfc822;george@mxa.example (after two hops)
Action: delayed
Status: 4.0.0 (unknown temporary failure)

Original-Recipient: rfc822;all@list.example
Final-Recipient: X400; /S=Mailer/PRMD=there/ADMD= /C=us/
Action: relayed

--A41C7.838631588=_/mm1
content-type: TEXT/RFC822-HEADERS

Received: from ours.example by mm1.there.example; Mon, 29 Jul 1996 02:12:50 -0700
--A41C7.838631588=_/mm1--
""",
    "rfc3464-gateway": b"""From: Mail Delivery Subsystem <postmaster@gw.there.example>
Subject: Undeliverable mail
Content-Type: multipart/report; report-type=delivery-status; boundary=84229080704991.122306.SYS30

--84229080704991.122306.SYS30

--84229080704991.122306.SYS30
Content-type: message/delivery-status

Reporting-MTA: mailbus; SYS30
DSN-Gateway: dns; gw.there.example

Final-Recipient: unknown; nair_s
Status: 5.0.0 (unknown permanent failure)
Action: failed

--84229080704991.122306.SYS30--
""",
    "rfc3464-delay": b"""From: Mail Delivery System <MAILER-DAEMON@nsfnet.example>
Subject: Warning: message delayed
Content-Type: multipart/report; report-type=delivery-status; boundary=foobar

--foobar
content-type: text/plain

The following message is still being tried. You do not need to resend it.

--foobar
content-type: message/delivery-status

Reporting-MTA: dns; sun2.nsfnet.example

Final-Recipient: rfc822;thomas@de-montfort.example
Status: 4.0.0 (unknown temporary failure)
Action: delayed
Will-Retry-Until: Thu, 14 Jul 1994 17:15:49 -0400

--foobar--
""",
    "rfc5965-all-fields": b"""From: <abusedesk@isp.example>
Subject: FW: Earn money
To: <abuse@ours.example>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report;
     boundary="part1_13d.2e68ed54_boundary"

--part1_13d.2e68ed54_boundary
Content-Type: text/plain; charset="US-ASCII"
Content-Transfer-Encoding: 7bit

This is an email abuse report for an email message received from IP 192.0.2.1.

--part1_13d.2e68ed54_boundary
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Mail-From: <b+token@bounces.example>
Original-Rcpt-To: <user@there.example>
Arrival-Date: Thu, 8 Mar 2005 14:00:00 EDT
Reporting-MTA: dns; mail.there.example
Source-IP: 192.0.2.1
Authentication-Results: mail.there.example;
               spf=fail smtp.mail=b+token@bounces.example
Reported-Domain: ours.example
Reported-Uri: http://ours.example/earn_money.html
Removal-Recipient: user@there.example

--part1_13d.2e68ed54_boundary
Content-Type: message/rfc822
Content-Disposition: inline

From: <news@ours.example>
To: <user@there.example>
Message-ID: <8787KJKJ3K4J3K4J3K4J3.mail@ours.example>

Spam.
--part1_13d.2e68ed54_boundary--
""",
    "rfc8098-receipt": b"""From: Joe Recipient <joe@there.example>
Subject: Re: Disposition notification
Content-Type: multipart/report; report-type=disposition-notification; boundary="RAA14128.773615765/there.example"

--RAA14128.773615765/there.example

The message sent to Joe has been displayed. This is no guarantee that it has been read or understood.

--RAA14128.773615765/there.example
content-type: message/disposition-notification

Reporting-UA: joes-pc.there.example; Foomail 97.1
Original-Recipient: rfc822;joe@there.example
Final-Recipient: rfc822;joe@there.example
Disposition: manual-action/MDN-sent-manually; displayed

--RAA14128.773615765/there.example--
""",
}
