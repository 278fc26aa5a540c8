"""The task index: which tasks a project has, with their options and JSON Schemas.

Run inside the built image, never on the host, because it imports the project's modules:

    python -I /opt/samovar/sdk/samovar/index.py --manifest /opt/samovar/manifest.json

The last line of stdout is one JSON document: the index (with `notices` for whoever deploys), exit code 0, or
`{"error": {"code", "message", "fields"}}`, with exit code 1. What the modules print goes to stderr. Codes:
`manifest`, `missing_module`, `syntax_error`, `import_error`, `no_tasks`, `duplicate_task`, `bad_option`.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

if not __package__ and __name__ == "__main__":  # run by its path: isolated mode puts no folder on sys.path
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from samovar import wire
from samovar.environment.modules import CannotIndex, Field, import_modules, read_manifest
from samovar.errors import OptionError

#: Says to a second try which secrets have placeholders.
_PLACEHOLDERS = "SAMOVAR_PLACEHOLDERS"


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
        try:
            options = resolve(task.options, defaults)
        except OptionError as error:
            problems.append({"path": id, "message": f"{error} ({task.place})"})
            continue
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
        document = _read(given["--manifest"], given["--code"], real, arguments)
        line = json.dumps(document, ensure_ascii=True, allow_nan=False)
    except CannotIndex as error:
        document = {"error": error.problem}
        line = json.dumps(document)
    sys.stdout.flush()
    data = b"\n" + line.encode("ascii") + b"\n"
    while data:
        data = data[os.write(real, data) :]
    return 1 if "error" in document else 0


def _read(path: str, code: str, real: int, arguments: list[str]) -> dict[str, Any]:
    """The index, with what is worth a word to whoever deploys. Raises CannotIndex."""
    from samovar.environment import forking, generators, import_times, interpreter, variables

    manifest = read_manifest(path)
    before = forking.descriptors()
    placed = os.environ.get(_PLACEHOLDERS, "").split(",")
    interpreter.prepare(code, manifest)
    with generators.watching(), variables.watching(placed) as reads:
        try:
            with import_times.measuring() as times:
                import_modules(manifest["modules"])
        except CannotIndex as error:
            _try_with_placeholders(error, reads, code, manifest, real, arguments)
    document = build_index(manifest, code)
    document["notices"] = notices(document["tasks"], reads, before, code)
    if (slow := import_times.notice(times)) is not None:
        document["notices"].append(slow)
    return document


def notices(tasks: list[dict[str, Any]], reads: Any, before: dict[int, str], code: str) -> list[str]:
    """What the modules have made at import that decides how runs start, and what to do about it."""
    from samovar.environment import forking, generators, starts

    found = [starts.generator_notice(stuck) for stuck in generators.find()]
    secrets = {name for task in tasks for name in task["options"]["secrets"]}
    carried = forking.carried(before)
    culprits = [*forking.culprits(carried, code), *reads.of(secrets)]
    # runs that share a process share its imports too
    concerned = [
        task["id"]
        for task in tasks
        if task["options"]["start"] == "auto" and task["options"]["isolation"] != "inline"
    ]
    if culprits and concerned:
        found.append(starts.fresh_notice(culprits))
    if carried and starts.unshared([task["options"] for task in tasks]):
        found.append(starts.unkept_notice(carried))
    return found


def _try_with_placeholders(
    error: CannotIndex, reads: Any, code: str, manifest: dict[str, Any], real: int, arguments: list[str]
) -> None:
    """Begins again with something in the place of each secret, where that may be why the import failed.

    Raises CannotIndex where it is not, or was done.
    """
    from samovar.environment import variables

    unset = {name for name in variables.secret_names(code, manifest["defaults"]) if name not in os.environ}
    wanted = unset if reads.all else unset & reads.missing
    if wanted and _PLACEHOLDERS not in os.environ:
        os.environ.update({name: variables.placeholder(name) for name in unset})
        os.environ[_PLACEHOLDERS] = ",".join(sorted(unset))
        sys.stderr.flush()
        os.dup2(real, 1)
        os.execv(sys.executable, [sys.executable, "-I", os.path.abspath(__file__), *arguments])
    missing = error.cause.args[0] if isinstance(error.cause, KeyError) and error.cause.args else None
    if missing in reads.missing:
        message = (
            f"os.environ has no {missing!r}, which a module reads when it is imported: give it in samovar.toml, "
            f'[env] {missing} = "..."; or, where it is a secret, name it in @task(secrets=[{missing!r}]), and read '
            "it inside of the task"
        )
        raise CannotIndex("import_error", f"{message}\n\n{error}", cause=error.cause)
    if _PLACEHOLDERS in os.environ:
        names_text = os.environ[_PLACEHOLDERS].replace(",", ", ")
        raise CannotIndex(
            "import_error",
            f"{error}\n\nWhile the tasks are read, text such as {variables.placeholder('NAME')!r} stands for the "
            f"secrets ({names_text}): read them inside of tasks where that won't do",
            cause=error.cause,
        )
    raise error


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # threads and atexit hooks of the project's modules have no say in the exit code
