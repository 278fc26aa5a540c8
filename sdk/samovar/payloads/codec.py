"""Values as JSON: tagged for checkpoints, so that they come back as they were; plain for results.

Tagged form: what JSON has stands for itself; anything else is an object with the one key `$samovar`,
whose value is `[tag, ...]`:

    bytes ["bytes", base64]          datetime/date/time [tag, ISO text]     timedelta ["timedelta", d, s, us]
    Decimal ["decimal", text]        UUID ["uuid", text]                    tuple/set/frozenset [tag, [items]]
    File ["file", reference]
    dataclass, pydantic model ["dataclass" | "model", "module:Class", {field: value}]
    NamedTuple ["namedtuple", "module:Class", [items]]    Enum ["enum", "module:Class", member name]
    a dict that has the key "$samovar" itself ["dict", [[key, value], ...]]

Plain form: a File as its reference `{"$file": id, "name", "size"}`, bytes as base64 text, dates as ISO text,
timedelta as seconds, Decimal and UUID as text, a dataclass as an object, a pydantic model by its aliases, an Enum
as its value (its name where the value has no JSON), tuples and sets as lists. Scalars of numpy and pandas are what
they hold in either form: numbers, booleans, dates, None for NA and NaT; numpy's arrays are lists in plain form
(libraries.py).

Refused, with the key and the path inside the value: floats that are not finite, dicts with keys that are
not text, cycles, nesting deeper than 100, objects of other classes, more than MAX_VALUE bytes.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from typing import Any, Callable

from samovar.errors import CheckpointError, NotSerializable
from samovar.payloads import libraries
from samovar.wire import MAX_VALUE

TAG = "$samovar"
_DEEPEST = 100
#: Of a few bytes whatever the value: an integer has at most so many bits.
_SMALL = (bool, int, float)


def encode(value: object, name: str) -> Any:
    """`value` in tagged form; `name` (the checkpoint's key) begins every path. Raises NotSerializable."""
    encoded = _Encoder(name, tagged=True).encode(value, name)
    check_size(encoded, name)
    return encoded


def plain(value: object, name: str = "result") -> Any:
    """`value` as plain JSON; `name` begins every path in an error. Raises NotSerializable."""
    encoded = _Encoder(name, tagged=False).encode(value, name)
    check_size(encoded, name)
    return encoded


def check_size(encoded: object, name: str) -> None:
    """Raises NotSerializable where its encoded size is above MAX_VALUE bytes."""
    if encoded is None or type(encoded) in _SMALL:
        return
    size = len(json.dumps(encoded, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))
    if size > MAX_VALUE:
        raise _too_large(name, f"{size:,} bytes encoded are")


def decode(encoded: Any, name: str) -> Any:
    """What `encode` was given. Raises CheckpointError where a class of it is no longer to be found."""
    if isinstance(encoded, list):
        return [decode(item, name) for item in encoded]
    if isinstance(encoded, dict):
        if TAG in encoded:
            return _decode_tagged(encoded[TAG], name)
        return {key: decode(item, name) for key, item in encoded.items()}
    return encoded


def _too_large(name: str, what: str) -> NotSerializable:
    return NotSerializable(
        f"{name}: {what} more than the {MAX_VALUE:,} that a value may have; "
        "keep the data in a file or an object store and return where it is"
    )


class _Encoder:
    def __init__(self, name: str, *, tagged: bool) -> None:
        self._name = name
        self._tagged = tagged
        self._size = 0
        self._open: set[int] = set()

    def encode(self, value: Any, path: str) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return self._text(value, path)
        if kind is int:
            return self._integer(value, path)
        if kind is float:
            return self._number(value, path)
        if len(self._open) >= _DEEPEST:
            raise NotSerializable(f"{_short(path)}: nested more than {_DEEPEST} deep; flatten the value")
        if id(value) in self._open:
            raise NotSerializable(f"{path}: the value contains itself")
        self._open.add(id(value))
        try:
            return self._object(value, path)
        finally:
            self._open.discard(id(value))

    def _object(self, value: Any, path: str) -> Any:
        kind = type(value)
        enum = _loaded("enum", "Enum")
        if enum is not None and isinstance(value, enum):
            if self._tagged:
                if value.name is None:  # a Flag of several members has no name before Python 3.11
                    raise NotSerializable(f"{path}: {value!r} has no name; store its members one by one")
                return {TAG: ["enum", _address(kind, path), value.name]}
            try:
                return self.encode(value.value, path)
            except NotSerializable:
                if value.name is None or isinstance(value.value, (float, str)):
                    raise
                return value.name
        foreign = libraries.unwrap(value, tagged=self._tagged)
        if foreign is not value:
            self._count(getattr(foreign, "least", 0))
            return self.encode(foreign, path)
        if isinstance(value, str):
            return self._text(str.__str__(value), path)
        if isinstance(value, int):
            return self._integer(int(value), path)
        if isinstance(value, float):
            return self._number(float(value), path)
        if isinstance(value, dict):
            return self._dict(value, path)
        if isinstance(value, list):
            return self._items(value, path)
        if isinstance(value, tuple):
            return self._tuple(value, path)
        if isinstance(value, (set, frozenset)):
            items = self._items(_ordered(value), path)
            return {TAG: ["set" if isinstance(value, set) else "frozenset", items]} if self._tagged else items
        if isinstance(value, (bytes, bytearray, memoryview)):
            self._count(len(value))
            text = base64.b64encode(bytes(value)).decode("ascii")
            return {TAG: ["bytes", text]} if self._tagged else text
        file = _loaded("samovar.values.file", "File")
        if file is not None and isinstance(value, file):
            reference = value.reference()
            return {TAG: ["file", reference]} if self._tagged else reference
        scalar = self._scalar(value)
        if scalar is not None:
            return scalar
        if hasattr(kind, "__dataclass_fields__"):
            fields = {name: self.encode(getattr(value, name), f"{path}.{name}") for name in _fields(kind)}
            return {TAG: ["dataclass", _address(kind, path), fields]} if self._tagged else fields
        if callable(getattr(kind, "model_dump", None)) and callable(getattr(kind, "model_validate", None)):
            # plain, it may become a payload, which is read by alias
            dumped = self.encode(value.model_dump(mode="json", by_alias=not self._tagged), path)
            return {TAG: ["model", _address(kind, path), dumped]} if self._tagged else dumped
        raise NotSerializable(f"{path}: {_describe(value)} can't be stored; {_remedy(value)}")

    def _scalar(self, value: Any) -> Any:
        """Values of a module that is loaded if there is one of its values at all."""
        for module, name, tag, text in _SCALARS:
            kind = _loaded(module, name)
            if kind is not None and isinstance(value, kind):
                # a subclass may know nanoseconds, which the class that comes back does not
                exact = kind.isoformat(value) if tag == "datetime" and self._tagged else text(value)
                return {TAG: [tag, exact]} if self._tagged else exact
        kind = _loaded("datetime", "timedelta")
        if kind is not None and isinstance(value, kind):
            parts = ["timedelta", value.days, value.seconds, value.microseconds]
            return {TAG: parts} if self._tagged else value.total_seconds()
        return None

    def _count(self, size: int) -> None:
        """Stops before a value that is far too large is copied: the container may not have the memory."""
        self._size += size
        if self._size > MAX_VALUE:
            raise _too_large(self._name, f"at least {self._size:,} bytes are")

    def _text(self, value: str, path: str) -> str:
        self._count(len(value))
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise NotSerializable(
                f"{path}: text with a lone surrogate ({value[error.start]!r}) is not valid Unicode; "
                'decode the bytes it came from with errors="replace", or store them as bytes'
            ) from None
        return value

    def _integer(self, value: int, path: str) -> int:
        if value.bit_length() > 8192:
            raise NotSerializable(f"{path}: an integer of {value.bit_length()} bits is too large; store it as text")
        return value

    def _number(self, value: float, path: str) -> float:
        if not math.isfinite(value):
            raise NotSerializable(f"{path}: a float that is not finite ({value!r}); use None or text instead")
        return value

    def _items(self, value: Any, path: str) -> list[Any]:
        return [self.encode(item, f"{path}[{index}]") for index, item in enumerate(value)]

    def _tuple(self, value: Any, path: str) -> Any:
        items = self._items(value, path)
        if not self._tagged:
            return items
        if hasattr(type(value), "_fields"):
            return {TAG: ["namedtuple", _address(type(value), path), items]}
        return {TAG: ["tuple", items]}

    def _dict(self, value: Any, path: str) -> Any:
        for key in value:
            if not isinstance(key, str):
                raise NotSerializable(
                    f"{path}: a dict key that is not text ({key!r}, {type(key).__name__}); use str keys"
                )
        encoded = {
            self._text(str.__str__(key), path): self.encode(item, _member(path, key)) for key, item in value.items()
        }
        if self._tagged and TAG in encoded:
            return {TAG: ["dict", [[key, item] for key, item in encoded.items()]]}
        return encoded


_SCALARS: list[tuple[str, str, str, Callable[[Any], str]]] = [
    ("datetime", "datetime", "datetime", lambda value: str(value.isoformat())),
    ("datetime", "date", "date", lambda value: str(value.isoformat())),
    ("datetime", "time", "time", lambda value: str(value.isoformat())),
    ("decimal", "Decimal", "decimal", str),
    ("uuid", "UUID", "uuid", str),
]


def _decode_tagged(body: Any, name: str) -> Any:
    try:
        tag, *rest = body
        if tag == "bytes":
            return base64.b64decode(rest[0])
        if tag == "dict":
            return {key: decode(item, name) for key, item in rest[0]}
        if tag in ("tuple", "set", "frozenset"):
            makers: dict[str, Callable[[Any], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}
            return makers[tag](decode(rest[0], name))
        if tag in ("datetime", "date", "time", "timedelta"):
            import datetime

            made = getattr(datetime, tag)
            return made(*rest) if tag == "timedelta" else made.fromisoformat(rest[0])
        if tag == "decimal":
            from decimal import Decimal

            return Decimal(rest[0])
        if tag == "file":
            from samovar.values.file import File

            return File.of(rest[0])
        if tag == "uuid":
            from uuid import UUID

            return UUID(rest[0])
        if tag in ("enum", "dataclass", "namedtuple", "model"):
            return _decode_class(tag, _find(rest[0], name), rest[1], name)
    except (ValueError, TypeError, IndexError) as error:
        raise CheckpointError(f"checkpoint {name!r} can't be read back: {error}") from error
    raise CheckpointError(f"checkpoint {name!r} was stored by a newer Samovar: unknown tag {tag!r}")


def _decode_class(tag: str, kind: Any, body: Any, name: str) -> Any:
    if tag == "enum":
        try:
            return kind[body]
        except KeyError:
            raise CheckpointError(f"checkpoint {name!r}: {kind.__qualname__} has no member {body!r} now") from None
    if tag == "namedtuple":
        return kind._make(decode(body, name))
    if tag == "model":
        return _decode_model(kind, json.dumps(decode(body, name)))
    # past __init__ and __post_init__: the fields are set to what they were, whatever these would make of them
    made = object.__new__(kind)
    for field_name, field in kind.__dataclass_fields__.items():
        if field_name in body:
            value = decode(body[field_name], name)
        elif field_name not in _fields(kind):
            continue
        else:
            value = _default(field, f"checkpoint {name!r}: {kind.__qualname__}")
        object.__setattr__(made, field_name, value)
    return made


def _decode_model(kind: Any, text: str) -> Any:
    """A pydantic model out of the JSON that it was dumped as, by the fields' own names."""
    try:
        return kind.model_validate_json(text, by_name=True)
    except TypeError:  # a pydantic that does not have the word yet, or a class that only looks like a model
        return kind.model_validate(json.loads(text))


def _default(field: Any, where: str) -> Any:
    from dataclasses import MISSING

    if field.default is not MISSING:
        return field.default
    if field.default_factory is not MISSING:
        return field.default_factory()
    raise CheckpointError(f"{where} has got a field {field.name!r} since this was stored; give it a default")


def _fields(kind: Any) -> list[str]:
    from dataclasses import fields

    return [field.name for field in fields(kind)]


def _address(kind: type, path: str) -> str:
    if "<locals>" in kind.__qualname__:
        raise NotSerializable(
            f"{path}: class {kind.__qualname__} is defined inside a function and can't be found again; "
            "define it at the top level of a module"
        )
    return f"{kind.__module__}:{kind.__qualname__}"


def _find(address: str, name: str) -> Any:
    from importlib import import_module

    module, _, qualname = address.partition(":")
    try:
        found: Any = import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(
            f"checkpoint {name!r} holds a {address}, which is not to be found now ({error}); "
            "keep the class where it was, or replay the run from before this checkpoint"
        ) from error
    if not isinstance(found, type):
        raise CheckpointError(f"checkpoint {name!r} holds a {address}, which is no class now")
    return found


def _loaded(module: str, name: str) -> Any:
    """A class of a module that something has imported; without it there can be no instance either."""
    found = sys.modules.get(module)
    return getattr(found, name, None) if found is not None else None


def _ordered(items: Any) -> list[Any]:
    try:
        return sorted(items)
    except TypeError:
        return sorted(items, key=repr)


def _member(path: str, key: str) -> str:
    return f"{path}.{key}" if str(key).isidentifier() else f"{path}[{key!r}]"


def _short(path: str) -> str:
    return path if len(path) <= 120 else f"{path[:60]}…{path[-60:]}"


def _describe(value: object) -> str:
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"an object of type {module}{kind.__qualname__}"


def _remedy(value: object) -> str:
    if callable(getattr(value, "tolist", None)):
        return "convert it with .tolist()"
    if callable(getattr(value, "to_dict", None)):
        return "convert it with .to_dict()"
    if callable(value):
        return "call it and store what it returns"
    return "use JSON types, bytes, dates, Decimal, UUID or dataclasses"
