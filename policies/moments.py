"""Moments that people write into policies and commands: with their zone, read in one way."""

from __future__ import annotations

from datetime import datetime

from loop4.policies.documents import Node

EXAMPLE = "such as '2027-01-31T00:00:00Z' in quotes"


def moment_ms(text: str) -> int:
    """A moment with its zone, such as 2027-01-31T00:00:00Z, in ms. Raises ValueError for any
    other text.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("without a zone")
    return round(moment.timestamp() * 1000)


def read_moment(node: Node) -> int:
    """The moment of a node, in ms. Raises PolicyError with its place."""
    try:
        return moment_ms(node.text())
    except ValueError as error:
        raise node.error(
            f"found {node.text()!r}, expected a moment with its zone, {EXAMPLE}"
        ) from error
