"""The certificate for STARTTLS: what is told of a good one, and of each way in which a pair can be wrong."""

import re
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bounced.fault import OperatorFault
from bounced.smtp.certificate import load

DAY = 86400


class Authority:
    """Keys and certificates as an operator may have them."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def key(self, name: str, *options: str) -> Path:
        """Make a private key."""
        path = self._place / f"{name}.key"
        self._openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path, *options)
        return path

    def certificate(self, key: Path, *, days: int = 90, usage: str = "serverAuth") -> Path:
        """Make a certificate for a key."""
        path = key.with_suffix(".pem")
        names = ("-subj", "/CN=mx.example.net", "-addext", "subjectAltName=DNS:mx.example.net,DNS:mail.example.net")
        self._openssl("req", "-x509", "-new", "-key", key, "-days", str(days), *names, "-addext", f"extendedKeyUsage={usage}", "-out", path)
        return path

    def _openssl(self, *arguments: str | Path) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture
def authority(tmp_path: Path, need_program: Callable[[str], str]) -> Authority:
    """Something that makes certificates."""
    need_program("openssl")
    return Authority(tmp_path)


def test_a_good_pair(authority: Authority) -> None:
    """Names and the last day are told, and what shakes hands speaks modern TLS alone."""
    key = authority.key("mx")
    found = load(authority.certificate(key), key)

    assert found.names == ("mx.example.net", "mail.example.net")
    assert found.days_left(time.time()) in {89, 90}
    assert found.expires == time.strftime("%Y-%m-%d", time.gmtime(found.ends))
    assert found.context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert all(re.search(r"ECDHE|DHE|TLS_", cipher["name"]) for cipher in found.context.get_ciphers())
    assert found.context.options & ssl.OP_NO_RENEGOTIATION


def test_a_pair_in_one_file(authority: Authority) -> None:
    """Key and certificate may be one file."""
    key = authority.key("mx")
    both = authority.certificate(key)
    both.write_bytes(both.read_bytes() + key.read_bytes())

    assert load(both, None).names == ("mx.example.net", "mail.example.net")


def test_an_expired_certificate_serves(authority: Authority) -> None:
    """An expired certificate is loaded, and says how long it has been over: most senders do not look."""
    key = authority.key("mx")
    found = load(authority.certificate(key, days=1), key)

    assert found.days_left(found.ends - 1) == 0
    assert found.days_left(found.ends + 1) == -1
    assert found.days_left(found.ends + 3 * DAY + 1) == -4


def test_each_wrong_pair_has_its_sentence(authority: Authority, tmp_path: Path) -> None:
    """What is missing, empty, no PEM, encrypted, of another key or for another use is told by its file, with a next step."""
    key, other = authority.key("mx"), authority.key("other")
    certificate = authority.certificate(key)
    encrypted = authority.key("encrypted", "-aes256", "-pass", "pass:secret")
    empty, none = tmp_path / "empty", tmp_path / "none"
    empty.write_text("")
    mail_client = authority.certificate(authority.key("client"), usage="clientAuth")
    for one, its_key, told in (
        (none, key, f"cannot read {none}: No such file"),
        (certificate, none, f"cannot read {none}: No such file"),
        (tmp_path, key, f"cannot read {tmp_path}"),
        (empty, key, f"there is no certificate in PEM form in {empty}"),
        (key, key, f"there is no certificate in PEM form in {key}"),
        (certificate, empty, f"cannot use {certificate} with the key in {empty}"),
        (certificate, other, f"the key in {other} is not that of the certificate in {certificate}"),
        (certificate, None, f"cannot use {certificate} with the key in {certificate}"),
        (certificate, encrypted, f"the key in {encrypted} is encrypted"),
        (mail_client, tmp_path / "client.key", f"the certificate in {mail_client} cannot serve: "),
    ):
        with pytest.raises(OperatorFault, match=re.escape(told)) as caught:
            load(one, its_key)
        assert caught.value.hint
