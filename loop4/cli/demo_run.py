"""The demo's course: lab up, one scenario after the other, one act that is denied, the story at the
end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.live import Live

from loop4.cli.demo_question import TerminalQuestion, question
from loop4.cli.demo_view import Feed, console, screen
from loop4.cli.fleet_options import traced
from loop4.domain import Event, EventKind, Json
from loop4.errors import BackendError
from loop4.evals.model_share import ModelShare, model_share, told
from loop4.graphs.patrol import Patrol
from loop4.graphs.session import Session, open_session
from loop4.lab.episode import Answer, run_episode
from loop4.lab.folder import ON_CALL, OperationsCopy, make_operations
from loop4.lab.lab import Lab
from loop4.lab.results import Result, denials, result_of
from loop4.ledger import approvals, evidence
from loop4.tools.backends.worlds import connected

if TYPE_CHECKING:
    from loop4.agents.planner.port import Planner
    from loop4.ledger.approvals import Request
    from loop4.tools.backends.ports import Inventory

NEVER_RECORDED = "0" * 64


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo came to: one result per scenario, the denied act, the state of the chain."""

    results: tuple[Result, ...]
    denied: tuple[dict[str, Json], ...]
    evidence_ok: bool
    paths: dict[str, Json]
    model: ModelShare | None = None

    @property
    def is_well(self) -> bool:
        """Whether every fault was dealt with and the incident resolved, something was denied, and
        the chain verifies.
        """
        dealt_with = all(
            r.state == "resolved" and (not r.needs_act or any(a.outcome == "done" for a in r.acts))
            if r.is_fault
            else r.state in ("resolved", "")
            for r in self.results
        )
        return dealt_with and self.evidence_ok and bool(self.denied)

    def to_json(self) -> dict[str, Json]:
        """For `--json`: the first scenario on top, the others below `then`."""
        first, *others = self.results
        aided: dict[str, Json] = {} if self.model is None else {"model": self.model.to_json()}
        return {
            **first.to_json(),
            "denied": [*first.denied, *self.denied],
            "evidence_ok": self.evidence_ok,
            "paths": self.paths,
            "then": [r.to_json() for r in others],
            **aided,
        }


