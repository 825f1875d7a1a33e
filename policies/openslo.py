"""OpenSLO v1 files (`kind: SLO`, `SLI`) read into `Target`s.

Our convention inside a valid OpenSLO file: `metricSource.type` is `prometheus`, and `spec.query` is
ONE raw counter selector, as `http_requests_total{service="orders"}`; the windows come from us, as
`sum(increase(<selector>[60s]))`. Three annotations tune what OpenSLO has no field for:
`loop4/burn-windows: "1h/5m@14.4, 6h/30m@6"`, `loop4/verification-window: "5m"`,
`loop4/minimum-requests: "10"`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path

from loop4.errors import PolicyError
from loop4.policies.documents import Node, parse_nodes, read_text, unknown
from loop4.policies.targets import (
    BUDGET_WINDOW_S,
    DEFAULT_WINDOWS,
    VERIFICATION_WINDOW_S,
    BurnWindow,
    Target,
)

API_VERSION = "openslo/v1"


def load_targets(path: Path) -> tuple[Target, ...]:
    """All targets of a file, or of the `*.yaml` files of a folder in the order of their names.

    Raises PolicyError with file, line and column. A folder without files holds no target.
    """
    try:
        files = sorted(path.glob("*.y*ml")) if path.is_dir() else [path]
    except OSError as error:
        raise PolicyError(f"cannot be read: {error.strerror}", path=str(path)) from error
    return read_targets((read_text(file), str(file)) for file in files)


def read_targets(texts: Iterable[tuple[str, str]]) -> tuple[Target, ...]:
    """All targets of (text, path) pairs; an SLO may refer to an SLI of any of them."""
    indicators: dict[str, Node] = {}
    targets: list[tuple[Node, Node]] = []  # metadata and spec of each SLO
    for text, path in texts:
        for root in parse_nodes(text, path, floats=True):
            kind, metadata, spec = _envelope(root)
            if kind == "SLI":
                indicators[metadata.mapping()["name"].text()] = spec
            elif kind == "SLO":
                targets.append((metadata, spec))
    found: dict[str, Target] = {}
    for metadata, spec in targets:
        target = _target(metadata, spec, indicators)
        if target.name in found:
            first = found[target.name]
            raise metadata.mapping()["name"].error(
                f"target {target.name!r} stands twice; first in {first.file}:{first.line}"
            )
        found[target.name] = target
    return tuple(found.values())


# Kinds of OpenSLO v1 that hold nothing we need are read over, not refused.
_KINDS = (
    "SLO",
    "SLI",
    "Service",
    "DataSource",
    "AlertPolicy",
    "AlertCondition",
    "AlertNotificationTarget",
)
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_STRING = r'"(?:[^"\\\n]|\\.)*"'
_MATCHER = rf"[A-Za-z_]\w*\s*(?:=~|!~|!=|=)\s*{_STRING}"
_SELECTOR = re.compile(
    rf"[A-Za-z_:][\w:]*\s*(?:\{{\s*(?:{_MATCHER}\s*(?:,\s*{_MATCHER}\s*)*,?\s*)?\}})?"
)
_DURATION = re.compile(r"([1-9]\d{0,6})([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_PAIR = re.compile(r"\s*(\w+)\s*/\s*(\w+)\s*@\s*(\d{1,4}(?:\.\d{1,3})?)\s*")
_BURN, _VERIFY, _MINIMUM = (
    "loop4/burn-windows",
    "loop4/verification-window",
    "loop4/minimum-requests",
)


def _envelope(root: Node) -> tuple[str, Node, Node]:
    fields = root.fields(("apiVersion", "kind", "metadata", "spec"))
    fields["apiVersion"].choice("apiVersion", (API_VERSION,))
    kind = fields["kind"].choice("kind", _KINDS)
    metadata = fields["metadata"]
    named = metadata.fields(("name",), ("displayName", "labels", "annotations"))
    if not _NAME.fullmatch(named["name"].text()):
        raise named["name"].error(
            f"found {named['name'].describe()}, expected lowercase letters, digits and '-'"
        )
    return kind, metadata, fields["spec"]


def _target(metadata: Node, spec: Node, indicators: Mapping[str, Node]) -> Target:
    name = metadata.mapping()["name"]
    if "objectives" not in spec.mapping():
        raise spec.error(f"target {name.text()!r} has no objective; add objectives: [target: 0.99]")
    fields = spec.fields(
        ("service", "objectives"),
        (
            "description",
            "indicator",
            "indicatorRef",
            "timeWindow",
            "budgetingMethod",
            "alertPolicies",
        ),
    )
    if "budgetingMethod" in fields:
        fields["budgetingMethod"].choice("budgetingMethod", ("Occurrences",))
    good, bad, total = _ratio(_indicator(spec, fields, indicators))
    annotations = metadata.mapping().get("annotations")
    windows, verification_s, minimum = _annotations(annotations)
    return Target(
        name=name.text(),
        service=fields["service"].text(),
        objective_bp=_objective_bp(name.text(), fields["objectives"]),
        good=good,
        bad=bad,
        total=total,
        windows=windows,
        verification_window_s=verification_s,
        budget_window_s=_budget_window_s(fields.get("timeWindow")),
        minimum_requests=minimum,
        description=fields["description"].text() if "description" in fields else "",
        file=name.path,
        line=name.line,
    )


def _indicator(spec: Node, fields: Mapping[str, Node], indicators: Mapping[str, Node]) -> Node:
    """The SLI's spec, written in place or referred to."""
    if ("indicator" in fields) == ("indicatorRef" in fields):
        raise spec.error("expected either indicator (written here) or indicatorRef (a name)")
    if "indicator" in fields:
        inline = fields["indicator"].fields(("spec",), ("metadata",))
        return inline["spec"]
    reference = fields["indicatorRef"]
    name = reference.text()
    if name not in indicators:
        raise reference.error(unknown("indicator", name, indicators))
    return indicators[name]


