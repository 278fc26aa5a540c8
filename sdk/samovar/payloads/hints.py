"""Annotations as types: what text names, and what the type variables of generic classes stand for.

Only annotations that decide about a payload are resolved, one at a time: a return type, or a class variable,
may name what is imported under `if TYPE_CHECKING:` alone.
"""

from __future__ import annotations

import sys
import typing
from typing import Any, Callable, TypeVar, Union

from samovar.errors import OptionError

#: What stands around a field's type and says nothing of its JSON.
_AROUND = ("Required", "NotRequired", "ReadOnly", "Final", "ClassVar")


def of_parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function's parameters by name, not yet resolved."""
    return {name: found for name, found in _raw(function).items() if name != "return"}


def resolve_parameter(function: Callable[..., Any], annotation: Any) -> Any:
    """A parameter's annotation. Raises OptionError naming what can't be resolved."""
    names: dict[str, Any] = {parameter.__name__: parameter for parameter in _type_parameters(function)}
    cells = getattr(function, "__closure__", None) or ()
    for name, cell in zip(getattr(getattr(function, "__code__", None), "co_freevars", ()), cells):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return _resolve(annotation, getattr(function, "__globals__", {}), names)


def resolve_alias(alias: Any) -> Any:
    """What `type Name = …` stands for. Raises OptionError naming what can't be resolved."""
    module = sys.modules.get(alias.__module__)
    return _resolve(alias.__value__, vars(module) if module else {}, {})


def of_fields(kind: type, names: typing.Iterable[str], arguments: tuple[Any, ...] = ()) -> dict[str, Any]:
    """The annotations of these fields of a class, resolved; `arguments` are those of a generic one, `Box[int]`.

    Raises OptionError naming the field.
    """
    wanted, found = set(names), {}
    variables = _variables(kind, arguments)
    for owner in reversed(kind.__mro__):
        module = sys.modules.get(owner.__module__)
        raw = _raw(owner) if owner is not object else {}
        for name in [name for name in raw if name in wanted]:
            inside: dict[str, Any] = {**vars(owner), owner.__name__: owner, kind.__name__: kind}
            inside.update({parameter.__name__: parameter for parameter in _type_parameters(owner)})
            for field in wanted:  # a field's default is not what its own name means in an annotation
                inside.pop(field, None)
            try:
                annotation = _resolve(raw[name], vars(module) if module else {}, inside)
            except OptionError as error:
                raise OptionError(f"{kind.__qualname__}.{name}: {error}") from None
            found[name] = bind(annotation, variables.get(owner, {}) or variables.get(kind, {}))
    return found


def bare(annotation: Any) -> tuple[Any, list[str]]:
    """A field's annotation without Required, NotRequired, ReadOnly and Final, and which of them there were."""
    words: list[str] = []
    while True:
        word = getattr(typing.get_origin(annotation), "_name", None)
        if word in _AROUND:
            words.append(word)
            annotation = typing.get_args(annotation)[0]
        elif typing.get_origin(annotation) is typing.Annotated and _is_marked(annotation.__origin__):
            inner, more = bare(annotation.__origin__)
            words += more
            annotation = typing.Annotated[(inner, *annotation.__metadata__)]
        else:
            return annotation, words


def bind(annotation: Any, variables: dict[Any, Any]) -> Any:
    """`annotation` with every type variable replaced: by its argument, its default, its bound, else Any."""
    if isinstance(annotation, TypeVar):
        if annotation in variables:
            return variables[annotation]
        default = getattr(annotation, "__default__", None)
        if default is not None and type(default).__name__ != "NoDefaultType":
            return default
        if annotation.__constraints__:
            return Union[annotation.__constraints__]
        bound = annotation.__bound__
        return Any if bound is None or isinstance(bound, typing.ForwardRef) else bound
    parameters = getattr(annotation, "__parameters__", ())
    if not parameters or isinstance(annotation, type):
        return annotation
    try:
        return annotation[tuple(bind(parameter, variables) for parameter in parameters)]
    except TypeError:  # a ParamSpec or TypeVarTuple among them
        return annotation


def _is_marked(annotation: Any) -> bool:
    return getattr(typing.get_origin(annotation), "_name", None) in _AROUND


def _variables(kind: Any, arguments: tuple[Any, ...]) -> dict[Any, dict[Any, Any]]:
    """What type variables stand for in each of the class's bases: two bases may use one variable differently."""
    parameters = getattr(kind, "__parameters__", ()) or getattr(kind, "__type_params__", ())
    own = dict(zip(parameters, arguments))
    found = {kind: own}
    for base in getattr(kind, "__orig_bases__", ()):
        origin = typing.get_origin(base)
        if isinstance(origin, type) and origin is not typing.Generic:
            inner = tuple(bind(argument, own) for argument in typing.get_args(base))
            for owner, variables in _variables(origin, inner).items():
                found.setdefault(owner, variables)
                for variable, meaning in variables.items():
                    own.setdefault(variable, meaning)  # a TypedDict has its bases' fields as its own
        elif isinstance(base, type) and base is not kind:
            for owner, variables in _variables(base, ()).items():
                found.setdefault(owner, variables)
    return found


def _raw(owner: Any) -> dict[str, Any]:
    """The annotations as they stand there."""
    if sys.version_info >= (3, 14):  # they are evaluated when asked for, all of them
        from importlib import import_module

        annotationlib = import_module("annotationlib")
        return dict(annotationlib.get_annotations(owner, format=annotationlib.Format.FORWARDREF))
    # a class without annotations of its own may answer with those of its base
    found = (
        vars(owner).get("__annotations__") if isinstance(owner, type) else getattr(owner, "__annotations__", None)
    )
    return dict(found) if isinstance(found, dict) else {}


def _type_parameters(owner: Any) -> tuple[Any, ...]:
    return tuple(getattr(owner, "__type_params__", ()))


def _resolve(annotation: Any, names: dict[str, Any], inside: dict[str, Any]) -> Any:
    holder = type("holder", (), {"__annotations__": {"it": annotation}})
    try:
        return typing.get_type_hints(holder, dict(names), inside, include_extras=True)["it"]
    except (NameError, TypeError, SyntaxError, AttributeError) as error:
        text = annotation if isinstance(annotation, str) else getattr(annotation, "__forward_arg__", annotation)
        advice = "import that name at run time too, not only under `if TYPE_CHECKING:`, or write another type"
        if isinstance(error, SyntaxError):
            advice = "write it as a type"
        elif isinstance(error, TypeError):
            advice = "write it as a type that this Python knows"
            if sys.version_info < (3, 10):
                advice = "on Python 3.9 write Optional[X] and Union[X, Y], not X | Y"
        raise OptionError(f"an annotation can't be resolved: {error} (in {str(text)!r}); {advice}") from None
