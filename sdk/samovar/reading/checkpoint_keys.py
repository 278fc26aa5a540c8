"""Which checkpoints a task makes, as far as its source tells: read when the project is indexed, never run.

A key that is written down is known whole; where a part of it is made while the task runs, that part is `{}`
(`f"charge-{order}"` is `charge-{}`). Functions of the project that the task names are looked through as well.
What goes through a variable or a method is not seen. Two versions are compared by this: a key that is gone is
what a replay of an older run would do once more.
"""

from __future__ import annotations

import ast
import inspect
import os
import string
import textwrap
import tokenize
import types
from collections.abc import Iterator
from typing import Any, Callable

from samovar.running.checkpoints import STEP_KEY, CheckpointFunction

#: More are not listed: what makes so many makes them in a loop.
MOST = 500
_HOLE = "{}"


def keys_of(function: Callable[..., Any], root: str) -> list[str] | None:
    """The keys of the checkpoints that `function` makes, sorted; None where its source can't be read.

    `root` is the project's directory: functions from elsewhere are not looked into.
    """
    found: set[str] = set()
    seen: set[Any] = set()
    waiting = [inspect.unwrap(function)]
    while waiting and len(found) < MOST:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        tree = _parse(current)
        if tree is None:
            if len(seen) == 1:
                return None
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _is_checkpoint(node.func, current):
                found.update(_key(node))
            elif isinstance(node, (ast.Name, ast.Attribute)):
                target = _resolve(node, current)
                # by its type alone: an object may run code of its own for isinstance and for attributes
                if type(target) is not types.FunctionType:
                    continue
                step = getattr(target, STEP_KEY, None)
                if isinstance(step, str):
                    found.add(_shape(step))
                if _is_in(inspect.unwrap(target), root):
                    waiting.append(inspect.unwrap(target))
    return sorted(found)[:MOST]


def _parse(function: Any) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError, RecursionError, tokenize.TokenError):
        return None


def _is_checkpoint(node: ast.expr, function: Any) -> bool:
    target = _resolve(node, function)
    if target is not None:
        return type(target) is CheckpointFunction
    # imported inside of the function
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name == "checkpoint"


def _resolve(node: ast.expr, function: Any) -> Any:
    """What a name, or a module's attribute, stands for; None where only a run would tell."""
    if isinstance(node, ast.Name):
        found = getattr(function, "__globals__", {}).get(node.id)
        if found is None:
            names = getattr(getattr(function, "__code__", None), "co_freevars", ())
            if node.id in names and function.__closure__:
                try:
                    found = function.__closure__[names.index(node.id)].cell_contents
                except ValueError:  # not filled yet
                    return None
        return found
    if isinstance(node, ast.Attribute):
        owner = _resolve(node.value, function)
        # of modules only: an attribute of anything else may be code of its own
        return vars(owner).get(node.attr) if issubclass(type(owner), types.ModuleType) else None
    return None


def _key(call: ast.Call) -> Iterator[str]:
    given = call.args[0] if call.args else next((k.value for k in call.keywords if k.arg == "key"), None)
    if isinstance(given, ast.Constant) and isinstance(given.value, str):
        yield given.value
    elif isinstance(given, ast.JoinedStr):
        parts = [str(v.value) if isinstance(v, ast.Constant) else _HOLE for v in given.values]
        yield "".join(parts)
    elif given is not None:
        yield _HOLE


def _shape(key: str) -> str:
    """A format string with its fields as holes."""
    try:
        fields = list(string.Formatter().parse(key))
    except ValueError:
        return key
    return "".join(text + (_HOLE if field is not None else "") for text, field, _, _ in fields)


def _is_in(function: Any, root: str) -> bool:
    try:
        path = os.path.realpath(function.__code__.co_filename)
    except AttributeError:
        return False
    return path.startswith(os.path.join(os.path.realpath(root), "")) and "site-packages" not in path
