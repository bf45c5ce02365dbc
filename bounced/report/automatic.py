"""Answers that no person wrote (RFC 3834), read receipts (RFC 8098), challenges, mailed unsubscribes.

For: telling them from bounces, so that nobody is struck from a list for a holiday. A refusal by the recipient's own filter (RFC 5429) comes
in the clothes of a read receipt and is a delivery report. Never: a bounce that only happens to be marked as automatic.
"""

import re

from bounced.report import Action, AutomaticReply, Automation, DeliveryReport, RecipientStatus
from bounced.report.fields import address, clean, find_reply
from bounced.report.mime import Headers, Message, Part, parameter
from bounced.report.returned import returned
from bounced.report.signs import from_mail_system, has_null_path, named_bounce

_TEXT_LIMIT = 8 << 10
_RECEIPT_TYPES = ("message/disposition-notification", "message/global-disposition-notification", "text/disposition-notification")
_REFUSED = re.compile(
    r"reject|refus|denied|declin|abgelehnt|zurückgewiesen|verweigert|rechaz|rifiutat|recusad|rejet|geweigerd|odrzucon|отклон", re.IGNORECASE
)
_NOT_READ = re.compile(
    r"deleted without being read|ohne gelesen|sans (?:avoir )?été lu|sin (?:ser )?leer|senza essere (?:stat[oa] )?lett", re.IGNORECASE
)
_UNSUBSCRIBE = re.compile(
    r"(?:please )?(?:list-?)?(?:unsubscri(?:be|ption)|opt[- ]?out|signoff|abmeld(?:en|ung)|abbestell(?:en|ung)|désabonne(?:ment|r|"
    r"z)|désinscri\w{1,8}|"
    r"desuscri\w{1,8}|cancelar (?:la )?(?:suscripci[óo]n|inscriç[ãa]o|assinatura)|disiscri\w{1,8}|cancell\w{1,6} iscrizione|"
    r"uitschrijven|afmelden|"
    r"avregistrer\w{0,3}|avmeld\w{0,3}|framelding|wypisz|rezygnacja|odhlásit|отпис\w{1,8}|退会|配信停止|退订|取消订阅|수신 ?거부)(?![\w-]*\?)",
    re.IGNORECASE,
)
_FEW_WORDS = 4
# The start of a subject that automata write. "Re: Automatic reply" is a person's, so it must be the start.
_SUBJECT = re.compile(
    r"(?:\[?auto(?:mat(?:ic|ed|isch\w{0,2}|iskt?|ická|yczna|ikus|inen|izat|inis|iska))?\]?[-_: .]{0,3}(?:re(?:ply|sponse|"
    r"spond\w{0,3}|:)|generated re|antwort|"
    r"antwoord|bericht|svar|sv:|odpověď|odpowied|válasz|vastaus|răspuns|atsakymas|atbilde)|auto: |autoresponder\b|"
    r"(?:i am |i will be |will be |currently )?(?:out[- ]of[- ](?:the[- ])?office|away (?:from|until|till|on)\b|on (?:annual |"
    r"parental )?leave\b)|"
    r"ooo\b|(?:vacation|away|absence) (?:notice|reply|message|response)|on vacation\b|maternity leave\b|"
    r"abwesen|ich bin (?:nicht|im urlaub|bis)|urlaub|eingangsbestätigung|réponse auto|absence|absent|en congé|message d.absence|"
    r"accusé de réception|"
    r"respuesta auto|fuera de (?:la )?oficina|ausencia|ausente|autorespuesta|contestador|risposta auto|fuori (?:sede|ufficio)|"
    r"assen(?:za|te)|"
    r"resposta auto|fora d[oe] escrit|ausência|afwezig|niet aanwezig|frånvaro|fravær|poissa|automaattinen|nieobecn|mimo kancelář|nepřítom|"
    r"házon kívül|távollét|otomatik (?:yanıt|cevap)|ofis dışında|автоответ|автоматич\w{1,6} (?:ответ|відповідь|уведомление)|"
    r"нет на месте|отсутств|"
    r"αυτόματη|εκτός γραφείου|samodejni|automatski|automaatvastus|trả lời tự động|balasan otomatis|ตอบกลับอัตโนมัติ|תגובה אוטומטית|"
    r"מענה אוטומטי|"
    r"رد تلقائي|الرد التلقائي|自動(?:応答|返信|回[覆復])|不在|自动(?:回复|答复)|外出|休假|자동 ?(?:회신|응답|답장)|부재)",
    re.IGNORECASE,
)
_ANSWERING = (
    b"x-autoreply", b"x-autorespond", b"x-autoresponder", b"x-auto-reply", b"x-auto-response", b"x-mail-autoreply", b"x-autoreply-from",
    b"x-auto-reply-from", b"x-vacation", b"x-fc-machinegenerated", b"x-ms-exchange-inbox-rules-loop", b"autoresponder",
)  # fmt: skip
"""Fields that none but autoresponders write."""
_CHALLENGING = (
    b"x-tmda-confirm", b"x-tmda-fingerprint", b"x-boxtrapper", b"x-spamarrest-noauth", b"x-spamarrest", b"x-askversion", b"x-qconfirm",
    b"x-mailinblack", b"x-sendio", b"x-choicemail-registration-request", b"x-mailblocks", b"x-challenge-response", b"x-spamlion",
)  # fmt: skip
_CHALLENGE_SUBJECT = re.compile(
    r"\[?(?:please |kindly )?(?:confirm (?:your (?:message|e-?mail to|mail to|delivery)|delivery of|that you sent|you are (?:human|"
    r"a person))|"
    r"verify your (?:message|e-?mail to|identity as))|your (?:e-?mail|message|mail) (?:to .{1,80} )?(?:requires?|needs?|"
    r"is awaiting|awaits|is pending) "
    r"(?:verification|confirmation|authentication|approval by you)|verify#|\W{0,3}conf(?:irm)?[#:] ?\w{6}|"
    r".{0,120}\((?:verification|confirmation) required\)|"
    r".{0,120}\[(?:spam ?arrest|please click|tmda)|(?:sender|message) (?:address )?(?:verification|authentication|confirmation)\b|"
    r"(?:votre (?:mail|message) (?:pour|à) .{0,80})?(?:demande d.authentification|authentifiez)|"
    r"bitte bestätigen sie ihre (?:nachricht|e-?mail an)|"
    r"por favor,? confirm[ea] (?:su|seu|sua) (?:mensaje|mensagem|correo para)|antispam uol|ihre (?:nachricht|"
    r"e-?mail) (?:an .{1,80} )?wartet",
    re.IGNORECASE,
)
_CHALLENGE_TEXT = re.compile(
    r"(?:reply to|answer|click|follow|visit|cliquez|répond|klicken|antworten|responda|haga clic|clique|http).{0,400}"
    r"(?:deliver|confirm|verif|verify|authenti|human|person|zugestellt|bestätig|livr|distribu|entreg)",
    re.IGNORECASE | re.DOTALL,
)
_AGGREGATE = re.compile(
    r"report[ _-]?domain:|\[?(?:preview|dmarc)\]? ?report (?:for|domain)|dmarc aggregate|tls-?rpt|smtp tls report", re.IGNORECASE
)