def _ratio(indicator: Node) -> tuple[str, str, str]:
    """Selectors for good, bad (one of them empty) and total."""
    fields = indicator.fields((), ("description", "ratioMetric", "thresholdMetric"))
    if "ratioMetric" not in fields:
        raise indicator.error("no ratioMetric; expected ratioMetric with good (or bad) and total")
    if "thresholdMetric" in fields:
        raise indicator.keys["thresholdMetric"].error("ratioMetric stands beside; expected one")
    ratio = fields["ratioMetric"]
    parts = ratio.fields((), ("counter", "good", "bad", "total"))
    if "total" not in parts or ("good" in parts) == ("bad" in parts):
        found = ", ".join(part for part in ("good", "bad", "total") if part in parts) or "nothing"
        raise ratio.error(f"wrong ratio: found {found}; expected total and one of good, bad")
    if "counter" in parts and not parts["counter"].boolean():
        raise parts["counter"].error("found false, expected true: the queries select counters")
    selectors = {part: _selector(parts[part]) for part in parts if part != "counter"}
    if selectors["total"] in (selectors.get("good"), selectors.get("bad")):
        raise ratio.error("wrong ratio: the same query is counted above and below the line")
    return selectors.get("good", ""), selectors.get("bad", ""), selectors["total"]


def _selector(metric: Node) -> str:
    source = metric.fields(("metricSource",))["metricSource"]
    parts = source.fields(("type", "spec"), ("metricSourceRef",))
    if parts["type"].text().lower() != "prometheus":
        raise parts["type"].error(f"found {parts['type'].describe()}, expected prometheus")
    query = parts["spec"].fields(("query",))["query"]
    text = query.text()
    whole = _SELECTOR.fullmatch(text.strip())
    if whole is None:
        start = len(text) - len(text.lstrip())
        partial = _SELECTOR.match(text, start)
        raise query.error_at(
            partial.end() if partial else start,
            f"found {text.strip()!r}, expected one raw counter selector such as"
            ' http_requests_total{service="orders"}; we add rate, sum and window ourselves',
        )
    return whole.group()


def _objective_bp(name: str, objectives: Node) -> int:
    items = objectives.items()
    if not items:
        raise objectives.error(f"target {name!r} has no objective; add target: 0.99")
    if len(items) > 1:
        raise items[1].error(f"found {len(items)} objectives, expected one for a ratioMetric")
    fields = items[0].fields((), ("displayName", "target", "targetPercent"))
    if ("target" in fields) == ("targetPercent" in fields):
        problem = "both target and targetPercent" if "target" in fields else "no objective"
        raise items[0].error(f"target {name!r} has {problem}; expected target: 0.99")
    value, scale = (
        (fields["target"], 10_000) if "target" in fields else (fields["targetPercent"], 100)
    )
    points = Decimal(repr(value.number())) * scale
    if not 0 < points < 10_000:
        raise value.error(f"found {value.describe()}, expected above 0 and below {10_000 // scale}")
    if points != points.to_integral_value():
        raise value.error(f"found {value.describe()}, expected whole basis points, as 0.9995")
    return int(points)


def _budget_window_s(windows: Node | None) -> int:
    if windows is None:
        return BUDGET_WINDOW_S
    items = windows.items()
    if len(items) != 1:
        raise windows.error(f"found {len(items)} time windows, expected one")
    fields = items[0].fields(("duration",), ("isRolling", "calendar"))
    return _seconds(fields["duration"], fields["duration"].text())


def _annotations(annotations: Node | None) -> tuple[tuple[BurnWindow, ...], int, int]:
    given = {} if annotations is None else annotations.mapping()
    for key in given:
        if key.startswith("loop4/") and key not in (_BURN, _VERIFY, _MINIMUM):
            where = annotations.keys[key] if annotations is not None else given[key]
            raise where.error(unknown("annotation", key, (_BURN, _VERIFY, _MINIMUM)))
    windows = _windows(given[_BURN]) if _BURN in given else DEFAULT_WINDOWS
    verification_s = VERIFICATION_WINDOW_S
    if _VERIFY in given:
        verification_s = _seconds(given[_VERIFY], given[_VERIFY].text())
    minimum = 1
    if _MINIMUM in given:
        text = given[_MINIMUM].text()
        if not text.isdecimal() or not 0 < int(text) <= 1_000_000:
            raise given[_MINIMUM].error(f"found {text!r}, expected a number from 1 to 1000000")
        minimum = int(text)
    return windows, verification_s, minimum


def _windows(value: Node) -> tuple[BurnWindow, ...]:
    pairs: list[BurnWindow] = []
    for part in value.text().split(","):
        match = _PAIR.fullmatch(part)
        if match is None:
            raise value.error(
                f'found {part.strip()!r}, expected long/short@factor, as "1h/5m@14.4"'
            )
        long_s, short_s = _seconds(value, match.group(1)), _seconds(value, match.group(2))
        factor = float(match.group(3))
        if short_s >= long_s or factor <= 0:
            raise value.error(
                f"found {part.strip()!r}, expected the long window first and a factor above 0"
            )
        pairs.append(BurnWindow(long_s, short_s, factor))
    return tuple(pairs)


def _seconds(value: Node, text: str) -> int:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise value.error(f"found {text!r}, expected a duration such as 15s, 5m, 1h, 30d")
    return int(match.group(1)) * _UNIT_S[match.group(2)]
