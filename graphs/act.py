"""The one node that acts: judge again, write the intent, call the executor, write the outcome.

The only caller of `tools.executors`. A crash between intent and outcome is settled by asking the
target, never by trying again blindly.
"""

from __future__ import annotations

from loop4.domain import Action, ApprovalState, Effect, IntentState, Json, Outcome, Permit
from loop4.errors import PermitError, PolicyError
from loop4.graphs.close import close_run, intent_action
from loop4.graphs.fleet import Fleet
from loop4.graphs.gate import Judged, judge_item, record_decision
from loop4.graphs.promises import keep_no_reminders
from loop4.graphs.state import RunState
from loop4.graphs.steps import WRITE, Item, Step, read_steps
from loop4.ledger import approvals, budgets, evidence, incidents, intents, locks, outbox, runs
from loop4.ledger.intents import Intent, Reconcile, reconcile
from loop4.ledger.ledger import Tx
from loop4.policies.gate import judge
from loop4.policies.modes import is_wider
from loop4.policies.permit import PermitOffice
from loop4.telemetry import current_trace_id, tool_span
from loop4.tools import executors

PERMIT_TTL_MS = 60_000
SETTLE_MS = 1_000  # telemetry of the last second is still on its way


class _Refusal(Exception):
    """The transaction found a reason not to act; nothing was written by it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def executable_tools() -> frozenset[str]:
    """Names of the tools that can act, for loading the policy."""
    return executors.executable_tools()


class Actor:
    """Holds the acting identity's executors and the permit office of this process."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._office = PermitOffice()
        self._executors = executors.Executors(fleet.hands, self._office, fleet.policy.version)

    async def act(self, state: RunState) -> RunState:
        """Run the step in hand. A batch of notices shares one intent and one outcome
        transaction.
        """
        steps = read_steps(self._fleet, state["plan"])
        if state["step"] >= len(steps):  # a crash lost the draft: back to plan it again
            return {"plan": "", "next": "plan"}
        step = steps[state["step"]]
        if step.kind == WRITE:
            return await self._write(state, step.items[0])
        return await self._notices(state, step)

    async def _write(self, state: RunState, item: Item) -> RunState:
        fleet = self._fleet
        known = self._known(state, item)
        if known is not None:
            return await self._recover(state, item, known)
        judged = await judge_item(fleet, state, item)
        if judged.verdict.effect is not Effect.ALLOW:
            return {"next": "gate"}
        changed = self._refused_now(judged)
        if changed:
            self._note(state, judged, changed)
            return {"next": "escalate", "approval": ""}
        now_ms = fleet.clock.now_ms()
        permit = self._office.issue(judged.candidate.action, judged.verdict, now_ms, PERMIT_TTL_MS)
        fleet.passing("before_intent")
        try:
            with fleet.drafts.transaction() as tx:
                self._intend_write(tx, state, judged, permit, now_ms)
        except _Refusal as refusal:
            self._note(state, judged, refusal.reason)
            return {"next": "escalate", "approval": ""}
        fleet.passing("after_intent")
        outcome = await self._call(permit, judged.candidate.action)
        fleet.passing("after_effect")
        return self._settle_write(state, judged.candidate.action, outcome)

    def _refused_now(self, judged: Judged) -> str:
        """Why the policy as its files stand now does not allow this act; empty if it does.

        The run keeps the version that it started with; of the two, the stricter holds. An approval
        was given under the old version and lifts nothing of the new one.
        """
        fleet = self._fleet
        if fleet.policy_now is None:
            return ""
        try:
            present = fleet.policy_now()
        except PolicyError as error:
            return f"the policy files were changed and cannot be loaded: {error}"
        if present.version == fleet.policy.version:
            return ""
        with fleet.ledger.read() as tx:
            present = fleet.in_force(tx, present)
        verdict = judge(judged.candidate.action, judged.facts, present, (), fleet.clock.now_ms())
        if verdict.effect is Effect.ALLOW:
            return ""
        reasons = "; ".join(verdict.reasons) or verdict.effect.value
        return f"the policy was changed during the run and now says {verdict.effect}: {reasons}"

    def _known(self, state: RunState, item: Item) -> Intent | None:
        """An intent that an earlier leg wrote for this very action."""
        with self._fleet.ledger.read() as tx:
            return intents.get(tx, item.action_id(state["incident_id"]))

    def _intend_write(
        self, tx: Tx, state: RunState, judged: Judged, permit: Permit, now_ms: int
    ) -> None:
        """Lock, budget, approval, decision and intent: all or nothing."""
        action = judged.candidate.action
        mode = self._fleet.in_force(tx).mode_of(action.tool, action.environment, action.service)
        if is_wider(judged.verdict.mode, mode):
            raise _Refusal(f"the mode was narrowed to {mode} meanwhile")
        holder = locks.take(tx, action.target, action.action_id, state["run_id"], now_ms)
        if holder is not None:
            raise _Refusal(f"{action.target} is locked by run {holder.run_id}")
        limit = judged.facts.get("restart_budget_1h")
        if (
            action.tool == "workloads.restart"
            and limit is not None
            and not budgets.reserve(
                tx,
                f"restarts/{action.service}",
                int(limit.value),
                3600,
                now_ms,
                action.action_id,
            )
        ):
            raise _Refusal(f"the restart budget of {action.service} is used up")
        used = judged.verdict.approval_id
        if used:
            outbox.done(
                tx, f"resume:{state['run_id']}:{used}:{ApprovalState.APPROVED}", now_ms=now_ms
            )
            keep_no_reminders(tx, used, now_ms=now_ms)
        if used and not approvals.consume(
            tx, used, judged.digest, self._fleet.policy.version, now_ms
        ):
            raise _Refusal(f"approval {used} can no longer be consumed")
        record_decision(tx, state, judged, now_ms)
        self._intend(tx, state, judged, permit, now_ms)
        incidents.update(tx, state["incident_id"], state="mitigating")
        runs.set_state(tx, state["run_id"], runs.RunState.RUNNING, now_ms=now_ms)

    def _intend(self, tx: Tx, state: RunState, judged: Judged, permit: Permit, now_ms: int) -> None:
        action = judged.candidate.action
        written = intents.intend(
            tx,
            action,
            action_digest=judged.digest,
            policy_version=self._fleet.policy.version,
            approval_id=judged.verdict.approval_id,
            permit_nonce=permit.nonce,
            precondition={"target_revision": action.target_revision},
            fence=self._fleet.fence,
            run_id=state["run_id"],
            now_ms=now_ms,
        )
        if not written:
            raise _Refusal("this very action was intended before")

    async def _call(self, permit: Permit, action: Action) -> Outcome:
        with tool_span(action.tool, call_id=action.action_id, tool_class="write") as span:
            try:
                outcome = await self._executors.execute(
                    permit, action, now_ms=self._fleet.clock.now_ms()
                )
            except PermitError as error:
                span.fail("PermitError")
                return Outcome(IntentState.FAILED, str(error))
            if outcome.state is not IntentState.DONE:
                span.fail(outcome.state.value)
            return outcome

    def _settle_write(self, state: RunState, action: Action, outcome: Outcome) -> RunState:
        fleet = self._fleet
        now_ms = fleet.clock.now_ms()
        done = outcome.state is IntentState.DONE
        wake_ms = now_ms + self._window_ms(action.service) + SETTLE_MS
        with fleet.drafts.transaction() as tx:
            intents.settle(tx, action.action_id, outcome, fence=fleet.fence, now_ms=now_ms)
            self._outcome(tx, state, action, outcome, now_ms)
            if done:
                runs.set_state(
                    tx,
                    state["run_id"],
                    runs.RunState.SLEEPING,
                    now_ms=now_ms,
                    wake_at_ms=wake_ms,
                )
            else:
                locks.release(tx, action.target, action.action_id)
        fleet.passing("after_outcome")
        if not done:
            return {"next": "escalate", "approval": ""}
        return {
            "next": "wait",
            "approval": "",
            "acted_at_ms": now_ms,
            "wake_at_ms": wake_ms,
            "checks": 0,
        }

    def _window_ms(self, service: str) -> int:
        windows = [t.verification_window_s for t in self._fleet.targets if t.service == service]
        return max(windows, default=300) * 1000

    def _outcome(
        self, tx: Tx, state: RunState, action: Action, outcome: Outcome, now_ms: int
    ) -> None:
        body: dict[str, Json] = {
            "tool": action.tool,
            "target": action.target,
            "state": outcome.state.value,
            "detail": outcome.detail,
            "before": dict(outcome.before),
            "after": dict(outcome.after),
        }
        evidence.append(
            tx,
            "outcome",
            state["incident_id"],
            state["run_id"],
            body,
            at_ms=now_ms,
            action_id=action.action_id,
            trace_id=current_trace_id(),
        )

    def _note(self, state: RunState, judged: Judged, reason: str) -> None:
        with self._fleet.drafts.transaction() as tx:
            record_decision(tx, state, judged, self._fleet.clock.now_ms())
            evidence.append(
                tx,
                "not_done",
                state["incident_id"],
                state["run_id"],
                {"tool": judged.item.tool, "target": judged.item.target, "reason": reason},
                at_ms=self._fleet.clock.now_ms(),
                action_id=judged.candidate.action.action_id,
                trace_id=current_trace_id(),
            )

    async def _recover(self, state: RunState, item: Item, intent: Intent) -> RunState:
        """An earlier leg wrote this intent: use its outcome, or ask the target what happened."""
        fleet = self._fleet
        now_ms = fleet.clock.now_ms()
        if intent.state is IntentState.DONE:
            wake_ms = intent.settled_ms + self._window_ms(intent.service) + SETTLE_MS
            return {
                "next": "wait",
                "approval": "",
                "acted_at_ms": intent.settled_ms,
                "wake_at_ms": wake_ms,
                "checks": 0,
            }
        if intent.state is not IntentState.INTENDED:
            return {"next": "escalate", "approval": ""}
        action = intent_action(intent)
        probe = await self._executors.probe(action)
        answer = reconcile(
            intent,
            action.action_id if probe.mark else None,
            {"target_revision": probe.state} if probe.answered else None,
        )
        if answer is Reconcile.RETRY:
            return await self._retry(state, item, intent)
        outcome = (
            Outcome(IntentState.DONE, f"{action.target}: our mark is on the target")
            if answer is Reconcile.DONE
            else Outcome(IntentState.UNKNOWN, f"{action.target} cannot tell whether this was done")
        )
        with fleet.drafts.transaction() as tx:
            intents.claim(tx, intent.action_id, fleet.fence)
            evidence.append(
                tx,
                "reconciled",
                state["incident_id"],
                state["run_id"],
                {"tool": action.tool, "target": action.target, "answer": answer.value},
                at_ms=now_ms,
                action_id=action.action_id,
                trace_id=current_trace_id(),
            )
        return self._settle_write(state, action, outcome)

    async def _retry(self, state: RunState, item: Item, intent: Intent) -> RunState:
        """Proven not done: judge again; the approval that this intent consumed still counts for
        it.
        """
        fleet = self._fleet
        judged = await judge_item(fleet, state, item, consumed_by_us=intent.approval_id)
        changed = self._refused_now(judged)
        is_allowed = judged.verdict.effect is Effect.ALLOW and not changed
        if not is_allowed or judged.digest != intent.action_digest:
            outcome = Outcome(
                IntentState.FAILED, "not done before the crash, and no longer allowed as it was"
            )
            with fleet.drafts.transaction() as tx:
                record_decision(tx, state, judged, fleet.clock.now_ms())
                intents.claim(tx, intent.action_id, fleet.fence)
            return self._settle_write(state, judged.candidate.action, outcome)
        now_ms = fleet.clock.now_ms()
        permit = self._office.issue(judged.candidate.action, judged.verdict, now_ms, PERMIT_TTL_MS)
        with fleet.drafts.transaction() as tx:
            record_decision(tx, state, judged, now_ms)
            claimed = intents.claim(tx, intent.action_id, fleet.fence, permit_nonce=permit.nonce)
        if not claimed:
            return {"next": "escalate", "approval": ""}
        outcome = await self._call(permit, judged.candidate.action)
        return self._settle_write(state, judged.candidate.action, outcome)

    async def _notices(self, state: RunState, step: Step) -> RunState:
        """Write the allowed notices of a batch; denied ones are recorded and left."""
        fleet = self._fleet
        judged = [await judge_item(fleet, state, item) for item in step.items]
        now_ms = fleet.clock.now_ms()
        permits: list[tuple[Judged, Permit]] = []
        fleet.passing("before_notice")
        with fleet.drafts.transaction() as tx:
            for one in judged:
                action = one.candidate.action
                known = intents.get(tx, action.action_id)
                if known is not None and known.state is not IntentState.INTENDED:
                    continue
                record_decision(tx, state, one, now_ms)
                if one.verdict.effect is not Effect.ALLOW:
                    continue
                permit = self._office.issue(action, one.verdict, now_ms, PERMIT_TTL_MS)
                if known is None:
                    self._intend(tx, state, one, permit, now_ms)
                else:
                    intents.claim(tx, action.action_id, fleet.fence, permit_nonce=permit.nonce)
                permits.append((one, permit))
        outcomes = [
            (one, await self._call(permit, one.candidate.action)) for one, permit in permits
        ]
        fleet.passing("after_notice")
        with fleet.drafts.transaction() as tx:
            for one, outcome in outcomes:
                action = one.candidate.action
                intents.settle(tx, action.action_id, outcome, fence=fleet.fence, now_ms=now_ms)
                self._outcome(tx, state, action, outcome, now_ms)
            if state["phase"] == "report":
                self._close(tx, state, now_ms)
        return {"next": "end" if state["phase"] == "report" else "plan"}

    def _close(self, tx: Tx, state: RunState, now_ms: int) -> None:
        """The last act of a run: the report is written, the incident closed if telemetry proved the
        fix.
        """
        close_run(tx, state, now_ms)
