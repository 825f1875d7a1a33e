"""Where errors begin: the deepest failing span of each failing trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

from loop4.tools.backends.ports import Span


@dataclass(frozen=True, slots=True)
class Origin:
    """How many failing traces began at one place.

    `external` is the dependency whose call failed there, or empty when the service itself failed.
    """

    service: str
    version: str
    instance: str
    external: str
    traces: int


def error_origins(spans: Sequence[Span], externals: Collection[str]) -> tuple[Origin, ...]:
    """Origins by number of traces, most first; ties in name order.

    A failing server span is an origin when none of its calls failed. A failing call is an origin
    when it went to an external dependency, or when nobody answered it (no server span below it).
    Spans without an error are only used for the tree. A trace counts once per place.
    """
    children: dict[tuple[str, str], list[Span]] = {}
    for span in spans:
        children.setdefault((span.trace_id, span.parent_id), []).append(span)
    places: Counter[tuple[str, str, str, str]] = Counter()
    seen: set[tuple[str, tuple[str, str, str, str]]] = set()
    for span in spans:
        if not span.is_error:
            continue
        below = children.get((span.trace_id, span.span_id), [])
        if span.kind == "client":
            if span.peer in externals:
                place = (span.service, span.version, span.instance, span.peer)
            elif any(child.kind == "server" for child in below):
                continue
            else:
                place = (span.peer, "", "", "")
        elif any(child.is_error and child.kind == "client" for child in below):
            continue
        else:
            place = (span.service, span.version, span.instance, "")
        if (span.trace_id, place) not in seen:
            seen.add((span.trace_id, place))
            places[place] += 1
    ordered = sorted(places.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Origin(*place, traces=count) for place, count in ordered)


def calls_fail_since(spans: Sequence[Span], externals: Collection[str]) -> Mapping[str, int]:
    """Since when calls to each external dependency fail (ms): the moment by which half of the
    failed ones had begun, so that a stray failure long before does not move it.
    """
    begun: dict[str, list[int]] = {}
    for span in spans:
        if span.is_error and span.kind == "client" and span.peer in externals:
            begun.setdefault(span.peer, []).append(span.start_ms)
    return {name: median_low(times) for name, times in begun.items()}
