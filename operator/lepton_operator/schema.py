"""Structural schemas (OpenAPI v3 as Kubernetes takes it) of msgspec types, and checks of values against them."""

import re
from typing import Any

import msgspec
from msgspec import NODEFAULT, inspect

from lepton_operator.api.base import RULES

Schema = dict[str, Any]


def schema_of(cls: type) -> Schema:
    """The structural schema of a struct.

    Raises:
        TypeError: the type has a part that no structural schema can say, or a string, list or map without a bound.
    """
    return _schema(inspect.type_info(cls), cls.__name__)


def _schema(kind: inspect.Type, where: str) -> Schema:
    extra: Schema = {}
    while isinstance(kind, inspect.Metadata):
        extra = {**(kind.extra_json_schema or {}), **extra}
        kind = kind.type
    match kind:
        case inspect.StructType():
            schema = _object(kind, where)
        case inspect.StrType():
            schema = _bounds(
                {"type": "string"}, minLength=kind.min_length, maxLength=kind.max_length, pattern=kind.pattern
            )
            if "maxLength" not in schema:
                raise TypeError(f"{where}: a string needs max_length")
        case inspect.IntType():
            large = kind.le is None or kind.le >= 2**31
            schema = {"type": "integer", "format": "int64" if large else "int32"}
            _bounds(schema, minimum=kind.ge, maximum=kind.le)
        case inspect.BoolType():
            schema = {"type": "boolean"}
        case inspect.EnumType():
            schema = {"type": "string", "enum": [member.value for member in kind.cls]}
        case inspect.ListType():
            schema = {"type": "array", "items": _schema(kind.item_type, f"{where}[]")}
            _bounds(schema, minItems=kind.min_length, maxItems=kind.max_length)
            if "maxItems" not in schema:
                raise TypeError(f"{where}: a list needs max_length")
        case inspect.DictType():
            schema = {"type": "object", "additionalProperties": _schema(kind.value_type, f"{where}{{}}")}
            _bounds(schema, minProperties=kind.min_length, maxProperties=kind.max_length)
            if "maxProperties" not in schema:
                raise TypeError(f"{where}: a map needs max_length")
        case inspect.UnionType():
            schema = _union(kind, where)
        case _:
            raise TypeError(f"{where}: {type(kind).__name__} has no structural schema")
    # What stands outside (the field's description) wins over what the type says of itself.
    merged = {**schema, **extra}
    rules = schema.get("x-kubernetes-validations", []) + extra.get("x-kubernetes-validations", [])
    if rules:
        merged["x-kubernetes-validations"] = rules
    return merged


def _bounds(schema: Schema, **bounds: Any) -> Schema:
    schema.update({name: value for name, value in bounds.items() if value is not None})
    return schema


def _union(kind: inspect.UnionType, where: str) -> Schema:
    members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
    if len(members) == 1:
        return _schema(members[0], where)
    if {type(member) for member in members} == {inspect.IntType, inspect.StrType}:
        return {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
    raise TypeError(f"{where}: of unions only optional values and int | str have a structural schema")


def _object(kind: inspect.StructType, where: str) -> Schema:
    properties, required = {}, []
    for field in kind.fields:
        schema = _schema(field.type, f"{where}.{field.encode_name}")
        if field.required:
            required.append(field.encode_name)
        elif field.default is not NODEFAULT and field.default is not None:
            schema["default"] = msgspec.to_builtins(field.default)
        elif field.default_factory is not NODEFAULT:
            made = msgspec.to_builtins(field.default_factory())
            if made or (schema["type"] == "object" and "properties" in schema):
                # Written out in full: the API server runs an object's rules on its default as it stands here.
                inner = schema.get("properties", {}).items()
                schema["default"] = {**{key: part["default"] for key, part in inner if "default" in part}, **made}
        properties[field.encode_name] = schema
    made_object: Schema = {"type": "object", "description": _first_paragraph(kind.cls), "properties": properties}
    if required:
        made_object["required"] = required
    if kind.cls in RULES:
        made_object["x-kubernetes-validations"] = [
            {"rule": rule, "message": message} for rule, message in RULES[kind.cls]
        ]
    return made_object


def _first_paragraph(cls: type) -> str:
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())


_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "boolean": (bool,),
}  # fmt: skip


def problems(value: Any, schema: Schema, path: str = "") -> list[str]:
    """What is wrong with a value, as sentences that name the field; without CEL rules, which the API server checks."""
    where = path or "the object"
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            return [f"{where}: {value!r} is neither a number nor a string"]
        return [] if re.search(schema.get("pattern", ""), str(value)) else [f"{where}: {value!r} is not a quantity"]
    expected = schema.get("type", "object")
    known: Any = value  # isinstance with a table narrows nothing
    if not isinstance(value, _JSON_TYPES[expected]) or (expected == "integer" and isinstance(value, bool)):
        return [f"{where}: {value!r} is not of type {expected}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value!r} is not one of {', '.join(schema['enum'])}"]
    match expected:
        case "object":
            return _object_problems(known, schema, path)
        case "array":
            found = _range(len(known), schema, "minItems", "maxItems", where, "items")
            return found + [p for i, item in enumerate(known) for p in problems(item, schema["items"], f"{path}[{i}]")]
        case "string":
            found = _range(len(known), schema, "minLength", "maxLength", where, "characters")
            if not found and "pattern" in schema and not re.search(schema["pattern"], known):
                found = [f"{where}: {known!r} does not match {schema['pattern']}"]
            return found
        case "integer":
            return _range(known, schema, "minimum", "maximum", where, "")
    return []


def _range(value: int, schema: Schema, low: str, high: str, where: str, unit: str) -> list[str]:
    if schema.get(low, value) <= value <= schema.get(high, value):
        return []
    allowed = f"{schema.get(low, 0)} to {schema[high]}" if high in schema else f"at least {schema[low]}"
    return [f"{where}: {value} {unit}".rstrip() + f" is out of range, allowed is {allowed}"]


def _object_problems(value: dict[str, Any], schema: Schema, path: str) -> list[str]:
    def at(name: str) -> str:
        return f"{path}.{name}" if path else name

    properties = schema.get("properties")
    if properties is None:
        found = _range(len(value), schema, "minProperties", "maxProperties", path, "entries")
        rest = schema.get("additionalProperties")
        return found + ([p for name, item in value.items() for p in problems(item, rest, at(name))] if rest else [])
    found = [f"{at(name)}: is required" for name in schema.get("required", []) if name not in value]
    for name, item in value.items():
        if name not in properties:
            found.append(f"{at(name)}: no such field; known are {', '.join(properties)}")
        elif item is not None:
            found += problems(item, properties[name], at(name))
    return found
