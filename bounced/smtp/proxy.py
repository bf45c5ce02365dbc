"""The PROXY protocol, versions 1 and 2: who a proxy's client is (haproxy.org/download/2.9/doc/proxy-protocol.txt).

For: reading the header that comes before everything else. Never: deciding from whom one is believed; that is the session's.
"""

import ipaddress
import struct
from dataclasses import dataclass

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_LONGEST_LINE = 107
"""Octets of a header of version 1, with its CRLF."""

_MOST_V2 = 4096
"""Octets after the fixed part of a header of version 2: addresses and what a proxy may add to them (a certificate's names, at most)."""

_FAMILIES = {0x11: 4, 0x21: 16}
"""Octets of an address: TCP over IPv4, TCP over IPv6. Of other families nothing is known of the client."""


class ProxyError(ValueError):
    """The octets are no PROXY header."""


@dataclass(frozen=True, slots=True)
class Header:
    """A header of `length` octets. `client` is the client's IP address; None where the proxy speaks for itself or does not know."""

    client: str | None
    length: int


def read(octets: bytes) -> Header | None:
    """Read the header at the start of `octets`; None while it is not whole. Raises ProxyError where it cannot become one."""
    if octets.startswith(_SIGNATURE[: len(octets)]):
        return _version_2(octets)
    if octets.startswith(b"PROXY "[: len(octets)]):
        return _version_1(octets)
    raise ProxyError


def _version_1(octets: bytes) -> Header | None:
    end = octets.find(b"\r\n", 0, _LONGEST_LINE)
    if end < 0:
        if len(octets) >= _LONGEST_LINE:
            raise ProxyError
        return None
    match octets[:end].decode("latin-1").split(" "):
        case ["PROXY", "UNKNOWN", *_]:
            return Header(None, end + 2)
        case ["PROXY", "TCP4" | "TCP6" as family, client, server, *ports] if len(ports) == 2 and all(map(_is_port, ports)):
            address = _address(client, family)
            _address(server, family)
            return Header(address, end + 2)
        case _:
            raise ProxyError


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) < 65536


def _address(text: str, family: str) -> str:
    try:
        return _spelled(ipaddress.IPv4Address(text) if family == "TCP4" else ipaddress.IPv6Address(text.partition("%")[0]))
    except ValueError:
        raise ProxyError from None


def _spelled(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    # A proxy that listens for both families on one socket tells all of IPv4 as one /64, and limits go by that.
    return str(address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else str(address)


def _version_2(octets: bytes) -> Header | None:
    if len(octets) < 16:
        return None
    version_and_command, family, length = struct.unpack_from(">BBH", octets, 12)
    if version_and_command not in {0x20, 0x21} or length > _MOST_V2:
        raise ProxyError
    if len(octets) < 16 + length:
        return None
    size = _FAMILIES.get(family)
    if version_and_command == 0x20 or size is None:  # LOCAL: the proxy's own connection, such as a health check
        return Header(None, 16 + length)
    if length < 2 * size + 4:
        raise ProxyError
    return Header(_spelled(ipaddress.ip_address(octets[16 : 16 + size])), 16 + length)
