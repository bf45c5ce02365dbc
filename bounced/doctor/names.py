"""What the DNS says of our return-path domains: MX, PTR, SPF (RFC 7208), DMARC (RFC 7489); and whether what the MX names is us.

For: `bounced doctor`, which asks by dnspython and connects to port 25. Never: a check inside the daemon.
"""

import ipaddress
import smtplib
from collections.abc import Callable, Iterator, Sequence

import dns.exception
import dns.rdatatype
import dns.resolver
import dns.reversename

from bounced.doctor import Finding, failure, ok, skipped, warning

_SECONDS = 5.0
Probe = Callable[[str, int], "str | None"]
"""Connects to a host and port and proves that it is us: None, or what is wrong."""


class NoAnswerError(Exception):
    """The name servers did not answer: nothing can be said."""


class Names:
    """The DNS, asked at `nameserver` (`address` or `address:port`), or at the system's."""

    def __init__(self, nameserver: str | None = None) -> None:
        """Ask nothing yet. Raises ValueError for what is no address, NoAnswerError where the system names no server."""
        try:
            self._resolver = dns.resolver.Resolver(configure=nameserver is None)
        except dns.resolver.NoResolverConfiguration as error:
            raise NoAnswerError(str(error)) from None
        if nameserver is not None:
            host, colon, port = nameserver.rpartition(":")
            if not colon or (":" in host and not host.startswith("[")):
                host, port = nameserver, "53"
            self._resolver.nameservers = [str(ipaddress.ip_address(host.strip("[]")))]
            self._resolver.port = int(port)
        self._resolver.lifetime = _SECONDS

    def ask(self, name: str, kind: str) -> Sequence[str]:
        """Return the records of a kind as text, none where there are none. Raises NoAnswerError."""
        try:
            answer = self._resolver.resolve(name, kind, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.name.LabelTooLong, dns.name.EmptyLabel):
            return ()
        except dns.exception.DNSException as error:
            raise NoAnswerError(f"{name} {kind}: {type(error).__name__}") from None
        if answer.rdtype == dns.rdatatype.TXT:
            return [b"".join(record.strings).decode("ascii", "replace") for record in answer]
        return [record.to_text() for record in answer]

    def addresses(self, host: str) -> Sequence[str]:
        """Return the IP addresses of a host. Raises NoAnswerError."""
        return [*self.ask(host, "A"), *self.ask(host, "AAAA")]

    def names_of(self, address: str) -> Sequence[str]:
        """Return the names that an IP address has in reverse (PTR), without the final dot. Raises NoAnswerError."""
        return [name.removesuffix(".") for name in self.ask(dns.reversename.from_address(address).to_text(), "PTR")]


def examined(names: Names, domain: str, probe: Probe) -> Iterator[Finding]:
    """Look at all that the DNS says of a return-path domain."""
    for check in (_mx, _spf, _dmarc):
        try:
            yield from check(names, domain, probe)
        except NoAnswerError as error:
            name = check.__name__.strip("_")
            yield failure(
                f"{name} {domain}", f"the name servers do not answer ({error})", "Look at /etc/resolv.conf, or ask with --nameserver."
            )


def _mx(names: Names, domain: str, probe: Probe) -> Iterator[Finding]:
    records = sorted((int(record.split()[0]), record.split()[1].removesuffix(".")) for record in names.ask(domain, "MX"))
    if not records:
        yield failure(f"mx {domain}", "there is no MX record", f"Add one that names this machine: {domain}. MX 10 mail.example.net.")
        return
    if any(not host for _, host in records):
        yield failure(f"mx {domain}", "the MX record is null: the domain takes no mail (RFC 7505)", "Name this machine in its place.")
        return
    yield ok(f"mx {domain}", ", ".join(f"{preference} {host}" for preference, host in records))
    for _, host in records:
        found = names.addresses(host)
        if not found:
            yield failure(f"mx {host}", "the MX has no address", f"Add an A or AAAA record for {host}.")
        for address in found:
            wrong = probe(address, 25)
            if wrong is None:
                yield ok(f"port 25 {address}", f"{host} takes our signed return paths, and no forged ones")
            else:
                yield failure(
                    f"port 25 {address}", f"{host}: {wrong}", "Bounces of this domain go there: let its MX point here, and open port 25."
                )
            yield _reverse(names, address)


