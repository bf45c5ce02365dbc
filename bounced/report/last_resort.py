"""The last tier: letters that no family's reader knows, searched freely; then flufl.bounce.

For: bounces of unknown systems, when sender, subject and text together say that it is one. Never: raising, running long (flufl.bounce gets
a copy of bounded size, header and nesting), or taking a person's mail about bounces for a bounce.
"""

import email
import re

from flufl.bounce import all_failures

from bounced.report import DeliveryReport, compose, fields, prose
from bounced.report.mime import Message
from bounced.report.prose import Letter

READER = "prose"
FLUFL_READER = "flufl.bounce"
FLUFL_LIMIT = 32 << 10
_FLUFL_LINES = 250  # its detectors take 15 us a line
_FLUFL_HEADER_LIMIT = 8 << 10
_FLUFL_LINE_LIMIT = 998
_MACHINE = re.compile(
    r"mailer[-_. ]?daemon|post[-_.]?master|mail[-_. ]?deliver\w*|delivery[-_. ]?(?:sub)?system|mail[-_. ]?(?:sub)?system"
    r"|system administrator|^\"?administrator|mail administrator|"
    r"^<>$|daemon@|bounces?@|double-bounce|mail ?router|mmsc ndr|gateway|mailgate|interscan|mail error|undeliverable|smtp[-_.]?server"
    r"|mxmail|returned mail|system attendant|microsoftexchange[0-9a-f]{6}|non-?delivery|\bndr@|e?mail[-_. ]?server\b|\bmailer@|virusalert@"
    r"|anti-?virus[\w-]{0,30}@|\bgwia@",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"""
    undeliver|deliver(?:y|ed|ing)?\b.{0,40}(?:fail|error|problem|status|notif|report|delay|unsuccess|impossible|suspend|abort)
    |(?:fail|error|problem|unsuccess|unable|impossible).{0,40}deliver|return(?:ed)?[ ](?:mail|message|to[ ]sender)|failure[ ]notice
    |mail[ ](?:system[ ])?(?:error|fail|reject|refus)|message[ ](?:reject|refus|bounce|undeliv|delay|not[ ]deliv|could[ ]not)
    |not[ ](?:be[ ])?deliver(?:ed|able)|nondeliver|non-deliver|bounce|rejected|delayed[ ]mail|warning:[ ](?:could[ ]not[ ]send|message)
    |user[ ]unknown|unknown[ ](?:user|address|recipient)|mailbox[ ](?:full|unavailable|is[ ]full)|quota|unzustellbar|zustell
    |nicht[ ]zugestellt|fehlgeschlagen|non[ ](?:distribu|remis|consegn|recapit|d[ée]livr)|[ée]chec|remise[ ]diff|mancata[ ]consegna
    |impossibile|recapito|devuelto|no[ ](?:se[ ])?(?:ha[ ]podido[ ]|pudo[ ]|puede[ ])?(?:entreg|enviar)|entrega[ ]|rechazado
    |n[ãa]o[ ](?:foi[ ])?entreg|falha|falla|devolvid|onbestelbaar|niet[ ](?:af)?(?:geleverd|bezorgd|bestelbaar)|bezorging
    |kunne[ ]ikke[ ]lever|kan[ ]ikke[ ]lever|kan[ ]inte[ ]lever|(?:går|gick)[ ]inte[ ]att[ ]lever|lever(?:ans|ing)|ikke[ ]lever
    |mis(?:lyk|slyck)|olever|ei[ ]voi[ ]toimittaa|toimitus|niedostarcz|dostarczen|zwrot|nedoru[čc]|doru[čc]en|neisporu[čc]
    |nedostavlj|k[ée]zbes[íi]t|livr(?:a|at)|недостав|не[ ]доставл|доставк|не[ ]уда[её]тся[ ]доставить|не[ ]удалось[ ]доставить
    |невозможно[ ]доставить|возвращ|не[ ]вдалося|доставлен|送信(?:でき|エラー)|配信(?:でき|エラー|失敗|不能|遅延)
    |配送(?:できません|エラー|失敗)|エラー(?:通知|メール)|不達|未達|返送|退信|无法(?:投递|送达|传递)|無法(?:投遞|傳遞|送達)
    |投[递遞]失[败敗]|系统退信|未(?:传递|傳遞|送[达達])|延[迟遲]|반송|배달|전송[ ]?실패|발송[ ]?실패|מסירה|לא[ ]נמסר|التسليم
    |มิได้ส่ง|ไม่สามารถส่ง|การส่ง|không[ ](?:thể[ ]gửi|gửi[ ]được|thể[ ]chuyển)|gagal|tidak[ ]terkirim|teslim|iletilemedi|παράδοσ
    |παραδο|επιστροφή
    """,
    re.IGNORECASE | re.VERBOSE,
)
_BODY = re.compile(
    r"""
    (?:could|can|was|were|been|is)[ ]?n[o']t[ ](?:be[ ])?(?:able[ ]to[ ]be[ ])?(?:delivered|deliver|sent|reach)
    |couldn't[ ]be[ ](?:delivered|sent)|not[ ]deliverable|unable[ ]to[ ](?:be[ ])?deliver|undeliverable|un-?deliver
    |delivery[ ](?:has[ ]|to[ ])?.{0,60}(?:fail|delay|reject)|permanent[ ](?:fatal[ ])?error|fatal[ ]error
    |not[ ](?:been[ ])?(?:yet[ ])?delivered|did[ ]not[ ]reach|(?:was|were|been)[ ](?:not[ ])?(?:rejected|returned|refused)
    |user[ ]unknown|unknown[ ]user|no[ ]such[ ](?:user|mailbox|address|recipient)|mailbox[ ](?:is[ ])?(?:full|unavailable|not[ ]found)
    |quota[ ]exceeded|over[ ]quota|transcript[ ]of[ ]session|bounce|failed[ ]to[ ]deliver
    |error[ ](?:occurred[ ])?(?:while|when|delivering|sending)|trouble[ ]deliver|nicht[ ](?:zugestellt|erreicht)|unzustellbar
    |nachrichtenzustellung|zustellung[ ].{0,60}(?:fehl|nicht|verz)
    |pas[ ](?:pu[ ]|encore[ ])?(?:été[ ]|être[ ]|etre[ ])?(?:remis|distribu|d[ée]livr|envoy)|[ée]chec[ ]de[ ]la[ ]remise
    |la[ ]remise[ ].{0,60}(?:diff|[ée]chou)|non[ ](?:è[ ]stato|puo|può|e'[ ]stato).{0,40}(?:consegna|recapita|invia)
    |recapito[ ].{0,60}(?:non[ ]riuscito|ritardo)|no[ ](?:se[ ])?(?:ha[ ]podido|pudo|puede|ha).{0,40}(?:entreg|enviar|enviad)
    |error[ ]de[ ]entrega|se[ ]ha[ ]retrasado[ ]la[ ]entrega|n[ãa]o[ ](?:pode|foi|p[ôo]de).{0,40}(?:entreg|enviad)|falha[ ]na[ ]entrega
    |entrega[ ].{0,60}atrasad|niet[ ](?:worden[ ])?(?:af)?(?:geleverd|bezorgd)|levering[ ].{0,60}(?:mislukt|vertraagd|misly|forsink)
    |inte[ ](?:att[ ])?lever|leverans.{0,60}(?:misslyck|försena)|ikke[ ](?:blive[ ]|bli[ ])?lever
    |toimitus[ ].{0,60}(?:epäonnistu|viivästy)|ei[ ]voitu[ ]toimittaa|dostarcz.{0,60}(?:nie[ ]powiod|opóźn)
    |nie[ ](?:można|udało|mog).{0,40}dostarcz|doru[čc].{0,60}(?:nezda[řr]il|nepoda[řr]il|zpožd|oneskor|zlyhal)
    |nem[ ](?:sikerült|lehet).{0,40}k[ée]zbes[íi]t|k[ée]zbes[íi]t.{0,60}(?:sikertelen|késik)
    |livrarea[ ].{0,60}(?:nu[ ]a[ ]reușit|întârzi)|nu[ ]a[ ]putut[ ]fi[ ]livrat
    |не[ ](?:может|могло|удалось|уда[её]тся|был[оа]?|доставлен).{0,40}(?:доставл|доставить|доставк)|сбой[ ]доставки
    |доставка[ ].{0,60}отложен|еще[ ]не[ ]доставлен|не[ ]вдалося.{0,40}доставити|παράδοση[ ].{0,60}(?:απέτυχε|καθυστερ)
    |teslim[ ](?:başarısız|edilemedi|gecikti)|iletiniz.{0,60}teslim|送信(?:でき|に失敗)|配信(?:でき|に失敗|が遅延)
    |配送(?:でき|に失敗)|届け(?:でき|られ)|宛先不明|无法(?:投递|送达|发送)|未能向|[传傳][递遞].{0,30}(?:失[败敗]|延)
    |無法(?:投遞|傳遞|送達|寄)|不存在|전달(?:되지|할[ ]수)|배달(?:되지|하지|이[ ]지연)|המסירה[ ].{0,60}נכשלה|فشل[ ]التسليم
    |การส่ง.{0,60}ล้มเหลว|gửi[ ]đến.{0,60}không[ ]thành[ ]công
    """,
    re.IGNORECASE | re.VERBOSE,
)
_subject_says, _body_says, _machine = map(fields.blind, (_SUBJECT, _BODY, _MACHINE))


