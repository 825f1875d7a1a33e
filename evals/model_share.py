"""What a model did in a run, read from the evidence of the run: tokens, time, what it added, what
was dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from loop4.domain import Json
from loop4.ledger.evidence import EvidenceRecord

BY_MODEL = "/model"  # how the agent of a finding ends when a model found it
OVERRULES = "overrules the playbook's cause with "
UNCITED = frozenset({"finding cites no evidence", "finding cites evidence that is not there"})


@dataclass(frozen=True, slots=True)
class AddedFinding:
    """A finding of the model that holds. It stands in the record beside the playbook's."""

    agent: str
    kind: str
    subject: str
    claim: str

    def to_json(self) -> dict[str, Json]:
        """For `--json`."""
        return {
            "agent": self.agent,
            "kind": self.kind,
            "subject": self.subject,
            "claim": self.claim,
        }


@dataclass(frozen=True, slots=True)
class ModelShare:
    """The model's part in one run. `microusd` is None when a price is unknown.

    `waited_ms` is the time in which a model was waited for, summed over agents that ask side by
    side. `dropped` counts by reason, `fallbacks` the tasks that the playbook finished, by reason.
    """

    tasks: int = 0
    turns: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    largest_prompt: int = 0
    microusd: int | None = 0
    waited_ms: int = 0
    findings: tuple[AddedFinding, ...] = ()
    overruled: tuple[str, ...] = ()
    proposals: int = 0
    sentences: int = 0
    dropped: tuple[tuple[str, int], ...] = ()
    fallbacks: tuple[tuple[str, int], ...] = ()
    rungs: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """Prompt and answer together."""
        return self.prompt_tokens + self.answer_tokens

    @property
    def uncited(self) -> int:
        """How many findings were dropped since they cite nothing, or nothing that is there."""
        return sum(n for why, n in self.dropped if why in UNCITED)

    def to_json(self) -> dict[str, Json]:
        """For `--json`. An unknown cost is the word `unknown`."""
        return {
            "tasks": self.tasks,
            "turns": self.turns,
            "calls": self.calls,
            "prompt_tokens": self.prompt_tokens,
            "answer_tokens": self.answer_tokens,
            "largest_prompt": self.largest_prompt,
            "cost_microusd": "unknown" if self.microusd is None else self.microusd,
            "waited_ms": self.waited_ms,
            "findings": [f.to_json() for f in self.findings],
            "overruled": list(self.overruled),
            "proposals": self.proposals,
            "sentences": self.sentences,
            "dropped": dict(self.dropped),
            "uncited": self.uncited,
            "fallbacks": dict(self.fallbacks),
            "rungs": list(self.rungs),
        }


def model_share(records: Iterable[EvidenceRecord]) -> ModelShare:
    """The share of the model in the run that these records are the evidence of."""
    kept = list(records)
    notes = [r.body for r in kept if r.kind == "model"]
    costs = [n["cost_microusd"] for n in notes]
    words = [str(w) for n in notes for w in cast("Iterable[Json]", n["notes"])]
    added = Counter[str]()
    for note in notes:
        added.update(_counts(note["added"]))
    return ModelShare(
        tasks=len(notes),
        turns=_total(notes, "turns"),
        calls=_total(notes, "calls"),
        prompt_tokens=_total(notes, "prompt_tokens"),
        answer_tokens=_total(notes, "answer_tokens"),
        largest_prompt=max((int(cast("int", n["largest_prompt"])) for n in notes), default=0),
        microusd=None if "unknown" in costs else sum(int(cast("int", c)) for c in costs),
        waited_ms=_total(notes, "waited_ms"),
        findings=_findings(kept),
        overruled=tuple(w.removeprefix(OVERRULES) for w in words if w.startswith(OVERRULES)),
        proposals=added["proposals"],
        sentences=added["sentences"],
        dropped=_summed(n["dropped"] for n in notes),
        fallbacks=_summed({str(n["fallback"]): 1} for n in notes if n["fallback"]),
        rungs=tuple(sorted({str(n["rung"]) for n in notes})),
    )


def told(share: ModelShare) -> list[str]:
    """The share in lines for a person."""
    money = "price unknown" if share.microusd is None else f"{share.microusd / 1_000_000:.4f} USD"
    lines = [
        f"model: {share.turns} turns, {share.prompt_tokens} + {share.answer_tokens} tokens, "
        f"{money}, waited for {share.waited_ms / 1000:.1f} s; the largest prompt needed at most "
        f"{share.largest_prompt} tokens",
        f"added: {len(share.findings)} findings, {share.proposals} proposals, "
        f"{share.sentences} sentences; dropped: {sum(n for _, n in share.dropped)}, "
        f"{share.uncited} of them findings without evidence",
    ]
    lines += [f"  {f.agent}: {f.kind} {f.subject}: {f.claim}" for f in share.findings]
    lines += [f"  overruled the playbook's cause: {cause}" for cause in share.overruled]
    lines += [f"  dropped {n}: {why}" for why, n in share.dropped]
    lines += [
        f"  the playbook took over in {n} of {share.tasks} tasks: {why}"
        for why, n in share.fallbacks
    ]
    return lines


def _findings(records: Iterable[EvidenceRecord]) -> tuple[AddedFinding, ...]:
    found = [
        AddedFinding(*(str(r.body[k]) for k in ("agent", "kind", "subject", "claim")))
        for r in records
        if r.kind == "finding" and str(r.body["agent"]).endswith(BY_MODEL)
    ]
    return tuple(dict.fromkeys(found))


def _total(notes: Iterable[Mapping[str, Json]], key: str) -> int:
    return sum(int(cast("int", n[key])) for n in notes)


def _counts(value: Json) -> dict[str, int]:
    return {k: int(cast("int", n)) for k, n in cast("Mapping[str, Json]", value).items()}


def _summed(counts: Iterable[Json]) -> tuple[tuple[str, int], ...]:
    total = Counter[str]()
    for each in counts:
        total.update(_counts(each))
    return tuple(sorted(total.items()))