def read(message: Message) -> AutomaticReply | DeliveryReport | None:
    """Read what an automaton answered: for a refusal by the recipient's filter (RFC 5429) a DeliveryReport."""
    receipt = message.first(*_RECEIPT_TYPES)
    if receipt is not None:
        return _receipt(message, receipt)
    subject = message.headers.get(b"subject").strip()[:400]
    if _is_unsubscribe(message, subject):
        return AutomaticReply(reader="list-unsubscribe", automation=Automation.UNSUBSCRIBE)
    if _is_aggregate(message, subject):
        return None
    if _is_challenge(message, subject):
        return AutomaticReply(reader="challenge", automation=Automation.CHALLENGE)
    if _is_reply(message, subject):
        return AutomaticReply(reader="rfc3834", automation=Automation.REPLY)
    return None


def _receipt(message: Message, receipt: Part) -> AutomaticReply | DeliveryReport:
    """Tell a read receipt from a refusal: both say `deleted`, only the latter says so in words."""
    notice = Headers(b"\n".join(line for line in receipt.decoded()[:_TEXT_LIMIT].splitlines() if line.strip()))
    text = message.first("text/plain") or message.first("text/html")
    words = text.text()[:_TEXT_LIMIT] if text else ""
    told = f"{message.headers.get(b'auto-submitted')} {message.headers.get(b'subject')} {words}"
    kind = notice.get(b"disposition").rpartition(";")[2].strip().lower()
    recipient = address(notice.get(b"final-recipient"))
    if recipient is None or not kind.startswith(("deleted", "denied", "failed")) or _NOT_READ.search(told) or not _REFUSED.search(told):
        return AutomaticReply(reader="rfc8098", automation=Automation.READ_RECEIPT)
    diagnostic = clean(words)
    status = RecipientStatus(
        action=Action.FAILED,
        final_recipient=recipient,
        original_recipient=address(notice.get(b"original-recipient")),
        reply=find_reply(diagnostic),
        diagnostic=diagnostic,
    )
    reporting = clean(notice.get(b"reporting-ua").partition(";")[0], 255)
    return DeliveryReport(
        reader="rfc5429", standard=False, recipients=(status,), reporting_mta=reporting or None, returned=returned(message)
    )


