"""What the requests of a container say, as the coordinator takes it: checked, cut, without secrets."""

from __future__ import annotations

import json
from typing import Any

import structlog
from pydantic import ValidationError
from samovar import wire

from coordinator import wire as fleet
from sidecar.envelope import WHOLE, Request
from sidecar.errors import Refused
from sidecar.redaction import Redactor

log = structlog.get_logger()

#: Characters of an error's parts; it is cut there.
_TEXTS = {"type": 256, "message": 64 * 1024, "traceback": 256 * 1024}


def finish(request: Request, token: int, redactor: Redactor) -> fleet.Finish:
    """All but what passes as it came: result, waits and lines."""
    usage = mapping(request.get("usage"))
    error = request.get("error", most=WHOLE)
    return fleet.Finish.model_validate(
        {
            "token": token,
            "outcome": request.get("outcome", most=64),
            "error": cut(redactor.tree(error)),
            "retry": request.get("retry") or {},
            "exit_code": usage.get("exit_code"),
            "peak_memory_bytes": usage.get("peak_memory_bytes"),
            "curve": curve(usage.get("curve"), redactor),
        }
    )


def key(request: Request) -> str:
    key = request.get("key")
    if not isinstance(key, str) or not 1 <= len(key) <= wire.MAX_KEY:
        raise Refused("bad_request", f"key: text of 1 to {wire.MAX_KEY} characters is wanted")
    return key


def cut(error: Any) -> Any:
    if not isinstance(error, dict):
        return error
    cut = {name: text[:most] for name, most in _TEXTS.items() if isinstance(text := error.get(name), str)}
    return {**{name: error.get(name) for name in (*_TEXTS, "reason") if name in error}, **cut}


def encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def sentence(kind: str, error: Refused | ValidationError) -> str:
    if isinstance(error, Refused):
        return str(error)
    first = error.errors()[0]
    # a value nested without end has a place as long
    where = ".".join(map(str, first["loc"][:8]))
    return f"{kind}: {where}: {first['msg']}"[:1000]


def mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def of_container(request: Request) -> dict[str, Any]:
    """What a container says of itself after a run: whether it may be used again, and its memory in bytes."""
    container: dict[str, Any] = {}
    try:
        container = mapping(request.get("container"))
    except Refused:
        log.debug("a container says what is no account of itself")
    clean = container.get("clean") is True and not container.get("oom_kills")
    return {"clean": clean, "memory": size(container.get("memory"))}


def size(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def curve(value: object, redactor: Redactor) -> fleet.Curve | None:
    """What a container says of its memory; None where it says nothing that could be one."""
    try:
        told = fleet.Curve.model_validate(value)
    except ValidationError:
        return None
    for process in [] if told.near is None else told.near.processes:
        process.name = redactor.text(process.name)[:64]
    return told


def milliseconds(value: object) -> float | None:
    """A time that a container has measured; None where it is no number. How large it is the wire decides."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
