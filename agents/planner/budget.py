"""What a model may use up: tokens, steps, money and seconds per run, and the same call only once.

The unit of a run is one incident: its agents and its texts share one budget.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from loop4.agents.planner.port import Usage
from loop4.canonical import digest
from loop4.domain import JsonObject
from loop4.errors import ModelError
from loop4.policies.documents import Node, parse_nodes

_MILLION = 1_000_000
_PIECES = re.compile(r"[A-Za-z]+|\d|[^\sA-Za-z\d]|\n| {2,}")


class Stopped(ModelError):
    """A budget is used up, a call repeats, or answers cannot be read: the playbook goes on."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`tokens`, `microusd` hold per incident, `steps` (model turns) and `seconds` per agent and
    text. `prompt_tokens` bounds one turn, `answer_tokens` one answer, `result_chars` one result.
    """

    tokens: int = 120_000
    steps: int = 6
    microusd: int = 500_000
    seconds: float = 30.0
    prompt_tokens: int = 6_000
    answer_tokens: int = 900
    result_chars: int = 1_600
    prose_seconds: float = 10.0


@dataclass(slots=True)
class Budget:
    """What one incident has used so far."""

    limits: Limits
    used: Usage = field(default_factory=Usage)
    reserved: int = 0  # tokens of turns that are under way beside this one

    def reserve(self, next_prompt: int, answer_tokens: int = 0) -> int:
        """Tokens put aside for the next turn; give them back with `release`. `answer_tokens` is its
        own bound on the answer, 0: that of the limits.

        Raises Stopped when it would not fit. What has no known price is held by tokens alone.
        """
        need = next_prompt + (answer_tokens or self.limits.answer_tokens)
        if self.used.tokens + self.reserved + need > self.limits.tokens:
            raise Stopped(
                f"the incident's budget of {self.limits.tokens} tokens does not hold another turn "
                f"({self.used.tokens + self.reserved} used, {need} needed)"
            )
        if self.used.microusd is not None and self.used.microusd >= self.limits.microusd:
            raise Stopped(
                f"the incident's budget of {self.limits.microusd} microdollars is used up"
            )
        self.reserved += need
        return need

    def release(self, tokens: int) -> None:
        """The turn is over, whatever came of it."""
        self.reserved -= tokens

    def take(self, usage: Usage) -> None:
        """Book a turn."""
        self.used = self.used.plus(usage)


class Loops:
    """Remembers calls. The same call again is answered from memory once, then it is a loop."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def again(self, name: str, arguments: JsonObject) -> bool:
        """Whether this call was made before. Raises Stopped the third time."""
        key = digest({"name": name, "arguments": arguments})
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._seen[key] > 2:
            raise Stopped(f"the model repeats the call {name!r} with the same arguments")
        return self._seen[key] == 2


@dataclass(frozen=True, slots=True)
class Prices:
    """Microdollars per million tokens by model name: (prompt, answer)."""

    version: int
    per_million: Mapping[str, tuple[int, int]]

    def cost(self, model: str, prompt_tokens: int, answer_tokens: int) -> int | None:
        """In microdollars, rounded up; None for a model without a price."""
        price = self.per_million.get(model)
        if price is None:
            return None
        whole = prompt_tokens * price[0] + answer_tokens * price[1]
        return -(-whole // _MILLION)


def load_prices(path: Path | None = None) -> Prices:
    """The price table of a file, or the shipped one. Raises PolicyError with file, line, column."""
    if path is not None:
        return _parse(path.read_text(encoding="utf-8"), str(path))
    return _shipped()


@lru_cache(maxsize=1)
def _shipped() -> Prices:
    place = files("loop4.agents.planner") / "prices.yaml"
    return _parse(place.read_text(encoding="utf-8"), "prices.yaml")


def _parse(text: str, path: str) -> Prices:
    nodes: list[Node] = list(parse_nodes(text, path))
    body = nodes[0].fields(("version", "per_million_tokens"), ("as_of", "source"))
    table: dict[str, tuple[int, int]] = {}
    for name, node in body["per_million_tokens"].mapping().items():
        price = node.fields(("prompt", "answer"))
        table[name] = (
            price["prompt"].integer(0, 10**12),
            price["answer"].integer(0, 10**12),
        )
    return Prices(body["version"].integer(1, 10**6), table)


def most_tokens(text: str) -> int:
    """More tokens than a common tokenizer makes of the text.

    A word is one piece per three letters, each digit and each sign is one, other scripts count by
    their bytes.
    """
    total = 0
    for piece in _PIECES.findall(text):
        if piece.isascii():
            total += -(-len(piece) // 3) if piece.isalpha() else 1
        else:
            total += len(piece.encode("utf-8", "replace"))
    return total


def least_tokens(text: str) -> int:
    """Fewer tokens than any tokenizer makes of the text; for usage that is not to be believed."""
    return len(text) // 12


def counted(
    prices: Prices,
    model: str,
    *,
    prompt: str,
    answer: str,
    reported: tuple[int, int] | None,
) -> Usage:
    """The usage of one turn: as reported if that can be, else the estimate."""
    if reported is None:
        tokens, is_doubtful = (most_tokens(prompt), most_tokens(answer)), True
    else:
        low = (least_tokens(prompt), least_tokens(answer))
        is_doubtful = reported[0] < low[0] or reported[1] < low[1]
        tokens = (
            most_tokens(prompt) if reported[0] < low[0] else reported[0],
            most_tokens(answer) if reported[1] < low[1] else reported[1],
        )
    return Usage(*tokens, prices.cost(model, *tokens), is_doubtful)
