"""Heads of requests: each has one form, and what two readers could read differently is refused."""

from __future__ import annotations

import time

import pytest

from sidecar.egress import head
from sidecar.egress.errors import Refused


def parsed(text: str | bytes) -> head.Head:
    data = text.encode("latin-1") if isinstance(text, str) else text
    assert head.complete(data) == len(data)
    return head.parse(data)


def refused(text: str | bytes) -> str:
    with pytest.raises(Refused) as error:
        parsed(text)
    return error.value.code


def get(*lines: str, place: str = "http://a.com/", version: str = "HTTP/1.1", host: str = "Host: a.com") -> str:
    return "\r\n".join([f"GET {place} {version}", *([host] if host else []), *lines, "", ""])


def test_the_forms_that_are_understood() -> None:
    connect = parsed("CONNECT A.com.:443 HTTP/1.1\r\nHost: a.com\r\n\r\n")
    assert (connect.method, str(connect.wanted), connect.connect) == ("CONNECT", "a.com:443", True)
    # http.client before 3.12 says no more than this
    assert str(parsed("CONNECT a.com:443 HTTP/1.0\r\n\r\n").wanted) == "a.com:443"
    assert str(parsed("CONNECT [2606:4700::1111]:443 HTTP/1.1\r\n\r\n").wanted) == "[2606:4700::1111]:443"
    plain = parsed(
        get("X: 1", "Y:", "Z: a\tb \xff", place="http://a.com:8080/p?q=http://b", host="host:a.com:8080")
    )
    assert (str(plain.wanted), plain.path, plain.host) == ("a.com:8080", "/p?q=http://b", b"a.com:8080")
    assert plain.fields == [(b"X", b"1"), (b"Y", b""), (b"Z", b"a\tb \xff")]
    for place, path in (("http://a.com", "/"), ("HTTP://A.COM?x=1", "/?x=1"), ("http://a.com//b", "//b")):
        assert parsed(get(place=place)).path == path
    assert parsed(get(version="HTTP/1.0", host="")).path == "/"


@pytest.mark.parametrize(
    "text",
    [
        # framing that two read differently
        get("Content-Length: 5", "Transfer-Encoding: chunked"),
        get("Content-Length: 5", "Content-Length: 5"),
        get("Content-Length: 5, 5"),
        *(get(f"Content-Length: {value}") for value in ("+5", "-1", "0x5", "5 ", "", "5a", "9" * 30, "٣")[:3]),
        *(get(f"Content-Length: {value}") for value in ("", "5a", "9" * 30)),
        *(
            get(f"Transfer-Encoding: {value}")
            for value in ("gzip", "gzip, chunked", "chunked, chunked", "xchunked", "")
        ),
        get("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        get("Transfer-Encoding: chunked", version="HTTP/1.0"),
        get("Transfer-Encoding : chunked"),
        get("Transfer-Encoding\t: chunked"),
        get("Connection: Content-Length", "Content-Length: 5"),
        get("Connection: close, Host"),
        "CONNECT a.com:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
        "CONNECT a.com:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        # two hosts, or one that is not that of the URL
        get("Host: b.com"),
        get(host="Host: b.com"),
        get(host="Host: a.com:81"),
        get(host="Host: a.com, b.com"),
        get(host="Host: a.com@b.com"),
        get(host="Host:"),
        get(host=""),
        "CONNECT a.com:443 HTTP/1.1\r\nHost: b.com:443\r\n\r\n",
        "CONNECT a.com:443 HTTP/1.1\r\nHost: a.com:444\r\n\r\n",
        # lines that some take for two, or one for its neighbour's
        get("X: a\nY: b"),
        get("X: a\rY: b"),
        get("X: a", " folded"),
        get("X: a", "\tfolded"),
        get("X: a\x00b"),
        get("X"),
        get(": x"),
        get("X Y: z"),
        get("X(: z"),
        get(" X: a"),
        "GET http://a.com/ HTTP/1.1\nHost: a.com\r\n\r\n",
        "\r\nGET http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n",
        # request lines
        *(get(version=version) for version in ("HTTP/2.0", "HTTP/1.2", "http/1.1", "HTTP/1.10", "HTTP/0.9", "")),
        "GET  http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n",
        "GET http://a.com/ HTTP/1.1 \r\nHost: a.com\r\n\r\n",
        "GET\thttp://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n",
        "G@T http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n",
        "GET http://a.com/\x7f HTTP/1.1\r\nHost: a.com\r\n\r\n",
        "GET http://a.com/\xe9 HTTP/1.1\r\nHost: a.com\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\n",
        # places
        get(place="/"),
        get(place="*"),
        get(place="a.com"),
        get(place="https://a.com/"),
        get(place="ftp://a.com/"),
        get(place="//a.com/"),
        get(place="http:/a.com/"),
        get(place="http://u:p@a.com/"),
        get(place="http://a.com@b.com/"),
        get(place="http://a.com\\@b.com/"),
        get(place="http://a.com/#x"),
        "CONNECT http://a.com:443 HTTP/1.1\r\n\r\n",
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(text: str) -> None:
    assert refused(text) in ("bad_request", "bad_target")


@pytest.mark.parametrize(
    "place", ["http:///", "http://:80/", "http://a.com:/", "http://[::1/", "http://a.com:80:80/"]
)
def test_a_place_without_a_host_is_refused(place: str) -> None:
    assert refused(get(place=place)) in ("bad_request", "bad_target")


def test_what_belongs_to_a_connection_is_not_passed_on() -> None:
    got = parsed(
        get(
            "Connection: keep-alive, X-Own, Upgrade",
            "Keep-Alive: 5",
            "Proxy-Authorization: Basic eDp5",
            "Proxy-Connection: keep-alive",
            "TE: trailers",
            "Trailer: X",
            "Upgrade: websocket",
            "X-Own: 1",
            "X-Kept: 1",
        )
    )
    assert got.fields == [(b"X-Kept", b"1")]
    assert got.upgrade == b"websocket"


def test_a_head_has_so_many_bytes_and_lines() -> None:
    assert head.complete(b"GET http://a.com/ HTTP/1.1\r\n") is None
    with pytest.raises(Refused) as error:
        head.complete(b"GET http://a.com/ HTTP/1.1\r\nX: " + b"x" * head.MOST)
    assert (error.value.status, error.value.code) == (431, "head_too_large")
    assert refused(get(*["X: 1"] * 300)) == "bad_request"


@pytest.mark.parametrize("filling", [" ", "\t", "a ", "a", ",", ";"])
def test_a_large_head_is_read_in_no_time(filling: str) -> None:
    long = get("X:" + filling * (15_000 // len(filling)) + "\x01")
    began = time.process_time()
    for _ in range(20):
        assert refused(long) == "bad_request"
    assert time.process_time() - began < 1.0
