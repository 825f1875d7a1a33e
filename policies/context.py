"""The nine sources that must be read before every task, as they lie in the operations folder."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loop4.canonical import digest
from loop4.domain import JsonObject


@dataclass(frozen=True, slots=True)
class ContextSource:
    """One source. An empty `digest` means that it is missing or empty; `age_s` is then 0.

    `path` is relative to the operations folder. `digest` covers names and bytes of its files,
    `age_s` counts from the newest of them. A file whose text is blank, and a link that leads out of
    the folder, do not count.
    """

    name: str
    path: str
    digest: str
    age_s: int
    is_required: bool

    @property
    def is_missing(self) -> bool:
        """True when there is nothing to read."""
        return not self.digest


@dataclass(frozen=True, slots=True)
class ContextReport:
    """All nine sources, present or not, always in the same order."""

    sources: tuple[ContextSource, ...]

    @property
    def missing_required(self) -> tuple[str, ...]:
        """The names of the required sources that are missing; any of them lowers a run to
        `suggest`.
        """
        return tuple(s.name for s in self.sources if s.is_required and s.is_missing)

    @property
    def is_complete(self) -> bool:
        """True when no required source is missing."""
        return not self.missing_required

    def to_json(self) -> JsonObject:
        """The body of the `context` record."""
        return {
            "sources": [
                {
                    "name": source.name,
                    "path": source.path,
                    "digest": source.digest,
                    "age_s": source.age_s,
                    "required": source.is_required,
                }
                for source in self.sources
            ],
            "missing_required": list(self.missing_required),
        }


@dataclass(frozen=True, slots=True)
class _Place:
    name: str
    path: str
    pattern: str  # of the files inside a folder; empty for a single file
    is_required: bool


_POLICIES = "org/4-quality/policies"
_PLACES = (
    _Place("quality_policies", _POLICIES, "*.md", True),
    _Place("observability_policy", f"{_POLICIES}/observability.md", "", True),
    _Place("delivery_policy", f"{_POLICIES}/delivery.md", "", True),
    _Place("health_targets", "policies/targets", "*.yaml", True),
    _Place("runbooks", "policies/runbooks", "*.yaml", True),
    _Place("incident_framework", f"{_POLICIES}/incident-response.md", "", True),
    _Place("decisions", "work/decisions", "*.md", False),
    _Place("postmortem_template", "work/retrospectives/_TEMPLATE-postmortem.md", "", False),
    _Place("signal_digest_template", "work/signals/digests/_TEMPLATE-signal-digest.md", "", False),
)


def read_context(operations: Path, now_ms: int) -> ContextReport:
    """What of the nine sources is there, with digest and age. An unreadable one counts as missing.

    Deterministic for the same bytes, times of files and `now_ms`.
    """
    root = operations.resolve()
    return ContextReport(tuple(_source(root, place, now_ms) for place in _PLACES))


def _source(root: Path, place: _Place, now_ms: int) -> ContextSource:
    found: dict[str, str] = {}
    newest_ms = 0
    for path in _files(root, place):
        try:
            status = path.stat()
            data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        except OSError:
            continue
        if not data.strip():
            continue
        found[path.relative_to(root / place.path).as_posix()] = hashlib.sha256(data).hexdigest()
        newest_ms = max(newest_ms, status.st_mtime_ns // 1_000_000)
    if not found:
        return ContextSource(place.name, place.path, "", 0, place.is_required)
    content = digest(found) if place.pattern else next(iter(found.values()))
    age_s = max(0, now_ms - newest_ms) // 1000
    return ContextSource(place.name, place.path, content, age_s, place.is_required)


def _files(root: Path, place: _Place) -> Iterator[Path]:
    base = root / place.path
    candidates = sorted(base.rglob(place.pattern)) if place.pattern else [base]
    return (path for path in candidates if path.resolve().is_relative_to(root))
