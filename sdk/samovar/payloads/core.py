"""JSON Schemas out of pydantic's core schemas: what a model accepts as JSON, as exactly as it can be said.

Structure (objects, lists, unions, aliases) becomes standard keywords. For a scalar the standard keywords say
roughly what is accepted ("5" for an int), and `x-samovar-reads` holds the rule itself, a few JSON values that the
coordinator has pydantic apply: `{"type": "int", "ge": 1, "config": {"strict": true}}`. What only the model's own
code decides (validators that run before, `__init__`) is left open, and refused in the run.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from samovar.errors import NotSerializable
from samovar.payloads import readings
from samovar.payloads.codec import plain
from samovar.payloads.definitions import Definitions

Node = dict[str, Any]
Schema = dict[str, Any]

#: Settings of a model that decide what its scalars accept.
_SETTINGS = (
    "strict",
    "allow_inf_nan",
    "coerce_numbers_to_str",
    "str_strip_whitespace",
    "str_to_lower",
    "str_to_upper",
    "str_min_length",
    "str_max_length",
    "val_json_bytes",
    "val_temporal_unit",
    "regex_engine",
)
#: Settings that decide about an object's keys.
_KEYS = ("extra_fields_behavior", "validate_by_name", "validate_by_alias", "populate_by_name")
_NOTHING: Schema = {"not": {}}
_ADDRESSES = re.compile(r"^ip_v([46])_(address|network|interface)_validator$")
_ANY_ADDRESS = {
    f"IPvAny{what.capitalize()}._validate": f"ip_{what}" for what in ("address", "network", "interface")
}


class CoreReader:
    """Reads core schemas into JSON Schemas; named classes go into `definitions`."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._known: dict[str, Node] = {}
        self._config: dict[str, Any] = {}

    def read(self, node: Node) -> Schema:
        """What is accepted for `node`; `{}`, anything, where that can't be said."""
        kind = str(node["type"])
        if kind in readings.TYPES:
            return readings.scalar(
                node, {name: self._config[name] for name in (*_SETTINGS, "regex_engine") if name in self._config}
            )
        # `definitions` is a kind of node; the attribute is the place where names go
        name = "definitions_node" if kind == "definitions" else kind.replace("-", "_")
        method = getattr(self, f"_{name}", None)
        found: Schema = {} if method is None else method(node)
        updates = (node.get("metadata") or {}).get("pydantic_js_updates") or {}
        words = {name: text for name, text in updates.items() if name in ("title", "description")}
        return {**found, **words}

    # ------------------------------------------------------------ names

    def _definitions_node(self, node: Node) -> Schema:
        for definition in node["definitions"]:
            self._known[definition["ref"]] = definition
        return self.read(node["schema"])

    def _definition_ref(self, node: Node) -> Schema:
        known = self._known.get(node["schema_ref"])
        if known is None:
            return {}
        return self.read(known) if known["type"] in _NAMED else self._named(known, self.read)

    def _named(self, node: Node, make: Any) -> Schema:
        """A reference to what `make(node)` gives, made once for a class and the settings it has here."""
        outer = self._config
        if "config" in node:
            self._config = node["config"] or {}
        settings = sorted((name, repr(self._config[name])) for name in (*_SETTINGS, *_KEYS) if name in self._config)
        cls = node.get("cls")
        name, is_new = self._definitions.name(
            (node.get("ref") or id(cls), tuple(settings)),
            getattr(cls, "__name__", None) or str(node.get("ref")).partition(":")[0].rpartition(".")[2],
            f"{cls.__module__}.{cls.__qualname__}" if isinstance(cls, type) else "",
        )
        if is_new:
            self._definitions[name] = {}
            self._definitions[name].update(make(node))
        self._config = outer
        return {"$ref": f"#/$defs/{name}"}

    # ------------------------------------------------------------ objects

    def _model(self, node: Node) -> Schema:
        def make(node: Node) -> Schema:
            if node.get("custom_init"):
                return {"type": "object"}  # its own __init__ gets the fields, and may take others
            return self.read(node["schema"])

        return self._named(node, make)

    def _dataclass(self, node: Node) -> Schema:
        return self._named(node, lambda node: self.read(node["schema"]))

    def _typed_dict(self, node: Node) -> Schema:
        return self._named(node, self._typed_dict_fields)

    def _typed_dict_fields(self, node: Node) -> Schema:
        total = node.get("total", True)
        fields = [(name, field, field.get("required", total)) for name, field in node["fields"].items()]
        return self._object(fields, node)

    def _model_fields(self, node: Node) -> Schema:
        fields = [(name, field, not _has_default(field["schema"])) for name, field in node["fields"].items()]
        return self._object(fields, node)

    def _dataclass_args(self, node: Node) -> Schema:
        fields = [
            (field["name"], field, not _has_default(field["schema"]))
            for field in node["fields"]
            if field.get("init", True)
        ]
        schema = self._object(fields, node)
        if schema.get("additionalProperties", True):  # what __init__ does not take is left out without a word
            for field in node["fields"]:
                if not field.get("init", True):
                    schema["properties"].setdefault(field["name"], {})
        return schema

    def _object(self, fields: list[tuple[str, Node, bool]], node: Node) -> Schema:
        properties: dict[str, Schema] = {}
        required: list[str] = []
        every: list[Schema] = []
        places = [self._paths(name, field) for name, field, _ in fields]
        used = Counter(key for paths in places for key in {path[0] for path in paths})
        extra = node.get("extra_behavior") or self._config.get("extra_fields_behavior") or "ignore"
        for (_, field, needed), paths in zip(fields, places):
            schema = self.read(field["schema"])
            words = {
                word: text
                for word, text in ((field.get("metadata") or {}).get("pydantic_js_updates") or {}).items()
                if word in ("title", "description")
            }
            schema = {**schema, **words}
            if len(paths) == 1 and len(paths[0]) == 1:
                properties[paths[0][0]] = schema
                if needed:
                    required.append(paths[0][0])
                continue
            # of a key that is not read, another field may have a use; else it is unknown
            firsts = {path[0] for path in paths if extra == "forbid" and used[path[0]] == 1}
            # where none of the places is there, it is the first that is missing
            rest: Schema = (_path_there(paths[0]) or {}) if needed else _absent(firsts)
            for path in reversed(paths):
                there = _path_there(path)
                if there is None:  # counted from the end of a list
                    rest = {}
                    continue
                value = {**_path_value(path, schema), **_absent(firsts - {path[0]})}
                rest = {"if": there, "then": value, "else": rest}
            every.append(rest)
        made: Schema = {"type": "object", "properties": properties, "required": required}
        for key in sorted(used):
            properties.setdefault(key, {})
        if every:
            made["allOf"] = every
        if extra == "forbid":
            made["additionalProperties"] = False
        elif extra == "allow" and node.get("extras_schema"):
            made["additionalProperties"] = self.read(node["extras_schema"])
        return made

    def _paths(self, name: str, field: Node) -> list[list[Any]]:
        """The places a field is read from, the first that is there."""
        alias = field.get("validation_alias")
        if alias is None:
            return [[name]]
        if isinstance(alias, str):
            paths: list[list[Any]] = [[alias]]
        else:
            paths = [list(alias)] if not isinstance(alias[0], list) else [list(path) for path in alias]
        by_name = self._config.get("validate_by_name") or self._config.get("populate_by_name")
        if self._config.get("validate_by_alias") is False:
            paths = []
        return [*paths, [name]] if by_name and [name] not in paths else paths or [[name]]

    def _dict(self, node: Node) -> Schema:
        schema: Schema = {"type": "object"}
        if "values_schema" in node:
            schema["additionalProperties"] = self.read(node["values_schema"]) or True
        if "keys_schema" in node:
            schema["propertyNames"] = self.read(node["keys_schema"])
        return {**schema, **_bounds(node, "Properties")}

    _ordered_dict = _counter = _dict

    # ------------------------------------------------------------ lists

    def _list(self, node: Node) -> Schema:
        schema: Schema = {"type": "array"}
        if "items_schema" in node:
            schema["items"] = self.read(node["items_schema"])
        return {**schema, **_bounds(node, "Items")}

    _deque = _list

    def _generator(self, node: Node) -> Schema:
        return {"type": ["array", "string", "object"]}  # it looks at its items when it is asked for them

    def _set(self, node: Node) -> Schema:
        schema = self._list({name: node[name] for name in ("items_schema",) if name in node})
        return {**schema, **readings.distinct(node.get("min_length"), node.get("max_length"))}

    _frozenset = _set

    def _tuple(self, node: Node) -> Schema:
        items = [self.read(item) for item in node.get("items_schema", [])]
        variadic = node.get("variadic_item_index")
        if variadic is None:
            return _exactly(items, len(items))
        bounds: Schema = _bounds(node, "Items")
        bounds["minItems"] = max(bounds.get("minItems", 0), len(items) - 1)
        if variadic:
            bounds["prefixItems"] = items[:variadic]
        if variadic == len(items) - 1:  # else where the items after those of any number are can't be said
            bounds["items"] = items[-1]
        return {"type": "array", **bounds}

    def _named_tuple(self, node: Node) -> Schema:
        return self._named(node, lambda node: self._arguments_of(node["fields"]))

    def _call(self, node: Node) -> Schema:  # NamedTuple, before pydantic had a word for it
        return self.read(node["arguments_schema"])

    def _arguments(self, node: Node) -> Schema:
        if any(name in node for name in ("var_args_schema", "var_kwargs_schema")):
            return {}
        return self._arguments_of(node["arguments_schema"])

    def _arguments_of(self, fields: list[Node]) -> Schema:
        items = {field["name"]: self.read(field["schema"]) for field in fields}
        needed = [field["name"] for field in fields if not _has_default(field["schema"])]
        as_object = {
            "type": "object",
            "properties": items,
            "required": needed,
            "additionalProperties": False,
        }
        return {"anyOf": [_exactly(list(items.values()), len(needed)), as_object]}

    # ------------------------------------------------------------ one of several

    def _nullable(self, node: Node) -> Schema:
        return {"anyOf": [self.read(node["schema"]), {"type": "null"}]}

    def _union(self, node: Node) -> Schema:
        choices = [choice[0] if isinstance(choice, tuple) else choice for choice in node["choices"]]
        return {"anyOf": [self.read(choice) for choice in choices]}

    def _tagged_union(self, node: Node) -> Schema:
        schema: Schema = {"anyOf": [self.read(choice) for choice in node["choices"].values()]}
        tag = node["discriminator"]
        if isinstance(tag, str):
            return {**schema, "required": [tag]}
        if isinstance(tag, list):
            paths = [tag] if not isinstance(tag[0], list) else tag
            there = [found for path in paths if (found := _path_there(path)) is not None]
            return {**schema, "allOf": [{"anyOf": there}]} if len(there) == len(paths) else schema
        return schema

    def _none(self, node: Node) -> Schema:
        return {"type": "null"}

    def _is_instance(self, node: Node) -> Schema:
        return dict(_NOTHING)  # JSON holds no instance of a class

    _is_subclass = _callable = _is_instance

    # ------------------------------------------------------------ around others

    def _default(self, node: Node) -> Schema:
        if node.get("on_error", "raise") != "raise":
            return {}
        schema = self.read(node["schema"])
        if "default" in node:
            try:
                return {**schema, "default": plain(node["default"])}
            except NotSerializable:  # a default that has no JSON form is no less a default
                pass
        return schema

    def _through(self, node: Node) -> Schema:
        return self.read(node["schema"])

    _custom_error = _through

    def _function_after(self, node: Node) -> Schema:
        schema = self._through(node)
        function = _function(node)
        if getattr(function, "__module__", "") == "ipaddress" and node["schema"]["type"] == "str":
            return {**readings.address(function.__name__), "type": "string"}
        return schema

    def _function_wrap(self, node: Node) -> Schema:
        # one of pydantic's own makes something of what is inside; one of the author's may call that or not
        return self._through(node) if _module(node).startswith("pydantic.") else {}

    def _function_plain(self, node: Node) -> Schema:
        if _module(node).startswith("pydantic."):
            name = str(getattr(_function(node), "__qualname__", ""))
            if name.startswith("pattern_"):
                return {"type": "string"}
            if name in _ANY_ADDRESS:
                return readings.address(_ANY_ADDRESS[name])
            found = _ADDRESSES.match(name)
            if found:
                return readings.address(f"IPv{found.group(1)}{found.group(2).capitalize()}")
        return {}

    def _lax_or_strict(self, node: Node) -> Schema:
        strict = node.get("strict", self._config.get("strict", False))
        return self.read(node["strict_schema" if strict else "lax_schema"])

    def _json_or_python(self, node: Node) -> Schema:
        return self.read(node["json_schema"])

    def _chain(self, node: Node) -> Schema:
        return self.read(node["steps"][0])

    def _json(self, node: Node) -> Schema:
        return readings.json_text()


