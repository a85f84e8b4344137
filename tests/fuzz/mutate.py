"""Mutations that keep requests decodable: of fields of messages and of values in JSON, seeded and repeatable."""

import json
import random
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from tests.fuzz.target import METHODS

MAX_DEPTH = 12

Scramble = Callable[[bytes], bytes]

INTEGERS = (0, 1, 2, 3, 7, 20, 21, 100, 127, 255, 256, 1023, 2048, 4095, 16383, 65536)
EDGES = ((1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
FLOATS = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.0,
    100.0,
    -100.5,
    1e-45,
    1e-300,
    1e300,
    float("inf"),
    float("-inf"),
    float("nan"),
)
TEXTS = (
    "",
    " ",
    "a",
    "Once upon a time",
    "\0",
    "\n\n",
    "é",
    "日本",
    "👩‍👩‍👧",
    "\ufeff",
    "\U0010ffff",
    "x" * 300,
    "<|im_start|>",
    "{{ messages }}",
    "{% for m in messages %}",
    "model",
    "auto",
    "required",
    "none",
    "json_object",
    "function",
    "a|b",
    "(a+)+$",
    "[",
    "(?=a)",
    r"\p{L}{1,1000}",
    "((a{0,100}){0,100}){0,100}",
    'start: "a" | "b" start',
    "start: start",
    "{}",
    "[]",
    "true",
    "null",
    '{"type": "object"}',
    '{"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"]}',
    '{"$ref": "#"}',
    '{"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}}}',
    '{"enum": []}',
    '{"type": "string", "pattern": "^(a|b)*$", "maxLength": 3}',
    '{"at": 1}',
    "[" * 400,
    '{"a":' * 300,
)
NAMES = ("model", "prompt", "messages", "role", "content", "stream", "n", "stop", "tools", "x", "", "type", "text")


class Mutator:
    """Makes an input out of another.

    Args:
        scramble: mutates bytes without knowing what they are.
    """

    def __init__(self, scramble: Scramble, seed: int) -> None:
        self._scramble = scramble
        self._random = random.Random(seed)

    def mutate(self, data: bytes) -> bytes:
        """The next input: mostly one that decodes."""
        chance = self._random
        if not data:
            return bytes([chance.randrange(len(METHODS))])
        head = data[0]
        if chance.random() < 0.03:
            head = chance.randrange(len(METHODS))
        kind = METHODS[head % len(METHODS)][1]
        body = data[1:]
        if chance.random() < 0.15:
            return bytes([head]) + self._scramble(body)
        if kind is bytes:
            return bytes([head]) + self._json(body)
        try:
            message = kind.FromString(body)
        except DecodeError:
            message = kind()
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            self._message(message)
        try:
            return bytes([head]) + bytes(message.SerializeToString())
        except ValueError:
            return bytes([head])

    def _message(self, message: Any, depth: int = 0) -> None:
        """Changes one field of a message, or of one below it."""
        chance = self._random
        fields = list(message.DESCRIPTOR.fields)
        if not fields or depth > MAX_DEPTH:
            return
        set_fields = [field for field, _ in message.ListFields()]
        if set_fields and chance.random() < 0.1:
            message.ClearField(chance.choice(set_fields).name)
            return
        deeper = [field for field in set_fields if field.type == FieldDescriptor.TYPE_MESSAGE]
        field = chance.choice(deeper) if deeper and chance.random() < 0.5 else chance.choice(fields)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            self._map(getattr(message, field.name), field, depth)
        elif field.is_repeated:
            self._list(getattr(message, field.name), field, depth)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            inner = getattr(message, field.name)
            inner.SetInParent()
            if chance.random() < 0.9:
                self._message(inner, depth + 1)
        else:
            setattr(message, field.name, self._scalar(field, getattr(message, field.name)))

    def _list(self, values: Any, field: FieldDescriptor, depth: int) -> None:
        chance = self._random
        is_message = field.type == FieldDescriptor.TYPE_MESSAGE
        if values and chance.random() < 0.2:
            del values[chance.randrange(len(values))]
        elif values and chance.random() < 0.6:
            place = chance.randrange(len(values))
            if is_message:
                self._message(values[place], depth + 1)
            else:
                values[place] = self._scalar(field, values[place])
        else:
            many = chance.choice((1, 1, 2, 5)) if chance.random() < 0.97 else 600
            for _ in range(many):
                if is_message:
                    self._message(values.add(), depth + 1)
                else:
                    values.append(self._scalar(field, values[-1] if values else None))

    def _map(self, values: Any, field: FieldDescriptor, depth: int) -> None:
        assert field.message_type is not None
        key_field, value_field = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        key = self._scalar(key_field, None)
        if value_field.type == FieldDescriptor.TYPE_MESSAGE:
            self._message(values[key], depth + 1)
        else:
            values[key] = self._scalar(value_field, None)

    def _scalar(self, field: FieldDescriptor, old: Any) -> Any:
        chance = self._random
        kind = field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            is_text = field.type == FieldDescriptor.TYPE_STRING
            if is_text:
                return self._text(old or "")
            return self._scramble(old or b"")
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return chance.random() < 0.5
        if kind == FieldDescriptor.CPPTYPE_ENUM:
            assert field.enum_type is not None
            return chance.choice([*(value.number for value in field.enum_type.values), 77])
        if kind in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            return chance.choice((*FLOATS, chance.uniform(-3, 3)))
        value = chance.choice((*INTEGERS, *EDGES, (old or 0) + 1, chance.randrange(300)))
        bits = 32 if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 64
        if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64):
            value = value * chance.choice((1, -1))
            return max(-(1 << bits - 1), min(value, (1 << bits - 1) - 1))
        return min(value, (1 << bits) - 1)

    def _text(self, old: str) -> str:
        chance = self._random
        way = chance.random()
        if way < 0.5 or not old:
            return chance.choice(TEXTS)
        if way < 0.7:
            return self._scramble(old.encode()).decode(errors="ignore")
        if way < 0.85:
            place = chance.randrange(len(old))
            return old[:place] + chance.choice(TEXTS) + old[place:]
        return json.dumps(self._value(_loaded(old), 0))

    def _json(self, body: bytes) -> bytes:
        value = _loaded(body)
        for _ in range(self._random.choice((1, 1, 2, 3))):
            value = self._value(value, 0)
        return json.dumps(value, ensure_ascii=self._random.random() < 0.5).encode(errors="surrogatepass")

    def _value(self, value: Any, depth: int) -> Any:
        """A JSON value with one change somewhere in it."""
        chance = self._random
        if isinstance(value, dict) and value and chance.random() < 0.85 and depth < MAX_DEPTH:
            key = chance.choice(list(value))
            if chance.random() < 0.08:
                return {name: part for name, part in value.items() if name != key}
            if chance.random() < 0.1:
                return {**value, chance.choice(NAMES): self._leaf()}
            return {**value, key: self._value(value[key], depth + 1)}
        if isinstance(value, list) and chance.random() < 0.85 and depth < MAX_DEPTH:
            if not value or chance.random() < 0.2:
                return [*value, self._value(value[-1], depth + 1) if value else self._leaf()]
            place = chance.randrange(len(value))
            if chance.random() < 0.1:
                return value[:place] + value[place + 1 :]
            return [*value[:place], self._value(value[place], depth + 1), *value[place + 1 :]]
        if isinstance(value, str) and chance.random() < 0.6:
            return self._text(value)
        return self._leaf()

    def _leaf(self) -> Any:
        chance = self._random
        leaves = (chance.choice(TEXTS), chance.choice(INTEGERS), -chance.choice(EDGES), chance.uniform(-3, 3))
        return chance.choice((*leaves, True, False, None, [], {}, 1e308, chance.choice(EDGES), [chance.choice(TEXTS)]))


def _loaded(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {}
