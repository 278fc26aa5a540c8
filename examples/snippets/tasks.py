"""Somebody's Python, run where it can do no harm: with limits, its output and its files back."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import shutil
import tempfile
import traceback
from collections.abc import Iterator

import samovar
from samovar import File, task

MOST_OUTPUT = 64 * 1024
#: Files that are kept of one snippet, and bytes of each.
MOST_FILES = 20
MOST_BYTES = 16 * 1024 * 1024
NAME = "<snippet>"


@task(memory="64m", timeout="10s", network="none", warm=False)
def run_snippet(code: str, files: list[File] = ()) -> dict:
    """`{"output", "files"}`, with `"result"` (the repr of a last expression) or `"error"` (the traceback).

    The snippet runs in a folder with `files` in it; what it writes there is kept with the run, by name.
    """
    folder = tempfile.mkdtemp(prefix="snippet-")
    given = {}
    for file in files:
        path = os.path.join(folder, os.path.basename(file.name))
        shutil.copyfile(file.path, path)
        given[path] = os.stat(path).st_mtime_ns
    output = io.StringIO()
    outcome: dict[str, object] = {}
    with inside(folder), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            value = execute(code)
            if value is not None:
                outcome["result"] = shorten(repr(value))
        except (Exception, SystemExit) as error:
            outcome["error"] = shorten(describe(error))
    return {"output": shorten(output.getvalue()), "files": keep(folder, given), **outcome}


@contextlib.contextmanager
def inside(folder: str) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def keep(folder: str, given: dict[str, int]) -> list[str]:
    """Keeps what was written below `folder`, but for what was `given` and is as it was; the names."""
    kept = []
    for place, _, names in os.walk(folder):
        for name in sorted(names):
            path = os.path.join(place, name)
            # no links: what they lead to is not the snippet's to give
            if os.path.islink(path) or not os.path.isfile(path) or os.stat(path).st_mtime_ns == given.get(path):
                continue
            if len(kept) < MOST_FILES and os.path.getsize(path) <= MOST_BYTES:
                kept.append(samovar.artifact(os.path.relpath(path, folder), path).name)
    return kept


def execute(code: str) -> object:
    """Run `code`; the value of its last statement where that is an expression."""
    tree = ast.parse(code, NAME)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    names: dict[str, object] = {"__name__": "__main__"}
    exec(compile(tree, NAME, "exec"), names)
    return eval(compile(ast.Expression(last.value), NAME, "eval"), names) if last else None


def describe(error: BaseException) -> str:
    """The traceback of the snippet alone, without the lines of this file."""
    shown = traceback.TracebackException.from_exception(error)
    shown.stack = traceback.StackSummary.from_list([frame for frame in shown.stack if frame.filename == NAME])
    return "".join(shown.format())


def shorten(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()  # a snippet may print what is no Unicode text
    return text if len(text) <= MOST_OUTPUT else f"{text[:MOST_OUTPUT]}… {len(text) - MOST_OUTPUT} more characters"
