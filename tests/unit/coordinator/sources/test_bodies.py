"""What a task is given of a body and of an address's parameters, whatever the sender says of them."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from coordinator.sources import bodies

FORM = "application/x-www-form-urlencoded"


def value(body: bytes, kind: str | None = None, scheme: str | None = None, **headers: str) -> Any:
    given = {} if kind is None else {"content-type": kind}
    return bodies.value({**given, **headers}, body, scheme)


@pytest.mark.parametrize(
    "kind", [None, "application/json", "application/json; charset=utf-8", "application/vnd.api+json", "text/plain"]
)
def test_json_is_its_value_whatever_it_is_called(kind: str | None) -> None:
    assert value(b'{"n": [1, null]}', kind) == {"n": [1, None]}
    assert value("\ufeff{}".encode(), kind) == {}


def test_a_form_is_an_object_and_several_values_a_list() -> None:
    assert value(b"a=1&b=two+words&b=&c=%C3%A9", f"{FORM}; charset=UTF-8") == {
        "a": "1",
        "b": ["two words", ""],
        "c": "é",
    }
    assert value(b"", FORM) == {}
    # half of a surrogate pair, and what no database takes as text
    assert value(b"a=%ED%A0%80%00", FORM) == {"a": "\ufffd\ufffd\ufffd"}


def test_a_form_that_is_none_is_text() -> None:
    many = "&".join(f"f{n}=1" for n in range(bodies.MOST_FIELDS + 1))
    assert value(many.encode(), FORM) == many
    assert value(b"no form at all", "multipart/form-data; boundary=x") == "no form at all"
    assert value(b"--x\r\ncut off", "multipart/form-data; boundary=x") == "--x\r\ncut off"


def test_a_multipart_form_as_a_client_sends_it() -> None:
    request = httpx.Request(
        "POST",
        "http://x/",
        data={"name": "Ann", "tag": ["a", "b"]},
        files=[
            ("doc", ("r\u00e9sum\u00e9.pdf", b"%PDF\xff\x00--x", "application/pdf")),
            ("more", ("a.txt", b"", "text/plain")),
        ],
    )
    assert value(request.read(), request.headers["content-type"]) == {
        "name": "Ann",
        "tag": ["a", "b"],
        "doc": {
            "name": "r\u00e9sum\u00e9.pdf",
            "content_type": "application/pdf",
            "base64": base64.b64encode(b"%PDF\xff\x00--x").decode(),
        },
        "more": {"name": "a.txt", "content_type": "text/plain", "base64": ""},
    }


@pytest.mark.parametrize("scheme", ["github", "slack"])
def test_json_in_the_field_payload_of_a_form_is_that_json(scheme: str) -> None:
    body = urlencode({"payload": '{"ref": "main"}'}).encode()
    assert value(body, FORM, scheme) == {"ref": "main"}
    # others may have a field of that name
    assert value(body, FORM, "stripe") == {"payload": '{"ref": "main"}'}
    assert value(body, FORM, None, **{"x-github-event": "push"}) == {"ref": "main"}
    assert value(body + b"&a=1", FORM, scheme) == {"payload": '{"ref": "main"}', "a": "1"}
    assert value(b"payload=text", FORM, scheme) == {"payload": "text"}


def test_text_is_text_in_its_own_letters() -> None:
    assert value(b"hello", "text/plain") == "hello"
    assert value("caf\u00e9".encode("latin-1"), "text/plain; charset=iso-8859-1") == "caf\u00e9"
    assert value("caf\u00e9".encode(), 'text/plain; charset="nonsense"') == "caf\u00e9"
    assert value(b"<a/>", "application/xml") == "<a/>"
    assert value(b"NaN", "application/json") == "NaN"
    assert value(b"") == ""


@pytest.mark.parametrize(("kind", "shown"), [("image/png", "image/png"), (None, "application/octet-stream")])
def test_other_bytes_are_kept_whole(kind: str | None, shown: str) -> None:
    body = b"\x89PNG\r\n\x00\xff"
    assert value(body, kind) == {"content_type": shown, "base64": base64.b64encode(body).decode()}


def test_an_image_is_never_taken_for_json() -> None:
    assert value(b"1", "image/x-icon") == {"content_type": "image/x-icon", "base64": "MQ=="}


def test_the_parameters_of_an_address() -> None:
    assert bodies.query(b"a=1&b=&a=2&caf%C3%A9=x%20y") == {"a": ["1", "2"], "b": "", "caf\u00e9": "x y"}
    assert bodies.query(b"") == {}
    with pytest.raises(ValueError, match="fields"):
        bodies.query(b"&".join(b"a=1" for _ in range(bodies.MOST_FIELDS + 1)))
