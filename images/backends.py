"""Asking build backends what a project needs, where its files do not say: their programs run in a builder."""

from __future__ import annotations

import json
import threading

from cachetools import LRUCache

from images import names
from images.dependencies import Answer, Plan
from images.dependencies.findings import Library
from images.errors import InstallError
from images.fetching import worked
from images.install import ask_script
from images.workshop import LENT, Workshop, identifier_of, tree_parts

#: What build backends said, by the directory's content: code changes often, and what it needs seldom.
_answers: LRUCache[str, Answer] = LRUCache(maxsize=256)
_answers_lock = threading.Lock()


def ask_backends(shop: Workshop, below: str, plan: Plan) -> dict[str, Answer]:
    """What the build backends of the directories `plan.ask` say they need, by directory.

    Their programs run in a builder as a package's setup does. Asked once for each state of a directory.
    """
    identifier = identifier_of(shop, below)
    answers: dict[str, Answer] = {}
    ask: dict[str, Library] = {}
    for library in plan.ask:
        key = names.digest([identifier, *tree_parts(library.path)])
        with _answers_lock:
            known = _answers.get(key)
        if known is None:
            ask[key] = library
        else:
            answers[library.where] = known
    if not ask:
        return answers
    shop.log(f"asking the build backend of {', '.join(library.where for library in ask.values())} what it needs")
    files = {"install.sh": ask_script(len(ask), LENT).encode()}
    trees = {f"src/{number}": library.path for number, library in enumerate(ask.values())}
    said: list[str] = []
    with worked(shop, identifier, files, trees, plan, hear=said, asked=list(ask.values())):
        pass
    for (key, library), line in zip(ask.items(), said, strict=False):
        answers[library.where] = _answer(library, line)
        with _answers_lock:
            _answers[key] = answers[library.where]
    if len(answers) < len(plan.ask):
        raise InstallError("a build backend ended before it said what the project needs; name a requirements file")
    return answers


def _answer(library: Library, line: str) -> Answer:
    try:
        metadata = json.loads(line)["install"][0]["metadata"]
        requires = [str(item) for item in metadata.get("requires_dist") or []]
        python = metadata.get("requires_python")
        return Answer(str(metadata["name"]), str(metadata["version"]), requires, python and str(python))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise InstallError(
            f"pip's report on {library.where} cannot be read; name a requirements file in samovar.toml"
        ) from None
