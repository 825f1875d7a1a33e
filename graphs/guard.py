"""What every node's answer must be: a plain dict of known channels with JSON-plain values, going a
drawn way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, cast

from loop4.errors import Loop4Error
from loop4.graphs.state import CHANNELS, RunState


class GraphViolation(Loop4Error):
    """A node returned something else than its part of the state; the run stops before it takes
    effect.
    """


class NodeFunction(Protocol):
    """What LangGraph calls."""

    def __call__(self, state: RunState) -> Awaitable[RunState]:
        """The node's part of the new state."""
        ...


def guarded(
    name: str, node: Callable[[RunState], Awaitable[RunState]], ways: Sequence[str]
) -> NodeFunction:
    """Wrap a node: `Command`, `Send`, unknown channels, odd values and undrawn ways raise
    GraphViolation.

    Exceptions pass through untouched, LangGraph's own pause among them.
    """

    async def run(state: RunState) -> RunState:
        answer: object = await node(state)
        if type(answer) is not dict:
            raise GraphViolation(
                f"node {name!r} returned {type(answer).__name__}, expected a plain dict"
            )
        for key, value in answer.items():
            if key not in CHANNELS:
                raise GraphViolation(f"node {name!r} wrote the unknown channel {key!r}")
            if not _is_plain(value):
                raise GraphViolation(
                    f"node {name!r} wrote {type(value).__name__} into {key!r}, "
                    "expected text, a whole number or a list of text"
                )
        if ways and answer.get("next") not in ways:
            raise GraphViolation(f"node {name!r} wants to go to {answer.get('next')!r}: no way")
        return cast("RunState", answer)

    run.__name__ = name
    return run


def _is_plain(value: object) -> bool:
    return type(value) in (str, int) or (type(value) is list and all(type(v) is str for v in value))
