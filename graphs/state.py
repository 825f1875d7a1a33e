"""The state that LangGraph checkpoints: small, JSON-plain, references instead of values.

Bodies (findings, plans, facts) lie in the ledger under their digests. Each leg reads what it needs.
"""

from __future__ import annotations

from typing import TypedDict

GRAPH_VERSION = "operations-1"
RECURSION_LIMIT = 60


class RunState(TypedDict, total=False):
    """One run. Every value is a string, an integer or a list of strings."""

    run_id: str
    incident_id: str
    event: str  # event id
    graph_version: str
    phase: str  # act | report | closed
    severity: str
    context: str  # complete | incomplete
    agents: list[str]
    findings: list[str]  # digests
    proposals: str  # digest of the list
    plan: str  # digest of the steps
    step: int  # index of the step in hand
    next: str  # what the router does next: a node name, or "end"
    approval: str
    wake_at_ms: int
    acted_at_ms: int  # when the last write took effect, 0 if none did
    asked: int  # how often the agents were asked
    paged: str  # with a model, first look only: "due" until people are told, then "done"
    ask_again_ms: int  # when they are asked again if no act could be proposed
    checks: int  # how often verification has looked
    verified: str  # "", pass, fail, no_data


CHANNELS = frozenset(RunState.__annotations__)
