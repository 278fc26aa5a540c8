"""A task's function and its payload: keyword arguments bound, converted and described as a JSON Schema."""

from __future__ import annotations

import typing
from typing import Any, Callable

from samovar.errors import InvalidPayload, NotSerializable, OptionError
from samovar.payloads import hints
from samovar.payloads.codec import plain
from samovar.payloads.definitions import Definitions
from samovar.payloads.schema import compile_type
from samovar.payloads.shape import Problems, Shape, or_null
from samovar.payloads.shapes import Fields, class_shape, fields_schema, load_fields
from samovar.values import functions

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Signature:
    """The parameters of a task. Raises OptionError for one that a JSON object can't fill."""

    def __init__(self, task: str, function: Callable[..., Any]) -> None:
        self.task = task
        self._parameters = functions.parameters(function)
        inner = functions.unwrap(function)
        types = hints.of_parameters(inner)
        self._fields: dict[str, tuple[Shape, bool]] = {}
        self._rest: Shape | None = None
        for parameter in self._parameters:
            name = parameter.name
            if parameter.kind == functions.VAR_POSITIONAL:
                raise OptionError(
                    f"task {task!r}: *{name} can't be filled, a payload has names; use {name}: list[...]"
                )
            try:
                annotation = hints.resolve_parameter(inner, types.get(name, Any))
                if parameter.kind == functions.VAR_KEYWORD:
                    self._take_rest(annotation)
                    continue
                shape = compile_type(annotation)
            except OptionError as error:
                raise OptionError(f"task {task!r}, parameter {name!r}: {error}") from None
            if parameter.default is None:  # `team_id: int = None`: what is the default may be given as well
                shape = or_null(shape)
            self._fields[name] = (shape, parameter.required)

    def _take_rest(self, annotation: Any) -> None:
        """`**rest: T`: any other names, each a T; `**rest: Unpack[Options]`: those of the TypedDict."""
        if getattr(typing.get_origin(annotation), "_name", None) != "Unpack":
            self._rest = compile_type(annotation)
            return
        (options,) = typing.get_args(annotation)
        shape = class_shape(typing.get_origin(options) or options, typing.get_args(options), compile_type)
        if not isinstance(shape, Fields):
            raise OptionError(f"{annotation} is no TypedDict")
        self._fields.update(shape.fields)

    def bind(self, payload: Any) -> functions.Bound:
        """The arguments of a call. Raises InvalidPayload with every bad field at once."""
        problems: Problems = []
        if not isinstance(payload, dict):
            problems.append({"path": "payload", "message": "expected an object of keyword arguments"})
            raise InvalidPayload(self.task, problems)
        for name, value in payload.items():
            try:
                plain(value, str(name))  # NaN has no place in JSON, wherever it hides
            except NotSerializable as error:
                path, _, message = str(error).partition(": ")
                problems.append({"path": path, "message": message})
        if problems:
            raise InvalidPayload(self.task, problems)
        rest = {}
        if self._rest is not None:
            for name in payload:
                if name not in self._fields:
                    rest[name] = self._rest.load(payload[name], name, problems)
        values = load_fields(self._fields, {k: v for k, v in payload.items() if k not in rest}, "", problems)
        if problems:
            raise InvalidPayload(self.task, problems)
        return functions.bind(self._parameters, {**values, **rest})

    def schema(self) -> dict[str, Any]:
        """The JSON Schema of the payload, with defaults and every named type in `$defs`."""
        definitions = Definitions()
        for name, (shape, _) in self._fields.items():
            try:
                shape.schema(definitions)  # the fields of classes are looked at here for the first time
            except OptionError as error:
                raise OptionError(f"task {self.task!r}, parameter {name!r}: {error}") from None
        schema = {"$schema": DIALECT, **fields_schema(self._fields, definitions)}
        if self._rest is not None:
            schema["additionalProperties"] = self._rest.schema(definitions) or True
        for name, _, given in self._parameters:
            if name in self._fields and given is not functions.REQUIRED:
                try:
                    default = plain(given)
                except NotSerializable:
                    continue  # a default that has no JSON form is no less a default
                schema["properties"][name] = {**schema["properties"][name], "default": default}
        if definitions:
            schema["$defs"] = definitions
        return schema
