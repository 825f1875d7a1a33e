"""What was seen of an incident, already read and counted: the input of the diagnosis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loop4.tools.analysis.diagnosis.origin import Origin
from loop4.tools.backends.ports import Change, Instance


@dataclass(frozen=True, slots=True)
class Counts:
    """Failed and total requests of one group (a version, an instance) in one window."""

    failed: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class FirstStretch:
    """How a new version did in the `lasts_s` seconds right after its change, and the old one beside
    it in the same seconds.
    """

    lasts_s: int
    new: Counts = field(default_factory=Counts)
    old: Counts = field(default_factory=Counts)


@dataclass(frozen=True, slots=True)
class Observations:
    """What was seen, already read. Windows begin at the onset unless said.

    `by_version` is keyed by (service, version), `calls` by (service, version, dependency),
    `probes_bp` by dependency (absent = not probed) and `probes_since` likewise: failed and all
    probes since calls to it fail. By change id: `before_change` counts its service just before it,
    `first_stretches` its version right after it (absent while that stretch is not over).
    """

    onset_ms: int
    lookback_ms: int
    changes: Sequence[Change] = ()
    origins: Sequence[Origin] = ()
    instances: Sequence[Instance] = ()
    by_version: Mapping[tuple[str, str], Counts] = field(default_factory=dict)
    before_change: Mapping[str, Counts] = field(default_factory=dict)
    first_stretches: Mapping[str, FirstStretch] = field(default_factory=dict)
    calls: Mapping[tuple[str, str, str], Counts] = field(default_factory=dict)
    probes_bp: Mapping[str, int] = field(default_factory=dict)
    probes_since: Mapping[str, Counts] = field(default_factory=dict)