def read(letter: Letter) -> DeliveryReport | None:
    """Search a letter that looks like a bounce for its recipients and their replies; at last ask flufl.bounce for addresses."""
    if not looks_like_bounce(letter):
        return None
    addresses = recipients(letter)
    if addresses:
        return compose.of_addresses(letter, READER, addresses)
    if by_machine(letter):
        named = flufl_addresses(letter.message)
        if named:
            return compose.of_addresses(letter, FLUFL_READER, named)
    # The return path may still tell whom it is about: then the reason is what is needed of the letter.
    if sent_by_daemon(letter) and _says_so(letter) == (True, True):
        return compose.nameless(letter, READER)
    return None


_AUTOMATON = re.compile(
    r"(?:^|[<\s\"])(?:(?:no|do[-_.]?not)[-_.]?reply|(?:mail[-_.]?|system[-_.]?)?(?:admin|system|server|robot|root|auto\w{0,20})@)",
    re.IGNORECASE,
)
_ANSWER = re.compile(
    r"\s*(?:re|r|aw|antw|antwort|sv|vs|vá|odp|rif|res|ynt|fwd?|wg|tr|rv|enc|i|pd|vl|doorst|továbbítás|ответ|回复|回覆|答复|转发|轉寄|返信|転送|답장|전달)"
    r"\s?(?:\[\d{1,3}\])?\s?[:：]",
    re.IGNORECASE,
)
"""Subjects of answers and of what is forwarded, in the languages of common mail programs."""
_DAEMON = re.compile(
    r"mailer[-_. ]?daemon|post[-_.]?master(?:@|>|$)|mail delivery (?:(?:sub)?system|service)|double-bounce@|^<>$|system attendant"
    r"|microsoftexchange[0-9a-f]{6}|-daemon@",
    re.IGNORECASE,
)


