"""What a task may name in `network`: each item is checked where it is written."""

from __future__ import annotations

import pytest
from samovar.declare.hosts import read_hosts
from samovar.declare.options import check, resolve
from samovar.errors import OptionError


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("api.example.com:443", "api.example.com:443"),
        ("API.Example.COM:443", "api.example.com:443"),
        ("db:5432", "db:5432"),
        ("my_service:80", "my_service:80"),
        ("*.s3.example.com:443", "*.s3.example.com:443"),
        ("bücher.example:443", "xn--bcher-kva.example:443"),
        ("*.Bücher.example:443", "*.xn--bcher-kva.example:443"),
        ("10.0.0.5:5432", "10.0.0.5:5432"),
        ("4chan.example:80", "4chan.example:80"),
    ],
)
def test_an_item_is_put_as_it_is_meant(given: str, meant: str) -> None:
    assert read_hosts([given]) == [meant]


def test_each_host_is_there_once() -> None:
    assert read_hosts(["b.example:1", "a.example:1", "B.example:1"]) == ["b.example:1", "a.example:1"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("example.com", 'did you mean "example.com:443"?'),
        ("https://example.com:443", "without scheme"),
        ("example.com:443/path", "without scheme, user or path"),
        ("user@example.com:443", "without scheme, user or path"),
        ("example.com:0", "from 1 to 65535"),
        ("example.com:65536", "from 1 to 65535"),
        ("example.com:0443", "from 1 to 65535"),
        ("example.com:https", "from 1 to 65535"),
        ("example.com:", "from 1 to 65535"),
        (":443", "the name is none"),
        ("example..com:443", "the name is none"),
        ("-example.com:443", "the name is none"),
        ("a" * 64 + ".example:443", "the name is none"),
        (".".join(["a" * 60] * 5) + ":443", "the name is none"),
        ("exam ple.com:443", "the name is none"),
        ("example.com.:443", "without the dot"),
        ("*:443", 'network="public"'),
        ("*.:443", "the name is none"),
        ("a.*.example.com:443", "nowhere else"),
        ("*example.com:443", "nowhere else"),
        ("*.10.0.0.5:443", "four numbers"),
        ("[::1]:443", "IPv6"),
        ("::1:443", "IPv6"),
        ("2130706433:80", "four numbers"),
        ("0x7f000001:80", "four numbers"),
        ("0177.0.0.1:80", "four numbers"),
        ("10.0.5:80", "four numbers"),
        ("10.0.0.256:80", "four numbers"),
        ("10.0.0.05:80", "four numbers"),
        ("localhost:80", "the container itself"),
        ("db.localhost:80", "the container itself"),
        ("127.0.0.1:80", "the container itself"),
        (443, "it is no text"),
    ],
)
def test_an_item_that_is_none_is_named_with_the_remedy(given: object, said: str) -> None:
    with pytest.raises(OptionError) as error:
        read_hosts([given])
    assert repr(given)[:200] in str(error.value)
    assert said in str(error.value)


def test_a_hundred_hosts_are_enough() -> None:
    assert len(read_hosts([f"h{n}.example:443" for n in range(100)])) == 100
    with pytest.raises(OptionError, match="101 hosts are more than 100"):
        read_hosts([f"h{n}.example:443" for n in range(101)])


def test_a_host_without_a_list_is_asked_back() -> None:
    with pytest.raises(OptionError, match=r"did you mean \['api.example.com:443'\]\?"):
        check({"network": "api.example.com:443"})


def test_what_is_public_is_reached_without_a_word_but_by_untrusted_code() -> None:
    assert resolve({}, {})["network"] == "public"
    assert resolve({"trust": "untrusted"}, {})["network"] == "none"
    assert resolve({}, {"trust": "untrusted"})["network"] == "none"
    listed = resolve({"trust": "untrusted", "network": ["a.example:1"]}, {})
    assert listed["network"] == ["a.example:1"]
    for network in ("public", "open"):
        with pytest.raises(OptionError, match=f"network='{network}': a task of trust=\"untrusted\""):
            resolve({"trust": "untrusted"}, {"network": network})
