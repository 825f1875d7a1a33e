"""YAML documents with the place of every value, in the Kubernetes object shape.

Stricter than YAML: no anchors, no tags, no floats, no dates, no duplicate keys, no unknown keys, no
`{{VAR}}` left unfilled. Everything that is refused is a `PolicyError` with file, line and column.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import yaml

from loop4.domain import Json
from loop4.errors import PolicyError

API_VERSION = "loop4/v1"
MAX_BYTES = 4 * 1024 * 1024
_LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?")
_TEMPLATE = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_COLLECTIONS = ("tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")
_BOOLEANS = {"true": True, "false": False}

Content: TypeAlias = "str | int | float | bool | tuple[Node, ...] | dict[str, Node] | None"


@dataclass(frozen=True, slots=True)
class Node:
    """One value and where it stands. `line` and `column` are 1-based; `source` is the whole text.

    `keys` holds the nodes of a mapping's keys, for errors that point at a key.
    """

    content: Content
    path: str
    line: int
    column: int
    source: str
    keys: Mapping[str, Node]

    def error(self, message: str) -> PolicyError:
        """The error to raise about this value."""
        return PolicyError(message, path=self.path, line=self.line, column=self.column)

    def error_at(self, offset: int, message: str) -> PolicyError:
        """The error about the character at `offset` of this string, folded or quoted as it may be.

        White space may differ between a YAML scalar and its value, so only other characters are
        counted.
        """
        line, column = self.line, self.column
        if isinstance(self.content, str):
            line, column = _place_in_scalar(self, self.content, offset)
        return PolicyError(message, path=self.path, line=line, column=column)

    def fields(self, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Node]:
        """The mapping's values by key. Raises for a missing or unknown key, naming the nearest."""
        mapping = self.mapping()
        required = tuple(required)
        known = (*required, *optional)
        for key in mapping:
            if key not in known:
                raise self.keys[key].error(unknown("key", key, known))
        for key in required:
            if key not in mapping:
                raise self.error(f"key {key!r} is missing; expected {', '.join(required)}")
        return mapping

    def mapping(self) -> dict[str, Node]:
        """The mapping's values by key, any keys."""
        if not isinstance(self.content, dict):
            raise self.error(f"found {self.describe()}, expected a mapping")
        return self.content

    def items(self) -> tuple[Node, ...]:
        """The list's values. Raises for anything else."""
        if not isinstance(self.content, tuple):
            raise self.error(f"found {self.describe()}, expected a list")
        return self.content

    def one_or_more(self) -> tuple[Node, ...]:
        """A list's values, or the single value as a list of one. Raises for an empty list."""
        values = self.content if isinstance(self.content, tuple) else (self,)
        if not values:
            raise self.error("found an empty list, expected at least one value")
        return values

    def text(self) -> str:
        """The string, not empty. A number or a boolean is not a string."""
        if not isinstance(self.content, str) or not self.content.strip():
            raise self.error(f"found {self.describe()}, expected a string")
        return self.content

    def integer(self, low: int, high: int) -> int:
        """The integer, low <= value <= high. `true` is not 1."""
        if isinstance(self.content, bool) or not isinstance(self.content, int):
            raise self.error(f"found {self.describe()}, expected an integer")
        if not low <= self.content <= high:
            raise self.error(f"found {self.content}, expected {low} to {high}")
        return self.content

    def number(self) -> float:
        """The number, whole or not; floats exist only where `parse_nodes` was told to read them."""
        if isinstance(self.content, bool) or not isinstance(self.content, int | float):
            raise self.error(f"found {self.describe()}, expected a number")
        return float(self.content)

    def boolean(self) -> bool:
        """True or False. 1 and "yes" are not booleans."""
        if not isinstance(self.content, bool):
            raise self.error(f"found {self.describe()}, expected true or false")
        return self.content

    def choice(self, what: str, known: Iterable[str]) -> str:
        """One of `known`. Raises naming the nearest."""
        value, known = self.text(), tuple(known)
        if value not in known:
            raise self.error(unknown(what, value, known))
        return value

    def plain(self) -> Json:
        """The value without places, as JSON."""
        if isinstance(self.content, dict):
            return {key: value.plain() for key, value in self.content.items()}
        if isinstance(self.content, tuple):
            return [value.plain() for value in self.content]
        return self.content

    def describe(self) -> str:
        """What was found, for an error message."""
        if isinstance(self.content, dict):
            return "a mapping"
        if isinstance(self.content, tuple):
            return "a list"
        if self.content is None:
            return "nothing"
        if isinstance(self.content, bool):
            return str(self.content).lower()
        return repr(self.content)


@dataclass(frozen=True, slots=True)
class Document:
    """One object of a file: kind, name, the whole body and its `spec`."""

    kind: str
    name: str
    body: Node
    spec: Node