_MAIL_PROGRAM = re.compile(
    r"thunderbird|mozilla|apple mail|i(?:phone|pad|os) mail|outlook|evolution|roundcube|squirrelmail|horde|claws|kmail|the bat|em ?client"
    r"|mutt|gnus|alpine|pine|postbox|sylpheed|k-9|open-xchange|mailspring|foxmail|becky|yahoomail|zimbra",
    re.IGNORECASE,
)
_POSTMASTER = re.compile(r"postmaster", re.IGNORECASE)


def sent_by_daemon(letter: Letter) -> bool:
    """Whether the sender can be nothing but a mail system: its bounces may call themselves auto-replied."""
    if b"x-failed-recipients" in letter.message.headers:
        return True
    return is_daemon(letter.sender) and not by_postmaster_in_person(letter)


def by_postmaster_in_person(letter: Letter) -> bool:
    """Whether the sender's only likeness to a machine is that he is called postmaster, and he answers or writes in a mail program."""
    headers = letter.message.headers
    if not _POSTMASTER.search(letter.sender) or _machine(_POSTMASTER.sub("", letter.sender)):
        return False
    if letter.message.content_type == "multipart/report" or headers.get(b"return-path").strip() == "<>" or b"auto-submitted" in headers:
        return False
    if any(part.content_type not in prose.READABLE for part in letter.message.parts):
        return False
    answers = b"in-reply-to" in headers and _ANSWER.match(letter.subject)
    return bool(answers or _MAIL_PROGRAM.search(headers.get(b"user-agent") + headers.get(b"x-mailer")))


def is_daemon(sender: str) -> bool:
    """Whether a From names a mail system's own mailbox."""
    return bool(_DAEMON.search(sender))


