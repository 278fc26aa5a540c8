"""What an `Egress` allows: names, ports, and addresses however they are written."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from sidecar.egress.errors import Refused
from sidecar.egress.names import target
from sidecar.egress.rules import Limits, Rules


def rules(mode: str = "list", *hosts: str, own: str | None = None, **more: Any) -> Rules:
    limits = Limits(mode=mode, hosts=list(hosts), **more)
    return Rules(limits, own=lambda address: str(address) == own)


def check(made: Rules, text: str, *found: str, plain: bool = False) -> str | None:
    """Why `text`, resolved to `found`, is refused; None where it is not."""
    try:
        wanted = target(text)
        made.check(wanted, plain=plain)
        if found:
            made.admit(wanted, [ipaddress.ip_address(address) for address in found])
    except Refused as error:
        return error.code
    return None


@pytest.mark.parametrize(
    "text",
    [
        # an address in any notation but its own
        *("2130706433:443", "017700000001:443", "0x7f000001:443", "0x7f.1:443", "127.1:443", "127.0.1:443"),
        *("0177.0.0.1:443", "127.0.0.01:443", "127.0.0.1.:443", "0x7f.0x0.0x0.0x1:443", "1.2.3.4.5:443"),
        *("256.1.1.1:443", "[0:0:0:0:0:0:0:1]:443", "[::FFFF:127.0.0.1]:443", "[::ffff:127.0.0.1]:443"),
        *("[fe80::1%eth0]:443", "[fe80::1%25eth0]:443", "::1:443", "[::1:443", "[127.0.0.1]:443", "[v1.x]:443"),
        *(
            "[2a00::01]:443",
            "[2a00:0::1]:443",
            "1.2.3:443",
            "0:443",
            "0x:443",
            "a.0x7f:443",
            "a.1:443",
            "٣.٣.٣.٣:443",
        ),
        # what is no name
        *("a b:443", "a..b:443", ".a:443", "a..:443", "-a.com:443", "a-.com:443", "a_:b:443", "a%00.com:443"),
        *(
            "user@a.com:443",
            "a.com/x:443",
            "a.com#:443",
            "a\\b.com:443",
            "ａ.com:443",
            "bücher.de:443",
            ":443",
            "*:443",
        ),
        *("*.a.com:443", "x" * 64 + ".com:443", ".".join(["x" * 60] * 5) + ":443"),
        # what is no port
        *("a.com", "a.com:", "a.com:0", "a.com:65536", "a.com:0443", "a.com:+443", "a.com: 443", "a.com:4_43"),
        *("a.com:443 ", "a.com:44३", "a.com:999999", "a.com:-1", "[::1]", "[::1]443"),
    ],
)
def test_what_is_neither_a_plain_name_nor_a_plain_address_is_refused(text: str) -> None:
    for made in (rules("public"), rules("list", "a.com:443", "*.com:443", private=["127.0.0.1:443"])):
        assert check(made, text) == "bad_target"


def test_names_are_one_whatever_their_case_and_with_a_dot_at_the_end() -> None:
    for made in (rules("list", "API.Example.com:443"), rules("list", "api.example.com.:443")):
        for text in ("api.example.com:443", "API.EXAMPLE.COM:443", "api.example.com.:443", "aPi.eXample.com.:443"):
            assert check(made, text, "93.184.216.34") is None
            assert target(text).host == "api.example.com"


def test_a_list_is_exact_and_each_port_is_its_own() -> None:
    made = rules("list", "api.example.com:443", "db.example.com:5432", "xn--bcher-kva.de:443")
    assert check(made, "db.example.com:5432") is None
    assert check(made, "xn--bcher-kva.de:443") is None
    assert check(made, "db.example.com:443") == "port_not_allowed"
    for text in ("example.com:443", "x.api.example.com:443", "api.example.com.evil.com:443", "1.1.1.1:443"):
        assert check(made, text) == "not_allowed"


def test_a_wildcard_is_every_name_below_and_not_the_name_itself() -> None:
    made = rules("list", "*.s3.amazonaws.com:443")
    for text in ("a.s3.amazonaws.com:443", "a.b.s3.amazonaws.com:443", "A.S3.AMAZONAWS.COM.:443"):
        assert check(made, text) is None
    for text in ("s3.amazonaws.com:443", "as3.amazonaws.com:443", "a.s3.amazonaws.com.evil.com:443", "8.8.8.8:443"):
        assert check(made, text) == "not_allowed"
    assert check(made, "a.s3.amazonaws.com:80") == "not_allowed"


def test_public_is_443_and_plain_80_and_what_the_operator_adds() -> None:
    made = rules("public", ports=[8443])
    assert check(made, "a.com:443", "1.1.1.1") is None
    assert check(made, "a.com:80", "1.1.1.1", plain=True) is None
    assert check(made, "a.com:8443", "1.1.1.1") is None
    assert check(made, "a.com:8443", "1.1.1.1", plain=True) is None
    for text in ("a.com:22", "a.com:25", "a.com:80", "a.com:5432", "a.com:8080"):
        assert check(made, text) == "port_not_allowed"
    assert check(made, "a.com:443", plain=True) == "port_not_allowed"


def test_every_address_of_an_answer_has_to_be_public() -> None:
    made = rules("public", own="93.184.216.99")
    assert check(made, "a.com:443", "93.184.216.34", "2606:4700::1111") is None
    for bad in (
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
        "93.184.216.99",
    ):
        assert check(made, "a.com:443", "93.184.216.34", bad) == "not_public"
        assert check(made, "a.com:443", bad, "93.184.216.34") == "not_public"


def test_an_address_is_taken_in_public_only_where_it_is_public() -> None:
    made = rules("public", own="93.184.216.99")
    assert check(made, "93.184.216.34:443") is None
    assert check(made, "[2606:4700::1111]:443") is None
    for text in (
        "10.0.0.1:443",
        "127.0.0.1:443",
        "169.254.169.254:443",
        "93.184.216.99:443",
        "[::1]:443",
        "[fd12::1]:443",
    ):
        assert check(made, text) == "not_public"


def test_a_private_address_is_reached_by_a_list_where_the_policy_names_it() -> None:
    listed = rules("list", "db.internal:5432", "10.0.0.5:5432", private=["db.internal:5432", "10.0.0.5:5432"])
    assert check(listed, "db.internal:5432", "10.1.2.3", "127.0.0.1", "fd12::1") is None
    assert check(listed, "10.0.0.5:5432") is None
    asked = rules("list", "db.internal:5432", "10.0.0.5:5432")
    assert check(asked, "db.internal:5432", "10.1.2.3") == "not_public"
    assert check(asked, "10.0.0.5:5432") == "not_public"
    other = rules("list", "db.internal:5432", private=["db.internal:5433", "*.db.internal:5432"])
    assert check(other, "db.internal:5432", "10.1.2.3") == "not_public"
    public = rules("public", private=["db.internal:443"])
    assert check(public, "db.internal:443", "10.1.2.3") == "not_public"


def test_no_policy_opens_the_metadata_of_the_cloud() -> None:
    made = rules("list", "db.internal:80", private=["db.internal:80"])
    for bad in ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "0.0.0.0", "224.0.0.1", "fe80::1"):
        assert check(made, "db.internal:80", "10.0.0.1", bad) == "not_public"


def test_a_refusal_says_what_to_add() -> None:
    def text(made: Rules, wanted: str, *found: str) -> str:
        try:
            made.check(target(wanted), plain=False)
            made.admit(target(wanted), [ipaddress.ip_address(address) for address in found])
        except Refused as refused:
            return str(refused)
        raise AssertionError(f"{wanted} is not refused")

    assert 'add "a.com:443" to @task(network=[…])' in text(rules("list", "b.com:443"), "a.com:443")
    assert 'add "a.com:22" to @task(network=[…])' in text(rules("public"), "a.com:22")
    assert "which has b.com:443" in text(rules("list", "b.com:443"), "b.com:80")
    private = text(rules("list", "db.internal:5432"), "db.internal:5432", "10.0.0.7")
    assert "it is at an address that is not public (private)" in private
    assert "10.0.0.7" not in private
    assert '"db.internal:5432" to private in [network] of policy.toml' in private
