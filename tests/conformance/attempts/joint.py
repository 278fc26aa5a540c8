"""A batch of attempts' writes, as a sidecar sends it, on the wire."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import httpx

from tests.unit.coordinator.conftest import Api


class Answered(NamedTuple):
    status: int
    body: Any
    alone: bool = False


def item(assignment: dict[str, Any], action: str, /, **body: Any) -> tuple[dict[str, Any], bytes]:
    """A head and a body."""
    head = {"attempt": assignment["attempt"], "secret": assignment["secret"], "action": action}
    return head, json.dumps({"token": assignment["token"], **body}).encode()


def send(api: Api, carrier: dict[str, Any], data: bytes) -> httpx.Response:
    with api.client(carrier["secret"]) as client:
        return client.post(f"/internal/v1/attempts/{carrier['attempt']}/batch", content=data)


def batch(api: Api, carrier: dict[str, Any], *items: tuple[dict[str, Any], bytes]) -> list[Answered]:
    data = b"".join(json.dumps(head).encode() + b"\n" + body + b"\n" for head, body in items)
    return answered(send(api, carrier, data))


def answered(answer: httpx.Response) -> list[Answered]:
    assert answer.status_code == 200, answer.text
    lines = answer.content.split(b"\n")
    assert lines.pop() == b""
    found = []
    for head, body in zip(lines[::2], lines[1::2], strict=True):
        said = json.loads(head)
        found.append(Answered(said["status"], json.loads(body) if body else None, said["alone"]))
    return found