def _reverse(names: Names, address: str) -> Finding:
    check = f"ptr {address}"
    if not ipaddress.ip_address(address).is_global:
        return skipped(check, "no address of the Internet")
    pointing = names.names_of(address)
    if not pointing:
        return warning(
            check, "it has no name", "Have your provider set its PTR record to the name of this machine: who sends from it needs it."
        )
    if not any(address in names.addresses(name) for name in pointing):
        return warning(check, f"its name {pointing[0]} does not lead back to it", f"Give {pointing[0]} an A or AAAA record with it.")
    return ok(check, pointing[0])


def _spf(names: Names, domain: str, _: Probe) -> Iterator[Finding]:
    check, strict = f"spf {domain}", f'{domain}. TXT "v=spf1 mx -all"'
    records = [text for text in names.ask(domain, "TXT") if text.lower() == "v=spf1" or text.lower().startswith("v=spf1 ")]
    if not records:
        yield failure(check, "there is no SPF record: anybody may use it as a sender", f"Add one that ends in -all: {strict}")
    elif len(records) > 1:
        yield failure(check, f"there are {len(records)} SPF records, and so none counts (RFC 7208 section 4.5)", "Leave one of them.")
    else:
        words = records[0].lower().split()
        redirected = any(word.startswith("redirect=") for word in words)
        if "-all" in words or redirected:
            yield ok(check, records[0])
        elif any(word in words for word in ("all", "+all", "?all")):
            yield failure(check, f"it lets everybody send: {records[0]}", f"End it in -all: {strict}")
        else:
            yield warning(
                check, f"it is not strict: {records[0]}", f"End it in -all, so that forged mail is refused and bounces less: {strict}"
            )


def _dmarc(names: Names, domain: str, _: Probe) -> Iterator[Finding]:
    check = f"dmarc {domain}"
    labels = domain.split(".")
    # The organizational domain is found by walking up: a record above speaks for what is below (sp=, else p=).
    for number in range(len(labels) - 1):
        at = ".".join(labels[number:])
        records = [text for text in names.ask(f"_dmarc.{at}", "TXT") if text.lower().replace(" ", "").startswith("v=dmarc1")]
        if not records:
            continue
        tags = dict(part.strip().lower().split("=", 1) for part in records[0].split(";") if "=" in part)
        policy = tags.get("sp" if number else "p", tags.get("p", "none")).strip()
        if policy in ("reject", "quarantine"):
            yield ok(check, f"p={policy}, of {at}")
        else:
            yield warning(check, f"the policy of {at} is {policy!a}: forged mail is delivered", 'Go to "p=quarantine", then "p=reject".')
        return
    yield warning(check, "there is no DMARC record", f'Add one: _dmarc.{".".join(labels[-2:])}. TXT "v=DMARC1; p=reject"')


def probe_with(genuine: str, forged: str) -> Probe:
    """Return a probe that offers a genuine return path, and a forged one, as a bounce would: only who has our keys tells them apart."""

    def probe(host: str, port: int) -> str | None:
        try:
            with smtplib.SMTP(host, port, timeout=_SECONDS) as smtp:
                smtp.ehlo_or_helo_if_needed()
                smtp.mail("")
                code, text = smtp.rcpt(genuine)
                if code >= 300:
                    return f"a signed return path is refused: {code} {text.decode('ascii', 'replace')[:200]}"
                smtp.rset()
                smtp.mail("")
                if smtp.rcpt(forged)[0] < 300:
                    return "a forged return path is accepted, and would be bounced to whoever was forged"
        except (OSError, smtplib.SMTPException) as error:
            return f"no bounce can be brought there: {getattr(error, 'strerror', None) or type(error).__name__}"
        return None

    return probe
