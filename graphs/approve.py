"""The human's turn. The node does nothing but ask; the answer that it carries is an id, never a
decision.
"""

from __future__ import annotations

from langgraph.types import interrupt
from pydantic import BaseModel, ConfigDict

from loop4.domain import Json, JsonObject
from loop4.graphs.fleet import Fleet
from loop4.graphs.state import RunState
from loop4.ledger import approvals


class ApprovalAnswer(BaseModel):
    """The only valid answer: which request was closed in the ledger. Anything else leaves it
    pending.

    A vote posted by a LangGraph client ({"decisions": ...}) fails this schema: votes are cast where
    a person is authenticated (`loop4 approvals approve ID`).
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    approval_id: str


def hitl_request(
    tool: str, arguments: JsonObject, description: str, extra: dict[str, Json]
) -> dict[str, Json]:
    """The `HITLRequest` that LangGraph front ends read, with our own keys beside it: approve or
    reject.
    """
    return {
        "action_requests": [{"name": tool, "args": arguments, "description": description}],
        "review_configs": [{"action_name": tool, "allowed_decisions": ["approve", "reject"]}],
        "loop4": {"vote_with": "loop4 approvals approve|reject", **extra},
    }


def approve(fleet: Fleet, state: RunState) -> RunState:
    """Wait for the ledger to hold a decision on this request; then go back to the gate, whatever it
    was.
    """
    with fleet.ledger.read() as tx:
        request = approvals.get(tx, state["approval"])
    payload = dict(request.payload) if request else {"approval_id": state["approval"]}
    answer = interrupt(payload, response_schema=ApprovalAnswer)
    if answer.approval_id != state["approval"]:
        return {"next": "approve"}
    return {"next": "gate"}
