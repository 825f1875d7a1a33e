"""The only way to an effect: a permit for exactly these arguments, used once.

Imported by `graphs.act` alone (an import contract and a test hold that).
"""

from __future__ import annotations

from loop4.domain import Action, IntentState, Outcome, Permit
from loop4.errors import BackendError, PermitError, Unreachable
from loop4.policies.permit import PermitOffice
from loop4.tools import deployments, documents, workloads  # noqa: F401  (they register their tools)
from loop4.tools.tool import Hands, Probe, implementations


class Executors:
    """Runs one permitted action at a time with the acting identity's handles."""

    def __init__(self, hands: Hands, office: PermitOffice, policy_version: str) -> None:
        self._hands = hands
        self._office = office
        self._policy_version = policy_version

    async def execute(self, permit: Permit, action: Action, *, now_ms: int) -> Outcome:
        """Run the action and say what happened.

        Raises PermitError, with nothing done, unless the permit is genuine, unexpired, unused and
        made for the digest of exactly these arguments. A refusal by the target is an outcome
        FAILED; no answer is UNKNOWN: the target must be asked before anything else.
        """
        self._office.check(permit, action, self._policy_version, now_ms)
        found = implementations().get(action.tool)
        if found is None:
            raise PermitError(f"tool {action.tool!r} has no executor; nothing was done")
        try:
            return await found[0](self._hands, action)
        except Unreachable as error:
            return Outcome(IntentState.UNKNOWN, str(error))
        except BackendError as error:
            return Outcome(IntentState.FAILED, str(error))

    async def probe(self, action: Action) -> Probe:
        """Ask the target what became of an action whose outcome was lost."""
        found = implementations().get(action.tool)
        if found is None:
            return Probe(answered=False)
        try:
            return await found[1](self._hands, action)
        except BackendError:
            return Probe(answered=False)


def executable_tools() -> frozenset[str]:
    """Names of the tools that have an executor."""
    return frozenset(implementations())
