"""Whether a message calls itself a bounce: by its sender, its subject, or a header that only mail systems write.

For: keeping automatic replies and bounces apart where neither follows a standard. Never: proof; readers look at the content.
"""

import re

from bounced.report.mime import Headers, parameter

_MAIL_SYSTEM = re.compile(
    r"mailer[-_. ]?daemon|mail[-_. ]?daemon|post[-_. ]?master|mail delivery (?:sub)?system|microsoftexchange[0-9a-f]{32}|<>|"
    r"\b(?:mdaemon|mail-?system|delivery-?(?:status|failure)|mail-?(?:admin|router|gateway|delivery))[^@\s]{0,40}@",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"undeliver|non.?d[ei]liver|(?:un|non.?)zustellbar|returned (?:mail|to sender|message)|return(?:ed|ing) (?:mail|message)|"
    r"deliver(?:y|ed)?\b.{0,40}\b(?:fail|delay|problem|error|report|status|not|unable|impossible|warning)|"
    r"(?:fail|error|problem|unable|cannot|could ?n.t|not)\w{0,4}\b.{0,30}\bdeliver|failure notice|mail (?:system )?error|"
    r"bounce|rejected|message (?:status|delayed)|not (?:be )?delivered|mail (?:failure|status)|user unknown|"
    r"nicht zugestellt|zustell|unzustellbar|non remis|échec|non distribu|no se (?:ha )?(?:pudo|podido)|no entregad|devuelto|devolvid|"
    r"não entreg|mancata consegna|impossibile (?:re|in)|onbestelbaar|niet (?:worden )?(?:bezorgd|afgeleverd)|nie (?:można )?dor[ęe]cz|"
    r"недостав|не ?доставл|ошибка доставки|配信(?:不能|エラー|できません|失敗)|送信(?:エラー|できません)|エラーメール|未達|退信|投递失败|"
    r"无法(?:投递|送达)|無法(?:投遞|傳遞|送達)|반송|배달.{0,4}(?:못|실패)|전송 ?실패",
    re.IGNORECASE,
)
_HEADERS = (b"x-failed-recipients", b"x-ms-exchange-message-is-ndr")


def from_mail_system(headers: Headers) -> bool:
    """Whether From: or Sender: names a mail system, not a person."""
    return any(_MAIL_SYSTEM.search(headers.get(name)[:1000]) for name in (b"from", b"sender"))


def has_null_path(headers: Headers) -> bool:
    """Whether the message came with the null return path, as all notices do (RFC 5321 section 4.5.5): so do good autoresponders."""
    return headers.get(b"return-path").replace(" ", "") == "<>"


def named_bounce(headers: Headers) -> bool:
    """Whether the subject, the type or a header of its own kind calls the message a notice of non-delivery or delay."""
    if any(name in headers for name in _HEADERS) or _SUBJECT.search(headers.get(b"subject")[:400]):
        return True
    return "delivery-status" in parameter(headers.get(b"content-type"), "report-type").lower()
