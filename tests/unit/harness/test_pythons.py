"""The SDK and the harness on the other Python versions that this machine has."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import samovar
from samovar import wire

from tests.unit.harness.listener import Container

CODE = """
from __future__ import annotations
import asyncio, dataclasses, datetime, enum
from typing import Literal, NamedTuple, Optional, TypedDict, Union
import samovar
from samovar import Retry, checkpoint, current_run, task, wait

class Color(enum.Enum):
    RED = "red"

@dataclasses.dataclass
class Item:
    sku: str
    parts: list[Item] = dataclasses.field(default_factory=list)
    at: Optional[datetime.datetime] = None

class Extra(TypedDict, total=False):
    note: str

class Point(NamedTuple):
    x: int
    y: float = 0

@checkpoint.step
async def double(n: int) -> int:
    await asyncio.sleep(0)
    return n * 2

@task(retry=Retry(max_attempts=2))
async def everything(item: Item, color: Color, extra: Extra, point: Point, kind: Literal["a", "b"] = "a",
                     n: Union[int, str, None] = None) -> dict:
    kept = checkpoint("item", item)
    assert kept == item and kept.parts == [Item("leaf")], kept
    current_run().progress(0.5)
    return {"item": kept, "color": color, "extra": extra, "point": point, "kind": kind, "n": n,
            "doubles": await asyncio.gather(*(double(n) for n in range(3)))}

@task
async def waits() -> list:
    async def slowly():
        await asyncio.sleep(0.1)
        return await wait.event("paid", key="b")
    first = asyncio.ensure_future(wait.sleep("1h", key="a"))
    return await asyncio.gather(first, asyncio.shield(slowly()), *(wait.token(key=f"t{n}") for n in range(2)))

@task
def fail():
    raise samovar.Abort("no")
"""


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.12", "3.13", "3.14"])
def test_a_project_runs(container: Callable[..., Container], tmp_path: Path, version: str) -> None:
    python = shutil.which(f"python{version}")
    works = python and subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0
    if not works:
        pytest.skip(f"this machine has no Python {version}")
    one = container(CODE, python=python)
    finish = one.run(
        "everything",
        payload={
            "item": {"sku": "tea", "parts": [{"sku": "leaf"}], "at": "2025-01-31T12:00:00Z"},
            "color": "red",
            "extra": {"note": "x"},
            "point": [1],
        },
    )
    assert finish.get("error") is None
    assert finish["result"] == {
        "item": {
            "sku": "tea",
            "parts": [{"sku": "leaf", "parts": [], "at": None}],
            "at": "2025-01-31T12:00:00+00:00",
        },
        "color": "red",
        "extra": {"note": "x"},
        "point": [1, 0.0],
        "kind": "a",
        "n": None,
        "doubles": [0, 2, 4],
    }
    one.sidecar.answer = lambda request: (
        wire.reply(request, state="pending", left=None) if request["type"] == wire.WAIT else None
    )
    finish = one.run("waits", "a3")
    assert (finish["outcome"], sorted(finish["waits"])) == (wire.WAITING, ["a", "b"])
    one.sidecar.answer = lambda request: None
    assert one.run("fail", "a2")["retry"]["allowed"] is False
    assert one.sidecar.requests[0]["python"].startswith(f"{version}.")
    index = Path(samovar.__file__).parent / "index.py"
    found = subprocess.run(
        [
            python,
            "-I",
            str(index),
            "--manifest",
            str(one.folder / "manifest.json"),
            "--code",
            str(one.folder / "code"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {entry["id"] for entry in json.loads(found.stdout)["tasks"]} == {"everything", "fail", "waits"}
