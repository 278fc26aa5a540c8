"""The project's modules: which they are, and importing them with errors that say what to put right."""

from __future__ import annotations

import json
from typing import Any

from samovar.errors import OptionError

Field = dict[str, str]


class CannotIndex(Exception):
    """The index can't be made; `problem` is what a person has to put right, `cause` what a module has raised."""

    def __init__(
        self, code: str, message: str, fields: list[Field] | None = None, cause: BaseException | None = None
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.problem = {"code": code, "message": message, "fields": fields or []}


def read_manifest(path: str) -> dict[str, Any]:
    """`{"project", "modules", "defaults", "env", "paths"}` of an image. Raises CannotIndex."""
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        modules = manifest["modules"]
        if not isinstance(modules, list) or not all(isinstance(module, str) for module in modules):
            raise TypeError("modules is a list of names")
        return {
            "project": manifest["project"],
            "modules": modules,
            "defaults": manifest.get("defaults") or {},
            "env": {str(name): str(value) for name, value in (manifest.get("env") or {}).items()},
            "paths": [str(path) for path in manifest.get("paths") or ["."]],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CannotIndex("manifest", f"{path} can't be read: {error!r}") from None


def import_modules(modules: list[str]) -> None:
    """Import the project's modules. Raises CannotIndex saying which failed, and where."""
    from importlib import import_module

    from samovar.values.hints import with_hint
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
                cause=error,
            ) from None
        except SyntaxError as error:
            place = f"{error.filename}:{error.lineno}"
            text = (error.text or "").rstrip()
            message = f"{place}: {type(error).__name__}: {error.msg}\n    {text.strip()}"
            raise CannotIndex("syntax_error", message, [{"path": place, "message": error.msg}]) from None
        except OptionError as error:
            raise CannotIndex("bad_option", str(error)) from None
        except (Exception, SystemExit) as error:
            said = f"{type(error).__name__}: {with_hint(error, importing=True)}"
            message = f"importing {module!r} failed: {said}\n\n{format_exception(error)}"
            raise CannotIndex("import_error", message, cause=error) from None
