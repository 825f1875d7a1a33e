"""The shapes of calls: JSON schema in the subset that strict endpoints accept, and the check of
what came.

A grammar on the other side is no check: every value is looked at here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from loop4.domain import Json, JsonObject

Schema = Mapping[str, Json]
MOST_ENUM = 60
_DEPTH = 12


@dataclass(frozen=True, slots=True)
class Tool:
    """One thing that a model may call: a name of letters and underscores, and its arguments."""

    name: str
    purpose: str
    arguments: Schema
    accepts: Schema | None = None  # a looser shape to check by, where single parts are judged later

    def native(self) -> dict[str, Json]:
        """As a function of the chat completions API."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.purpose,
                "parameters": self.arguments,
            },
        }


def text(most: int, purpose: str = "") -> Schema:
    """Free text of at most `most` characters."""
    return {"type": "string", "maxLength": most, **({"description": purpose} if purpose else {})}


def one_of(words: Sequence[str]) -> Schema:
    """One of these words."""
    return {"type": "string", "enum": list(words)[:MOST_ENUM]}


def whole(low: int, high: int) -> Schema:
    """A whole number between both, included."""
    return {"type": "integer", "minimum": low, "maximum": high}


def some(item: Schema, most: int) -> Schema:
    """At most `most` of these."""
    return {"type": "array", "items": item, "maxItems": most}


def object_of(**fields: Schema) -> Schema:
    """An object with exactly these fields."""
    return {
        "type": "object",
        "properties": dict(fields),
        "required": list(fields),
        "additionalProperties": False,
    }


def any_of(tools: Sequence[Tool]) -> Schema:
    """One call of one of the tools, as an object `{"call": {"tool", "arguments"}}`."""
    branches: list[Json] = [
        object_of(tool={"type": "string", "enum": [t.name]}, arguments=t.arguments) for t in tools
    ]
    return object_of(call={"anyOf": branches})


def fault(schema: Schema, value: Json, where: str = "arguments", depth: int = 0) -> str:
    """What does not fit the schema, in words for the model; empty when it fits."""
    if depth > _DEPTH:
        return f"{where}: nested too deep"
    if "anyOf" in schema:
        branches = schema["anyOf"]
        found = [fault(b, value, where, depth + 1) for b in _schemas(branches)]
        return "" if "" in found else (found[0] if found else f"{where}: nothing is possible")
    match schema.get("type"):
        case "object":
            return _object_fault(schema, value, where, depth)
        case "array":
            return _array_fault(schema, value, where, depth)
        case "integer":
            return _integer_fault(schema, value, where)
        case "any":
            return ""
        case _:
            return _text_fault(schema, value, where)


def _object_fault(schema: Schema, value: Json, where: str, depth: int) -> str:
    if not isinstance(value, Mapping):
        return f"{where}: expected an object"
    properties = schema.get("properties")
    fields: Mapping[str, Json] = properties if isinstance(properties, Mapping) else {}
    for name in value:
        if name not in fields:
            return f"{where}: unknown field {name[:40]!r}; known: {', '.join(fields)}"
    required = schema.get("required")
    for name, inner in fields.items():
        if name not in value:
            if isinstance(required, Sequence) and name in required:
                return f"{where}: {name!r} is missing"
            continue
        problem = fault(_schema(inner), value[name], f"{where}.{name}", depth + 1)
        if problem:
            return problem
    return ""


def _array_fault(schema: Schema, value: Json, where: str, depth: int) -> str:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return f"{where}: expected a list"
    most = schema.get("maxItems")
    if isinstance(most, int) and len(value) > most:
        return f"{where}: at most {most} items"
    for index, item in enumerate(value):
        problem = fault(_schema(schema.get("items")), item, f"{where}[{index}]", depth + 1)
        if problem:
            return problem
    return ""


def _integer_fault(schema: Schema, value: Json, where: str) -> str:
    if not isinstance(value, int) or isinstance(value, bool):
        return f"{where}: expected a whole number"
    allowed = schema.get("enum")
    if isinstance(allowed, Sequence) and value not in allowed:
        return f"{where}: expected one of {', '.join(map(str, allowed))}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if isinstance(low, int) and isinstance(high, int) and not low <= value <= high:
        return f"{where}: expected {low} to {high}"
    return ""


def _text_fault(schema: Schema, value: Json, where: str) -> str:
    if not isinstance(value, str):
        return f"{where}: expected text"
    allowed = schema.get("enum")
    if isinstance(allowed, Sequence) and value not in allowed:
        return f"{where}: expected one of {', '.join(map(str, allowed))}"
    most = schema.get("maxLength")
    if isinstance(most, int) and len(value) > most:
        return f"{where}: at most {most} characters"
    return ""


def _schema(value: Json) -> Schema:
    return value if isinstance(value, Mapping) else {}


def _schemas(value: Json) -> Iterator[Schema]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        yield from (_schema(v) for v in value)


def first_object(content: str) -> JsonObject | None:
    """The first JSON object in a text (fences and words round it do not matter), or None."""
    decoder = json.JSONDecoder()
    start = content.find("{")
    for _ in range(20):
        if start < 0:
            return None
        try:
            value, _ = decoder.raw_decode(content, start)
        except (ValueError, RecursionError):
            start = content.find("{", start + 1)
            continue
        if isinstance(value, dict):
            return value
        start = content.find("{", start + 1)
    return None


def begins_whole(content: str) -> bool:
    """Whether the first brace of a text begins a whole JSON object."""
    start = content.find("{")
    if start < 0:
        return False
    try:
        value, _ = json.JSONDecoder().raw_decode(content, start)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict)
