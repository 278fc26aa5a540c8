"""Which addresses are public, and what the others are called."""

from __future__ import annotations

import ipaddress

import pytest

from sidecar.egress import addresses

NOT_PUBLIC = [
    *(("0.0.0.0", "unspecified"), ("0.1.2.3", "unspecified"), ("10.0.0.1", "private"), ("172.16.0.1", "private")),
    *(("172.31.255.255", "private"), ("192.168.1.1", "private"), ("127.0.0.1", "loopback")),
    *(("127.255.255.254", "loopback"), ("169.254.0.1", "link-local"), ("169.254.169.254", "metadata")),
    *(("100.64.0.1", "shared (CGNAT)"), ("100.127.255.255", "shared (CGNAT)"), ("100.100.100.200", "metadata")),
    *(("192.0.0.8", "reserved"), ("192.0.0.192", "metadata"), ("192.0.2.1", "documentation")),
    *(("198.51.100.7", "documentation"), ("203.0.113.9", "documentation"), ("192.88.99.1", "6to4")),
    *(("198.18.0.1", "benchmark"), ("198.19.255.255", "benchmark"), ("224.0.0.1", "multicast")),
    *(("239.255.255.250", "multicast"), ("240.0.0.1", "reserved"), ("255.255.255.255", "reserved")),
    *(
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::ffff:8.8.8.8", "IPv4-mapped"),
        ("::ffff:127.0.0.1", "IPv4-mapped"),
    ),
    *(("::127.0.0.1", "IPv4-compatible"), ("64:ff9b::8.8.8.8", "NAT64"), ("64:ff9b:1::1", "NAT64")),
    *(("2002:7f00:1::", "6to4"), ("2002:808:808::1", "6to4"), ("2001::1", "Teredo"), ("2001:0:1:2::", "Teredo")),
    *(("2001:2::1", "benchmark"), ("2001:10::1", "reserved"), ("2001:db8::1", "documentation")),
    *(("3fff::1", "documentation"), ("fc00::1", "private"), ("fd12:3456::1", "private")),
    *(
        ("fd00:ec2::254", "metadata"),
        ("fe80::1", "link-local"),
        ("fec0::1", "site-local"),
        ("ff02::1", "multicast"),
    ),
    *(("100::1", "reserved"), ("4000::1", "reserved"), ("5f00::1", "reserved"), ("fe80::1%1", "link-local")),
    *(("2a00:1450::1%2", "reserved"),),
]


@pytest.mark.parametrize(("text", "kind"), NOT_PUBLIC)
def test_what_is_not_public_is_known_by_name(text: str, kind: str) -> None:
    assert addresses.kind(ipaddress.ip_address(text)) == kind


@pytest.mark.parametrize(
    "text",
    [
        *("1.1.1.1", "8.8.8.8", "93.184.216.34", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"),
        *("126.255.255.255", "128.0.0.1", "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.167.255.255"),
        *("198.17.255.255", "198.20.0.0", "223.255.255.255", "2a00:1450:4001::200e", "2606:4700::1111"),
    ],
)
def test_public_addresses_are(text: str) -> None:
    assert addresses.kind(ipaddress.ip_address(text)) is None


def test_no_policy_opens_what_names_no_host() -> None:
    for text in ("0.0.0.0", "169.254.169.254", "169.254.1.1", "fd00:ec2::254", "fe80::1", "224.0.0.1", "::"):
        assert addresses.never(ipaddress.ip_address(text)), text
    for text in ("10.0.0.1", "127.0.0.1", "::1", "fd12::1", "8.8.8.8"):
        assert not addresses.never(ipaddress.ip_address(text)), text


def test_the_hosts_own_addresses_are_those_that_can_be_bound() -> None:
    assert addresses.own(ipaddress.ip_address("127.0.0.1"))
    assert not addresses.own(ipaddress.ip_address("93.184.216.34"))
    assert not addresses.own(ipaddress.ip_address("2606:4700::1111"))


def test_a_host_that_can_bind_any_address_learns_nothing_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_bindable", lambda family, address: True)
    assert not addresses.own(ipaddress.ip_address("93.184.216.34"))
