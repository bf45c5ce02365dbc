"""One reading of returned mail: `read(content)`.

For: choosing who reads: the standards first, then the one dialect that recognizes the letter, then the last resort. Never: raising,
whatever the octets are; the clock; more work than the bounds of mime allow.
"""

from bounced.report import DeliveryReport, Report, Unrecognized, automatic, delivery_status, feedback, last_resort, prose, usual
from bounced.report.dialects import DIALECTS
from bounced.report.mime import Message, inner_message, scan
from bounced.report.prose import Letter, letter


def read(content: bytes) -> Report:
    """Return what a message says, or Unrecognized. Total and deterministic; CPU and memory are bounded whatever the size."""
    usual_report = usual.read(content)
    if usual_report is not None:
        return usual_report
    message = scan(content)
    report = _read(message)
    if report is not None:
        return report
    if message.over_limit:
        return Unrecognized(reason="a limit on size, header lines, parts or nesting was exceeded", over_limit=True)
    return Unrecognized(reason="no sign of a report" if message.parts else "no content")


def _read(message: Message) -> Report | None:
    if message.over_limit and not message.parts:
        return None
    report: Report | None = delivery_status.read(message)
    if report is not None and message.content_type != "multipart/report" and _attached(message):
        report = None
    report = report or feedback.read(message)
    if report is not None:
        return report
    receipt = automatic.receipt(message)
    if receipt is not None:
        return receipt
    written = letter(message)
    if last_resort.by_machine(written):
        report = delivery_status.read_unframed(written)
        if report is not None:
            return report
    if not last_resort.by_person(written):
        report = _of_dialects(written)
        if report is not None:
            return report
    report = _nested(written)
    if report is not None:
        return report
    if last_resort.sent_by_daemon(written) or last_resort.is_notice(written) or _lost_its_status(message):
        return last_resort.read(written) or automatic.read(message)
    # Of a message that was not read to its end nobody can say that it is no bounce.
    return (None if message.over_limit else automatic.read(message)) or last_resort.read(written)


def _attached(message: Message) -> bool:
    """Whether a person, or a list, passes on the parts of another's report."""
    return b"list-id" in message.headers or last_resort.by_person(letter(message))


def _of_dialects(written: Letter) -> DeliveryReport | None:
    for dialect in DIALECTS:
        if dialect.recognizes(written):
            report = dialect.read(written)
            if report is not None:
                return report
    return None


def _lost_its_status(message: Message) -> bool:
    """Whether it calls itself a delivery report, and was cut ahead of what makes it one."""
    return message.content_type == "multipart/report" and message.headers.mentions(b"delivery-status")


def _nested(written: Letter) -> DeliveryReport | None:
    """Read the report that a gateway forwards as the mail it returns: only where both senders are mail systems.

    A plain letter is read only where the gateway itself names nobody: its own words would go first.
    """
    part = written.message.first("message/rfc822")
    if part is None or not last_resort.by_machine(written):
        return None
    inner = inner_message(part)
    if inner.content_type != "multipart/report" and not last_resort.is_daemon(inner.headers.get(b"from")):
        return None
    report = delivery_status.read(inner)
    if report is not None or prose.candidates(written.note):
        return report
    returned = letter(inner)
    return _of_dialects(returned) or last_resort.read(returned)