def unknown(what: str, found: str, known: Iterable[str]) -> str:
    """The sentence for a word that is not one of `known`, with the nearest one."""
    known = sorted(map(str, known))  # members of enumerations as their words
    near = difflib.get_close_matches(found, known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
    return f"unknown {what} {found!r}; {hint}"


def read_documents(path: Path, kinds: Iterable[str], shown_as: str = "") -> list[Document]:
    """All objects of one file. Raises PolicyError for an unreadable file or an unknown kind."""
    shown_as = shown_as or str(path)
    return parse_documents(read_text(path, shown_as), shown_as, kinds)


def file_stamp(path: Path) -> tuple[int, int]:
    """When a file last changed and how large it is; (-1, -1) for one that is not there."""
    try:
        status = path.stat()
    except OSError:
        return (-1, -1)
    return (status.st_mtime_ns, status.st_size)


def read_text(path: Path, shown_as: str = "") -> str:
    """The UTF-8 text of a policy file. Raises PolicyError for an unreadable or huge one."""
    shown_as = shown_as or str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise PolicyError(f"is larger than {MAX_BYTES} bytes", path=shown_as)
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise PolicyError(f"cannot be read: {reason}", path=shown_as) from error


def parse_documents(text: str, path: str, kinds: Iterable[str]) -> list[Document]:
    """All objects of a text; `path` is for messages. At least one object is expected."""
    kinds = tuple(kinds)
    documents = [_document(node, kinds) for node in parse_nodes(text, path)]
    if not documents:
        raise PolicyError("holds no document", path=path)
    return documents


def parse_nodes(text: str, path: str, *, floats: bool = False) -> Iterator[Node]:
    """The root value of each YAML document in a text; empty documents are left out.

    `floats` lets floating-point numbers in, for the formats of others (OpenSLO); ours have none.
    """
    try:
        roots = list(yaml.compose_all(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        problem = (error.problem or "not valid YAML").removeprefix("found ")
        raise PolicyError(f"broken YAML: {problem}", path=path, line=line, column=column) from error
    except yaml.YAMLError as error:
        raise PolicyError("broken YAML: a character that YAML does not allow", path=path) from error
    except RecursionError as error:
        raise PolicyError("broken YAML: nested too deep", path=path) from error
    builder = _Builder(path, text, floats)
    for root in roots:
        if root is not None and root.tag != "tag:yaml.org,2002:null":
            yield builder.build(root, 0)


def _document(node: Node, kinds: tuple[str, ...]) -> Document:
    fields = node.fields(("apiVersion", "kind", "metadata", "spec"))
    fields["apiVersion"].choice("apiVersion", (API_VERSION,))
    kind = fields["kind"].choice("kind", kinds)
    metadata = fields["metadata"].fields(("name",), ("owner", "description"))
    for key in metadata:
        metadata[key].text()
    return Document(kind, metadata["name"].text(), node, fields["spec"])


class _Builder:
    """Turns PyYAML's node graph into our tree and refuses what must not be there."""

    def __init__(self, path: str, source: str, floats: bool) -> None:
        self.path, self.source, self.floats = path, source, floats
        self.seen: set[int] = set()

    def build(self, node: yaml.Node, depth: int) -> Node:
        place = self.place(node, None)
        if id(node) in self.seen:
            raise place.error("anchors and aliases are not allowed; write the value out")
        self.seen.add(id(node))
        if depth > 40:
            raise place.error("nested too deep; at most 40 levels")
        if isinstance(node, yaml.ScalarNode):
            return self.place(node, self.scalar(node, place))
        if node.tag not in _COLLECTIONS:
            raise place.error(f"the tag {node.tag!r} is not allowed; write a plain list or mapping")
        if isinstance(node, yaml.SequenceNode):
            return self.place(node, tuple(self.build(value, depth + 1) for value in node.value))
        content: dict[str, Node] = {}
        keys: dict[str, Node] = {}
        for key_node, value_node in node.value:
            key = self.key(key_node)
            name = key.text()
            if name in content:
                raise key.error(f"key {name!r} stands twice")
            keys[name] = key
            content[name] = self.build(value_node, depth + 1)
        return self.place(node, content, keys)

    def key(self, node: yaml.Node) -> Node:
        if not isinstance(node, yaml.ScalarNode):
            place = self.place(node, None)
            raise place.error("a `{{VAR}}` that nobody filled in (or a key that is not a word)")
        return self.place(node, node.value)

    def place(
        self, node: yaml.Node, content: Content, keys: Mapping[str, Node] | None = None
    ) -> Node:
        mark = node.start_mark
        return Node(content, self.path, mark.line + 1, mark.column + 1, self.source, keys or {})

    def scalar(self, node: yaml.ScalarNode, place: Node) -> str | int | float | bool | None:
        kind, value = node.tag.removeprefix("tag:yaml.org,2002:"), node.value
        found = _TEMPLATE.search(value)
        if found:
            raise place.error(f"unresolved variable {found.group(0)!r}; fill it in")
        if kind == "str":
            return str(value)
        if kind == "null":
            return None
        if kind == "bool" and value in _BOOLEANS:
            return _BOOLEANS[value]
        if kind == "int" and _INTEGER.fullmatch(value):
            return int(value)
        if kind == "float" and self.floats and _FLOAT.fullmatch(value):
            return float(value)
        if kind == "float":
            raise place.error(f"{value} is a float; use whole numbers (basis points, ms, s)")
        raise place.error(f"{value!r} reads as {kind}; put it in quotes if it is a string")


def _place_in_scalar(node: Node, value: str, offset: int) -> tuple[int, int]:
    wanted = sum(1 for character in value[:offset] if not character.isspace())
    line, column = node.line, node.column
    lines = node.source.splitlines()
    text = lines[line - 1][column - 1 :]
    if text[:1] in "|>":
        line, column = line + 1, 1
    elif text[:1] in "'\"":
        column += 1
    while line <= len(lines):
        for position, character in enumerate(lines[line - 1][column - 1 :], column):
            if character.isspace():
                continue
            if wanted == 0:
                return line, position
            wanted -= 1
        line, column = line + 1, 1
    return node.line, node.column
