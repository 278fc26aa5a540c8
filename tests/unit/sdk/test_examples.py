"""The examples as unit tests would call them; the whole way through containers is tested in tests/acceptance."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import samovar
from samovar.context import MemoryStore
from samovar.declare.registry import registry

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    kept, loaded = dict(registry), set(sys.modules)

    def load(example: str, name: str) -> Any:
        monkeypatch.syspath_prepend(str(EXAMPLES / example))
        return importlib.import_module(name)

    yield load
    registry.clear()
    registry.update(kept)
    for name in set(sys.modules) - loaded:
        if name.split(".")[0] in ("approval", "orders", "tasks"):
            del sys.modules[name]


def test_an_order_is_charged_once_over_two_attempts(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = module("orders", "orders.tasks")
    monkeypatch.setattr(orders, "LEDGER", tmp_path)
    store = MemoryStore()
    monkeypatch.setattr(orders, "take_from_stock", lambda order: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        orders.process_order.local_with(store, order_id="o-1", crash=False)
    monkeypatch.undo()
    monkeypatch.setattr(orders, "LEDGER", tmp_path)
    result = orders.process_order.local_with(store, order_id="o-1", crash=False)
    assert result["receipt"] == "receipt-o-1"
    assert result["stock"] == {"samovar": 2, "tea": 498}
    charges = [json.loads(line) for line in (tmp_path / "charges.log").read_text().splitlines()]
    assert [(charge["order"], charge["total"]) for charge in charges] == [("o-1", "264.00")]
    with pytest.raises(samovar.Abort, match="there is no 'coffee'"):
        orders.process_order.local(order_id="o-2", items=[{"sku": "coffee"}])


def test_a_refund_waits_for_a_persons_yes(module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    approval = module("approval", "approval.tasks")
    monkeypatch.setattr(approval, "LEDGER", tmp_path)

    def refund(cents: int, answer: Any = None) -> Any:
        return approval.refund.local_with(MemoryStore(waits={"approval": answer}), order_id="o-1", cents=cents)

    assert refund(100)["why"] == "small"
    assert refund(9000, {"approved": True, "by": "Ada"})["paid"] == 9000
    assert refund(9000, {"approved": False, "by": "Ada"})["why"] == "Ada said no"
    assert refund(9000, samovar.WaitTimeout)["why"] == "nobody answered within 7d"
    assert len((tmp_path / "refunds.log").read_text().splitlines()) == 2
    assert len((tmp_path / "outbox.log").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print('hi')\n1 + 1", {"output": "hi\n", "result": "2"}),
        ("x = 1", {"output": ""}),
        ("def f(n): return f(n - 1) if n else 'end'\nf(3)", {"output": "", "result": "'end'"}),
        ("print('\\udc80')", {"output": "\\udc80\n"}),
        ("import sys; sys.exit(3)", {"output": "", "error": "Traceback (most recent call last):\n"}),
        ("1/0", {"output": "", "error": "Traceback (most recent call last):\n"}),
        ("def f(:", {"output": "", "error": '  File "<snippet>", line 1\n'}),
    ],
)
def test_a_snippet_gives_output_result_or_error(module: Any, code: str, expected: dict[str, str]) -> None:
    found = module("snippets", "tasks").run_snippet.local(code=code)
    assert found.pop("files") == []
    if "error" in expected:
        assert found.pop("error").startswith(expected.pop("error"))
    assert found == expected


def test_a_snippet_reads_files_and_keeps_those_that_it_writes(module: Any, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("6 7")
    code = """
import os
os.makedirs("plots")
one, other = open("in.txt").read().split()
open("plots/out.txt", "w").write(str(int(one) * int(other)))
os.symlink("/etc/passwd", "link")
"""
    store = MemoryStore()
    task = module("snippets", "tasks").run_snippet
    found = task.local_with(store, code=code, files=[samovar.File(tmp_path / "in.txt")])
    assert (found["files"], store.artifacts) == (["plots/out.txt"], {"plots/out.txt": b"42"})
    assert "error" not in found


def test_a_price_list_is_gathered_with_what_is_wrong_in_it(module: Any) -> None:
    prices = module("prices", "tasks")
    articles = [{"sku": "a", "cost": "10.00"}, {"sku": "b", "cost": "0"}, {"sku": "c", "cost": "1.33"}]
    found = prices.take_price_list.local(payload={"articles": articles}, delivery_id="list-1")
    assert (found["list"], found["articles"], str(found["total"]), list(found["wrong"])) == (
        "list-1",
        3,
        "15.30",
        ["b"],
    )
    assert "the supplier's list is wrong there" in found["wrong"]["b"]


@pytest.mark.parametrize(
    ("example", "modules", "tasks"),
    [
        ("orders", ["orders.tasks"], ["process-order"]),
        ("snippets", ["tasks"], ["run-snippet"]),
        ("prices", ["tasks"], ["price-article", "take-price-list"]),
    ],
)
def test_the_index_of_an_example(tmp_path: Path, example: str, modules: list[str], tasks: list[str]) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"project": example, "modules": modules, "defaults": {}}))
    index = Path(samovar.__file__).parent / "index.py"
    found = subprocess.run(
        [sys.executable, "-I", str(index), "--manifest", str(manifest), "--code", str(EXAMPLES / example)],
        capture_output=True,
        text=True,
        check=True,
    )
    document = json.loads(found.stdout.splitlines()[-1])
    assert [entry["id"] for entry in document["tasks"]] == tasks
