"""Facts and tools as their documents declare them (kinds FactSchema and ToolDeclaration)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from loop4.domain import FactScalar, ToolClass
from loop4.policies.cel import MAX_INTEGER
from loop4.policies.documents import Document, Node, unknown
from loop4.policies.facts import FactSchema, FactType
from loop4.policies.rules import ToolDeclaration

_FACT_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TOOL_NAME = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_ARGUMENT_TYPES = ("string", "int", "bool", "strings", "object")
_MOST_AGE_S = 31 * 24 * 3600


def fact_schemas(documents: Iterable[Document]) -> dict[str, FactSchema]:
    """All declared facts by name. Raises PolicyError for a doubtful or repeated one."""
    schemas: dict[str, FactSchema] = {}
    for document in documents:
        facts = document.spec.fields(("facts",))["facts"]
        for name, node in facts.mapping().items():
            if name in schemas:
                raise facts.keys[name].error(f"fact {name!r} is declared twice")
            if not _FACT_NAME.fullmatch(name):
                raise facts.keys[name].error(f"fact {name!r} is not lower_snake_case")
            schemas[name] = _fact(name, node)
    return schemas


def tool_declarations(
    documents: Iterable[Document], schemas: Mapping[str, FactSchema]
) -> dict[str, ToolDeclaration]:
    """All declared tools by name. A tool has the facts of its class and its own."""
    tools: dict[str, ToolDeclaration] = {}
    inverses: list[tuple[str, Node]] = []
    for document in documents:
        spec = document.spec.fields(("tools",), ("class_facts",))
        shared = _class_facts(spec.get("class_facts"), schemas)
        nodes = spec["tools"]
        for name, node in nodes.mapping().items():
            if name in tools:
                raise nodes.keys[name].error(f"tool {name!r} is declared twice")
            if not _TOOL_NAME.fullmatch(name):
                raise nodes.keys[name].error(f"tool {name!r} is not written domain.verb")
            tools[name] = _tool(name, node, shared, schemas)
            if tools[name].inverse:
                inverses.append((tools[name].inverse, node))
    for inverse, node in inverses:
        if inverse not in tools:
            raise node.mapping()["inverse"].error(unknown("tool", inverse, tools))
    return tools


def _fact(name: str, node: Node) -> FactSchema:
    kind = FactType(node.fields(("type",), _FACT_KEYS)["type"].choice("type", FactType))
    own = {FactType.INT: ("min", "max"), FactType.ENUM: ("values",), FactType.BOOL: ()}[kind]
    fields = node.fields(("type", *own, "source", "max_age_s", "safe"), ("description",))
    low = fields["min"].integer(-MAX_INTEGER, MAX_INTEGER) if "min" in fields else 0
    high = fields["max"].integer(low, MAX_INTEGER) if "max" in fields else 0
    values = tuple(v.text() for v in fields["values"].items()) if "values" in fields else ()
    if len(set(values)) != len(values) or (kind is FactType.ENUM and not values):
        raise fields["values"].error("expected at least one value, each once")
    return FactSchema(
        name=name,
        type=kind,
        source=fields["source"].text(),
        max_age_s=fields["max_age_s"].integer(1, _MOST_AGE_S),
        safe=_safe(fields["safe"], kind, low, high, values),
        low=low,
        high=high,
        values=values,
        description=fields["description"].text() if "description" in fields else "",
    )


_FACT_KEYS = ("min", "max", "values", "source", "max_age_s", "safe", "description")


def _safe(node: Node, kind: FactType, low: int, high: int, values: tuple[str, ...]) -> FactScalar:
    if kind is FactType.BOOL:
        return node.boolean()
    if kind is FactType.INT:
        return node.integer(low, high)
    return node.choice("value", values)


def _class_facts(
    node: Node | None, schemas: Mapping[str, FactSchema]
) -> dict[ToolClass, tuple[str, ...]]:
    if node is None:
        return {}
    fields = node.fields((), tuple(ToolClass))
    return {ToolClass(name): _fact_names(value, schemas) for name, value in fields.items()}


def _fact_names(node: Node, schemas: Mapping[str, FactSchema]) -> tuple[str, ...]:
    return tuple(value.choice("fact", schemas) for value in node.items())


def _tool(
    name: str,
    node: Node,
    shared: Mapping[ToolClass, tuple[str, ...]],
    schemas: Mapping[str, FactSchema],
) -> ToolDeclaration:
    fields = node.fields(
        ("class", "effect", "arguments"),
        ("facts", "more_arguments", "forward", "reversible", "inverse"),
    )
    tool_class = ToolClass(fields["class"].choice("class", ToolClass))
    own = _fact_names(fields["facts"], schemas) if "facts" in fields else ()
    facts = tuple(dict.fromkeys((*shared.get(tool_class, ()), *own)))
    if len(facts) < 2:
        raise node.error(f"tool {name!r} declares fewer than two facts; the gate needs some")
    arguments = {
        argument: kind.choice("argument type", _ARGUMENT_TYPES)
        for argument, kind in fields["arguments"].mapping().items()
    }
    return ToolDeclaration(
        name=name,
        tool_class=tool_class,
        effect=fields["effect"].text(),
        facts=facts,
        arguments=arguments,
        has_more_arguments=_flag(fields, "more_arguments"),
        is_forward=_flag(fields, "forward"),
        is_reversible=_flag(fields, "reversible"),
        inverse=fields["inverse"].text() if "inverse" in fields else "",
    )


def _flag(fields: Mapping[str, Node], name: str) -> bool:
    return fields[name].boolean() if name in fields else False