def _is_unsubscribe(message: Message, subject: str) -> bool:
    """Whether a mail client followed a mailto of List-Unsubscribe (RFC 2369): the subject says so, and the body no more than that."""
    if b"x-apple-unsubscribe" in message.headers:
        return True
    found = _UNSUBSCRIBE.match(subject)
    if not found or len(subject) - found.end() > 100:
        return False
    text = message.first("text/plain") or message.first("text/html")
    words = text.text()[:_TEXT_LIMIT].split() if text else []
    if len(words) <= _FEW_WORDS:
        return len(message.parts) <= 2
    return len(words) <= 60 and bool(re.search("automatic|generated", " ".join(words), re.IGNORECASE))


def _is_aggregate(message: Message, subject: str) -> bool:
    """Whether it is a DMARC or TLS report about many mails (RFC 7489, 8460): nobody's answer."""
    if b"tls-report-domain" in message.headers or _AGGREGATE.match(subject):
        return True
    return parameter(message.headers.get(b"content-type"), "report-type").lower() == "tlsrpt"


def _is_challenge(message: Message, subject: str) -> bool:
    headers = message.headers
    if any(name in headers for name in _CHALLENGING):
        return not named_bounce(headers)
    if not _CHALLENGE_SUBJECT.match(subject):
        return False
    if not (_is_marked(headers) or b"in-reply-to" in headers or b"references" in headers or has_null_path(headers)):
        return False
    text = message.first("text/plain") or message.first("text/html")
    return text is not None and _CHALLENGE_TEXT.search(text.text()[:_TEXT_LIMIT]) is not None


def _is_reply(message: Message, subject: str) -> bool:
    """Whether an autoresponder wrote it. Its subject may quote one that speaks of bounces; a mail system's may not."""
    headers = message.headers
    named = _SUBJECT.match(subject) is not None
    automatic = _is_automatic(headers)
    if from_mail_system(headers):
        return named and automatic and not named_bounce(headers)
    if named:
        return automatic or _is_marked(headers) or has_null_path(headers) or b"in-reply-to" in headers
    return automatic and not named_bounce(headers)


def _is_automatic(headers: Headers) -> bool:
    """Whether a field that is meant to say so says that no person wrote it (RFC 3834 section 5, and its forerunners)."""
    submitted = headers.get(b"auto-submitted").lower()
    if submitted.startswith(("auto-", "vacation")):
        return True
    if headers.get(b"precedence").lower().replace("-", "_").startswith("auto_reply"):
        return True
    return any(name in headers and headers.get(name).lower() not in ("no", "false", "0") for name in _ANSWERING)


def _is_marked(headers: Headers) -> bool:
    """Whether there is at least a weak sign of automation."""
    if _is_automatic(headers) or b"x-auto-response-suppress" in headers:
        return True
    return headers.get(b"precedence").lower() in ("bulk", "junk", "list")
