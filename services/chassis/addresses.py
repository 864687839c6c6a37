"""Which addresses a client of ours may connect to, judged when it connects.

A name is judged by what it resolved to for this very connection, so a name that resolves anew in
between (DNS rebinding) gains nothing, and an address that is written out is judged like any other.
What is refused without a setting is never an API server, a Prometheus or a proxy: link-local
addresses, where clouds answer with credentials, and those that are unspecified, multicast or
reserved. Loopback and private ranges are where kind, minikube and most clusters are.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from services.chassis.errors import AddressDenied

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DENIED = (
    ("0.0.0.0/8", "unspecified"),
    ("169.254.0.0/16", "link-local, where clouds have their metadata"),
    ("192.0.0.0/24", "reserved, and metadata at Oracle"),
    ("100.100.100.200/32", "metadata at Alibaba"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved or broadcast"),
    ("::/128", "unspecified"),
    ("::/8", "reserved"),
    ("100::/8", "reserved, and discarded"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
    ("fd00:ec2::254/128", "metadata at Amazon"),
    ("fd20:ce::254/128", "metadata at Google"),
)
"""https://www.iana.org/assignments/iana-ipv4-special-registry and …ipv6-special-registry; the
metadata addresses are those that the clouds document."""
_ALWAYS = tuple((ipaddress.ip_network(text), why) for text, why in _DENIED)
_LOOPBACK_6 = ipaddress.IPv6Address("::1")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


class _Denied(OSError):
    """What a connector takes for a failed try of one address, and then tries the next."""

    def __init__(self, address: str) -> None:
        # The same text for all addresses of a name: asyncio's helpers keep an error that they all
        # share, and make a text of those that differ.
        super().__init__(errno.EACCES, "the address is not allowed")
        self.address = address


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Ranges that are denied besides those that always are, and ranges that are allowed anyway."""

    denied: tuple[Network, ...] = ()
    allowed: tuple[Network, ...] = ()

    def reason(self, text: str) -> str:
        """Why `text`, an IP address with or without a zone, is refused; "" when it is allowed."""
        address = _inner(ipaddress.ip_address(text.partition("%")[0]))
        if _among(address, self.allowed):
            return ""
        if _among(address, self.denied):
            return "denied by MESHBUS_ADDRESSES_DENIED"
        if address == _LOOPBACK_6:
            return ""
        return next((why for network, why in _ALWAYS if address in network), "")

    def socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for an entry of `getaddrinfo`, for a connector's `socket_factory`; raises an
        `OSError` that `denied_address` knows when the address is refused."""
        family, kind, protocol, _, address = info
        if self.reason(str(address[0])):
            raise _Denied(str(address[0]))
        return socket.socket(family=family, type=kind, proto=protocol)

    def denial(self, address: str, *, subject: str) -> AddressDenied:
        """The coded error for a refused address, for whoever asked for `subject`."""
        why = self.reason(address) or "not allowed"
        return AddressDenied(f"{subject} is at {address}, which is {why}", subject=subject)


def denied_address(error: BaseException) -> str:
    """The address that a policy refused, when a connection failed of it; else ""."""
    found = getattr(error, "os_error", error)
    return found.address if isinstance(found, _Denied) else ""


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Ranges such as 10.0.0.0/8, or single addresses; raises `ValueError` for what is none."""
    return tuple(ipaddress.ip_network(text) for text in texts)


def _among(address: Address, ranges: Iterable[Network]) -> bool:
    return any(address in network for network in ranges)


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for: whoever connects to the one gets the other."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address
