"""The policy of addresses, as a table."""

from __future__ import annotations

import socket

import pytest

from services.chassis.addresses import AddressPolicy, denied_address, networks
from services.chassis.settings import ChassisSettings

_ALLOWED = [
    "127.0.0.1",
    "::1",
    "10.1.2.3",
    "172.18.0.2",
    "192.168.49.2",
    "100.64.0.1",
    "203.0.113.9",
    "fd00::1",
    "2001:db8::1",
    "::ffff:10.0.0.1",
]
_DENIED = [
    "0.0.0.0",
    "169.254.169.254",
    "169.254.0.1",
    "192.0.0.192",
    "100.100.100.200",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::2",
    "fe80::1",
    "fe80::1%eth0",
    "ff02::1",
    "fec0::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "::ffff:0.0.0.0",
]


@pytest.mark.parametrize("address", _ALLOWED)
def test_where_clusters_are_is_allowed(address: str) -> None:
    assert AddressPolicy().reason(address) == ""


@pytest.mark.parametrize("address", _DENIED)
def test_where_no_cluster_is_is_denied(address: str) -> None:
    assert AddressPolicy().reason(address)


@pytest.mark.parametrize(
    ("denied", "address"),
    [
        ("127.0.0.0/8", "127.0.0.1"),
        ("127.0.0.0/8", "::ffff:127.0.0.1"),
        ("127.0.0.0/8", "64:ff9b::7f00:1"),
        ("::1/128", "::1"),
        ("0.0.0.0/0", "10.0.0.1"),
    ],
)
def test_settings_deny_further_ranges(denied: str, address: str) -> None:
    assert not AddressPolicy().reason(address)
    assert AddressPolicy(denied=networks([denied])).reason(address)


def test_settings_allow_what_is_denied() -> None:
    policy = AddressPolicy(
        denied=networks(["0.0.0.0/0", "::/0"]),
        allowed=networks(["10.0.0.0/8", "169.254.10.0/24"]),
    )
    assert not policy.reason("10.9.9.9")
    assert not policy.reason("169.254.10.1")
    assert policy.reason("169.254.169.254")
    assert policy.reason("192.168.0.1")


def test_a_denied_address_gets_no_socket() -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 443))
    with pytest.raises(OSError, match="not allowed") as refused:
        AddressPolicy().socket(info)
    assert denied_address(refused.value) == "169.254.169.254"
    told = AddressPolicy().denial("169.254.169.254", subject="cluster x")
    assert "link-local" in told.summary
    assert "MESHBUS_ADDRESSES_ALLOWED" in told.remedy


def test_ranges_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHBUS_ADDRESSES_DENIED", "127.0.0.0/8, ::1/128")
    policy = ChassisSettings().address_policy
    assert policy.reason("127.0.0.1")
    assert policy.reason("::1")
    assert not policy.reason("10.0.0.1")
