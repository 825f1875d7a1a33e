"""The prompts: one Markdown file an agent, one for the boundaries that all share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from loop4.errors import ModelError


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt. `digest` is the SHA-256 of its text, for evidence."""

    name: str
    text: str
    digest: str


@lru_cache(maxsize=32)
def load(name: str) -> Prompt:
    """The prompt of that name. Raises ModelError when there is none."""
    place = files("loop4.prompts") / f"{name}.md"
    try:
        text = place.read_text(encoding="utf-8").strip()
    except OSError:
        raise ModelError(f"there is no prompt {name!r}; expected prompts/{name}.md") from None
    return Prompt(name, text, hashlib.sha256(text.encode()).hexdigest())
