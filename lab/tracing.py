"""W3C trace context: read it, make it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Ids of a trace and of the span above us ("" at the edge)."""

    trace_id: str
    parent_id: str

    def header(self, span_id: str) -> str:
        """The traceparent for a call made by `span_id`."""
        return f"00-{self.trace_id}-{span_id}-01"


def new_span_id() -> str:
    """Sixteen random hexadecimal digits."""
    return secrets.token_hex(8)


def read_traceparent(header: str) -> TraceContext:
    """The context in a traceparent header, or a new trace if there is none.

    The edge router joins no trace of its own: it sends a parent id of zeros but one, which means
    "you are the root".
    """
    parts = header.split("-")
    if len(parts) != 4 or len(parts[1]) != 32:
        return TraceContext(secrets.token_hex(16), "")
    return TraceContext(parts[1], "" if parts[2] == EDGE_PARENT else parts[2])


EDGE_PARENT = "0000000000000001"
