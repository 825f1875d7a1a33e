"""One recording decided twice, without and with a model: what must be the same, and what it
cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loop4.domain import Json
from loop4.evals.incidents import decided_in_replay
from loop4.evals.model_share import ModelShare, told
from loop4.evals.replay import Replay

HEAD = ("recording", "", "severity", "cause", "act", "effect", "turns", "tokens", "seconds")


@dataclass(frozen=True, slots=True)
class Pair:
    """Both replays of one recording, and how long each took."""

    name: str
    without: Replay
    aided: Replay
    without_s: float
    aided_s: float

    @property
    def is_same(self) -> bool:
        """Whether severity, acts, their effects and outcomes are the same. A cause may be
        overruled.
        """
        bare, aided = decided_in_replay(self.without), decided_in_replay(self.aided)
        return (bare.severity, bare.acts) == (aided.severity, aided.acts)

    @property
    def share(self) -> ModelShare:
        """What the model did."""
        return self.aided.model or ModelShare()

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        return {
            "recording": self.name,
            "same": self.is_same,
            "without": _decisive(self.without, self.without_s),
            "with": _decisive(self.aided, self.aided_s),
            "model": self.share.to_json(),
        }


def table(pairs: Sequence[Pair]) -> str:
    """The comparison for people: two lines a recording, then what the model added and lost."""
    rows: list[tuple[str, ...]] = [HEAD]
    for pair in pairs:
        rows.append(_row(pair.name, "without", pair.without, pair.without_s, None))
        rows.append(_row("", "with", pair.aided, pair.aided_s, pair.share))
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    for pair in pairs:
        word = "the same severity, acts and effects" if pair.is_same else "NOT the same decisions"
        lines += ["", f"{pair.name}: {word}", *(f"  {line}" for line in told(pair.share))]
    return "\n".join(lines)


def _decisive(replayed: Replay, seconds: float) -> dict[str, Json]:
    what = decided_in_replay(replayed)
    return {
        "severity": what.severity,
        "cause": what.cause,
        "acts": [
            {"tool": a.tool, "target": a.target, "effect": a.effect, "outcome": a.outcome}
            for a in what.acts
        ],
        "seconds": round(seconds, 3),
    }


def _row(
    name: str, which: str, replayed: Replay, seconds: float, share: ModelShare | None
) -> tuple[str, ...]:
    what = decided_in_replay(replayed)
    return (
        name,
        which,
        what.severity,
        what.cause,
        ", ".join(f"{a.tool} {a.target}" for a in what.acts) or "none",
        ", ".join(a.effect for a in what.acts) or "-",
        str(share.turns) if share else "-",
        str(share.tokens) if share else "-",
        f"{seconds:.1f}",
    )
