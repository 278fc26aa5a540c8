"""Somebody's Python, run where it can do no harm."""

from __future__ import annotations

import ast
import contextlib
import io
import traceback

from samovar import task

MOST_OUTPUT = 64 * 1024
NAME = "<snippet>"


@task(memory="64m", timeout="10s", network="none", warm=False)
def run_snippet(code: str) -> dict[str, str]:
    """`{"output"}`, with `"result"` (the repr of a last expression) or `"error"` (the traceback)."""
    output = io.StringIO()
    outcome: dict[str, str] = {}
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            value = execute(code)
            if value is not None:
                outcome["result"] = shorten(repr(value))
        except (Exception, SystemExit) as error:
            outcome["error"] = shorten(describe(error))
    return {"output": shorten(output.getvalue()), **outcome}


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
