"""What a task's source tells of its checkpoints, without running it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samovar.reading.checkpoint_keys import keys_of

MODULE = """
import samovar
from samovar import checkpoint, checkpoint as keep
from shop_helpers import helped, other
import shop_helpers


@checkpoint.step
def stepped(): ...


@checkpoint.step(key="charge-{order_id:>8}-{{x}}")
def charged(order_id): ...


def plain(order_id, name):
    checkpoint("fetch", lambda: 1)
    samovar.checkpoint(key="mail", value_or_function=2)
    keep(f"item-{order_id}-{name!r}", 3)
    stepped()
    charged(order_id)
    helped()
    shop_helpers.other()
    not_a_checkpoint("no", 1)


def not_a_checkpoint(key, value):
    return print(key)


async def inside():
    from samovar import checkpoint

    async def deeper():
        await checkpoint("deep", print)

    await deeper()


def computed(name):
    for n in range(3):
        checkpoint(name, n)


def none():
    return 1


class Hostile:
    # what lazy settings and proxies do outside of a request
    @property
    def __class__(self):
        raise RuntimeError("looked at")

    def __getattr__(self, name):
        raise RuntimeError(name)


HOSTILE = Hostile()


def lazy():
    checkpoint("after", HOSTILE, HOSTILE.value)
    return HOSTILE.method()


def round_and_round():
    checkpoint("once", 1)
    return round_and_round()
"""
HELPERS = """
from samovar import checkpoint


def helped():
    checkpoint("helped", 1)


def other():
    checkpoint("other", 1)
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "shop_tasks.py").write_text(MODULE)
    (tmp_path / "shop_helpers.py").write_text(HELPERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    import importlib

    yield importlib.import_module("shop_tasks")
    for name in ("shop_tasks", "shop_helpers"):
        sys.modules.pop(name, None)


def test_keys_are_read_from_the_source(shop: Any, tmp_path: Path) -> None:
    def keys(name: str) -> list[str] | None:
        return keys_of(getattr(shop, name), str(tmp_path))

    assert keys("plain") == ["charge-{}-{x}", "fetch", "helped", "item-{}-{}", "mail", "other", "stepped"]
    assert keys("inside") == ["deep"]
    assert keys("computed") == ["{}"]
    assert keys("none") == []
    assert keys("lazy") == ["after"]
    assert keys("round_and_round") == ["once"]


def test_functions_from_elsewhere_are_not_looked_into(shop: Any, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert "helped" not in (keys_of(shop.plain, str(elsewhere)) or [])


def test_without_a_source_nothing_is_known() -> None:
    made: dict[str, Any] = {}
    exec("def f(): return 1", made)
    assert keys_of(made["f"], "/") is None
