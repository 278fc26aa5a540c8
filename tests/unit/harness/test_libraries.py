"""Libraries that projects use, imported as they are: which of them a fork survives."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.harness.listener import Container

Make = Callable[..., Container]

CODE = """
import os
from samovar import task
{imports}
here = os.getpid()
@task
def f() -> list:
    return [here == os.getpid(), {use}]
"""


@pytest.mark.parametrize(
    ("imports", "use", "result"),
    [
        ("import numpy\na = numpy.ones((300, 300))\na @ a", "float((a @ a)[0, 0])", 300.0),
        ("import pandas\nt = pandas.DataFrame({'n': [1, 2]})", "int(t['n'].sum())", 3),
        ("import joblib", "joblib.Parallel(n_jobs=1)([joblib.delayed(abs)(-2)])", [2]),
        ("import httpx\nclient = httpx.Client()", "client.is_closed", False),
        ("import sqlalchemy\nengine = sqlalchemy.create_engine('sqlite://')", "engine.dialect.name", "sqlite"),
        ("import asyncio, concurrent.futures, multiprocessing, subprocess, logging.config", "1", 1),
    ],
)
def test_a_library_that_a_fork_survives_is_forked(container: Make, imports: str, use: str, result: object) -> None:
    one = container(CODE.format(imports=imports, use=use), SAMOVAR_CPUS="2")
    for attempt in ("a1", "a2"):
        assert (one.run("f", attempt)["result"], one.messages(attempt)) == ([False, result], [])