@dataclass(slots=True)
class Demo:
    """One demo in one folder. `asks`: a person sits at this terminal and decides. Without a
    `planner` no model is asked.
    """

    root: Path
    seed: int
    is_live: bool
    asks: bool
    planner: Planner | None = None
    _feed: Feed = field(default_factory=lambda: Feed(0))
    _live: Live | None = None
    _session: Session | None = None
    _copy: OperationsCopy | None = None
    _inventory: Inventory | None = None
    _patrol: Patrol | None = None
    _question: TerminalQuestion | None = None

    def start_lab(self) -> Lab:
        """The lab, up, beside a fresh operations folder.

        Plain, not a coroutine: an interrupt during the start then reaches the lab's own clean-up.
        """
        out = console(headless=not self.is_live)
        copy = self._copy = make_operations(self.root / "operations")
        out.print(f"operations folder: {copy.root}")
        out.print("starting the lab: a router, three services, an external bank, load ...")
        return Lab.start(self.root / "lab", self.seed)

    async def run(self, lab: Lab, scenarios: Sequence[str]) -> DemoReport:
        """Every scenario on a lab that is up. Whoever started the lab ends it."""
        with traced():
            async with (
                connected(f"lab:{lab.connection}", "") as handles,
                open_session(
                    data=self.root / "data",
                    operations=self.root / "operations",
                    world=handles.world,
                    writer=handles.writer,
                    planner=self.planner,
                ) as session,
            ):
                self._session = session
                self._feed = Feed(session.fleet.clock.now_ms())
                with Live(
                    console=console(headless=not self.is_live),
                    refresh_per_second=4,
                    transient=True,
                ) as live:
                    self._live = live if self.is_live else None
                    if not self.is_live:
                        live.stop()
                    return await self._play(lab, session, scenarios)

    async def _play(self, lab: Lab, session: Session, scenarios: Sequence[str]) -> DemoReport:
        results = []
        for index, name in enumerate(scenarios):
            self._say(
                f"scenario {name}: the system is healthy; something will go wrong in a moment"
                if index == 0
                else f"second part, {name}: this time nobody needs to be asked"
            )
            episode = await run_episode(
                lab,
                session,
                self,
                scenario=name,
                seed=self.seed,
                warm_up_s=15.0 if index == 0 else 0.0,
            )
            results.append(result_of(lab, session, episode))
            if index == 0:
                await self._try_forbidden(session)
        if self._live is not None:
            self._live.stop()
        return self._finish(session, results)

    async def _try_forbidden(self, session: Session) -> None:
        """Ask for a deploy of a digest that was never recorded as deployed and healthy."""
        self._say("somebody asks the fleet to deploy a digest that was never recorded as good")
        now_ms = session.fleet.clock.now_ms()
        service = session.fleet.catalogue.edge_services()[0]
        await session.runner.handle(
            Event(
                event_id=f"request:{now_ms}",
                kind=EventKind.REQUEST,
                source="demo",
                service=service.name,
                environment=service.environment,
                at_ms=now_ms,
                correlation=f"request/{service.environment}/{now_ms}",
                request={
                    "tool": "deployments.deploy",
                    "target": service.name,
                    "arguments": {
                        "service": service.name,
                        "digest": NEVER_RECORDED,
                        "weight_bp": 1000,
                    },
                },
            )
        )
        self._tell(session)

    async def beaten(self, patrol: Patrol) -> None:
        """After every beat: new lines, and the table."""
        if self._question is not None and self._is_closed(self._question.asked):
            console(headless=False).print("the question is no longer open", style="yellow")
            self._end_question()
        self._patrol = patrol
        orchestrator = patrol.fleet.world.workloads
        if self._live is not None and orchestrator is not None:
            try:
                self._inventory = await orchestrator.inventory()
            except BackendError:
                self._inventory = None
        if self._session is not None:
            self._tell(self._session)

    async def decide(self, request: Request) -> Answer | None:
        """The on-call's answer: from the terminal, or at once as the demo's on-call."""
        copy = self._copy
        if copy is None or self._session is None:
            return None
        self._tell(self._session)
        if not self.asks:
            self._say(
                f"nobody is asked: the demo approves as {copy.person} ({ON_CALL}) of its own lab"
            )
            return Answer(copy.person, (ON_CALL,), True)
        word = self._ask(request, copy.person)
        return None if word is None else Answer(copy.person, (ON_CALL,), word in ("y", "yes"))

    def _ask(self, request: Request, person: str) -> str | None:
        """The question at the terminal; the fleet goes on watching until there is an answer.

        None while there is none yet. Anything but yes is no.
        """
        asked = request.approval.approval_id
        if self._question is None or self._question.asked != asked:
            self._end_question()
            if self._live is not None:
                self._live.stop()
            out = console(headless=False)
            out.print(screen("the fleet", self._patrol, self._inventory, self._feed))
            out.print(question(request, person))
            self._question = TerminalQuestion(asked)
        word = self._question.answer
        if word is not None:
            self._end_question()
        return word

    def _end_question(self) -> None:
        if self._question is not None:
            self._question.close()
            self._question = None
            if self._live is not None:
                self._live.start()

    def _is_closed(self, approval_id: str) -> bool:
        if self._session is None:
            return True
        with self._session.ledger.read() as tx:
            return all(r.approval.approval_id != approval_id for r in approvals.pending(tx))

    def _tell(self, session: Session) -> None:
        with session.ledger.read() as tx:
            records = evidence.list_records(tx)
        fresh = self._feed.add(records)
        self._show(fresh)

    def _say(self, words: str) -> None:
        if self._session is not None:
            self._show([self._feed.say(self._session.fleet.clock.now_ms(), words)])

    def _show(self, fresh: Sequence[object]) -> None:
        if self._question is not None:
            return
        if self._live is not None:
            self._live.update(screen("the fleet", self._patrol, self._inventory, self._feed))
            return
        out = console(headless=True)
        for line in fresh:
            out.print(line)

    def _finish(self, session: Session, results: list[Result]) -> DemoReport:
        with session.ledger.read() as tx:
            chain = evidence.verify(tx)
            records = evidence.list_records(tx)
        requested = denials(records)
        known = [dict(d) for r in results for d in r.denied]
        report = DemoReport(
            tuple(results),
            tuple(dict(d) for d in requested if dict(d) not in known),
            chain.ok,
            self._paths(results),
            None if self.planner is None else model_share(records),
        )
        self._story(report, chain)
        return report

    def _paths(self, results: list[Result]) -> dict[str, Json]:
        root = self.root / "operations"
        written = [p for r in results for p in r.paths]
        return {
            "operations": str(root),
            "postmortem": [str(root / p) for p in written if "retrospectives" in p],
            "signal": [str(root / p) for p in written if p.startswith("work/signals/")],
            "evidence": str(self.root / "data" / "ledger.db"),
        }

    def _story(self, report: DemoReport, chain: evidence.VerifyReport) -> None:
        out = console(headless=True)
        if self.is_live:
            out.rule("the timeline")
            for line in self._feed.lines:
                out.print(line)
        out.rule("what it came to")
        for result in report.results:
            acts = (
                "; ".join(
                    f"{a.tool} on {a.target}: {a.effect}"
                    + (f", approved by {', '.join(a.approved_by)}" if a.approved_by else "")
                    + f", {a.outcome}"
                    for a in result.acts
                )
                or "no act"
            )
            out.print(
                f"[bold]{result.scenario}[/] (seed {result.seed}): "
                f"{result.severity}, {result.cause}"
            )
            out.print(f"  {acts}")
            out.print(
                f"  detected after {_s(result.detected_s)}, "
                f"mitigated after {_s(result.mitigated_s)}, "
                f"proven by telemetry after {_s(result.verified_s)}"
            )
        for denied in report.denied:
            out.print(f"denied: {denied['tool']} on {denied['target']}: {denied['reasons']}")
        for said in told(report.model) if report.model is not None else ():
            out.print(said, markup=False, soft_wrap=True)
        for name, path in report.paths.items():
            for one in path if isinstance(path, list) else [path]:
                out.print(f"{name}: {one}", soft_wrap=True)
        word = "verifies" if report.evidence_ok else "DOES NOT VERIFY"
        out.print(f"evidence: {chain.records} records, the chain {word}")
        out.print(f"note this anchor elsewhere: {chain.records}:{chain.head}", soft_wrap=True)
        out.print(f"look again: loop4 evidence show --data {self.root / 'data'}", soft_wrap=True)


def _s(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"