_NAMED = frozenset({"model", "dataclass", "typed-dict", "named-tuple"})


def _has_default(node: Node) -> bool:
    while isinstance(node, dict):
        if node["type"] == "default":
            return True
        if not str(node["type"]).startswith("function-") or "schema" not in node:
            return False
        node = node["schema"]
    return False


def _function(node: Node) -> Any:
    function = (node.get("function") or {}).get("function")
    return getattr(function, "func", function)  # a partial


def _module(node: Node) -> str:
    return str(getattr(_function(node), "__module__", None) or "")


def _bounds(node: Node, what: str) -> Schema:
    pairs = (("min", node.get("min_length")), ("max", node.get("max_length")))
    return {f"{word}{what}": number for word, number in pairs if number is not None}


def _exactly(items: list[Schema], least: int) -> Schema:
    """A list of just these items, of which the first `least` must be there."""
    prefix = {"prefixItems": items} if items else {}
    return {"type": "array", **prefix, "minItems": least, "maxItems": len(items)}


def _absent(keys: set[str]) -> Schema:
    """What has none of these keys."""
    return {"not": {"anyOf": [{"required": [key]} for key in sorted(keys)]}} if keys else {}


def _path_there(path: list[Any]) -> Schema | None:
    """What has something at `path`; None for a place counted from the end."""
    first, rest = path[0], path[1:]
    inner = _path_there(rest) if rest else {}
    if inner is None or (isinstance(first, int) and first < 0):
        return None
    if isinstance(first, int):
        return {"type": "array", "minItems": first + 1, "prefixItems": [*([{}] * first), inner]}
    return {"type": "object", "required": [first], "properties": {first: inner}}


def _path_value(path: list[Any], schema: Schema) -> Schema:
    """What has `schema` at `path`, which is there."""
    first, rest = path[0], path[1:]
    inner = _path_value(rest, schema) if rest else schema
    if isinstance(first, int):
        return {"prefixItems": [*([{}] * first), inner]}
    return {"properties": {first: inner}}