def is_notice(letter: Letter) -> bool:
    """Whether a letter that calls itself automatic opens as a bounce, says so, and names who failed: somebody other than its sender."""
    if b"auto-submitted" not in letter.message.headers or by_person(letter) or _says_so(letter) != (True, True):
        return False
    named = prose.candidates(letter.note) if _SUBJECT.match(letter.subject.strip()) else []
    return bool(named) and all(address.lower() not in letter.sender.lower() for address in named)


def by_machine(letter: Letter) -> bool:
    """Whether header fields that bounces have name a mail system as the sender."""
    headers = letter.message.headers
    return (
        b"x-failed-recipients" in headers
        or letter.message.content_type == "multipart/report"
        or headers.get(b"return-path").strip().lower() in ("<>", "<mailer-daemon>")
        or (_machine(letter.sender) and not by_postmaster_in_person(letter))
    )


def looks_like_bounce(letter: Letter) -> bool:
    """Whether the signs together say bounce: a mail system as sender with fitting subject or text, or both of these with a reply.

    Then the subject must begin with what it says, unless an automaton sends it: articles and statistics speak of bounces later.
    """
    headers = letter.message.headers
    if any(name in headers for name in (b"list-id", b"list-post", b"list-unsubscribe")) or headers.get(b"precedence").lower() == "list":
        return False
    subject, body = _says_so(letter)
    if by_machine(letter):
        return subject or body
    plain = letter.subject.strip()
    opens = _SUBJECT.match(plain) and not plain.lower().startswith("bounce")
    if by_person(letter) or not (opens or b"auto-submitted" in headers or _AUTOMATON.search(letter.sender)):
        return False
    return subject and body and fields.find_reply(fields.clean(letter.note)) is not None


def by_person(letter: Letter) -> bool:
    """Whether a person answers or forwards: a bounce that is quoted in it was another's."""
    if by_machine(letter):
        return False
    return b"in-reply-to" in letter.message.headers or bool(_ANSWER.match(letter.subject)) or by_postmaster_in_person(letter)


def _says_so(letter: Letter) -> tuple[bool, bool]:
    """Whether the subject, and whether the text, speaks of a failed or late delivery."""
    text = " ".join(letter.note[:8000].split())
    return _subject_says(letter.subject[:300]), _body_says(text)


def recipients(letter: Letter) -> list[str]:
    """Return whom a letter names as failed; our own address (its To) and its sender are none of them."""
    headers = letter.message.headers
    failed = compose.failed_recipients(letter)
    if failed:
        return failed
    own = {address.lower() for address in fields.found_addresses(headers.get(b"to") + " " + letter.sender)}
    named = [address for address in prose.candidates(letter.note) if address.lower() not in own]
    if named:
        return named
    came_back = letter.returned
    to = [address for address in (came_back.recipients if came_back else ()) if address.lower() not in own]
    mentioned = [address for address in fields.found_addresses(letter.note) if address.lower() not in own]
    both = [address for address in mentioned if address.lower() in {one.lower() for one in to}]
    if both:
        return both
    if len(to) == 1:
        return to
    return mentioned if len(mentioned) == 1 else []


def flufl_addresses(message: Message) -> list[str]:
    """Return the addresses that flufl.bounce finds in a bounded copy: short header, flat parts, short lines. Total."""
    try:
        temporary, permanent = all_failures(email.message_from_bytes(_bounded_copy(message)))
        found = {str(address, "utf-8", "replace") for address in (*permanent, *temporary)}
    except Exception:  # noqa: BLE001 it raises TypeError, IndexError, AttributeError and more on odd input; a stranger's input proves nothing
        return []
    return sorted(address for address in map(fields.address, found) if address)[:50]


def _bounded_copy(message: Message) -> bytes:
    """A plain message with the From, To and Subject of `message` and its readable parts, flat."""
    header = b"".join(
        name.title() + b": " + message.headers.get(name).encode("ascii", "replace")[:200].replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"
        for name in (b"from", b"to", b"subject", b"x-failed-recipients", b"x-mailer")
        if name in message.headers
    )[:_FLUFL_HEADER_LIMIT]
    text = prose.note(message, cut=False).encode("ascii", "replace")[:FLUFL_LIMIT]
    lines = b"\n".join(line[:_FLUFL_LINE_LIMIT] for line in text.split(b"\n")[:_FLUFL_LINES])
    if b"from:" not in header.lower():
        header = b"From: unknown\n" + header  # without From it raises
    return header + b"Content-Type: text/plain\n\n" + lines
