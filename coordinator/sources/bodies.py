"""What a task is given of a request from outside: the value in its body, and the parameters of its address.

    JSON                                       the value
    application/x-www-form-urlencoded          an object of its fields; a field that comes several times is a list
    multipart/form-data                        the same; a file is {"name", "content_type", "base64"}
    text (whatever its type says, if it is)    the text
    other bytes                                {"content_type", "base64"}

Two senders put their JSON into the field `payload` of a form: then it is that JSON. What says that it is a form or
JSON, and is not, is given as text: the task sees what came, and nobody loses a delivery over a wrong header.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

#: Fields of a form, or parameters of an address.
MOST_FIELDS = 1000

_FORM, _MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"
#: Never looked at for text.
_BINARY = re.compile(r"(image|audio|video|font)/|application/(pdf|zip|gzip|x-protobuf)")
_PARAMETER = re.compile(r";\s*([A-Za-z0-9_*-]+)\s*=\s*(\"(?:[^\"\\\\]|\\\\.)*\"|[^;\s]*)")


def value(headers: Mapping[str, str], body: bytes, scheme: str | None = None) -> Any:
    """What the body says; `headers` by names in lower case."""
    kind, parameters = _split(headers.get("content-type", ""))
    fields: dict[str, Any] | None = None
    if kind == _FORM:
        fields = _form(body)
    elif kind == _MULTIPART:
        fields = _multipart(body, parameters.get("boundary", ""))
    if fields is not None:
        return _inside(fields, headers, scheme)
    if _BINARY.match(kind):
        return _bytes(kind, body)
    try:
        return json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return _text(kind, parameters.get("charset"), body)


def query(raw: bytes) -> dict[str, Any]:
    """The parameters of an address; one that comes several times is a list. Raises ValueError for too many."""
    return gathered(parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=MOST_FIELDS))


def gathered(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, list[Any]] = {}
    for name, item in pairs:
        found.setdefault(_clean(name), []).append(_clean(item) if isinstance(item, str) else item)
    return {name: items[0] if len(items) == 1 else items for name, items in found.items()}


def _form(body: bytes) -> dict[str, Any] | None:
    try:
        return gathered(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError:
        return None


def _multipart(body: bytes, boundary: str) -> dict[str, Any] | None:
    if not boundary or len(boundary) > 200:
        return None
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1", "replace"))
    # before the first stands what is for nobody, after the last its end
    if len(parts) < 2 or len(parts) > MOST_FIELDS + 2 or not parts[-1].startswith(b"--"):
        return None
    pairs: list[tuple[str, Any]] = []
    for part in parts[1:-1]:
        head, found, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = _headers(head)
        disposition, named = _split(headers.get("content-disposition", ""))
        if not found or disposition != "form-data" or "name" not in named:
            return None
        kind, parameters = _split(headers.get("content-type", ""))
        if "filename" in named:
            pairs.append((named["name"], {"name": _clean(named["filename"]), **_bytes(kind, content)}))
        else:
            pairs.append((named["name"], _text(kind, parameters.get("charset"), content)))
    return gathered(pairs)


def _headers(head: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in head.decode("utf-8", "replace").split("\r\n"))
    return {name.strip().lower(): text.strip() for name, _, text in lines}


def _split(header: str) -> tuple[str, dict[str, str]]:
    """`type/sub; name="value"` as the first word, in lower case, and the parameters."""
    found = {}
    for name, text in _PARAMETER.findall(header[:4096]):
        if text.startswith('"'):
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        found[name.lower()] = text
    return header.partition(";")[0].strip().lower()[:128], found


def _inside(fields: dict[str, Any], headers: Mapping[str, str], scheme: str | None) -> Any:
    sender = scheme in ("github", "slack") or "x-github-event" in headers
    if sender and list(fields) == ["payload"] and isinstance(fields["payload"], str):
        try:
            return json.loads(fields["payload"], parse_constant=_no_constant)
        except (ValueError, RecursionError):
            pass
    return fields


def _text(kind: str, charset: str | None, body: bytes) -> Any:
    for encoding in (charset, "utf-8"):
        try:
            text = body.decode(encoding or "utf-8")
        except (LookupError, ValueError):
            continue
        if "\0" not in text:
            return text
    return _bytes(kind, body)


def _bytes(kind: str, body: bytes) -> dict[str, str]:
    return {"content_type": kind or "application/octet-stream", "base64": base64.b64encode(body).decode()}


def _clean(text: str) -> str:
    # neither can stand in a database's text
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no value in JSON")
