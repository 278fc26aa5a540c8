"""Shapes that pydantic decides about: models, its dataclasses, and annotations that carry its words.

pydantic itself converts and refuses; the SDK never imports it, and finds it only where a project has. A payload is
JSON, so it is validated as JSON (a date is text there also for a strict model). The JSON Schema is read out of the
schema that pydantic validates by (core.py), not out of the one it documents, which leaves out what is converted.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Callable

from samovar.errors import OptionError
from samovar.payloads.definitions import Definitions
from samovar.payloads.shape import Problems, Shape


def is_pydantic(kind: Any) -> bool:
    """Whether pydantic has made `kind`: a model, or a dataclass of its own."""
    if callable(getattr(kind, "model_validate", None)) and callable(getattr(kind, "model_json_schema", None)):
        return True
    return "__pydantic_validator__" in vars(kind) and "__dataclass_fields__" in vars(kind)


def understands(annotation: Any) -> bool:
    """Whether the project has pydantic, and pydantic a way to validate this annotation."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not hasattr(pydantic, "TypeAdapter"):
        return False
    try:
        pydantic.TypeAdapter(annotation)
    except Exception:  # pydantic has many ways to say that it does not know a type
        return False
    return True


class ModelShape(Shape):
    """A pydantic model or dataclass, or any annotation by pydantic's TypeAdapter."""

    def __init__(self, kind: Any) -> None:
        self.exact = (dict,)
        self.kind = kind
        is_class = isinstance(kind, type)
        self.name = f"an object ({kind.__name__})" if is_class else str(kind)
        self._is_class = is_class and is_pydantic(kind)
        self._adapter: Any = None
        if not self._is_class:
            self.exact = ()
            self._adapter = sys.modules["pydantic"].TypeAdapter(kind)

    def load(self, value: Any, path: str, problems: Problems) -> Any:
        if self._is_class and isinstance(value, self.kind):
            return value
        try:
            return self._validate(value)
        except ValueError as error:
            details = getattr(error, "errors", None)
            if not callable(details):
                problems.append({"path": path, "message": str(error)})
                return None
            for detail in details():
                place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"])
                problems.append({"path": path + place, "message": detail["msg"]})
            return None

    def _validate(self, value: Any) -> Any:
        try:
            text: str | None = json.dumps(value)
        except TypeError:  # a default or a file among the JSON: an object that is what the model wants already
            text = None
        if not self._is_class:
            return self._adapter.validate_python(value) if text is None else self._adapter.validate_json(text)
        validator = self.kind.__pydantic_validator__
        return validator.validate_python(value) if text is None else validator.validate_json(text)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        from samovar.payloads.core import CoreReader

        return CoreReader(definitions).read(self._core())

    def _core(self) -> Any:
        owner = self.kind if self._is_class else self._adapter
        try:
            rebuild: Callable[..., Any] | None = getattr(self.kind, "model_rebuild", None)
            if self._is_class and rebuild is not None:
                rebuild()  # one that names a class further down in its module; nothing where it is complete
            core = owner.__pydantic_core_schema__ if self._is_class else owner.core_schema
            core["type"]
        except Exception as error:  # an annotation that is not there, in one of several errors
            raise OptionError(
                f"{self.name}: pydantic can't complete it: {str(error).splitlines()[0]}; import what its fields "
                "name at run time too, not only under `if TYPE_CHECKING:`"
            ) from None
        return core
