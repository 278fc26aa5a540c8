"""The task index: which tasks a project has, with their options and JSON Schemas.

Run inside the built image, never on the host, because it imports the project's modules:

    python -I /opt/samovar/sdk/samovar/index.py --manifest /opt/samovar/manifest.json

The last line of stdout is one JSON document: the index, with exit code 0, or `{"error": {"code", "message",
"fields"}}`, with exit code 1. What the modules print goes to stderr. Codes: `manifest`, `missing_module`,
`syntax_error`, `import_error`, `no_tasks`, `duplicate_task`, `bad_option`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

if not __package__ and __name__ == "__main__":  # run by its path: isolated mode puts no folder on sys.path
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from samovar import wire
from samovar.errors import OptionError

Field = dict[str, str]


class CannotIndex(Exception):
    """The index can't be made; `problem` is what a person has to put right."""

    def __init__(self, code: str, message: str, fields: list[Field] | None = None) -> None:
        super().__init__(message)
        self.problem = {"code": code, "message": message, "fields": fields or []}


def read_manifest(path: str) -> dict[str, Any]:
    """`{"project", "modules", "defaults"}` of an image. Raises CannotIndex."""
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        modules = manifest["modules"]
        if not isinstance(modules, list) or not all(isinstance(module, str) for module in modules):
            raise TypeError("modules is a list of names")
        return {"project": manifest["project"], "modules": modules, "defaults": manifest.get("defaults") or {}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CannotIndex("manifest", f"{path} can't be read: {error!r}") from None


def import_modules(modules: list[str]) -> None:
    """Import the project's modules. Raises CannotIndex saying which failed, and where."""
    from importlib import import_module

    from samovar.values.tracebacks import format_exception

    for module in modules:
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            if error.name and (module == error.name or module.startswith(error.name + ".")):
                message = (
                    f"there is no module {module!r}: check tasks in samovar.toml, and that the file is deployed"
                )
                raise CannotIndex(
                    "missing_module", message, [{"path": "project.tasks", "message": message}]
                ) from None
            raise CannotIndex(
                "import_error",
                f"importing {module!r} failed: there is no module {error.name!r}; add it to the project's "
                f"requirements\n\n{format_exception(error)}",
            ) from None
        except SyntaxError as error:
            place = f"{error.filename}:{error.lineno}"
            text = (error.text or "").rstrip()
            message = f"{place}: {type(error).__name__}: {error.msg}\n    {text.strip()}"
            raise CannotIndex("syntax_error", message, [{"path": place, "message": error.msg}]) from None
        except OptionError as error:
            raise CannotIndex("bad_option", str(error)) from None
        except (Exception, SystemExit) as error:
            message = f"importing {module!r} failed: {type(error).__name__}: {error}\n\n{format_exception(error)}"
            raise CannotIndex("import_error", message) from None


def build_index(manifest: dict[str, Any], code: str = wire.IMAGE_CODE) -> dict[str, Any]:
    """The index of the tasks that are imported by now; `code` is the project's directory.

    Raises CannotIndex naming every bad task.
    """
    from samovar import __version__
    from samovar.declare.options import check, resolve
    from samovar.declare.registry import registry
    from samovar.reading.checkpoint_keys import keys_of

    problems: list[Field] = []
    defaults: dict[str, Any] = {}
    for name, value in manifest["defaults"].items():
        try:
            defaults.update(check({name: value}))
        except OptionError as error:
            problems.append({"path": f"defaults.{name}", "message": str(error)})
    if problems:
        raise CannotIndex("bad_option", _listing(problems), problems)
    if not registry:
        raise CannotIndex(
            "no_tasks", f"no task in {', '.join(manifest['modules'])}: put @samovar.task on a function"
        )
    for id, tasks in registry.items():
        if len(tasks) > 1:
            places = " and ".join(f"{task.module}.{task.name} ({task.place})" for task in tasks)
            problems.append({"path": id, "message": f"two tasks have the id {id!r}: {places}; give one another id"})
    if problems:
        raise CannotIndex("duplicate_task", _listing(problems), problems)
    declared = _declared_queues({id: task for id, (task, *_) in registry.items()}, defaults)
    entries = []
    for id, (task, *_) in registry.items():
        try:
            schema = task.signature.schema()
        except OptionError as error:
            problems.append({"path": id, "message": f"{error} ({task.place})"})
            continue
        options = resolve(task.options, defaults)
        if options["queue"] is not None:
            options["queue"] = declared[options["queue"]["name"]]
        if (problem := _bad_key(options["concurrency_key"], schema)) is not None:
            problems.append({"path": id, "message": f"{problem} ({task.place})"})
        entries.append(
            {
                "id": id,
                "module": task.module,
                "name": task.name,
                "doc": (task.function.__doc__ or "").strip().split("\n\n")[0],
                "schema": schema,
                "options": options,
                "checkpoints": keys_of(task.function, code),
            }
        )
    if problems:
        raise CannotIndex("bad_option", _listing(problems), problems)
    python = ".".join(str(part) for part in sys.version_info[:3])
    return {"sdk": __version__, "python": python, "tasks": entries}


def _declared_queues(tasks: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The queues of the project by name. Raises CannotIndex where two differ, or one is named and not declared."""
    places: dict[str, list[tuple[str, Any]]] = {}
    named: list[tuple[str, str, str]] = []
    given = [("samovar.toml", "defaults.queue", defaults.get("queue"))]
    given += [(f"task {id!r} ({task.place})", id, task.options.get("queue")) for id, task in tasks.items()]
    for place, path, queue in given:
        if queue is not None and len(queue) == 1:
            named.append((place, path, queue["name"]))
        elif queue is not None:
            places.setdefault(queue["name"], []).append((place, queue))
    problems: list[Field] = []
    for name, found in places.items():
        first_place, first = found[0]
        for place, queue in found[1:]:
            differing = ", ".join(
                f"{word} {first[word]!r} and {queue[word]!r}" for word in first if first[word] != queue[word]
            )
            if differing:
                message = (
                    f"the queue {name!r} is declared twice, and not alike: {differing}, by {first_place} and "
                    f"{place}; declare it once, and give the others its name"
                )
                problems.append({"path": f"queue {name}", "message": message})
    for place, path, name in named:
        if name not in places:
            message = (
                f'queue={name!r} of {place} is declared nowhere in the project: give Queue("{name}", ...) once'
            )
            problems.append({"path": path, "message": message})
    if problems:
        raise CannotIndex("bad_option", _listing(problems), problems)
    return {name: found[0][1] for name, found in places.items()}


def _bad_key(path: str | None, schema: dict[str, Any]) -> str | None:
    """What is wrong with a concurrency key, as far as the task's parameters tell."""
    first = (path or "").partition(".")[0]
    known = list(schema.get("properties", {}))
    if path is None or first in known or schema.get("additionalProperties", True) is not False:
        return None
    from difflib import get_close_matches

    close = get_close_matches(first, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"its parameters are {', '.join(known) or 'none'}"
    return f"concurrency_key={path!r}: the task has no parameter {first!r}; {hint}"


def _listing(problems: list[Field]) -> str:
    return "; ".join(f"{problem['path']}: {problem['message']}" for problem in problems)


def _arguments(arguments: list[str]) -> dict[str, str]:
    values = {"--manifest": wire.IMAGE_MANIFEST, "--code": os.environ.get("SAMOVAR_CODE", wire.IMAGE_CODE)}
    for name, value in zip(arguments[::2], arguments[1::2]):
        if name not in values:
            raise CannotIndex("manifest", f"unknown argument {name!r}; known are --manifest and --code")
        values[name] = value
    return values


def main(arguments: list[str]) -> int:
    """Print the index; the exit code."""
    # the real stdout is for the one line of JSON: what modules print, from C as well, goes to stderr
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    try:
        given = _arguments(arguments)
        manifest = read_manifest(given["--manifest"])
        sys.path.insert(0, given["--code"])
        import_modules(manifest["modules"])
        document = build_index(manifest, given["--code"])
        line = json.dumps(document, ensure_ascii=True, allow_nan=False)
    except CannotIndex as error:
        document = {"error": error.problem}
        line = json.dumps(document)
    sys.stdout.flush()
    data = b"\n" + line.encode("ascii") + b"\n"
    while data:
        data = data[os.write(real, data) :]
    return 1 if "error" in document else 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # threads and atexit hooks of the project's modules have no say in the exit code
