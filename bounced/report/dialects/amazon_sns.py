"""Amazon SES through SNS: notifications as JSON in a mail.

For: bounce and delivery notifications. Never: subscriptions and other notices of SNS.
"""

import json

from bounced.report import Action, DeliveryReport, RecipientStatus, Returned, fields
from bounced.report.prose import Letter
from bounced.status import StatusCode

READER = "amazon-sns"


def recognizes(letter: Letter) -> bool:
    """Whether the text is JSON that speaks of a bounce or a delivery."""
    text = letter.whole.lstrip()
    return text[:1] == "{" and "notificationType" in text[:16000]


def read(letter: Letter) -> DeliveryReport | None:
    """Read the notification, wrapped in an SNS envelope or bare."""
    told = _object(letter.whole)
    inner = told.get("Message")
    if isinstance(inner, str):
        told = _object(inner)
    match told.get("notificationType"):
        case "Bounce":
            statuses = _bounced(told.get("bounce"))
        case "Delivery":
            statuses = _delivered(told.get("delivery"))
        case _:
            return None
    mail = told.get("mail")
    source = mail.get("source") if isinstance(mail, dict) else None
    came_back = Returned(return_path=fields.address(source)) if isinstance(source, str) else None
    return DeliveryReport(reader=READER, standard=False, recipients=statuses, copy=came_back) if statuses else None


def _object(text: str) -> dict[str, object]:
    try:
        # SNS appends an unsubscribe notice after the object.
        value, _ = json.JSONDecoder(strict=False).raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _bounced(bounce: object) -> tuple[RecipientStatus, ...]:
    listed = bounce.get("bouncedRecipients") if isinstance(bounce, dict) else None
    statuses: list[RecipientStatus] = []
    for entry in listed if isinstance(listed, list) else []:
        address = fields.address(str(entry.get("emailAddress"))) if isinstance(entry, dict) else None
        if address is None:
            continue
        diagnostic = fields.clean(fields.without_type(str(entry.get("diagnosticCode") or "")))
        statuses.append(
            RecipientStatus(
                action=fields.action(str(entry.get("action"))) or Action.FAILED,
                final_recipient=address,
                status=StatusCode.parse(str(entry.get("status"))),
                reply=fields.find_reply(diagnostic),
                diagnostic=diagnostic,
            )
        )
    return tuple(statuses)


def _delivered(delivery: object) -> tuple[RecipientStatus, ...]:
    listed = delivery.get("recipients") if isinstance(delivery, dict) else None
    named = [fields.address(entry) for entry in listed if isinstance(entry, str)] if isinstance(listed, list) else []
    return tuple(RecipientStatus(action=Action.DELIVERED, final_recipient=address) for address in named if address)
