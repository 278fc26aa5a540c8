"""`samovar.secret("NAME")`: the secrets of the run that code is in."""

from __future__ import annotations

import os

from samovar.errors import SecretMissing

#: In the process of a run: those that its task names, by name. None anywhere else.
_given: dict[str, str] | None = None


def secret(name: str) -> str:
    """The value of a secret that the task names in `@task(secrets=[...])`.

    The same stands in the environment of the run's process, as `os.environ[name]`. Outside of a run in a container,
    as in a unit test, the environment is where it is looked for. Raises SecretMissing naming what to do.
    """
    if _given is not None:
        if name in _given:
            return _given[name]
        import difflib

        near = difflib.get_close_matches(name, _given, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SecretMissing(f"the task names no secret {name!r}: {hint}name it in @task(secrets=[{name!r}])")
    if name in os.environ:
        return os.environ[name]
    raise SecretMissing(
        f"there is no secret {name!r} outside of a run: set the environment variable {name} to have one here"
    )


def enter(values: dict[str, str]) -> None:
    """Give this process, which is a run's, its secrets. For the harness."""
    global _given
    _given = dict(values)
    if values:
        os.environ.update(values)
