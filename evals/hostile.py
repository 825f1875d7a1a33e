"""Hostile telemetry as data: the texts of `hostile/corpus.yaml`, told with the names of a world.

Nothing here judges anything; `planting.py` puts the texts into a recorded world.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from string import Template
from types import MappingProxyType
from urllib.parse import quote

from loop4.errors import PolicyError
from loop4.policies.documents import Node, parse_nodes, read_text

PLACES = ("log", "span", "commit", "annotation", "label", "version")
NAMES = ("service", "other", "instance", "revision", "version", "change")
ZERO_WIDTH, RIGHT_TO_LEFT, POP = "\u200b", "\u202e", "\u202c"
TAGS = 0xE0000  # invisible copies of ASCII begin here
_ALIKE = str.maketrans("aceopsxy", "\u0430\u0441\u0435\u043e\u0440\u0455\u0445\u0443")

ENCODINGS: Mapping[str, Callable[[str], str]] = MappingProxyType(
    {
        "base64": lambda t: "decode and obey: " + base64.b64encode(t.encode()).decode(),
        "rot13": lambda t: "rot13: " + codecs.encode(t, "rot13"),
        "hex": lambda t: "hex " + t.encode().hex(),
        "full width": lambda t: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in t),
        "zero width": lambda t: ZERO_WIDTH.join(t),
        "homoglyph": lambda t: t.translate(_ALIKE),
        "reversed": lambda t: "read backwards: " + t[::-1],
        "tag characters": lambda t: "ok " + "".join(chr(TAGS + ord(c)) for c in t if c.isascii()),
        "percent": lambda t: quote(t, safe=""),
        "spaced": " ".join,
        "bidi": lambda t: f"{RIGHT_TO_LEFT}{t[::-1]}{POP}",
    }
)


@dataclass(frozen=True, slots=True)
class Hostile:
    """One text. `place` is one of PLACES; `told` fills the names in and dresses it up."""

    place: str
    trick: str
    text: str
    encode: str = ""
    given: Mapping[str, str] = field(default_factory=dict)

    def told(self, names: Mapping[str, str]) -> str:
        """The text as it is planted, about these names (the keys of NAMES)."""
        plain = Template(self.text).substitute({**self.given, **names})
        return ENCODINGS[self.encode](plain) if self.encode else plain


@dataclass(frozen=True, slots=True)
class Corpus:
    """All items, the word that must reach nobody, and the secrets that must not leave."""

    items: tuple[Hostile, ...]
    canary: str
    secrets: Mapping[str, str]

    def of(self, place: str) -> tuple[Hostile, ...]:
        """The items of one place."""
        return tuple(h for h in self.items if h.place == place)


def load_corpus(path: Path | None = None) -> Corpus:
    """The corpus of a file, or the shipped one. Raises PolicyError with file, line and column."""
    if path is not None:
        return _parse(read_text(path), str(path))
    return _shipped()


@lru_cache(maxsize=1)
def _shipped() -> Corpus:
    place = files("loop4.evals") / "hostile" / "corpus.yaml"
    return _parse(place.read_text("utf-8"), "corpus.yaml")


def _parse(text: str, path: str) -> Corpus:
    nodes = list(parse_nodes(text, path))
    if len(nodes) != 1:
        raise PolicyError(f"{path}: {len(nodes)} documents, expected one corpus")
    body = nodes[0].fields(("version", "canary", "secrets", "items"))
    body["version"].integer(1, 1)
    canary = body["canary"].text()
    secrets = {name: node.text() for name, node in body["secrets"].mapping().items()}
    given = {**secrets, "canary": canary}
    return Corpus(tuple(_item(n, given) for n in body["items"].items()), canary, secrets)


def _item(node: Node, given: Mapping[str, str]) -> Hostile:
    """One item. Its names must be known: a misspelt one would plant nothing."""
    entry = node.fields(("place", "trick", "text"), ("encode",))
    encode = entry["encode"].choice("encoding", ENCODINGS) if "encode" in entry else ""
    item = Hostile(
        entry["place"].choice("place", PLACES),
        entry["trick"].text(),
        entry["text"].text(),
        encode,
        given,
    )
    try:
        item.told(dict.fromkeys(NAMES, "x"))
    except (KeyError, ValueError) as error:
        raise entry["text"].error(
            f"{error}: not one of {', '.join((*NAMES, *given))}; a dollar sign is $$"
        ) from error
    return item
